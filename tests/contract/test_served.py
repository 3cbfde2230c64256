"""What a service is served is kept: in Redis, on every server and in clusters, and never in the way of the answer."""

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.backends import Backend
from support.names import beside
from support.servers import Server, wait_until

from featurestore import AsyncFeatureStore, Definition, FeatureStore, SyncTransport, Transport
from featurestore.api.app import create_app
from featurestore.api.counters import Board, Meter
from featurestore.api.fast_reads import FastReads
from featurestore.contract.scripts import LOG_SERVED
from featurestore.contract.served import Kept, Sampler, kept_entry, served_calls
from featurestore.errors import BadArgumentsError, SchemaError, UndeclaredFeatureError
from featurestore.keys import Keys
from featurestore.schema.definition import FeatureDefinition
from featurestore.schema.services import LogDefinition, ServiceDefinition, ServiceLog
from featurestore.store import blocking_driver, served_log
from featurestore.store.doctor import diagnose
from featurestore.store.retirement import clear, drop, remove_services, retire

FEATURES: dict[str, Any] = {
    "age": "float",
    "n": FeatureDefinition("int", default=7),
    "city": FeatureDefinition("string", max_age="1s"),
    "e": "float32[2]",
    "clicks": "count(10m)",
}
NAMES = list(FEATURES)
ALL = LogDefinition(keep="7d", max_entries=100_000)
OLD = 1_600_000_000_000


def logged(*names: str, log: LogDefinition = ALL) -> ServiceDefinition:
    return ServiceDefinition(list(names), log)


def declare(store: FeatureStore, **services: Any) -> None:
    store.apply(Definition(features=FEATURES, services={"risk": logged(*NAMES), "plain": ["age"], **services}))


def kept(store: FeatureStore, service: str = "risk") -> list[Kept]:
    """Return the entries of all partitions, once all is sent."""
    assert store._plans.served.wait(10)
    found = []
    for part in store.parts():
        found += [kept_entry(each) for each in store.transport.command("XRANGE", part.served(service), "-", "+")]
    return found


def test_what_is_served_is_kept_with_statuses_times_and_passed_values(store: FeatureStore) -> None:
    declare(store)
    store.upsert([("ann", {"age": 0.1, "city": "Zürich", "e": [0.5, -1.5]})], event_time=OLD)
    rows = store.serve("risk", ["ann", "bob"], request_id="r-1", passed={"clicks": 3})
    assert rows == store.get_many(["ann", "bob"], service="risk", passed={"clicks": 3})
    assert rows[0] == {"age": 0.1, "n": 7, "city": None, "e": [0.5, -1.5], "clicks": 3}
    by_id = {each.row.entities["user"][0]: each for each in kept(store)}
    ann, bob = by_id["ann"], by_id["bob"]
    assert ann.columns == {"age": "float", "n": "int", "city": "string", "e": "float32[2]", "clicks": "count(10m)"}
    assert (ann.request, ann.version, ann.row.letters) == ("r-1", store.schema().version, "PDSPp")
    assert ann.row.entities == {"user": ("ann", OLD)}
    assert ann.row.values == [0.1, 7, None, b"\x00\x00\x00\x3f\x00\x00\xc0\xbf", 3]
    assert (bob.row.entities, bob.row.values, bob.row.letters) == ({"user": ("bob", None)}, [None] * 5, "MMMMM")
    assert store.served_counts == (2, 0)


def test_a_service_without_a_log_and_a_read_of_features_keep_nothing(store: FeatureStore) -> None:
    declare(store)
    store.upsert([("ann", {"age": 1})])
    store.serve("plain", ["ann"], request_id="r")
    store.get_many(["ann"], service="risk")
    assert kept(store, "plain") == kept(store) == []
    assert store.serve("risk", []) == []


