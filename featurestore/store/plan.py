"""What a plan is: a generator that yields what to send and is sent the replies, without any I/O.

`FeatureStore` and `AsyncFeatureStore` drive the same plans, each over a transport of its kind.
"""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import msgspec

from featurestore.contract.replies import reading
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError, SchemaChangedError, UndeclaredFeatureError

IDS_PER_CALL = 100
"""Most ids or rows in one script call: about 0.5 ms of Redis's one thread, during which nobody else is served."""

OUTDATED = (SchemaChangedError, UndeclaredFeatureError, msgspec.DecodeError, UnicodeDecodeError)
"""What a read meets when Redis has another schema than was last seen; the last ones also where a row is damaged."""

T = TypeVar("T")
Prepared = TypeVar("Prepared")


class Calls(msgspec.Struct, frozen=True, gc=False):
    """A step: call a script once for each of `encoded`, in one write.

    It is answered with a reply for each, error replies in place as exceptions; see `Transport.run_many_encoded`.
    """

    script: Script
    encoded: list[bytes]


class Command(msgspec.Struct, frozen=True, gc=False):
    """A step: run one plain command. It is answered with the reply."""

    words: tuple[Word, ...]


Step = Calls | Command

Plan = Generator[Step, Any, T]
"""Yields steps, is sent their answers, returns the result. Failures of the link end it and are not sent to it."""


def call(script: Script, encoded: bytes) -> Plan[Reply]:
    """Call a script once; an error reply is raised."""
    (reply,) = yield Calls(script, [encoded])
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


def with_current_schema(
    prepare: Callable[[], Plan[Prepared]],
    read: Callable[[Prepared], Plan[T]],
    refresh: Callable[[], Plan[object]],
    what: str,
) -> Plan[T]:
    """Read by the schema as last seen. Where Redis turns out to have another one, refresh it and read once more.

    Args:
        prepare: Returns what the read goes by; its own errors are raised at once.
        read: Reads by that.
        refresh: Reads the schema, or the schemas, again.
        what: What is read, for the error's text.

    Raises:
        BadReplyError: The reply cannot be read by the current schema either: a row is damaged.
    """
    prepared = yield from prepare()
    try:
        return (yield from read(prepared))
    except OUTDATED:
        yield from refresh()
        prepared = yield from prepare()
        with reading(what):
            return (yield from read(prepared))


def checked(replies: list[Reply | FeatureStoreError]) -> list[Reply]:
    """Return the replies; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, FeatureStoreError):
            raise reply
    return replies
