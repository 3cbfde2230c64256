"""Which nodes of a cluster have which hash slots, read from CLUSTER SLOTS and from redirects; without I/O."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from featurestore.errors import BadReplyError
from featurestore.keys import SLOTS
from featurestore.transport.addresses import host_of, joined


class Shard(msgspec.Struct, frozen=True):
    """A primary and its replicas, which have the same slots.

    Attributes:
        primary: Its address.
        replicas: Theirs; empty where they are not known.
    """

    primary: str
    replicas: tuple[str, ...] = ()


class Topology:
    """Who has which slot, as far as is known; a redirect changes it at once.

    Args:
        shards: For each slot who has it; None where nobody has.
    """

    def __init__(self, shards: list[Shard | None]) -> None:
        self._shards = shards

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self._shards == other._shards

    __hash__ = None  # type: ignore[assignment]  # it changes

    def shard(self, slot: int) -> Shard | None:
        """Return who has a slot; None if nobody has."""
        return self._shards[slot]

    def shards_of(self, slots: Sequence[int]) -> list[Shard | None]:
        """Return who has each of several slots."""
        known = self._shards
        return [known[slot] for slot in slots]

    def move(self, slot: int, primary: str) -> bool:
        """Take note of a redirect: that node has the slot. Return whether that is new."""
        known = self._shards[slot]
        if known is not None and known.primary == primary:
            return False
        self._shards[slot] = next((each for each in self.shards() if each.primary == primary), Shard(primary))
        return True

    def shards(self) -> list[Shard]:
        """Return every shard that has slots, in the order of its first."""
        return list(dict.fromkeys(shard for shard in self._shards if shard is not None))

    def ranges(self) -> dict[Shard, list[tuple[int, int]]]:
        """Return the first and last slot of each run that a shard has."""
        found: dict[Shard, list[tuple[int, int]]] = {}
        for first, last, shard in self._runs():
            found.setdefault(shard, []).append((first, last))
        return found

    def addresses(self) -> list[str]:
        """Return the address of every node, the primaries first."""
        shards = self.shards()
        return [*(shard.primary for shard in shards), *(each for shard in shards for each in shard.replicas)]

    def _runs(self) -> Iterator[tuple[int, int, Shard]]:
        first, before = 0, self._shards[0]
        for slot in range(1, SLOTS + 1):
            shard = self._shards[slot] if slot < SLOTS else None
            if slot == SLOTS or shard is not before:
                if before is not None:
                    yield first, slot - 1, before
                first, before = slot, shard


def topology_of(reply: Any, asked: str, reached_at: Mapping[str, str]) -> Topology:
    """Return the topology that a reply to CLUSTER SLOTS tells.

    Args:
        reply: The reply: for each run of slots its ends, its primary and its replicas.
        asked: Address of the node that was asked, whose host stands for one that is not told.
        reached_at: Where nodes are reached whose addresses are others from here; see `address_map`.

    Raises:
        BadReplyError: It is none, or there is no slot in it.
    """
    shards: list[Shard | None] = [None] * SLOTS
    known: dict[Shard, Shard] = {}  # one object for equal shards, so that runs are told apart by identity
    try:
        for first, last, *nodes in reply:
            primary, *replicas = (_address(node, asked, reached_at) for node in nodes)
            shard = Shard(primary, tuple(replicas))
            shard = known.setdefault(shard, shard)
            for slot in _run(first, last):
                shards[slot] = shard
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise BadReplyError(f"{asked} sent what cannot be a reply to CLUSTER SLOTS: {error}") from error
    if not known:
        raise BadReplyError(f"{asked} knows of no node that has slots")
    return Topology(shards)


def _run(first: int, last: int) -> range:
    if not 0 <= first <= last < SLOTS:
        raise ValueError(f"{first} to {last} are no slots")
    return range(first, last + 1)


def _address(node: Any, asked: str, reached_at: Mapping[str, str]) -> str:
    """Return where a node is reached of which CLUSTER SLOTS tells host, port, id and perhaps more.

    Without a preferred name the host may be None, empty or `?`, and the IP address stands among what comes behind. That
    may be missing, too: the node is on the host that was asked then.
    """
    host, port, _name, *more = node
    told: str = host.decode() if host else ""
    if told in {"", "?"}:
        told = (_metadata(more[0]).get("ip") or "") if told == "?" and more else ""
    return _reached(joined(told, port) if told else f"{host_of(asked)}:{port:d}", reached_at)


def _metadata(words: Any) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in zip(words[::2], words[1::2], strict=True)}


def _reached(told: str, reached_at: Mapping[str, str]) -> str:
    return reached_at.get(told, told)


class Redirect(msgspec.Struct, frozen=True):
    """What MOVED or ASK says.

    Attributes:
        slot: The slot that the call is about.
        node: Address of the node that has it, or is being given it.
        asking: Whether only this call is to go there, with ASKING ahead of it.
    """

    slot: int
    node: str
    asking: bool


def redirect_of(error: str, asked: str, reached_at: Mapping[str, str]) -> Redirect | None:
    """Return what an error reply says of another node; None if it is no such error.

    Args:
        error: `MOVED 3999 127.0.0.1:6381`, or ASK likewise; the host may be missing or `?`.
        asked: See `topology_of`.
        reached_at: See there.
    """
    kind, _, rest = error.partition(" ")
    if kind not in {"MOVED", "ASK"}:
        return None
    slot, _, node = rest.partition(" ")
    host, _, port = node.rpartition(":")
    if not (slot.isdecimal() and port.isdecimal() and int(slot) < SLOTS):
        return None
    told = f"{host_of(asked)}:{port}" if host in {"", "?"} else joined(host, int(port))
    return Redirect(int(slot), _reached(told, reached_at), kind == "ASK")
