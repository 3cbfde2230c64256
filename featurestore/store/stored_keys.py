"""The keys that are formed like those of an entity's hashes, found by scanning all keys of every server."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from featurestore.errors import UnavailableError
from featurestore.keys import MAX_ID_BYTES, SLOTS, Keys
from featurestore.store.nodes import own_slots, primaries, process_of
from featurestore.transport.interface import Transport

_SCAN_COUNT = 500
_MOST_LOOKS, _LOOK_S = 50, 0.1
_logger = logging.getLogger("featurestore")

_State = list[tuple[str, list[tuple[int, int]], str | None]]
"""For each primary its address, its slots where there are some, and what names its process."""

Fits = Callable[[Keys, bytes], bool]
"""Whether a key is one that is looked for."""

Found = Iterator[tuple[Keys, list[bytes]]]
"""Some keys at a time, with the names of their partition."""


def hashes_of(transport: Transport, parts: Sequence[Keys], pause: float) -> Found:
    """Yield the keys of what may be the entity's hashes, whether their ids are known or not.

    Args:
        transport: The link to Redis.
        parts: The keys of all partitions of the entity.
        pause: Seconds to wait after a step that finds nothing.
    """

    def fits(part: Keys, key: bytes) -> bool:
        return 0 < len(part.id_of(key)) <= MAX_ID_BYTES

    return _found(transport, parts, lambda part: part.features("*"), fits, pause)


def counted_of(transport: Transport, parts: Sequence[Keys], pause: float) -> Found:
    """Yield the keys of what is known of counted entries of streams."""
    return _found(transport, parts, lambda part: part.counted("*"), lambda _part, _key: True, pause, "TYPE", "set")


def served_of(transport: Transport, parts: Sequence[Keys], pause: float) -> Found:
    """Yield the keys of the streams of what services were served."""
    return _found(transport, parts, lambda part: part.served("*"), lambda _part, _key: True, pause, "TYPE", "stream")


def _found(
    transport: Transport,
    parts: Sequence[Keys],
    pattern_of: Callable[[Keys], str],
    fits: Fits,
    pause: float,
    *options: str,
) -> Found:
    scan = _in_cluster if parts[0].tag else _on_one
    while True:
        # A cursor means nothing to another server, and a key that moves while two are scanned may be seen by neither.
        before = _state_of(transport, parts)
        yield from scan(transport, parts, pattern_of(parts[0]), fits, pause, *options)
        if _state_of(transport, parts) == before:
            return
        _logger.warning("Redis was restarted or replaced, or slots of a cluster moved: all keys are scanned again")


def _on_one(
    transport: Transport, parts: Sequence[Keys], pattern: str, fits: Fits, pause: float, *options: str
) -> Found:
    for keys in _scanned(transport, (pattern, *options), pause):
        found = [key for key in keys if fits(parts[0], key)]
        if found:
            yield parts[0], found


def _in_cluster(
    transport: Transport, parts: Sequence[Keys], pattern: str, fits: Fits, pause: float, *options: str
) -> Found:
    by_tag = {part.tag.encode(): part for part in parts}
    everywhere = pattern.replace(parts[0].tag, "{*}", 1)
    for node in primaries(transport):
        for keys in _scanned(node.transport, (everywhere, *options), pause):
            yield from _by_part(by_tag, keys, fits)


def _by_part(by_tag: dict[bytes, Keys], keys: Sequence[bytes], fits: Fits) -> Found:
    found: dict[bytes, list[bytes]] = {}
    for key in keys:
        tag = key[: key.index(b"}") + 1]
        part = by_tag.get(tag)
        if part is not None and fits(part, key):
            found.setdefault(tag, []).append(key)
    for tag, some in found.items():
        yield by_tag[tag], some


def _scanned(transport: Transport, words: Sequence[str], pause: float) -> Iterator[list[bytes]]:
    """Yield what one server's keys have of a pattern, some at a time."""
    cursor, (pattern, *options) = b"", words
    while cursor != b"0":
        cursor, keys = transport.command("SCAN", cursor or "0", "MATCH", pattern, "COUNT", _SCAN_COUNT, *options)
        if keys:
            yield keys
        else:
            time.sleep(pause)


def _state_of(transport: Transport, parts: Sequence[Keys]) -> _State:
    """Return which processes have which slots, as each knows itself, once they have them all.

    Raises:
        UnavailableError: They have not for some seconds.
    """
    if not parts[0].tag:
        return [(node.address, [], process_of(node)) for node in primaries(transport)]
    for _ in range(_MOST_LOOKS):
        state = sorted((node.address, own_slots(node), process_of(node)) for node in primaries(transport))
        if sum(last - first + 1 for _, slots, _ in state for first, last in slots) == SLOTS:
            return state
        for part in parts:
            transport.command("EXISTS", part.schema)  # goes where it is served now, and so tells who that is
        time.sleep(_LOOK_S)
    raise UnavailableError("slots of the cluster are with nobody just now: wait until it is whole")
