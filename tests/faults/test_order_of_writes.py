"""Calls that depend on those before them keep their order, whatever the first of them meets."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from featurestore.ingest.writer import BulkWriter, rows_in_calls
from support.servers import Server

from featurestore import Definition, WriteRefusedError
from featurestore.contract import row_calls
from featurestore.contract.doors import BY_EVALSHA
from featurestore.contract.resp import encode_call
from featurestore.contract.scripts import INCREMENT_FEATURES, RECORD_EVENTS, SCRIPTS, UPSERT_FEATURES
from featurestore.errors import RedisError
from featurestore.transport import blocking
from featurestore.transport.repeats import calls_of

KEYS = ("all_users", "user:schema", "user:ann:features")
OLDER, NEWER = (encode_call(UPSERT_FEATURES, KEYS, ("", 1, "age", "ann", age)) for age in ("1", "2"))
LOST = RedisError("NOSCRIPT No matching script")
WRITTEN = [1, 0, []]


class Connection:
    """A connection that keeps what is sent, and reads the replies it was made with."""

    def __init__(self, *replies: Any) -> None:
        self.sent, self._replies = b"", deque(replies)

    def send(self, encoded: bytes, _timeout: float | None = None) -> None:
        self.sent += encoded

    def read(self, _deadline: float | None = None, _timeout: float | None = None) -> Any:
        return self._replies.popleft()


def test_rows_depend_on_the_rows_before_them_and_increments_and_events_do_not() -> None:
    in_order = {"upsert_features", "replace_rows", "count_entries"}
    assert {script.name for script in SCRIPTS if script.in_order} == in_order
    for script in (INCREMENT_FEATURES, RECORD_EVENTS):  # to repeat one that took place would count it twice
        assert not script.in_order


def test_a_stream_repeats_what_stands_behind_a_call_that_redis_did_not_know() -> None:
    loaded = [script.sha.encode() for script in SCRIPTS]
    connection: Any = Connection(LOST, WRITTEN, *loaded, WRITTEN, WRITTEN)
    assert blocking._settle(connection, deque([OLDER, NEWER]), BY_EVALSHA) == [WRITTEN, WRITTEN]
    assert connection.sent.endswith(OLDER + NEWER)


def test_calls_of_one_write_repeat_what_stands_behind_such_a_call() -> None:
    exchanges = calls_of(UPSERT_FEATURES, [OLDER, NEWER])
    assert next(exchanges).encoded == [OLDER, NEWER]
    again = exchanges.send([LOST, WRITTEN])
    assert (again.load, again.encoded) == (True, [OLDER, NEWER])


@pytest.mark.skipif(row_calls.writer_type is None, reason="the extension was not built")
def test_rows_behind_a_call_that_was_refused_follow_the_rows_of_that_call(
    valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = BulkWriter(valkey.url)
    writer.store.apply(Definition(features={"n": "int"}))
    stream = writer._transport.stream

    def refusing_once(calls: Iterable[bytes | None], **options: Any) -> Iterator[Any]:
        """Tell of the first call that memory was full: a later one found some."""
        for number, reply in enumerate(stream(calls, **options)):
            yield reply if number else WriteRefusedError("OOM command not allowed when used memory > 'maxmemory'")

    monkeypatch.setattr(writer._transport, "stream", refusing_once)
    in_call, _ = rows_in_calls(["n"], {"n": "int"})
    others = [(f"u{number}", number) for number in range(2 * in_call - 2)]
    rows = [*others[: in_call - 1], ("ann", 1), ("ann", 2), *others[in_call - 1 :]]
    result = writer.write_table(["n"], rows)
    assert (result.written, result.rejected) == (len(rows), [])
    assert writer.store.get("ann") == {"n": 2}
    writer.close()
