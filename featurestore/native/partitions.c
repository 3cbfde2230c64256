/* Ids into calls of the read scripts, one for each partition of a cluster that has some of them; and the replies to
 * these back into the order of the ids.
 *
 * Whatever is not plainly an id or a reply raises ValueError or TypeError: the caller then has Python decide what is
 * wrong with it. Nothing is read beyond the end of a reply or a call.
 */
#include "partition.h"
#include "reader.h"
#include "writer.h"

#define MOST_PARTS SLOTS

typedef struct {
    PyObject_HEAD
    Py_ssize_t count;     /* partitions */
    PyObject *parts;      /* a tuple of (keys, before, slot) for each: the words of the keys of the set of ids and of the
                           * schema; what stands in front of an id in the key of its hash; the slot of all these */
    PyObject *after;      /* what stands behind an id there */
    PyObject *one_head;   /* of a call for one id: all up to the keys */
    PyObject *one_words;  /* what stands behind the id */
    PyObject *many_head;  /* of a call for several: what stands behind the number of words, up to the number of keys */
    PyObject *many_words; /* what stands between the keys and the ids */
    Py_ssize_t many_count; /* how many words these are */
} Grouper;

/* An id as UTF-8; the object that has it is held elsewhere. */
typedef struct {
    const char *text;
    Py_ssize_t size;
} Id;

/* Ids, and where each is: those of partition p are order[starts[p]] to order[starts[p + 1]], as they came. */
typedef struct {
    PyObject *held; /* a tuple of the ids */
    Py_ssize_t count;
    Id *ids;
    Py_ssize_t *order, *starts;
} Groups;

/* Take an id; one of another size than 1 to 256 bytes is none. */
static int take_id(PyObject *object, Id *id)
{
    id->text = PyUnicode_Check(object) ? PyUnicode_AsUTF8AndSize(object, &id->size) : NULL;
    if (id->text == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "an id is text");
        return -1;
    }
    if (id->size < 1 || id->size > MOST_ID) {
        PyErr_SetString(PyExc_ValueError, "an id is 1 to 256 bytes long");
        return -1;
    }
    return 0;
}

static void drop_groups(Groups *groups)
{
    PyMem_Free(groups->ids);
    PyMem_Free(groups->order);
    PyMem_Free(groups->starts);
    Py_CLEAR(groups->held);
}

/* Take the ids, which are in a list, and sort them by partition. To be dropped after a failure too. */
static int take_groups(Grouper *self, PyObject *list, Groups *groups)
{
    memset(groups, 0, sizeof *groups);
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "want a list of ids");
        return -1;
    }
    if ((groups->held = PyList_AsTuple(list)) == NULL) /* what is called may change the list */
        return -1;
    Py_ssize_t count = groups->count = PyTuple_GET_SIZE(groups->held);
    groups->ids = PyMem_Calloc((size_t)count + 1, sizeof *groups->ids);
    groups->order = PyMem_Calloc(2 * (size_t)count + 1, sizeof *groups->order);
    groups->starts = PyMem_Calloc((size_t)self->count + 2, sizeof *groups->starts);
    if (groups->ids == NULL || groups->order == NULL || groups->starts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t *owners = groups->order + count;
    for (Py_ssize_t index = 0; index < count; index++) {
        if (take_id(PyTuple_GET_ITEM(groups->held, index), &groups->ids[index]) < 0)
            return -1;
        Id id = groups->ids[index];
        owners[index] = (Py_ssize_t)partition_of(id.text, (size_t)id.size, (uint32_t)self->count);
        groups->starts[owners[index] + 2]++;
    }
    for (Py_ssize_t part = 2; part <= self->count; part++)
        groups->starts[part] += groups->starts[part - 1];
    /* The start of a partition stands one place further on now, and moves on to where the next one starts. */
    for (Py_ssize_t index = 0; index < count; index++)
        groups->order[groups->starts[owners[index] + 1]++] = index;
    return 0;
}

