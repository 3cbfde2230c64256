"""Pages for people, and what they are made of: `/` with links, the OpenAPI document, and `/docs`, which shows it."""

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import falcon
import msgspec
from falcon import Request, Response, mediatypes

from featurestore.api.formats import VARY
from featurestore.api.openapi import document, plain_page
from featurestore.api.routes import Route
from featurestore.contract.json_rows import encode

HTML = "text/html; charset=utf-8"
TYPES = {".css": "text/css; charset=utf-8", ".html": HTML, ".js": "text/javascript; charset=utf-8"}
"""Media types of the files that pages have."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of pages: nothing from another host, and no script or style in the page itself."""

_SAFE = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FOR_GOOD = "public, max-age=31536000, immutable"
_ASK_EACH_TIME = "no-cache"
_PAGE = Path(__file__).parent / "openapi" / "page"
_SWAGGER = "flask_swagger_ui"
"""The package whose files are Swagger UI's. It is not imported."""


_LINKS = {
    "docs": ("/docs", "the HTTP interface, to read and to try"),
    "openapi": ("/openapi.json", "the same for programs, as OpenAPI"),
    "ui": ("/ui", "features, the schema and what the server does"),
    "schema": ("/schema", "the declared features"),
    "health": ("/health", "whether features can be served"),
    "metrics": ("/metrics", "counts for Prometheus"),
}
"""What `GET /` links to, of the routes that there are: path, and what is there."""


class File(msgspec.Struct, frozen=True):
    """A file as it is answered.

    Attributes:
        content: Its bytes.
        media_type: Its media type.
        digest: Of its bytes.
    """

    content: bytes
    media_type: str
    digest: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "File":
        """Return the file with this content."""
        return cls(content, media_type, hashlib.sha256(content).hexdigest()[:16])

    @classmethod
    def read(cls, path: Path) -> "File":
        """Return the file at a path; its media type is that of the name."""
        return cls.of(path.read_bytes(), TYPES[path.suffix])

    def answer(self, req: Request, resp: Response, headers: Mapping[str, str] | None = None) -> None:
        """Answer with the file, or 304 if the client has it. What is asked for by its digest can be kept for good.

        Args:
            req: The request.
            resp: The response.
            headers: Header fields that this file has beside those of all pages, or in their place.
        """
        resp.set_headers({**_SAFE, **(headers or {})})
        resp.etag = self.digest
        is_asked_by_digest = req.get_param("v") == self.digest
        resp.set_header("Cache-Control", _FOR_GOOD if is_asked_by_digest else _ASK_EACH_TIME)
        if any(each in {"*", self.digest} for each in req.if_none_match or ()):
            resp.status = falcon.HTTP_NOT_MODIFIED
            return
        resp.content_type, resp.data = self.media_type, self.content


def file_of(files: Mapping[str, File], name: str, page: str) -> File:
    """Return a file of a page.

    Args:
        files: Name → file: a request can have these and nothing else.
        name: The file's; empty where the request's path is the page's with a slash behind it.
        page: Where the page is, from there: its addresses are relative to the path without the slash.

    Raises:
        falcon.HTTPPermanentRedirect: The name is empty.
        falcon.HTTPNotFound: There is no such file.
    """
    if not name:
        raise falcon.HTTPPermanentRedirect(page)
    if name not in files:
        raise falcon.HTTPNotFound
    return files[name]


class RootResource:
    """`GET /`: where to go from here.

    Args:
        routes: All routes of the app.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        paths = {route.path for route in routes}
        self._links = {name: each for name, each in _LINKS.items() if each[0] in paths}

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the links: as a page to who likes HTML best, else as JSON."""
        resp.set_headers(_SAFE)
        resp.set_header(*VARY)
        if _wants_html(req.get_header("Accept") or "*/*"):
            resp.content_type, resp.data = HTML, plain_page.of_links(self._links)
            return
        resp.content_type = falcon.MEDIA_JSON
        service, links = document.DISTRIBUTION, {name: path for name, (path, _) in self._links.items()}
        resp.data = encode({"service": service, "version": version(service), "links": links})

    on_head = on_get


class DocumentResource:
    """`GET /openapi.json`: what the server offers, as OpenAPI 3.1. It is made once.

    Args:
        routes: All routes of the app.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = routes

    @cached_property
    def _file(self) -> File:
        return File.of(document.encoded(self._routes), falcon.MEDIA_JSON)

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the document."""
        self._file.answer(req, resp)

    on_head = on_get


class DocsResource:
    """`GET /docs`: the document as a page. Swagger UI shows it where the extra `swagger` is installed.

    Args:
        routes: All routes of the app.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = routes

    @cached_property
    def _files(self) -> dict[str, File]:
        """The files of the page by name: a request can have these and nothing else."""
        paths = [_PAGE / "page.css", _PAGE / "start.js"]
        swagger = swagger_folder()
        if swagger is not None:
            paths += [swagger / "swagger-ui.css", swagger / "swagger-ui-bundle.js"]
        return {path.name: File.read(path) for path in paths}

    @cached_property
    def _page(self) -> File:
        if swagger_folder() is None:
            made = plain_page.of_document(document.document_of(self._routes), self._files["page.css"].digest)
            return File.of(made, HTML)
        text = (_PAGE / "index.html").read_text(encoding="utf-8")
        for name, file in self._files.items():
            text = text.replace(f"docs/{name}", f"docs/{name}?v={file.digest}")
        return File.of(text.encode(), HTML)

    def on_get(self, req: Request, resp: Response) -> None:
        """Answer with the page."""
        self._page.answer(req, resp)

    def on_get_file(self, req: Request, resp: Response, name: str) -> None:
        """Answer with a file of the page; errors as in `file_of`."""
        file_of(self._files, name, "../docs").answer(req, resp)

    on_head, on_head_file = on_get, on_get_file


ROUTES = (
    Route("/", RootResource),
    Route("/openapi.json", DocumentResource),
    Route("/docs", DocsResource),
    Route("/docs/{name}", DocsResource, "file"),
)


def swagger_folder() -> Path | None:
    """Return the folder with the files of Swagger UI; None where the extra `swagger` is not installed."""
    spec = find_spec(_SWAGGER)
    folder = Path(spec.origin).parent / "dist" if spec and spec.origin else None
    return folder if folder and (folder / "swagger-ui-bundle.js").is_file() else None


def _wants_html(accept: str) -> bool:
    try:
        return mediatypes.best_match([falcon.MEDIA_JSON, falcon.MEDIA_HTML], accept) == falcon.MEDIA_HTML
    except ValueError:
        return False
