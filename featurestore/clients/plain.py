"""The bodies of writes, for the HTTP clients."""

from typing import Any

from featurestore.contract.arguments import plain_mapping, plain_numbers, plain_values, time_among
from featurestore.contract.words import to_time


def row_body(features: object, event_time: object) -> dict[str, Any]:
    """Return the body of a write. An event time among the features takes precedence.

    Raises:
        BadArgumentsError: The features are no mapping of names.
        BadTimeError: The event time is unusable.
        BadValueError: JSON has nothing that stands for a value.
    """
    values = plain_values(features, "features")
    return {"features": values, **time_body(features, event_time)}


def numbers_body(member: str, numbers: object, event_time: object) -> dict[str, Any]:
    """Return the body of a `POST` with amounts or with an event's numbers; errors as in `row_body`."""
    values = plain_numbers(numbers, "the numbers")
    return {member: values, **time_body(numbers, event_time)}


def time_body(values: object, event_time: object) -> dict[str, str | int]:
    """Return the event time as a member of a body, if there is one; errors as in `row_body`."""
    time = time_among(dict(plain_mapping(values, "features")), event_time)
    text = to_time(time)
    return {"event_time": text if isinstance(time, str) else int(text)} if text else {}
