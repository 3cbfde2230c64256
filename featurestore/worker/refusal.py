"""A refusal: the response that the worker gives instead of the app."""

import msgspec

_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
_RETRY_AFTER_S = 1


class Refusal(Exception):  # noqa: N818 - it is an answer rather than an error of ours
    """A request that is answered by the server itself, after which the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    @property
    def line(self) -> str:
        """Status and reason, as WSGI has them."""
        return f"{self.status} {_REASONS[self.status]}"

    def response(self, date_field: bytes, *, bodiless: bool = False) -> bytes:
        """Return the whole response; `date_field` is the header field with the time, and its line end."""
        problem = {"title": _REASONS[self.status], "status": self.status, "detail": str(self)}
        body = msgspec.json.encode(problem)
        retry = f"retry-after: {_RETRY_AFTER_S}\r\n" if self.status == 503 else ""  # noqa: PLR2004 - HTTP's number
        head = (
            f"HTTP/1.1 {self.line}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n{retry}"
        )
        return head.encode() + date_field + b"\r\n" + (b"" if bodiless else body)
