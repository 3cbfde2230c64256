"""What tests/every_server.py makes of a report, and of the page."""

from xml.etree import ElementTree as ET

import pytest
from every_server import BEGIN, END, HEAD, PAGE, outcomes, summary, table
from support.binaries import BUILDS

CASES = (
    ("tests.contract.test_scripts", "test_a[redis74]", ""),
    ("tests.contract.test_scripts", "test_a[redis74-resp3]", ""),
    ("tests.contract.test_scripts", "test_a[redis62]", ""),
    ("tests.contract.test_scripts", "test_a[x-redis62-resp3]", "<failure/>"),
    ("tests.contract.test_protocols", "test_b[redis74-FCALL]", ""),
    ("tests.contract.test_protocols", "test_b[redis62-FCALL]", "<skipped/>"),
    ("tests.contract.test_protocols", "test_b[redis62-EVALSHA]", ""),
    ("tests.contract.test_scripts", "test_of_no_server", "<error/>"),
)
ROW_OF_82 = "| Redis 8.2 | from somewhere | passes | passes | EVALSHA |\n"


def report() -> ET.Element:
    cases = (f'<testcase classname="{where}" name="{name}">{what}</testcase>' for where, name, what in CASES)
    return ET.fromstring(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")


def test_each_server_has_its_outcomes_by_protocol_and_command() -> None:
    found = outcomes(report(), ["redis62", "redis74", "redis82"])
    assert {name: {what: dict(counts) for what, counts in each.items()} for name, each in found.items()} == {
        "redis62": {
            "RESP2": {"passed": 2, "skipped": 1},
            "RESP3": {"passed": 1, "skipped": 1, "failed": 1},
            "EVALSHA": {"passed": 1},
            "FCALL": {"skipped": 1},
        },
        "redis74": {"RESP2": {"passed": 2}, "RESP3": {"passed": 2}, "FCALL": {"passed": 1}},
    }


def test_the_table_has_what_was_found_and_keeps_the_rows_of_what_was_not_tested() -> None:
    text = f"before\n{BEGIN}\n{HEAD}| Redis 6.2 | old | passes | passes | FCALL |\n{ROW_OF_82}\n{END}after\n"
    found = outcomes(report(), ["redis62", "redis74"])
    new = table(text, found)
    assert new == (
        f"before\n{BEGIN}\n{HEAD}"
        f"| Redis 6.2 | {BUILDS['redis62'].source} | passes | fails | EVALSHA |\n"
        f"| Redis 7.4 | {BUILDS['redis74'].source} | passes | passes | FCALL |\n"
        f"{ROW_OF_82}\n{END}after\n"
    )
    assert table(new, found) == new


def test_the_end_of_a_run_names_what_could_not_be_had() -> None:
    found = outcomes(report(), ["redis62", "redis74"])
    unavailable = dict.fromkeys(BUILDS.keys() - found.keys(), "no wheel")
    lines = list(summary(found, unavailable))
    assert "Redis 7.4   RESP2 2 passed; RESP3 2 passed" in lines
    assert "Redis 8.2   NOT TESTED, it cannot be had on this machine: no wheel" in lines
    assert len(lines) == len(BUILDS)


@pytest.mark.parametrize("name", BUILDS)
def test_the_page_has_a_row_of_every_server(name: str) -> None:
    assert f"\n| {BUILDS[name].title} | {BUILDS[name].source} | passes | passes | EVALSHA" in PAGE.read_text()