def test_a_query_keeps_whose_rows_they_are(transport: Transport, backend: Backend) -> None:
    store = FeatureStore(transport)
    store.apply(Definition(features=FEATURES))
    items = FeatureStore(transport, keys=Keys("item"))
    items.apply(Definition(features={"price": "float"}, entity="item", services={"rank": logged("price", "user:n")}))
    store.apply(Definition(features={}, services={"both": logged("item:price", "age", "user:n")}))
    store.upsert([("ann", {"age": 2, "n": 5})], event_time=OLD)
    items.upsert([("i1", {"price": 9.5})], event_time=OLD + 1)
    asked = [{"user": "ann", "item": "i1"}, {"item": "i1"}]
    table = store.serve_query("both", asked, request_id="q", passed={"user:n": None})
    assert table == store.query(asked, service="both", passed={"user:n": None})
    found = {("user" in each.row.entities): each for each in kept(store, "both")}
    assert found[True].columns == {"item:price": "float", "age": "float", "n": "int"}
    assert found[True].row.entities == {"user": ("ann", OLD), "item": ("i1", OLD + 1)}
    assert (found[True].row.values, found[True].row.letters) == ([9.5, 2.0, None], "PPm")
    assert (found[False].row.values, found[False].row.letters) == ([9.5, None, None], "PMm")
    store.serve_query("item:rank", asked[:1], request_id="q")
    (entry,) = kept(store.entity("item"), "rank")
    assert (entry.columns, entry.row.values) == ({"price": "float", "user:n": "int"}, [9.5, 5])
    backend.empty()  # what is of another entity than the user counts as left behind


def test_calls_of_one_request_are_all_kept_or_none_is(store: FeatureStore) -> None:
    declare(store, risk=logged("age", log=LogDefinition(0.5, max_entries=1000)))
    store.upsert([("ann", {"age": 1})])
    for _ in range(3):
        for number in range(20):
            store.serve("risk", ["ann"], request_id=f"request-{number}")
    requests = [each.request for each in kept(store)]
    chosen = {f"request-{number}" for number in range(20) if Sampler(0.5).takes(f"request-{number}")}
    assert 0 < len(chosen) < 20
    assert sorted(requests) == sorted([*chosen] * 3)


def test_requests_without_an_id_are_chosen_at_random_at_the_rate_of_the_schema() -> None:
    for sample in (0.01, 0.3, 1.0):
        sampler = Sampler(sample)
        chosen = sum(sampler.takes("") for _ in range(40_000))
        assert chosen == pytest.approx(40_000 * sample, rel=0.25)


def test_what_the_fast_way_passes_over_and_what_it_leaves_are_together_the_rate() -> None:
    sampler, chosen = Sampler(0.2), 0
    for _ in range(40_000):
        chosen += not sampler.passes_over() and sampler.takes("")
    assert chosen == pytest.approx(8000, rel=0.1)


def test_the_stream_keeps_no_more_than_the_schema_says(store: FeatureStore) -> None:
    declare(store, risk=logged("age", log=LogDefinition(max_entries=100)))
    for _ in range(20):
        store.serve("risk", ["ann"] * 100)
    assert 100 <= len(kept(store)) <= 300  # whole nodes of the stream go
    assert store.served_counts == (2000, 0)


def test_what_is_older_than_the_schema_says_goes(store: FeatureStore) -> None:
    declare(store, risk=logged("age", log=LogDefinition(keep="1d", max_entries=1_000_000)))
    store.upsert([("ann", {"age": 1})])
    part = store.keys.holding(b"ann")
    for number in range(300):
        store.transport.command("XADD", part.served("risk"), f"{number + 1}-0", "old", "x")
    store.serve("risk", ["ann"])
    wait_until(lambda: store.served_counts == (1, 0), what="the entry")
    assert store.transport.command("XLEN", part.served("risk")) <= 101
    assert 0 < store.transport.command("PTTL", part.served("risk")) <= 86_400_000
    declare(store, risk=logged("age", log=LogDefinition(max_entries=1_000_000)))
    store.schema()
    store.serve("risk", ["ann"])
    wait_until(lambda: store.served_counts == (2, 0), what="another entry")
    assert store.transport.command("PTTL", part.served("risk")) == -1


