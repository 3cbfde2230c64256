"""Exports and comparisons on a cluster: every id once, whoever serves its partition meanwhile."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from featurestore.ingest.files.export import Export, columns_of
from featurestore.ingest.files.outputs import opened
from featurestore.ingest.files.scan import HashReader, ReadRetries, Scan, Throttle
from support.cluster import Cluster
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.keys import slot_of

USERS = {f"u{number}": {"n": number} for number in range(400)}


@pytest.fixture
def store(cluster: Cluster) -> Iterator[FeatureStore]:
    """A store over a cluster, with users in 8 partitions."""
    with FeatureStore.connect(cluster.url, timeout=10) as found:
        found.apply(Definition(features={"n": "int"}), partitions=8)
        found.schema()
        for entity_id, row in USERS.items():
            FeatureStore(found.transport, found.keys.holding(entity_id.encode())).upsert([(entity_id, row)])
        yield found


def reader_of(store: FeatureStore, *, most: int = 500) -> HashReader:
    return HashReader(store, {"n": "int"}, Throttle(sleep=lambda _: None), ReadRetries(pause=0.05), most)


def exported(store: FeatureStore, path: Path) -> list[dict[str, Any]]:
    columns = columns_of("user", store.schema(), None, None)
    with opened(str(path), columns) as output:
        Export(reader_of(store), columns, output).run()
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_an_export_has_every_id_of_every_partition_once(store: FeatureStore, tmp_path: Path) -> None:
    rows = exported(store, tmp_path / "all.ndjson")
    assert len(rows) == len(USERS)
    assert {row["user_id"]: {"n": row["n"]} for row in rows} == USERS


def test_ids_are_whole_though_a_partition_changes_its_server_while_they_are_read(
    store: FeatureStore, cluster: Cluster
) -> None:
    primary = cluster.primary_of(slot_of(store.keys.parts[0].tag.encode()))
    scan = Scan(reader_of(store, most=20))
    parts = scan.parts()
    found = [*next(parts)]
    cluster.fail_over(cluster.replicas_of(primary)[0])
    for ids in parts:
        found += ids
    assert scan.is_whole
    assert sorted(found) == sorted(each.encode() for each in USERS)


def test_a_page_of_another_server_is_not_taken_for_one_of_the_first(store: FeatureStore, cluster: Cluster) -> None:
    keys = store.keys.parts[0]
    store.transport.command("SADD", keys.members, *(f"more{number}" for number in range(3000)))
    reader = reader_of(store)
    primary = cluster.primary_of(slot_of(keys.tag.encode()))
    pages: list[bytes] = []
    plain: Callable[[Any, bytes], tuple[bytes, list[bytes]]] = reader.page

    def page(keys: Any, cursor: bytes) -> tuple[bytes, list[bytes]]:
        if len(pages) == 1:
            cluster.fail_over(cluster.replicas_of(primary)[0])
            wait_until(lambda: not primary.is_primary, what="a primary that knows that it was replaced")
        pages.append(cursor)
        return plain(keys, cursor)

    reader.page = page
    scan = Scan(reader)
    found = [each for ids in scan.parts() for each in ids]
    assert pages.count(b"0") >= 9  # the first partition was begun again
    assert len(set(found)) == len(found) == len(USERS) + 3000


def test_known_ids_are_told_apart_in_every_partition(store: FeatureStore) -> None:
    asked = [b"nobody", b"u1", b"u2", b"nobody2", b"u3", b"u399"]
    found = reader_of(store).read_known(asked)
    assert [known for known, _ in found] == [False, True, True, False, True, True]
    assert [entity and entity.texts for _, entity in found] == [None, [b"1"], [b"2"], None, [b"3"], [b"399"]]
