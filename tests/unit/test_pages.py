"""What is made of the pages is current, and is made of what there is."""

import json
import re
import sys
from pathlib import Path

import generate_pages
import pytest

sys.path.append(str(Path(__file__).parents[2] / "perf"))

import figures
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


TROUBLESHOOTING = generate_pages.ROOT / "docs" / "troubleshooting.md"
OF_REDIS = {"CLUSTERDOWN", "MASTERDOWN", "NOPERM", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"}


def test_the_headings_of_troubleshooting_are_what_the_package_says() -> None:
    """Somebody at night looks for the words of an error."""
    sources = [path.read_text() for folder in ("featurestore", "ingest", "lua") for path in
               (generate_pages.ROOT / folder).rglob("*") if path.suffix in {".py", ".lua"}]  # fmt: skip
    said = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    headings = re.findall(r"^### (.*)", TROUBLESHOOTING.read_text(), re.MULTILINE)
    quoted = {quote for heading in headings for quote in re.findall(r"`([^`]+)`", heading)} - OF_REDIS
    assert len(quoted) > 20
    missing = {quote for quote in quoted for part in quote.split("…") if part.strip() not in said}
    assert missing == set()
