"""Features and entities that go: at once for those who read and write, and out of the hashes in small steps."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from featurestore.contract.costs import clear_us, rows_per_call
from featurestore.contract.resp import Word
from featurestore.contract.scripts import (
    APPLY_SCHEMA,
    CLEAR_HASHES,
    DROP_ENTITY,
    FREE_NAMES,
    RETIRE_FEATURES,
    Script,
)
from featurestore.errors import BadArgumentsError, NoSchemaError, UnavailableError, UndeclaredFeatureError
from featurestore.keys import EntityKeys, Keys, PartitionedKeys, keys_of
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore
from featurestore.store.publishing import changed_everywhere, refreshed_parts, stale_parts, stored_count
from featurestore.store.stored_keys import counted_of, hashes_of, served_of

_NO_TIME = "0"
_DROPPING = "@dropping"
_MOST_FREED = 2000  # words of a call of FREE_NAMES: 1000 names, and a token for each


class ClearProgress(msgspec.Struct, frozen=True):
    """How far the clearing of hashes is.

    Attributes:
        seen: Hashes looked at. One may be seen twice if the keys of Redis grow meanwhile.
        changed: Hashes that were changed or removed.
        freed: Names that can be declared again: none before the last step.
    """

    seen: int
    changed: int
    freed: int = 0


def services_naming(store: FeatureStore, features: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Return the services, of all entities, that list one of the entity's features: entity → service → its whole list.

    Args:
        store: The entity's store.
        features: Names of its features.
    """
    entity = store.keys.entity
    found: dict[str, dict[str, list[str]]] = {}
    for name in store.entities():
        prefixes = (f"{entity}:", "") if name == entity else (f"{entity}:",)
        wanted = {f"{prefix}{feature}" for prefix in prefixes for feature in features}
        schema = _schema_of(store, name)
        naming = {service: names for service, names in schema.services.items() if wanted & set(names)}
        if naming:
            found[name] = naming
    return found


def retire(store: FeatureStore, features: Sequence[str], *, from_services: bool = False) -> int:
    """Take features out of the schema, and so out of all reads and writes; return the schema's version.

    What is stored of them stays until `clear` has taken it out. Features that are being retired already may be among
    them.

    Args:
        store: The entity's store.
        features: Their names.
        from_services: Whether they leave the services that list them, of all entities. A service that lists nothing
            else is removed.

    Raises:
        BadArgumentsError: A service lists one of them, and `from_services` is not set; or more than 2000 features
            would be being retired: `clear` comes first then.
        UndeclaredFeatureError: One is neither declared nor being retired.
    """
    schema = store.schema()
    for feature in features:
        if feature not in schema.features and feature not in schema.retiring:
            raise UndeclaredFeatureError(f"{feature} is not declared in the schema of {store.keys.entity}")
    naming = services_naming(store, features)
    if naming and not from_services:
        listed = ", ".join(f"{name}:{service}" for name, services in naming.items() for service in services)
        raise BadArgumentsError(f"services list what is to be retired: {listed}; take it out of them first")
    gone = {f"{store.keys.entity}:{feature}" for feature in features}
    for name, services in naming.items():
        if name != store.keys.entity:
            _change_services(
                store,
                name,
                {service: [each for each in names if each not in gone] for service, names in services.items()},
            )
    words: list[Word] = [*(["?from_services"] if from_services else []), *features]
    version = _change(store, store.keys, RETIRE_FEATURES, words)
    store.schema()
    return version


def remove_services(store: FeatureStore, services: Sequence[str]) -> None:
    """Take services out of the schema; what is stored of their features stays.

    Raises:
        UndeclaredFeatureError: There is no service of that name. None is removed then.
    """
    known = store.schema().services
    for service in services:
        if service not in known:
            raise UndeclaredFeatureError(f"no service {service} is declared in the schema of {store.keys.entity}")
    _change_services(store, store.keys.entity, {service: [] for service in services})
    store.schema()


def drop(store: FeatureStore) -> None:
    """Take away an entity's schema and its known ids: reads and writes fail from now on, as where there never was one.

    Its hashes stay until `clear` has removed them. Where the entity is being dropped already nothing is done, but that
    in a cluster the partitions follow that do not know yet.

    Args:
        store: The entity's store; made with `keys`, since an entity that is being dropped is not found by its name.

    Raises:
        NoSchemaError: There is no such entity.
    """
    keys = store.keys
    if isinstance(keys, Keys):
        store.transport.run(DROP_ENTITY, [keys.members, keys.schema], [])
        return
    parts = _all_parts(store, keys)
    for schema in (keys.draft, keys.root):  # nobody changes or reads it from now on, whoever starts
        _drop_at(store, schema)
    for part in parts:
        _drop_at(store, part.schema)


def is_dropping(store: FeatureStore) -> bool:
    """Return whether the entity is being dropped: its hashes wait for `clear`."""
    return store.transport.command("HGET", store.keys.root, _DROPPING, writes=True) is not None


