"""What `featurestore doctor` finds of a cluster: its nodes, its slots, the partitions, and the copies of schemas."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from featurestore.errors import FeatureStoreError, UnavailableError
from featurestore.keys import SLOTS, Keys
from featurestore.schema.stored import Schema
from featurestore.store.blocking import FeatureStore
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
from featurestore.store.nodes import node_of, primaries
from featurestore.store.publishing import stale_parts
from featurestore.transport.interface import Node

_UNEVEN = 1.25
_SILENT_S = 11  # a primary pings its replicas every 10 s
_ENOUGH = 100  # ids a partition, from which on it tells something how they are spread


class Asked(msgspec.Struct, frozen=True):
    """A node that answers.

    Attributes:
        node: The node.
        info: What INFO tells; None where the user may not ask.
    """

    node: Node
    info: Info | None


def node_findings(store: FeatureStore) -> Iterator[Finding]:
    """Check every node, and how they are arranged."""
    nodes = store.transport.nodes()
    asked: list[Asked] = []
    for node in nodes:
        try:
            asked.append(Asked(node, info_at(node.transport)))
        except UnavailableError as error:
            yield Finding(good=False, text=f"{node.address} ({node.role}) does not answer: {error}")
    primaries = [node for node in nodes if node.role == "primary"]
    yield from _slot_findings(primaries)
    yield from _replica_findings(nodes, primaries)
    versions = {_version(each.info) for each in asked if each.info is not None}
    if len(versions) > 1:
        text = f"the nodes are of several versions, {', '.join(sorted(versions))}: that is for the time of an upgrade"
        yield Finding(good=False, text=text)
    yield from _alike(asked, lambda each: [version_finding(each.info)] if each.info else [])
    yield from _alike(asked, _persistence)
    yield from _alike(asked, lambda each: [listpack_finding(each.node.transport)])
    yield from _alike([each for each in asked if each.node.role == "primary"], _coverage)
    yield from permitted("the nodes that the cluster lists", _listed_findings(asked, nodes))
    yield from _alike([each for each in asked if each.node.role == "primary"], least_replicas_findings)
    yield from _alike([each for each in asked if each.node.role == "replica"], lag_findings)
    yield from permitted("migrations of slots", _migration_findings(asked))
    yield from _alike(asked, lambda each: permitted("the clock", clock_findings(each.node.transport)))


def watched_findings(store: FeatureStore, sentinels: Sequence[str]) -> Iterator[Finding]:
    """Tell who is the primary and who its replicas are, where Sentinels or the servers themselves tell.

    Args:
        store: Over a transport to several servers that are no cluster.
        sentinels: Addresses of the Sentinels.
    """
    nodes = store.transport.nodes()
    asked: list[Asked] = []
    for node in nodes:
        try:
            asked.append(Asked(node, info_at(node.transport)))
        except UnavailableError as error:
            yield Finding(good=False, text=f"{node.address} ({node.role}) does not answer: {error}")
    primary = ", ".join(node.address for node in nodes if node.role == "primary")
    replicas = ", ".join(node.address for node in nodes if node.role == "replica")
    by = f"the Sentinels {', '.join(sentinels)} were asked: " if sentinels else ""
    found = f"{by}{primary} is the primary, with {f'the replicas {replicas}' if replicas else 'no replica'}"
    if replicas:
        yield Finding(good=True, text=found)
    else:
        yield Finding(good=False, text=f"{found}: when it is lost, all is; add one")
    yield from _alike([each for each in asked if each.node.role == "primary"], least_replicas_findings)
    yield from _alike([each for each in asked if each.node.role == "replica"], lag_findings)


def least_replicas_findings(each: Asked) -> Iterator[Finding]:
    """Tell whether a primary that is cut off from its replicas goes on acknowledging writes."""
    if each.info is None or not int(each.info.get("connected_slaves", 0)):
        return
    try:
        words = each.node.transport.command("CONFIG", "GET", "min-replicas-*")
    except FeatureStoreError as error:
        yield Finding(good=True, text=f"min-replicas-to-write is not for this user to see ({error})")
        return
    told = {name.decode(): int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
    least, lag = told.get("min-replicas-to-write", 0), told.get("min-replicas-max-lag", 0)
    if least and lag:
        text = f"min-replicas-to-write is {least}, min-replicas-max-lag {lag} s: cut off, a primary refuses writes"
    else:
        text = (
            "min-replicas-to-write is 0: cut off from its replicas, a primary acknowledges writes that are lost; 1, and"
            " min-replicas-max-lag 2, bound that, and FEATURESTORE_WAIT_REPLICAS does"
        )
    yield Finding(good=True, text=text)


def lag_findings(each: Asked) -> Iterator[Finding]:
    """Tell how far a replica is behind its primary."""
    if each.info is None:
        return
    silent = int(each.info.get("master_last_io_seconds_ago", 0))
    if each.info.get("master_link_status") == "down":
        text = "this replica has lost its primary: what it has gets older, and it is no good where that one is lost"
        yield Finding(good=False, text=f"{text}; mend the link")
    elif silent > _SILENT_S:
        text = f"this replica has heard nothing of its primary for {silent} s: what it has gets older"
        yield Finding(good=False, text=f"{text}; mend the link")
    else:
        yield Finding(good=True, text=f"replicas have heard of their primaries within {_SILENT_S} s")


def memory_of_nodes(store: FeatureStore, *, expires: bool) -> Iterator[Finding]:
    """Check the memory of every node that answers."""
    asked = []
    for node in store.transport.nodes():
        try:
            asked.append(Asked(node, info_at(node.transport)))
        except UnavailableError:
            continue  # that was told
    yield from _alike(asked, lambda each: memory_findings(each.info, expires=expires) if each.info else [])


def partition_findings(store: FeatureStore, schema: Schema) -> Iterator[Finding]:
    """Check how an entity's partitions lie, and that each has the schema."""
    keys, entity = store.keys, store.keys.entity
    if isinstance(keys, Keys):
        return
    nodes = [node for node in store.transport.nodes() if node.role == "primary"]
    count: dict[str, int] = dict.fromkeys((node.address for node in nodes), 0)
    ids = dict(count)
    for part in keys.parts:
        node = node_of(nodes, part)
        if node is not None:
            count[node.address] += 1
            ids[node.address] += int(store.transport.command("SCARD", part.members))
    yield _balance(entity, "partitions", count, "add nodes, or move slots so that each has as many")
    if sum(ids.values()) >= _ENOUGH * len(keys.parts):
        yield _balance(entity, "known ids", ids, "a set of ids is written elsewhere, or slots are not split evenly")
    stale = store.carry_out(stale_parts(keys, schema.version))
    if stale:
        where = ", ".join(sorted({node.address if (node := node_of(nodes, part)) else "nobody" for part in stale}))
        text = (
            f"{entity}: {len(stale)} of {len(keys.parts)} partitions have an old schema, or none, on {where}: give"
            " featurestore apply again"
        )
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"{entity}: all {len(keys.parts)} partitions have the schema")


