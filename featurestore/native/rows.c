/* Complete rows of features into the arguments of a call of replace_rows: keys, and the rows in msgpack.
 *
 * What a row is stored as is made here, byte for byte as upsert_features makes it: the packed row, and the text of each
 * feature. Rows come as lists of Python's objects, or as columns in the buffers of Apache Arrow, of which no object is
 * made. A row that is anything but plain (a value of another type than its feature's, text longer than MOST_TEXT, an
 * unusual id) is not for this: the caller sends it through upsert_features, which judges it.
 */
#include "partition.h"
#include "writer.h"
#include <float.h>

#define MOST_TEXT 1024
#define MOST_TIME 1000000000000000 /* 10^15 ms, which no event time reaches */
#define MOST_ROWS (1 << 16)
#define EXACT 9007199254740992 /* 2^53: Lua's numbers are exact below it */

/* A value of a row. Without a form there is none. */
enum { NOTHING, INTEGER, REAL, TRUTH, TEXT };

typedef struct {
    int form;
    int64_t integer;  /* of INTEGER, and 0 or 1 of TRUTH */
    double real;
    const char *text; /* of TEXT, and the bytes of a vector */
    size_t size;
} Cell;

typedef struct {
    PyObject_HEAD
    Py_ssize_t columns; /* of a row, without its id and its event time */
    char *kinds;        /* the first letter of each column's type, and v for a vector */
    size_t *sizes;      /* how many bytes each column's vectors have */
    char *gaps;         /* whether a column may be without a value */
    PyObject *names;    /* of the columns */
    Py_ssize_t width;   /* of the packed row */
    Py_ssize_t *order;  /* the column of each value of the packed row, then those of the vectors outside of it */
    Cell *cells;        /* the row in hand */
    PyObject *layout;   /* the first bytes of a packed row */
    PyObject *time;     /* the digits of the event time of rows that have none of their own */
    int timed;          /* whether rows have their event time behind the id */
} RowWriter;

/* What stands around an id in a key: it tells the partition. */
typedef struct {
    PyObject *before, *after;
} Around;

static PyTypeObject Columns_type;

/* Functions that return int give 0; -1 when an exception is set; NOT_PLAIN where a row is not for this. */
#define NOT_PLAIN 1

/* Write `size` bytes of a number, the highest first, behind a tag. The caller has made room for them. */
static void put_big(Writer *writer, unsigned char tag, uint64_t number, int size)
{
    *writer->at++ = (char)tag;
    while (size-- > 0)
        *writer->at++ = (char)(number >> 8 * size & 0xff);
}

/* Values in msgpack, as cmsgpack packs Lua's */

static int pack_integer(Writer *writer, int64_t number)
{
    uint64_t bits = (uint64_t)number;
    if (RESERVE(writer, 9) < 0)
        return -1;
    if (number >= -32 && number <= 127)
        *writer->at++ = (char)number;
    else if (number >= 0) {
        int step = bits <= UINT8_MAX ? 0 : bits <= UINT16_MAX ? 1 : bits <= UINT32_MAX ? 2 : 3;
        put_big(writer, (unsigned char)(0xcc + step), bits, 1 << step);
    } else {
        int step = number >= INT8_MIN ? 0 : number >= INT16_MIN ? 1 : number >= INT32_MIN ? 2 : 3;
        put_big(writer, (unsigned char)(0xd0 + step), bits, 1 << step);
    }
    return 0;
}

static int pack_double(Writer *writer, double value)
{
    if (value >= INT32_MIN && value < 4294967296.0 && value == floor(value))
        return pack_integer(writer, (int64_t)value);
    if (RESERVE(writer, 9) < 0)
        return -1;
    uint64_t bits;
    float narrow = fabs(value) <= FLT_MAX ? (float)value : 0;
    if (narrow == value && value != floor(value)) { /* whole floats beyond 32 bits have 8 bytes (lua/include/wide.lua) */
        uint32_t narrow_bits;
        memcpy(&narrow_bits, &narrow, 4);
        put_big(writer, 0xca, narrow_bits, 4);
    } else {
        memcpy(&bits, &value, 8);
        put_big(writer, 0xcb, bits, 8);
    }
    return 0;
}

static int pack_text(Writer *writer, const char *text, size_t size)
{
    if (RESERVE(writer, 3) < 0)
        return -1;
    if (size < 32)
        *writer->at++ = (char)(0xa0 | size);
    else if (size <= UINT8_MAX)
        put_big(writer, 0xd9, size, 1);
    else
        put_big(writer, 0xda, size, 2);
    return put(writer, text, size);
}

/* From Python's objects to cells */

