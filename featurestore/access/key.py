"""An API key: what the holder sends, and what the server keeps of it."""

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Permission = Literal["read", "write", "metrics"]
READ, WRITE, METRICS = PERMISSIONS = ("read", "write", "metrics")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""The name of a key; the whole name must match. It stands in logs, in header fields and in the name of a bucket."""

LEAST_ROWS_A_SECOND, MOST_ROWS_A_SECOND = 0.001, 1_000_000_000

_PREFIX = "fs"
_ID_BYTES, _SECRET_BYTES = 4, 32
_SECRET = re.compile(r"fs_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")


class Key(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A key as the server knows it: without the secret.

    Attributes:
        name: Whose it is. Several keys may have the same name while one takes the place of another.
        id: What stands in the secret behind `fs_`, to find the key by; empty for a key of the settings.
        digest: The SHA-256 of the whole secret.
        may: What it may do.
        entities: Whose features it may read and write; all entities' where None.
        rate: How many rows a second; None for any number.
        burst: How many rows at once, after a pause.
        created: When it was made; None if that is not known.
        expires: From when on it is refused; None for never.
    """

    name: str
    digest: bytes
    may: frozenset[str]
    id: str = ""
    entities: frozenset[str] | None = None
    rate: float | None = None
    burst: int = 1
    created: datetime | None = None
    expires: datetime | None = None

    def reaches(self, entity: str) -> bool:
        """Return whether it is for that entity."""
        return self.entities is None or entity in self.entities

    def is_over(self, now: float) -> bool:
        """Return whether it has expired by a time, in seconds since 1970."""
        return self.expires is not None and self.expires.timestamp() <= now


class StoredKey(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A key as a file has it; the fields are those of `Key`, with the digest in hexadecimal."""

    name: Annotated[str, Meta(pattern=rf"^{NAME.pattern}\Z")]
    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    may: Annotated[list[Permission], Meta(min_length=1)]
    entities: Annotated[list[str], Meta(min_length=1)] | None = None
    rate: Annotated[float, Meta(ge=LEAST_ROWS_A_SECOND, le=MOST_ROWS_A_SECOND)] | None = None
    burst: Annotated[int, Meta(ge=1, le=MOST_ROWS_A_SECOND)] | None = None
    created: Annotated[datetime, Meta(tz=True)] | None = None
    expires: Annotated[datetime, Meta(tz=True)] | None = None

    def key(self) -> Key:
        """Return the key that it stands for."""
        return Key(
            name=self.name,
            id=self.id,
            digest=bytes.fromhex(self.sha256),
            may=frozenset(self.may),
            entities=None if self.entities is None else frozenset(self.entities),
            rate=self.rate,
            burst=self.burst or max(1, round(self.rate or 1)),
            created=self.created,
            expires=self.expires,
        )


def make_secret() -> str:
    """Return a new secret: `fs_`, 8 hexadecimal digits to find the key by, `_`, and 256 random bits."""
    return f"{_PREFIX}_{secrets.token_hex(_ID_BYTES)}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_of(secret: str) -> str:
    """Return what to find a key by in a secret; empty where it was not made by `make_secret`."""
    found = _SECRET.fullmatch(secret)
    return found[1] if found else ""


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 of a secret.

    No salt and no slow hash: 256 random bits cannot be guessed, however fast each guess is (decision 40).
    """
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def now() -> datetime:
    """Return the time, without fractions of a second."""
    return datetime.now(UTC).replace(microsecond=0)
