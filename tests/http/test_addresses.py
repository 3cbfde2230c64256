"""What clients are told when Redis fails: why, and not where it is; the log has all of it."""

import logging
import re

import falcon.testing
import pytest

from featurestore import FeatureStore
from featurestore.api import problems
from featurestore.api.access import Access
from featurestore.api.app import create_app
from featurestore.api.problems import without_addresses
from featurestore.errors import ForbiddenError, UnavailableError
from featurestore.transport.opening import blocking_transport

URLS = [
    "redis://127.0.0.1:1/0",
    "redis://localhost:1",
    "redis://:pw@[::1]:1",
    "rediss://nobody.invalid:1",
    "unix:///nowhere/redis.sock",
    "redis+cluster://127.0.0.1:1,localhost:2",
    "redis+sentinel://127.0.0.1:1/mymaster",
]


@pytest.mark.parametrize("url", URLS)
def test_a_failure_is_told_without_an_address_and_logged_with_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with FeatureStore(blocking_transport(url, timeout=0.2, connect_timeout=0.2)) as store:
        client = falcon.testing.TestClient(create_app(store))
        for path in ("/schema", "/entities/item/schema"):
            detail = client.simulate_get(path).json["detail"]
            assert not re.search(r"127\.0|localhost|::1|nobody|nowhere|\.sock|:\d|pw", detail), detail
            assert "cannot be reached" in detail
    logged = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert any(re.search(r"127\.0|localhost|::1|nobody|/nowhere/redis\.sock", text) for text in logged)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MOVED 1234 10.0.0.1:7000", "MOVED 1234 a server"),
        ("node cache.internal:6379 is away (node cache.internal:6379, slot 3)", "node a server is away"),
        ("nothing from [fe80::1]:6379 in time", "nothing from a server in time"),
        ("READONLY You can't write against a replica.", "READONLY You can't write against a replica."),
        ("redis+cluster://a:1,b:2 is no cluster", "a server is no cluster"),
        ("certificate is not valid for 'cache.internal'.", "certificate is not valid for a server."),
        ("the write took place on 10.0.0.1:6379; 0 of 2", "the write took place on a server; 0 of 2"),
        ("Error 2 connecting to /run/redis/s.sock. No such file", "Error 2 connecting to a server. No such file"),
        ("Redis did not answer within 50 ms", "Redis did not answer within 50 ms"),
    ],
)  # fmt: skip
def test_addresses_of_all_forms_are_left_out(text: str, shown: str) -> None:
    assert without_addresses(text) == shown


def test_the_log_is_told_of_few_addresses_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(problems._Told, "at", {})
    for number in range(1000):
        problems.answer_to(UnavailableError(f"10.0.0.1:{6379 + number} was away"))
    assert len(caplog.records) == 100


def test_what_is_said_of_keys_is_said_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    _, _, body = problems.answer_to(ForbiddenError("the API key ranker may not read the entity a:1"))
    assert b"may not read the entity a:1" in body
    assert not caplog.records


def test_what_fails_inside_the_server_is_logged_by_its_route(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with FeatureStore(blocking_transport("redis://127.0.0.1:1", timeout=1, connect_timeout=1)) as store:
        monkeypatch.setattr(FeatureStore, "delete", None)
        client = falcon.testing.TestClient(create_app(store, access=Access("k")))
        answer = client.simulate_delete("/features/ann", headers={"X-API-Key": "k"})
    assert (answer.status_code, answer.json["detail"]) == (
        500,
        "the request failed inside the server; its log says why",
    )
    (record,) = (each for each in caplog.records if each.exc_info)
    assert record.getMessage() == "DELETE /features/{id} failed"


def test_errors_that_differ_in_pauses_and_slots_alone_are_one_to_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(problems._Told, "at", {})
    with caplog.at_level(logging.WARNING, "featurestore"):
        for number in range(200):
            for node in ("10.9.9.1:7000", "10.9.9.2:7000"):
                reason = f"cannot be reached; next attempt in {number} ms (node {node}, slot {number})"
                problems.answer_to(UnavailableError(reason))
    assert len([each for each in caplog.records if "10.9.9." in each.message]) == 2
