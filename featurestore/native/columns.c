/* Replies of the read scripts, msgpack, straight into columns: the buffers that Apache Arrow's format has for each type.
 *
 * A column has a bit a row that tells whether there is a value (none at all where all rows have one), and the values:
 * doubles, 64-bit ints, bits, float32s side by side, or offsets and text. Where there is no value they are zero.
 * Whatever is not plainly a row of the features raises ValueError: the caller then has msgspec decide whether it is unusual
 * or wrong. Nothing is read beyond a reply's end. No code of Python runs while replies are read.
 */
#include "reader.h"

typedef struct {
    Py_ssize_t at;   /* which of a row's values it shows */
    char kind;       /* the first letter of the type; `v` for a vector */
    uint32_t length; /* how many numbers a vector has */
} Shown;

typedef struct {
    PyObject_HEAD
    Py_ssize_t count;     /* columns */
    Py_ssize_t values;    /* of a row: those of its first array, and those of the array behind it */
    Py_ssize_t row_count; /* values of the first array */
    Py_ssize_t head;      /* bytes in front of each row that stands alone */
    int in_order;         /* whether the columns are the values, one by one */
    Shown *shown;         /* what each column shows */
} Columns;

/* One column while it is filled. */
typedef struct {
    PyObject *present; /* a bit a row */
    PyObject *data;    /* of a fixed width; for text the offsets */
    PyObject *text;    /* with room behind its `used` bytes */
    size_t used;
    Py_ssize_t nulls;
} Filling;

/* Functions that return int return 0, or -1 when the reply does not fit or an exception is set. */

#define BITS_OF(bytes) ((unsigned char *)PyBytes_AS_STRING(bytes))
#define SET_BIT(bytes, index) (BITS_OF(bytes)[(index) >> 3] |= (unsigned char)(1 << ((index) & 7)))
#define ROOM_FOR_TEXT 16 /* of a row, at first */

static PyObject *zeros(Py_ssize_t count, size_t size)
{
    if ((size_t)count > (size_t)PY_SSIZE_T_MAX / 2 / size)
        return PyErr_NoMemory();
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)size);
    if (bytes != NULL)
        memset(PyBytes_AS_STRING(bytes), 0, (size_t)count * size);
    return bytes;
}

static PyObject *bits(Py_ssize_t count)
{
    return zeros(count / 8 + (count % 8 != 0), 1);
}

static int begin(Filling *filling, const Shown *shown, Py_ssize_t rows)
{
    filling->nulls = rows;
    if ((filling->present = bits(rows)) == NULL)
        return -1;
    if (shown->kind == 's' && (filling->text = zeros(rows + 1, ROOM_FOR_TEXT)) == NULL)
        return -1;
    filling->data = shown->kind == 'b' ? bits(rows)
        : shown->kind == 's'           ? zeros(rows + 1, 4)
        : shown->kind == 'v'           ? zeros(rows, 4 * (size_t)shown->length)
                                       : zeros(rows, 8);
    return filling->data == NULL ? -1 : 0;
}

static void discard(Filling *filling)
{
    Py_XDECREF(filling->present);
    Py_XDECREF(filling->data);
    Py_XDECREF(filling->text);
}

static int is_unicode(const unsigned char *at, size_t size)
{
    for (const unsigned char *end = at + size; at < end;) {
        int width = *at < 0x80 ? 1 : width_of(at, end);
        if (width == 0)
            return 0;
        at += width;
    }
    return 1;
}

/* Reading values, each of which begins behind its `tag` */

static int take_double(Reader *reader, unsigned char tag, double *value)
{
    uint64_t number;
    int64_t whole;
    if (tag == 0xcb) {
        if (take_number(reader, 8, &number) < 0)
            return -1;
        memcpy(value, &number, sizeof *value);
    } else if (tag == 0xca) {
        if (take_number(reader, 4, &number) < 0)
            return -1;
        uint32_t narrow_bits = (uint32_t)number;
        float narrow;
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        *value = narrow;
    } else if (take_int(reader, tag, &whole) < 0)
        return -1;
    else
        *value = (double)whole;
    return 0;
}

