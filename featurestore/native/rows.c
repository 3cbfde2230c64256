/* Complete rows of features into words of calls: of load_entities, as what DUMP would say of their hashes; and of
 * replace_rows, as packed arrays and texts.
 *
 * Both are byte for byte what upsert_features makes of the same rows: the fields in the same order, the same text, the
 * same packed row. A row that is anything but plain (a value of another Python type than its feature's, text longer than
 * MOST_TEXT, an unusual id) is not for this: the caller sends it through upsert_features, which judges it.
 *
 * The form of dumps is Redis's own, of its RDB files: a listpack (redis/src/listpack.c) in a string, then the version of
 * the form and a CRC-64. Redis from 7.0 on and Valkey read it.
 */
#include "writer.h"
#include <float.h>
#include <stdio.h>

#define MOST_ID 256
#define MOST_TEXT 1024
#define MOST_TIME 1000000000000000 /* 10^15 ms, which no event time reaches */
#define HASH_LISTPACK 16
#define FORM_VERSION 10
#define ROOM_FOR_NUMBER 48         /* 20 digits and a sign are the most */

typedef struct {
    PyObject_HEAD
    Py_ssize_t columns;  /* of a row, without its id and its event time */
    char *kinds;         /* the first letter of each column's type */
    Py_ssize_t *order;   /* the column of each value of the packed row */
    PyObject **names;    /* each column's name as an element of a listpack */
    PyObject *layout;    /* the first bytes of a packed row */
    PyObject *before, *after; /* what stands around an id in a key */
    int timed;           /* whether rows have their event time behind the id */
    int64_t limit;       /* how many ms after its event time a row may not be served as it is any more; -1 for never */
    int64_t ttl;         /* how many ms after its event time an entity expires; 0 for never */
} RowWriter;

/* Functions that return int give 0; -1 when an exception is set; NOT_PLAIN where a row is not for this. */
#define NOT_PLAIN 1

/* CRC-64 as Redis has it (Jones's polynomial, reflected), eight bytes at a time. */

static uint64_t crc_table[8][256];

static void make_crc_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint64_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x95ac9329ac4bc9b5 : crc >> 1;
        crc_table[0][byte] = crc;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int ahead = 1; ahead < 8; ahead++)
            crc_table[ahead][byte] = crc_table[ahead - 1][byte] >> 8 ^ crc_table[0][crc_table[ahead - 1][byte] & 0xff];
}

static uint64_t crc_of(const unsigned char *at, size_t size)
{
    uint64_t crc = 0;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t next = 0;
        for (int byte = 7; byte >= 0; byte--)
            next = next << 8 | at[byte];
        crc ^= next;
        next = 0;
        for (int byte = 0; byte < 8; byte++)
            next ^= crc_table[7 - byte][crc >> 8 * byte & 0xff];
        crc = next;
    }
    for (; size > 0; size--, at++)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *at) & 0xff];
    return crc;
}

/* Numbers, whose room the caller has made */

static void put_little(Writer *writer, uint64_t number, int size)
{
    for (; size > 0; size--, number >>= 8)
        *writer->at++ = (char)(number & 0xff);
}

static void put_big(Writer *writer, unsigned char tag, uint64_t number, int size)
{
    *writer->at++ = (char)tag;
    while (size-- > 0)
        *writer->at++ = (char)(number >> 8 * size & 0xff);
}

/* Elements of a listpack */

/* The number that `text` is, if it is one as Redis would write it. */
static int is_integer(const char *text, size_t size, int64_t *number)
{
    size_t at = size > 0 && text[0] == '-';
    uint64_t digits = 0, most = (uint64_t)INT64_MAX + at;
    if (size == 1 && text[0] == '0') {
        *number = 0;
        return 1;
    }
    if (size > 20 || at == size || text[at] < '1' || text[at] > '9')
        return 0;
    for (; at < size; at++) {
        unsigned digit = (unsigned)(text[at] - '0');
        if (digit > 9 || digits > (most - digit) / 10)
            return 0;
        digits = digits * 10 + digit;
    }
    *number = text[0] == '-' ? (int64_t)(0 - digits) : (int64_t)digits;
    return 1;
}