def clear(store: FeatureStore, *, pause: float = 0.0) -> Iterator[ClearProgress]:
    """Take what was retired or dropped out of all hashes, and yield the progress after each step.

    What is known of counted entries of streams goes with a dropped entity, and so does what its services were served.

    All keys of Redis are scanned: a hash may be there whose id is not known. Each step is one script call of about
    1 ms, so that other calls are served in between. At the end the names are made free. A run that was interrupted is
    started again from the beginning: hashes that are done take little.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    keys = store.keys
    tokens = _tokens(store)
    if not tokens:
        return
    names = [word for word in tokens if word != _DROPPING]
    features = store.for_writes().schema().features if names else {}
    if isinstance(keys, Keys):
        parts: Sequence[Keys] = keys.parts
    else:
        parts = _all_parts(store, keys)
        _prepare_parts(store, parts, dropped=not names)
    in_call = rows_per_call(clear_us(features, len(names)))
    seen = changed = 0
    for part, found in hashes_of(store.transport, parts, pause):
        for first in range(0, len(found), in_call):
            hashes = found[first : first + in_call]
            ids: list[Word] = [part.id_of(key) for key in hashes]
            changed += store.transport.run(CLEAR_HASHES, [part.members, part.schema, *hashes], ids)
            seen += len(hashes)
            yield ClearProgress(seen, changed)
            time.sleep(pause)
    if _DROPPING in tokens:
        for some in (counted_of, served_of):  # in a new entity of that name both begin anew
            for _, found in some(store.transport, parts, pause):
                store.transport.command("UNLINK", *found)
    yield ClearProgress(seen, changed, _free(store, parts, tokens))


def _free(store: FeatureStore, parts: Sequence[Keys], tokens: Mapping[str, str]) -> int:
    """Make the names free for others; return how many."""
    keys = store.keys
    words: list[Word] = [word for name, token in tokens.items() for word in (name, token)]
    if isinstance(keys, PartitionedKeys) and _DROPPING in tokens:
        for schema in (*(part.schema for part in parts), keys.draft):
            token = store.transport.command("HGET", schema, _DROPPING, writes=True)
            if token is not None:
                store.transport.run(FREE_NAMES, [schema], [_DROPPING, token])
        return int(store.transport.run(FREE_NAMES, [keys.root, keys.schemas], words))  # last: until then it goes on
    if isinstance(keys, PartitionedKeys):
        late = store.carry_out(stale_parts(keys, store.for_writes().schema().version))
        if late:
            raise UnavailableError(
                f"{len(late)} partitions have lost the newest schema of {keys.entity} meanwhile, as a failover may do,"
                " and may have taken values of what is retired: give the same command again"
            )
    freed = 0
    for first in range(0, len(words), _MOST_FREED):
        freed += _change(store, keys, FREE_NAMES, words[first : first + _MOST_FREED])
    return freed


def _prepare_parts(store: FeatureStore, parts: Sequence[Keys], *, dropped: bool) -> None:
    """Make sure that every partition knows what is retired or dropped, before the first hash is cleared."""
    keys = store.keys
    if not isinstance(keys, PartitionedKeys):
        return
    if dropped:
        for schema in (keys.draft, *(part.schema for part in parts)):
            _drop_at(store, schema)
    elif not store.carry_out(refreshed_parts(keys)):
        raise UnavailableError(f"the schema of {keys.entity} changes just now: give the same command again")


def _drop_at(store: FeatureStore, schema: str) -> None:
    """Drop the copy of a schema at one key, with the set of ids beside it."""
    members, dropping = store.transport.command("HMGET", schema, "@members_key", _DROPPING, writes=True)
    if dropping is not None:
        return
    if members is None:  # it was lost, with all that was there; the token keeps others from bringing it back meanwhile
        store.transport.command("HSETNX", schema, _DROPPING, _NO_TIME)
        return
    store.transport.run(DROP_ENTITY, [members, schema], [])


def _all_parts(store: FeatureStore, keys: PartitionedKeys) -> Sequence[Keys]:
    """Return the keys of every partition, also where the entity is being dropped."""
    return keys.with_count(keys.count or store.carry_out(stored_count(keys))).parts


def _tokens(store: FeatureStore) -> dict[str, str]:
    """Return what is being retired: name → token; where the entity is being dropped, that alone."""
    dropping, retiring = store.transport.command("HMGET", store.keys.root, _DROPPING, "@retiring", writes=True)
    if dropping is not None:
        return {_DROPPING: dropping.decode()}
    words = msgspec.json.decode(retiring or b"[]", type=list[str])
    return dict(zip(words[::2], words[1::2], strict=True))


def _schema_of(store: FeatureStore, name: str) -> Schema:
    try:
        return Schema.from_reply(name, store.transport.command("HGETALL", _keys(store, name).root, writes=True))
    except NoSchemaError:  # it was dropped just now
        return Schema({}, 0, "")


def _change_services(store: FeatureStore, name: str, services: Mapping[str, Sequence[str]]) -> None:
    """Give services other features; what is kept of what they are served stays as it is."""
    words: list[Word] = []
    for service, features in services.items():
        (log,) = store.transport.command("HMGET", _keys(store, name).root, f"@log:{service}", writes=True)
        words += (f"@log:{service}", log) if features and log else ()
        words += [f"@service:{service}", msgspec.json.encode(features).decode() if features else ""]
    _change(store, _keys(store, name), APPLY_SCHEMA, words)


def _change(store: FeatureStore, keys: EntityKeys, script: Script, words: Sequence[Word]) -> int:
    """Change an entity's schema by a script; return what the script says."""
    if isinstance(keys, PartitionedKeys):
        return store.carry_out(changed_everywhere(keys, script, words))
    with_set = [keys.schemas] if script is not RETIRE_FEATURES else []
    return int(store.transport.run(script, [keys.schema, *with_set], words))


def _keys(store: FeatureStore, name: str) -> EntityKeys:
    return keys_of(name, clustered=store.transport.clustered)
