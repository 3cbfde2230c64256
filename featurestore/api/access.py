"""Who may write over HTTP: whoever sends one of the API keys of the settings."""

import hmac

import falcon

_OFF = "writing over HTTP is off: FEATURESTORE_WRITE_KEYS turns it on"


class Access:
    """Checks the API key of a request: `X-API-Key: KEY` or `Authorization: Bearer KEY`.

    Args:
        write_keys: The keys that may write; with none, nobody may.
    """

    def __init__(self, write_keys: str | None = None) -> None:
        self._write_keys = [key.strip().encode() for key in (write_keys or "").split(",") if key.strip()]

    def require_write(self, req: falcon.Request) -> None:
        """Raise unless the request may write.

        Raises:
            falcon.HTTPMethodNotAllowed: Writing is off.
            falcon.HTTPForbidden: The key is not one of those that may write.
            falcon.HTTPUnauthorized: There is no key.
        """
        if not self._write_keys:
            raise falcon.HTTPMethodNotAllowed(["GET"], description=_OFF)
        scheme, _, token = (req.auth or "").partition(" ")
        offered = req.get_header("X-API-Key") or (token.strip() if scheme.lower() == "bearer" else "")
        if not offered:
            raise falcon.HTTPUnauthorized(description="writing needs an API key", challenges=["Bearer"])
        matches = [hmac.compare_digest(key, offered.encode("latin-1", "replace")) for key in self._write_keys]
        if not any(matches):
            raise falcon.HTTPForbidden(description="this API key may not write")
