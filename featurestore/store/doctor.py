"""`featurestore doctor`: checks of the server, its settings, the schemas and the data, each with what to do."""

import secrets
from collections.abc import Iterator, Mapping

from featurestore import native
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION
from featurestore.errors import AccessDeniedError, FeatureStoreError, NoSchemaError
from featurestore.keys import Keys
from featurestore.schema.stored import Schema
from featurestore.settings import CallBy
from featurestore.store.blocking import FeatureStore
from featurestore.store.doctor_nodes import (
    confirming_findings,
    memory_of_nodes,
    node_findings,
    partition_findings,
    watched_findings,
)
from featurestore.store.doctor_served import served_findings
from featurestore.store.doctor_server import (
    Finding,
    Info,
    clock_findings,
    info_at,
    listpack_finding,
    memory_findings,
    permitted,
    persistence_finding,
    version_finding,
)
from featurestore.store.functions import Command, NoFunctionsError, find_libraries
from featurestore.store.nodes import primaries
from featurestore.transport.interface import Replicas

_SAMPLE = 200
_BRING = ", and featurestore migrate brings those of another store"


def diagnose(
    store: FeatureStore, entity: str | None = None, *, call: CallBy = "scripts", confirmed_by: int = 0
) -> Iterator[Finding]:
    """Check the server, its settings, the schemas and a sample of the entities, and yield what was found.

    Nothing is written. Checks that the Redis user may not make are reported as such.

    Args:
        store: Of any entity, over a transport that calls by EVALSHA: others refuse servers that have no functions.
        entity: Whose schema and data are checked; all that have a schema when left out.
        call: What FEATURESTORE_CALL says.
        confirmed_by: What FEATURESTORE_WAIT_REPLICAS says.
    """
    clustered = store.transport.clustered
    info = None
    if clustered:
        yield from node_findings(store)
    else:
        info = info_at(store.transport)
        yield from _server_findings(store, info)
        if isinstance(store.transport, Replicas):
            sentinels = getattr(store.transport, "sentinels", ())
            yield from permitted("the replicas", watched_findings(store, sentinels))
        if info is not None and (_is_sentinel(info) or info.get("cluster_enabled") == "1"):
            return  # by this address nothing can be read
        yield from permitted("the clock", clock_findings(store.transport))
    yield from permitted("the replicas that confirm writes", confirming_findings(store, confirmed_by))
    yield _extension_finding()
    yield from permitted("the library of functions", _function_findings(store, call))
    known = _entities(store)
    found: list[tuple[FeatureStore, Schema]] = []
    for name in [entity] if entity else known or [store.keys.entity]:
        try:
            each = store.entity(name)
            found.append((each, each.schema()))
        except NoSchemaError as error:
            others = f"; there are schemas of {', '.join(known)}" if known else _BRING
            yield Finding(good=False, text=f"{error}{others}")
        except FeatureStoreError as error:
            yield Finding(good=False, text=f"{name}: {error}")
    expires = any(schema.ttl_ms for _, schema in found)
    yield from memory_of_nodes(store, expires=expires) if clustered else _keeping_findings(store, info, expires=expires)
    for each, schema in found:
        yield from _entity_findings(each, schema, call)


def _entity_findings(store: FeatureStore, schema: Schema, call: CallBy) -> Iterator[Finding]:
    name = store.keys.entity
    yield Finding(good=True, text=f"{name}: schema version {schema.version} with {len(schema.features)} features")
    if schema.retiring:
        going = " ".join(sorted(schema.retiring))
        text = f"{name}: {going} not served any more, but still in hashes: featurestore retire --entity {name} {going}"
        yield Finding(good=False, text=f"{text} goes on with that")
    yield from permitted(f"{name}: the partitions", partition_findings(store, schema))
    yield _permission_finding(store, call)
    yield from permitted(f"{name}: a sample of the ids", _sample_findings(store, schema.layout.encode()))
    for service in schema.logs:
        yield from permitted(f"{name}: what {service} was served", served_findings(store, schema, service))


