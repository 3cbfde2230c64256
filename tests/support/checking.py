"""Clients that load a server, over HTTP and by stores of their own, and check every answer; and what they saw."""

import http.client
import itertools
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from featurestore import FeatureStore
from featurestore.errors import DeadlineExceededError, FeatureStoreError, NoSchemaError, RedisError
from support.truth import DEFINITION, FIRST_MS, Truth, row_of

KEY = "secret"
"""The server's API key for writes."""

HOT, COUNTERS, BATCH = 50, 20, 30
_PAUSE_S = 0.004
_FILL = 2000
_runs = itertools.count()
_ADDRESS = re.compile(r"[\d.]+:\d+|\d+ ms")


class Answer(NamedTuple):
    """One answer: when it was asked for (time.monotonic), how long it took, its status in HTTP's numbers, and why."""

    at: float
    took: float
    writes: bool
    status: str
    why: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it was neither served nor answered that the id is unknown."""
        return self.status not in {"200", "404"}


class Seen(NamedTuple):
    """What clients saw of reads, or of writes, since some moment; times are in s after it.

    Attributes:
        asked: How many answers there were.
        reasons: What those that failed said → how many.
        failed: Status → how many; `broken` is a connection that ended without an answer.
        first: When the first that failed was asked for; 0 where none did.
        last: When the last of them was answered.
        last_asked: When the last of them was asked for.
        slowest: How long the slowest answer took that was served.
    """

    asked: int
    failed: Counter[str]
    first: float
    last: float
    last_asked: float
    slowest: float
    reasons: Counter[str]

    @property
    def window(self) -> float:
        """For how long requests failed, in s."""
        return self.last - self.first


def seen_of(answers: Sequence[Answer], since: float, *, writes: bool) -> Seen:
    """Return what the reads or the writes were answered that were asked for after `since`, or were then under way."""
    own = [each for each in answers if each.writes is writes and each.at + each.took >= since]
    failed = [each for each in own if each.is_failure]
    return Seen(
        asked=len(own),
        failed=Counter(each.status for each in failed),
        first=min((each.at - since for each in failed), default=0.0),
        last=max((each.at + each.took - since for each in failed), default=0.0),
        last_asked=max((each.at - since for each in failed), default=0.0),
        slowest=max((each.took for each in own if not each.is_failure), default=0.0),
        reasons=Counter(_ADDRESS.sub("", each.why) for each in failed),
    )


class HttpCaller:
    """One connection to the HTTP server, opened again where it ended."""

    def __init__(self, port: int) -> None:
        self._port, self.why = port, ""
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, target: str, body: Any, truth: Truth) -> tuple[str, Any]:
        """Return status and body of an answer; accuse one that is neither served nor cleanly refused."""
        connection = self._connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request(method, target, body and json.dumps(body), {"X-API-Key": KEY})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.why = repr(error)
            connection.close()
            self._connection = None
            return "broken", None
        self._connection = connection
        status = str(response.status)
        self.why = "" if status == "200" else text[:300].decode(errors="replace")
        if status == "503" and not response.headers.get("Retry-After"):
            truth.accuse(f"{method} {target}: 503 without Retry-After")
        if status not in {"200", "404", "503", "504"}:
            truth.accuse(f"{method} {target}: {status} {text[:200]!r}")
        return status, json.loads(text) if status == "200" else None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


class Way:
    """How a client asks: each call returns a status and what was found.

    Attributes:
        why: What the last answer that failed said.
    """

    why = ""

    def get(self, entity_id: str) -> tuple[str, Any]:
        """Read one id: its features, None where it is unknown."""
        raise NotImplementedError

    def get_many(self, ids: list[str]) -> tuple[str, Any]:
        """Read several: a list of pairs of the id, as the answer has it, and its features."""
        raise NotImplementedError

    def put(self, entity_id: str, n: int) -> tuple[str, Any]:
        """Write version `n`."""
        raise NotImplementedError

    def increment(self, entity_id: str) -> tuple[str, Any]:
        """Add 1 to `clicks`; what is found is the new value, None where the way does not tell it."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what is held."""
        raise NotImplementedError


