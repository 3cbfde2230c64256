"""Run the tests of the C extensions with extensions that check every access: gcc's address and undefined sanitizers.

The package is built into a folder of its own, and imported from there in place of the checkout's. Memory comes from
`malloc` alone: Python's own allocator would hide small overruns. The first error ends the run with its report.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "sanitized"
TESTS = (
    "tests/unit/test_columns.py",
    "tests/unit/test_json_rows.py",
    "tests/unit/test_partitioned_calls.py",
    "tests/unit/test_partitioned_rows.py",
    "tests/unit/test_picked_rows.py",
    "tests/unit/test_read_calls.py",
    "tests/unit/test_sockets.py",
    "tests/unit/test_vector_json.py",
    "tests/contract/test_bulk_writing.py",
    "tests/contract/test_frames.py",
    "tests/contract/test_whole_rows.py",
)
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
RUN = """
import os, pathlib, sys, pytest
from featurestore.native import columns, partitions, rows, sockets, transcode

del os.environ["LD_PRELOAD"]  # what the tests start, servers say, does without
folder = pathlib.Path(sys.argv[1])
extensions = columns, partitions, rows, sockets, transcode
assert all(pathlib.Path(each.__file__).is_relative_to(folder) for each in extensions)
sys.exit(pytest.main(sys.argv[2:]))
"""


def main() -> int:
    """Build and test; return the exit code."""
    found = subprocess.run(["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
    build = {**os.environ, "CC": "gcc", "CFLAGS": FLAGS, "LDFLAGS": FLAGS}
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build", "--force", "--build-lib", FOLDER],
        check=True, cwd=ROOT, env=build,
    )  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(FOLDER),
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself leaves memory behind at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    # The report goes to the process's own stderr, which pytest would else keep to itself until a test has ended.
    command = [sys.executable, "-P", "-c", RUN, str(FOLDER), "--capture=sys", "--timeout=600", *TESTS, *sys.argv[1:]]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
