"""Every exception of the package, and the one mapping from Redis's error replies to them."""

import re
from collections.abc import Mapping
from typing import Any, Self


class FeatureStoreError(Exception):
    """Anything that the feature store reports; catch this to catch them all.

    Attributes:
        code: Its code in the scripts' error replies (docs/direct.md) and in HTTP's problem documents; None if it has
            none.
        where: The keys in a schema file that lead to what is wrong, such as `("services", "ads", "age")`; empty where
            that is not known.
        request_id: The id that the HTTP server gave the request, which finds it in the server's log. Only errors of
            HTTP clients have one.
    """

    code: str | None = None
    where: tuple[str, ...] = ()
    request_id: str | None = None

    def at(self, *where: str) -> Self:
        """Set the place in a schema file; return the error."""
        self.where = where
        return self


class ConfigurationError(FeatureStoreError):
    """A setting of the environment or of the command line cannot be used."""


class SourceError(FeatureStoreError):
    """A file of rows cannot be read, or not to its end."""


class SchemaError(FeatureStoreError):
    """A schema definition is malformed: wrong TOML, an unknown type, a feature name that is not allowed."""


class NoSchemaError(FeatureStoreError):
    """Redis holds no schema for the entity yet; `featurestore apply` writes one."""

    code = "NOSCHEMA"


class UnknownEntityError(NoSchemaError):
    """A request names an entity that has no schema. Other entities may have one."""

    code = "NOENTITY"


class UnknownIdError(FeatureStoreError):
    """An HTTP request asks for an id that is not known. Stores and clients return None instead."""

    code: str = "UNKNOWN"

    def __init__(self, entity: str, entity_id: str) -> None:
        """Say whose id it is."""
        super().__init__(f"{entity.capitalize()} {entity_id} not found")


class SchemaChangedError(FeatureStoreError):
    """The schema in Redis has another layout than the caller's. Read the schema again and repeat the call."""

    code = "SCHEMA_CHANGED"


class TypeChangeError(FeatureStoreError):
    """The new schema gives a declared feature another type. Stored values would not fit it, so it is refused."""

    code = "TYPECHANGE"


class UndeclaredFeatureError(FeatureStoreError):
    """A feature was named that the schema does not declare."""

    code = "UNDECLARED"


class BadArgumentsError(FeatureStoreError):
    """A script was called with arguments that do not fit its contract, or an id or a row is malformed."""

    code = "BADARGS"


class BadIdError(BadArgumentsError):
    """An id is empty, longer than 256 bytes, or no text that UTF-8 can hold."""

    code = "BADID"


class BadTimeError(BadArgumentsError):
    """An event time is neither ms since 1970 nor ISO 8601 nor an aware datetime."""

    code = "BADTIME"


class BadValueError(FeatureStoreError):
    """A value, or an amount to add, does not fit the feature's type."""

    code = "BADTYPE"


class UnsuitableValueError(BadValueError):
    """A value from Python or JSON that is not of its feature's type, found before anything is sent."""


class RedisError(FeatureStoreError):
    """Redis, or the way to it, failed. The class itself stands for error replies without a class of their own."""


class UnavailableError(RedisError):
    """Redis, or the HTTP server, does not answer, or says that it cannot serve now (loading, failing over)."""


class DeadlineExceededError(UnavailableError):
    """Redis, or the HTTP server, did not answer in time. Whether a write took place is unknown."""


class InDoubtError(UnavailableError):
    """The connection to Redis ended before the reply to a write came: whether the write took place is unknown.

    To write rows again is safe where they have event times; an increment may count twice.
    """

    code = "IN_DOUBT"


class UnconfirmedWriteError(UnavailableError):
    """A write took place on the primary, but fewer replicas than wanted confirmed it in time (docs/cluster.md).

    A failover may lose it. To write rows again is safe; an increment counts twice.

    Attributes:
        result: What the write returned: an `UpsertResult` for rows (`UnconfirmedRows` from an HTTP client), the new
            values for an increment, whether anything was removed for a deletion. None where that is not known.
    """

    code = "UNCONFIRMED"

    def __init__(self, message: str, result: Any = None) -> None:
        """Say what is missing, and what the write returned."""
        super().__init__(message)
        self.result = result


class OverloadedError(UnavailableError):
    """More is asked of Redis than it can answer in time. Nothing was done: ask again later."""

    code = "OVERLOADED"


class BadReplyError(UnavailableError):
    """Redis, or a proxy before it, sent a reply that cannot belong to the call or cannot be read.

    The connection is given up. A write is an `InDoubtError` then.
    """