class OverHttp(Way):
    """By HTTP, on one connection."""

    def __init__(self, port: int, truth: Truth) -> None:
        self._caller, self._truth = HttpCaller(port), truth

    def _call(self, method: str, target: str, body: Any) -> tuple[str, Any]:
        answered = self._caller.call(method, target, body, self._truth)
        self.why = self._caller.why
        return answered

    def get(self, entity_id: str) -> tuple[str, Any]:
        status, body = self._call("GET", f"/features/{entity_id}", None)
        if status == "200" and body["user_id"] != entity_id:
            self._truth.accuse(f"asked for {entity_id}, was answered {body}")
        return status, body and body["features"]

    def get_many(self, ids: list[str]) -> tuple[str, Any]:
        status, body = self._call("POST", "/features/batch", {"user_ids": ids})
        return status, body and [(each["user_id"], each["features"]) for each in body]

    def put(self, entity_id: str, n: int) -> tuple[str, Any]:
        body = {"features": row_of(entity_id, n), "event_time": FIRST_MS + n}
        status, answer = self._call("PUT", f"/features/{entity_id}", body)
        if status == "200" and answer["features"].get("n") != n:
            self._truth.accuse(f"wrote version {n} of {entity_id}, was answered {answer}")
        return status, answer and answer["features"]

    def increment(self, entity_id: str) -> tuple[str, Any]:
        status, answer = self._call("POST", f"/features/{entity_id}", {"incr": {"clicks": 1}})
        return status, answer and answer["features"]

    def close(self) -> None:
        self._caller.close()


class ByStore(Way):
    """By a `FeatureStore` of its own, which goes to Redis itself."""

    def __init__(self, url: str, timeout: float, truth: Truth) -> None:
        self._store = FeatureStore.connect(url, timeout=timeout, write_timeout=1.0)
        self._truth = truth

    def _ask(self, call: Callable[[], Any]) -> tuple[str, Any]:
        try:
            return "200", call()
        except DeadlineExceededError as error:
            self.why = str(error)
            return "504", None
        except (RedisError, NoSchemaError) as error:
            self.why = str(error)
            return "503", None
        except FeatureStoreError as error:
            self._truth.accuse(f"{type(error).__name__}: {error}")
            return type(error).__name__, None

    def get(self, entity_id: str) -> tuple[str, Any]:
        status, found = self._ask(lambda: self._store.get(entity_id))
        return ("404", None) if status == "200" and found is None else (status, found)

    def get_many(self, ids: list[str]) -> tuple[str, Any]:
        status, found = self._ask(lambda: self._store.get_many(ids))
        return status, found and list(zip(ids, found, strict=True))

    def put(self, entity_id: str, n: int) -> tuple[str, Any]:
        row = {"@event_time": FIRST_MS + n, **row_of(entity_id, n)}
        status, result = self._ask(lambda: self._store.upsert([(entity_id, row)]))
        if status == "200" and result.unconfirmed:
            self.why = result.doubt
            return "503", None
        if status == "200" and result.written != 1:
            self._truth.accuse(f"wrote version {n} of {entity_id}, was answered {result}")
        return status, None

    def increment(self, entity_id: str) -> tuple[str, Any]:
        return self._ask(lambda: self._store.increment(entity_id, {"clicks": 1}))

    def close(self) -> None:
        self._store.close()


