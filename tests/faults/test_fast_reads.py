"""Reads that nobody waits for: gathered, answered together, and given back when something is wrong."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import falcon.testing
import gevent
import msgspec
import pytest
from support.scripted import ScriptedServer, echo, eventually, hang_up, ignore, reply_once
from support.scripted_proxy import LIES
from support.servers import Server

from featurestore.api.app import create_app
from featurestore.api.counters import STATUSES, Board, Meter
from featurestore.api.gathered_reads import GatheredReads
from featurestore.contract.read_calls import ReadCalls
from featurestore.errors import BadReplyError, OverloadedError
from featurestore.schema.definition import Definition
from featurestore.store.blocking import FeatureStore
from featurestore.transport.gevent_transport import GeventTransport
from featurestore.worker.interface import REFUSED, Answer

FEATURES = {"age": "int", "score": "float"}


class Reader:
    """A store over a transport for greenlets, and what the app answers for it."""

    def __init__(self, url: str, **options: Any) -> None:
        self.transport = GeventTransport(url, connect_timeout=20, **{"timeout": 20.0, **options})
        self.store = FeatureStore(self.transport)
        self.meter = Meter(Board())
        run_soon = gevent.get_hub().loop.run_callback
        falcon_app = create_app(self.store, meter=self.meter)
        self.app = GatheredReads(self.store, falcon_app, self.meter, self.transport, run_soon)

    def read(self, *ids: str) -> list[Answer | None]:
        """Begin to read every id in one turn of the event loop; return the answers in the order of the ids."""
        answers: dict[int, Answer | None] = {}

        def respond(number: int) -> Callable[[Answer | None], None]:
            return lambda answer: answers.update({number: answer})

        for number, entity_id in enumerate(ids):
            assert self.app.begin(f"/features/{entity_id}", respond(number))
        eventually(lambda: len(answers) == len(ids), what="an answer for every read")
        return [answers[number] for number in range(len(ids))]

    def learn_from(self, other: "Reader") -> None:
        """Know what the other knows of the schema, for as long as the test takes."""
        self.store._plans.selections = other.store._plans.selections
        self.store._plans._sure_until = float("inf")

    @classmethod
    @contextlib.contextmanager
    def connected(cls, url: str, other: "Reader", **options: Any) -> "Iterator[Reader]":
        """A reader with a connection to `url`, that knows what the other knows; closed afterwards."""
        made = cls(url, **options)
        gevent.spawn(made.transport._open).join()
        made.learn_from(other)
        yield made
        made.transport.close()

    def calls(self) -> tuple[int, int]:
        """Return how many calls and how many writes there were so far."""
        return self.transport.calls, self.transport.writes


@pytest.fixture
def reader(valkey: Server) -> Iterator[Reader]:
    """A reader of ten users, that knows the schema."""
    made = Reader(valkey.url)
    made.store.apply(Definition(FEATURES))  # type: ignore[arg-type]
    made.store.upsert([(f"u{number}", {"age": number, "score": number / 4}) for number in range(250)])
    made.store.get("u1")
    made.learn_from(made)
    yield made
    made.transport.close()


def body_of(answer: Answer | None) -> Any:
    assert answer is not None
    return msgspec.json.decode(answer[2])


def expected(number: int) -> dict[str, Any]:
    return {"user_id": f"u{number}", "features": {"age": number, "score": number / 4}}


def counted(reader: Reader) -> dict[str, float]:
    (totals,) = reader.meter.board.requests()
    return {status: count for status, count in zip(STATUSES, totals.statuses, strict=True) if count}


def test_reads_are_counted_by_status(reader: Reader) -> None:
    reader.read("u1", "nobody", "u2")
    reader.read("u3")
    assert counted(reader) == {"200": 3, "404": 1}


def test_the_reads_of_one_turn_are_one_call_in_one_write(reader: Reader) -> None:
    calls, writes = reader.calls()
    answers = reader.read(*[f"u{number}" for number in range(50)])
    assert [body_of(answer) for answer in answers] == [expected(number) for number in range(50)]
    assert reader.calls() == (calls + 1, writes + 1)


def test_more_reads_than_a_call_may_have_are_several_calls_in_one_write(reader: Reader) -> None:
    calls, writes = reader.calls()
    answers = reader.read(*[f"u{number}" for number in range(250)])
    assert [body_of(answer) for answer in answers] == [expected(number) for number in range(250)]
    assert reader.calls() == (calls + 3, writes + 1)


def test_a_single_read_is_answered_as_the_store_renders_it(reader: Reader) -> None:
    for entity_id in ("u7", "nobody"):
        (answer,) = reader.read(entity_id)
        alone = reader.store.get_json(entity_id)
        assert answer is not None
        assert (answer[0], answer[2]) == ("200 OK", alone) if alone else answer[0] == "404 Not Found"


def test_duplicates_and_unknown_ids_have_answers_of_their_own(reader: Reader) -> None:
    answers = reader.read("u1", "nobody", "u1", "u2")
    assert [answer and answer[0] for answer in answers] == ["200 OK", "404 Not Found", "200 OK", "200 OK"]
    assert body_of(answers[1])["detail"] == "User nobody not found"
    assert answers[0] == answers[2]


@pytest.mark.parametrize("path", ["/features/", "/livez", "/features/" + "x" * 257])
def test_a_path_that_is_not_of_an_id_is_not_taken(reader: Reader, path: str) -> None:
    assert not reader.app.begin(path, lambda _: pytest.fail("taken"))


NAMED = "?features=score"


def test_reads_of_named_features_that_arrive_together_are_one_call(reader: Reader) -> None:
    assert not reader.app.begin(f"/features/u1{NAMED}", lambda _: pytest.fail("taken"))  # nobody has asked for that yet
    assert reader.store.get_json("u1", ["score"])
    calls, writes = reader.calls()
    answers = reader.read("u2", f"u3{NAMED}", "u4", f"u5{NAMED}", f"nobody{NAMED}", "u6?features=,score,,score")
    assert reader.calls() == (calls + 2, writes + 1)
    assert [body_of(answers[place]) for place in (0, 2)] == [expected(2), expected(4)]
    for place, number in ((1, 3), (3, 5), (5, 6)):
        assert body_of(answers[place]) == {"user_id": f"u{number}", "features": {"score": number / 4}}
    assert answers[4] is not None
    assert answers[4][0] == "404 Not Found"
    (alone,) = reader.read(f"u7{NAMED}")
    assert alone is not None
    assert alone[2] == reader.store.get_json("u7", ["score"])


def test_reads_of_a_service_follow_its_features(reader: Reader) -> None:
    services = {"one": ["user:age", "age"], "other": ["age", "item:x"]}
    reader.store.apply(Definition(FEATURES, services=services))  # type: ignore[arg-type]
    reader.store.schema()
    assert reader.store.get("u1", service="one") == {"age": 1}
    calls, _ = reader.calls()
    (answer,) = reader.read("u9?service=one")
    assert reader.calls()[0] == calls + 1
    assert body_of(answer) == {"user_id": "u9", "features": {"age": 9}}
    for query in ("service=two", "service=other", "service="):
        assert not reader.app.begin(f"/features/u1?{query}", lambda _: pytest.fail("taken"))
    reader.store._plans._schema_read_at -= 2
    assert not reader.app.begin("/features/u1?service=one", lambda _: pytest.fail("taken"))  # it may be another now


@pytest.mark.parametrize(
    "query",
    ["", "features", "features=", "features=,", "features=nope", "features=age&x", "features=a=b", "features=age?",
     "metadata=true", "x=age", "features=%61ge"],
)  # fmt: skip
def test_other_queries_are_not_taken(reader: Reader, query: str) -> None:
    reader.store.get("u1", ["age"])
    assert not reader.app.begin(f"/features/u1?{query}", lambda _: pytest.fail("taken"))
    assert not reader.app.begin(f"/schema/u1?{query}", lambda _: pytest.fail("taken"))


def test_reads_of_many_selections_wait_their_turn_and_are_all_answered(reader: Reader) -> None:
    names = [f"x{number}" for number in range(12)]
    reader.store.apply(Definition({**FEATURES, **dict.fromkeys(names, "int")}))
    reader.store.schema()
    for name in names:
        reader.store.get_json("u1", [name, "age"])
    calls, _ = reader.calls()
    answers = reader.read(*[f"u{number}?features={name},age" for name in names for number in range(3)])
    assert [body_of(answer)["features"]["age"] for answer in answers] == [0, 1, 2] * len(names)
    assert reader.calls()[0] == calls + len(names)
    assert not reader.app._waiting
    reader.store.transport.command("SCRIPT", "FLUSH")
    assert reader.read(*[f"u1?features={name},age" for name in names]) == [None] * len(names)
    assert not reader.app._under_way
    assert not reader.app._waiting


def test_once_a_second_a_read_of_named_features_is_given_back(reader: Reader) -> None:
    reader.store.get_json("u1", ["score"])
    reader.store._plans._sure_until = 0.0
    first, *others = reader.read(f"u1{NAMED}", f"u2{NAMED}", f"u3{NAMED}")
    assert (first, None in others) == (None, False)
    assert reader.store.get_json("u1", ["score"])
    assert not reader.store.unsure
    assert None not in reader.read(f"u1{NAMED}", f"u2{NAMED}")


def test_lost_scripts_and_another_schema_give_the_reads_back(reader: Reader) -> None:
    reader.store.transport.command("SCRIPT", "FLUSH")
    assert reader.read("u1", "u2") == [None, None]
    assert reader.read("u1") == [None]
    assert reader.store.get_json("u1")  # which loads them again
    assert None not in reader.read("u1", "u2")
    FeatureStore(reader.transport).apply(Definition({"n": "int"}))
    reader.store.upsert([("u1", {"age": 1})])
    assert reader.read("u1", "u2") == [None, None]
    assert reader.store.get_json("u1")  # which reads the schema again
    assert body_of(reader.read("u1")[0])["features"] == {"age": 1, "score": 0.25, "n": None}


def test_once_a_second_a_read_is_given_back_to_make_sure_of_the_schema(reader: Reader) -> None:
    plans = reader.store._plans
    plans._sure_until = 0.0
    first, *others = reader.read("u1", "u2", "u3")
    assert (first, None in others) == (None, False)
    assert reader.read("u1") == [None]
    calls, _ = reader.calls()
    assert reader.store.get_json("u1")
    assert reader.calls()[0] == calls + 1
    assert not reader.store.unsure
    assert None not in reader.read("u1", "u2")


def test_what_nobody_knows_yet_is_given_back(valkey: Server) -> None:
    new = Reader(valkey.url)
    assert new.read("u1") == [None]  # neither a schema nor a connection
    new.transport.close()


def test_reads_on_a_connection_that_breaks_are_given_back_at_once(reader: Reader) -> None:
    with ScriptedServer(hang_up, echo) as server, Reader.connected(server.url, reader) as broken:
        assert broken.read("u1", "u2") == [None, None]


def test_reads_that_take_too_long_say_so(reader: Reader) -> None:
    with ScriptedServer(ignore) as server, Reader.connected(server.url, reader, timeout=0.02) as slow:
        answers = slow.read("u1", "u2")
        assert [answer and answer[0] for answer in answers] == ["504 Gateway Timeout"] * 2


def test_reads_wait_while_three_calls_are_under_way_and_are_then_one_call(reader: Reader) -> None:
    with ScriptedServer(ignore) as server, Reader.connected(server.url, reader, timeout=0.1) as slow:
        answers: list[Answer | None] = []
        before = slow.transport.calls
        for number in range(6):
            assert slow.app.begin(f"/features/u{number}", answers.append)
            gevent.sleep(0)
            gevent.sleep(0)
            assert slow.transport.calls == before + min(number + 1, 3)
        eventually(lambda: len(answers) == 6)
        assert slow.transport.calls == before + 4
        assert [answer and answer[0] for answer in answers] == ["504 Gateway Timeout"] * 6


def test_too_many_calls_in_flight_give_the_reads_back(reader: Reader) -> None:
    with ScriptedServer(ignore) as server, Reader.connected(server.url, reader, max_in_flight=1) as full:
        waiting: list[Answer | None] = []
        assert full.app.begin("/features/u1", waiting.append)
        eventually(lambda: full.transport.in_flight == 1)
        assert full.read("u2", "u3") == [None, None]
        full.transport.close()
        eventually(lambda: len(waiting) == 1)
        assert waiting[0] is not None
        assert json.loads(waiting[0][2])["status"] == 503


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@pytest.mark.parametrize("ids", [("u1",), ("u1", "u2")], ids=["one", "two"])
def test_reads_that_get_a_lie_are_given_back_and_the_link_is_given_up(
    reader: Reader, ids: tuple[str, ...], lie: bytes
) -> None:
    with ScriptedServer(reply_once(lie), echo) as server, Reader.connected(server.url, reader) as lied_to:
        assert lied_to.read(*ids) == [None] * len(ids)
        assert "not connected" in repr(lied_to.transport)
        assert not lied_to.app._under_way
        assert lied_to.transport.in_flight == 0


def test_a_damaged_row_is_given_back_and_the_link_stays(reader: Reader) -> None:
    row = reader.store.transport.command("HGET", "user:u1:features", "@row")
    reader.store.transport.command("HSET", "user:u1:features", "@row", row[:9])
    assert reader.read("u1", "u2") == [None, None]
    assert body_of(reader.read("u2")[0]) == expected(2)
    with pytest.raises(BadReplyError, match="get_features cannot be read"):
        reader.store.get_json("u1")
    assert reader.transport.connections == 1


@pytest.mark.parametrize("broken", ["_bodies", "GatheredReads._answers"])
def test_whatever_is_raised_the_reads_are_given_back(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(f"featurestore.api.gathered_reads.{broken}", fail)
    for _ in range(5):
        assert reader.read("u1", "u2") == [None, None]
    monkeypatch.undo()
    assert None not in reader.read("u1", "u2")
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 5


def test_reads_that_cannot_be_sent_are_given_back(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    for broken in ("submit",):
        monkeypatch.setattr(reader.transport, broken, fail)
        for _ in range(5):
            assert reader.read("u1", "u2") == [None, None]
    monkeypatch.undo()
    assert not reader.app._under_way
    assert None not in reader.read("u1", "u2")
    assert len(caplog.records) == 5


def test_who_fails_to_take_an_answer_does_not_keep_the_others_from_theirs(
    reader: Reader, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Answer | None] = []

    def fail(_: Answer | None) -> None:
        raise RuntimeError("broken")

    for turn in range(1, 6):
        for entity_id, respond in (("u1", answers.append), ("u2", fail), ("u3", answers.append)):
            assert reader.app.begin(f"/features/{entity_id}", respond)
        eventually(lambda turn=turn: len(answers) == 2 * turn)  # type: ignore[misc]
    reader.store._plans._sure_until = 0.0  # the first is given back before the call
    assert reader.app.begin("/features/u1", fail)
    assert reader.app.begin("/features/u2", answers.append)
    eventually(lambda: len(answers) == 11)
    assert None not in answers
    assert not reader.app._under_way
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


WIDE = {f"w{number:03d}": "int" for number in range(500)}


def wide_reader(reader: Reader) -> Reader:
    """The reader of `reader` once there are 500 more features, which no stored row has."""
    reader.store.apply(Definition(WIDE))  # type: ignore[arg-type]
    reader.store.schema()
    assert reader.store.get_json("u1")
    reader.learn_from(reader)
    return reader


def test_rows_that_a_call_has_no_room_for_are_given_back_and_the_others_answered(reader: Reader) -> None:
    reader = wide_reader(reader)
    answers = reader.read("u1", "nobody", *[f"u{number}" for number in range(2, 20)])
    assert answers[1] is not None
    assert answers[1][0] == "404 Not Found"
    made = {number: answers[number] for number in (0, *range(2, 20)) if answers[number] is not None}
    assert 1 <= len(made) <= 4  # about a thousand values
    for number, answer in made.items():
        assert body_of(answer)["features"]["age"] == (number or 1)
    assert counted(reader) == {"200": len(made), "404": 1}


def test_no_call_has_more_reads_than_wide_rows_allow(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, many, sizes = wide_reader(reader), ReadCalls.many, list[int]()

    def noting(calls: ReadCalls, ids: list[str]) -> bytes:
        sizes.append(len(ids))
        return many(calls, ids)

    monkeypatch.setattr(ReadCalls, "many", noting)
    names = tuple([*WIDE][:200])
    reader.store.get_json("u1", names)
    for selection, query in (
        (reader.store.known_selection, ""),
        (reader.store.selection_known(names), "?features=" + ",".join(names)),
    ):
        assert selection is not None
        selection.ids_per_call = 30  # whatever a row is said to take
        sizes.clear()
        reader.read(*[f"u{number}{query}" for number in range(100)])
        assert sizes == [30, 30, 30, 10]


def test_reads_by_names_of_a_wide_row_are_answered_together(reader: Reader) -> None:
    reader = wide_reader(reader)
    names = ("age", "score")
    assert reader.store.get_json("u1", names)
    selection = reader.store.selection_known(names)
    assert selection is not None
    assert not selection.by_layout
    calls, _ = reader.calls()
    answers = reader.read("u1?features=age,score", "nobody?features=age,score", "u3?features=age,score")
    assert reader.calls()[0] == calls + 1
    assert answers[1] is not None
    assert answers[1][0] == "404 Not Found"
    assert [body_of(answers[place]) for place in (0, 2)] == [expected(1), expected(3)]


def asked(reader: Reader, method: str, path: str, body: bytes) -> tuple[str, dict[str, Any]]:
    """Return the status of a WSGI call, and its environment."""
    environ = falcon.testing.create_environ(path, method=method, body=body)
    statuses: list[str] = []
    b"".join(reader.app(environ, lambda status, _headers: statuses.append(status)))
    return statuses[0], environ


def test_large_requests_are_refused_before_they_are_read_and_small_ones_are_not(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = msgspec.json.encode({"ids": [f"u{number}" for number in range(250)]})
    small = msgspec.json.encode({"ids": ["u1", "u2", "u3"]})
    assert asked(reader, "POST", "/features/batch", large)[0] == "200 OK"
    monkeypatch.setattr(reader.transport, "overload", lambda **_: OverloadedError("too many wait"))
    for path in ("/features/batch", "/entities/user/features/batch", "/features/ingest", "/get-online-features"):
        status, environ = asked(reader, "POST", path, large)
        assert (status, environ[REFUSED]) == ("503 Service Unavailable", True)
    status, environ = asked(reader, "POST", "/features/batch", small)
    assert (status, REFUSED in environ) == ("200 OK", False)
    assert asked(reader, "GET", "/features/u1", b"")[0] == "200 OK"
    refused = {each.route: sum(each.statuses) for each in reader.meter.board.requests() if each.method == "POST"}
    assert refused["/entities/{entity}/features/batch"] == 1


def test_a_refusal_of_the_store_is_told_to_the_worker(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> Any:
        raise OverloadedError("too many wait")

    monkeypatch.setattr(reader.transport, "run_many_encoded", refuse)
    body = msgspec.json.encode({"ids": ["u1", "u2", "u3"]})
    status, environ = asked(reader, "POST", "/features/batch", body)
    assert (status, environ[REFUSED]) == ("503 Service Unavailable", True)
