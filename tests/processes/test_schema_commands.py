"""apply, entities, retire and drop-entity, run as people run them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.processes import clean_environment
from support.servers import Server, wait_until

from featurestore import Definition, FeatureStore, Keys
from featurestore.errors import NoSchemaError

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = (sys.executable, "-m", "featurestore")

ITEM = """\
entity = "item"
description = "What the shop sells"
tags = ["shop"]

[features]
price = { type = "float", max_age = "1d", owner = "pricing" }
stock = "int"

[services]
ranking = ["price", "stock"]
"""


@pytest.fixture
def environment(tmp_path: Path, valkey: Server) -> dict[str, str]:
    return {**clean_environment(tmp_path), "REDIS_URL": valkey.url}


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    def call(*arguments: str, answers: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command; with `answers` on a terminal where these are typed."""
        held: contextlib.AbstractContextManager[int | None]
        held = contextlib.nullcontext(None) if answers is None else _terminal(answers)
        with held as stdin:
            return subprocess.run(
                [*COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False,
                stdin=subprocess.DEVNULL if stdin is None else stdin, cwd=tmp_path,
            )  # fmt: skip

    return call


@contextlib.contextmanager
def _terminal(typed: str) -> Iterator[int]:
    outer, inner = os.openpty()
    os.write(outer, typed.encode())
    try:
        yield inner
    finally:
        os.close(inner)
        os.close(outer)


@pytest.fixture
def store(valkey: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        yield store


def test_apply_tells_what_it_changes_and_a_dry_run_changes_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "item.toml").write_text(ITEM)
    dry = run("apply", "item.toml", "--dry-run")
    assert dry.returncode == 1
    assert dry.stdout == (
        "+ feature price (float, max_age 1d): null until it is written\n"
        "+ feature stock (int): null until it is written\n"
        "+ the entity's description, tags: for people: nothing that is stored or read is touched\n"
        "+ service ranking: reads by that name answer price, stock\n"
    )
    assert dry.stderr == "dry run, nothing is changed: schema of item: version 0 would become 1\n"
    assert run("schema", "--entity", "item").returncode == 1
    applied = run("apply", "item.toml")
    assert (applied.returncode, applied.stdout) == (0, dry.stdout)
    assert applied.stderr == "schema of item: version 1, 2 features\n"
    same = run("apply", "item.toml", "--dry-run")
    assert (same.returncode, same.stdout) == (0, "")
    assert same.stderr == "dry run, nothing is changed: schema of item: version 1, no changes\n"
    (tmp_path / "item.toml").write_text(ITEM.replace('"1d"', '"2d"'))
    changed = run("apply", "item.toml")
    assert changed.stdout == (
        "~ feature price, max_age 1d → 2d: values older than that are null to all reads; what is stored stays\n"
        "rows of before are read field by field until they are written again: featurestore repack --entity item builds"
        " them beside live traffic\n"
    )
    shown = json.loads(run("schema", "--entity", "item").stdout)
    assert (shown["description"], shown["tags"]) == ("What the shop sells", ["shop"])
    assert shown["options"] == {"price": {"max_age_ms": 172_800_000, "owner": "pricing"}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ITEM.replace('"stock"]', '"stok"]'), "line 10, entity item: stok of service ranking is not declared"),
        (ITEM.replace('"stock"]', '"item:x"]'), "line 10, entity item: item:x of service ranking is not decl"),
        (ITEM.replace('"stock"]', '"user:x"]'), "line 10, entity item: user:x of service ranking is not decl"),
        (ITEM.replace('"stock"]', '"created"]'), "line 10: services.ranking = 'created': no feature can be"),
        (ITEM.replace('"stock"]', '"user:event_timestamp"]'), "line 10: services.ranking = 'user:event_times"),
        (ITEM.replace('"stock"]', '"@row"]'), "line 10: services.ranking = '@row': want the name of a feat"),
        (ITEM.replace('"stock"]', "7]"), "line 10: services.ranking = 7: want the name of a feature"),
        (ITEM.replace('["price", "stock"]', '"price"'), "line 10: services.ranking = 'price': want a list"),
        (ITEM.replace('"int"', '"integer"'), "line 7: features.stock = 'integer': no such type"),
        (ITEM.replace('["shop"]', '"shop"'), "line 3: tags = 'shop': want a list of at most 20 texts"),
        (ITEM.replace('"pricing"', f'"{"o" * 201}"'), "line 6: features.price.owner = 'ooo"),
        ('entity = "item"\n[services]\na = ["b"]', "[features] declares no feature, and item has none yet"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_line(run: Run, tmp_path: Path, store: FeatureStore, text: str, told: str) -> None:
    store.apply(Definition({"age": "float"}))
    (tmp_path / "bad.toml").write_text(text)
    refused = run("apply", "bad.toml", *(["--dry-run"] if "entity item" in told else []))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"featurestore: bad.toml: {told}"), refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert store.entities() == ["user"]


def test_the_package_s_own_schema_never_goes_over_another_one(run: Run, store: FeatureStore) -> None:
    assert run("apply").returncode == 0
    assert run("apply").returncode == 0
    store.apply(Definition({"tier": "string"}))
    refused = run("apply")
    assert refused.returncode == 1
    assert refused.stderr == (
        "featurestore: the schema that ships with the package is for trying things, and user has one of its own (tier):"
        " name its FILE, featurestore apply FILE\n"
    )
    assert run("retire", "tier", "score", "--yes").returncode == 0
    assert run("apply").stdout.startswith("+ feature score (float): null until it is written\n")
    store.apply(Definition({}, services={"mine": ["age"]}))
    assert "(service mine)" in run("apply", "--dry-run").stderr


def test_a_file_of_services_alone_changes_them(run: Run, tmp_path: Path, store: FeatureStore) -> None:
    store.apply(Definition({"age": "float"}, services={"old": ["age"]}))
    (tmp_path / "services.toml").write_text('[services]\nold = []\nnew = ["age"]\n')
    assert run("apply", "services.toml").stderr == "schema of user: version 2, 1 features\n"
    assert store.schema().services == {"new": ["age"]}
    removed = run("retire", "--service", "new", "--yes")
    assert (removed.returncode, removed.stderr) == (0, "removed from user: service new\n")
    assert store.schema().services == {}
    assert run("retire", "--service", "new", "--yes").returncode == 1


def test_entities_are_listed_for_people_and_for_programs(
    run: Run, tmp_path: Path, store: FeatureStore, environment: dict[str, str]
) -> None:
    assert run("entities").stdout == ""
    (tmp_path / "item.toml").write_text(ITEM)
    run("apply", "item.toml")
    store.apply(Definition({"age": "float", "n": "int"}))
    store.upsert([("ann", {"age": 1})])
    assert run("entities").stdout == "item\t1\t2\t0\tranking\tok\nuser\t1\t2\t1\t-\tok\n"
    item, user = map(json.loads, run("entities", "--json").stdout.splitlines())
    assert item == {
        "entity": "item", "version": 1, "features": 2, "ids": 0, "services": ["ranking"],
        "description": "What the shop sells", "tags": ["shop"],
    }  # fmt: skip
    assert user["ids"] == 1
    outer, inner = os.openpty()
    subprocess.run([*COMMAND, "entities"], env=environment, stdout=inner, check=True)
    os.close(inner)
    lines = os.read(outer, 4096).decode().splitlines()
    os.close(outer)
    assert lines == [
        "ENTITY  VERSION  FEATURES  IDS  SERVICES  STATE",
        "item    1        2         0    ranking   ok",
        "user    1        2         1    -         ok",
    ]


def test_a_retirement_is_asked_for_twice(run: Run, store: FeatureStore) -> None:
    store.apply(Definition({"age": "float", "n": "int"}, services={"ads": ["n"]}))
    store.upsert([("ann", {"age": 1, "n": 2})])
    nobody = run("retire", "n", "--from-services")
    assert nobody.returncode == 2
    assert "This retires n of user; 1 ids are known. Nobody can be asked here: --yes agrees" in nobody.stderr
    for answers in ("n\n", "y\nn\n"):
        assert run("retire", "n", "--from-services", answers=answers).returncode == 130
        assert store.get("ann") == {"age": 1.0, "n": 2}
    kept = run("retire", "n", "--yes")
    assert kept.returncode == 1
    assert kept.stderr.startswith("featurestore: services list what is to be retired: user:ads. Apply them without it")
    assert run("retire", "nope", "--yes").stderr == "featurestore: nope is not declared in the schema of user\n"
    assert run("retire").returncode == 2
    done = run("retire", "n", "--from-services", answers="y\nuser\n")
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr.endswith(
        "schema of user: version 2; n not served any more\ndone: 1 hashes seen, 1 changed; the names can be declared"
        " again\n"
    )
    store.apply(Definition({"n": "string"}))
    assert store.get("ann") == {"age": 1.0, "n": None}


def test_an_entity_is_dropped_when_that_was_asked_for_twice(run: Run, store: FeatureStore) -> None:
    keys = Keys.of("item", "goods")
    with FeatureStore.connect(store.transport.address, timeout=5, keys=keys) as items:  # type: ignore[attr-defined]
        items.apply(Definition({"price": "float"}, entity="item", members="goods"))
        items.upsert([(f"i{number}", {"price": 1.5}) for number in range(120)])
        store.apply(Definition({"age": "float"}, services={"mixed": ["age", "item:price"]}))
        store.upsert([("ann", {"age": 1})])
        assert run("drop-entity", "item").returncode == 2
        asked = run("drop-entity", "item", answers="y\nitems\n")
        assert asked.returncode == 130
        assert "This removes item with 1 features of 120 ids. Services of other entities list its" in asked.stderr
        assert "fail: user:mixed." in asked.stderr
        assert items.get("i1") == {"price": 1.5}
        done = run("drop-entity", "item", answers="y\nitem\n")
        assert done.returncode == 0
        assert done.stderr.endswith("done: 120 of 120 hashes removed\n")
        with pytest.raises(NoSchemaError):
            items.get("i1")
    assert sorted(store.transport.command("KEYS", "*")) == [
        b"all_users", b"featurestore:schemas", b"user:ann:features", b"user:schema"
    ]  # fmt: skip
    again = run("drop-entity", "item", "--yes")
    assert (again.returncode, again.stdout) == (1, "")
    assert "no schema of item is stored" in again.stderr


@pytest.mark.parametrize("command", [("retire", "n"), ("drop-entity", "user")])
def test_killed_and_started_again_it_goes_on_beside_writers(
    run: Run, store: FeatureStore, environment: dict[str, str], command: tuple[str, ...]
) -> None:
    """Killed at several places; a writer that knows the first schema writes all the time."""
    store.apply(Definition({"age": "float", "n": "int", "city": "string"}))
    ids = [f"u{number}" for number in range(3000)]
    store.upsert_table(["age", "n", "city"], [(each, 1.5, 7, "Bonn") for each in ids])
    drops = command[0] == "drop-entity"
    stop, written = threading.Event(), [0]

    def write() -> None:
        with FeatureStore.connect(environment["REDIS_URL"], timeout=5) as late, contextlib.suppress(NoSchemaError):
            while not stop.is_set():
                for first in range(0, len(ids), 500):
                    part = ids[first : first + 500]
                    late.upsert([(each, {"age": 2.5}) for each in part])
                    late.upsert_table(["age", "n", "city"], [(each, 3.5, 8, "Ulm") for each in part[:50]])
                    written[0] += 1

    def left() -> int:
        asked = "'EXISTS', key" if drops else "'HEXISTS', key, 'n'"
        count = f"local n = 0 for _, key in ipairs(KEYS) do n = n + redis.call({asked}) end return n"
        found: int = store.transport.command("EVAL", count, len(ids), *(f"user:{each}:features" for each in ids))
        return found

    writer = threading.Thread(target=write)
    writer.start()
    try:
        before = len(ids)
        for _ in range(3):
            running = subprocess.Popen(
                [*COMMAND, *command, "--yes", "--pause-ms", "100"], env=environment, stderr=subprocess.DEVNULL
            )
            wait_until(lambda before=before: left() < before, what="a step")  # type: ignore[misc]
            running.send_signal(signal.SIGKILL)
            running.wait()
            before = left()
            assert 0 < before < len(ids)
            line = run("entities").stdout
            assert ("being dropped" if drops else "retiring n") in line
        done = run(*command, "--yes")
        assert done.returncode == 0, done.stderr
    finally:
        stop.set()
        writer.join()
    assert left() == 0
    assert written[0] > 0
    if drops:
        assert store.transport.command("KEYS", "*") == []
    store.apply(Definition({"age": "float", "city": "string", "n": "string"}))
    rows = store.get_many(ids)
    assert all(row is None if drops else row is not None and row["n"] is None and row["age"] for row in rows)
