"""Services as a schema file declares them: the features that a model reads, and whether what it was served is kept."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from featurestore.errors import SchemaError
from featurestore.schema.times import parse_duration
from featurestore.schema.values import shown

MOST_ENTRIES = 1_000_000_000
"""Most entries that a log may be told to keep."""

_MOST_MS = 10**13 - 1


class LogDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept of what a service was served. At least one bound is wanted.

    Attributes:
        sample: Which part of the requests is kept, from just above 0 to 1.
        keep: How long an entry is kept, such as `7d`.
        max_entries: How many entries are kept, the newest. An entry is one row.
    """

    sample: float = 1.0
    keep: str | None = None
    max_entries: int | None = None


class ServiceDefinition(msgspec.Struct, forbid_unknown_fields=True):
    """A service with options.

    Attributes:
        features: The features that it stands for; `entity:feature` for another entity's.
        log: What is kept of what it was served; None for nothing.
    """

    features: list[str]
    log: LogDefinition | None = None


class ServiceLog(msgspec.Struct, frozen=True, omit_defaults=True):
    """A log as Redis holds it.

    Attributes:
        sample: Which part of the requests is kept.
        keep_ms: How long an entry is kept; 0 for as long as there is room.
        max_entries: How many are kept; 0 for any number.
    """

    sample: float
    keep_ms: int = 0
    max_entries: int = 0

    def __str__(self) -> str:
        """Return the log in words for people."""
        bounds = [f"for {_span(self.keep_ms)}"] if self.keep_ms else []
        bounds += [f"at most {self.max_entries:,}"] if self.max_entries else []
        return f"{self.sample:.4%}".rstrip("0%").rstrip(".") + f" % of requests, {', '.join(bounds)}"


def features_of(service: Sequence[str] | ServiceDefinition) -> Any:
    """Return what a service lists, be it given as a list or with options."""
    return service.features if isinstance(service, ServiceDefinition) else service


def log_word(service: str, log: LogDefinition) -> str:
    """Return a log as apply_schema takes it.

    Raises:
        SchemaError: Something in it is not allowed; it names the key, the value, and what would be right.
    """
    stored: dict[str, Any] = {"sample": _sample(service, log.sample)}
    if log.keep is not None:
        stored["keep_ms"] = _keep_ms(service, log.keep)
    if log.max_entries is not None:
        most = log.max_entries
        if isinstance(most, bool) or not isinstance(most, int) or not 0 < most <= MOST_ENTRIES:
            raise _refusal(service, "max_entries", most, f"want a number of entries, 1 to {MOST_ENTRIES}")
        stored["max_entries"] = most
    if len(stored) == 1:
        text = f'services.{service}.log has no bound: want keep, such as keep = "7d", or max_entries, or both'
        raise SchemaError(text).at("services", service, "log")
    return msgspec.json.encode(stored).decode()


def stored_log(text: str) -> ServiceLog:
    """Return the log that a schema's field `@log:NAME` tells."""
    return msgspec.json.decode(text, type=ServiceLog)


def service_of(name: str, service: Any) -> Any:
    """Return a service of a schema file: a list as it is, a table as a `ServiceDefinition`.

    Raises:
        SchemaError: A table has a key that there is not, or lacks its features.
    """
    if not isinstance(service, Mapping):
        return service
    _check_keys(("services", name), service, ServiceDefinition)
    if "features" not in service:
        text = f'services.{name}.features is missing: want a list of names, such as ["age", "item:price"]'
        raise SchemaError(text).at("services", name)
    log = service.get("log")
    if log is not None:
        if not isinstance(log, Mapping):
            raise _refusal(name, "", log, 'want a table, such as { sample = 0.1, keep = "7d" }')
        _check_keys(("services", name, "log"), log, LogDefinition)
        log = LogDefinition(**log)
    return ServiceDefinition(service["features"], log)


def _check_keys(before: tuple[str, ...], table: Mapping[str, Any], kind: type[msgspec.Struct]) -> None:
    for key in table:
        if key not in kind.__struct_fields__:
            text = f"there is no {'.'.join((*before, key))} (known are {', '.join(kind.__struct_fields__)})"
            raise SchemaError(text).at(*before, key)


def _sample(service: str, sample: object) -> float:
    is_number = isinstance(sample, int | float) and not isinstance(sample, bool)
    if not is_number or not math.isfinite(sample) or not 0 < sample <= 1:  # type: ignore[arg-type,operator]
        raise _refusal(service, "sample", sample, "want the part of the requests to keep, above 0 and at most 1")
    return sample  # type: ignore[return-value]


def _keep_ms(service: str, span: object) -> int:
    try:
        ms = parse_duration(span) if isinstance(span, str) else 0
    except ValueError:
        ms = 0
    if not 0 < ms <= _MOST_MS:
        raise _refusal(service, "keep", span, "want a span of time in quotes, such as 30d, 12h or 5m")
    return ms


def _refusal(service: str, key: str, value: object, want: str) -> SchemaError:
    where = ("services", service, "log", *([key] if key else []))
    text = str(value).lower() if isinstance(value, bool) else shown(value)
    return SchemaError(f"{'.'.join(where)} = {text}: {want}").at(*where)


def _span(ms: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms}ms"