def _keeping_findings(store: FeatureStore, info: Info | None, *, expires: bool) -> Iterator[Finding]:
    if info is not None:
        yield from memory_findings(info, expires=expires)
        yield persistence_finding(store.transport, info)
    yield listpack_finding(store.transport)


def _entities(store: FeatureStore) -> list[str]:
    try:
        return store.entities()
    except FeatureStoreError:
        return []  # reading the schema will say what is wrong


# The server


def _server_findings(store: FeatureStore, info: Info | None) -> Iterator[Finding]:
    if info is None:
        yield Finding(good=False, text="this user may not use INFO, so the server's state is unknown: allow +info")
        return
    address = getattr(store.transport, "address", "its address")
    yield version_finding(info, address)
    if _is_sentinel(info):
        text = (
            f"{address} is a Sentinel, which holds no data: REDIS_URL wants redis+sentinel://HOST:PORT/NAME, or the"
            " address of the primary that it watches"
        )
        yield Finding(good=False, text=text)
    elif info.get("cluster_enabled") == "1":
        text = (
            f"{address} is a node of a cluster, which has a part of the keys: REDIS_URL wants redis+cluster://HOST:PORT,"
            " which finds all nodes"
        )
        yield Finding(good=False, text=text)
    else:
        yield _role_finding(info)


def _is_sentinel(info: Mapping[str, str]) -> bool:
    return "sentinel" in {info.get("redis_mode"), info.get("server_mode")}  # Valkey has the other word


def _role_finding(info: Mapping[str, str]) -> Finding:
    if info.get("role") != "slave":
        replicas = info.get("connected_slaves", "0")
        return Finding(good=True, text=f"it is a primary with {replicas} replicas")
    primary = f"{info.get('master_host')}:{info.get('master_port')}"
    if info.get("master_link_status") != "up":
        text = f"it is a replica that has lost its primary {primary}: what it serves gets older; mend the link"
    else:
        text = (
            f"it is a replica of {primary}: reads are served, writes fail; REDIS_URL wants the primary where one writes"
        )
    return Finding(good=False, text=text)


def _extension_finding() -> Finding:
    advice = native.advice()
    return Finding(advice is None, advice or "the C extensions are built")


def _function_findings(store: FeatureStore, call: CallBy) -> Iterator[Finding]:
    """Tell whether functions can be called, where they are to be, and whether a library is of another build."""
    for node in primaries(store.transport):
        where = f" on {node.address}" if store.transport.clustered else ""
        yield from _functions_on(node.transport.command, call, where)


def _functions_on(command: Command, call: CallBy, where: str) -> Iterator[Finding]:
    try:
        found = [library for library in find_libraries(command) if library.name == LIBRARY]
    except NoFunctionsError as error:
        if call == "functions":
            yield Finding(good=False, text=f"FEATURESTORE_CALL=functions, and {error}: set FEATURESTORE_CALL=scripts")
        return
    if any(library.serves for library in found):
        yield Finding(good=True, text=f"the library of functions {found[0]} serves{where}")
    elif found:
        text = (
            f"the library of functions {found[0]}{where} is older than this package, or of another build of its version"
        )
        yield Finding(good=False, text=f"{text}: run featurestore functions load")
    elif call == "functions":
        text = f"FEATURESTORE_CALL=functions, and the library {LIBRARY} is not there{where}"
        yield Finding(good=False, text=f"{text}: run featurestore functions load")


# The commands of the scripts and their callers. M: the set of known ids. S: the schema. X: an id that nobody has.
# K: the key of X.
_CALLS: Mapping[CallBy, tuple[str, str]] = {
    "scripts": ("EVALSHA 0 0", "SCRIPT LOAD X"),
    "functions": (f"FCALL {VERSION_FUNCTION} 0", "FUNCTION LOAD X"),
}
"""FEATURESTORE_CALL → what calls, and what loads what is called."""

_READS = (
    "SISMEMBER M X", "SMISMEMBER M X", "SCARD M", "HGET K f", "HMGET K f", "HGETALL S", "HEXISTS K f",
    "EXISTS K", "TYPE K", "TIME",
)  # fmt: skip
_WRITES = ("HDEL K f", "DEL K", "SREM M X", "PEXPIRE K 1000", "PERSIST K")  # these change nothing
_CHANGES = ("HSET K f v", "SADD M X", "PEXPIREAT K 1")


