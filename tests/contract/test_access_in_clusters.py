"""The users of docs/direct.md in a cluster: each can do what the page says, and the reader no more."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from featurestore.ingest.files.scan import HashReader, ReadRetries, Scan, Throttle
from support.cluster import Cluster
from support.servers import wait_until

from featurestore import Definition, FeatureStore
from featurestore.errors import AccessDeniedError, FeatureStoreError
from featurestore.keys import PartitionedKeys
from featurestore.store.retirement import clear, retire

DOCS = Path(__file__).parents[2] / "docs"
DEFINITION = Definition({"n": "int", "name": "string"})


def users_of(page: str) -> dict[str, list[str]]:
    """Return the users that a page has for clusters: those whose keys have a tag."""
    lines = re.findall(r"^ACL SETUSER (\w+) on >secret (.*\{.*)$", (DOCS / page).read_text(), re.MULTILINE)
    return {name: rules.split() for name, rules in lines}


@pytest.fixture
def users(cluster: Cluster) -> Iterator[dict[str, list[str]]]:
    found = users_of("direct.md") | users_of("export.md")
    for node in cluster.nodes:
        for name, rules in found.items():
            node.command("ACL", "SETUSER", name, "reset", "on", ">secret", *rules)
    yield found
    for node in cluster.nodes:
        node.command("ACL", "DELUSER", *found)


def store_of(cluster: Cluster, user: str) -> FeatureStore:
    return FeatureStore.connect(cluster.url.replace("://", f"://{user}:secret@"), timeout=5)


def test_each_user_does_what_the_page_says(cluster: Cluster, users: dict[str, list[str]]) -> None:
    assert users.keys() >= {"reader", "writer", "owner", "keeper", "exporter"}
    with store_of(cluster, "owner") as owner:
        assert owner.apply(DEFINITION, partitions=8) == 1
        assert owner.apply(Definition({"n": "int", "name": "string", "more": "float"})) == 2
    with store_of(cluster, "writer") as writer:
        rows = [(f"u{number}", {"n": number}) for number in range(50)]
        assert writer.upsert(rows).written == 50
        writer.delete("u7")
        assert writer.count() == 49
    with store_of(cluster, "exporter") as exporter:
        scan = Scan(HashReader(exporter, {"n": "int"}, Throttle(), ReadRetries()))
        exporter.schema()
        assert sum(map(len, scan.parts())) == 49
    with store_of(cluster, "keeper") as keeper:
        keeper.schema()
        retire(keeper, ["more"])
        *_, last = clear(keeper)
        assert last.freed == 1
    with store_of(cluster, "writer") as writer, pytest.raises(AccessDeniedError):
        writer.apply(Definition({"other": "int"}))


def test_a_reader_reads_though_a_change_is_half_way_and_the_draft_is_not_for_it(
    cluster: Cluster, users: dict[str, list[str]]
) -> None:
    with FeatureStore.connect(cluster.url, timeout=5) as store:
        store.apply(DEFINITION, partitions=8)
        store.upsert([(f"u{number}", {"n": number}) for number in range(50)])
        assert isinstance(store.keys, PartitionedKeys)
        with store_of(cluster, "viewer") as reader:
            assert reader.get_many([f"u{number}" for number in range(50)], ["n"]) == [{"n": n} for n in range(50)]
            with pytest.raises(AccessDeniedError):
                reader.transport.command("HGETALL", store.keys.draft)
            with pytest.raises(AccessDeniedError):
                reader.upsert([("u1", {"n": 2})])
            # a half-way change: a partition has a newer copy than the root
            part = store.keys.holding(b"u1")
            store.transport.command("HINCRBY", part.schema, "@version", 1)
            store.transport.command("HSET", part.schema, "@layout", "0" * 16)
            try:
                reader.get("u1")
            except AccessDeniedError as error:
                raise AssertionError("publishing was refused, and the caller was told") from error
            except FeatureStoreError:
                pass  # the copy is damaged by hand; NOPERM is what must not be seen


def test_the_reader_reads_from_replicas_and_writes_nothing(
    cluster: Cluster, users: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "+evalsha" not in users["reader"]
    with FeatureStore.connect(cluster.url, timeout=5) as store:
        store.apply(DEFINITION, partitions=8)
        store.upsert([(f"u{number}", {"n": number}) for number in range(50)])
    wait_until(lambda: sum(len(node.command("KEYS", "*:features")) for node in cluster.nodes) == 100, what="replicas")
    monkeypatch.setenv("FEATURESTORE_READ_FROM", "replicas")
    with store_of(cluster, "reader") as reader:
        assert reader.get_many([f"u{number}" for number in range(50)], ["n"]) == [{"n": n} for n in range(50)]
        assert reader.get("u3", ["n"]) == {"n": 3}
        with pytest.raises(AccessDeniedError):
            reader.delete("u3")
        with pytest.raises(AccessDeniedError):
            reader.transport.command("HSET", reader.keys.root, "@version", 9)
