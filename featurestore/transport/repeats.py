"""When calls are repeated, for every transport: on another connection, and after Redis lost the scripts.

Like the plans of stores these are generators without I/O: they yield what to send, and are sent the outcome.
"""

from collections.abc import Callable, Generator, Sequence

import msgspec

from featurestore.contract.doors import is_unknown
from featurestore.contract.replies import Expected, Take, answer_to_command
from featurestore.contract.resp import Reply, Word, encode_command
from featurestore.contract.scripts import Script
from featurestore.errors import FeatureStoreError, RedisError
from featurestore.transport.pipeline import Failure
from featurestore.transport.turns import SMALL_US, taken

Replies = list[Reply | FeatureStoreError]
"""A reply to each of several commands, with error replies as exceptions in their places."""


class Exchange(msgspec.Struct, eq=False):
    """Commands that leave in one write.

    Attributes:
        encoded: The commands as RESP, with one reply each.
        expected: Checks the replies.
        answers: Returns what may be the replies to some of them; only for calls.
        each_us: About how long each takes of Redis's time.
        takes: For each what is made of its reply as soon as it is there; None where replies stay as they are.
        follows: Whether they go on with a request that was admitted.
        writes: Whether they belong to a write, and have its time-out.
        load: Whether to load every script ahead of them.
        allowed: Seconds that each reply may take, if not the transport's time-out.
        load_error: Set by the sender: why the scripts could not be loaded; None if they were, or were not to be.
        wait: Commands that have replicas confirm what the others wrote, on the same connection; see `confirming`.
        wait_s: Seconds that these may take.
        waited: Set by the sender: the replies to them, or why there are none; None where nothing was written.
    """

    encoded: Sequence[bytes]
    expected: Expected
    answers: Callable[[list[bytes]], Expected] | None = None
    each_us: float = 0.0
    takes: Sequence[Take] | None = None
    follows: bool = False
    writes: bool = False
    load: bool = False
    load_error: FeatureStoreError | None = None
    allowed: float | None = None
    wait: bytes = b""
    wait_s: float = 0.0
    waited: "Replies | Failure | None" = None

    @property
    def big(self) -> bool:
        """Whether its calls are sent a few at a time."""
        return self.answers is not None and self.each_us * len(self.encoded) > SMALL_US

    def taken(self, replies: Replies) -> Replies:
        """Return what is made of the replies, where they arrived together."""
        return replies if self.takes is None else list(map(taken, self.takes, replies))


Exchanges = Generator[Exchange, Replies | Failure, Replies]
"""Yields what to send, is sent the replies or a `Failure`, and returns the replies to the calls."""


def drive(
    exchanges: Exchanges, send: Callable[[Exchange], Replies | Failure], outcome: Replies | Failure | None = None
) -> Replies:
    """Send whatever is yielded, and return the replies in the end.

    Args:
        exchanges: Yields what to send.
        send: Sends it and returns the outcome.
        outcome: The outcome of the first exchange, if that has taken place already.
    """
    try:
        exchange = next(exchanges)
        if outcome is not None:
            exchange = exchanges.send(outcome)
        while True:
            exchange = exchanges.send(send(exchange))
    except StopIteration as end:
        replies: Replies = end.value
        return replies


def calls_of(  # noqa: PLR0913 - calls, and what is known of them
    script: Script,
    encoded: Sequence[bytes],
    each_us: float = 0.0,
    takes: Sequence[Take] | None = None,
    *,
    follows: bool = False,
    writes: bool = False,
) -> Exchanges:
    """Call a script; repeat calls on a new connection if that is safe, and calls that Redis did not know.

    Args:
        script: What is called.
        encoded: The calls.
        each_us: About how long each takes of Redis's time.
        takes: See `Exchange`.
        follows: See `Exchange`.
        writes: See `Exchange`; calls of scripts that write do anyway.
    """
    if not encoded:
        return []
    answers = script.answers
    if len(encoded) == 1 or each_us * len(encoded) <= SMALL_US:
        encoded = list(encoded)
    exchange = Exchange(encoded, answers(encoded), answers, each_us, takes, follows, writes or script.writes)
    replies = yield from once_or_twice(exchange, repeatable=not script.writes)
    if not any(isinstance(reply, RedisError) for reply in replies):
        return replies
    return (yield from repaired(exchange, replies, repeatable=not script.writes, in_order=script.in_order))


def command_of(words: tuple[Word, ...], *, writes: bool = False) -> Exchanges:
    """Run one plain command; repeat it on a new connection only if it was not sent."""
    encoded = encode_command(words)
    exchange = Exchange([encoded], answer_to_command(words, encoded), writes=writes)
    return once_or_twice(exchange, repeatable=False)


def once_or_twice(exchange: Exchange, *, repeatable: bool) -> Exchanges:
    """Send commands, and send them again if the connection broke and repeating is safe.

    Args:
        exchange: The commands.
        repeatable: Whether they may be sent twice, because they only read.

    Raises:
        FeatureStoreError: There is no reply.
    """
    outcome = yield exchange
    if isinstance(outcome, Failure) and outcome.lost and (repeatable or outcome.unsent):
        outcome = yield exchange
    if isinstance(outcome, Failure):
        raise outcome.reason(writes=exchange.writes and not repeatable)
    return outcome


def repaired(first: Exchange, replies: Replies, *, repeatable: bool, in_order: bool) -> Exchanges:
    """Load the scripts and repeat the calls that Redis did not know (`is_unknown`); put the new replies in place.

    Such a call did not take place, so repeating it is safe for writes too. If the scripts cannot be loaded, the reply
    says why.

    Args:
        first: The calls that were made.
        replies: The replies to them.
        repeatable: See `once_or_twice`.
        in_order: Whether the calls behind such a call depend on it; see `Script.in_order`.
    """
    unknown = to_repeat([is_unknown(reply) for reply in replies], in_order=in_order)
    if unknown and first.answers:
        calls = [first.encoded[index] for index in unknown]
        takes = first.takes and [first.takes[index] for index in unknown]
        answers, writes = first.answers, first.writes
        exchange = Exchange(calls, answers(calls), answers, first.each_us, takes, True, writes, load=True)
        again = yield from once_or_twice(exchange, repeatable=repeatable)
        for index, reply in zip(unknown, again, strict=True):
            lost = exchange.load_error and is_unknown(reply)
            replies[index] = exchange.load_error if lost else reply
    return replies


def only(replies: Replies) -> Reply:
    """Return the only reply; raise it if it is an error."""
    (reply,) = replies
    if isinstance(reply, FeatureStoreError):
        raise reply
    return reply


def to_repeat(unknown: Sequence[bool], *, in_order: bool) -> list[int]:
    """Return the positions of the calls to repeat once the scripts are loaded.

    Args:
        unknown: For each call whether Redis did not know its script.
        in_order: Whether the calls behind such a call depend on it.
    """
    if in_order and True in unknown:
        return list(range(unknown.index(True), len(unknown)))
    return [position for position, is_unknown in enumerate(unknown) if is_unknown]


def has_code(reply: Reply, code: str) -> bool:
    """Return whether a reply is an error of that code."""
    return isinstance(reply, RedisError) and str(reply).startswith(code)


def is_refused_write(replies: Sequence[Reply]) -> bool:
    """Return whether the server is a replica. After a failover, the address may lead to the new primary."""
    return any(has_code(reply, "READONLY") for reply in replies)
