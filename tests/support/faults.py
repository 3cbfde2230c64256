"""What goes wrong on servers, each fault as a block: it happens at the start, and is repaired at the end."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import redis

from featurestore.keys import keys_of, slot_of
from support.cluster import Cluster, Node, Watched, ask
from support.servers import Server, wait_until

MOVED_SLOTS = 1024
_ROOT = keys_of("user", clustered=True).root
_AT_ONCE = 10  # keys in one MIGRATE, as redis-cli has it


def victim(cluster: Cluster) -> Node:
    """Return the primary that hurts most: the one that has the root key of the schema, too."""
    return cluster.primary_of(slot_of(_ROOT.encode()))


def last(seconds: float) -> None:
    """Let a fault last that long."""
    threading.Event().wait(seconds)


@contextlib.contextmanager
def nothing(_cluster: Cluster) -> Iterator[None]:
    """Break nothing: what is seen then is the machine's own."""
    last(3)
    yield


@contextlib.contextmanager
def killed_primary(cluster: Cluster) -> Iterator[None]:
    """Kill a primary; start it again once a replica has taken over and the block has ended."""
    node = victim(cluster)
    (replica,) = cluster.replicas_of(node)
    node.stop()
    wait_until(lambda: replica.is_primary, what="a replica that takes over")
    yield
    node.start()


@contextlib.contextmanager
def killed_replica(cluster: Cluster) -> Iterator[None]:
    """Kill a replica of that primary; start it again at the end."""
    (replica,) = cluster.replicas_of(victim(cluster))
    replica.stop()
    yield
    replica.start()


@contextlib.contextmanager
def restarted_at_once(cluster: Cluster) -> Iterator[None]:
    """Kill a primary and start it before anybody has noticed."""
    node = victim(cluster)
    node.stop()
    node.start()
    yield


def stopped_primary(seconds: float) -> Any:
    """Return the fault that a primary answers nothing for so long."""

    @contextlib.contextmanager
    def stopped(cluster: Cluster) -> Iterator[None]:
        with victim(cluster).frozen():
            last(seconds)
        yield

    return stopped


@contextlib.contextmanager
def handed_over(cluster: Cluster) -> Iterator[None]:
    """Make the replica of a primary the primary, as before maintenance."""
    (replica,) = cluster.replicas_of(victim(cluster))
    cluster.fail_over(replica)
    yield


@contextlib.contextmanager
def rolling_restart(cluster: Cluster) -> Iterator[None]:
    """Restart every node, each primary after its replica has taken over."""
    for node in list(cluster.nodes):
        if node.is_primary:
            cluster.fail_over(cluster.replicas_of(node)[0])
            cluster.settle()
        with contextlib.suppress(redis.ConnectionError):
            node.command("SHUTDOWN", "NOSAVE")
        node.stop()
        node.start()
        cluster.settle()
    yield


@contextlib.contextmanager
def all_restarted(cluster: Cluster) -> Iterator[None]:
    """Kill all nodes, then start all of them."""
    for node in cluster.nodes:
        node.stop()
    for node in cluster.nodes:
        node.start()
    yield


def cut_off_primary(seconds: float) -> Any:
    """Return the fault that a primary and the other nodes do not hear each other for so long; clients hear all."""

    @contextlib.contextmanager
    def cut_off(cluster: Cluster) -> Iterator[None]:
        with cluster.cut_off(victim(cluster)):
            last(seconds)
        yield

    return cut_off


@contextlib.contextmanager
def moved_slots(cluster: Cluster) -> Iterator[None]:
    """Move slots as redis-cli does: one after the other, a few keys at a time."""
    source, target, first = _move(cluster)
    with contextlib.ExitStack() as stack:
        links = {
            node: stack.enter_context(redis.Redis(port=node.port, decode_responses=True, socket_timeout=20))
            for node in cluster.nodes
        }
        ids = {node: node.node_id for node in (source, target)}
        primaries = [node for node in cluster.nodes if node.is_primary]
        for slot in range(first, first + MOVED_SLOTS):
            links[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
            links[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
            while keys := links[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, _AT_ONCE):
                links[source].execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            for node in [target, source, *(each for each in primaries if each not in {target, source})]:
                links[node].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    yield


@contextlib.contextmanager
def moved_slots_at_once(cluster: Cluster) -> Iterator[None]:
    """Move slots as Valkey 9 does it by itself."""
    source, target, first = _move(cluster)
    run = ("SLOTSRANGE", first, first + MOVED_SLOTS - 1)
    source.command("CLUSTER", "MIGRATESLOTS", *run, "NODE", target.node_id)
    wait_until(lambda: cluster.primary_of(first) is target, timeout=60, what="slots that have moved")
    yield


def _move(cluster: Cluster) -> tuple[Node, Node, int]:
    """Return from where to where slots go, and the first of them."""
    source = victim(cluster)
    target = next(node for node in cluster.nodes if node.is_primary and node is not source)
    for start, end, primary, *_ in source.command("CLUSTER", "SLOTS"):
        if cluster.at(int(primary[1])) is source and end - start >= MOVED_SLOTS:
            return source, target, int(start)
    raise LookupError(f"{source.port} has no {MOVED_SLOTS} slots in a row")


# Under Sentinel


def _changed(watched: Watched, before: Server) -> None:
    wait_until(lambda: watched.primary() is not before, timeout=30, what="another primary")


@contextlib.contextmanager
def killed_under_sentinel(watched: Watched) -> Iterator[None]:
    """Kill the primary; once the block has ended it returns, as it was."""
    before = watched.primary()
    before.stop()
    _changed(watched, before)
    yield
    before.start()


def stopped_under_sentinel(seconds: float) -> Any:
    """Return the fault that the primary answers nothing for so long."""

    @contextlib.contextmanager
    def stopped(watched: Watched) -> Iterator[None]:
        with watched.primary().frozen():
            last(seconds)
        yield

    return stopped


def handed_over_by_sentinel(*options: str) -> Any:
    """Return the fault that a Sentinel is told to make another server the primary."""

    @contextlib.contextmanager
    def handed(watched: Watched) -> Iterator[None]:
        before = watched.primary()
        ask(watched.sentinels[0], "SENTINEL", "FAILOVER", watched.NAME, *options)
        _changed(watched, before)
        yield

    return handed


@contextlib.contextmanager
def killed_replica_under_sentinel(watched: Watched) -> Iterator[None]:
    """Kill a replica; start it again at the end."""
    replica = next(server for server in watched.servers if server is not watched.primary())
    replica.stop()
    yield
    replica.start()