def _balance(entity: str, what: str, found: Mapping[str, int], advice: str) -> Finding:
    mean = sum(found.values()) / len(found)
    fullest = max(found, key=lambda address: found[address])
    ratio = found[fullest] / mean if mean else 1.0
    text = f"{entity}: {fullest} has {found[fullest]:,} of {sum(found.values()):,} {what}, {ratio:.2f} times the mean"
    return Finding(good=True, text=text) if ratio <= _UNEVEN else Finding(good=False, text=f"{text}: {advice}")


def _slot_findings(primaries: Sequence[Node]) -> Iterator[Finding]:
    covered = sum(last - first + 1 for node in primaries for first, last in node.ranges)
    if covered < SLOTS:
        text = f"{SLOTS - covered} of {SLOTS} slots are with nobody: ids in them are not served; mend the cluster"
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"{len(primaries)} primaries have all {SLOTS} slots")


def _replica_findings(nodes: Sequence[Node], primaries: Sequence[Node]) -> Iterator[Finding]:
    with_replica = {tuple(node.ranges) for node in nodes if node.role == "replica"}
    alone = [node.address for node in primaries if node.ranges and tuple(node.ranges) not in with_replica]
    if alone:
        text = (
            f"{alone[0]} has no replica: when it is lost, its ids are; add one"
            if len(alone) == 1
            else f"{', '.join(alone)} have no replica: when one of them is lost, its ids are; add a replica to each"
        )
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text="every primary has a replica")