/* Write how long an element is, from its end. */
static int end_element(Writer *writer, size_t size)
{
    if (RESERVE(writer, 5) < 0)
        return -1;
    int bytes = size < 128 ? 1 : size < 16383 ? 2 : size < 2097151 ? 3 : size < 268435455 ? 4 : 5;
    for (int byte = bytes - 1; byte >= 0; byte--)
        *writer->at++ = (char)((size >> 7 * byte & 127) | (byte < bytes - 1 ? 128 : 0));
    return 0;
}

static int put_integer_element(Writer *writer, int64_t number)
{
    uint64_t bits = (uint64_t)number;
    size_t size = 1;
    if (RESERVE(writer, 9) < 0)
        return -1;
    if (number >= 0 && number <= 127)
        *writer->at++ = (char)number;
    else if (number >= -4096 && number <= 4095) {
        put_big(writer, (unsigned char)(0xc0 | (bits >> 8 & 0x1f)), bits & 0xff, 1);
        size = 2;
    } else {
        int width = number >= INT16_MIN && number <= INT16_MAX ? 2 : number >= -8388608 && number <= 8388607 ? 3
            : number >= INT32_MIN && number <= INT32_MAX ? 4 : 8;
        *writer->at++ = (char)(width == 8 ? 0xf4 : 0xf1 + width - 2);
        put_little(writer, bits, width);
        size = (size_t)width + 1;
    }
    return end_element(writer, size);
}

static int put_element(Writer *writer, const char *text, size_t size)
{
    int64_t number;
    if (is_integer(text, size, &number))
        return put_integer_element(writer, number);
    if (RESERVE(writer, 5) < 0)
        return -1;
    size_t head = 1;
    if (size < 64)
        *writer->at++ = (char)(0x80 | size);
    else if (size < 4096) {
        put_big(writer, (unsigned char)(0xe0 | size >> 8), size & 0xff, 1);
        head = 2;
    } else {
        *writer->at++ = (char)0xf0;
        put_little(writer, size, 4);
        head = 5;
    }
    return put(writer, text, size) < 0 ? -1 : end_element(writer, head + size);
}

