"""Who may do what over HTTP: the rule of every route, and the checks of API keys (`X-API-Key`, or a bearer token)."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import falcon
import msgspec

from featurestore.access.key import METRICS, READ, WRITE, Key
from featurestore.access.keyring import Keyring
from featurestore.api.rates import Rates
from featurestore.errors import BadKeyError, ForbiddenError, NoKeyError

KEY_NAME = "featurestore.key"
"""Key of a WSGI environment: the name of the API key that the request was let in with, for logs."""

OPEN = "open"
"""What a route needs that strangers may have: no key."""

_OFF = "writing over HTTP is off: FEATURESTORE_WRITE_KEYS turns it on, or a key of FEATURESTORE_KEYS_FILE that may"
_NEEDED = {READ: "reading needs an API key", WRITE: "writing needs an API key", METRICS: "metrics need an API key"}
_REFUSED = {READ: "may not read", WRITE: "may not write", METRICS: "may not read metrics"}
_FOUND = "featurestore.key.found"


class Rule(msgspec.Struct, frozen=True):
    """What a route needs.

    Attributes:
        needs: Method → the permission. Methods that are not named are none of the route's, and answered with 405.
        spans: The methods whose requests may be about any entities: the resource has them checked.
        by_itself: Whether the resource calls `Access.admit`, because its errors have a form of their own.
    """

    needs: Mapping[str, str]
    spans: frozenset[str] = frozenset()
    by_itself: bool = False


_READS = {"GET": READ, "HEAD": READ}
_ENTITY = Rule({**_READS, "PUT": WRITE, "POST": WRITE, "DELETE": WRITE})
_BATCH = Rule({**_READS, "POST": READ})
_INGEST = Rule({**_READS, "POST": WRITE})
_STRANGERS = Rule({"GET": OPEN, "HEAD": OPEN})

RULES: Mapping[str, Rule] = {
    **{
        f"{prefix}{path}": rule
        for prefix in ("", "/entities/{entity}")
        for path, rule in (
            ("/schema", Rule(_READS)),
            ("/features/batch", _BATCH),
            ("/features/ingest", _INGEST),
            ("/features/{entity_id:path}", _ENTITY),
        )
    },
    "/features/query": Rule(_BATCH.needs, spans=frozenset({"POST"})),
    "/get-online-features": Rule({"POST": READ}, by_itself=True),
    "/write-to-online-store": Rule({"POST": WRITE}, by_itself=True),
    "/push": Rule({"POST": WRITE}, by_itself=True),
    "/materialize": Rule({"POST": OPEN}),  # there is nothing behind them
    "/materialize-incremental": Rule({"POST": OPEN}),
    "/health": _STRANGERS,
    "/readyz": _STRANGERS,
    "/livez": _STRANGERS,
    "/metrics": Rule({"GET": METRICS, "HEAD": METRICS}),
    "/entities": Rule(_READS, spans=frozenset(_READS)),
    "/entities/{entity}/sample": Rule(_READS),
    "/entities/{entity}/stored": Rule(_READS),
    # Pages hold no data: what they show they ask for with a key.
    "/": _STRANGERS,
    "/docs": _STRANGERS,
    "/docs/{name}": _STRANGERS,
    "/openapi.json": _STRANGERS,
    "/ui": _STRANGERS,
    "/ui/{name}": _STRANGERS,
}
"""The app's routes, as Falcon has them. Where reads need a key, a route without a rule is nobody's."""


_WRITING = {(path, method) for path, rule in RULES.items() for method, need in rule.needs.items() if need == WRITE}
"""Routes and methods that need a key even where reads are open."""


class Access:
    """Checks the API key of each request.

    Where neither FEATURESTORE_READ_KEYS nor FEATURESTORE_KEYS_FILE is set, reads are open: nothing is looked at for
    them.

    Args:
        keys: The keys, or those that may write, with commas between them; with none, nobody may write.
        entity: The entity of paths that name none.
        rates: How much each key may ask for; nothing is counted when left out.
    """

    def __init__(self, keys: Keyring | str | None = None, *, entity: str = "user", rates: Rates | None = None) -> None:
        self.keyring = keys if isinstance(keys, Keyring) else Keyring(write_keys=keys)
        self.closed = self.keyring.closed
        self.rates = rates
        self._entity = entity

    def admit(self, environ: dict[str, Any], need: str, entity: str | None = None, *, rows: int = 1) -> Key | None:
        """Return the key of a request that may do what it wants, None where that needs no key.

        Args:
            environ: The WSGI environment; the key's name is put there.
            need: The permission that is needed.
            entity: Whose features it is about; None if that is not known yet: then see `check_entities`.
            rows: How many tokens of the key's rate it takes.

        Raises:
            falcon.HTTPMethodNotAllowed: Writing is off.
            NoKeyError: There is no key.
            BadKeyError: The key is not known, or has expired.
            ForbiddenError: The key has no such permission, or is for other entities.
            RateLimitedError: The key has asked for too much.
        """
        if need == OPEN or (need != WRITE and not self.closed):
            return None
        if need == WRITE and not self.keyring.some_may(WRITE):
            raise falcon.HTTPMethodNotAllowed(["GET"], description=_OFF)
        key = self._checked(environ, need)
        if need not in key.may:
            raise ForbiddenError(f"the API key {key.name} {_REFUSED[need]}")
        if entity is not None:
            self._check(key, need, entity)
        environ[_FOUND] = key
        if self.rates is not None:
            self.rates.spend(key, rows)
        return key

    def key_of(self, environ: dict[str, Any]) -> Key | None:
        """Return the key that a request sends; None for none, and for one that is not known or has expired."""
        secret = _secret_of(environ)
        key = self.keyring.find(secret) if secret else None
        return None if key is None or key.is_over(time.time()) else key

    def knows(self, environ: dict[str, Any]) -> bool:
        """Return whether a request is no stranger's: it has a good key, or reads need none."""
        return not self.closed or self.key_of(environ) is not None

    def admit_route(self, req: falcon.Request, params: Mapping[str, Any]) -> None:
        """Check a request by the rule of its route; errors as in `admit`."""
        rule = RULES.get(req.uri_template or "")
        if rule is None:
            if self.closed:
                raise ForbiddenError("nobody may ask for this: there is no rule for it")
            return
        need = rule.needs.get(req.method)
        if need is not None and not rule.by_itself:
            of_any = need == METRICS or req.method in rule.spans
            self.admit(req.env, need, None if of_any else params.get("entity") or self._entity)

    def check_entities(self, req: falcon.Request, need: str, entities: Iterable[str]) -> None:
        """Check that a request that was let in may do what it wants with these entities; empty is the default one.

        Raises:
            ForbiddenError: The key is for other entities.
        """
        key: Key | None = req.env.get(_FOUND)
        if key is not None:
            for entity in sorted(entities):
                self._check(key, need, entity or self._entity)

    def reaches(self, req: falcon.Request, entity: str) -> bool:
        """Return whether a request that was let in may be told of that entity."""
        key: Key | None = req.env.get(_FOUND)
        return key is None or key.reaches(entity)

    def spend(self, req: falcon.Request, rows: int) -> None:
        """Take the tokens for rows of a request that was let in, the first of which was paid for then.

        Raises:
            RateLimitedError: The key has asked for too much.
        """
        key: Key | None = req.env.get(_FOUND)
        if key is not None and self.rates is not None and rows > 1:
            self.rates.spend(key, rows - 1)

    def _checked(self, environ: dict[str, Any], need: str) -> Key:
        secret = _secret_of(environ)
        if not secret:
            raise NoKeyError(f"{_NEEDED[need]}: X-API-Key: KEY, or Authorization: Bearer KEY")
        key = self.keyring.find(secret)
        if key is None:
            raise BadKeyError("this API key is not known")
        environ[KEY_NAME] = key.name
        if key.is_over(time.time()):
            raise BadKeyError(f"the API key {key.name} has expired")
        return key

    @staticmethod
    def _check(key: Key, need: str, entity: str) -> None:
        if not key.reaches(entity):
            raise ForbiddenError(f"the API key {key.name} {_REFUSED[need]} the entity {entity[:64]}")


class Guarding:
    """Falcon middleware that lets in what the rules permit."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, params: dict[str, Any]
    ) -> None:
        """Check a request whose route was found, but a read where reads are open: nothing is looked at for it."""
        if self._access.closed or (req.uri_template, req.method) in _WRITING:
            self._access.admit_route(req, params)


def _secret_of(environ: Mapping[str, Any]) -> str:
    """Return the key that a request sends; empty where it sends none."""
    secret: str = environ.get("HTTP_X_API_KEY", "")
    if not secret:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else ""
    try:
        return secret.encode("latin-1").decode()  # WSGI shows bytes as Latin-1
    except UnicodeError:
        return secret