/* Find the text in UTF-8 of a string that is short enough. */
static int text_of(PyObject *value, size_t most, const char **text, size_t *size)
{
    Py_ssize_t found;
    if (!PyUnicode_CheckExact(value))
        return NOT_PLAIN;
    *text = PyUnicode_AsUTF8AndSize(value, &found);
    if (*text == NULL) { /* a lone surrogate */
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear();
        return NOT_PLAIN;
    }
    *size = (size_t)found;
    return (size_t)found > most ? NOT_PLAIN : 0;
}

static int integer_of(PyObject *value, int64_t *number)
{
    int overflow;
    if (!PyLong_CheckExact(value))
        return NOT_PLAIN;
    *number = PyLong_AsLongLongAndOverflow(value, &overflow);
    return overflow ? NOT_PLAIN : 0;
}

/* Take a float for a feature of a kind: NaN is no value, and a whole number below 2^53 is an int. */
static int take_real(char kind, double value, Cell *cell)
{
    if (isnan(value)) {
        cell->form = NOTHING;
        return 0;
    }
    if (kind == 'f' && isfinite(value)) {
        cell->form = REAL;
        cell->real = value;
        return 0;
    }
    if (kind != 'i' || value != floor(value) || fabs(value) >= (double)EXACT)
        return NOT_PLAIN;
    cell->form = INTEGER;
    cell->integer = (int64_t)value;
    return 0;
}

/* Take the bytes of a vector, whose numbers are to be finite. */
static int take_vector(const char *bytes, size_t size, size_t wanted, Cell *cell)
{
    if (size != wanted)
        return NOT_PLAIN;
    uint32_t infinite = 0;
    for (size_t at = 0; at < size; at += 4) {
        uint32_t bits;
        memcpy(&bits, bytes + at, 4);
        infinite |= (bits & 0x7f800000) == 0x7f800000;
    }
    if (infinite)
        return NOT_PLAIN;
    *cell = (Cell){.form = TEXT, .text = bytes, .size = size};
    return 0;
}

static int take_object(RowWriter *self, Py_ssize_t column, PyObject *value, Cell *cell)
{
    char kind = self->kinds[column];
    if (value == Py_None) {
        cell->form = NOTHING;
        return 0;
    }
    if (PyFloat_CheckExact(value) && (kind == 'f' || kind == 'i'))
        return take_real(kind, PyFloat_AS_DOUBLE(value), cell);
    switch (kind) {
    case 'b':
        cell->form = TRUTH;
        cell->integer = value == Py_True;
        return PyBool_Check(value) ? 0 : NOT_PLAIN;
    case 's':
        cell->form = TEXT;
        return text_of(value, MOST_TEXT, &cell->text, &cell->size);
    case 'v':
        if (!PyBytes_CheckExact(value))
            return NOT_PLAIN;
        return take_vector(PyBytes_AS_STRING(value), (size_t)PyBytes_GET_SIZE(value), self->sizes[column], cell);
    default:
        cell->form = INTEGER;
        return integer_of(value, &cell->integer);
    }
}

/* From Arrow's columns to cells */

/* A column as Arrow has it. Its values, and the bits that tell which are there, start at `offset`. */
typedef struct {
    char code; /* q int64, d double, ? bits, u text with 32-bit offsets, U with 64-bit ones, v vectors, n nothing */
    Py_buffer present, data, offsets; /* without an `obj` where there is none */
    Py_ssize_t offset, size; /* how many bytes each vector has */
} Column;

typedef struct {
    PyObject_HEAD
    Py_ssize_t rows, count;
    Column *columns;
} Columns;

static int bit_at(const Py_buffer *bits, Py_ssize_t index)
{
    return ((const unsigned char *)bits->buf)[index >> 3] >> (index & 7) & 1;
}

static int64_t offset_at(const Column *column, Py_ssize_t index)
{
    int64_t wide;
    int32_t narrow;
    if (column->code == 'U') {
        memcpy(&wide, (const char *)column->offsets.buf + 8 * index, 8);
        return wide;
    }
    memcpy(&narrow, (const char *)column->offsets.buf + 4 * index, 4);
    return narrow;
}

static int is_there(const Column *column, Py_ssize_t row)
{
    return column->code != 'n' && (column->present.obj == NULL || bit_at(&column->present, column->offset + row));
}

static int text_in(const Column *column, Py_ssize_t row, const char **text, size_t *size)
{
    int64_t first = offset_at(column, column->offset + row), last = offset_at(column, column->offset + row + 1);
    if (first < 0 || last < first || last > column->data.len)
        return NOT_PLAIN;
    *text = (const char *)column->data.buf + first;
    *size = (size_t)(last - first);
    return 0;
}

static int64_t integer_in(const Column *column, Py_ssize_t row)
{
    int64_t number;
    memcpy(&number, (const char *)column->data.buf + 8 * (column->offset + row), 8);
    return number;
}

