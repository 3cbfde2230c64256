"""How values become what JSON has, for the HTTP clients."""

import math
from collections.abc import Mapping
from typing import Any

from featurestore.errors import BadValueError
from featurestore.text import EVENT_TIME, to_time
from featurestore.writes import EventTime


def row_body(features: Mapping[str, Any], event_time: EventTime) -> dict[str, Any]:
    """Return features and event time as the body of a write has them; a time among the features takes precedence."""
    row: dict[str, Any] = {"features": plain_values(features)}
    time = event_time if features.get(EVENT_TIME) is None else features[EVENT_TIME]
    text = to_time(time)
    if text:
        row["event_time"] = text if isinstance(time, str) else int(text)
    return row


def plain_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by name as JSON has them, without an event time; errors as in `plain`."""
    return {name: plain(name, value) for name, value in values.items() if name != EVENT_TIME}


def plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it; numpy's scalars and arrays count as what they hold.

    Raises:
        BadValueError: JSON has nothing that stands for it. (Written as null, as encoders do, NaN would remove the
            feature.)
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(name, number) for number in value]
    fits = value is None or (
        math.isfinite(value)
        if isinstance(value, float)
        else -(2**63) <= value < 2**63
        if isinstance(value, int)
        else isinstance(value, str) and _is_unicode(value)
    )
    if not fits:
        raise BadValueError(f"{name} cannot be {ascii(value)[:64]}")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
