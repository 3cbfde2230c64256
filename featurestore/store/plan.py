"""What a plan is: a generator that yields what to send and is sent the replies, without any I/O.

`FeatureStore` and `AsyncFeatureStore` drive the same plans, each over a transport of its kind.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from featurestore.contract.replies import Take, reading
from featurestore.contract.resp import Reply, Word
from featurestore.contract.scripts import Script
from featurestore.errors import (
    FeatureStoreError,
    NoSchemaError,
    SchemaChangedError,
    UndeclaredFeatureError,
    UnknownEntityError,
)
from featurestore.schema.stored import Schema

OUTDATED = (SchemaChangedError, UndeclaredFeatureError, msgspec.DecodeError, UnicodeDecodeError)
"""Errors of a read when Redis's schema is not the one last seen; DecodeErrors also come of a damaged row."""

_MORE_REPEATS = 3

T = TypeVar("T")
Prepared = TypeVar("Prepared")


class Calls(msgspec.Struct, frozen=True, gc=False):
    """A step: call a script once for each of `encoded`, in one write.

    The answer is a list of replies, with error replies as exceptions in their places; see `Transport.run_many_encoded`.

    Attributes:
        script: What is called.
        encoded: The calls. Each may be encoded when it is looked at, which is when it is sent.
        each_us: About how long each takes of Redis's time (`contract/costs.py`).
        takes: For each call a function of its reply; see `Transport.run_many_encoded`.
        follows: Whether they go on with earlier calls of the plan, so that they are not refused for want of time.
        writes: Whether they belong to a write, whatever the plan does: only primaries answer.
    """

    script: Script
    encoded: Sequence[bytes]
    each_us: float = 0.0
    takes: Sequence[Take] | None = None
    follows: bool = False
    writes: bool = False

    @property
    def name(self) -> str:
        """The script."""
        return self.script.name

    @property
    def count(self) -> int:
        """How many calls these are."""
        return len(self.encoded)


class Command(msgspec.Struct, frozen=True, gc=False):
    """A step: run one plain command. The answer is its reply.

    Attributes:
        words: The command.
        writes: As in `Calls`.
    """

    words: tuple[Word, ...]
    writes: bool = False
    count: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The command."""
        return _word(self.words[0])


class Commands(msgspec.Struct, frozen=True, gc=False):
    """A step: run plain commands that do not depend on each other. The answer is a list of their replies, in order."""

    each: Sequence[tuple[Word, ...]]

    @property
    def name(self) -> str:
        """The first of the commands."""
        return _word(self.each[0][0])

    @property
    def count(self) -> int:
        """How many commands these are."""
        return len(self.each)


Step = Calls | Command | Commands


def _word(word: Word) -> str:
    return word if isinstance(word, str) else bytes(word).decode()


Plan = Generator[Step, Any, T]
"""Yields steps, is sent their answers, and returns the result. A failure of the link is raised where it waits."""


def call(script: Script, encoded: bytes, us: float = 0.0) -> Plan[Reply]:
    """Call a script once, which takes about `us` µs of Redis's time; raise an error reply."""
    (reply,) = checked((yield Calls(script, [encoded], us)))
    return reply


def with_current_schema(
    prepare: Callable[[], Plan[Prepared]],
    read: Callable[[Prepared], Plan[T]],
    refresh: Callable[[], Plan[Schema]],
    what: str,
) -> Plan[T]:
    """Read with the schema as last seen. If Redis has another one, read the schema again and repeat the read once.

    In a cluster it is repeated more often: the partitions get a new schema one after the other.

    Args:
        prepare: Makes what `read` needs from the schema. Its own errors are raised at once.
        read: Reads with what `prepare` made.
        refresh: Reads the schema, or several schemas, again; returns one of them.
        what: Names the read in an error.

    Raises:
        BadReplyError: The reply does not fit the current schema either: a row is damaged.
    """
    prepared = yield from prepare()
    try:
        return (yield from read(prepared))
    except (*OUTDATED, NoSchemaError) as error:
        schema = yield from refreshed(refresh, error)
        further = _MORE_REPEATS if schema.partitions else 0
    while True:
        prepared = yield from prepare()
        try:
            with reading(what):
                return (yield from read(prepared))
        except (SchemaChangedError, UndeclaredFeatureError, NoSchemaError) as error:
            if not further:
                raise
            further -= 1
            yield from refreshed(refresh, error)


def refreshed(refresh: Callable[[], Plan[Schema]], error: Exception) -> Plan[Schema]:
    """Read the schema again after a call failed; return it. Where there is none, raise what the call said of that.

    Raises:
        UnknownEntityError: The entity was found by its name, and has been dropped.
    """
    try:
        return (yield from refresh())
    except UnknownEntityError:
        raise
    except NoSchemaError:
        if isinstance(error, NoSchemaError):
            raise error from None
        raise


def checked(replies: list[Reply | FeatureStoreError]) -> list[Reply]:
    """Return the replies, or what was made of them; raise the first error among them."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