def test_a_log_comes_changes_and_goes_with_its_service(store: FeatureStore) -> None:
    declare(store)
    assert store.schema().logs == {"risk": ServiceLog(1.0, 604_800_000, 100_000)}
    version = store.schema().version
    declare(store)
    assert store.schema().version == version
    declare(store, risk=NAMES)
    assert store.schema().logs == {}
    declare(store)
    retire(store, ["age"], from_services=True)
    assert store.schema().logs == {"risk": ServiceLog(1.0, 604_800_000, 100_000)}
    remove_services(store, ["risk"])
    assert store.schema().logs == {}


def test_retiring_the_last_feature_of_a_service_takes_its_log_too(store: FeatureStore) -> None:
    declare(store, one=logged("age"))
    retire(store, ["age"], from_services=True)
    assert set(store.schema().logs) == {"risk"}


def test_a_log_of_no_service_is_refused(store: FeatureStore) -> None:
    with pytest.raises(UndeclaredFeatureError, match="risk is no service"):
        store.apply(Definition(features=FEATURES, services={"risk": ServiceDefinition([], ALL)}))


def test_a_feature_that_leaves_another_entitys_service_leaves_its_log(backend: Backend, transport: Transport) -> None:
    store, items = FeatureStore(transport), beside(transport, "item")
    store.apply(Definition(features=FEATURES))
    items.apply(Definition({"price": "float"}, entity="item", services={"rank": logged("price", "user:age")}))
    retire(store, ["age"], from_services=True)
    schema = items.schema()
    assert (schema.services, list(schema.logs)) == ({"rank": ["price"]}, ["rank"])
    backend.empty()


def test_under_asyncio_what_is_served_is_kept_too(valkey: Server) -> None:
    async def serve() -> tuple[int, int]:
        async with AsyncFeatureStore.connect(valkey.url, timeout=5) as store:
            await store.apply(Definition(features=FEATURES, services={"risk": logged(*NAMES)}))
            await store.upsert([("ann", {"age": 1})])
            for number in range(20):
                assert await store.serve("risk", ["ann", "bob"], request_id=f"r{number}") == await store.get_many(
                    ["ann", "bob"], service="risk"
                )
            await store.serve_query("risk", [{"user": "ann"}])
        return store.served_counts

    assert asyncio.run(serve()) == (41, 0)
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        entries = [kept_entry(each) for each in store.transport.command("XRANGE", "user:risk:served", "-", "+")]
    assert [each.request for each in entries] == [*(f"r{number}" for number in range(20) for _ in range(2)), ""]


def test_dropping_an_entity_takes_what_was_kept(store: FeatureStore) -> None:
    declare(store)
    store.serve("risk", ["ann"])
    assert len(kept(store)) == 1
    parts = store.parts()
    drop(store)
    assert list(clear(store))
    assert [store.transport.command("EXISTS", part.served("risk")) for part in parts] == [0] * len(parts)


def test_doctor_tells_what_is_kept(store: FeatureStore) -> None:
    declare(store)
    store.serve("risk", ["ann", "bob"])
    assert len(kept(store)) == 2
    told = [finding.text for finding in diagnose(FeatureStore(store.transport), "user")]
    (found,) = [text for text in told if "was served" in text]
    assert re.search(r"user: 2 rows that risk was served are kept since \S+ \S+ UTC(, in 0\.\d MiB)?", found)
    assert found.endswith("(100 % of requests, for 7d, at most 100,000)")


def test_a_schema_that_keeps_nothing_any_more_takes_nothing_and_nothing_is_lost(store: FeatureStore) -> None:
    declare(store)
    store.serve("risk", ["ann"])
    assert len(kept(store)) == 1
    other = FeatureStore(store.transport)
    declare(other, risk=NAMES)
    occasion = store.occasion("risk", "")
    assert occasion is not None
    ((encoded, _),) = served_calls(occasion.pieces({"n": "int"}, [kept(store)[0].row]))
    assert store.transport.run_encoded(LOG_SERVED, encoded) == 0


