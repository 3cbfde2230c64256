"""Vectors as JSON: by the extension and by Python alone the same text, which is orjson's for numpy's float32s."""

import struct
import subprocess
import sys

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.examples import examples

from featurestore.contract import vector_json
from featurestore.contract.vector_json import number, write_plainly, write_vector

built = pytest.mark.skipif(vector_json._write is write_plainly, reason="the extension was not built")

any_bits = st.one_of(
    st.integers(0, 2**32 - 1),
    # Short decimals of any size, and the floats next to them.
    st.builds(
        lambda digits, power, step: (int(np.float32(f"{digits}e{power}").view("<u4")) + step) % 2**32,
        st.integers(1, 10**9), st.integers(-54, 29), st.integers(-1, 1),
    ),
    # Powers of two, below which floats are twice as dense.
    st.builds(lambda exponent, step: (exponent << 23) + step, st.integers(1, 255), st.integers(-1, 1)),
    # The smallest, which have fewer digits.
    st.integers(0, 2**12),
)  # fmt: skip


def packed(bits: list[int]) -> bytes:
    return struct.pack(f"<{len(bits)}I", *bits)


def texts(bits: list[int]) -> list[bytes]:
    """What orjson writes."""
    written = orjson.dumps(np.array(bits, "<u4").view("<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    return written.strip(b"[]").split(b",")


@given(st.lists(any_bits, min_size=1, max_size=20))
@settings(max_examples=examples(2000), deadline=None)
@example([0, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF])
@example([0x1E3CE507, 0x1E3CE508, 0x4E6E6B27, 0x4E6E6B28])
def test_every_number_is_written_as_orjson_writes_it(bits: list[int]) -> None:
    assert [number(each) for each in bits] == texts(bits)


@built
@given(st.lists(any_bits, max_size=20))
@settings(max_examples=examples(2000), deadline=None)
@example([])
@example([0x1E3CE507, 0x1E3CE508, 0x4E6E6B27, 0x4E6E6B28, 0x7FC00000])
def test_the_extension_and_python_write_the_same(bits: list[int]) -> None:
    assert write_vector(packed(bits)) == write_plainly(packed(bits))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0.0"),
        (-0.0, b"-0.0"),
        (1.0, b"1.0"),
        (-2.5, b"-2.5"),
        (0.1, b"0.1"),
        (1e-5, b"0.00001"),
        (1.5e-6, b"0.0000015"),
        (1e-7, b"1e-7"),
        (1e12, b"1000000000000.0"),
        (1e13, b"1e+13"),
        (3.4028235e38, b"3.4028235e+38"),
        (1e-45, b"1e-45"),
    ],
)
def test_how_numbers_are_laid_out(value: float, text: bytes) -> None:
    vector = struct.pack("<f", value)
    assert write_vector(vector) == write_plainly(vector) == b"[" + text + b"]"


@built
def test_the_extension_refuses_what_is_no_vector() -> None:
    unusual = packed([1])
    calls = [(b"abc", number), ("text", number), (unusual,), (unusual, None), (unusual, lambda _bits: "text")]
    for arguments in calls:
        with pytest.raises(TypeError):
            vector_json._write(*arguments)

    def fail(_bits: int) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        vector_json._write(unusual, fail)
    assert vector_json._write(packed([0x3F800000]), fail) == b"[1.0]"


def test_a_vector_is_written_without_numpy() -> None:
    code = (
        "import sys; sys.modules.update(numpy=None, orjson=None)\n"
        "from featurestore.contract.json_rows import encodable_value, encode\n"
        "print(encode(encodable_value(bytes.fromhex('cdcccc3d0000c07f'))).decode())"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown == "[0.1,null]\n"