static int fill_text(Filling *filling, Py_ssize_t row, Reader *reader, unsigned char tag)
{
    const unsigned char *text;
    size_t size;
    if (take_text(reader, tag, &text, &size) < 0 || !is_unicode(text, size)
        || size > INT32_MAX - filling->used)
        return -1;
    size_t room = (size_t)PyBytes_GET_SIZE(filling->text), wanted = filling->used + size;
    if (wanted > room && _PyBytes_Resize(&filling->text, (Py_ssize_t)(wanted + wanted / 2)) < 0)
        return -1;
    memcpy(PyBytes_AS_STRING(filling->text) + filling->used, text, size);
    filling->used = wanted;
    ((int32_t *)PyBytes_AS_STRING(filling->data))[row + 1] = (int32_t)wanted;
    return 0;
}

static int fill_vector(Filling *filling, Py_ssize_t row, Reader *reader, unsigned char tag, size_t length)
{
    uint64_t size;
    if (tag < 0xc4 || tag > 0xc6 || take_number(reader, (size_t)1 << (tag - 0xc4), &size) < 0 || size != 4 * length
        || (uint64_t)(reader->end - reader->at) < size)
        return -1;
    memcpy(PyBytes_AS_STRING(filling->data) + (size_t)row * 4 * length, reader->at, 4 * length);
    reader->at += size;
    return 0;
}

/* Put the value at the reader into a row of a column. */
static int fill_value(Filling *filling, const Shown *shown, Py_ssize_t row, Reader *reader)
{
    if (reader->at == reader->end)
        return -1;
    unsigned char tag = *reader->at++;
    int failed = 0;
    if (tag == 0xc0)
        return 0;
    if (shown->kind == 'f')
        failed = take_double(reader, tag, (double *)PyBytes_AS_STRING(filling->data) + row);
    else if (shown->kind == 'i')
        failed = take_int(reader, tag, (int64_t *)PyBytes_AS_STRING(filling->data) + row);
    else if (shown->kind == 's')
        failed = fill_text(filling, row, reader, tag);
    else if (shown->kind == 'v')
        failed = fill_vector(filling, row, reader, tag, shown->length);
    else if (tag == 0xc3)
        SET_BIT(filling->data, row);
    else
        failed = tag == 0xc2 ? 0 : -1;
    if (failed)
        return -1;
    SET_BIT(filling->present, row);
    filling->nulls--;
    return 0;
}

/* Rows */

/* Where the rows of all replies go. */
typedef struct {
    Columns *columns;
    Filling *filling;
    PyObject *known;              /* a bit a row */
    Py_ssize_t row, rows, unknown;
    const unsigned char **starts; /* of the values of one row */
} Table;

/* Fill a row from its first array, at the reader, and the array behind it, NULL where there is none. */
static int fill_row(Table *table, Reader *reader, Reader *behind)
{
    Columns *columns = table->columns;
    Py_ssize_t count, extra = columns->values - columns->row_count;
    if (table->row >= table->rows || (extra > 0) != (behind != NULL))
        return -1;
    if (columns->in_order && !extra) {
        if (take_array(reader, &count) < 0 || count != columns->count)
            return -1;
        for (Py_ssize_t index = 0; index < count; index++)
            if (fill_value(&table->filling[index], &columns->shown[index], table->row, reader) < 0)
                return -1;
    } else {
        if (find_values(reader, columns->row_count, table->starts) < 0)
            return -1;
        if (extra && (find_values(behind, extra, table->starts + columns->row_count) < 0 || behind->at != behind->end))
            return -1;
        for (Py_ssize_t index = 0; index < columns->count; index++) {
            const Shown *shown = &columns->shown[index];
            Reader value = {table->starts[shown->at], shown->at < columns->row_count ? reader->end : behind->end};
            if (fill_value(&table->filling[index], shown, table->row, &value) < 0)
                return -1;
        }
    }
    SET_BIT(table->known, table->row);
    table->row++;
    return 0;
}