static PyObject *part_item(Grouper *self, Py_ssize_t part, Py_ssize_t place)
{
    return PyTuple_GET_ITEM(PyTuple_GET_ITEM(self->parts, part), place);
}

/* Write the words of ids, or those of the keys of their hashes where `before` and `after` stand around them. */
static int put_ids(Writer *writer, const Groups *groups, const Py_ssize_t *order, Py_ssize_t count, PyObject *before,
                   PyObject *after)
{
    for (Py_ssize_t index = 0; index < count; index++) {
        Id id = groups->ids[order[index]];
        if (before != NULL) {
            if (put_word(writer, before, id.text, (size_t)id.size, after) < 0)
                return -1;
        } else if (start_word(writer, (size_t)id.size) < 0 || put(writer, id.text, (size_t)id.size) < 0
                   || end_word(writer) < 0)
            return -1;
    }
    return 0;
}

static int put_number_word(Writer *writer, Py_ssize_t number)
{
    char text[24];
    int size = PyOS_snprintf(text, sizeof text, "%zd", number);
    return start_word(writer, (size_t)size) < 0 || put(writer, text, (size_t)size) < 0 ? -1 : end_word(writer);
}

/* Write what stands in front of the keys of a call for so many ids. */
static int put_head(Grouper *self, Writer *writer, Py_ssize_t count)
{
    if (count == 1)
        return put_bytes(writer, self->one_head);
    if (put(writer, "*", 1) < 0 || put_integer(writer, 5 + 2 * (int64_t)count + self->many_count) < 0
        || put(writer, "\r\n", 2) < 0 || put_bytes(writer, self->many_head) < 0)
        return -1;
    return put_number_word(writer, count + 2);
}

static size_t digits_of(size_t number)
{
    size_t digits = 1;
    for (; number > 9; number /= 10)
        digits++;
    return digits;
}

/* Return how many bytes a word of so many takes in a command. */
static size_t word_size(size_t size)
{
    return 1 + digits_of(size) + 2 + size + 2;
}

/* Return how many bytes `put_head` writes. */
static size_t head_size(Grouper *self, Py_ssize_t count)
{
    if (count == 1)
        return (size_t)PyBytes_GET_SIZE(self->one_head);
    size_t words = (size_t)(5 + 2 * count + self->many_count), keys = (size_t)count + 2;
    return 1 + digits_of(words) + 2 + (size_t)PyBytes_GET_SIZE(self->many_head) + word_size(digits_of(keys));
}

/* Return the call for `count` ids of one partition. */
static PyObject *call_of(Grouper *self, Py_ssize_t part, const Groups *groups, const Py_ssize_t *order, Py_ssize_t count)
{
    PyObject *keys = part_item(self, part, 0), *before = part_item(self, part, 1);
    size_t around = (size_t)(PyBytes_GET_SIZE(before) + PyBytes_GET_SIZE(self->after));
    size_t room = (size_t)PyBytes_GET_SIZE(keys) + head_size(self, count)
        + (size_t)PyBytes_GET_SIZE(count == 1 ? self->one_words : self->many_words);
    Writer writer;
    for (Py_ssize_t index = 0; index < count; index++) { /* exact: small objects are quickly made, others moved */
        size_t size = (size_t)groups->ids[order[index]].size;
        room += word_size(size + around) + word_size(size);
    }
    if (start(&writer, room) < 0)
        return NULL;
    int failed = put_head(self, &writer, count) < 0 || put_bytes(&writer, keys) < 0
        || put_ids(&writer, groups, order, count, before, self->after) < 0
        || (count > 1 && put_bytes(&writer, self->many_words) < 0)
        || put_ids(&writer, groups, order, count, NULL, NULL) < 0
        || (count == 1 && put_bytes(&writer, self->one_words) < 0);
    if (failed) {
        Py_CLEAR(writer.bytes);
        return NULL;
    }
    return shorten(&writer) < 0 ? NULL : writer.bytes;
}

