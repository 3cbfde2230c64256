"""Fetch every server that the scripts are for, run the contract tests on each, and compare docs/servers.md.

`fetch` puts into .servers what this machine lacks. `test` runs tests/contract on all servers that there are then, over
RESP2 and RESP3, and fails if a test does, or if the table of docs/servers.md says something else; `--write` writes the
table. A server that cannot be had here is told at the end, and its row in the table is taken as it is.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from support.binaries import BUILDS, UnavailableServerError, binaries, check_binary, fetch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "servers.md"
BEGIN, END = "<!-- The table is written by: make test-servers WRITE=1 -->\n", "<!-- End of the table -->\n"
HEAD = "| server | binary | RESP2 | RESP3 | called by |\n|---|---|---|---|---|\n"
COMMANDS = ("EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO")
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"

Found = Mapping[str, Mapping[str, Counter[str]]]
"""What became of the tests: server → RESP2, RESP3 or a command → outcomes."""


def fetch_all() -> dict[str, str]:
    """Fetch what is missing; return why which servers cannot be had."""
    reasons = {}
    for name in BUILDS:
        try:
            fetch(name)
            check_binary(name)
        except UnavailableServerError as error:
            reasons[name] = str(error)
    return reasons


def run(servers: list[str], options: list[str]) -> tuple[int, Found]:
    """Run the contract tests on the servers; return pytest's exit code and what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *options, "tests/contract"]
        environment = {**os.environ, "SERVERS_UNDER_TEST": " ".join(servers)}
        code = subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode
        if not report.exists():
            sys.exit(f"pytest ended with {code} and left no report")
        return code, outcomes(ET.parse(report).getroot(), servers)


def outcomes(report: ET.Element, servers: list[str]) -> Found:
    """Return what a report of pytest says of each server."""
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for case in report.iter("testcase"):
        parameters = re.split(r"[-\[\]]", case.get("name", ""))[1:]
        results = {child.tag for child in case}
        outcome = FAILED if results & {"failure", "error"} else SKIPPED if "skipped" in results else PASSED
        for server in set(servers).intersection(parameters):
            both = case.get("classname", "").endswith("test_protocols")
            protocols = {"RESP2", "RESP3"} if both else {"RESP3" if "resp3" in parameters else "RESP2"}
            for each in protocols.union(set(COMMANDS).intersection(parameters)):
                found[server][each][outcome] += 1
    return found


def row(server: str, found: Mapping[str, Counter[str]]) -> str:
    """Return a server's row of the table."""
    build = BUILDS[server]
    protocols = [
        "fails" if found[each][FAILED] else "passes" if found[each][PASSED] else "no" for each in ("RESP2", "RESP3")
    ]
    commands = [each for each in COMMANDS if found[each][PASSED] and not found[each][FAILED]]
    return f"| {build.title} | {build.source} | {' | '.join(protocols)} | {', '.join(commands) or 'none'} |\n"


def table(text: str, found: Found) -> str:
    """Return the page's text with the rows of the servers that were tested, and those of the others as they are."""
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    written = {line.split(" | ")[0].removeprefix("| "): f"{line}\n" for line in old.splitlines()}
    rows = (row(name, found[name]) if name in found else written.get(BUILDS[name].title, "") for name in BUILDS)
    return f"{before}{BEGIN}\n{HEAD}{''.join(rows)}\n{END}{after}"


def summary(found: Found, unavailable: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each server."""
    for name, build in BUILDS.items():
        if name in unavailable:
            yield f"{build.title:12}NOT TESTED, it cannot be had on this machine: {unavailable[name]}"
        else:
            counts = (
                f"{each} {', '.join(f'{count} {outcome}' for outcome, count in sorted(found[name][each].items()))}"
                for each in ("RESP2", "RESP3")
            )
            yield f"{build.title:12}{'; '.join(counts)}"


def test(options: list[str], *, write: bool) -> int:
    """Run the tests and compare or write the table; return the exit code."""
    unavailable = fetch_all()
    servers = [name for name in BUILDS if name not in unavailable]
    if not servers:
        sys.exit(f"no server can be had on this machine: {unavailable}")
    code, found = run(servers, options)
    lines = ["", "The contract on every server:", *summary(found, unavailable)]
    untested = [f"{name} over {each}" for name in servers for each in ("RESP2", "RESP3") if not found[name][each]]
    if untested:
        lines.append(f"no test ran on {', '.join(untested)}")
        code = code or 1
    text = PAGE.read_text()
    new = table(text, found)
    if write:
        PAGE.write_text(new)
    elif new != text:
        lines.append(f"{PAGE.relative_to(ROOT)} has another table than this run: make test-servers WRITE=1")
        code = code or 1
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return code


def main() -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="put the servers that this machine lacks into .servers")
    testing = commands.add_parser("test", help="run the contract tests; more options are pytest's")
    testing.add_argument("--write", action="store_true", help="write the table of docs/servers.md")
    arguments, options = parser.parse_known_args()
    if arguments.command == "test":
        return test(options, write=arguments.write)
    unavailable = fetch_all()
    had = {**binaries(), **{name: f"cannot be had on this machine: {reason}" for name, reason in unavailable.items()}}
    sys.stdout.writelines(f"{BUILDS[name].title:12}{had[name]}\n" for name in BUILDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
