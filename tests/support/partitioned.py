"""A small cluster for tests of partitions, and rows written to them by hand."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from featurestore import FeatureStore
from featurestore.contract.scripts import UPSERT_FEATURES
from support.binaries import binaries
from support.cluster import Cluster

TIME = 1_700_000_000_000
"""The event time of rows that are written by hand."""


@contextlib.contextmanager
def three_primaries(folder: Path) -> Iterator[Cluster]:
    """Run a cluster of three primaries without replicas, which starts quickly."""
    found = binaries()
    if "valkey9" not in found:
        pytest.skip("this machine has no valkey9")
    cluster = Cluster(found["valkey9"], folder, primaries=3, replicas=0)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def write_by_hand(store: FeatureStore, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write rows, each by a call to the partition of its id."""
    for entity_id, row in rows.items():
        part = store.keys.holding(entity_id.encode())
        reply = store.transport.run(
            UPSERT_FEATURES,
            (part.members, part.schema, part.features(entity_id)),
            (TIME, len(row), *row, entity_id, *map(_text, row.values())),
        )
        assert reply == [1, 0, []]


def _text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value if isinstance(value, bytes) else str(value)
