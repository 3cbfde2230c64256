/* Values of msgpack, and the rows of replies: what the extensions read with.
 *
 * Functions that return int give 0, or -1 when the bytes do not fit. Nothing is read beyond a reader's end.
 */
#ifndef FEATURESTORE_READER_H
#define FEATURESTORE_READER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const unsigned char *at, *end;
} Reader;

static inline Reader reader_of(PyObject *bytes)
{
    const unsigned char *first = (const unsigned char *)PyBytes_AS_STRING(bytes);
    return (Reader){first, first + PyBytes_GET_SIZE(bytes)};
}

static inline int take_number(Reader *reader, size_t size, uint64_t *number)
{
    if ((size_t)(reader->end - reader->at) < size)
        return -1;
    for (*number = 0; size > 0; size--)
        *number = *number << 8 | *reader->at++;
    return 0;
}

/* Take an integer whose first byte is `tag`; one beyond int64 does not fit. */
static inline int take_int(Reader *reader, unsigned char tag, int64_t *number)
{
    uint64_t bits;
    if (tag < 0x80 || tag >= 0xe0) {
        *number = (int8_t)tag;
        return 0;
    }
    if (tag < 0xcc || tag > 0xd3 || take_number(reader, (size_t)1 << (tag & 3), &bits) < 0)
        return -1;
    switch (tag) {
    case 0xd0: *number = (int8_t)bits; break;
    case 0xd1: *number = (int16_t)bits; break;
    case 0xd2: *number = (int32_t)bits; break;
    default: *number = (int64_t)bits;
    }
    return tag == 0xcf && bits > INT64_MAX ? -1 : 0;
}

/* Take text whose first byte is `tag`. */
static inline int take_text(Reader *reader, unsigned char tag, const unsigned char **text, size_t *size)
{
    uint64_t length = tag & 31;
    if (tag >= 0xd9 && tag <= 0xdb) {
        if (take_number(reader, (size_t)1 << (tag - 0xd9), &length) < 0)
            return -1;
    } else if ((tag & 0xe0) != 0xa0)
        return -1;
    if ((uint64_t)(reader->end - reader->at) < length)
        return -1;
    *text = reader->at;
    *size = (size_t)length;
    reader->at += length;
    return 0;
}

static inline int take_array(Reader *reader, Py_ssize_t *count)
{
    uint64_t number;
    if (take_number(reader, 1, &number) < 0)
        return -1;
    if (number >= 0x90 && number <= 0x9f)
        number &= 15;
    else if (number < 0xdc || number > 0xdd || take_number(reader, number == 0xdc ? 2 : 4, &number) < 0)
        return -1;
    *count = (Py_ssize_t)number;
    return number > PY_SSIZE_T_MAX ? -1 : 0;
}

static inline uint32_t bits_at(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* How many bytes the character at `at` has in UTF-8 (RFC 3629); 0 where that is none. Only for bytes from 0x80. */
static inline int width_of(const unsigned char *at, const unsigned char *end)
{
    unsigned char lead = at[0], low = 0x80, high = 0xbf;
    int width = lead < 0xc2 || lead > 0xf4 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (width == 0 || end - at < width)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    for (int offset = 1; offset < width; offset++, low = 0x80, high = 0xbf)
        if (at[offset] < low || at[offset] > high)
            return 0;
    return width;
}

/* Pass over one value: nil, bool, number, text or bytes. */
static inline int skip_value(Reader *reader)
{
    uint64_t size;
    if (take_number(reader, 1, &size) < 0)
        return -1;
    unsigned char tag = (unsigned char)size;
    if (tag < 0x80 || tag >= 0xe0 || tag == 0xc0 || tag == 0xc2 || tag == 0xc3)
        return 0;
    if (tag >= 0xa0 && tag <= 0xbf)
        size = tag & 31;
    else if (tag == 0xca || tag == 0xcb)
        size = tag == 0xca ? 4 : 8;
    else if (tag >= 0xcc && tag <= 0xd3)
        size = (uint64_t)1 << (tag & 3);
    else if ((tag < 0xc4 || tag > 0xc6 || take_number(reader, (size_t)1 << (tag - 0xc4), &size) < 0)
             && (tag < 0xd9 || tag > 0xdb || take_number(reader, (size_t)1 << (tag - 0xd9), &size) < 0))
        return -1;
    if ((uint64_t)(reader->end - reader->at) < size)
        return -1;
    reader->at += size;
    return 0;
}

/* Find where each value of an array of `count` starts; the reader is behind the last one then. */
static inline int find_values(Reader *reader, Py_ssize_t count, const unsigned char **starts)
{
    Py_ssize_t found;
    if (take_array(reader, &found) < 0 || found != count)
        return -1;
    for (Py_ssize_t index = 0; index < count; index++) {
        starts[index] = reader->at;
        if (skip_value(reader) < 0)
            return -1;
    }
    return 0;
}

/* The number in `float32[N]`, from 1 to 9999; 0 for any other text. */
static inline uint32_t vector_length(const char *type)
{
    uint32_t length = 0;
    if (strncmp(type, "float32[", 8))
        return 0;
    for (type += 8; *type >= '0' && *type <= '9' && length <= 9999; type++)
        length = 10 * length + (uint32_t)(*type - '0');
    return strcmp(type, "]") || length > 9999 ? 0 : length;
}

/* Set the first letter of a type of values in replies, `v` for a vector, and how many numbers a vector has, else 0; or an
 * exception.
 */
static inline int take_type(PyObject *type, char *kind, uint32_t *length)
{
    const char *text = PyUnicode_Check(type) ? PyUnicode_AsUTF8(type) : NULL;
    if (text == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "a type is text");
        return -1;
    }
    *length = vector_length(text);
    if (!*length && strcmp(text, "float") && strcmp(text, "int") && strcmp(text, "bool") && strcmp(text, "string")) {
        PyErr_Format(PyExc_ValueError, "no type of a value in replies: %R", type);
        return -1;
    }
    *kind = *length ? 'v' : text[0];
    return 0;
}

#endif