/* Read the text of a number, as files without types have it. Only plain forms count. */
static int read_number(char kind, const char *text, size_t size, Cell *cell)
{
    char copy[40];
    size_t digits = 0;
    int is_whole = size > (text[0] == '-');
    if (size >= sizeof copy)
        return NOT_PLAIN;
    for (size_t at = 0; at < size; at++) {
        char byte = text[at];
        int is_digit = byte >= '0' && byte <= '9';
        if (!is_digit && byte != '.' && byte != '-' && byte != '+' && byte != 'e' && byte != 'E')
            return NOT_PLAIN;
        digits += (size_t)is_digit;
        is_whole = is_whole && (is_digit || (at == 0 && byte == '-'));
    }
    if (is_whole && digits <= 18) {
        int64_t number = 0;
        for (size_t at = text[0] == '-'; at < size; at++)
            number = 10 * number + (text[at] - '0');
        *cell = (Cell){.form = INTEGER, .integer = text[0] == '-' ? -number : number};
        return 0;
    }
    if (is_whole)
        return NOT_PLAIN;
    memcpy(copy, text, size);
    copy[size] = 0;
    char *end;
    double value = PyOS_string_to_double(copy, &end, NULL);
    if (PyErr_Occurred()) {
        PyErr_Clear();
        return NOT_PLAIN;
    }
    return end == copy + size && isfinite(value) ? take_real(kind, value, cell) : NOT_PLAIN;
}

/* Read the text of a value of any feature but a string or a vector. */
static int read_text(char kind, const char *text, size_t size, Cell *cell)
{
    if (size == 0) {
        cell->form = NOTHING;
        return 0;
    }
    if (kind == 'f' || kind == 'i')
        return read_number(kind, text, size, cell);
    int is_true = (size == 4 && (!memcmp(text, "true", 4) || !memcmp(text, "True", 4)));
    int is_false = (size == 5 && (!memcmp(text, "false", 5) || !memcmp(text, "False", 5)));
    if (kind != 'b' || !(is_true || is_false))
        return NOT_PLAIN;
    *cell = (Cell){.form = TRUTH, .integer = is_true};
    return 0;
}

/* Take a value of a column for a feature of the writer. With `as_text`, all columns are text, of whatever type. */
static int take_value(RowWriter *self, Py_ssize_t at, const Column *column, Py_ssize_t row, int as_text, Cell *cell)
{
    char kind = self->kinds[at], code = column->code;
    const char *text;
    size_t size;
    if (!is_there(column, row)) {
        cell->form = NOTHING;
        return 0;
    }
    if (code == 'u' || code == 'U') {
        if (text_in(column, row, &text, &size) || (kind != 's' && !as_text))
            return NOT_PLAIN;
        if (kind != 's')
            return read_text(kind, text, size, cell);
        *cell = (Cell){.form = as_text && size == 0 ? NOTHING : TEXT, .text = text, .size = size};
        return size > MOST_TEXT ? NOT_PLAIN : 0;
    }
    if (code == 'q' && (kind == 'i' || kind == 'f')) {
        *cell = (Cell){.form = INTEGER, .integer = integer_in(column, row)};
        return 0;
    }
    if (code == 'd' && (kind == 'i' || kind == 'f')) {
        double value;
        memcpy(&value, (const char *)column->data.buf + 8 * (column->offset + row), 8);
        return take_real(kind, value, cell);
    }
    if (code == '?' && kind == 'b') {
        *cell = (Cell){.form = TRUTH, .integer = bit_at(&column->data, column->offset + row)};
        return 0;
    }
    if (code == 'v' && kind == 'v' && (size_t)column->size == self->sizes[at]) {
        size_t wanted = self->sizes[at], first = wanted * (size_t)(column->offset + row);
        return take_vector((const char *)column->data.buf + first, wanted, wanted, cell);
    }
    return NOT_PLAIN;
}

/* From cells to what is stored */

static int put_float(Writer *writer, double value)
{
    double size = fabs(value);
    if (size == 0) /* there is no negative zero in a packed row */
        return signbit(value) ? put(writer, "0", 1) : put(writer, "0.0", 3);
    int left = size >= 1e-4 && size < (double)EXACT ? put_shortest(writer, value) : 1;
    if (left <= 0)
        return left;
    char *text = PyOS_double_to_string(value, 'r', 0, Py_DTSF_ADD_DOT_0, NULL);
    if (text == NULL)
        return -1;
    int failed = put(writer, text, strlen(text));
    PyMem_Free(text);
    return failed;
}

