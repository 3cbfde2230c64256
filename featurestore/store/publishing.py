"""Changes of an entity's schema in a cluster, where every partition has a copy of it.

A script changes the draft, so that there is one order of all changes, and a version means one content. The whole draft
is copied to every partition, where what is there is older, and to the root last. So no copy is ever older than the
root, whoever else changes the schema meanwhile and wherever this ends; and the next change brings along what one that
ended half-way has left (docs/decisions/0033-one-schema-many-copies.md).
"""

from collections.abc import Iterable, Sequence

from featurestore.contract.hashes import READ_HASHES
from featurestore.contract.resp import Reply, Word, encode_call, encode_command
from featurestore.contract.scripts import COPY_SCHEMA, Script
from featurestore.errors import FeatureStoreError, NoSchemaError, SchemaError, UnavailableError
from featurestore.keys import Keys, PartitionedKeys, slot_of
from featurestore.store.plan import Calls, Command, Plan, T, call, checked

_MOST_TRIES = 5
_COPY_US = 20.0
_FIELD_US = 0.3
_HALF_WAY = "the change has not reached every partition: give the same command again, and it goes on"


class Commands(list[bytes]):
    """Plain commands that leave together, and the hash slot of each, which its bytes do not tell.

    Args:
        commands: The words of each, of which the second is its key.

    Attributes:
        slots: The slots.
    """

    def __init__(self, commands: Iterable[tuple[Word, ...]]) -> None:
        words = list(commands)
        super().__init__(encode_command(each) for each in words)
        self.slots = [slot_of(_raw(each[1])) for each in words]


def _raw(word: Word) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def changed_everywhere(
    keys: PartitionedKeys, script: Script, words: Sequence[Word], count: int | None = None
) -> Plan[int]:
    """Change the schema by a script, in every partition; return what the script says.

    Args:
        keys: The entity's keys.
        script: It has the draft as its only key, and adds one to the version of what it changes.
        words: Its arguments.
        count: How many partitions an entity without a schema is to have.

    Raises:
        NoSchemaError: There is none, and `count` is not given.
        UnavailableError: A node does not answer. The change may be made in part.
    """
    for _ in range(_MOST_TRIES):
        yield from _prepare_draft(keys, count)
        found: int = yield from call(script, encode_call(script, (keys.draft,), words))
        if (yield from _half_way(_spread(keys))):
            return found
    raise SchemaError(f"the schema of {keys.entity} changes all the time: {_HALF_WAY}")


def finished(keys: PartitionedKeys) -> Plan[bool]:
    """Publish a change that has not reached the root yet; return whether there was one and it has now."""
    try:
        draft, root = yield from _versions(keys.draft, keys.root)
        return draft > root and (yield from _spread(keys))
    except FeatureStoreError:
        return False  # this user may not; or whoever changes the schema is about to


def refreshed_parts(keys: PartitionedKeys) -> Plan[bool]:
    """Make sure that every partition has the newest schema; return False where it is being changed just now."""
    yield from _prepare_draft(keys, None)
    return (yield from _half_way(_spread(keys)))


def stale_parts(keys: PartitionedKeys, version: int) -> Plan[list[Keys]]:
    """Return the keys of the partitions whose copy of the schema is older than `version`, or not there."""
    parts = keys.parts
    held = yield from _versions(*(part.schema for part in parts))
    return [part for part, each in zip(parts, held, strict=True) if each < version]


def dry_run(keys: PartitionedKeys, script: Script, words: Sequence[Word]) -> Plan[int]:
    """Return what the script would say, which changes nothing by these words."""
    draft, root = yield from _versions(keys.draft, keys.root)
    key = keys.draft if draft >= root else keys.root
    return int((yield from call(script, encode_call(script, (key,), words))))


def stored_count(keys: PartitionedKeys) -> Plan[int]:
    """Return how many partitions an entity has, even one that is being dropped; 0 where none is stored."""
    for key in (keys.draft, keys.root):
        told = yield Command(("HGET", key, "@partitions"), writes=True)
        if told is not None:
            return int(told)
    return 0


def _half_way(spread: Plan[T]) -> Plan[T]:
    try:
        return (yield from spread)
    except UnavailableError as error:
        raise type(error)(f"{error}; {_HALF_WAY}") from error


def _versions(*schemas: str) -> Plan[list[int]]:
    """Return the version of the schema at each key; 0 where there is none."""
    found = checked((yield Calls(READ_HASHES, Commands(("HMGET", key, "@version") for key in schemas), writes=True)))
    return [int(version or 0) for (version,) in found]


def _prepare_draft(keys: PartitionedKeys, count: int | None) -> Plan[None]:
    """Make sure that the draft is as new as the root. Where both are lost, it is made of the newest copy."""
    draft, root = yield from _versions(keys.draft, keys.root)
    if root > draft:
        yield from _copied(keys.root, keys.draft)
    if root or draft:
        return
    if count is None:
        raise NoSchemaError(f"no schema of {keys.entity} has been applied")
    parts = keys.with_count(count).parts
    held = yield from _versions(*(part.schema for part in parts))
    if max(held):
        yield from _copied(parts[held.index(max(held))].schema, keys.draft)


def _copied(source: str, target: str) -> Plan[None]:
    words: list[bytes] = yield Command(("HGETALL", source), writes=True)
    if words:
        yield from call(COPY_SCHEMA, encode_call(COPY_SCHEMA, (target,), words))


def _spread(keys: PartitionedKeys) -> Plan[bool]:
    """Copy the draft to every partition, then to the root.

    Return False where a partition has a newer one, because the draft was lost; the draft is made of that then.
    """
    words: list[bytes] = yield Command(("HGETALL", keys.draft), writes=True)
    stored = dict(zip(words[::2], words[1::2], strict=True))
    if b"@partitions" not in stored or b"@version" not in stored:
        raise NoSchemaError(f"no schema of {keys.entity} is stored: it was dropped meanwhile")
    parts = keys.with_count(int(stored[b"@partitions"])).parts
    copies = [encode_call(COPY_SCHEMA, (part.schema,), words) for part in parts]
    held: list[Reply] = checked((yield Calls(COPY_SCHEMA, copies, _COPY_US + _FIELD_US * len(words))))
    newest = max(held)
    if newest > int(stored[b"@version"]):
        (draft,) = yield from _versions(keys.draft)
        if draft < newest:
            yield from _copied(parts[held.index(newest)].schema, keys.draft)
            return False
    yield from call(COPY_SCHEMA, encode_call(COPY_SCHEMA, (keys.root, keys.schemas), words))
    return True
