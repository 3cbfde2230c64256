/* Bytes that grow as they are written, and numbers as decimal text: what the extensions write with.
 *
 * Functions that return int give 0, or -1 when an exception is set or what is to be written does not fit its form.
 * Nothing is written that RESERVE has not made room for.
 */
#ifndef FEATURESTORE_WRITER_H
#define FEATURESTORE_WRITER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    PyObject *bytes;
    char *at, *end;
} Writer;

#define RESERVE(writer, size) ((size_t)((writer)->end - (writer)->at) >= (size_t)(size) ? 0 : grow((writer), (size)))

static inline int start(Writer *writer, size_t size)
{
    writer->bytes = size > PY_SSIZE_T_MAX / 4 ? PyErr_NoMemory() : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (writer->bytes == NULL)
        return -1;
    writer->at = PyBytes_AS_STRING(writer->bytes);
    writer->end = writer->at + size;
    return 0;
}

static int grow(Writer *writer, size_t size)
{
    size_t used = (size_t)(writer->at - PyBytes_AS_STRING(writer->bytes));
    if (used > PY_SSIZE_T_MAX / 4 || size > PY_SSIZE_T_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    size_t wanted = used + used / 2 + size;
    if (_PyBytes_Resize(&writer->bytes, (Py_ssize_t)wanted) < 0)
        return -1;
    writer->at = PyBytes_AS_STRING(writer->bytes) + used;
    writer->end = PyBytes_AS_STRING(writer->bytes) + wanted;
    return 0;
}

/* Cut the bytes to what was written. */
static int shorten(Writer *writer)
{
    return _PyBytes_Resize(&writer->bytes, writer->at - PyBytes_AS_STRING(writer->bytes));
}

static int put(Writer *writer, const char *at, size_t size)
{
    if (RESERVE(writer, size) < 0)
        return -1;
    memcpy(writer->at, at, size);
    writer->at += size;
    return 0;
}

static int put_bytes(Writer *writer, PyObject *bytes)
{
    return put(writer, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
}

/* Write `digits` with the last `decimals` of them behind a point; without a point for 0. */
static int put_decimal(Writer *writer, int negative, uint64_t digits, int decimals)
{
    char text[64], *first = text + sizeof text;
    if (decimals > 0) {
        for (; decimals > 0; decimals--, digits /= 10)
            *--first = (char)('0' + digits % 10);
        *--first = '.';
    }
    do {
        *--first = (char)('0' + digits % 10);
        digits /= 10;
    } while (digits > 0);
    if (negative)
        *--first = '-';
    size_t size = (size_t)(text + sizeof text - first);
    if (RESERVE(writer, size) < 0)
        return -1;
    memcpy(writer->at, first, size);
    writer->at += size;
    return 0;
}

static int put_integer(Writer *writer, int64_t number)
{
    return put_decimal(writer, number < 0, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 0);
}

/* Write what stands before the bytes of one word of a command, and behind them. */
static int start_word(Writer *writer, size_t size)
{
    return put(writer, "$", 1) < 0 || put_integer(writer, (int64_t)size) < 0 ? -1 : put(writer, "\r\n", 2);
}

static int end_word(Writer *writer)
{
    return put(writer, "\r\n", 2);
}

/* Write one word of a command: `before`, `size` bytes of text, `after`. */
static int put_word(Writer *writer, PyObject *before, const char *text, size_t size, PyObject *after)
{
    size_t whole = size + (size_t)PyBytes_GET_SIZE(before) + (size_t)PyBytes_GET_SIZE(after);
    if (start_word(writer, whole) < 0 || put_bytes(writer, before) < 0 || put(writer, text, size) < 0)
        return -1;
    return put_bytes(writer, after) < 0 ? -1 : end_word(writer);
}

#ifdef __SIZEOF_INT128__
__extension__ typedef unsigned __int128 Wide;

/* Find the fewest digits that read back as `size`, which is no whole number and from 1e-5 to 2^53; of several, the
 * nearest to it. Return how many of them are decimals; 0 where that takes more than this exact arithmetic.
 *
 * size is f * 2^e. Half units of its last place are counted, times 10^k so that 17 or 18 digits stand before the
 * point: at most 2^54 * 10^22 < 2^128. Both neighbours are 10^k half units away from the ends of size's interval.
 */
static int shortest(double size, uint64_t *digits)
{
    int exponent;
    uint64_t f = (uint64_t)ldexp(frexp(size, &exponent), 53);
    int shift = 54 - exponent, k = 16 - (((exponent - 1) * 1233) >> 12), dropped = 0;
    if (f == (uint64_t)1 << 52 || k < 1 || k > 22 || shift < 1 || shift > 70)
        return 0; /* a power of two: its interval is not symmetric */
    Wide half = 1;
    for (int power = 0; power < k; power++)
        half *= 10;
    Wide centre = half * (2 * f);
    uint64_t whole = (uint64_t)(centre >> shift), unit = 1, best = 0;
    for (; dropped < 18; dropped++, unit *= 10) {
        uint64_t below = whole / unit;
        Wide to_below = centre - ((Wide)(below * unit) << shift), to_above = ((Wide)unit << shift) - to_below;
        Wide distance = to_below < to_above ? to_below : to_above;
        if (distance == half || to_below == to_above)
            return 0; /* ties are for others to decide */
        if (distance > half)
            break;
        best = below + (to_above < to_below);
    }
    *digits = best;
    return best == 0 || k < dropped ? 0 : k - dropped + 1;
}
#else
static int shortest(double size, uint64_t *digits)
{
    (void)size, (void)digits;
    return 0;
}
#endif

/* Write a float of 1e-5 to 2^53 in size, without exponent, with the fewest digits that read back as it. Return 1, with
 * nothing written, where that takes more than this arithmetic.
 */
static inline int put_shortest(Writer *writer, double value)
{
    double size = fabs(value);
    int negative = value < 0, decimals = 6;
    uint64_t digits;
    if (size < 1e9) {
        /* Most floats have few decimals. Of the decimals with at most 15 digits only one reads back as this float. */
        double scaled = rint(size * 1e6);
        if (scaled / 1e6 == size) {
            for (digits = (uint64_t)scaled; decimals > 1 && digits % 10 == 0; decimals--)
                digits /= 10;
            return put_decimal(writer, negative, digits, decimals);
        }
    }
    if (size == floor(size))
        return put_decimal(writer, negative, (uint64_t)size * 10, 1);
    decimals = shortest(size, &digits);
    return decimals > 0 ? put_decimal(writer, negative, digits, decimals) : 1;
}

#endif