/* Values of the packed row, as cmsgpack packs Lua's */

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
    if (value >= -9223372036854775808.0 && value < 9223372036854775808.0 && value == (double)(int64_t)value)
        return pack_integer(writer, (int64_t)value);
    if (RESERVE(writer, 9) < 0)
        return -1;
    uint64_t bits;
    float narrow = fabs(value) <= FLT_MAX ? (float)value : 0;
    if (narrow == value) {
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

/* Rows */

#define EXACT 9007199254740992 /* 2^53: Lua's numbers are exact below it */

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

/* Write one value of the packed row. */
static int pack_value(Writer *writer, char kind, PyObject *value)
{
    const char *text;
    size_t size;
    int64_t number;
    int failed;
    if (kind == 'f' && PyFloat_CheckExact(value)) {
        double wide = PyFloat_AS_DOUBLE(value);
        return isfinite(wide) ? pack_double(writer, wide) : NOT_PLAIN;
    }
    switch (kind) {
    case 'b':
        if (!PyBool_Check(value))
            return NOT_PLAIN;
        return put(writer, value == Py_True ? "\xc3" : "\xc2", 1);
    case 's':
        failed = text_of(value, MOST_TEXT, &text, &size);
        return failed ? failed : pack_text(writer, text, size);
    case 'f':
        failed = integer_of(value, &number);
        return failed ? failed : pack_double(writer, (double)number);
    default:
        failed = integer_of(value, &number);
        if (failed || (number > -EXACT && number < EXACT))
            return failed ? failed : pack_integer(writer, number);
        char digits[ROOM_FOR_NUMBER];
        return pack_text(writer, digits, (size_t)sprintf(digits, "%lld", (long long)number));
    }
}

/* Write the text of a float, as Python would. */
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

/* Find the text of one field's value, which is in `scratch` afterwards where it had to be written. pack_value has seen
 * that the value is plain.
 */
static int field_text(Writer *scratch, char kind, PyObject *value, const char **text, size_t *size)
{
    if (kind == 's') {
        Py_ssize_t found;
        *text = PyUnicode_AsUTF8AndSize(value, &found);
        *size = (size_t)found;
        return 0;
    }
    if (kind == 'b') {
        *text = value == Py_True ? "true" : "false";
        *size = strlen(*text);
        return 0;
    }
    scratch->at = PyBytes_AS_STRING(scratch->bytes);
    int failed = PyFloat_CheckExact(value) ? put_float(scratch, PyFloat_AS_DOUBLE(value))
        : put_integer(scratch, PyLong_AsLongLong(value));
    *text = PyBytes_AS_STRING(scratch->bytes);
    *size = (size_t)(scratch->at - *text);
    return failed;
}

typedef struct {
    Writer keys, words, row, listpack, scratch;
} Work;

/* Write the array of the packed row into work->row. */
static int pack_array(RowWriter *self, Work *work, PyObject **values)
{
    Writer *row = &work->row;
    if (RESERVE(row, 3) < 0)
        return -1;
    if (self->columns < 16)
        *row->at++ = (char)(0x90 | self->columns);
    else
        put_big(row, 0xdc, (uint64_t)self->columns, 2);
    int failed = 0;
    for (Py_ssize_t slot = 0; !failed && slot < self->columns; slot++)
        failed = pack_value(row, self->kinds[self->order[slot]], values[self->order[slot]]);
    return failed;
}

/* Write what stands before the array of a packed row into work->row. */
static int pack_head(RowWriter *self, Work *work, int64_t time)
{
    Writer *row = &work->row;
    if (put_bytes(row, self->layout) < 0)
        return -1;
    return self->limit >= 0 && (put_integer(row, time + self->limit) < 0 || put(row, "|||", 3) < 0) ? -1 : 0;
}

/* Write the row's hash into work->listpack. */
static int put_hash(RowWriter *self, Work *work, PyObject **values, int64_t time)
{
    Writer *hash = &work->listpack;
    hash->at = PyBytes_AS_STRING(hash->bytes) + 6;
    const char *text = PyBytes_AS_STRING(work->row.bytes);
    size_t size = (size_t)(work->row.at - text);
    if (put_element(hash, "@row", 4) < 0 || put_element(hash, text, size) < 0
        || put_element(hash, "@event_time", 11) < 0 || put_integer_element(hash, time) < 0)
        return -1;
    for (Py_ssize_t column = 0; column < self->columns; column++)
        if (put_bytes(hash, self->names[column]) < 0
            || field_text(&work->scratch, self->kinds[column], values[column], &text, &size) < 0
            || put_element(hash, text, size) < 0)
            return -1;
    if (put(hash, "\xff", 1) < 0)
        return -1;
    Writer head = {.at = PyBytes_AS_STRING(hash->bytes)};
    put_little(&head, (uint64_t)(hash->at - head.at), 4);
    put_little(&head, 2 * (uint64_t)self->columns + 4, 2);
    return 0;
}

/* Write the word of the dump of work->listpack. */
static int put_dump(Work *work)
{
    const char *listpack = PyBytes_AS_STRING(work->listpack.bytes);
    size_t size = (size_t)(work->listpack.at - listpack), head = size < 64 ? 1 : size < 16384 ? 2 : 5;
    Writer *words = &work->words;
    if (start_word(words, 1 + head + size + 10) < 0 || RESERVE(words, 1 + head + size + 12) < 0)
        return -1;
    char *first = words->at;
    *words->at++ = HASH_LISTPACK;
    if (head == 1)
        *words->at++ = (char)size;
    else if (head == 2)
        put_big(words, (unsigned char)(0x40 | size >> 8), size & 0xff, 1);
    else
        put_big(words, 0x80, size, 4);
    memcpy(words->at, listpack, size);
    words->at += size;
    put_little(words, FORM_VERSION, 2);
    put_little(words, crc_of((const unsigned char *)first, (size_t)(words->at - first)), 8);
    return end_word(words);
}

static int put_text_word(Writer *writer, const char *text, size_t size)
{
    return start_word(writer, size) < 0 || put(writer, text, size) < 0 ? -1 : end_word(writer);
}

static int put_number_word(Writer *writer, int64_t number)
{
    char text[ROOM_FOR_NUMBER];
    return put_text_word(writer, text, (size_t)sprintf(text, "%lld", (long long)number));
}

/* Write the words of one row: as a dump, or with `dumped` 0 as its packed array and its fields' texts. */
static int put_row(RowWriter *self, Work *work, PyObject *row, int64_t time, int64_t oldest, int dumped)
{
    const char *text;
    size_t size;
    if ((!PyTuple_CheckExact(row) && !PyList_CheckExact(row))
        || PySequence_Fast_GET_SIZE(row) != 1 + self->timed + self->columns)
        return NOT_PLAIN;
    PyObject **values = PySequence_Fast_ITEMS(row);
    int failed = text_of(values[0], MOST_ID, &text, &size);
    if (!failed && self->timed)
        failed = integer_of(values[1], &time);
    if (failed || size == 0 || time < oldest || time < 0 || time >= MOST_TIME)
        return failed < 0 ? -1 : NOT_PLAIN;
    values += 1 + self->timed;
    work->row.at = PyBytes_AS_STRING(work->row.bytes);
    if ((dumped && pack_head(self, work, time) < 0) || (failed = pack_array(self, work, values)))
        return failed ? failed : -1;
    Writer *words = &work->words;
    if (put_word(&work->keys, self->before, text, size, self->after) < 0 || put_text_word(words, text, size) < 0)
        return -1;
    if (dumped) {
        if (self->ttl > 0 && put_number_word(words, time + self->ttl) < 0)
            return -1;
        return put_hash(self, work, values, time) < 0 ? -1 : put_dump(work);
    }
    if (self->timed && put_number_word(words, time) < 0)
        return -1;
    text = PyBytes_AS_STRING(work->row.bytes);
    if (put_text_word(words, text, (size_t)(work->row.at - text)) < 0)
        return -1;
    for (Py_ssize_t column = 0; column < self->columns; column++)
        if (field_text(&work->scratch, self->kinds[column], values[column], &text, &size) < 0
            || put_text_word(words, text, size) < 0)
            return -1;
    return 0;
}

/* Return the words for the rows' keys and for the rows, or None where a row is not plain. */
static PyObject *put_rows(RowWriter *self, PyObject *rows, int64_t time, int64_t oldest, int dumped)
{
    size_t count = (size_t)PyList_GET_SIZE(rows), wide = 64 + 32 * (size_t)self->columns;
    Work work = {0};
    int failed = count > 1 << 16 ? NOT_PLAIN : 0;
    if (!failed && (start(&work.keys, 64 * count) < 0 || start(&work.words, (wide + 64) * count) < 0
        || start(&work.row, wide) < 0 || start(&work.listpack, wide) < 0 || start(&work.scratch, 64) < 0))
        failed = -1;
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(rows); index++)
        failed = put_row(self, &work, PyList_GET_ITEM(rows, index), time, oldest, dumped);
    PyObject *both = NULL;
    if (!failed && shorten(&work.keys) == 0 && shorten(&work.words) == 0)
        both = PyTuple_Pack(2, work.keys.bytes, work.words.bytes);
    Py_XDECREF(work.keys.bytes);
    Py_XDECREF(work.words.bytes);
    Py_XDECREF(work.row.bytes);
    Py_XDECREF(work.listpack.bytes);
    Py_XDECREF(work.scratch.bytes);
    if (failed == NOT_PLAIN)
        Py_RETURN_NONE;
    return both;
}