@pytest.mark.parametrize(
    ("keys", "words", "wrong"),
    [
        (["user:schema"], ["risk", "[]", "1", "", "{}", "", ""], "want 2 keys"),
        (["user:schema", "user:risk:served"], ["risk", "[]", "1"], "want 2 keys"),
        (["user:schema", "user:risk:served"], ["risk", "[]", "1", "", "{}", ""], "want 2 keys"),
        (["user:schema", "user:other:served"], ["risk", "[]", "1", "", "{}", "", ""], "the stream of"),
        (["user:schema", "elsewhere"], ["risk", "[]", "1", "", "{}", "", ""], "the stream of"),
    ],
)
def test_a_call_that_is_none_is_refused(transport: Transport, keys: list[str], words: list[str], wrong: str) -> None:
    with pytest.raises(BadArgumentsError, match=wrong):
        transport.run(LOG_SERVED, [f"{{1}}{key}" for key in keys], words)


def test_lost_scripts_are_loaded_and_nothing_is_lost(store: FeatureStore) -> None:
    declare(store)
    store.transport.command("SCRIPT", "FLUSH")
    store.serve("risk", ["ann"])
    assert len(kept(store)) == 1


@pytest.fixture
def full(valkey: Server) -> Iterator[FeatureStore]:
    """A store in a Redis whose memory is full."""
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        store.upsert([("ann", {"age": 1})])
        store.get("ann", service="risk")
        for name, value in (("maxmemory-policy", "noeviction"), ("maxmemory", "1")):  # Redis 6.2 takes one at a time
            store.transport.command("CONFIG", "SET", name, value)
        yield store


