"""What a line of the log looks like: for people on a terminal, one JSON object a line elsewhere.

The server's master and workers, gunicorn, the app and the commands all write by it.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from featurestore.errors import ConfigurationError
from featurestore.settings import LogFormat, LogLevel, Settings

LEVELS: dict[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""FEATURESTORE_LOG_LEVEL → the level of Python's logging."""

_BREAKS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE = re.compile(f"[{_BREAKS}]")
"""Characters that end a line, steer a terminal, turn the direction of writing, or are no text at all."""

_LONE = re.compile("[\ud800-\udfff]")
_PLAIN_VALUE = re.compile(r'[^\s"=]+')


class _State:
    """Which worker of the server this process is; None in the master and in commands."""

    worker: int | None = None


def name_worker(number: int) -> None:
    """Have this process's lines say which worker they are from."""
    _State.worker = number


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, `pid`, and what else is known.

    `worker` is there in a worker, `exception` with a traceback. What a record has in `fields` stands beside them.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if _State.worker is not None:
            line["worker"] = _State.worker
        for name, value in fields_of(record).items():
            line.setdefault(name, value)
        trouble = _trouble_of(self, record)
        if trouble:
            line["exception"] = trouble
        return _UNSAFE.sub(_as_json, _encode(line))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, message, fields. A traceback follows, indented.

    So a line that begins with a time is always a record, whatever text of others is in it.

    Args:
        pid: Whether to name the process, which is of no use where there is one alone.
    """

    def __init__(self, *, pid: bool) -> None:
        super().__init__(f"%(asctime)s {'[%(process)d] ' if pid else ''}%(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end, and the lines of a traceback."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        words = [self.formatMessage(record), *(f"{name}={_value(value)}" for name, value in fields_of(record).items())]
        lines = [" ".join(words), *(f"  {line}" for line in _trouble_of(self, record).split("\n") if line)]
        return "\n".join(_UNSAFE.sub(_as_escape, line) for line in lines)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record has beside its message: `extra={"fields": {...}}`."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def formatter_for(stream: TextIO, wanted: LogFormat, *, pid: bool) -> logging.Formatter:
    """Return what formats lines for a stream, as FEATURESTORE_LOG_FORMAT has it."""
    if wanted == "auto":
        wanted = "text" if stream.isatty() else "json"
    return JsonFormatter() if wanted == "json" else TextFormatter(pid=pid)


def log_of_command() -> None:
    """Have a command log to stderr. Settings that cannot be used are the command's to report."""
    try:
        settings = Settings.from_environment()
    except ConfigurationError:
        settings = Settings()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_for(sys.stderr, settings.log_format, pid=False))
    logging.basicConfig(handlers=[handler], level=LEVELS[settings.log_level])


def _trouble_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Return a record's traceback and stack; empty if it has none."""
    found = []
    if record.exc_info and record.exc_info[0] is not None:
        found.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        found.append(formatter.formatStack(record.stack_info))
    return "\n".join(found)


def _encode(line: dict[str, Any]) -> str:
    try:
        return msgspec.json.encode(line, enc_hook=str).decode()
    except UnicodeError:  # lone surrogates are no text
        return msgspec.json.encode({name: _whole(value) for name, value in line.items()}, enc_hook=str).decode()


def _whole(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else _LONE.sub(_as_escape, str(value))


def _value(value: object) -> str:
    text = str(value)
    if _PLAIN_VALUE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _as_escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode()


def _as_json(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
