"""The site of docs/ is built without a broken link, and loads nothing from another host."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.ports import needs

ROOT = Path(__file__).parents[2]
LOADING = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "srcset", "video": "src"}


class Loaded(HTMLParser):
    """What a page makes a browser load, and its paragraphs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(LOADING.get(tag, ""))
        if address:
            self.addresses.append(address)


def build(checkout: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does. (With --quiet, --strict would let everything pass.)"""
    needs("MkDocs and its theme (pip install -e '.[docs]')", sys.executable, "-c", "import mkdocs, material")
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        check=False, capture_output=True, text=True, cwd=checkout, timeout=100,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


def test_a_page_without_a_place_and_a_link_to_nowhere_fail(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("docs", "lua", "examples", "tests/vectors"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*.yml"), *ROOT.glob("*.conf.py"), ROOT / "LICENSE"):
        shutil.copy(path, checkout)
    with (checkout / "docs" / "install.md").open("a") as page:
        page.write("\n[nowhere](operations.md#nowhere)\n")
    (checkout / "docs" / "forgotten.md").write_text("# Forgotten\n")
    built = build(checkout, tmp_path / "site")
    assert built.returncode == 1
    assert "does not contain an anchor '#nowhere'" in built.stderr
    assert "forgotten.md" in built.stderr


def test_the_site_loads_nothing_from_another_host(site: Path) -> None:
    pages = list(site.glob("**/*.html"))
    assert len(pages) > 70
    for page in pages:
        addresses = Loaded(page.read_text(encoding="utf-8")).addresses
        assert len(addresses) > 2
        assert [address for address in addresses if re.match(r"(\w+:)?//", address)] == [], page
    for sheet in site.glob("**/*.css"):
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+", sheet.read_text(encoding="utf-8")) == []


def test_lists_are_lists_and_tables_are_tables(site: Path) -> None:
    """A code host shows a list right below a paragraph as a list; the site needs an empty line between them."""
    for page in site.glob("**/*.html"):
        for paragraph in re.findall(r"<p>(.*?)</p>", page.read_text(encoding="utf-8"), re.DOTALL):
            assert not re.search(r"^(- |\d+\. |\||```|<!-- )", paragraph, re.MULTILINE), (page, paragraph)


def test_the_site_has_what_is_linked_beside_docs(site: Path) -> None:
    assert "<h1" in (site / "index.html").read_text(encoding="utf-8")
    shown = (site / "repository" / "docker-compose.cluster.yml.html").read_text(encoding="utf-8")
    assert "cluster" in shown
    assert (site / "repository" / "CONTRIBUTING.html").is_file()
    assert (site / "search" / "search_index.json").stat().st_size > 100_000