def test_where_memory_is_full_the_read_is_answered_and_the_loss_counted_and_told(
    full: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    rows = full.serve("risk", ["ann", "bob"])
    assert rows[0] is not None
    assert rows[0]["age"] == 1
    wait_until(lambda: full.served_counts == (0, 2), what="the loss")
    assert "2 rows that were served were not kept: OOM" in caplog.text
    full.serve("risk", ["ann"])
    wait_until(lambda: full.served_counts == (0, 3), what="another loss")
    assert caplog.text.count("were not kept") == 1  # a line every 10 s


def test_a_replica_answers_and_the_loss_is_counted(valkey: Server) -> None:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        store.upsert([("ann", {"age": 1})])
        store.transport.command("REPLICAOF", "127.0.0.1", "1")
        assert store.serve("risk", ["ann"])[0] is not None
        wait_until(lambda: store.served_counts == (0, 1), what="the loss")


def test_a_key_of_somebody_else_is_left_alone(store: FeatureStore) -> None:
    declare(store)
    store.schema()
    key = store.keys.holding(b"ann").served("risk")
    store.transport.command("SET", key, "mine")
    assert store.serve("risk", ["ann"]) == [None]
    wait_until(lambda: store.served_counts == (0, 1), what="the loss")
    assert store.transport.command("GET", key) == b"mine"


class Slow(SyncTransport):
    """A transport whose calls that keep what was served wait until they are let go."""

    go: threading.Event

    def run_many_encoded(self, script: Any, *arguments: Any, **options: Any) -> Any:
        if script is LOG_SERVED:
            assert self.go.wait(20)
        return super().run_many_encoded(script, *arguments, **options)


def test_nobody_waits_and_what_is_too_much_is_lost(valkey: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_log, "MOST_ROWS", 5)
    monkeypatch.setattr(served_log, "AT_ONCE", 5)
    transport = Slow(valkey.url, timeout=5, connect_timeout=5)
    transport.go = threading.Event()
    with contextlib.closing(FeatureStore(transport)) as store:
        declare(store)
        for _ in range(20):
            store.serve("risk", ["ann"])
        kept_rows, lost = store.served_counts
        assert kept_rows == 0
        assert 20 - 5 - 5 <= lost <= 20 - 5  # 5 wait, and some may have been taken by then
        transport.go.set()
        assert len(kept(store)) == 20 - lost


def test_what_waits_is_sent_before_a_store_is_closed(valkey: Server) -> None:
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        declare(store)
        for _ in range(50):
            store.serve("risk", ["ann"])
    with FeatureStore.connect(valkey.url, timeout=5) as store:
        assert store.transport.command("XLEN", "user:risk:served") == 50


@pytest.mark.parametrize(
    ("log", "wrong"),
    [
        (LogDefinition(), "has no bound"),
        (LogDefinition(0, keep="1d"), "services.risk.log.sample = 0: want the part"),
        (LogDefinition(1.1, keep="1d"), "services.risk.log.sample = 1.1"),
        (LogDefinition(True, keep="1d"), "services.risk.log.sample = true"),
        (LogDefinition("much", keep="1d"), "services.risk.log.sample = 'much'"),  # type: ignore[arg-type]
        (LogDefinition(keep="7 days"), "services.risk.log.keep = '7 days': want a span"),
        (LogDefinition(keep="0d"), "services.risk.log.keep = '0d'"),
        (LogDefinition(max_entries=0), "services.risk.log.max_entries = 0: want a number of entries"),
        (LogDefinition(max_entries=1.5), "services.risk.log.max_entries = 1.5"),  # type: ignore[arg-type]
    ],
)
def test_a_log_that_cannot_be_is_refused_with_what_would_be_right(log: LogDefinition, wrong: str) -> None:
    with pytest.raises(SchemaError, match=wrong):
        Definition(features={"age": "float"}, services={"risk": logged("age", log=log)}).words()


@pytest.mark.parametrize(
    "value",
    [
        "x", "[]", "{}", '{"sample":1}', '{"sample":0,"keep_ms":1}', '{"sample":2,"keep_ms":1}', '{"keep_ms":1}',
        '{"sample":1,"keep_ms":0}', '{"sample":1,"keep_ms":1.5}', '{"sample":1,"max_entries":1000000001}',
        '{"sample":1,"max_entries":"5"}', '{"sample":1,"keep_ms":1,"more":1}',
    ],
)  # fmt: skip
def test_the_script_has_the_last_word_on_logs(store: FeatureStore, value: str) -> None:
    class Raw(Definition):
        def words(self) -> list[str]:
            return [*super().words(), "@log:risk", value]

    with pytest.raises(BadArgumentsError, match=r"@log:risk wants a JSON object"):
        store.apply(Raw(features={"age": "float"}, services={"risk": ["age"]}))
    assert store.transport.command("EXISTS", store.keys.root) == 0


def test_a_worker_that_ends_waits_for_what_is_to_be_kept(store: FeatureStore) -> None:
    declare(store)
    ended, log = threading.Event(), store._plans.served

    def send_once_ended(send: Callable[[], None]) -> None:
        ended.wait()
        send()

    log.spawn = lambda send: threading.Thread(target=send_once_ended, args=(send,), daemon=True).start()
    store.serve("risk", ["ann", "bob"])
    app = FastReads(store, create_app(store), Meter(Board()))
    assert store.served_counts == (0, 0)
    ended.set()
    app.end_serving()
    assert store.served_counts == (2, 0)


def test_what_cannot_be_kept_before_a_worker_ends_is_counted_as_lost(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    declare(store)
    monkeypatch.setattr(blocking_driver, "_LAST_WORDS_S", 0.01)
    store._plans.served.spawn = lambda _run: None  # what would send them never does
    store.serve("risk", ["ann", "bob"])
    FastReads(store, create_app(store), Meter(Board())).end_serving()
    assert store.served_counts == (0, 2)
    assert "2 rows that were served were not kept" in caplog.text