def _permission_finding(store: FeatureStore, call: CallBy) -> Finding:
    """Try the scripts' commands as this user. Those that change data run as ACL DRYRUN, if Redis (7.0) allows it."""
    calls, loads = _CALLS[call]
    nobody = secrets.token_hex(8)
    keys = store.parts()[0]
    names = {"M": keys.members, "S": keys.schema, "K": keys.features(nobody), "X": nobody}
    tried = [[names.get(word, word) for word in line.split()] for line in (calls, *_READS, *_WRITES)]
    refused = [words[0] for words in tried if not _may(store, words)]
    try:
        user = store.transport.command("ACL", "WHOAMI").decode()
        for line in (loads, *_CHANGES):
            words = [names.get(word, word) for word in line.split()]
            if store.transport.command("ACL", "DRYRUN", user, *words) != b"OK":
                refused.append(words[0])
    except FeatureStoreError:
        pass
    entity = keys.entity
    if refused:
        text = f"{entity}: this user may not {', '.join(refused)} on {names['M']} and {keys.features('*')}"
        return Finding(good=False, text=f"{text}, as the scripts do: widen its ACL, or use it for reads alone")
    return Finding(good=True, text=f"{entity}: this user may do what the scripts do")


def _may(store: FeatureStore, words: list[str]) -> bool:
    try:
        store.transport.command(*words)
    except AccessDeniedError:
        return False
    except FeatureStoreError:
        pass  # a replica, full memory: other checks report those
    return True


# The data


def _sample_findings(store: FeatureStore, layout: bytes) -> Iterator[Finding]:
    command, entity = store.transport.command, store.keys.entity
    keys = [key for part in store.parts() for key in _sampled(store, part)]
    if not keys:
        yield Finding(good=True, text=f"{entity}: no id is known yet")
        return
    types = [command("TYPE", key) for key in keys]
    hashes = [key for key, kind in zip(keys, types, strict=True) if kind == b"hash"]
    gone, sampled = types.count(b"none"), f"of {len(keys)} sampled ids"
    if gone:
        text = (
            f"{entity}: {gone} {sampled} have no features: expired, evicted, or removed around delete_entity. They are"
            f" answered as unknown, but counted: featurestore sweep --entity {entity} takes them out"
        )
        yield Finding(good=False, text=text)
    if len(hashes) + gone < len(keys):
        strange = [key for key, kind in zip(keys, types, strict=True) if kind not in {b"hash", b"none"}]
        text = f"{entity}: {len(strange)} {sampled} have a key that is no hash, such as {strange[0]!r}"
        yield Finding(good=False, text=f"{text}: something else writes there; they are unknown, and take no features")
    if hashes:
        yield from _hash_findings(store, hashes, layout)


def _sampled(store: FeatureStore, part: Keys) -> list[bytes]:
    """Return the keys of some ids of a partition."""
    count = max(1, _SAMPLE // len(store.parts()))
    return [part.features_of_raw(each) for each in store.transport.command("SRANDMEMBER", part.members, count)]


def _hash_findings(store: FeatureStore, hashes: list[bytes], layout: bytes) -> Iterator[Finding]:
    command, entity = store.transport.command, store.keys.entity
    packed = sum((command("HGET", key, "@row") or b"").startswith(layout) for key in hashes)
    hint = "" if packed == len(hashes) else f": run featurestore repack --entity {entity}"
    yield Finding(
        packed == len(hashes), f"{entity}: {packed} of {len(hashes)} sampled hashes have a row of this layout{hint}"
    )
    size = sum(command("MEMORY", "USAGE", key) or 0 for key in hashes) / len(hashes)
    spread = sum(command("OBJECT", "ENCODING", key) == b"hashtable" for key in hashes)
    hint = "" if not spread else f"; {spread} of {len(hashes)} in the large encoding, see hash-max-listpack-value"
    yield Finding(not spread, f"{entity}: {size:.0f} bytes a hash on average{hint}")
