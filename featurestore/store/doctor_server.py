"""What `featurestore doctor` finds of one server, alone or a node of a cluster."""

import math
import time
from collections.abc import Iterator, Mapping

import msgspec

from featurestore.errors import AccessDeniedError, FeatureStoreError, UnavailableError
from featurestore.store.nodes import info_of
from featurestore.transport.interface import Transport

_LEAST_VERSION = (6, 2)
_LEAST_LISTPACK = 256  # a packed row of a score of features
_FULL = 0.9
_MOST_CLOCK_GAP_S = 1.0

Info = Mapping[str, str]
"""INFO's fields."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked.

    Attributes:
        good: Whether it is as it should be.
        text: What was found; where it is not good, also what to do about it.
    """

    good: bool
    text: str


def info_at(transport: Transport) -> Info | None:
    """Return INFO's fields; None if the user may not ask."""
    try:
        return info_of(transport.command("INFO"))
    except UnavailableError:
        raise
    except AccessDeniedError as error:
        if "NOPERM" not in str(error):
            raise  # a password is missing, or wrong
        return None
    except FeatureStoreError:  # renamed, as hosts of Redis do
        return None


def permitted(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; one that says why, if they cannot be read."""
    try:
        yield from findings
    except AccessDeniedError as error:
        yield Finding(good=True, text=f"{what} is not for this user to see ({error})")
    except UnavailableError as error:
        yield Finding(good=False, text=f"{what} cannot be read: {error}")
    except FeatureStoreError as error:
        yield Finding(good=False, text=f"{what} cannot be read: {error}; is the key something else's?")


def version_finding(info: Info, address: str = "") -> Finding:
    """Tell which server it is, and whether that is too old; the address, where nothing before it tells that."""
    at = f" at {address}" if address else ""
    name, version = (
        info.get("server_name", "Redis").capitalize(),
        info.get("valkey_version", info.get("redis_version", "?")),
    )
    numbers = info.get("redis_version", "0").split(".")
    known = tuple(int(number) for number in numbers[:2] if number.isdigit())
    if known < _LEAST_VERSION:
        return Finding(good=False, text=f"{name} {version}{at} is too old: 6.2 is the least that serves")
    return Finding(good=True, text=f"{name} {version} answers{at}")


def clock_findings(transport: Transport) -> Iterator[Finding]:
    """Compare the clocks: rows without an event time get Redis's time, rows of pipelines have the pipeline's."""
    before = time.time()
    seconds, microseconds = transport.command("TIME")
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


def memory_findings(info: Info, *, expires: bool) -> Iterator[Finding]:
    """Tell how much memory is used, and what becomes of the data when it is full."""
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


def persistence_finding(transport: Transport, info: Info) -> Finding:
    """Tell whether what is written outlives a restart."""
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
        saves = transport.command("CONFIG", "GET", "save")[1].decode()
    except (FeatureStoreError, IndexError):
        return Finding(
            good=True, text="there is no append-only file; whether there are RDB saves is not for this user to see"
        )
    if saves:
        text = f"what is written is kept by RDB saves ({saves}); a crash loses what came after the last: appendonly yes"
        return Finding(good=True, text=text)
    text = "nothing is kept on disk: a restart loses features and schema; set appendonly yes"
    return Finding(good=False, text=text)


def listpack_finding(transport: Transport) -> Finding:
    """Tell whether hashes stay compact."""
    try:
        reply = transport.command("CONFIG", "GET", "hash-max-*-value")
    except FeatureStoreError as error:
        return Finding(good=False, text=f"cannot read hash-max-listpack-value ({error}); it should be 1024")
    limit = max((int(value) for value in reply[1::2]), default=0)
    if limit < _LEAST_LISTPACK:
        text = f"hash-max-listpack-value is {limit}: packed rows are longer, so users take twice the memory; set 1024"
        return Finding(good=False, text=text)
    return Finding(good=True, text=f"hash-max-listpack-value is {limit}")
