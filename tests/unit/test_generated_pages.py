"""What is made of the pages is current, and is made of what there is."""

import json
import re
import sys
from pathlib import Path

import generate_pages
import pytest

sys.path.append(str(Path(__file__).parents[2] / "perf"))
sys.path.append(str(Path(__file__).parents[2] / "docs" / "site"))

import figures
import hooks
import tables
from figures import filled


@pytest.mark.parametrize("page", generate_pages.PAGES)
def test_a_page_has_what_is_made_of_it(page: str) -> None:
    assert generate_pages.is_current(page), "run make pages"


def test_a_page_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="<!-- figures --> and <!-- end -->"):
        filled("<!-- others -->\n<!-- end -->\n", {"figures": "1"})


def test_the_figures_are_those_that_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads((figures.FOLDER / "results.json").read_text())
    run = next(each for each in content["runs"] if (each["server"], each["connections"]) == ("featurestore", 64))
    run |= {"requests": 20_000_000, "seconds": 2.0, "p99": 1234}
    (tmp_path / "results.json").write_text(json.dumps(content))
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    for made in (tables.of_readme(), tables.of_performance()):
        assert "| GET at 64 connections, requests/s | 10,000,000 |" in made["compared"]
        assert "| the same, p99 | 1.23 ms |" in made["compared"]


def test_a_server_that_was_not_measured_has_an_empty_cell() -> None:
    (line,) = (line for line in tables.LINES if line.kind == "batch")
    table = tables.comparison(("featurestore", "webdis"), tables.stored().found, {})
    assert next(row for row in table.splitlines() if row.startswith(f"| {line.what}")).endswith("|  |")


def test_what_one_program_keeps_stays_when_another_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "commit", lambda: "abc")
    figures.keep_all(tmp_path / "new", {"runs": [1], "settings": {}})
    figures.keep(tmp_path / "new", "ingest", {"new users": {}})
    figures.keep_all(tmp_path / "new", {"runs": [2]})
    figures.keep(None, "ingest", {})
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert (content["runs"], content["ingest"]["figures"]) == ([2], {"new users": {}})


@pytest.mark.parametrize(
    ("path", "text", "shown"),
    [
        ("README.md", "[x](docs/files.md#a-first-load)", "[x](files.md#a-first-load)"),
        ("README.md", "[docs/files.md](docs/files.md)", "[Files](files.md)"),
        ("docs/internals.md", "[lua/README.md](../lua/README.md)", "[The scripts](repository/lua/README.md)"),
        ("docs/decisions/0013-rooms.md", "[x](../internals.md)", "[x](../internals.md)"),
        ("lua/README.md", "[x](../docs/direct.md#cost)", "[x](../../direct.md#cost)"),
        ("CONTRIBUTING.md", "[x](LICENSE)", "[x](LICENSE.md)"),
        ("README.md", "[x](.env.example)", "[x](repository/env.example.md)"),
        ("README.md", "[x](examples)", "[x](repository/examples/README.md)"),
        (
            "README.md",
            "[x](https://arrow.apache.org) a[0](b) [x](#http)",
            "[x](https://arrow.apache.org) a[0](b) [x](#http)",
        ),
    ],
)
def test_links_of_a_code_host_become_the_sites(path: str, text: str, shown: str) -> None:
    assert hooks.relinked(text, path) == shown


TROUBLESHOOTING = generate_pages.ROOT / "docs" / "troubleshooting.md"
OF_OTHERS = {
    *("CLUSTERDOWN", "MASTERDOWN", "NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"),  # Redis
    *("Connection in use", "Address already in use", "Permission denied"),  # gunicorn, nginx
}


def test_the_headings_of_troubleshooting_are_what_the_package_says() -> None:
    """Somebody at night looks for the words of an error."""
    sources = [path.read_text() for folder in ("featurestore", "ingest", "lua") for path in
               (generate_pages.ROOT / folder).rglob("*") if path.suffix in {".py", ".lua"}]  # fmt: skip
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    headings = re.findall(r"^### (.*)", TROUBLESHOOTING.read_text(), re.MULTILINE)
    quoted = {quote for heading in headings for quote in re.findall(r"`([^`]+)`", heading)} - OF_OTHERS
    assert len(quoted) > 20
    missing = {quote for quote in quoted for part in quote.split("…") if part.strip() not in said}
    assert missing == set()