/* Write one value of the packed row. */
static int pack_value(Writer *writer, char kind, const Cell *cell)
{
    switch (cell->form) {
    case NOTHING:
        return put(writer, "\xc0", 1);
    case INTEGER:
        return kind == 'f' ? pack_double(writer, (double)cell->integer) : pack_integer(writer, cell->integer);
    case REAL:
        return pack_double(writer, cell->real);
    case TRUTH:
        return put(writer, cell->integer ? "\xc3" : "\xc2", 1);
    }
    if (kind == 's')
        return pack_text(writer, cell->text, cell->size);
    if (RESERVE(writer, 3) < 0)
        return -1;
    put_big(writer, cell->size <= UINT8_MAX ? 0xc4 : 0xc5, cell->size, cell->size <= UINT8_MAX ? 1 : 2);
    return put(writer, cell->text, cell->size);
}

/* Write the text of a number as a string in msgpack; it has fewer than 32 bytes. */
static int pack_number_text(Writer *writer, const Cell *cell)
{
    Py_ssize_t head = writer->at - PyBytes_AS_STRING(writer->bytes);
    if (put(writer, "\xa0", 1) < 0)
        return -1;
    if ((cell->form == REAL ? put_float(writer, cell->real) : put_integer(writer, cell->integer)) < 0)
        return -1;
    char *first = PyBytes_AS_STRING(writer->bytes) + head; /* it may have moved */
    *first = (char)(0xa0 | (writer->at - first - 1));
    return 0;
}

/* Write the text of one value as a string in msgpack; false where there is no value. */
static int pack_text_of(Writer *writer, const Cell *cell)
{
    switch (cell->form) {
    case NOTHING:
        return put(writer, "\xc2", 1);
    case TRUTH:
        return cell->integer ? pack_text(writer, "true", 4) : pack_text(writer, "false", 5);
    case TEXT:
        return pack_text(writer, cell->text, cell->size);
    default:
        return pack_number_text(writer, cell);
    }
}

/* Write what stands before the array where features are without a value: that they were removed, and when. */
static int put_removed(RowWriter *self, Writer *writer, const Cell *time)
{
    int failed = put(writer, "|", 1), first = 1;
    for (Py_ssize_t slot = 0; !failed && slot < self->columns; slot++) {
        Py_ssize_t size, column = self->order[slot];
        if (self->cells[column].form != NOTHING)
            continue;
        if (first)
            failed = time ? put_integer(writer, time->integer) : put_bytes(writer, self->time);
        if (!failed)
            failed = put(writer, first ? "=" : ",", 1);
        const char *name = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(self->names, column), &size);
        if (failed || name == NULL)
            return -1;
        failed = put(writer, name, (size_t)size);
        first = 0;
    }
    return failed ? -1 : put(writer, "|", 1);
}

/* Write the packed row as a string in msgpack: cmsgpack reads no bytes. */
static int pack_row(RowWriter *self, Writer *writer, const Cell *time, int has_gaps)
{
    Py_ssize_t head = writer->at - PyBytes_AS_STRING(writer->bytes);
    if (RESERVE(writer, 5) < 0)
        return -1;
    writer->at += 5;
    if (put_bytes(writer, self->layout) < 0 || (has_gaps && put_removed(self, writer, time) < 0)
        || RESERVE(writer, 3) < 0)
        return -1;
    if (self->width < 16)
        *writer->at++ = (char)(0x90 | self->width);
    else
        put_big(writer, 0xdc, (uint64_t)self->width, 2);
    for (Py_ssize_t slot = 0; slot < self->width; slot++) {
        Py_ssize_t column = self->order[slot];
        if (pack_value(writer, self->kinds[column], &self->cells[column]) < 0)
            return -1;
    }
    Writer at_head = {.at = PyBytes_AS_STRING(writer->bytes) + head};
    put_big(&at_head, 0xdb, (uint64_t)(writer->at - at_head.at - 5), 4);
    return 0;
}

/* Write the word of the row's key, and the row: its id, its event time where it has one, the packed row, the texts. */
static int put_row(RowWriter *self, const Around *around, Writer *keys, Writer *rows, const char *id, size_t size,
                   const Cell *time)
{
    int has_gaps = 0;
    if (size == 0 || size > MOST_ID || (time && (time->integer < 0 || time->integer >= MOST_TIME)))
        return NOT_PLAIN;
    for (Py_ssize_t column = 0; column < self->columns; column++) {
        if (self->cells[column].form != NOTHING)
            continue;
        if (!self->gaps[column])
            return NOT_PLAIN;
        has_gaps = 1;
    }
    if (put_word(keys, around->before, id, size, around->after) < 0 || pack_text(rows, id, size) < 0
        || (time && pack_number_text(rows, time) < 0) || pack_row(self, rows, time, has_gaps) < 0)
        return -1;
    for (Py_ssize_t column = 0; column < self->columns; column++)
        if (pack_text_of(rows, &self->cells[column]) < 0)
            return -1;
    return 0;
}