/* Append an object, which is let go of, to a list. */
static int append(PyObject *list, PyObject *object)
{
    int failed = object == NULL || PyList_Append(list, object) < 0;
    Py_XDECREF(object);
    return failed ? -1 : 0;
}

static PyObject *list_of(const Groups *groups, const Py_ssize_t *order, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t index = 0; list != NULL && index < count; index++) {
        PyObject *id = PyTuple_GET_ITEM(groups->held, order[index]);
        Py_INCREF(id);
        PyList_SET_ITEM(list, index, id);
    }
    return list;
}

static PyObject *positions_of(const Groups *groups)
{
    PyObject *list = PyList_New(groups->count);
    for (Py_ssize_t index = 0; list != NULL && index < groups->count; index++) {
        PyObject *position = PyLong_FromSsize_t(groups->order[index]);
        if (position == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, index, position);
    }
    return list;
}

static int take_most(PyObject *object, Py_ssize_t *most)
{
    *most = PyLong_AsSsize_t(object);
    if (*most == -1 && PyErr_Occurred())
        return -1;
    if (*most < 1) {
        PyErr_SetString(PyExc_ValueError, "a call has at least one id");
        return -1;
    }
    return 0;
}

/* Return the four lists of `calls`, or of `cut`, where whole groups are wanted in place of calls. */
static PyObject *grouped(Grouper *self, PyObject *const *arguments, Py_ssize_t argument_count, int encoded)
{
    Groups groups = {NULL, 0, NULL, NULL, NULL};
    Py_ssize_t most;
    if (argument_count != 2)
        return PyErr_Format(PyExc_TypeError, "want a list of ids, and how many of them a call may have");
    if (take_most(arguments[1], &most) < 0)
        return NULL;
    PyObject *calls = PyList_New(0), *owners = PyList_New(0), *sizes = PyList_New(0), *order = NULL, *all = NULL;
    int failed = calls == NULL || owners == NULL || sizes == NULL || take_groups(self, arguments[0], &groups) < 0
        || (order = positions_of(&groups)) == NULL;
    for (Py_ssize_t part = 0; !failed && part < self->count; part++) {
        Py_ssize_t first = groups.starts[part], end = groups.starts[part + 1];
        for (Py_ssize_t count; !failed && first < end; first += count) {
            const Py_ssize_t *some = groups.order + first;
            count = end - first < most ? end - first : most;
            PyObject *owner = encoded ? part_item(self, part, 2) : PyLong_FromSsize_t(part);
            if (encoded)
                Py_INCREF(owner);
            failed = append(calls, encoded ? call_of(self, part, &groups, some, count) : list_of(&groups, some, count)) < 0;
            failed = append(owners, owner) < 0 || failed;
            failed = append(sizes, PyLong_FromSsize_t(count)) < 0 || failed;
        }
    }
    if (!failed)
        all = PyTuple_Pack(4, calls, owners, sizes, order);
    drop_groups(&groups);
    Py_XDECREF(calls);
    Py_XDECREF(owners);
    Py_XDECREF(sizes);
    Py_XDECREF(order);
    return all;
}

static PyObject *Grouper_calls(Grouper *self, PyObject *const *arguments, Py_ssize_t count)
{
    return grouped(self, arguments, count, 1);
}

static PyObject *Grouper_cut(Grouper *self, PyObject *const *arguments, Py_ssize_t count)
{
    return grouped(self, arguments, count, 0);
}

