"""Whether ids can be served: of all partitions of a cluster, which cannot, and whose they are."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import GET_FEATURES
from featurestore.errors import FeatureStoreError, NoSchemaError, UnavailableError
from featurestore.keys import Keys, PartitionedKeys
from featurestore.store.blocking import FeatureStore
from featurestore.store.nodes import node_of, primaries
from featurestore.store.retirement import is_dropping
from featurestore.transport.interface import Node

_NOBODY = "nobody"


class Missing(msgspec.Struct, frozen=True):
    """What cannot be served of one node.

    Attributes:
        node: Its address; `nobody` for slots that no node has.
        partitions: How many of its partitions cannot be served.
        share: The share of all ids that these have.
        reason: What the first of them says.
    """

    node: str
    partitions: int
    share: float
    reason: str


class Reach(msgspec.Struct, frozen=True):
    """Which ids can be served.

    Attributes:
        share: The share of all ids: 1 for all.
        missing: Where the others are.
        away: The nodes that did not answer.
    """

    share: float = 1.0
    missing: tuple[Missing, ...] = ()
    away: frozenset[str] = frozenset()

    def shown(self) -> dict[str, Any]:
        """Return the same as JSON has it."""
        return {"share": self.share, "missing": [msgspec.to_builtins(each) for each in self.missing]}


class NodeHealth(msgspec.Struct, frozen=True):
    """One node of a cluster.

    Attributes:
        node: Its address.
        role: What it is: primary or replica.
        answers: Whether it answers.
    """

    node: str
    role: str
    answers: bool


def look_for_a_schema(store: FeatureStore) -> None:
    """Return if there is a schema: the default entity's, or other entities' only.

    In a cluster a schema that was seen before is enough, while the node that has its root is away. Who belongs to the
    cluster is asked first where that is not known yet, which may take longer than a read.

    Raises:
        NoSchemaError: There is none, or the default entity had one and has lost it: Redis evicted it, say. One that is
            being dropped does not count.
    """
    store.transport.nodes()
    try:
        store.schema()
    except NoSchemaError:
        is_lost = store.transport.command("SISMEMBER", store.keys.schemas, store.keys.root)
        if (is_lost and not is_dropping(store)) or not store.entities():
            raise
    except UnavailableError:
        if not isinstance(store.keys, PartitionedKeys) or not store.keys.count:
            raise


def reach_of(store: FeatureStore) -> Reach:
    """Ask every partition of a cluster for an id, all at once; return which can be served.

    Ids are spread evenly, so that each partition has the same share of them. Of several entities the default one is
    asked, or the first that has a schema.
    """
    if not store.transport.clustered:
        return Reach()
    try:
        parts = store.parts()
    except NoSchemaError:
        parts = store.entity(store.entities()[0]).parts()
    failed = _failed(store, parts)
    if not failed:
        return Reach()
    nodes = primaries(store.transport)
    by_node: dict[str, list[FeatureStoreError]] = {}
    for part, error in failed.items():
        node = node_of(nodes, part)
        by_node.setdefault(_NOBODY if node is None else node.address, []).append(error)
    missing = [
        Missing(address, len(errors), round(len(errors) / len(parts), 4), _reason(address, errors[0]))
        for address, errors in sorted(by_node.items())
    ]
    away = frozenset(address for address, errors in by_node.items() if isinstance(errors[0], UnavailableError))
    return Reach(round(1 - len(failed) / len(parts), 4), tuple(missing), away)


def nodes_of(store: FeatureStore, reach: Reach) -> list[NodeHealth]:
    """Ask every server by itself, but those that have just not answered."""
    return [
        NodeHealth(node.address, node.role, node.address not in reach.away and _answers(node))
        for node in store.transport.nodes()
    ]


def _failed(store: FeatureStore, parts: Sequence[Keys]) -> dict[Keys, FeatureStoreError]:
    """Return the partitions that cannot be served, and why; one time-out is enough, however many nodes are away."""
    answered: set[int] = set()
    calls = [
        encode_call(GET_FEATURES, (part.members, part.schema, part.features("readyz")), ("readyz",)) for part in parts
    ]
    takes = [partial(_note, answered, place) for place in range(len(parts))]
    try:
        return _errors(parts, store.transport.run_many_encoded(GET_FEATURES, calls, takes=takes))
    except UnavailableError as error:
        return {part: error for place, part in enumerate(parts) if place not in answered}


def _reason(address: str, error: FeatureStoreError) -> str:
    """Return why ids of a node cannot be served: the error of a whole request is about one node of several."""
    if isinstance(error, UnavailableError) and "(node " in str(error) and f"(node {address}" not in str(error):
        return "it does not answer either"
    return str(error)


def _note(answered: set[int], place: int, reply: Any) -> Any:
    answered.add(place)
    return reply


def _errors(parts: Sequence[Keys], replies: Sequence[Any]) -> dict[Keys, FeatureStoreError]:
    pairs = zip(parts, replies, strict=True)
    return {part: reply for part, reply in pairs if isinstance(reply, FeatureStoreError)}


def _answers(node: Node) -> bool:
    try:
        node.transport.command("PING")
    except FeatureStoreError:
        return False
    return True
