"""Reads by the Node package against plain HGETALL with conversion by the same client: packs, installs, runs its bench.

Needs Node and npm; the clients come from the npm registry. lua/ports/node/bench.mjs measures.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from servers import redis_server

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arguments", nargs="*", help="for bench.mjs: seconds of each measurement, rounds, a client")
    arguments = parser.parse_args().arguments
    subprocess.run(["make", "--silent", "node-package"], cwd=ROOT, check=True)
    (package,) = (ROOT / "lua" / "ports" / "node").glob("*.tgz")
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        shutil.copy(ROOT / "lua" / "ports" / "node" / "bench.mjs", folder)
        Path(folder, "package.json").write_text('{"private": true}')
        install = ["npm", "install", "--silent", "--no-audit", "--no-fund", str(package), "ioredis", "redis"]
        subprocess.run(install, cwd=folder, check=True)
        variables = {**os.environ, "REDIS_URL": f"redis://127.0.0.1:{port}"}
        subprocess.run(["node", "bench.mjs", *arguments], cwd=folder, check=True, env=variables)


if __name__ == "__main__":
    main()