static PyObject *Grouper_call(Grouper *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyLong_Check(arguments[0]) || !PyList_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "call() wants a partition and a list of its ids");
    Py_ssize_t part = PyLong_AsSsize_t(arguments[0]);
    if (part == -1 && PyErr_Occurred())
        return NULL;
    if (part < 0 || part >= self->count || PyList_GET_SIZE(arguments[1]) < 1)
        return PyErr_Format(PyExc_ValueError, "there is no partition %zd, or no id", part);
    Groups groups = {NULL, 0, NULL, NULL, NULL};
    PyObject *made = NULL;
    if (take_groups(self, arguments[1], &groups) == 0) {
        if (groups.starts[part] == 0 && groups.starts[part + 1] == groups.count)
            made = call_of(self, part, &groups, groups.order, groups.count);
        else
            PyErr_SetString(PyExc_ValueError, "an id is of another partition");
    }
    drop_groups(&groups);
    return made;
}

/* The type */

static int is_part(PyObject *part)
{
    return PyTuple_Check(part) && PyTuple_GET_SIZE(part) == 3 && PyBytes_Check(PyTuple_GET_ITEM(part, 0))
        && PyBytes_Check(PyTuple_GET_ITEM(part, 1)) && PyLong_Check(PyTuple_GET_ITEM(part, 2));
}

static void Grouper_dealloc(Grouper *self)
{
    Py_XDECREF(self->parts);
    Py_XDECREF(self->after);
    Py_XDECREF(self->one_head);
    Py_XDECREF(self->one_words);
    Py_XDECREF(self->many_head);
    Py_XDECREF(self->many_words);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *Grouper_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"parts", "after", "one_head", "one_words", "many_head", "many_words", "many_count", NULL};
    PyObject *parts, *after, *one_head, *one_words, *many_head, *many_words;
    Py_ssize_t many_count;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!SSSSSn", words, &PyTuple_Type, &parts, &after, &one_head,
                                     &one_words, &many_head, &many_words, &many_count))
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(parts);
    if (count < 1 || count > MOST_PARTS || many_count < 0 || many_count > 1000000)
        return PyErr_Format(PyExc_ValueError, "there cannot be %zd partitions, or %zd words", count, many_count);
    for (Py_ssize_t index = 0; index < count; index++)
        if (!is_part(PyTuple_GET_ITEM(parts, index)))
            return PyErr_Format(PyExc_TypeError, "a partition is the words of its keys, what stands before ids, a slot");
    Grouper *self = (Grouper *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->count = count;
    self->many_count = many_count;
    self->parts = Py_NewRef(parts);
    self->after = Py_NewRef(after);
    self->one_head = Py_NewRef(one_head);
    self->one_words = Py_NewRef(one_words);
    self->many_head = Py_NewRef(many_head);
    self->many_words = Py_NewRef(many_words);
    return (PyObject *)self;
}