/* Write a row of Python's objects. */
static int put_objects(RowWriter *self, const Around *around, Writer *keys, Writer *rows, PyObject *row)
{
    const char *id;
    size_t size;
    Cell time = {.form = INTEGER};
    if ((!PyTuple_CheckExact(row) && !PyList_CheckExact(row))
        || PySequence_Fast_GET_SIZE(row) != 1 + self->timed + self->columns)
        return NOT_PLAIN;
    PyObject **values = PySequence_Fast_ITEMS(row);
    int failed = text_of(values[0], MOST_ID, &id, &size);
    if (!failed && self->timed)
        failed = integer_of(values[1], &time.integer);
    for (Py_ssize_t column = 0; !failed && column < self->columns; column++)
        failed = take_object(self, column, values[1 + self->timed + column], &self->cells[column]);
    return failed ? failed : put_row(self, around, keys, rows, id, size, self->timed ? &time : NULL);
}

/* Ids of rows that are left, by a bit of their hash. Another id with the same bit is taken for one of them. */
typedef struct {
    int any;
    unsigned char bits[1024];
} Ids;

static uint32_t bit_of(const char *id, size_t size)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t at = 0; at < size; at++)
        hash = (hash ^ (unsigned char)id[at]) * 16777619u;
    return (hash ^ hash >> 13) & (8 * sizeof ((Ids *)0)->bits - 1);
}

/* Write a row of columns. One that is left, and whatever follows of the same entity, goes to `left`. */
static int put_values(RowWriter *self, const Around *around, Writer *keys, Writer *rows, const Columns *columns,
                      Py_ssize_t row, int as_text, Ids *left)
{
    const char *id;
    size_t size;
    const Column *ids = columns->columns, *values = ids + 1 + self->timed;
    Cell time = {.form = INTEGER};
    if (!is_there(ids, row) || (ids->code != 'u' && ids->code != 'U') || text_in(ids, row, &id, &size))
        return NOT_PLAIN;
    int failed = 0;
    uint32_t bit = left->any ? bit_of(id, size) : 0;
    if (left->any && left->bits[bit >> 3] >> (bit & 7) & 1)
        failed = NOT_PLAIN;
    if (!failed && self->timed) {
        failed = is_there(ids + 1, row) && ids[1].code == 'q' ? 0 : NOT_PLAIN;
        if (!failed)
            time.integer = integer_in(ids + 1, row);
    }
    for (Py_ssize_t column = 0; !failed && column < self->columns; column++)
        failed = take_value(self, column, values + column, row, as_text, &self->cells[column]);
    if (!failed)
        failed = put_row(self, around, keys, rows, id, size, self->timed ? &time : NULL);
    if (failed == NOT_PLAIN) {
        bit = bit_of(id, size);
        left->bits[bit >> 3] |= (unsigned char)(1 << (bit & 7));
        left->any = 1;
    }
    return failed;
}

static int start_call(RowWriter *self, Writer *keys, Writer *array, size_t rows)
{
    if (start(keys, 64 * rows) < 0 || start(array, (64 + 32 * (size_t)self->columns) * rows + 5) < 0)
        return -1;
    array->at += 5; /* for the array's head, which follows when the rows are counted */
    return 0;
}

/* Write the head of the array of so many rows, and cut both to what was written. */
static int end_call(RowWriter *self, Writer *keys, Writer *array, size_t rows)
{
    Writer at_head = {.at = PyBytes_AS_STRING(array->bytes)};
    put_big(&at_head, 0xdd, rows * (size_t)(2 + self->timed + self->columns), 4);
    return shorten(keys) < 0 || shorten(array) < 0 ? -1 : 0;
}

/* encode(rows, before, after): the words of their keys, and the rows as one msgpack array; None where a row is not
 * plain. */
static PyObject *RowWriter_encode(RowWriter *self, PyObject *arguments)
{
    PyObject *rows;
    Around around;
    if (!PyArg_ParseTuple(arguments, "O!SS", &PyList_Type, &rows, &around.before, &around.after))
        return NULL;
    size_t count = (size_t)PyList_GET_SIZE(rows);
    Writer keys = {0}, array = {0};
    int failed = count > MOST_ROWS ? NOT_PLAIN : start_call(self, &keys, &array, count);
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(rows); index++)
        failed = put_objects(self, &around, &keys, &array, PyList_GET_ITEM(rows, index));
    PyObject *both = NULL;
    if (!failed && end_call(self, &keys, &array, count) == 0)
        both = PyTuple_Pack(2, keys.bytes, array.bytes);
    Py_XDECREF(keys.bytes);
    Py_XDECREF(array.bytes);
    if (failed == NOT_PLAIN)
        Py_RETURN_NONE;
    return both;
}

