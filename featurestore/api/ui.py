"""`GET /ui`: the page for people. Its files come with the package; browsers do the rest by the public routes."""

import hashlib
from collections.abc import Mapping
from importlib import resources

import falcon
from falcon import Request, Response

PAGE = "index.html"
"""The file that `/ui` itself answers with."""

_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of each file. The policy lets the page load and ask nothing but this server, and run no script but its files."""


class UiResource:
    """`/ui` and the files below it, read once when the server starts. They hold no data, so no key is asked for."""

    def __init__(self) -> None:
        folder = resources.files("featurestore") / "ui"
        self._files = {
            file.name: (suffix, file.read_bytes())
            for file in folder.iterdir()
            if (suffix := f".{file.name.rpartition('.')[2]}") in _TYPES
        }
        self._tags = {name: hashlib.sha256(data).hexdigest()[:16] for name, (_, data) in self._files.items()}

    def on_get(self, req: Request, resp: Response, name: str = PAGE) -> None:
        """Answer with the file, or with 304 where the browser has it already.

        Raises:
            falcon.HTTPPermanentRedirect: The path is `/ui/`: the page's addresses are relative to `/ui`.
            falcon.HTTPNotFound: There is no such file.
        """
        if not name:
            raise falcon.HTTPPermanentRedirect("../ui")
        if name not in self._files:
            raise falcon.HTTPNotFound
        suffix, data = self._files[name]
        resp.set_headers(dict(HEADERS))
        resp.etag = self._tags[name]
        known = req.if_none_match or ()
        if "*" in known or self._tags[name] in known:
            resp.status = falcon.HTTP_NOT_MODIFIED
            return
        resp.content_type = _TYPES[suffix]
        resp.data = data

    on_head = on_get