static PyMethodDef Grouper_methods[] = {
    {"calls", (PyCFunction)(void (*)(void))Grouper_calls, METH_FASTCALL,
     "calls(ids, most): the calls, the slot of each, how many ids each has, and the position of each id in their order."},
    {"cut", (PyCFunction)(void (*)(void))Grouper_cut, METH_FASTCALL,
     "cut(ids, most): the same with lists of ids in place of calls, and partitions in place of slots."},
    {"call", (PyCFunction)(void (*)(void))Grouper_call, METH_FASTCALL,
     "call(partition, ids): the call for ids of that partition."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Grouper_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.partitions.Grouper",
    .tp_doc = "Turns ids into calls of the read scripts, a call a partition, for one set of features.",
    .tp_basicsize = sizeof(Grouper),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Grouper_new,
    .tp_dealloc = (destructor)Grouper_dealloc,
    .tp_methods = Grouper_methods,
};

/* Replies */

/* Put a row, which is let go of, into the place that is next in `order`, or at the end where there is no order. */
static int place(PyObject *rows, PyObject *order, Py_ssize_t *next, PyObject *row)
{
    Py_ssize_t position = *next;
    if (row != NULL && order != Py_None && position < PyList_GET_SIZE(order))
        position = PyLong_AsSsize_t(PyList_GET_ITEM(order, position));
    if (row == NULL || position < 0 || position >= PyList_GET_SIZE(rows) || PyList_GET_ITEM(rows, position) != NULL) {
        Py_XDECREF(row);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the replies are not of so many entities");
        return -1;
    }
    PyList_SET_ITEM(rows, position, row);
    ++*next;
    return 0;
}

/* Return the next row of an array of rows; None in place of nil. */
static PyObject *take_row(Reader *reader)
{
    const unsigned char *first = reader->at;
    Py_ssize_t count;
    if (reader->at < reader->end && *reader->at == 0xc0) {
        reader->at++;
        return Py_NewRef(Py_None);
    }
    int failed = take_array(reader, &count) < 0;
    for (; !failed && count > 0; count--)
        failed = skip_value(reader) < 0;
    return failed ? NULL : PyBytes_FromStringAndSize((const char *)first, reader->at - first);
}

/* Place the rows in the reply to a call for `size` ids. */
static int place_reply(PyObject *rows, PyObject *order, Py_ssize_t *next, PyObject *reply, Py_ssize_t size)
{
    Py_ssize_t count = 0;
    if (size == 1)
        return place(rows, order, next, Py_NewRef(reply));
    if (PyList_Check(reply)) {
        for (; count < size && count < PyList_GET_SIZE(reply); count++)
            if (place(rows, order, next, Py_NewRef(PyList_GET_ITEM(reply, count))) < 0)
                return -1;
        return count == size && count == PyList_GET_SIZE(reply) ? 0 : -1;
    }
    if (!PyBytes_Check(reply))
        return -1;
    Reader reader = reader_of(reply);
    if (take_array(&reader, &count) < 0 || count != size)
        return -1;
    for (; count > 0; count--)
        if (place(rows, order, next, take_row(&reader)) < 0)
            return -1;
    return reader.at == reader.end ? 0 : -1;
}

static int add_up(PyObject *sizes, Py_ssize_t *total)
{
    *total = 0;
    for (Py_ssize_t index = 0; index < PyList_GET_SIZE(sizes); index++) {
        Py_ssize_t size = PyLong_AsSsize_t(PyList_GET_ITEM(sizes, index));
        if (size == -1 && PyErr_Occurred())
            return -1;
        if (size < 1 || size > PY_SSIZE_T_MAX / 16 - *total) {
            PyErr_SetString(PyExc_ValueError, "a call has at least one id");
            return -1;
        }
        *total += size;
    }
    return 0;
}

static PyObject *arrange(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(arguments[0]) || !PyList_Check(arguments[1])
        || !(arguments[2] == Py_None || PyList_Check(arguments[2])))
        return PyErr_Format(PyExc_TypeError, "arrange() wants lists of replies, sizes and positions, or None for these");
    PyObject *replies = arguments[0], *sizes = arguments[1], *order = arguments[2];
    Py_ssize_t total, next = 0;
    if (add_up(sizes, &total) < 0)
        return NULL;
    if (PyList_GET_SIZE(replies) != PyList_GET_SIZE(sizes) || (order != Py_None && PyList_GET_SIZE(order) != total))
        return PyErr_Format(PyExc_ValueError, "the replies are not of so many calls");
    PyObject *rows = PyList_New(total);
    /* Nothing that is called runs Python code but what the collector does, so that the sizes are looked at again. */
    for (Py_ssize_t index = 0; rows != NULL && index < PyList_GET_SIZE(sizes); index++) {
        Py_ssize_t size = PyLong_AsSsize_t(PyList_GET_ITEM(sizes, index));
        if (index >= PyList_GET_SIZE(replies) || place_reply(rows, order, &next, PyList_GET_ITEM(replies, index), size) < 0)
            Py_CLEAR(rows);
    }
    if (rows != NULL && next != total)
        Py_CLEAR(rows);
    if (rows == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "a reply is not of the rows that were asked for");
    return rows;
}

/* Shapes */

