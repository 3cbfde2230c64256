"""The servers behind a transport, each asked by itself."""

from collections.abc import Sequence
from typing import Any

from featurestore.errors import ClusterNodeError, RedisError, UnavailableError
from featurestore.keys import Keys, slot_of
from featurestore.transport.interface import Node, Transport


def primaries(transport: Transport) -> list[Node]:
    """Return the nodes that take writes."""
    return [node for node in transport.nodes() if node.role == "primary"]


def node_of(nodes: Sequence[Node], keys: Keys) -> Node | None:
    """Return which of the nodes has a partition; None if none has. Without partitions it is the only one."""
    if not keys.tag:
        return nodes[0]
    slot = slot_of(keys.tag.encode())
    return next((node for node in nodes for first, last in node.ranges if first <= slot <= last), None)


def process_of(node: Node) -> str | None:
    """Return what names a server's process, and tells it from itself after a restart; None where it does not tell.

    Raises:
        UnavailableError: It does not answer.
    """
    try:
        return info_of(node.transport.command("INFO", "server")).get("run_id")
    except UnavailableError:
        raise
    except RedisError:  # the user may not ask, or INFO has another name
        return None


def serves(node: Node, keys: Keys) -> bool:
    """Return whether a node has a partition, as it knows itself: what others say of it may be old.

    Raises:
        UnavailableError: It does not answer.
    """
    try:
        node.transport.command("EXISTS", keys.schema)
    except ClusterNodeError:
        return False
    return True


def own_slots(node: Node) -> list[tuple[int, int]]:
    """Return the runs of slots that a node of a cluster has, as it knows itself; none for a replica.

    Raises:
        RedisError: It does not answer, or does not tell.
    """
    command = node.transport.command
    own = command("CLUSTER", "MYID")
    return sorted((first, last) for first, last, primary, *_ in command("CLUSTER", "SLOTS") if primary[2] == own)


def info_of(reply: Any) -> dict[str, str]:
    """Return the fields of a reply to INFO."""
    text: str = reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value for name, separator, value in pairs if separator}