class AccessDeniedError(RedisError):
    """Redis refused the credentials, the HTTP server refused the API key, or they do not permit the command."""


class NoKeyError(AccessDeniedError):
    """The HTTP server wants an API key for this request, and was sent none."""

    code = "NOKEY"


class BadKeyError(AccessDeniedError):
    """The HTTP server does not know the API key, or it has expired."""

    code = "BADKEY"


class ForbiddenError(AccessDeniedError):
    """The HTTP server knows the API key, which may not do this, or not with this entity."""

    code = "FORBIDDEN"


class RateLimitedError(OverloadedError):
    """The API key has asked for more rows than its rate permits. Nothing was done: ask again later.

    Attributes:
        retry_s: After how many seconds there are enough tokens again; 0 if that is not known.
        policy: The key's name, its burst and its rate a second; None if they are not known.
    """

    code = "RATELIMIT"

    def __init__(self, message: str, *, retry_s: float = 0.0, policy: tuple[str, int, float] | None = None) -> None:
        """Say what is too much, and when to come again."""
        super().__init__(message)
        self.retry_s, self.policy = retry_s, policy


class WriteRefusedError(RedisError):
    """Redis takes no writes now: it is a replica, is out of memory or cannot persist."""


class ClusterNodeError(RedisError):
    """The server is a node of a cluster, and the keys are on others; the store was given the address of one server.

    The first of its `args` is the reply as it came.
    """

    def __str__(self) -> str:
        """Say what to do."""
        return (
            "this server is a node of a cluster: REDIS_URL wants redis+cluster://HOST:PORT, which finds all nodes"
            f" ({self.args[0]})"
        )


BY_CODE: Mapping[str | None, type[FeatureStoreError]] = {
    kind.code: kind
    for kind in (
        BadArgumentsError,
        BadIdError,
        BadKeyError,
        BadTimeError,
        BadValueError,
        ForbiddenError,
        InDoubtError,
        NoKeyError,
        NoSchemaError,
        OverloadedError,
        RateLimitedError,
        SchemaChangedError,
        TypeChangeError,
        UnconfirmedWriteError,
        UndeclaredFeatureError,
        UnknownEntityError,
    )
}
"""Code → the exception that has it."""

_BY_REPLY: Mapping[str | None, type[FeatureStoreError]] = {
    **BY_CODE,
    # Redis's codes.
    "BUSY": UnavailableError,
    "CLUSTERDOWN": UnavailableError,
    "LOADING": UnavailableError,
    "MASTERDOWN": UnavailableError,
    "TRYAGAIN": UnavailableError,
    "ASK": ClusterNodeError,
    "CROSSSLOT": ClusterNodeError,
    "MOVED": ClusterNodeError,
    "DENIED": AccessDeniedError,  # by the protected mode, to other hosts
    "NOAUTH": AccessDeniedError,
    "NOPERM": AccessDeniedError,
    "WRONGPASS": AccessDeniedError,
    "MISCONF": WriteRefusedError,
    "NOREPLICAS": WriteRefusedError,
    "OOM": WriteRefusedError,
    "READONLY": WriteRefusedError,
}


_WHERE = "the password stands in REDIS_URL (redis://:PASSWORD@HOST:PORT), or in REDIS_PASSWORD beside REDIS_HOST"
_HINTS: Mapping[str, str] = {
    "NOAUTH": f"Redis wants a password and was given none: {_WHERE}",
    "WRONGPASS": f"Redis refused the user or the password: {_WHERE}",
}
"""What to do about error replies of Redis that do not say so."""

_FORBIDDEN_IN_SCRIPT = re.compile(r"(?:The user executing the script can't|ACL failure in script:) .*", re.DOTALL)
"""How Redis and Valkey report a missing permission inside a script: not as NOPERM."""

_IN_SCRIPT = re.compile(r"@user_script: ?\d+: -([A-Z]+ .*)", re.DOTALL)


def error_from_reply(reply: str) -> FeatureStoreError:
    """Return the exception that stands for the error reply `CODE text`.

    Redis before 7.0 puts the script's line in front of the error of a command in a script.
    """
    inner = _IN_SCRIPT.search(reply)
    reply = inner[1] if inner else reply
    forbidden = _FORBIDDEN_IN_SCRIPT.search(reply)
    if forbidden:
        return AccessDeniedError(f"NOPERM {forbidden[0]}")
    code, _, text = reply.partition(" ")
    kind = _BY_REPLY.get(code)
    if kind is None:
        return RedisError(reply)
    if code in _HINTS:
        return kind(f"{_HINTS[code]} ({reply})")
    return kind(reply if issubclass(kind, RedisError) else text)