static int fill_unknown(Table *table)
{
    if (table->row >= table->rows)
        return -1;
    table->row++;
    table->unknown++;
    return 0;
}

/* Fill a row that stands alone: nil, bytes, or a list of those and the bytes of the array behind the row. */
static int fill_alone(Table *table, PyObject *row)
{
    Reader reader, behind;
    int two = PyList_Check(row);
    if (row == Py_None)
        return fill_unknown(table);
    if (two) {
        if (PyList_GET_SIZE(row) != 2 || !PyBytes_Check(PyList_GET_ITEM(row, 1)))
            return -1;
        behind = reader_of(PyList_GET_ITEM(row, 1));
        row = PyList_GET_ITEM(row, 0);
    }
    if (!PyBytes_Check(row) || PyBytes_GET_SIZE(row) < table->columns->head)
        return -1;
    reader = reader_of(row);
    reader.at += table->columns->head;
    return fill_row(table, &reader, two ? &behind : NULL) < 0 || reader.at != reader.end ? -1 : 0;
}

/* Fill the rows of one reply: rows that stand alone, or a msgpack array of rows. */
static int fill_part(Table *table, PyObject *reply)
{
    Py_ssize_t count;
    if (PyList_Check(reply)) {
        for (Py_ssize_t index = 0; index < PyList_GET_SIZE(reply); index++)
            if (fill_alone(table, PyList_GET_ITEM(reply, index)) < 0)
                return -1;
        return 0;
    }
    if (!PyBytes_Check(reply))
        return -1;
    Reader reader = reader_of(reply);
    if (take_array(&reader, &count) < 0)
        return -1;
    for (; count > 0; count--) {
        if (reader.at < reader.end && *reader.at == 0xc0) {
            reader.at++;
            if (fill_unknown(table) < 0)
                return -1;
        } else if (fill_row(table, &reader, NULL) < 0)
            return -1;
    }
    return reader.at != reader.end ? -1 : 0;
}

/* Return how many rows of a column have no value, and its buffers. */
static PyObject *finished(Filling *filling, const Shown *shown, Py_ssize_t rows)
{
    PyObject *present = filling->nulls ? filling->present : Py_None;
    if (shown->kind != 's')
        return Py_BuildValue("n(OO)", filling->nulls, present, filling->data);
    /* A row without a value has text of no size: its end is that of the row before. */
    int32_t *ends = (int32_t *)PyBytes_AS_STRING(filling->data);
    for (Py_ssize_t row = 1; row <= rows; row++)
        if (ends[row] < ends[row - 1])
            ends[row] = ends[row - 1];
    if (_PyBytes_Resize(&filling->text, (Py_ssize_t)filling->used) < 0)
        return NULL;
    return Py_BuildValue("n(OOO)", filling->nulls, present, filling->data, filling->text);
}

static PyObject *finish(Table *table)
{
    Py_ssize_t count = table->columns->count;
    PyObject *all = PyTuple_New(count);
    for (Py_ssize_t index = 0; all != NULL && index < count; index++) {
        PyObject *column = finished(&table->filling[index], &table->columns->shown[index], table->rows);
        if (column == NULL)
            Py_CLEAR(all);
        else
            PyTuple_SET_ITEM(all, index, column);
    }
    if (all == NULL)
        return NULL;
    return Py_BuildValue("(nO)N", table->unknown, table->known, all);
}