def confirming_findings(store: FeatureStore, wanted: int) -> Iterator[Finding]:
    """Check that every primary has as many replicas as have to confirm each write."""
    if not wanted:
        return
    short = []
    for node in primaries(store.transport):
        try:
            info = info_at(node.transport)
        except UnavailableError:
            continue  # that was told
        if info is not None:
            online = sum(name.startswith("slave") and "state=online" in text for name, text in info.items())
            if online < wanted:
                short.append(f"{node.address} has {online}")
    if short:
        text = (
            f"FEATURESTORE_WAIT_REPLICAS is {wanted}, and of replicas that are online {', '.join(short)}: no write"
            " there is confirmed; add replicas, or ask for fewer"
        )
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text=f"every primary has the {wanted} replicas that confirm writes")


def _persistence(each: Asked) -> Iterator[Finding]:
    if each.info is not None:
        found = persistence_finding(each.node.transport, each.info)
        if not found.good and each.node.role == "primary":
            text = (
                f"{found.text}. Restarted before the failover, this primary comes back empty, and its replicas empty"
                " themselves after it"
            )
            found = Finding(good=False, text=text)
        yield found


def _coverage(each: Asked) -> Iterator[Finding]:
    try:
        words = each.node.transport.command("CONFIG", "GET", "cluster-require-full-coverage")
    except FeatureStoreError as error:
        yield Finding(good=True, text=f"cluster-require-full-coverage is not for this user to see ({error})")
        return
    if words[1:] == [b"yes"]:
        text = "cluster-require-full-coverage is yes: a primary that is lost takes all ids with it; set no"
        yield Finding(good=False, text=text)
    else:
        yield Finding(good=True, text="cluster-require-full-coverage is no")


def _listed_findings(asked: Sequence[Asked], nodes: Sequence[Node]) -> Iterator[Finding]:
    """Name nodes that the cluster lists and has given up: they are in no topology."""
    if not asked:
        return
    known = {node.address for node in nodes}
    for line in asked[0].node.transport.command("CLUSTER", "NODES").decode().splitlines():
        name, address, flags, *_ = line.split(" ")
        place, given_up = address.partition("@")[0], {"fail", "noaddr"} & set(flags.split(","))
        if given_up and place not in known:
            text = f"{place} (a {'replica' if 'slave' in flags else 'primary'}, node {name[:8]}) is lost to the cluster"
            text += f" ({', '.join(sorted(given_up))}): start it again, or take it out by CLUSTER FORGET"
            yield Finding(good=False, text=text)


def _migration_findings(asked: Sequence[Asked]) -> Iterator[Finding]:
    moving = []
    for each in asked:
        if each.node.role != "primary":
            continue
        for line in each.node.transport.command("CLUSTER", "NODES").decode().splitlines():
            fields = line.split(" ")
            if "myself" in fields[2]:
                moving += [f"{field} on {each.node.address}" for field in fields[8:] if field.startswith("[")]
    if moving:
        text = f"slots are being moved, or were left so: {', '.join(moving[:5])}"
        yield Finding(good=False, text=f"{text}; redis-cli --cluster fix ends what was left")


def _alike(
    asked: Sequence[Asked], check: Callable[[Asked], Iterator[Finding] | Sequence[Finding]]
) -> Iterator[Finding]:
    """Check each node; tell once what is the same for several."""
    found: dict[tuple[bool, str], list[str]] = {}
    for each in asked:
        for finding in check(each):
            found.setdefault((finding.good, finding.text), []).append(f"{each.node.address} ({each.node.role})")
    roles = {each.node.role for each in asked}
    every = f"all {len(asked)} {f'{min(roles)}s'.replace('primarys', 'primaries') if len(roles) == 1 else 'nodes'}"
    for (good, text), addresses in found.items():
        whose = every if len(addresses) == len(asked) and len(asked) > 1 else ", ".join(addresses)
        yield Finding(good=good, text=f"{whose}: {text}")


def _version(info: Info) -> str:
    return f"{info.get('server_name', 'redis')} {info.get('valkey_version', info.get('redis_version', '?'))}"