class Load:
    """Readers and writers that go on until the end of the block.

    Of the clients, a third are batches, a third single reads, a third writes; each kind over HTTP and by stores.

    Args:
        url: The store's Redis.
        port: The HTTP server's.
        truth: What is known to be written; the ids of `fill` are.
        users: How many `fill` wrote.
        timeout: Of the stores' reads, in s.
    """

    def __init__(self, url: str, port: int, truth: Truth, *, users: int, timeout: float) -> None:
        self.truth, self._users, self._run_number = truth, users, next(_runs)
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._clients: list[threading.Thread] = []
        for number, (kind, by_store) in enumerate(
            [(kind, by_store) for by_store in (False, False, True) for kind in (self._read, self._batch, self._write)]
            + [(self._count, False), (self._count, True)]
        ):
            way: Way = ByStore(url, timeout, truth) if by_store else OverHttp(port, truth)
            self._clients.append(threading.Thread(target=self._run, args=(kind, way, number), daemon=True))

    def __enter__(self) -> Self:
        for each in self._clients:
            each.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        for each in self._clients:
            each.join(60)
            assert not each.is_alive(), "a client hangs"
        if kind is None and self._failures:
            raise self._failures[0]

    def seen(self, since: float) -> tuple[Seen, Seen]:
        """Return what was seen of reads and of writes since a moment of time.monotonic."""
        answers = list(self.answers)
        return seen_of(answers, since, writes=False), seen_of(answers, since, writes=True)

    def last_failure(self) -> float:
        """Return when the last answer that failed came, by time.monotonic; 0 if none did."""
        return max((each.at + each.took for each in list(self.answers) if each.is_failure), default=0.0)

    def _run(self, kind: Callable[[Way, random.Random, int], Iterator[None]], way: Way, number: int) -> None:
        try:
            for _ in kind(way, random.Random(number), number):
                if self._stop.wait(_PAUSE_S):
                    break
        except BaseException as error:
            self._failures.append(error)
            raise
        finally:
            way.close()

    def _note(self, at: float, status: str, way: Way, *, writes: bool) -> bool:
        """Keep one answer; return whether it was served."""
        why = "" if status in {"200", "404"} else f"{type(way).__name__} {way.why}"
        self.answers.append(Answer(at, time.monotonic() - at, writes, status, why))
        return status == "200"

    def _some_id(self, chance: random.Random) -> str:
        """Return an id: often one that is written all the time, now and then one that nobody knows."""
        which = chance.random()
        if which < 0.05:
            return f"nobody{chance.randrange(1000)}"
        return hot(chance.randrange(3), chance.randrange(HOT)) if which < 0.5 else f"u{chance.randrange(self._users)}"

    def _read(self, way: Way, chance: random.Random, _number: int) -> Iterator[None]:
        while True:
            wanted = self._some_id(chance)
            least, at = self.truth.least(wanted), time.monotonic()
            status, found = way.get(wanted)
            self._note(at, status, way, writes=False)
            if status in {"200", "404"}:
                self.truth.judge(wanted, found, least)
            yield

    def _batch(self, way: Way, chance: random.Random, _number: int) -> Iterator[None]:
        while True:
            wanted = [self._some_id(chance) for _ in range(BATCH)]
            least, at = [self.truth.least(each) for each in wanted], time.monotonic()
            status, found = way.get_many(wanted)
            if self._note(at, status, way, writes=False):
                if [each for each, _ in found] != wanted:
                    self.truth.accuse(f"asked for {wanted}, was answered {[each for each, _ in found]}")
                for (entity_id, features), bound in zip(found, least, strict=True):
                    self.truth.judge(entity_id, features, bound)
            yield

    def _write(self, way: Way, chance: random.Random, number: int) -> Iterator[None]:
        """Write ids that are written again and again, and in between ids that are written once: what is lost shows."""
        writer, new = number // 3, 0
        while True:
            if chance.random() < 0.5:
                entity_id = hot(writer, chance.randrange(HOT))
            else:
                entity_id, new = f"new{writer}-{self._run_number}-{new}", new + 1
            n, at = self.truth.next_version(entity_id), time.monotonic()
            status, _ = way.put(entity_id, n)
            if self._note(at, status, way, writes=True):
                self.truth.acknowledge(entity_id, n)
            yield

    def _count(self, way: Way, chance: random.Random, number: int) -> Iterator[None]:
        """Increment: an increment done twice is a value that nobody wrote, one that was lost shows at the end."""
        while True:
            entity_id = counter(number % 2, chance.randrange(COUNTERS))
            least, at = self.truth.least(entity_id), time.monotonic()
            self.truth.next_version(entity_id)
            status, found = way.increment(entity_id)
            if self._note(at, status, way, writes=True):
                self.truth.judge(entity_id, found, least + 1, name="clicks")
                self.truth.count_acknowledged(entity_id)
            yield


def hot(writer: int, number: int) -> str:
    """Return an id that a writer writes again and again."""
    return f"hot{writer}-{number}"


def counter(writer: int, number: int) -> str:
    """Return an id whose clicks a client counts."""
    return f"count{writer}-{number}"


def fill(store: FeatureStore, truth: Truth, users: int) -> None:
    """Declare the features, and write version 0 of so many users and of the ids that `Load` writes."""
    store.apply(DEFINITION)
    ids = [f"u{number}" for number in range(users)]
    ids += [hot(writer, number) for writer in range(3) for number in range(HOT)]
    ids += [counter(writer, number) for writer in range(2) for number in range(COUNTERS)]
    columns = ["@event_time", "n", "half", "owner", "clicks"]
    for first in range(0, len(ids), _FILL):
        some = ids[first : first + _FILL]
        result = store.upsert_table(columns, [(each, FIRST_MS, 0, 0.0, each, 0) for each in some])
        assert result.written == len(some), result
    truth.know(ids)


def lost(store: FeatureStore, truth: Truth) -> int:
    """Return how many acknowledged writes are gone: rows whose last write is, and each increment that is."""
    missing, ids = 0, truth.written
    for first in range(0, len(ids), _FILL):
        some = ids[first : first + _FILL]
        for each, row in zip(some, store.get_many(some, ["n", "clicks"]), strict=True):
            counts = each.startswith("count")
            found: Any = None if row is None else row["clicks" if counts else "n"]
            gone = truth.acknowledged(each) - (-1 if found is None else int(found))
            missing += max(0, gone if counts else min(gone, 1))
    return missing