static int is_array(const unsigned char *at)
{
    return (*at >= 0x90 && *at <= 0x9f) || *at == 0xdc || *at == 0xdd;
}

/* Return whether it is nil, or a row with or without a layout in front. */
static int is_row(PyObject *row)
{
    if (row == Py_None)
        return 1;
    if (!PyBytes_Check(row))
        return 0;
    Py_ssize_t size = PyBytes_GET_SIZE(row);
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(row);
    return size > 0 && (is_array(at) || (size > 8 && is_array(at + 8)));
}

/* Return whether it is nil, or a row and the array of what was named behind its layout. */
static int is_pair(PyObject *row)
{
    return row == Py_None
        || (PyList_Check(row) && PyList_GET_SIZE(row) == 2 && PyList_GET_ITEM(row, 0) != Py_None && is_row(PyList_GET_ITEM(row, 0))
            && PyList_GET_ITEM(row, 1) != Py_None && is_row(PyList_GET_ITEM(row, 1)));
}

/* Return how many keys an encoded EVALSHA or FCALL has; 0 where it cannot be told. */
static Py_ssize_t keys_of(PyObject *call)
{
    const char *at = PyBytes_AS_STRING(call), *end = at + PyBytes_GET_SIZE(call);
    Py_ssize_t number = 0;
    for (int line = 0; line < 6; line++) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (at == NULL)
            return 0;
        at++;
    }
    for (int digits = 0; at < end && digits < 9 && *at >= '0' && *at <= '9'; digits++)
        number = 10 * number + (*at++ - '0');
    return number;
}

static int is_plain(PyObject *call, PyObject *reply)
{
    Py_ssize_t asked = PyBytes_Check(call) ? keys_of(call) - 2 : 0, count;
    if (asked < 1)
        return 0;
    if (asked == 1)
        return is_row(reply) || is_pair(reply);
    if (PyBytes_Check(reply)) {
        Reader reader = reader_of(reply);
        return take_array(&reader, &count) == 0 && count == asked;
    }
    if (!PyList_Check(reply) || PyList_GET_SIZE(reply) != asked)
        return 0;
    int rows = 1, pairs = 1;
    for (Py_ssize_t index = 0; index < asked; index++) {
        PyObject *row = PyList_GET_ITEM(reply, index);
        rows = rows && (row == Py_None || PyBytes_Check(row));
        pairs = pairs && is_pair(row);
    }
    return rows || pairs;
}

static PyObject *all_plain(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_Check(arguments[0]) || !(PyList_Check(arguments[1]) || PyTuple_Check(arguments[1])))
        return PyErr_Format(PyExc_TypeError, "all_plain() wants a list of calls, and their replies");
    Py_ssize_t size = PySequence_Fast_GET_SIZE(arguments[1]);
    if (size != PyList_GET_SIZE(arguments[0]))
        Py_RETURN_FALSE;
    for (Py_ssize_t index = 0; index < size; index++)
        if (!is_plain(PyList_GET_ITEM(arguments[0], index), PySequence_Fast_GET_ITEM(arguments[1], index)))
            Py_RETURN_FALSE;
    Py_RETURN_TRUE;
}

static PyMethodDef functions[] = {
    {"arrange", (PyCFunction)(void (*)(void))arrange, METH_FASTCALL,
     "arrange(replies, sizes, order): the row of each id, from replies to calls for so many ids each; order says which\n"
     "position each has, None that they are in order."},
    {"all_plain", (PyCFunction)(void (*)(void))all_plain, METH_FASTCALL,
     "all_plain(calls, replies): whether each is plainly a reply to its call of get_features, where that has one id, or\n"
     "get_features_batch."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.partitions",
    .m_doc = "Ids into calls of the read scripts, a call a partition; and replies into the order of the ids.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_partitions(void)
{
    fill_crc_table();
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &Grouper_type) < 0)
        Py_CLEAR(made);
    return made;
}
