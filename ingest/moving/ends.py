"""The two ends of a move: what is read of a Redis, and written to it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from featurestore.contract.resp import Word, encode_call, encode_command
from featurestore.contract.scripts import COPY_ENTITIES, DELETE_ENTITY, Script
from featurestore.errors import FeatureStoreError, NoSchemaError, RedisError, UnavailableError
from featurestore.keys import EntityKeys, keys_of, slot_of
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore
from featurestore.transport.interface import Node

from ..files.redis_clock import redis_ms  # noqa: TID252 - this package has two names
from ..files.scan import ReadRetries, Throttle  # noqa: TID252 - likewise
from .stored import Held

T = TypeVar("T")
Id = tuple[str, bytes]
"""An entity's name, and an id of it."""

_TIMEOUT_S = 10.0
_COMMANDS_EACH = 3
_NEVER, _GONE = -1, -2  # PTTL's and PEXPIRETIME's words


def _fits(reply: Any, _encoded: bytes) -> bool:
    return type(reply) in {list, int}


_READ_HELD = Script("HGETALL", "", "", writes=False, fits=_fits)
"""Stands for a script where the commands that read entities leave in one write."""


class Calls(list[bytes]):
    """Encoded commands, which tell a cluster's transport where they go.

    Attributes:
        slots: The hash slot of each.
    """

    def __init__(self, calls: Iterable[bytes], slots: list[int]) -> None:
        super().__init__(calls)
        self.slots = slots


class End:
    """One of the two stores.

    Args:
        url: Where it is.
        throttle: When calls may be made.
        retries: What to do while it is away.

    Attributes:
        store: The store of the default entity there.
        entities: The keys of each entity that is moved, by its name.
    """

    def __init__(self, url: str, throttle: Throttle, retries: ReadRetries) -> None:
        self.store = FeatureStore.connect(url, timeout=_TIMEOUT_S)
        self.throttle, self.retries = throttle, retries
        self.entities: dict[str, EntityKeys] = {}
        self.address: str = self.store.transport.address  # type: ignore[attr-defined]
        self.database = _database(url)
        self._expiry: str | None = None

    def close(self) -> None:
        """Close the connections."""
        self.store.close()

    def patiently(self, ask: Callable[[], T], ids: int = 0) -> T:
        """Return what `ask` does for so many ids, when the throttle lets it and once Redis answers."""
        return self.retries.run(lambda: self.throttle.run(ask, ids))

    # What is there

    def primaries(self) -> list[Node]:
        """Return the servers that take writes, in the order of their slots."""
        nodes = [node for node in self.store.transport.nodes() if node.role == "primary" and node.ranges]
        return sorted(nodes, key=lambda node: node.ranges)

    def schema(self, entity: str) -> Schema | None:
        """Return an entity's schema, and know its keys from now on; None where there is none."""
        store = self.of_entity(entity).for_writes()
        try:
            schema = store.schema()
        except NoSchemaError:
            return None
        self.entities[entity] = store.keys.with_members(schema.members)
        return schema

    def of_entity(self, entity: str) -> FeatureStore:
        """Return the store of an entity, whether it has a schema or not."""
        return FeatureStore(self.store.transport, keys_of(entity, clustered=self.store.transport.clustered))

    def stored_schema(self, entity: str) -> dict[str, str]:
        """Return the hash of an entity's schema."""
        reply = self.store.transport.command("HGETALL", self.entities[entity].root, writes=True)
        words = [word.decode() for word in reply]
        return dict(zip(words[::2], words[1::2], strict=True))

    def count(self, entity: str) -> int:
        """Return how many ids are in the sets of known ids."""
        parts = self.entities[entity].parts if entity in self.entities else ()
        return sum(int(self.store.transport.command("SCARD", part.members, writes=True)) for part in parts)

    def clock_ms(self) -> int:
        """Return the time by its clock, in ms since 1970."""
        return redis_ms(self.store)

    # Entities

    def key(self, one: Id) -> bytes:
        """Return the key of an id's features."""
        entity, raw_id = one
        return self.entities[entity].holding(raw_id).features_of_raw(raw_id)

    def read(self, ids: Sequence[Id]) -> list[Held | None]:
        """Return what is held of each of `ids`; None where nothing is, or no hash."""
        expiry = self._expiry or self._find_expiry(ids)
        calls: list[bytes] = []
        slots: list[int] = []
        for entity, raw_id in ids:
            part = self.entities[entity].holding(raw_id)
            key = part.features_of_raw(raw_id)
            commands: tuple[tuple[Word, ...], ...] = (
                ("HGETALL", key),
                (expiry, key),
                ("SISMEMBER", part.members, raw_id),
            )
            calls += map(encode_command, commands)
            slots += [slot_of(key)] * _COMMANDS_EACH
        replies = self.patiently(lambda: self._send(_READ_HELD, Calls(calls, slots)), len(ids))
        now = self.clock_ms() if expiry == "PTTL" else 0
        triples = zip(replies[::3], replies[1::3], replies[2::3], strict=True)
        return [_held(*triple, now) for triple in triples]

    def copy(self, entities: Sequence[tuple[Id, Held]], keeps: str) -> dict[Id, str]:
        """Store entities as they are held elsewhere; return the letter of each. To repeat that does no harm.

        Args:
            entities: What to store.
            keeps: What stays of what is stored here; see lua/copy_entities.lua.

        Raises:
            RedisError: Redis refuses it, say since its memory is full.
        """
        parts: dict[bytes, list[tuple[Id, Held]]] = {}
        for one in entities:
            (entity, raw_id), _ = one
            parts.setdefault(self.entities[entity].holding(raw_id).schema.encode(), []).append(one)
        calls = Calls((_copying(self, part, keeps) for part in parts.values()), list(map(slot_of, parts)))
        replies = self.patiently(lambda: self._send(COPY_ENTITIES, calls), len(entities))
        return {
            one: letter
            for part, reply in zip(parts.values(), replies, strict=True)
            for (one, _), letter in zip(part, reply.decode(), strict=True)
        }

    def remove(self, one: Id, held: Held) -> bool:
        """Remove an entity unless something newer has come since it was read; return whether it is gone."""
        entity, raw_id = one
        part = self.entities[entity].holding(raw_id)
        words = (raw_id, str(held.newest), "0")
        keys: list[Word] = [part.members, part.schema, part.features_of_raw(raw_id)]
        return bool(self.patiently(lambda: self.store.transport.run(DELETE_ENTITY, keys, words), 1) != -1)

    def _send(self, script: Script, calls: Calls) -> list[Any]:
        """Send calls in one write, to primaries; return the replies, None where a key holds something else.

        A replica may not have what its primary has, so that what it says is no reason to copy, remove or compare. Other
        errors are raised.
        """
        replies = self.store.transport.run_many_encoded(script, calls, writes=True)
        for reply in replies:
            if isinstance(reply, FeatureStoreError) and (script.writes or not str(reply).startswith("WRONGTYPE")):
                raise reply
        return [None if isinstance(reply, FeatureStoreError) else reply for reply in replies]

    def _find_expiry(self, ids: Sequence[Id]) -> str:
        """Return the command that tells when a key expires: Redis 6.2 knows the older one alone."""
        try:
            self.patiently(lambda: self.store.transport.command("PEXPIRETIME", self.key(ids[0])))
        except UnavailableError:
            raise
        except RedisError:
            self._expiry = "PTTL"
        else:
            self._expiry = "PEXPIRETIME"
        return self._expiry