static PyObject *RowWriter_dump(RowWriter *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyList_CheckExact(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "dump() wants a list of rows, their event time, and the oldest allowed");
    int64_t time = PyLong_AsLongLong(arguments[1]), oldest = PyLong_AsLongLong(arguments[2]);
    return PyErr_Occurred() ? NULL : put_rows(self, arguments[0], time, oldest, 1);
}

static PyObject *RowWriter_fields(RowWriter *self, PyObject *rows)
{
    if (!PyList_CheckExact(rows))
        return PyErr_Format(PyExc_TypeError, "fields() wants a list of rows");
    return put_rows(self, rows, 0, 0, 0);
}

/* The type */

static void RowWriter_dealloc(RowWriter *self)
{
    for (Py_ssize_t column = 0; self->names != NULL && column < self->columns; column++)
        Py_XDECREF(self->names[column]);
    PyMem_Free(self->names);
    PyMem_Free(self->kinds);
    PyMem_Free(self->order);
    Py_XDECREF(self->layout);
    Py_XDECREF(self->before);
    Py_XDECREF(self->after);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *name_element(PyObject *name)
{
    Py_ssize_t size;
    const char *text = PyUnicode_AsUTF8AndSize(name, &size);
    Writer writer;
    if (text == NULL || start(&writer, (size_t)size + 16) < 0)
        return NULL;
    if (put_element(&writer, text, (size_t)size) < 0 || shorten(&writer) < 0)
        Py_CLEAR(writer.bytes);
    return writer.bytes;
}

/* Take the columns of rows and the order of the packed row: name → type. Both must have the same names. */
static int set_columns(RowWriter *self, PyObject *columns, PyObject *features)
{
    self->columns = PyTuple_GET_SIZE(columns);
    size_t count = (size_t)self->columns;
    if (count < 1 || count > UINT16_MAX / 4 || PyDict_GET_SIZE(features) != self->columns) {
        PyErr_SetString(PyExc_ValueError, "want every feature as a column, once");
        return -1;
    }
    self->kinds = PyMem_Calloc(count, 1);
    self->order = PyMem_Calloc(count, sizeof *self->order);
    self->names = PyMem_Calloc(count, sizeof *self->names);
    if (self->kinds == NULL || self->order == NULL || self->names == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject *name, *type;
    for (Py_ssize_t position = 0, slot = 0; PyDict_Next(features, &position, &name, &type); slot++) {
        Py_ssize_t column = PySequence_Index(columns, name);
        const char *kind = PyUnicode_AsUTF8(type);
        if (column < 0 || kind == NULL)
            return -1;
        if (strcmp(kind, "float") && strcmp(kind, "int") && strcmp(kind, "bool") && strcmp(kind, "string")) {
            PyErr_Format(PyExc_ValueError, "no type of this packer: %R", type);
            return -1;
        }
        self->order[slot] = column;
        self->kinds[column] = kind[0];
        if (self->names[column] == NULL && (self->names[column] = name_element(name)) == NULL)
            return -1;
    }
    return 0;
}

static PyObject *RowWriter_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"columns", "features", "layout", "before", "after", "timed", "limit", "ttl", NULL};
    PyObject *columns, *features, *layout, *before, *after;
    long long limit, ttl;
    int timed;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O!SSSpLL", words, &PyTuple_Type, &columns, &PyDict_Type,
                                     &features, &layout, &before, &after, &timed, &limit, &ttl))
        return NULL;
    RowWriter *self = (RowWriter *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_INCREF(layout);
    Py_INCREF(before);
    Py_INCREF(after);
    self->layout = layout;
    self->before = before;
    self->after = after;
    self->timed = timed;
    self->limit = limit;
    self->ttl = ttl;
    if (set_columns(self, columns, features) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef RowWriter_methods[] = {
    {"dump", (PyCFunction)(void (*)(void))RowWriter_dump, METH_FASTCALL,
     "dump(rows, time, oldest): the words of a call for the rows' keys, and those for the rows; None where one of them\n"
     "is not plain, or older than the oldest event time allowed. Rows without an event time of their own are of `time`."},
    {"fields", (PyCFunction)RowWriter_fields, METH_O,
     "fields(rows): the same with the packed array and the text of each field in place of a dump."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject RowWriter_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.rows.RowWriter",
    .tp_doc = "Turns rows with one set of columns into words of calls.",
    .tp_basicsize = sizeof(RowWriter),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = RowWriter_new,
    .tp_dealloc = (destructor)RowWriter_dealloc,
    .tp_methods = RowWriter_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.rows",
    .m_doc = "Rows of features as words of calls that write them.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_rows(void)
{
    make_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &RowWriter_type) < 0)
        Py_CLEAR(made);
    return made;
}
