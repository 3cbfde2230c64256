"""`featurestore doctor`: checks of the server, its settings, the schemas and the data, each with what to do."""

import math
import secrets
import time
from collections.abc import Iterator, Mapping

import msgspec

from featurestore import native
from featurestore.contract.library import LIBRARY, VERSION_FUNCTION
from featurestore.errors import AccessDeniedError, FeatureStoreError, NoSchemaError, UnavailableError
from featurestore.schema.stored import Schema
from featurestore.settings import CallBy
from featurestore.store.blocking import FeatureStore
from featurestore.store.functions import NoFunctionsError, find_libraries

_SAMPLE = 200
_LEAST_VERSION = (6, 2)
_LEAST_LISTPACK = 256  # a packed row of a score of features
_FULL = 0.9
_MOST_CLOCK_GAP_S = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked.

    Attributes:
        good: Whether it is as it should be.
        text: What was found; where it is not good, also what to do about it.
    """

    good: bool
    text: str


def diagnose(store: FeatureStore, entity: str | None = None, *, call: CallBy = "scripts") -> Iterator[Finding]:
    """Check the server, its settings, the schemas and a sample of the entities, and yield what was found.

    Nothing is written. Checks that the Redis user may not make are reported as such.

    Args:
        store: Of any entity, over a transport that calls by EVALSHA: others refuse servers that have no functions.
        entity: Whose schema and data are checked; all that have a schema when left out.
        call: What FEATURESTORE_CALL says.
    """
    info = _info(store)
    if info is None:
        yield Finding(good=False, text="this user may not use INFO, so the server's state is unknown: allow +info")
    else:
        yield from _server_findings(store, info)
        if _is_sentinel(info):
            return  # it has no data, and knows no other command
    yield from _permitted("the clock", _clock_findings(store))
    yield _extension_finding()
    yield from _permitted("the library of functions", _function_findings(store, call))
    known = _entities(store)
    found: list[tuple[FeatureStore, Schema]] = []
    for name in [entity] if entity else known or [store.keys.entity]:
        try:
            each = store.entity(name)
            found.append((each, each.schema()))
        except NoSchemaError as error:
            others = f"; there are schemas of {', '.join(known)}" if known else ""
            yield Finding(good=False, text=f"{error}{others}")
        except FeatureStoreError as error:
            yield Finding(good=False, text=f"{name}: {error}")
    if info is not None:
        yield from _memory_findings(info, expires=any(schema.ttl_ms for _, schema in found))
        yield _persistence_finding(store, info)
    yield _listpack_finding(store)
    for each, schema in found:
        name = each.keys.entity
        text = f"{name}: schema version {schema.version} with {len(schema.features)} features"
        yield Finding(good=True, text=text)
        if schema.retiring:
            going = " ".join(sorted(schema.retiring))
            text = (
                f"{name}: {going} not served any more, but still in hashes: featurestore retire --entity {name} {going}"
            )
            yield Finding(good=False, text=f"{text} goes on with that")
        yield _permission_finding(each, call)
        yield from _permitted(f"{name}: a sample of the ids", _sample_findings(each, schema.layout.encode()))


def _info(store: FeatureStore) -> Mapping[str, str] | None:
    """Return INFO's fields; None if the user may not ask."""
    try:
        text = store.transport.command("INFO").decode(errors="replace")
    except UnavailableError:
        raise
    except AccessDeniedError as error:
        if "NOPERM" not in str(error):
            raise  # a password is missing, or wrong
        return None
    except FeatureStoreError:  # renamed, as hosts of Redis do
        return None
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, separator, value in pairs if separator}


