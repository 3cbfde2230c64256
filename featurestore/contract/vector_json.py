"""A vector as JSON: a list of its float32 numbers, each with the fewest digits that tell it from its neighbours.

The C extension writes the numbers from 1e-20 to 1e9 in size. `number` here writes any number, and the same text.
"""

import math
import struct
from collections.abc import Callable

_LEADING_BIT = 1 << 23
_SIGN_BIT = 1 << 31
_MOST_WHOLE_DIGITS = 13
"""Numbers with more digits before the point are written with an exponent."""
_MOST_LEADING_ZEROS = 5
"""Numbers with more zeros behind the point are written with an exponent, too."""


def number(bits: int) -> bytes:
    """Return the JSON of one number, null for NaN and infinity.

    Args:
        bits: The number's IEEE 754 bits.
    """
    sign, size = ("-", bits - _SIGN_BIT) if bits >= _SIGN_BIT else ("", bits)
    exponent, fraction = divmod(size, _LEADING_BIT)
    if exponent == 255:  # noqa: PLR2004 - of NaN and infinity
        return b"null"
    if size == 0:
        return f"{sign}0.0".encode()
    digits, power = _shortest(fraction | _LEADING_BIT, exponent) if exponent else _shortest(fraction, 1)
    return f"{sign}{_laid_out(str(digits), power)}".encode()


def _shortest(significand: int, exponent: int) -> tuple[int, int]:
    """Return the decimal `digits * 10**power` with the fewest digits that reads back as a float32.

    Of several such decimals this is the nearest to the number, which is `significand * 2**(exponent - 150)`. All
    arithmetic is by whole numbers, so it is exact.
    """
    # A decimal reads back as the number if it lies within half a place, or a quarter of one just below a power of two,
    # where floats are twice as dense. So count in quarters of a place, times `scale / unit`.
    centre, scale, unit = 4 * significand, 1, 1
    below_a_power = significand == _LEADING_BIT and exponent > 1
    low, high = centre - (1 if below_a_power else 2), centre + 2
    if exponent >= 152:  # noqa: PLR2004 - a quarter of a place is 2**(exponent - 152)
        scale = 1 << exponent - 152
    else:
        unit = 1 << 152 - exponent
    # Times ten, often enough that at least nine digits stand before the point: more than any float32 needs.
    power = math.floor(math.log10(significand * 2.0 ** (exponent - 150))) - 9
    if power < 0:
        scale *= 10**-power
    else:
        unit *= 10**power
    centre, low, high = centre * scale, low * scale, high * scale
    # The whole numbers from `least` to `most` read back as the number. Where its significand is odd, the ends of the
    # interval do not: they are rounded to the even neighbours.
    odd = significand & 1
    least, most = -(-low // unit), high // unit
    if odd and least * unit == low:
        least += 1
    if odd and most * unit == high:
        most -= 1
    # Drop digits as long as a multiple of the next power of ten is among them.
    ten = 1
    while most // (ten * 10) * (ten * 10) >= least:
        ten *= 10
        power += 1
    step = ten * unit
    digits, rest = divmod(centre, step)
    if 2 * rest > step or (2 * rest == step and digits & 1):
        digits += 1
    if digits * ten < least:
        digits += 1
    elif digits * ten > most:
        digits -= 1
    return digits, power


def _laid_out(digits: str, power: int) -> str:
    """Return `digits * 10**power` as text, with an exponent only where it would be long without."""
    point = len(digits) + power  # how many digits stand before the point
    if 0 < point <= _MOST_WHOLE_DIGITS:
        return f"{digits}{'0' * power}.0" if power >= 0 else f"{digits[:point]}.{digits[point:]}"
    if -_MOST_LEADING_ZEROS <= point <= 0:
        return f"0.{'0' * -point}{digits}"
    return f"{digits[0]}{'.' if len(digits) > 1 else ''}{digits[1:]}e{point - 1:+}"


def write_plainly(vector: bytes, number: Callable[[int], bytes] = number) -> bytes:
    """Return a vector's JSON, as `write_vector` does; in Python alone."""
    return b"[%b]" % b",".join(map(number, struct.unpack(f"<{len(vector) // 4}I", vector)))


_write: Callable[..., bytes]
"""The extension's function, or `write_plainly` where it was not built, for want of a compiler."""

try:
    from featurestore.native.transcode import write_vector as write_natively
except ImportError:
    _write = write_plainly
else:
    _write = write_natively


def write_vector(vector: bytes) -> bytes:
    """Return the JSON of a vector.

    Args:
        vector: The numbers as Redis holds them: float32, little-endian.
    """
    return _write(vector, number)
