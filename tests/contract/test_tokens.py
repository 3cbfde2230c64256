"""Buckets of tokens: what `take_tokens` grants, on every server, and what leases make of it."""

import threading
from time import monotonic
from typing import Any

import pytest

from featurestore import Transport
from featurestore.access.key import Key
from featurestore.api.keyed_reads import Lane
from featurestore.api.rates import Lease, Rates
from featurestore.contract.scripts import TAKE_TOKENS
from featurestore.errors import BadArgumentsError, FeatureStoreError, RateLimitedError, RedisError
from featurestore.keys import bucket_of
from featurestore.worker.interface import Answer, Respond

SLOW = "0.001"
"""Tokens a second: none comes while a test runs."""


def key(name: str = "ranker", rate: float = 0.001, burst: int = 10) -> Key:
    return Key(name=name, digest=b"", may=frozenset({"read"}), rate=rate, burst=burst)


def take(transport: Transport, *words: str, name: str = "ranker") -> list[int]:
    reply: Any = transport.run(TAKE_TOKENS, [bucket_of(name)], words)
    return list(reply)


@pytest.fixture(autouse=True)
def empty(transport: Transport) -> Any:
    yield
    for name in ("ranker", "other"):
        transport.command("DEL", bucket_of(name), writes=True)


def test_a_new_bucket_is_full_and_gives_what_it_has(transport: Transport) -> None:
    assert take(transport, SLOW, "10", "4") == [4, 0, 6]
    assert take(transport, SLOW, "10", "4") == [4, 0, 2]
    assert take(transport, SLOW, "10", "4") == [2, 0, 0]
    granted, wait, left = take(transport, SLOW, "10", "4")
    assert (granted, left) == (0, 0)
    assert 990_000 < wait <= 1_000_000
    assert take(transport, SLOW, "10", "4", name="other") == [4, 0, 6]


def test_the_least_is_given_whole_or_not_at_all(transport: Transport) -> None:
    assert take(transport, SLOW, "10", "1", "7") == [7, 0, 3]
    granted, wait, left = take(transport, SLOW, "10", "1", "5")
    assert (granted, left) == (0, 3)
    assert 1_990_000 < wait <= 2_000_000
    assert take(transport, SLOW, "10", "9", "3") == [3, 0, 0]


def test_a_full_bucket_gives_more_than_it_holds_and_owes_it(transport: Transport) -> None:
    assert take(transport, SLOW, "10", "1", "25") == [25, 0, 0]
    _, wait, _ = take(transport, SLOW, "10", "1")
    assert 15_990_000 < wait <= 16_000_000
    _, wait, _ = take(transport, SLOW, "10", "1", "25")  # when it is full again
    assert 24_990_000 < wait <= 25_000_000


def test_tokens_come_back_at_the_rate(transport: Transport) -> None:
    began, granted = monotonic(), 0
    while granted < 40:
        granted += take(transport, "100", "10", "10")[0]
    took = monotonic() - began
    assert took > 0.29  # 10 are there; 30 more take 0.3 s
    assert granted <= 10 + 100 * took + 1


def test_a_bucket_goes_when_it_is_full(transport: Transport) -> None:
    take(transport, "0.1", "10", "5")
    assert 30_000 < int(str(transport.command("PTTL", bucket_of("ranker")))) <= 50_001


@pytest.mark.parametrize(
    "words",
    [[], ["1"], ["1", "1"], ["0", "1", "1"], ["-1", "1", "1"], ["x", "1", "1"], ["1", "0", "1"], ["1", "1", "0"],
     ["1", "1.5", "1"], ["1", "1", "1", "0"], ["1", "1", "1", "1", "1"], ["1e10", "1", "1"], ["nan", "1", "1"],
     ["1", "1", "inf"]],
)  # fmt: skip
def test_other_arguments_are_refused(transport: Transport, words: list[str]) -> None:
    with pytest.raises(BadArgumentsError):
        take(transport, *words)
    assert transport.command("EXISTS", bucket_of("ranker")) == 0


def test_other_keys_are_refused(transport: Transport) -> None:
    with pytest.raises(BadArgumentsError, match="the key of a bucket is featurestore:ratelimit:NAME, not all_users"):
        transport.run(TAKE_TOKENS, ["all_users"], ["1", "1", "1"])


def test_a_key_of_another_type_is_told(transport: Transport) -> None:
    transport.command("HSET", bucket_of("ranker"), "a", "b", writes=True)
    with pytest.raises(RedisError, match="WRONGTYPE"):
        take(transport, "1", "1", "1")


def spent(rates: Rates, holder: Key, rows: int = 1, most: int = 1000) -> int:
    """Return how many times tokens for so many rows could be spent."""
    for count in range(most):
        try:
            rates.spend(holder, rows)
        except RateLimitedError:
            return count
    return most


