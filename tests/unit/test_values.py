"""What counts as a value of a feature: one rule, for every way into the store."""

import enum
import math
from array import array
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from featurestore.contract.arguments import plain_value
from featurestore.contract.words import FORGET, LEAVE, to_text
from featurestore.errors import BadValueError, UnsuitableValueError
from featurestore.schema.values import row_value, unwrapped


class Count(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    YES = "yes"


class Mixed(str, enum.Enum):  # noqa: UP042 - its str() is not its text
    YES = "yes"


class Scalar:
    """Like numpy's scalars."""

    ndim = 0

    def __init__(self, value: object) -> None:
        self._value = value

    def item(self) -> object:
        return self._value


TAKEN: list[tuple[str, Any, Any]] = [
    ("float", 1.5, 1.5),
    ("float", 31, 31.0),
    ("float", 2**63, 2.0**63),
    ("float", np.float64(1.5), 1.5),
    ("float", np.float32(0.5), 0.5),
    ("float", np.array(1.5), 1.5),
    ("float", Count.ONE, 1.0),
    ("float", Scalar(7), 7.0),
    ("int", 7, 7),
    ("int", 7.0, 7),
    ("int", 1e2, 100),
    ("int", -0.0, 0),
    ("int", 2**63 - 1, 2**63 - 1),
    ("int", -(2**63), -(2**63)),
    ("int", np.int64(7), 7),
    ("int", Count.ONE, 1),
    ("bool", True, True),
    ("bool", np.bool_(False), False),
    ("string", "é", "é"),
    ("string", "", ""),
    ("string", "123", "123"),
    ("string", np.str_("a"), "a"),
    ("string", Word.YES, "yes"),
    ("string", Mixed.YES, "yes"),
    ("count(10m)", 7, 7),
    ("sum(amount, 1h)", 7, 7.0),
    ("float32[2]", [1, 0.5], array("f", [1, 0.5]).tobytes()),
    ("float32[2]", (1, 0.5), array("f", [1, 0.5]).tobytes()),
    ("float32[2]", np.array([1, 0.5]), array("f", [1, 0.5]).tobytes()),
    ("float32[2]", pd.Series([1, 0.5]), array("f", [1, 0.5]).tobytes()),
    ("float32[2]", array("f", [1, 0.5]).tobytes(), array("f", [1, 0.5]).tobytes()),
    ("string", None, None),
    ("float32[2]", None, None),
    ("float", np.ma.masked, None),
    ("int", np.ma.array([1, 2], mask=[False, True])[1], None),
]

REFUSED: list[Any] = [
    ("string", 1234, "is string, not 1234"),
    ("string", True, "is string, not True"),
    ("string", 1e2, "is string, not 100.0"),
    ("string", b"a", "is string, not b'a'"),
    ("string", ["a"], "is string, not ['a']"),
    ("string", "\ud800", r"is string, not '\ud800'"),
    ("float", "31", "is float, not '31'"),
    ("float", "x\ny", r"is float, not 'x\ny'"),
    ("float", True, "is float, not True"),
    ("float", math.inf, "is float, not inf"),
    ("float", 10**400, f"is float, not 1{'0' * 63}…"),
    pytest.param("float", 10**5000, "is float, not a value of type int", id="long"),
    ("float", {}, "is float, not {}"),
    ("float", np.timedelta64(1, "s"), "is float, not np.timedelta64(1,'s')"),
    ("string", np.datetime64("2026-01-01T00:00:00", "ns"), "is string, not 1767225600000"),
    ("int", date(2026, 1, 1), "is int, not datetime.date(2026, 1, 1)"),
    ("int", Decimal("7.5"), "is int, not 7.5"),
    ("float", Decimal("inf"), "is float, not inf"),
    ("float", np.longdouble(1), "is float, not np.longdouble('1.0')"),
    ("float", Scalar([1]), "is float, not [1]"),
    ("float", np.array([1.5]), "is float, not array([1.5])"),
    ("int", "7", "is int, not '7'"),
    ("int", 7.5, "is int, not 7.5"),
    ("int", 2.0**53, "is int, not 9007199254740992.0"),
    ("int", 2**63, "is int, not 9223372036854775808"),
    ("int", False, "is int, not False"),
    ("bool", 1, "is bool, not 1"),
    ("bool", "true", "is bool, not 'true'"),
    ("count(10m)", "7", "is count(10m), not '7'"),
    ("float32[2]", [1], "is float32[2], not 1 numbers"),
    ("float32[2]", [1, True], "is float32[2], not [1, True]"),
    ("float32[2]", [1, "2"], "is float32[2], not [1, '2']"),
    ("float32[2]", [1, None], "is float32[2], not [1, None]"),
    ("float32[2]", [[1], [2]], "is float32[2], not [[1], [2]]"),
    ("float32[2]", "12", "is float32[2], not '12'"),
    ("float32[2]", {1: 2, 3: 4}, "is float32[2], not {1: 2, 3: 4}"),
    ("float32[2]", b"12345", "is float32[2], not b'12345'"),
    ("float32[2]", b"1234", "is float32[2], not 1 numbers"),
    ("float32[2]", 5, "is float32[2], not 5"),
    ("float32[2]", [1, math.nan], "is float32[2]: its numbers are finite and within float32"),
    ("float32[2]", [1, 1e300], "is float32[2]: its numbers are finite and within float32"),
]


def test_moments_of_numpy_are_ms_for_any_client() -> None:
    time = np.datetime64("2024-01-01", "ns")
    record = np.array([("a", time)], [("id", "U1"), ("n", "M8[ns]")])
    for value in (time, np.array(time), record[0][1]):
        assert row_value("int", value) == plain_value("n", value) == 1_704_067_200_000
    (row,) = unwrapped(record)
    assert (unwrapped(row)[0], type(unwrapped(row)[1])) == ("a", np.datetime64)
    assert type(unwrapped(np.array([time]))) is np.ndarray


def test_what_no_client_can_send_is_refused_and_what_is_masked_is_missing() -> None:
    with pytest.raises(BadValueError):
        plain_value("n", np.longdouble(1))
    assert plain_value("n", np.ma.masked) is None


@pytest.mark.parametrize("vector", [(1, 2), (number for number in (1, 2)), np.array([1, 2], "f")])
def test_clients_over_http_take_vectors_as_stores_do(vector: Any) -> None:
    assert plain_value("e", vector) == [1.0, 2.0]


@pytest.mark.parametrize(("kind", "value", "row"), TAKEN)
def test_a_value_is_taken_as_rows_have_it(kind: str, value: Any, row: Any) -> None:
    found = row_value(kind, value)
    assert (type(found), found) == (type(row), row)


@pytest.mark.parametrize(("kind", "value", "reason"), REFUSED)
def test_a_value_of_another_type_is_refused(kind: str, value: Any, reason: str) -> None:
    with pytest.raises(UnsuitableValueError) as caught:
        row_value(kind, value)
    assert str(caught.value) == reason


def test_there_is_no_negative_zero() -> None:
    assert math.copysign(1, row_value("float", -0.0)) == 1


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("float", 0.1, "0.1"),
        ("float", 1e21, "1e+21"),
        ("float", 69, "69"),
        ("float", 2**63, "9.223372036854776e+18"),
        ("float", -0.0, "-0.0"),
        ("int", 69.0, "69"),
        ("int", 2**63 - 1, "9223372036854775807"),
        ("bool", True, "true"),
        ("bool", False, "false"),
        ("string", "é", "é".encode()),
        ("string", None, FORGET),
        ("float", LEAVE, LEAVE),
    ],
)
def test_values_as_text(kind: str, value: object, text: str | bytes) -> None:
    assert to_text(kind, value) == text


@pytest.mark.parametrize("value", [b"\xff", b"\xfe"])
def test_a_caller_cannot_spell_a_mark(value: bytes) -> None:
    with pytest.raises(UnsuitableValueError):
        to_text("string", value)
