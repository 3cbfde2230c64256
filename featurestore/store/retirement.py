"""Features and entities that go: at once for those who read and write, and out of the hashes in small steps."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from featurestore.contract.costs import clear_us, rows_per_call
from featurestore.contract.resp import Word
from featurestore.contract.scripts import APPLY_SCHEMA, CLEAR_HASHES, DROP_ENTITY, FREE_NAMES, RETIRE_FEATURES
from featurestore.errors import BadArgumentsError, NoSchemaError, UndeclaredFeatureError
from featurestore.keys import MAX_ID_BYTES, SCHEMAS, Keys
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore

_SCAN_COUNT = 500
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
    words = [*(["?from_services"] if from_services else []), *features]
    version = store.transport.run(RETIRE_FEATURES, [store.keys.schema], words)
    store.schema()
    return int(version)


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

    Its hashes stay until `clear` has removed them. Where the entity is being dropped already nothing is done.

    Args:
        store: The entity's store; made with `keys`, since an entity that is being dropped is not found by its name.

    Raises:
        NoSchemaError: There is no such entity.
    """
    store.transport.run(DROP_ENTITY, [store.keys.members, store.keys.schema], [])


def is_dropping(store: FeatureStore) -> bool:
    """Return whether the entity is being dropped: its hashes wait for `clear`."""
    return store.transport.command("HGET", store.keys.schema, _DROPPING) is not None


def clear(store: FeatureStore, *, pause: float = 0.0) -> Iterator[ClearProgress]:
    """Take what was retired or dropped out of all hashes, and yield the progress after each step.

    What is known of counted entries of streams goes with a dropped entity.

    All keys of Redis are scanned: a hash may be there whose id is not known. Each step is one script call of about
    1 ms, so that other calls are served in between. At the end the names are made free. A run that was interrupted is
    started again from the beginning: hashes that are done take little.

    Args:
        store: The entity's store.
        pause: Seconds to wait after each step.
    """
    schema_key, members = store.keys.schema, store.keys.members
    tokens = _tokens(store)
    if not tokens:
        return
    names = [word for word in tokens if word != _DROPPING]
    features = store.schema().features if names else {}
    in_call = rows_per_call(clear_us(features, len(names)))
    seen = changed = 0
    for keys in _hashes(store, pause):
        for first in range(0, len(keys), in_call):
            part = keys[first : first + in_call]
            ids: list[Word] = [store.keys.id_of(key) for key in part]
            changed += store.transport.run(CLEAR_HASHES, [members, schema_key, *part], ids)
            seen += len(part)
            yield ClearProgress(seen, changed)
            time.sleep(pause)
    if _DROPPING in tokens:
        _remove_counted(store, pause)
    words: list[Word] = [word for name, token in tokens.items() for word in (name, token)]
    freed = 0
    for first in range(0, len(words), _MOST_FREED):
        freed += store.transport.run(FREE_NAMES, [schema_key, SCHEMAS], words[first : first + _MOST_FREED])
    yield ClearProgress(seen, changed, freed)


def _remove_counted(store: FeatureStore, pause: float) -> None:
    """Remove what is known of counted entries of streams: in a new entity of that name they count anew."""
    cursor, pattern = b"", store.keys.counted("*")
    while cursor != b"0":
        cursor, keys = store.transport.command(
            *("SCAN", cursor or "0", "MATCH", pattern, "COUNT", _SCAN_COUNT, "TYPE", "set")
        )
        if keys:
            store.transport.command("UNLINK", *keys)
        time.sleep(pause)


def _tokens(store: FeatureStore) -> dict[str, str]:
    """Return what is being retired: name → token; where the entity is being dropped, that alone."""
    dropping, retiring = store.transport.command("HMGET", store.keys.schema, _DROPPING, "@retiring")
    if dropping is not None:
        return {_DROPPING: dropping.decode()}
    words = msgspec.json.decode(retiring or b"[]", type=list[str])
    return dict(zip(words[::2], words[1::2], strict=True))


def _hashes(store: FeatureStore, pause: float) -> Iterator[list[bytes]]:
    """Yield the keys that are formed like those of the entity's hashes, some at a time."""
    cursor, pattern = b"", store.keys.features("*")
    while cursor != b"0":
        cursor, keys = store.transport.command("SCAN", cursor or "0", "MATCH", pattern, "COUNT", _SCAN_COUNT)
        found = [key for key in keys if 0 < len(store.keys.id_of(key)) <= MAX_ID_BYTES]
        if found:
            yield found
        else:
            time.sleep(pause)


def _schema_of(store: FeatureStore, name: str) -> Schema:
    try:
        return Schema.from_reply(name, store.transport.command("HGETALL", Keys(name).schema))
    except NoSchemaError:  # it was dropped just now
        return Schema({}, 0, "")


def _change_services(store: FeatureStore, name: str, services: Mapping[str, Sequence[str]]) -> None:
    words: list[Word] = []
    for service, features in services.items():
        words += [f"@service:{service}", msgspec.json.encode(features).decode() if features else ""]
    store.transport.run(APPLY_SCHEMA, [Keys(name).schema, SCHEMAS], words)
