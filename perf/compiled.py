"""The programs of perf/tools, in C because Python would be what they measure. They are compiled when first wanted."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).parent / "tools"
OPTIONS = ("-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")


def compiled(name: str) -> str:
    """Return the path of a program of perf/tools, newer than its source. Exits where there is no C compiler."""
    source, program = TOOLS / f"{name}.c", TOOLS / "build" / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return str(program)
    if shutil.which("cc") is None:
        sys.exit("cc is not installed (Debian package gcc)")
    program.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as folder:
        made = Path(folder, name)
        subprocess.run(["cc", *OPTIONS, "-o", str(made), str(source)], check=True)
        os.replace(made, program)  # noqa: PTH105 - at once, whoever else makes it
    return str(program)