def _copying(end: End, part: Sequence[tuple[Id, Held]], keeps: str) -> bytes:
    """Return the call that stores entities of one partition."""
    entity, raw_id = part[0][0]
    own = end.entities[entity].holding(raw_id)
    keys: list[Word] = [own.members, own.schema]
    words: list[Word] = [keeps]
    for (_, each), held in part:
        keys.append(own.features_of_raw(each))
        expires = "" if held.expires_ms is None else str(held.expires_ms)
        words += [each, "1" if held.known else "0", expires, str(len(held.fields))]
        for name, value in held.fields.items():
            words += (name, value)
    return encode_call(COPY_ENTITIES, keys, words)


def _held(fields: list[bytes] | None, expires: int | None, known: int | None, now: int) -> Held | None:
    if not fields:
        return None
    pairs: Mapping[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
    at = None if expires is None or expires in {_NEVER, _GONE} else expires + now
    return Held(pairs, known == 1, at)


def _database(url: str) -> str:
    """Return the number of the database that a URL names."""
    found = re.search(r"[?&]db=(\d+)", url) or re.search(r"://[^/]*/(\d+)", url)
    return "0" if found is None or (url.startswith("unix") and "db=" not in url) else found[1]


class Identity(msgspec.Struct, frozen=True):
    """What tells a store from others.

    Attributes:
        servers: What names the processes of its primaries.
        database: The number of its database.
    """

    servers: frozenset[str]
    database: str


def identity_of(end: End) -> Identity:
    """Return what tells a store from others; servers that do not tell are left out."""
    return Identity(frozenset(filter(None, map(process_of, end.primaries()))), end.database)


def process_of(node: Node) -> str:
    """Return what names a server's process: its `run_id`; empty where it does not tell.

    Raises:
        UnavailableError: It does not answer.
    """
    try:
        text: bytes = node.transport.command("INFO", "server")
    except UnavailableError:
        raise
    except RedisError:  # the user may not ask, or INFO has another name
        return ""
    lines = (line.partition(b":") for line in text.splitlines())
    return next((value.strip().decode() for name, _, value in lines if name == b"run_id"), "")
