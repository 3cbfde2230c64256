"""A Redis Stream consumed into a store: what is written, acknowledged, taken over, counted once, or dead."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from featurestore.ingest.streams.consumer import Consumer
from featurestore.ingest.streams.counts import Counts
from featurestore.ingest.streams.interface import Entry, id_numbers
from featurestore.ingest.streams.redis_link import RedisLink
from featurestore.ingest.streams.redis_streams import RedisStreams
from featurestore.ingest.streams.writing import Target, grouped
from support.servers import EVERYDAY, Server, real
from support.streams import (
    FEATURES,
    WHOLE,
    T,
    add,
    dead_letters,
    declare,
    expected_of,
    mixed_entries,
    pending,
    stored_of,
)

from featurestore import Definition, FeatureStore, UnavailableError
from featurestore.errors import AccessDeniedError, DeadlineExceededError, RedisError


@pytest.fixture(params=real(*EVERYDAY))
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    found = servers[request.param]
    with FeatureStore.connect(found.socket_url, timeout=5) as store:
        store.transport.command("FLUSHALL")
    return found


@pytest.fixture
def store(server: Server) -> Iterator[FeatureStore]:
    with FeatureStore.connect(server.socket_url, timeout=5) as store:
        declare(store)
        yield store


def source_of(server: Server, *streams: str, consumer: str = "one", **options: Any) -> RedisStreams:
    told = {"batch": 100, "claim_after": 60.0, "start": "0", "passing": False, **options}
    link = RedisLink(server.socket_url, 5.0)
    return RedisStreams(link, streams or ("clicks",), group="featurestore", consumer=consumer, dead=".dead", **told)


def target_of(server: Server) -> Target:
    return Target(server.socket_url, "user", timeout=5, call="scripts")


def drain(source: RedisStreams, target: Target, tries: int = 5, **options: Any) -> Counts:
    """Consume until nothing is left."""
    counts = Counts()
    assert Consumer(source, target, counts, tries=tries, **options).run(until_drained=True)
    source.close()
    target.close()
    return counts


def test_entries_of_every_kind_end_in_the_store_and_are_acknowledged(store: FeatureStore, server: Server) -> None:
    entries = mixed_entries(1000, 30, 1, timed=False)
    add(store, "clicks", entries)
    counts = drain(source_of(server), target_of(server))
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert pending(store, "clicks") == 0
    assert store.transport.command("EXISTS", "clicks.dead", "user:clicks:counted") == 0
    assert (counts.entries["clicks"], counts.outcomes["written"], counts.redelivered) == (1000, 1000, 0)
    assert counts.lags[0].pending == 0
    assert counts.lags[0].entries in {0, None}  # Redis 6.2 does not tell


def test_whole_rows_are_read_by_the_types_of_the_schema(server: Server) -> None:
    with FeatureStore.connect(server.socket_url, timeout=5) as store:
        declare(store, WHOLE)
        add(store, "clicks", [{"user_id": "ann", "age": "31", "name": "7", "vip": "1", "logins": "9007199254740993"}])
        ((entry_id, _),) = store.transport.command("XRANGE", "clicks", "-", "+")
        drain(source_of(server), target_of(server))
        assert store.get("ann") == {"age": 31.0, "name": "7", "vip": True, "logins": 9007199254740993}
        time = store.transport.command("HGET", "user:ann:features", "@event_time")
        assert time == entry_id.partition(b"-")[0]
        evalsha = store.transport.command("INFO", "commandstats").decode()
        assert "cmdstat_evalsha" in evalsha


@pytest.mark.parametrize("features", [WHOLE, FEATURES])
def test_values_beyond_their_types_are_refused_one_by_one(server: Server, features: dict[str, str]) -> None:
    with FeatureStore.connect(server.socket_url, timeout=5) as store:
        declare(store, features)
        whole = {"age": "1", "name": "x", "vip": "1", "logins": "1"}
        bad = [
            {"logins": "9223372036854775808"}, {"logins": "99999999999999999999999"}, {"logins": "1e30"},
            {"logins": "1.5"}, {"age": "1e999"}, {"user_id": "y" * 300}, {"event_time": "99999999999999"},
        ]  # fmt: skip
        add(store, "clicks", [{"user_id": f"bad{number}", **whole, **each} for number, each in enumerate(bad)])
        add(store, "clicks", [{"user_id": "ann", **whole, "age": "99999999999999999999999"}])
        counts = drain(source_of(server), target_of(server))
        letters = dead_letters(store, "clicks")
        assert [letter["@code"] for letter in letters].count("BADTYPE") == 5
        assert {letter["@code"] for letter in letters} == {"BADTYPE", "BADID", "BADTIME"}
        assert (counts.outcomes["written"], len(letters), store.count()) == (1, 7, 1)
        assert store.get("ann", ["age", "logins"]) == {"age": 1e23, "logins": 1}


def test_a_window_is_not_written_as_a_feature(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": "ann", "often": "5"}, {"user_id": "ann", "incr": '{"often": 5}'}])
    counts = drain(source_of(server), target_of(server))
    assert counts.dead == {"BADTYPE": 2}


def test_a_lag_that_cannot_be_told_is_told(store: FeatureStore, server: Server) -> None:
    source = source_of(server)
    with pytest.raises(RedisError):
        source.lags()
    for entry_id in ("1000-0", "3500-0"):
        store.transport.command("XADD", "clicks", entry_id, "user_id", "ann", "age", "1")
    with pytest.raises(RedisError, match="NOGROUP clicks has no group featurestore"):
        source.lags()
    source.open()
    (told,) = source.lags()
    assert (told.source, told.entries, told.pending) in {("clicks", 2, 0), ("clicks", None, 0)}
    assert told.seconds == 2.5
    source.close()


def test_several_streams_are_consumed_side_by_side(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}] * 3)
    add(store, "views", [{"user_id": "ann", "incr": '{"logins": 10}'}] * 3)
    counts = drain(source_of(server, "clicks", "views"), target_of(server))
    assert store.get("ann", ["logins"]) == {"logins": 33}
    assert counts.entries == {"clicks": 3, "views": 3}


def test_an_older_entry_does_not_undo_a_newer_one(store: FeatureStore, server: Server) -> None:
    rows = [{"user_id": "ann", "age": str(age), "event_time": str(1_700_000_000_000 + age)} for age in (5, 7, 6)]
    add(store, "clicks", rows)
    counts = drain(source_of(server), target_of(server))
    assert store.get("ann", ["age"]) == {"age": 7.0}
    assert (counts.outcomes["written"], counts.outcomes["skipped"]) == (2, 1)


def test_what_cannot_be_written_is_a_dead_letter_at_once_and_the_rest_goes_on(
    store: FeatureStore, server: Server
) -> None:
    add(store, "clicks", [
        {"user_id": "ann", "age": "old"},
        {"user_id": "bob", "age": "1"},
        {"user_id": "", "age": "1"},
        {"user_id": "cid", "age": "1", "event_time": "1700000000"},
        {"user_id": "dan", "incr": '{"name": 1}'},
        {"user_id": "eve", "incr": '{"logins": 0.5}'},
        {"user_id": "eve", "incr": '{"logins": 5}'},
        {"payload": '{"id": "fay", "features": {"age": "1"}}'},
        {"nobody": "x"},
    ])  # fmt: skip
    counts = drain(source_of(server), target_of(server))
    assert stored_of(store, ["bob", "eve"])["bob"] == dict.fromkeys(FEATURES) | {
        "age": 1.0,
        "often": 0,
        "spent": 0.0,
    }
    assert store.get("eve", ["logins"]) == {"logins": 5}
    letters = dead_letters(store, "clicks")
    assert {letter["@code"] for letter in letters} == {"BADTYPE", "BADID", "BADTIME", "BADROW"}
    (bad,) = (letter for letter in letters if letter.get("user_id") == "ann")
    first = store.transport.command("XRANGE", "clicks", "-", "+", "COUNT", 1)[0][0].decode()
    assert bad == {
        "user_id": "ann", "age": "old", "@code": "BADTYPE", "@reason": "age is float, not 'old'", "@stream": "clicks",
        "@id": first, "@deliveries": "1",
    }  # fmt: skip
    assert len(letters) == counts.outcomes["rejected"] == sum(counts.dead.values()) == 7
    assert pending(store, "clicks") == 0


def test_dead_letters_can_be_consumed_once_the_schema_has_what_they_want(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": "ann", "rank": "5"}])
    drain(source_of(server), target_of(server))
    assert [letter["@code"] for letter in dead_letters(store, "clicks")] == ["UNDECLARED"]
    store.apply(Definition(features={"rank": "int"}))
    drain(source_of(server, "clicks.dead"), target_of(server))
    assert store.get("ann", ["rank"]) == {"rank": 5}
    time = store.transport.command("HGET", "user:ann:features", "@event_time").decode()
    assert time == dead_letters(store, "clicks")[0]["@id"].partition("-")[0]


def test_a_feature_that_is_declared_meanwhile_is_taken(store: FeatureStore, server: Server) -> None:
    source, target = source_of(server), target_of(server)
    consumer = Consumer(source, target, Counts(), tries=5)
    add(store, "clicks", [{"user_id": "ann", "age": "1"}])
    assert consumer.run(until_drained=True)
    store.apply(Definition(features={"rank": "int"}))
    consumer._schema_at -= 2  # a second has to pass before it looks again
    add(store, "clicks", [{"user_id": "ann", "rank": "5"}, {"user_id": "ann", "rnak": "5"}])
    assert consumer.run(until_drained=True)
    assert store.get("ann", ["rank"]) == {"rank": 5}
    assert [letter["@reason"] for letter in dead_letters(store, "clicks")] == ["rnak is not declared in the schema"]
    source.close()
    target.close()


def test_what_a_dead_consumer_held_is_taken_over_after_a_while_and_counts_once(
    store: FeatureStore, server: Server
) -> None:
    entries = mixed_entries(300, 10, 2, timed=True)
    add(store, "clicks", entries)
    died, target = source_of(server, consumer="died", batch=200), target_of(server)
    died.open()
    target.open()
    held = died.read()
    assert len(held) == 200
    living = Consumer(died, target, Counts(), tries=5)
    living._source = Unacknowledging(died)
    with pytest.raises(KeyboardInterrupt):
        living._take(held)  # all of it is written, and then it dies
    counts = drain(source_of(server, consumer="other"), target_of(server))
    assert counts.entries["clicks"] == 100
    assert pending(store, "clicks") == 200
    counts = drain(source_of(server, consumer="other", claim_after=0.001), target_of(server))
    assert (counts.entries["clicks"], counts.redelivered) == (200, 200)
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected
    assert pending(store, "clicks") == 0


class Unacknowledging:
    """A source whose consumer dies before it acknowledges."""

    def __init__(self, source: RedisStreams) -> None:
        self._source = source

    def settle(self, *_: Any) -> bool:
        raise KeyboardInterrupt


def test_a_consumer_that_comes_back_under_its_name_goes_on_where_it_was(store: FeatureStore, server: Server) -> None:
    entries = mixed_entries(100, 5, 3, timed=False)
    add(store, "clicks", entries)
    before = source_of(server, batch=50)
    before.open()
    assert len(before.read()) == 50
    before.close()
    counts = drain(source_of(server, batch=50), target_of(server))
    assert (counts.entries["clicks"], counts.redelivered) == (100, 50)
    expected = expected_of(entries)
    assert stored_of(store, list(expected)) == expected


def test_an_entry_that_ends_its_consumers_comes_alone_and_dies_after_some_tries(
    store: FeatureStore, server: Server
) -> None:
    ids = add(store, "clicks", [{"user_id": f"u{number}", "age": "1"} for number in range(10)])
    guilty, seen = ids[4], []
    for _ in range(20):
        source = source_of(server)
        source.open()
        while entries := source.read():
            if any(entry.deliveries > 3 for entry in entries):
                break
            seen.append([(entry.id, entry.deliveries) for entry in entries])
            if guilty in {entry.id for entry in entries}:
                break  # here it takes its consumer down
            source.settle(entries, [])
        else:
            pytest.fail("the guilty one was never tried too often")
        source.close()
        if entries[0].deliveries > 3:
            break
    assert seen[:2] == [[(each, 1) for each in ids], [(each, 2) for each in ids]]
    assert seen[2:] == [[(each, 3)] for each in ids[:5]]
    counts = drain(source_of(server), target_of(server), tries=3)
    (letter,) = dead_letters(store, "clicks")
    assert (letter["@id"], letter["@code"], letter["@deliveries"]) == (guilty, "POISON", "5")
    assert counts.outcomes == {"written": 5, "skipped": 0, "rejected": 1}


class Failing(Target):  # type: ignore[misc]  # the package's name in a wheel is not checked
    """A target that does not take one entity, in a way that an entry may have caused."""

    def __init__(self, server: Server, error: Exception) -> None:
        super().__init__(server.socket_url, "user", timeout=5, call="scripts")
        self.error, self.tried = error, 0

    def write(self, group: Any) -> Any:
        if any(row[0] == "u4" for row in group.rows):
            self.tried += 1
            raise self.error
        return super().write(group)


@pytest.mark.parametrize("error", [DeadlineExceededError("too long"), RedisError("ERR user_script: it broke")])
def test_an_entry_that_cannot_be_written_is_tried_alone_and_then_dies(
    store: FeatureStore, server: Server, error: Exception
) -> None:
    add(store, "clicks", [{"user_id": f"u{number}", "age": "1"} for number in range(10)])
    target = Failing(server, error)
    counts = drain(source_of(server), target, tries=4)
    (letter,) = dead_letters(store, "clicks")
    assert (letter["user_id"], letter["@code"], letter["@deliveries"]) == ("u4", "POISON", "4")
    assert letter["@reason"] == f"after 4 tries: {error}"
    assert (target.tried, counts.outcomes["written"]) == (4, 9)
    assert pending(store, "clicks") == 0


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_an_entry_is_never_dead_for_the_failure_of_a_batch(store: FeatureStore, server: Server, tries: int) -> None:
    add(store, "clicks", [{"user_id": f"u{number}", "age": "1"} for number in range(10)])
    counts = drain(source_of(server), Failing(server, DeadlineExceededError("too long")), tries=tries)
    (letter,) = dead_letters(store, "clicks")
    assert (letter["user_id"], letter["@reason"]) == ("u4", "after 3 tries: too long")
    assert (counts.outcomes["written"], counts.dead) == (9, {"POISON": 1})


def test_an_entry_that_comes_alone_at_first_is_dead_after_one_try(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": "u4", "age": "1"}])
    target = Failing(server, DeadlineExceededError("too long"))
    drain(source_of(server), target, tries=1)
    assert (target.tried, len(dead_letters(store, "clicks"))) == (1, 1)


def test_entries_that_were_trimmed_before_they_were_written_are_told(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": f"u{number}", "age": "1"} for number in range(10)])
    before = source_of(server)
    before.open()
    assert len(before.read()) == 10
    before.close()
    store.transport.command("XTRIM", "clicks", "MAXLEN", 4)
    counts = drain(source_of(server), target_of(server))
    assert (counts.lost, counts.outcomes["written"], pending(store, "clicks")) == (6, 4, 0)


def test_a_group_that_is_gone_is_made_again(store: FeatureStore, server: Server) -> None:
    source, target, counts = source_of(server), target_of(server), Counts()
    consumer = Consumer(source, target, counts, tries=5)
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
    assert consumer.run(until_drained=True)
    store.transport.command("DEL", "clicks")
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
    source._behind = False  # as in the middle of a run
    with pytest.raises(RedisError, match="NOGROUP"):
        source.read()
    assert consumer.run(until_drained=True)
    assert store.get("ann", ["logins"]) == {"logins": 2}
    source.close()
    target.close()


def test_a_passing_name_is_forgotten_and_one_that_holds_entries_is_not(store: FeatureStore, server: Server) -> None:
    def names() -> set[bytes]:
        return {told[1] for told in store.transport.command("XINFO", "CONSUMERS", "clicks", "featurestore")}

    add(store, "clicks", [{"user_id": "ann", "age": "1"}])
    holding = source_of(server, consumer="holding", passing=True)
    holding.open()
    assert isinstance(holding.read()[0], Entry)
    holding.close()
    drain(source_of(server, consumer="passing", passing=True), target_of(server))
    add(store, "clicks", [{"user_id": "ann", "age": "1"}])
    drain(source_of(server, consumer="staying"), target_of(server))
    assert names() == {b"holding", b"staying"}


def test_entries_in_hand_are_not_taken_over_while_they_wait(store: FeatureStore, server: Server) -> None:
    (entry_id,) = add(store, "clicks", [{"user_id": "ann", "age": "1"}])
    source, other = source_of(server), source_of(server, consumer="other", claim_after=1000.0)
    source.open()
    entries = source.read()
    long_ago = ("XCLAIM", "clicks", "featurestore", "one", "0", entry_id, "IDLE", "5000000", "JUSTID")
    store.transport.command(*long_ago)
    source.hold(entries)
    assert other.read() == []
    ((_, holder, idle, delivered),) = store.transport.command("XPENDING", "clicks", "featurestore", "-", "+", 9)
    assert (holder, delivered) == (b"one", 1)
    assert idle < 1_000_000
    store.transport.command(*long_ago)  # and without that it is taken over
    other._claim_at = 0.0
    assert [(entry.id, entry.deliveries) for entry in other.read()] == [(entry_id, 2)]
    source.close()
    other.close()


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_only_who_acknowledged_in_time_is_sure_that_nobody_else_has_the_entry(
    store: FeatureStore, server: Server, seconds: float
) -> None:
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
    drain(source_of(server, claim_after=seconds or 1e-9), target_of(server))
    kept = store.transport.command("SCARD", "user:clicks:counted")
    assert kept == (0 if seconds else 1)


def test_entries_that_came_twice_are_forgotten_after_a_while_and_pending_ones_are_not(
    store: FeatureStore, server: Server
) -> None:
    ids = add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}] * 10)
    source, target = source_of(server, batch=5), target_of(server)
    consumer = Consumer(source, target, Counts(), tries=5, forget_after=0.0)
    source.open()
    target.open()
    store.transport.command("SADD", "user:clicks:counted", *ids, "0-5", "what")
    assert [entry.id for entry in source.read()] == ids[:5]
    assert source.settled_below() == {"clicks": id_numbers(ids[0].encode())}
    store.transport.command("XACK", "clicks", "featurestore", *ids[:3])
    consumer._looked_at = 1.0
    consumer._forget_old()  # it looks
    assert store.transport.command("SCARD", "user:clicks:counted") == 12
    store.transport.command("XACK", "clicks", "featurestore", ids[3])
    consumer._forget_old()
    counted = {each.decode() for each in store.transport.command("SMEMBERS", "user:clicks:counted")}
    assert counted == {*ids[3:], "what"}
    store.transport.command("XADD", "clicks.dead", "*", "a", "b")
    store.transport.command("XGROUP", "CREATE", "clicks.dead", "again", "0")
    store.transport.command("XREADGROUP", "GROUP", "again", "one", "STREAMS", "clicks.dead", ">")
    assert source.settled_below() == {}
    source.close()
    target.close()


def test_what_a_consumer_takes_over_does_not_stay_known_as_counted(store: FeatureStore, server: Server) -> None:
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}] * 10)
    before = source_of(server)
    before.open()
    assert len(before.read()) == 10
    before.close()
    source, target = source_of(server), target_of(server)
    consumer = Consumer(source, target, Counts(), tries=5, forget_after=1e-9)
    assert consumer.run(until_drained=True)
    assert store.transport.command("SCARD", "user:clicks:counted") == 10
    for _ in range(2):
        add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}])
        assert consumer.run(until_drained=True)
    assert store.transport.command("SCARD", "user:clicks:counted") <= 1
    assert store.get("ann", ["logins"]) == {"logins": 12}
    source.close()
    target.close()


def test_a_key_that_is_no_stream_is_told(store: FeatureStore, server: Server) -> None:
    store.transport.command("SET", "clicks", "x")
    source, target = source_of(server), target_of(server)
    with pytest.raises(RedisError, match="WRONGTYPE"):
        Consumer(source, target, Counts(), tries=5).run()
    source.close()
    target.close()


class Losing(RedisLink):  # type: ignore[misc]  # the package's name in a wheel is not checked
    """A link on which replies to transactions are lost: those that Redis runs, or does not run."""

    runs: list[bool]

    def transact(self, commands: Any) -> None:
        if self.runs:
            if self.runs.pop(0):
                super().transact(commands)
            raise UnavailableError("connection lost")
        super().transact(commands)


@pytest.mark.parametrize("runs", [[True], [False], [False, True], [True, True, False]])
def test_dead_letters_are_written_once_when_replies_are_lost(
    store: FeatureStore, server: Server, runs: list[bool]
) -> None:
    add(store, "clicks", [{"nobody": "x"}, {"user_id": "ann", "age": "1"}, {"nobody": "y"}])
    source = source_of(server)
    source._link = Losing(server.socket_url, 5.0)
    source._link.runs = list(runs)
    drain(source, target_of(server))
    assert [letter["nobody"] for letter in dead_letters(store, "clicks")] == ["x", "y"]
    assert pending(store, "clicks") == 0
    assert source._link.runs == []


def test_dead_letters_that_cannot_be_stored_leave_their_entries_pending(store: FeatureStore, server: Server) -> None:
    store.transport.command("SET", "clicks.dead", "x")
    add(store, "clicks", [{"nobody": "x"}])
    source, target = source_of(server), target_of(server)
    source.open()
    target.open()
    entries = source.read()
    _, dead = Consumer(source, target, Counts(), tries=5)._decoded(entries)
    with pytest.raises(RedisError, match="WRONGTYPE"):
        source.settle(entries, dead)
    assert pending(store, "clicks") == 1
    source.close()
    target.close()


def test_consumers_do_not_slow_each_other_unless_they_are_to_be_fair(store: FeatureStore, server: Server) -> None:
    row = {"user_id": "ann", "age": "1", "name": "x", "vip": "1", "logins": "1"}
    for fair in (False, True):
        target = Target(server.socket_url, "user", timeout=5, call="scripts", fair=fair)
        target.open()
        decoder = Consumer(source_of(server), target, Counts(), tries=5)
        (rows,) = grouped(decoder._decoded([Entry("clicks", "1-1", T, words_of(row))])[0])
        pace, now = target._writer._pace, [100.0]
        pace._clock = lambda now=now: now[0]
        target.write(rows)  # it looks
        for number in range(300):  # own calls
            increment = Entry("clicks", f"{number}-2", T, words_of({"user_id": "ann", "incr": '{"logins": 1}'}))
            (group,) = grouped(decoder._decoded([increment])[0])
            target.write(group)
        now[0] += 1
        target.write(rows)
        assert not pace.fair
        for _ in range(300):  # those of another consumer
            store.upsert([("bob", {"age": 1.0})])
        now[0] += 1
        target.write(rows)
        assert pace.fair is fair
        target.close()


def words_of(entry: dict[str, str]) -> list[bytes]:
    return [word.encode() for pair in entry.items() for word in pair]


PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()


def test_a_user_needs_these_permissions(store: FeatureStore, server: Server) -> None:
    command = store.transport.command
    add(store, "clicks", [{"user_id": "ann", "incr": '{"logins": 1}'}, {"nobody": "x"}, {"user_id": "bob", "age": "1"}])
    told = re.search(r"^ACL SETUSER consumer .*", PAGE, re.MULTILINE)
    assert told
    command(*told[0].split())
    url = server.url.replace("redis://", "redis://consumer:secret@")

    def source() -> RedisStreams:
        made = source_of(server, passing=True)
        made._link = RedisLink(url, 5.0)
        return made

    counts = drain(source(), Target(url, "user", timeout=5, call="scripts"))
    assert (counts.outcomes["written"], counts.outcomes["rejected"]) == (2, 1)
    command("ACL", "SETUSER", "consumer", "-xreadgroup")
    refused = source()
    refused.open()
    with pytest.raises(AccessDeniedError, match="xreadgroup"):
        refused.read()
    command("ACL", "DELUSER", "consumer")


def test_a_redis_that_is_away_is_told_as_such(tmp_path: Any) -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        RedisLink(f"unix://{tmp_path}/none", 1.0).command("PING")