static PyObject *Columns_fill(Columns *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyLong_Check(arguments[0]) || !PyList_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "fill() wants how many ids there are, and a list of replies");
    Py_ssize_t rows = PyLong_AsSsize_t(arguments[0]);
    if (rows < 0 || rows >= INT32_MAX)
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "there cannot be %zd ids", rows);
    PyObject *replies = arguments[1], *table_made = NULL;
    Table table = {.columns = self, .rows = rows, .known = bits(rows)};
    table.filling = PyMem_Calloc((size_t)self->count, sizeof *table.filling);
    table.starts = PyMem_Calloc((size_t)self->values, sizeof *table.starts);
    int failed = table.known == NULL ? -1 : 0;
    if (!failed && (table.filling == NULL || table.starts == NULL)) {
        PyErr_NoMemory();
        failed = -1;
    }
    for (Py_ssize_t index = 0; !failed && index < self->count; index++)
        failed = begin(&table.filling[index], &self->shown[index], rows);
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(replies); index++)
        failed = fill_part(&table, PyList_GET_ITEM(replies, index));
    if (!failed && table.row == rows)
        table_made = finish(&table);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "the replies are no rows of these features");
    for (Py_ssize_t index = 0; table.filling != NULL && index < self->count; index++)
        discard(&table.filling[index]);
    PyMem_Free(table.filling);
    PyMem_Free(table.starts);
    Py_XDECREF(table.known);
    return table_made;
}

/* The type */

static void Columns_dealloc(Columns *self)
{
    PyMem_Free(self->shown);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Set what a column shows: the value at `at`, of that type. */
static int show(Shown *shown, Py_ssize_t at, PyObject *type)
{
    shown->at = at;
    return take_type(type, &shown->kind, &shown->length);
}

/* Set what all columns show; `picks` is NULL where they show the values one by one. */
static int show_all(Columns *self, PyObject *types, PyObject *picks)
{
    self->in_order = picks == NULL;
    self->count = PyTuple_GET_SIZE(picks == NULL ? types : picks);
    if (self->count < 1) {
        PyErr_SetString(PyExc_ValueError, "want at least one column");
        return -1;
    }
    if ((self->shown = PyMem_Calloc((size_t)self->count, sizeof *self->shown)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t index = 0; index < self->count; index++) {
        Py_ssize_t at = picks == NULL ? index : PyLong_AsSsize_t(PyTuple_GET_ITEM(picks, index));
        if (at == -1 && PyErr_Occurred())
            return -1;
        if (at < 0 || at >= self->values) {
            PyErr_Format(PyExc_ValueError, "there is no value %zd among %zd", at, self->values);
            return -1;
        }
        if (show(&self->shown[index], at, PyTuple_GET_ITEM(types, at)) < 0)
            return -1;
    }
    return 0;
}

static PyObject *Columns_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"types", "picks", "head", "row_count", NULL};
    PyObject *types, *picks = Py_None;
    Py_ssize_t head = 0, row_count = -1;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!|Onn", words, &PyTuple_Type, &types, &picks, &head, &row_count))
        return NULL;
    if (picks != Py_None && !PyTuple_Check(picks))
        return PyErr_Format(PyExc_TypeError, "picks is a tuple or None");
    Py_ssize_t values = PyTuple_GET_SIZE(types);
    if (row_count == -1)
        row_count = values;
    if (head < 0 || row_count < 0 || row_count > values)
        return PyErr_Format(PyExc_ValueError, "no head of %zd bytes, or no %zd of %zd values", head, row_count, values);
    Columns *self = (Columns *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->head = head;
    self->values = values;
    self->row_count = row_count;
    if (show_all(self, types, picks == Py_None ? NULL : picks) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef Columns_methods[] = {
    {"fill", (PyCFunction)(void (*)(void))Columns_fill, METH_FASTCALL,
     "fill(rows, replies): how many of the rows are unknown, and a bit for each that is known; and for each column how many "
     "rows have no value, and its buffers."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Columns_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.columns.Columns",
    .tp_doc = "Turns replies into columns, for one set of features.",
    .tp_basicsize = sizeof(Columns),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Columns_new,
    .tp_dealloc = (destructor)Columns_dealloc,
    .tp_methods = Columns_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.columns",
    .m_doc = "Replies of the read scripts, msgpack, straight into columns.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_columns(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &Columns_type) < 0)
        Py_CLEAR(made);
    return made;
}
