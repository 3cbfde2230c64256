"""Pages link to files and headings that are there."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".", "docs", "docs/*", "lua", "lua/ports/*", "tests/vectors", "examples", "deploy", "deploy/*")
PAGES = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
CODE = re.compile(r"^( *)(```+).*?^\1\2", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What code hosts, and the site, call the headings of a page."""
    names: Counter[str] = Counter()
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    found = set(re.findall(r'<a id="([^"]+)">', text))
    for heading in re.findall(r"^#+ (.*)", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(f"{name}-{names[name]}" if names[name] else name)
        names[name] += 1
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_files_and_headings(page: str) -> None:
    folder = (ROOT / page).parent
    broken = []
    for link, anchor in LINK.findall(CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        target = folder / link if link else ROOT / page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append((link, anchor))
    assert broken == []


def test_runbooks_that_alerts_name_are_there() -> None:
    """An alert at night leads to a section, not to the start of a long page."""
    rules = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("deploy/**/*.y*ml"))
    for page, anchor in re.findall(r"(docs/[\w/-]+\.md)#([\w-]+)", rules):
        assert anchor in anchors(ROOT / page), (page, anchor)
