"""Run luacheck over the assembled scripts, as Redis gets them, with Redis's globals."""

import subprocess
import sys
import tempfile
from pathlib import Path

from featurestore.contract.scripts import SCRIPTS


def main() -> int:
    """Return luacheck's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            Path(folder, f"{script.name}.lua").write_text(script.source, encoding="utf-8")
        config = Path(__file__).parent.parent / "lua" / ".luacheckrc"
        return subprocess.run(["luacheck", "--config", config, folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
