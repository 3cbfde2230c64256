"""What a line of the log looks like, whatever is in it."""

import io
import json
import logging
import sys
import time
from typing import Any

import pytest

from featurestore.api.identity import parent_of, trace_of
from featurestore.api.slow import SlowLog
from featurestore.serving import logs
from featurestore.serving.logs import JsonFormatter, TextFormatter, formatter_for

HOSTILE = "a\nb\r\x1b[31m\x00\x85\u2028\u202e\ud800\x7f"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def record(message: str, *arguments: object, error: bool = False, **fields: Any) -> logging.LogRecord:
    exc_info = sys.exc_info() if error else None
    made = logging.LogRecord("featurestore", logging.WARNING, __file__, 1, message, arguments, exc_info)
    made.created, made.msecs, made.process = 1_795_769_000.0419, 41.9, 4711
    if fields:
        made.fields = fields
    return made


def test_a_record_is_one_json_object() -> None:
    line = JsonFormatter().format(record("%s is %d", "age", 31, route="/x", duration_ms=0.5, pid=1))
    assert json.loads(line) == {
        "time": "2026-11-27T08:43:20.041Z", "level": "warning", "logger": "featurestore", "message": "age is 31",
        "pid": 4711, "route": "/x", "duration_ms": 0.5,
    }  # fmt: skip


def test_a_worker_says_which_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs._State, "worker", None)
    logs.name_worker(3)
    assert json.loads(JsonFormatter().format(record("x")))["worker"] == 3


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter(pid=True)])
def test_hostile_text_is_one_line_of_plain_characters(formatter: logging.Formatter) -> None:
    line = formatter.format(record("%s", HOSTILE, value=HOSTILE))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert line.encode()
    if isinstance(formatter, JsonFormatter):
        told = json.loads(line)["message"]
        assert told.startswith("a\nb\r\x1b[31m\x00\x85\u2028\u202e")


def test_a_traceback_is_a_field_or_lines_that_are_no_records() -> None:
    try:
        int("one\n2026-11-27 08:43:20,041 [1] ERROR forged".replace("one", "\x1b"))
    except ValueError:
        found = record("it failed", error=True)
    line = json.loads(JsonFormatter().format(found))
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    first, *rest = TextFormatter(pid=False).format(found).split("\n")
    assert first.endswith(" WARNING it failed")
    assert all(each.startswith("  ") for each in rest)
    assert any("forged" in each for each in rest)


def test_text_is_time_level_message_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Formatter, "converter", time.gmtime)
    found = record("slow request", route="/features/{id}", words='a "b" c', empty="")
    line = TextFormatter(pid=True).format(found)
    assert line == (
        '2026-11-27 08:43:20,041 [4711] WARNING slow request route=/features/{id} words="a \\"b\\" c" empty=""'
    )
    assert TextFormatter(pid=False).format(record("x")) == "2026-11-27 08:43:20,041 WARNING x"


def test_auto_is_json_where_there_is_no_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    kinds = [type(formatter_for(stream, "auto", pid=True)) for stream in (io.StringIO(), Terminal())]
    assert kinds == [JsonFormatter, TextFormatter]
    assert type(formatter_for(Terminal(), "json", pid=True)) is JsonFormatter
    assert type(formatter_for(io.StringIO(), "text", pid=True)) is TextFormatter


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, False)),
        (f"00-{TRACE}-{SPAN}-03", (TRACE, SPAN, True)),
        (f"cc-{TRACE}-{SPAN}-01-what-will-be", (TRACE, SPAN, True)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"cc-{TRACE}-{SPAN}-01.more", None),
        ("", None),
    ],
)
def test_a_traceparent_is_read_as_w3c_has_it(text: str, parent: tuple[str, str, bool] | None) -> None:
    assert parent_of({"HTTP_TRACEPARENT": text}) == parent
    assert trace_of({"HTTP_TRACEPARENT": text}) == (parent and parent[0])
    assert parent_of({}) is None


def test_a_flood_of_slow_requests_is_counted(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("featurestore.api.slow.monotonic", lambda: now[0])
    monkeypatch.setattr(logging.getLogger("featurestore"), "propagate", True)
    log = SlowLog(shows_ids=False)
    for _ in range(25):
        log.tell_gathered(["ann"], 99.0, 99.1, 99.9)
    now[0] = 111.0
    log.tell_gathered(["ann"], 99.0, 99.1, 99.9)
    fields = [each.__dict__["fields"] for each in caplog.records]
    assert len(fields) == 11
    assert [each.get("suppressed") for each in fields] == [None] * 10 + [15]
    assert not any("ids" in each for each in fields)
    assert fields[0]["turn_ms"] == 100.0
