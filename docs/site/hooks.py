"""Make a site of docs/ and of what its pages link to elsewhere in the checkout, for MkDocs (mkdocs.yml).

README.md is the site's first page. What else of the checkout is linked is below `repository/`: pages as they are, other
files as pages that show them. Links stay those that a code host follows; here they are turned into the site's.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = "README.md"
NAMED = re.compile(r"\[`?(?:[\w./-]*/)?(?P<name>[\w-]+\.md)`?\]\((?P<path>[^)\s#:]*/?(?P=name))(?P<rest>[^)\s]*)\)")
"""A link whose words are the name of a file. That is plain to somebody who has the checkout, and to no other."""
LINK = re.compile(r"(?<=\]\()(?P<path>[^)\s#:]+)(?=(#[^)\s]*)?\))")
LANGUAGES = {".cfg": "ini", ".lua": "lua", ".py": "python", ".sh": "bash", ".toml": "toml", ".yml": "yaml"}

_paths: dict[str, str] = {}
"""Of each page of the site that is not in docs/: where it is in the checkout."""


def linked(path: str) -> Iterator[str]:
    """Yield what a page of the checkout links to in the checkout; of a folder its README.md."""
    for found in LINK.finditer((ROOT / path).read_text(encoding="utf-8")):
        target = target_of(path, found["path"])
        if target:
            yield target


def target_of(path: str, link: str) -> str | None:
    """Return which file of the checkout a link on a page leads to; None if there is none."""
    target = os.path.normpath(Path(path).parent / link)
    if (ROOT / target).is_dir():
        target = f"{target}/{HOME}"
    return target if not target.startswith("..") and (ROOT / target).is_file() else None


def place_of(path: str) -> str:
    """Return where the site has a file of the checkout."""
    if path == HOME:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    # MkDocs leaves out names that start with a dot.
    place = f"repository/{Path(path).with_name(Path(path).name.lstrip('.'))}"
    return place if path.endswith(".md") else f"{place}.md"


def relinked(text: str, path: str) -> str:
    """Return the text of a page of the checkout with the site's links."""
    folder = Path(place_of(path)).parent

    def link(found: re.Match[str]) -> str:
        target = target_of(path, found["path"])
        return os.path.relpath(place_of(target), folder) if target else found["path"]

    def named(found: re.Match[str]) -> str:
        target = target_of(path, found["path"])
        return f"[{title_of(target)}]({found['path']}{found['rest']})" if target else found[0]

    return LINK.sub(link, NAMED.sub(named, text))


def title_of(path: str) -> str:
    """Return the heading of a page of the checkout."""
    found = re.search(r"^# (.*)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path


def shown(path: str) -> str:
    """Return the text of the site's page for a file of the checkout."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\n---\n\n# {path}\n\n````{language}\n{text.rstrip()}\n````\n"


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add README.md, and whatever is linked to and not in docs/."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - tests of this module do without MkDocs

    waiting = [HOME, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if not path.startswith("docs/"):
            _paths[place_of(path)] = path
            files.append(File.generated(config, place_of(path), content=shown(path)))
        if path.endswith(".md"):
            new = set(linked(path)) - seen
            seen |= new
            waiting += sorted(each for each in new if not each.startswith("docs/"))
    return files


def on_page_markdown(markdown: str, page: "Page", **_rest: object) -> str:
    """Turn a page's links into the site's."""
    place = page.file.src_uri
    return relinked(markdown, _paths.get(place, f"docs/{place}"))
