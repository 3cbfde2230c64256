/* Complete rows of features into the arguments of a call of replace_rows: keys, and the rows in msgpack.
 *
 * What a row is stored as is made here, byte for byte as upsert_features makes it: the packed row, and the text of each
 * feature. A row that is anything but plain (a value of another Python type than its feature's, text longer than
 * MOST_TEXT, an unusual id) is not for this: the caller sends it through upsert_features, which judges it.
 */
#include "writer.h"
#include <float.h>

#define MOST_ID 256
#define MOST_TEXT 1024
#define MOST_TIME 1000000000000000 /* 10^15 ms, which no event time reaches */

typedef struct {
    PyObject_HEAD
    Py_ssize_t columns;  /* of a row, without its id and its event time */
    char *kinds;         /* the first letter of each column's type */
    Py_ssize_t *order;   /* the column of each value of the packed row */
    PyObject *layout;    /* the first bytes of a packed row */
    PyObject *before, *after; /* what stands around an id in a key */
    int timed;           /* whether rows have their event time behind the id */
} RowWriter;

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
        return failed ? failed : pack_integer(writer, number);
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

/* Write the text of a number as a string in msgpack; it has fewer than 32 bytes. */
static int pack_number_text(Writer *writer, PyObject *value)
{
    Py_ssize_t head = writer->at - PyBytes_AS_STRING(writer->bytes);
    if (put(writer, "\xa0", 1) < 0)
        return -1;
    int failed = PyFloat_CheckExact(value) ? put_float(writer, PyFloat_AS_DOUBLE(value))
        : put_integer(writer, PyLong_AsLongLong(value));
    if (failed)
        return -1;
    char *first = PyBytes_AS_STRING(writer->bytes) + head; /* it may have moved */
    *first = (char)(0xa0 | (writer->at - first - 1));
    return 0;
}

/* Write the text of one value as a string in msgpack. pack_value has seen that the value is plain. */
static int pack_text_of(Writer *writer, char kind, PyObject *value)
{
    if (kind == 's') {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(value, &size);
        return pack_text(writer, text, (size_t)size);
    }
    if (kind == 'b')
        return value == Py_True ? pack_text(writer, "true", 4) : pack_text(writer, "false", 5);
    return pack_number_text(writer, value);
}

/* Write the packed row as a string in msgpack: cmsgpack reads no bytes. */
static int pack_row(RowWriter *self, Writer *writer, PyObject **values)
{
    Py_ssize_t head = writer->at - PyBytes_AS_STRING(writer->bytes);
    if (RESERVE(writer, 5) < 0)
        return -1;
    writer->at += 5;
    if (put_bytes(writer, self->layout) < 0 || RESERVE(writer, 3) < 0)
        return -1;
    if (self->columns < 16)
        *writer->at++ = (char)(0x90 | self->columns);
    else
        put_big(writer, 0xdc, (uint64_t)self->columns, 2);
    for (Py_ssize_t slot = 0; slot < self->columns; slot++) {
        int failed = pack_value(writer, self->kinds[self->order[slot]], values[self->order[slot]]);
        if (failed)
            return failed;
    }
    Writer at_head = {.at = PyBytes_AS_STRING(writer->bytes) + head};
    put_big(&at_head, 0xdb, (uint64_t)(writer->at - at_head.at - 5), 4);
    return 0;
}

/* Write the word of one row's key, and the row: its id, its event time where it has one, the packed row, the texts. */
static int put_row(RowWriter *self, Writer *keys, Writer *rows, PyObject *row)
{
    const char *id;
    size_t size;
    int64_t time = 0;
    if ((!PyTuple_CheckExact(row) && !PyList_CheckExact(row))
        || PySequence_Fast_GET_SIZE(row) != 1 + self->timed + self->columns)
        return NOT_PLAIN;
    PyObject **values = PySequence_Fast_ITEMS(row);
    int failed = text_of(values[0], MOST_ID, &id, &size);
    if (!failed && self->timed)
        failed = integer_of(values[1], &time);
    if (failed || size == 0 || time < 0 || time >= MOST_TIME)
        return failed < 0 ? -1 : NOT_PLAIN;
    values += 1 + self->timed;
    if (put_word(keys, self->before, id, size, self->after) < 0 || pack_text(rows, id, size) < 0
        || (self->timed && pack_number_text(rows, values[-1]) < 0))
        return -1;
    failed = pack_row(self, rows, values);
    for (Py_ssize_t column = 0; !failed && column < self->columns; column++)
        failed = pack_text_of(rows, self->kinds[column], values[column]);
    return failed;
}

/* encode(rows): the words of their keys, and the rows as one msgpack array; None where a row is not plain. */
static PyObject *RowWriter_encode(RowWriter *self, PyObject *rows)
{
    if (!PyList_CheckExact(rows))
        return PyErr_Format(PyExc_TypeError, "encode() wants a list of rows");
    size_t count = (size_t)PyList_GET_SIZE(rows), stride = (size_t)(2 + self->timed + self->columns);
    Writer keys = {0}, array = {0};
    int failed = count > 1 << 16 ? NOT_PLAIN : 0;
    if (!failed && (start(&keys, 64 * count) < 0 || start(&array, (64 + 32 * (size_t)self->columns) * count + 5) < 0))
        failed = -1;
    if (!failed)
        put_big(&array, 0xdd, count * stride, 4);
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(rows); index++)
        failed = put_row(self, &keys, &array, PyList_GET_ITEM(rows, index));
    PyObject *both = NULL;
    if (!failed && shorten(&keys) == 0 && shorten(&array) == 0)
        both = PyTuple_Pack(2, keys.bytes, array.bytes);
    Py_XDECREF(keys.bytes);
    Py_XDECREF(array.bytes);
    if (failed == NOT_PLAIN)
        Py_RETURN_NONE;
    return both;
}

/* The type */

static void RowWriter_dealloc(RowWriter *self)
{
    PyMem_Free(self->kinds);
    PyMem_Free(self->order);
    Py_XDECREF(self->layout);
    Py_XDECREF(self->before);
    Py_XDECREF(self->after);
    Py_TYPE(self)->tp_free((PyObject *)self);
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
    if (self->kinds == NULL || self->order == NULL) {
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
            PyErr_Format(PyExc_ValueError, "no type of a plain row: %R", type);
            return -1;
        }
        self->order[slot] = column;
        self->kinds[column] = kind[0];
    }
    return 0;
}

static PyObject *RowWriter_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"columns", "features", "layout", "before", "after", "timed", NULL};
    PyObject *columns, *features, *layout, *before, *after;
    int timed;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O!SSSp", words, &PyTuple_Type, &columns, &PyDict_Type,
                                     &features, &layout, &before, &after, &timed))
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
    if (set_columns(self, columns, features) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef RowWriter_methods[] = {
    {"encode", (PyCFunction)RowWriter_encode, METH_O,
     "encode(rows): the words of their keys, and the rows as one msgpack array; None where a row is not plain."},
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
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &RowWriter_type) < 0)
        Py_CLEAR(made);
    return made;
}