/* Append a row's place to those that are left. */
static int leave(PyObject *left, Py_ssize_t place)
{
    PyObject *number = PyLong_FromSsize_t(place);
    int failed = number == NULL ? -1 : PyList_Append(left, number);
    Py_XDECREF(number);
    return failed;
}

/* Take an order of rows: a 32-bit number for each place. */
static int take_order(PyObject *given, Py_buffer *order, Py_ssize_t places)
{
    if (PyObject_GetBuffer(given, order, PyBUF_SIMPLE) < 0)
        return -1;
    if (order->len / 4 >= places)
        return 0;
    PyErr_SetString(PyExc_ValueError, "want an order with a number for each place");
    return -1;
}

/* Return the row at a place of an order, -1 with an exception set where it is none; without an order, the place. */
static Py_ssize_t row_at(const Py_buffer *order, Py_ssize_t place, const Columns *columns)
{
    uint32_t row;
    if (order->obj == NULL)
        return place;
    memcpy(&row, (const char *)order->buf + 4 * place, 4);
    if ((Py_ssize_t)row < columns->rows)
        return (Py_ssize_t)row;
    PyErr_SetString(PyExc_ValueError, "want an order of rows that there are");
    return -1;
}

/* encode_columns(columns, start, stop, as_text, before, after, order=None): the words of the keys of plain rows, and
 * these rows as one msgpack array; and the places of the others. With an order, the rows are those that it has there. */
static PyObject *RowWriter_encode_columns(RowWriter *self, PyObject *arguments)
{
    Columns *columns;
    Py_ssize_t first, last;
    int as_text;
    Around around;
    PyObject *given = Py_None;
    Py_buffer order = {0};
    if (!PyArg_ParseTuple(arguments, "O!nnpSS|O", &Columns_type, &columns, &first, &last, &as_text, &around.before,
                          &around.after, &given))
        return NULL;
    if (columns->count != 1 + self->timed + self->columns || first < 0 || last < first || last - first > MOST_ROWS
        || (given == Py_None && last > columns->rows))
        return PyErr_Format(PyExc_ValueError, "want a part of columns that fit this writer");
    if (given != Py_None && take_order(given, &order, last) < 0) {
        PyBuffer_Release(&order);
        return NULL;
    }
    Writer keys = {0}, array = {0};
    Ids ids = {0};
    PyObject *left = PyList_New(0), *result = NULL;
    size_t written = 0;
    int failed = left == NULL ? -1 : start_call(self, &keys, &array, (size_t)(last - first));
    for (Py_ssize_t place = first; !failed && place < last; place++) {
        Py_ssize_t row = row_at(&order, place, columns);
        failed = row < 0 ? -1 : put_values(self, &around, &keys, &array, columns, row, as_text, &ids);
        if (failed == NOT_PLAIN)
            failed = leave(left, place);
        else
            written++;
    }
    if (!failed && end_call(self, &keys, &array, written) == 0)
        result = PyTuple_Pack(3, keys.bytes, array.bytes, left);
    Py_XDECREF(keys.bytes);
    Py_XDECREF(array.bytes);
    Py_XDECREF(left);
    PyBuffer_Release(&order);
    return result;
}

/* The columns */

static void Columns_dealloc(Columns *self)
{
    for (Py_ssize_t index = 0; self->columns != NULL && index < self->count; index++) {
        PyBuffer_Release(&self->columns[index].present);
        PyBuffer_Release(&self->columns[index].data);
        PyBuffer_Release(&self->columns[index].offsets);
    }
    PyMem_Free(self->columns);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int take_buffer(PyObject *source, Py_buffer *buffer)
{
    return source == Py_None ? 0 : PyObject_GetBuffer(source, buffer, PyBUF_SIMPLE);
}

/* Take a column: its code, its buffers (or None), where it starts in them, and how many bytes a vector has; and check
 * that the buffers are long enough. */
static int take_column(PyObject *given, Column *column, Py_ssize_t rows)
{
    PyObject *present, *data, *offsets;
    int code;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a column is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(given, "COOOnn", &code, &present, &data, &offsets, &column->offset, &column->size))
        return -1;
    column->code = (char)code;
    if (take_buffer(present, &column->present) < 0 || take_buffer(data, &column->data) < 0
        || take_buffer(offsets, &column->offsets) < 0)
        return -1;
    Py_ssize_t end = column->offset + rows, has = column->data.len;
    int fits = column->offset >= 0 && end >= column->offset
        && (column->present.obj == NULL || end <= 8 * column->present.len);
    switch (code) {
    case 'q':
    case 'd':
        fits = fits && end <= has / 8;
        break;
    case '?':
        fits = fits && end <= 8 * has;
        break;
    case 'u':
    case 'U':
        fits = fits && (rows == 0 || end < column->offsets.len / (code == 'u' ? 4 : 8));
        break;
    case 'v':
        fits = fits && column->size > 0 && end <= has / column->size;
        break;
    case 'n':
        break;
    default:
        fits = 0;
    }
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "the buffers of a column are too short, or its code is none");
    return fits ? 0 : -1;
}

