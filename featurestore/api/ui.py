"""`GET /ui`: the page for people. Its files come with the package; browsers do the rest by the public routes."""

from collections.abc import Mapping
from pathlib import Path

from falcon import Request, Response

from featurestore.api.pages import POLICY, TYPES, File, file_of

PAGE = "index.html"
"""The file that `/ui` itself answers with."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": f"{POLICY}; require-trusted-types-for 'script'",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Of each file, beside those of all pages: the page makes no markup of text, either."""

_FOLDER = Path(__file__).parents[1] / "ui"


class UiResource:
    """`/ui` and the files below it, read once when the server starts. They hold no data, so no key is asked for."""

    def __init__(self) -> None:
        self._files = {path.name: File.read(path) for path in _FOLDER.iterdir() if path.suffix in TYPES}

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the page."""
        self._files[PAGE].answer(req, resp, HEADERS)

    def on_get_file(self, req: Request, resp: Response, name: str) -> None:
        """Answer with a file of the page; errors as in `file_of`."""
        file_of(self._files, name, "../ui").answer(req, resp, HEADERS)

    on_head, on_head_file = on_get, on_get_file