def _permitted(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; one that says why, if they cannot be read."""
    try:
        yield from findings
    except AccessDeniedError as error:
        yield Finding(good=True, text=f"{what} is not for this user to see ({error})")
    except FeatureStoreError as error:
        yield Finding(good=False, text=f"{what} cannot be read: {error}; is the key something else's?")


def _entities(store: FeatureStore) -> list[str]:
    try:
        return store.entities()
    except FeatureStoreError:
        return []  # reading the schema will say what is wrong


# The server


def _server_findings(store: FeatureStore, info: Mapping[str, str]) -> Iterator[Finding]:
    name, version = (
        info.get("server_name", "Redis").capitalize(),
        info.get("valkey_version", info.get("redis_version", "?")),
    )
    address = getattr(store.transport, "address", "its address")
    numbers = info.get("redis_version", "0").split(".")
    known = tuple(int(number) for number in numbers[:2] if number.isdigit())
    if known < _LEAST_VERSION:
        yield Finding(good=False, text=f"{name} {version} at {address} is too old: 6.2 is the least that serves")
    else:
        yield Finding(good=True, text=f"{name} {version} answers at {address}")
    if _is_sentinel(info):
        text = (
            f"{address} is a Sentinel, which holds no data: REDIS_URL wants the address of the primary that it watches"
        )
        yield Finding(good=False, text=text)
    elif info.get("cluster_enabled") == "1":
        text = (
            "this is a Redis Cluster, where the keys of one call are on several nodes and scripts fail: use one server"
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


def _clock_findings(store: FeatureStore) -> Iterator[Finding]:
    """Compare the clocks: rows without an event time get Redis's time, rows of pipelines have the pipeline's."""
    before = time.time()
    seconds, microseconds = store.transport.command("TIME")
    after = time.time()
    there = int(seconds) + int(microseconds) / 1e6
    gap = there - after if there > after else min(there - before, 0.0)
    if abs(gap) > _MOST_CLOCK_GAP_S:
        way = "ahead of" if gap > 0 else "behind"
        text = (
            f"Redis's clock is {abs(gap):.1f} s {way} this machine's: event times are compared with it, and ages are"
            " told by it; set both by NTP"
        )
        yield Finding(good=False, text=text)
        return
    yield Finding(good=True, text=f"Redis's clock and this machine's differ by {abs(gap):.1f} s")


def _extension_finding() -> Finding:
    advice = native.advice()
    return Finding(advice is None, advice or "the C extensions are built")


def _function_findings(store: FeatureStore, call: CallBy) -> Iterator[Finding]:
    """Tell whether functions can be called, where they are to be, and whether a library is of another build."""
    try:
        found = [library for library in find_libraries(store.transport.command) if library.name == LIBRARY]
    except NoFunctionsError as error:
        if call == "functions":
            yield Finding(good=False, text=f"FEATURESTORE_CALL=functions, and {error}: set FEATURESTORE_CALL=scripts")
        return
    if any(library.serves for library in found):
        yield Finding(good=True, text=f"the library of functions {found[0]} serves")
    elif found:
        text = f"the library of functions {found[0]} is older than this package, or of another build of its version"
        yield Finding(good=False, text=f"{text}: run featurestore functions load")
    elif call == "functions":
        text = f"FEATURESTORE_CALL=functions, and the library {LIBRARY} is not there: run featurestore functions load"
        yield Finding(good=False, text=text)


# Its settings


def _memory_findings(info: Mapping[str, str], *, expires: bool) -> Iterator[Finding]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    policy, evicted = info.get("maxmemory_policy", "noeviction"), int(info.get("evicted_keys", 0))
    if most and policy.startswith("allkeys"):
        text = (
            f"maxmemory-policy is {policy}: when memory is full, Redis drops features, or the set of known ids, or the"
            " schema, and tells nobody; set noeviction"
        )
        yield Finding(good=False, text=text)
    elif most and policy.startswith("volatile") and expires:
        text = (
            f"maxmemory-policy is {policy}, and a schema has a ttl: when memory is full, Redis drops entities before"
            " their time; set noeviction"
        )
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"maxmemory-policy is {policy}{'' if most else ', and maxmemory is not set'}")
    if evicted:
        text = (
            f"{evicted} keys were evicted since the server started: write the features again, and take ids without"
            " features out by featurestore sweep"
        )
        yield Finding(good=False, text=text)
    limit = most or int(info.get("total_system_memory", 0))
    whose = "maxmemory" if most else "the machine's memory"
    if limit and used > _FULL * limit:
        text = f"{_mb(used)} of {_mb(limit)} MB ({whose}) are used: writes fail when it is full; raise it, or delete"
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"{_mb(used)} of {_mb(limit)} MB ({whose}) are used")


def _mb(size: int) -> str:
    return f"{math.ceil(size / 2**20):,}"


def _persistence_finding(store: FeatureStore, info: Mapping[str, str]) -> Finding:
    appends = info.get("aof_enabled") == "1"
    failed = [
        what
        for what, field in (("RDB save", "rdb_last_bgsave_status"), ("append", "aof_last_write_status"))
        if info.get(field, "ok") != "ok"
    ]
    if failed:
        text = f"the last {' and the last '.join(failed)} failed, and Redis may refuse writes: see its log and disk"
        return Finding(good=False, text=text)
    if appends:
        return Finding(good=True, text="what is written is kept in an append-only file")
    try:
        saves = store.transport.command("CONFIG", "GET", "save")[1].decode()
    except (FeatureStoreError, IndexError):
        return Finding(
            good=True, text="there is no append-only file; whether there are RDB saves is not for this user to see"
        )
    if saves:
        text = f"what is written is kept by RDB saves ({saves}); a crash loses what came after the last: appendonly yes"
        return Finding(good=True, text=text)
    text = "nothing is kept on disk: a restart loses features and schema; set appendonly yes"
    return Finding(good=False, text=text)


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
    names = {"M": store.keys.members, "S": store.keys.schema, "K": store.keys.features(nobody), "X": nobody}
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
    entity = store.keys.entity
    if refused:
        text = f"{entity}: this user may not {', '.join(refused)} on {names['M']} and {store.keys.features('*')}"
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


def _listpack_finding(store: FeatureStore) -> Finding:
    try:
        reply = store.transport.command("CONFIG", "GET", "hash-max-*-value")
    except FeatureStoreError as error:
        return Finding(good=False, text=f"cannot read hash-max-listpack-value ({error}); it should be 1024")
    limit = max((int(value) for value in reply[1::2]), default=0)
    if limit < _LEAST_LISTPACK:
        text = f"hash-max-listpack-value is {limit}: packed rows are longer, so users take twice the memory; set 1024"
        return Finding(good=False, text=text)
    return Finding(good=True, text=f"hash-max-listpack-value is {limit}")


# The data


def _sample_findings(store: FeatureStore, layout: bytes) -> Iterator[Finding]:
    command, entity = store.transport.command, store.keys.entity
    ids = command("SRANDMEMBER", store.keys.members, _SAMPLE)
    if not ids:
        yield Finding(good=True, text=f"{entity}: no id is known yet")
        return
    keys = [store.keys.features_of_raw(raw_id) for raw_id in ids]
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