def test_all_processes_together_spend_no_more_than_the_bucket_gives(transport: Transport) -> None:
    holder = key(rate=40.0 / 1e6, burst=60)
    ranges = [Rates(transport) for _ in range(4)]  # each as in a worker of its own
    counts = [0] * len(ranges)

    def work(place: int) -> None:
        counts[place] = spent(ranges[place], holder)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(ranges))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 60


def test_a_lease_saves_calls(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    run = transport.run

    def noting(*words: Any) -> Any:
        calls.append(words)
        return run(*words)

    monkeypatch.setattr(transport, "run", noting)
    rates = Rates(transport)
    assert spent(rates, key(rate=1e5, burst=10_000), most=5000) == 5000
    assert len(calls) == 1  # a twentieth of a second's
    assert Lease(key(rate=1e5, burst=10_000)).chunk == 5000
    assert Lease(key(rate=1e5, burst=10)).chunk == 10
    assert Lease(key(rate=3)).chunk == 1


def test_a_refusal_is_remembered_until_tokens_come(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, holder = Rates(transport), key(burst=2)
    assert spent(rates, holder) == 2
    monkeypatch.setattr(transport, "run", None)  # nobody asks Redis now
    with pytest.raises(
        RateLimitedError, match=r"may read and write 0\.001 rows a second, 2 at once: ask again"
    ) as told:
        rates.spend(holder, 1)
    assert 900 < told.value.retry_s <= 1000
    with pytest.raises(RateLimitedError):
        rates.spend(holder, 5)


def test_a_key_without_a_rate_asks_for_nothing() -> None:
    transport: Any = None
    free = Key(name="free", digest=b"", may=frozenset({"read"}))
    Rates(transport).spend(free, 1_000_000)
    assert Rates(transport).lease_of(free) is None


def test_without_redis_each_worker_counts_alone_and_says_so(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_words: object) -> None:
        raise FeatureStoreError("gone")

    monkeypatch.setattr(transport, "run", fail)
    rates = Rates(transport)
    assert spent(rates, key(rate=50)) == 50  # what comes in a second; then Redis is asked again
    assert len([each for each in caplog.records if "since Redis does not tell: gone" in each.message]) == 1


def test_without_redis_a_request_for_more_than_the_rate_is_paid_for(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: object) -> None:
        raise FeatureStoreError("gone")

    monkeypatch.setattr(transport, "run", fail)
    rates, holder = Rates(transport), key(rate=0.5, burst=5)
    lease = rates.lease_of(holder)
    assert lease is not None
    rates.spend(holder, 1000)
    for _ in range(3):
        with pytest.raises(RateLimitedError) as told:
            rates.spend(holder, 1)
        assert 0 < told.value.retry_s <= 1
        lease.closed_until = 0.0  # as when that time is over
    monkeypatch.undo()
    rates.spend(holder, 1)  # Redis tells again, and it knows of nothing


def test_a_slow_key_takes_no_token_that_it_was_not_asked_for(transport: Transport) -> None:
    spawned: list[Any] = []
    rates = Rates(transport, spawned.append)
    for number in range(10):  # as many as the bucket holds, however long the pauses are
        rates.spend(key(), 1)
        rates.drop_idle()
        assert take(transport, SLOW, "10", "1", "10")[2] == 9 - number
    assert not spawned
    rates.spend(key("other", rate=1000, burst=1000), 1)
    rates.spend(key("other", rate=1000, burst=1000), 40)
    assert len(spawned) == 1


class Worker:
    """What a lane hands its GETs to: it answers none of them, or gives them back."""

    def __init__(self) -> None:
        self.responds: list[Respond] = []
        self.refused = 0

    def gather(self, _path: str, respond: Respond) -> bool:
        self.responds.append(respond)
        return True

    def refuse(self, _lease: Lease, _path: str, _respond: Respond) -> bool:
        self.refused += 1
        return False


def test_a_get_that_is_given_back_has_cost_no_token_yet(transport: Transport) -> None:
    rates, worker, holder = Rates(transport), Worker(), key(rate=100, burst=100)
    rates.spend(holder, 1)
    lane, lease = Lane(worker.gather, worker.refuse, rates), rates.lease_of(holder)
    lane.follow(holder)
    assert lease is not None
    assert lease.tokens == 4  # of a twentieth of a second
    answers: list[Answer | None] = []
    for _ in range(4):
        assert lane.begin("/features/u1", answers.append)
    assert not lane.begin("/features/u1", answers.append)
    assert (lease.tokens, worker.refused) == (0, 1)
    answered: Answer = ("200 OK", [], b"{}")
    for respond, answer in zip(worker.responds, (answered, None, answered, None), strict=True):
        respond(answer)
    assert answers == [answered, None, answered, None]
    assert lease.tokens == 2