static PyObject *Columns_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"rows", "columns", NULL};
    PyObject *given;
    Py_ssize_t rows;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "nO!", words, &rows, &PyList_Type, &given))
        return NULL;
    if (rows < 0)
        return PyErr_Format(PyExc_ValueError, "there are at least 0 rows");
    Columns *self = (Columns *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(given);
    self->rows = rows;
    self->columns = PyMem_Calloc((size_t)count + 1, sizeof *self->columns);
    if (self->columns == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->count = count;
    for (Py_ssize_t index = 0; index < count; index++)
        if (take_column(PyList_GET_ITEM(given, index), &self->columns[index], rows) < 0) {
            Py_DECREF(self);
            return NULL;
        }
    return (PyObject *)self;
}

/* Partitions */

#define MOST_PARTITIONS 4096

/* Return the partition of the id of a row. One that is no id counts to the first: its row is left. */
static uint32_t partition_of_row(const Column *ids, Py_ssize_t row, uint32_t count)
{
    const char *id;
    size_t size;
    if (!is_there(ids, row) || text_in(ids, row, &id, &size) || size == 0 || size > MOST_ID)
        return 0;
    return partition_of(id, size, count);
}

/* Sort the numbers of all rows by partition; rows of a partition keep their order. Fill in how many each has. */
static int sort_rows(const Columns *columns, uint32_t count, uint32_t *order, Py_ssize_t *sizes)
{
    size_t rows = (size_t)columns->rows;
    uint16_t *found = PyMem_Malloc(rows * sizeof *found + 1);
    Py_ssize_t *next = PyMem_Malloc(count * sizeof *next);
    if (found == NULL || next == NULL) {
        PyMem_Free(found);
        PyMem_Free(next);
        PyErr_NoMemory();
        return -1;
    }
    for (size_t row = 0; row < rows; row++) {
        found[row] = (uint16_t)partition_of_row(columns->columns, (Py_ssize_t)row, count);
        sizes[found[row]]++;
    }
    Py_ssize_t start = 0;
    for (uint32_t number = 0; number < count; number++) {
        next[number] = start;
        start += sizes[number];
    }
    for (size_t row = 0; row < rows; row++)
        order[next[found[row]]++] = (uint32_t)row;
    PyMem_Free(found);
    PyMem_Free(next);
    return 0;
}

static PyObject *listed_sizes(const Py_ssize_t *sizes, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t number = 0; list != NULL && number < count; number++) {
        PyObject *size = PyLong_FromSsize_t(sizes[number]);
        if (size == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, number, size);
    }
    return list;
}

/* by_partition(count): the numbers of the rows, as 32-bit ints, sorted by the partitions of their ids, which are the
 * first column; and how many rows each partition has. */
static PyObject *Columns_by_partition(Columns *self, PyObject *given)
{
    long count = PyLong_AsLong(given);
    if (count == -1 && PyErr_Occurred())
        return NULL;
    if (count < 1 || count > MOST_PARTITIONS || (uint64_t)self->rows > UINT32_MAX || self->count < 1
        || (self->rows > 0 && self->columns->code != 'u' && self->columns->code != 'U'
            && self->columns->code != 'n'))
        return PyErr_Format(PyExc_ValueError, "want 1 to %d partitions of ids that are text", MOST_PARTITIONS);
    PyObject *order = PyBytes_FromStringAndSize(NULL, self->rows * (Py_ssize_t)sizeof(uint32_t)), *result = NULL;
    Py_ssize_t *sizes = PyMem_Calloc((size_t)count, sizeof *sizes);
    if (sizes == NULL)
        PyErr_NoMemory();
    else if (order != NULL && sort_rows(self, (uint32_t)count, (uint32_t *)(void *)PyBytes_AS_STRING(order), sizes) == 0) {
        PyObject *list = listed_sizes(sizes, count);
        result = list == NULL ? NULL : PyTuple_Pack(2, order, list);
        Py_XDECREF(list);
    }
    PyMem_Free(sizes);
    Py_XDECREF(order);
    return result;
}

