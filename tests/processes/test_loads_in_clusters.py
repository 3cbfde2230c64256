"""Loads into a cluster whose nodes die, take over, or lose what they had: nothing is missing in the end."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.binaries import binaries
from support.cluster import Cluster, entities
from support.loading import FEATURES, FIRST_MS, LOAD, environment_of, loading, write_files
from support.processes import clean_environment
from support.servers import Server, real, wait_until

from featurestore import Definition, FeatureStore

ROWS = 12_000
OPTIONS = ("--event-time", "ts", "--checkpoint", "checkpoint", "--rejected", "rejected.ndjson")
SLOWLY = (*OPTIONS, "--rate", "2400")  # parts of 600 rows

MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Runs a command and prints how much memory it took. A process counts its parent's, which is to be small."""


@pytest.fixture(params=real("valkey9"))
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, each primary with a replica."""
    if request.param not in binaries():
        pytest.skip(f"this machine has no {request.param}")
    made = Cluster(binaries()[request.param], tmp_path / "cluster")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def store(own: Cluster) -> Iterator[FeatureStore]:
    with FeatureStore.connect(own.url, timeout=5) as made:
        made.apply(Definition(features=FEATURES))
        yield made


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return write_files(tmp_path / "files", ROWS)


@pytest.fixture
def expected(files: list[Path], servers: dict[str, Server], tmp_path: Path) -> tuple[dict[str, Any], Any]:
    """What a load of the files into a single Redis tells, and what it leaves."""
    url = servers["valkey9"].socket_url
    with FeatureStore.connect(url, timeout=5) as single:
        single.transport.command("FLUSHALL")
        single.apply(Definition(features=FEATURES))
        folder = tmp_path / "single"
        folder.mkdir()
        with loading([*files, *OPTIONS], environment_of(url, clean_environment(folder)), folder) as clean:
            told = clean.end()
        return told, entities(single)


def behind(folder: Path) -> int:
    """How many rows a load says to be behind it."""
    try:
        return int(json.loads((folder / "checkpoint").read_text())["now"]["rows"])
    except FileNotFoundError:
        return -1


def check(told: dict[str, Any], store: FeatureStore, expected: tuple[dict[str, Any], Any]) -> None:
    names = ("exit", "rows", "rejected", "codes")
    assert {name: told.get(name) for name in names} == {name: expected[0][name] for name in names}
    assert entities(store) == expected[1]


@pytest.mark.parametrize("fault", ["restart", "take over", "handed over"])
def test_a_load_waits_for_a_node_and_repeats_what_it_may_have_lost(  # noqa: PLR0913, PLR0917 - fixtures
    own: Cluster, store: FeatureStore, files: list[Path], expected: Any, tmp_path: Path, fault: str
) -> None:
    environment = environment_of(own.url, clean_environment(tmp_path))
    primary = own.nodes[1]
    if fault == "restart":
        for replica in own.replicas_of(primary):
            replica.stop()
    with loading([*files, *SLOWLY], environment, tmp_path) as load:
        wait_until(lambda: behind(tmp_path) > 2000, what="a checkpoint")
        if fault == "handed over":
            own.fail_over(own.replicas_of(primary)[0])
        else:
            primary.stop()
        if fault == "restart":
            wait_until(lambda: "waiting for Redis" in load.messages, what="a load that waits")
            primary.start()
        told = load.end(150)
    assert "going back from row" in load.messages
    check(told, store, expected)


def test_a_load_that_goes_on_after_a_node_was_emptied_begins_anew(
    own: Cluster, store: FeatureStore, files: list[Path], expected: Any, tmp_path: Path
) -> None:
    environment = environment_of(own.url, clean_environment(tmp_path))
    with loading([*files, *SLOWLY], environment, tmp_path) as load:
        wait_until(lambda: behind(tmp_path) > 4000, what="a checkpoint")
        load.process.kill()
        load.end()
    own.nodes[2].command("FLUSHALL")
    store.apply(Definition(features=FEATURES))
    with loading([*files, *OPTIONS], environment, tmp_path) as load:
        told = load.end(150)
    assert "ids that this load wrote are gone from Redis" in load.messages
    check(told, store, expected)


def test_a_load_takes_no_more_memory_than_into_a_single_redis(
    own: Cluster, store: FeatureStore, tmp_path: Path
) -> None:
    count = 200_000
    numbers = pa.array(range(count), pa.int64())
    table = {
        "user_id": [f"user{number:07d}" for number in range(count)],
        "ts": pa.array([FIRST_MS + number for number in range(count)], pa.int64()),
        "age": numbers, "score": numbers.cast(pa.float64()), "country": ["a country of some length"] * count,
        "is_active": [True] * count,
    }  # fmt: skip
    parquet.write_table(pa.table(table), tmp_path / "rows.parquet", row_group_size=count)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *LOAD, str(tmp_path / "rows.parquet"), "--event-time", "ts"],
        env=environment_of(own.url, clean_environment(tmp_path)), cwd=tmp_path, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    assert int(done.stdout) < 300 * 1024  # KiB
    assert store.count() == count
