"""A request to a cluster, and the rounds in which it is sent, as data."""

import enum
from collections.abc import Callable, Generator, Sequence

import msgspec

from featurestore.contract.replies import Expected, Take, answer_to_command
from featurestore.contract.resp import Word, encode_command
from featurestore.contract.scripts import Script
from featurestore.transport.cluster import Target
from featurestore.transport.confirming import CONFIRMED
from featurestore.transport.pipeline import Failure
from featurestore.transport.read_only import Lacks, lacking
from featurestore.transport.repeats import Exchange, Replies
from featurestore.transport.slots import slot_of_command

ANY = -1
"""The slot of a command without a key, which any node may get."""

_READING = frozenset(
    ("EXISTS", "HGET", "HGETALL", "HKEYS", "HLEN", "HMGET", "SCARD", "SISMEMBER", "SMISMEMBER", "TYPE")
)
"""Commands that may be sent twice, and to a replica where the primary does not answer."""


class Refresh(enum.IntEnum):
    """When the topology is to be read again."""

    NEVER = 0
    SOON = 1
    """While the legs of the round are sent, or after the request."""
    FIRST = 2
    """Before the legs of the round are made."""


class Request(msgspec.Struct, eq=False):
    """Calls, and what is known of them.

    Attributes:
        encoded: The calls. Each may be encoded when it is looked at.
        slots: The hash slot of each; `ANY` where it does not matter.
        expected: Returns what may be the replies to some of them.
        answers: The same where big requests are sent a few calls at a time; None where they are not.
        each_us: About how long each takes of Redis's time.
        takes: See `Exchange`.
        follows: See there.
        writes: See there.
        repeatable: Whether calls may be sent twice, because they only read.
        primary_only: Whether no replica is to answer, though they only read.
        lacks: Tells of a reply whether an id is not known, of which a replica cannot be sure.
        in_order: Whether calls of a slot depend on those before them; see `Script.in_order`.
        confirmed: Whether replicas have to confirm what the calls wrote, where that is wanted at all.
    """

    encoded: Sequence[bytes]
    slots: Sequence[int]
    expected: Callable[[list[bytes]], Expected]
    answers: Callable[[list[bytes]], Expected] | None = None
    each_us: float = 0.0
    takes: Sequence[Take] | None = None
    follows: bool = False
    writes: bool = False
    repeatable: bool = False
    in_order: bool = False
    primary_only: bool = False
    lacks: Lacks | None = None
    confirmed: bool = False


def calls_request(  # noqa: PLR0913 - calls, and what is known of them
    script: Script,
    encoded: Sequence[bytes],
    slots: Sequence[int],
    *,
    each_us: float = 0.0,
    takes: Sequence[Take] | None = None,
    follows: bool = False,
    writes: bool = False,
    primary_only: bool = False,
) -> Request:
    """Return the request of calls of a script; see `Transport.run_many_encoded`.

    What belongs to a write is not asked of replicas.
    """
    answers = script.answers
    writes, reads = writes or script.writes, not script.writes
    return Request(
        encoded, slots, answers, answers, each_us, takes, follows, writes, reads, script.in_order,
        primary_only or writes, lacking(script), script in CONFIRMED,
    )  # fmt: skip


def command_request(words: tuple[Word, ...], *, writes: bool = False, primary_only: bool = False) -> Request:
    """Return the request of one plain command; see `Transport.command`.

    What belongs to a write is not asked of replicas.
    """
    encoded = encode_command(words)
    slot = slot_of_command(words)
    expected = answer_to_command(words, encoded)
    reads = slot is not None and str(words[0]).upper() in _READING
    return Request(
        [encoded], [ANY if slot is None else slot], lambda _calls: expected,
        writes=writes, repeatable=reads, primary_only=primary_only or writes,
    )  # fmt: skip


class Leg(msgspec.Struct, eq=False):
    """The part of a round that goes to one node.

    Attributes:
        target: The node.
        exchange: The calls; where `asking`, with ASKING ahead of each.
        places: Which calls of the request they are.
        asking: Whether the node is only about to get their slots.
    """

    target: Target
    exchange: Exchange
    places: list[int]
    asking: bool = False


class Round(msgspec.Struct, eq=False):
    """What is to be done next: wait, ask for the topology, send.

    Attributes:
        legs: They are sent at once. Without any, the topology is all that is wanted.
        pause: Seconds to wait before.
        refresh: When to ask for the topology.
        until: When the request's time is over, by `time.monotonic`.
    """

    legs: list[Leg]
    pause: float
    refresh: Refresh
    until: float


Answered = tuple[Target, list[int], Replies | Failure]
"""A node, which calls of a request it was sent, and what came of it."""

Rounds = Generator[Round, Sequence[Replies | Failure], Replies]
"""Yields rounds, is sent the outcome of each leg, and returns the replies to the calls."""


class Way(msgspec.Struct, frozen=True):
    """How a call is repeated.

    Attributes:
        target: Where; None where the topology says it.
        asking: Whether with ASKING ahead.
        load: Whether with all scripts loaded ahead.
    """

    target: Target | None = None
    asking: bool = False
    load: bool = False


BY_TOPOLOGY = Way()