static PyMethodDef Columns_methods[] = {
    {"by_partition", (PyCFunction)Columns_by_partition, METH_O,
     "by_partition(count): the numbers of the rows, as 32-bit ints, sorted by the partitions of their ids, and how many"
     " rows each partition has."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Columns_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.rows.Columns",
    .tp_doc = "Columns in Arrow's buffers: ids, event times where rows have their own, and features.",
    .tp_basicsize = sizeof(Columns),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Columns_new,
    .tp_methods = Columns_methods,
    .tp_dealloc = (destructor)Columns_dealloc,
};

/* The writer */

static void RowWriter_dealloc(RowWriter *self)
{
    PyMem_Free(self->kinds);
    PyMem_Free(self->sizes);
    PyMem_Free(self->gaps);
    PyMem_Free(self->order);
    PyMem_Free(self->cells);
    Py_XDECREF(self->names);
    Py_XDECREF(self->layout);
    Py_XDECREF(self->time);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Take the type of a column; `kind` is v for a vector. */
static int set_kind(RowWriter *self, Py_ssize_t column, PyObject *type)
{
    const char *kind = PyUnicode_Check(type) ? PyUnicode_AsUTF8(type) : NULL;
    if (kind == NULL)
        return -1;
    if (!strncmp(kind, "float32[", 8)) {
        long numbers = strtol(kind + 8, NULL, 10);
        if (numbers < 1 || numbers > 2048)
            return -1;
        self->kinds[column] = 'v';
        self->sizes[column] = 4 * (size_t)numbers;
        return 0;
    }
    self->kinds[column] = kind[0];
    return strcmp(kind, "float") && strcmp(kind, "int") && strcmp(kind, "bool") && strcmp(kind, "string") ? -1 : 0;
}

/* Take the columns of rows and their types; which of them may be without a value; and the order of the packed row. */
static int set_columns(RowWriter *self, PyObject *types, PyObject *gaps, PyObject *order)
{
    size_t count = (size_t)self->columns;
    self->kinds = PyMem_Calloc(count, 1);
    self->gaps = PyMem_Calloc(count, 1);
    self->sizes = PyMem_Calloc(count, sizeof *self->sizes);
    self->order = PyMem_Calloc(count, sizeof *self->order);
    self->cells = PyMem_Calloc(count, sizeof *self->cells);
    if (!self->kinds || !self->gaps || !self->sizes || !self->order || !self->cells) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t column = 0; column < self->columns; column++) {
        self->order[column] = PyLong_AsSsize_t(PyTuple_GET_ITEM(order, column));
        self->gaps[column] = PyTuple_GET_ITEM(gaps, column) == Py_True;
        if (self->order[column] < 0 || self->order[column] >= self->columns
            || set_kind(self, column, PyTuple_GET_ITEM(types, column)) < 0) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "no type of a whole row, or no order");
            return -1;
        }
    }
    return 0;
}

static PyObject *RowWriter_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"names", "types", "gaps", "order", "width", "layout", "time", "timed", NULL};
    PyObject *names, *types, *gaps, *order, *layout, *time;
    Py_ssize_t width;
    int timed;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O!O!O!nSSp", words, &PyTuple_Type, &names, &PyTuple_Type,
                                     &types, &PyTuple_Type, &gaps, &PyTuple_Type, &order, &width, &layout, &time,
                                     &timed))
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (count < 1 || count > UINT16_MAX / 4 || width < 0 || width > count || PyTuple_GET_SIZE(types) != count
        || PyTuple_GET_SIZE(gaps) != count || PyTuple_GET_SIZE(order) != count)
        return PyErr_Format(PyExc_ValueError, "want a type, a gap and a place for each name");
    RowWriter *self = (RowWriter *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->columns = count;
    self->width = width;
    self->timed = timed;
    self->names = Py_NewRef(names);
    self->layout = Py_NewRef(layout);
    self->time = Py_NewRef(time);
    if (set_columns(self, types, gaps, order) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef RowWriter_methods[] = {
    {"encode", (PyCFunction)RowWriter_encode, METH_VARARGS,
     "encode(rows, before, after): the words of their keys, and the rows as one msgpack array; None where a row is not"
     " plain."},
    {"encode_columns", (PyCFunction)RowWriter_encode_columns, METH_VARARGS,
     "encode_columns(columns, start, stop, as_text, before, after, order=None): the words of the keys of plain rows,"
     " these rows as one msgpack array, and the places of the others."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject RowWriter_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.rows.RowWriter",
    .tp_doc = "Encodes rows with one set of columns.",
    .tp_basicsize = sizeof(RowWriter),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = RowWriter_new,
    .tp_dealloc = (destructor)RowWriter_dealloc,
    .tp_methods = RowWriter_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.rows",
    .m_doc = "Rows of features as arguments of calls that write them.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_rows(void)
{
    fill_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && (PyModule_AddType(made, &RowWriter_type) < 0 || PyModule_AddType(made, &Columns_type) < 0))
        Py_CLEAR(made);
    return made;
}
