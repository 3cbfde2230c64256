"""What is asked on a new connection before any call: whether it is of use, and by FCALL, whether the library serves.

Scripts are loaded ahead of the calls, in the same write. A library is not: it is written to disk and sent to replicas,
and a newer one that another release has loaded is to stay.
"""

import logging
from collections.abc import Generator
from typing import Literal

import msgspec

from featurestore.contract.doors import is_unknown
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION, function_library, serves
from featurestore.contract.resp import Reply
from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.settings import CallBy

_logger = logging.getLogger("featurestore")

NO_FUNCTIONS = "this server has no functions: Redis has them from 7.0 on, and so has Valkey"


Role = Literal["any", "primary", "replica", "cluster replica", "sentinel"]
"""What a server is to be: `primary` where Sentinels, or the servers themselves, have said that it is."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a new connection is of no use.

    Attributes:
        reason: An error reply of Redis's, or what is wrong.
        lost: Whether another connection might be of use at once.
    """

    reason: str
    lost: bool = False


Greeting = Generator[tuple[str, ...], Reply | FeatureStoreError, Refusal | None]
"""Yields commands and is sent the replies, error replies as exceptions; returns None if the connection is of use."""


def greeting(call: CallBy, role: Role = "any") -> Greeting:
    """Send PING, to a primary ROLE, to a replica in a cluster READONLY; for calls by FCALL make sure of the library.

    A primary that has been replaced may come back as one, or as a replica. Without READONLY a replica in a cluster
    would send every read to its primary. It copies the library from there.

    Without the PING, Redis would close the connection without a reason: it does so if something as large as a script
    arrives before the password. And under TLS 1.3, session tickets arrive after the handshake. If nothing was read
    before, redis-py takes them for an unexpected reply and the connection for unusable.

    An error reply to PING may concern PING only, or be over soon. If it matters, the calls will meet it. But DENIED
    says that Redis talks to nobody from here.
    """
    answer = yield ("PING",)
    if isinstance(answer, FeatureStoreError):
        if str(answer).startswith("DENIED"):
            return Refusal(str(answer))
    elif answer not in ("PONG", b"PONG"):
        return Refusal(f"PING was answered with {str(answer)[:100]!r}", lost=True)
    if role == "cluster replica":
        answer = yield ("READONLY",)
        return Refusal(str(answer)) if isinstance(answer, FeatureStoreError) else None
    if role == "primary":
        answer = yield ("ROLE",)
        if isinstance(answer, list) and answer[0] not in {b"master", "master"}:
            return Refusal("the server is a replica now", lost=True)
    if role in {"replica", "sentinel"}:
        return None
    return (yield from _make_sure_of_library()) if call == "functions" else None


def _make_sure_of_library() -> Greeting:
    """Load the library if it is missing, or older than this package.

    If it cannot be loaded, the calls will tell why. A server that cannot tell yet, being about to load its data, is to
    be asked again on another connection.
    """
    told = yield ("FCALL", VERSION_FUNCTION, "0")
    if isinstance(told, FeatureStoreError):
        if lacks_functions(told):
            return Refusal(f"{NO_FUNCTIONS}; FEATURESTORE_CALL=scripts goes by EVALSHA")
        if isinstance(told, UnavailableError):
            return Refusal(str(told))
        if not is_unknown(told):
            return None
    elif isinstance(told, bytes) and serves(told):
        return None
    loaded = yield ("FUNCTION", "LOAD", "REPLACE", function_library())
    if isinstance(loaded, FeatureStoreError) and isinstance(told, bytes):
        _logger.warning(
            "Redis has an older library %s (%s), which cannot be replaced: %s", LIBRARY, told.decode(), loaded
        )
    return None


def lacks_functions(reply: FeatureStoreError) -> bool:
    """Return whether an error reply to FCALL or FUNCTION says that the server does not know the command."""
    return str(reply).startswith("ERR unknown command")
