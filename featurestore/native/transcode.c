/* Replies of the read scripts, msgpack, straight into the JSON of a response; and many ids into words of a command.
 *
 * JSON is byte for byte what msgspec writes for the same rows. Whatever is not plainly a row of the features raises
 * ValueError: the caller then has msgspec decide whether it is unusual or wrong. Nothing is read beyond a reply's end,
 * and nothing is written that RESERVE has not made room for.
 */
#include "reader.h"
#include "writer.h"

typedef struct {
    PyObject_HEAD
    Py_ssize_t count;   /* features */
    Py_ssize_t head;    /* bytes in front of each row that stands alone */
    Py_ssize_t *picks;  /* where each feature's value starts (find_all); NULL where a row's values are the features */
    Py_ssize_t row_count, extra_count; /* with picks: how many values a row has, and the array behind it; 0 for none */
    char *kinds;        /* the first letter of each feature's type; `v` for a vector */
    uint32_t *lengths;  /* how many numbers each vector has */
    size_t room;        /* about how many bytes an entity takes */
    PyObject **keys;    /* what stands before each value: `{"age":` or `,"age":`, in a table `[` or `,` */
    PyObject *opening;  /* `{"user_id":`; NULL for a table, whose rows are lists of values */
    PyObject *nothing;  /* what an unknown entity has instead of features */
    char closing;       /* what ends the features */
    PyObject *encode;   /* msgspec.json.encode, for floats of unusual size */
} Transcoder;

/* Functions that return int return 0, or -1 when the reply does not fit or an exception is set. */

#define USUALLY(condition) __builtin_expect(!!(condition), 1) /* so that all features of a row, as objects, are quick */
#define FEW 64                      /* so many values of a row are found without memory of their own */
#define MOST_ROOM ((size_t)1 << 24) /* made at once: unknown entities take far less than their room */
#define PUT_LITERAL(writer, text) (memcpy((writer)->at, (text), sizeof(text) - 1), (writer)->at += sizeof(text) - 1)

/* Writing */

/* Return what was written; after a failure, NULL with an exception set. */
static PyObject *finish(Writer *writer, int failed)
{
    if (failed) {
        Py_CLEAR(writer->bytes);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "the reply is no row of these features, or an id is none");
        return NULL;
    }
    return shorten(writer) < 0 ? NULL : writer->bytes;
}

/* Write `size` bytes of text as a JSON string. */
static int put_text(Writer *writer, const unsigned char *at, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *end = at + size;
    if (RESERVE(writer, size + 2) < 0)
        return -1;
    *writer->at++ = '"';
    while (at < end) {
        unsigned char byte = *at;
        if (byte >= 0x80) {
            int width = width_of(at, end);
            if (width == 0)
                return -1;
            memcpy(writer->at, at, (size_t)width);
            writer->at += width;
            at += width;
            continue;
        }
        at++;
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            *writer->at++ = (char)byte;
            continue;
        }
        if (RESERVE(writer, (size_t)(end - at) + 7) < 0) /* this escape, the rest and the closing quote */
            return -1;
        char letter = byte == '"' || byte == '\\' ? (char)byte : byte == '\b' ? 'b' : byte == '\f' ? 'f'
            : byte == '\n' ? 'n' : byte == '\r' ? 'r' : byte == '\t' ? 't' : 'u';
        *writer->at++ = '\\';
        *writer->at++ = letter;
        if (letter == 'u') {
            PUT_LITERAL(writer, "00");
            *writer->at++ = hex[byte >> 4];
            *writer->at++ = hex[byte & 15];
        }
    }
    *writer->at++ = '"';
    return 0;
}

static int put_by_msgspec(Transcoder *self, Writer *writer, double value)
{
    PyObject *number = PyFloat_FromDouble(value);
    if (number == NULL)
        return -1;
    PyObject *text = PyObject_CallOneArg(self->encode, number);
    Py_DECREF(number);
    if (text == NULL)
        return -1;
    int failed = PyBytes_Check(text) ? put_bytes(writer, text) : -1;
    Py_DECREF(text);
    return failed;
}

static int put_float(Transcoder *self, Writer *writer, double value)
{
    double size = fabs(value);
    if (size == 0)
        return put_decimal(writer, signbit(value) != 0, 0, 1);
    /* msgspec writes exponents outside of this, and NaN and infinity as null. */
    int left = size >= 1e-5 && size < 9007199254740992.0 ? put_shortest(writer, value) : 1;
    return left > 0 ? put_by_msgspec(self, writer, value) : left;
}

/* Vectors: JSON is byte for byte what contract/vector_json.py writes. */

#define ROOM_FOR_NARROW 24 /* the longest are like -0.00000123456789 and -1.23456789e-20, with a comma */
#define COPY_MOST 16       /* digits are copied in one go; there is room for that many behind every vector */

#ifdef __SIZEOF_INT128__
/* Find the fewest digits that read back as a float32 `f` * 2^e that is from 1e-20 to 1e9; of several, the nearest to
 * it. They count in powers of ten, `*power`, which is -k at first.
 *
 * Quarters of the float's last place are counted, times 10^k so that 9 or 10 digits stand before the point, and `shift`
 * bits behind it. From `least` to `most` all whole numbers read back as this float, and digits are dropped as long as a
 * multiple of the next power of ten is among them.
 */
#define DEFINE_SHORTEST(name, Number) \
    static inline uint64_t name(Number quarter, uint32_t f, int shift, int *power) \
    { \
        Number centre = quarter * (f * 4), high = centre + quarter * 2, fraction = ((Number)1 << shift) - 1; \
        Number low = centre - (f == 0x800000 ? quarter : quarter * 2); /* floats below 2^n are twice as dense */ \
        uint64_t odd = f & 1; /* the interval's ends read back as the even neighbour */ \
        uint64_t least = (uint64_t)(low >> shift) + ((low & fraction) ? 1 : odd); \
        uint64_t most = (uint64_t)(high >> shift) - ((high & fraction) ? 0 : odd); \
        uint64_t below = (uint64_t)(centre >> shift), top = most, unit = 1; \
        for (; top / 10 * unit * 10 >= least; ++*power) { \
            top /= 10; \
            below /= 10; \
            unit *= 10; \
        } \
        Number step = (Number)unit << shift, twice = (centre - below * step) * 2; \
        uint64_t best = below + (twice > step || (twice == step && (below & 1))); \
        return best * unit < least ? best + 1 : best * unit > most ? best - 1 : best; \
    }
DEFINE_SHORTEST(shortest_by_64, uint64_t)
DEFINE_SHORTEST(shortest_by_128, Wide)

static uint64_t shortest_narrow(uint32_t bits, int *power)
{
    static const uint64_t tens[] = {
        1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000, 1000000000, 10000000000, 100000000000,
        1000000000000, 10000000000000, 100000000000000, 1000000000000000};
    int exponent = (int)(bits >> 23 & 0xff) - 126, shift = 26 - exponent, k = 8 - (((exponent - 1) * 1233) >> 12);
    uint32_t f = (bits & 0x7fffff) | 0x800000;
    *power = -k;
    if (k <= 11 && shift >= 0) /* 2^26 * 10^11 < 2^63, for floats from 2^-9 to 2^26 */
        return shortest_by_64(tens[k], f, shift, power);
    Wide quarter = k < 16 ? tens[k] : (Wide)tens[15] * tens[k - 15]; /* 2^26 * 10^29 < 2^128 */
    return shift < 0 ? shortest_by_128(quarter << -shift, f, 0, power) : shortest_by_128(quarter, f, shift, power);
}

/* Write a float32; there is room for it. -1, with nothing written, where it takes more than this arithmetic. */
static int put_narrow(Writer *writer, uint32_t bits)
{
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    uint32_t size = bits & 0x7fffffff;
    /* Digits end in the middle, so that reading on behind up to 9 digits before the point stays inside. */
    char text[3 * COPY_MOST] = {0}, *end = text + COPY_MOST, *first = end, *at = writer->at;
    int power = 0;
    if (bits != size)
        *at++ = '-';
    if (size == 0) {
        memcpy(at, "0.0", 3);
        writer->at = at + 3;
        return 0;
    }
    if (size < 0x1e3ce508 || size >= 0x4e6e6b28) /* 1e-20 and 1e9; the others are Python's, NaN and infinity too */
        return -1;
    uint64_t digits = shortest_narrow(size, &power);
    for (; digits >= 100; digits /= 100) {
        first -= 2;
        memcpy(first, pairs + digits % 100 * 2, 2);
    }
    if (digits >= 10)
        *--first = pairs[digits * 2 + 1];
    *--first = pairs[digits >= 10 ? digits * 2 : digits * 2 + 1];
    int count = (int)(end - first), point = count + power; /* how many digits are before the point */
    if (point > 0) {
        memcpy(at, first, COPY_MOST);
        for (; count < point + 1; count++)
            at[count] = '0', first[count] = '0';
        at[point] = '.';
        memcpy(at + point + 1, first + point, COPY_MOST);
        at += count + 1;
    } else if (point > -6) {
        memcpy(at, "0.00000", 7);
        memcpy(at + 2 - point, first, COPY_MOST);
        at += 2 - point + count;
    } else {
        *at = *first;
        at[1] = '.';
        memcpy(at + 2, first + 1, COPY_MOST);
        at += count > 1 ? count + 1 : 1;
        *at++ = 'e';
        *at++ = '-';
        if (point <= -9)
            *at++ = (char)('0' + (1 - point) / 10);
        *at++ = (char)('0' + (1 - point) % 10);
    }
    writer->at = at;
    return 0;
}
#else
static int put_narrow(Writer *writer, uint32_t bits)
{
    (void)writer, (void)bits;
    return -1;
}
#endif

/* Transcoding */

static int transcode_float(Transcoder *self, Reader *reader, Writer *writer, unsigned char tag)
{
    uint64_t bits;
    int64_t number;
    double value;
    if (tag == 0xcb) {
        if (take_number(reader, 8, &bits) < 0)
            return -1;
        memcpy(&value, &bits, sizeof value);
    } else if (tag == 0xca) {
        if (take_number(reader, 4, &bits) < 0)
            return -1;
        uint32_t narrow_bits = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &narrow_bits, sizeof narrow);
        value = narrow;
    } else if (take_int(reader, tag, &number) < 0)
        return -1;
    else
        value = (double)number;
    return put_float(self, writer, value);
}

/* A vector is the bytes of its float32 numbers, little-endian. */
static int transcode_vector(Reader *reader, Writer *writer, unsigned char tag, size_t count)
{
    uint64_t size;
    if (tag < 0xc4 || tag > 0xc6 || take_number(reader, (size_t)1 << (tag - 0xc4), &size) < 0 || size != 4 * count
        || (uint64_t)(reader->end - reader->at) < size || RESERVE(writer, ROOM_FOR_NARROW * count + COPY_MOST) < 0)
        return -1;
    for (size_t index = 0; index < count; index++, reader->at += 4) {
        *writer->at++ = index ? ',' : '[';
        if (put_narrow(writer, bits_at(reader->at)) < 0)
            return -1;
    }
    *writer->at++ = ']';
    return 0;
}

static int transcode_int(Reader *reader, Writer *writer, unsigned char tag)
{
    int64_t number;
    return take_int(reader, tag, &number) < 0 ? -1 : put_integer(writer, number);
}

static int transcode_row(Transcoder *self, Reader *reader, Writer *writer)
{
    const unsigned char *text;
    size_t size;
    Py_ssize_t count;
    if (take_array(reader, &count) < 0 || count != self->count)
        return -1;
    for (Py_ssize_t index = 0; index < count; index++) {
        if (put_bytes(writer, self->keys[index]) < 0 || reader->at == reader->end || RESERVE(writer, 8) < 0)
            return -1;
        unsigned char tag = *reader->at++;
        int failed = 0;
        if (tag == 0xc0)
            PUT_LITERAL(writer, "null");
        else if (self->kinds[index] == 'f')
            failed = transcode_float(self, reader, writer, tag);
        else if (self->kinds[index] == 's')
            failed = take_text(reader, tag, &text, &size) < 0 ? -1 : put_text(writer, text, size);
        else if (self->kinds[index] == 'i')
            failed = transcode_int(reader, writer, tag);
        else if (self->kinds[index] == 'v')
            failed = transcode_vector(reader, writer, tag, self->lengths[index]);
        else if (tag == 0xc3)
            PUT_LITERAL(writer, "true");
        else if (tag == 0xc2)
            PUT_LITERAL(writer, "false");
        else
            failed = -1;
        if (failed)
            return -1;
    }
    if (RESERVE(writer, 1) < 0)
        return -1;
    *writer->at++ = self->closing;
    return 0;
}

/* Write one entity; its features are null where the reader is at a nil and `may_be_unknown`. */
static int transcode_entity(Transcoder *self, PyObject *id, Reader *reader, Writer *writer, int may_be_unknown)
{
    if (USUALLY(self->opening != NULL)) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(id, &size);
        if (text == NULL || put_bytes(writer, self->opening) < 0
            || put_text(writer, (const unsigned char *)text, (size_t)size) < 0 || RESERVE(writer, 32) < 0)
            return -1;
        PUT_LITERAL(writer, ",\"features\":");
    }
    if (may_be_unknown && reader->at < reader->end && *reader->at == 0xc0) {
        reader->at++;
        if (put_bytes(writer, self->nothing) < 0)
            return -1;
    } else if (transcode_row(self, reader, writer) < 0)
        return -1;
    if (!USUALLY(self->opening != NULL))
        return 0;
    if (RESERVE(writer, 2) < 0)
        return -1;
    *writer->at++ = '}';
    return 0;
}

/* Find the values of a row, and of the array behind it; starts[i + 1] is where value i ends, and one start is between
 * the two arrays.
 */
static int find_all(Transcoder *self, Reader *row, Reader *extra, const unsigned char **starts)
{
    if (find_values(row, self->row_count, starts) < 0 || row->at != row->end)
        return -1;
    starts[self->row_count] = row->at;
    if (self->extra_count == 0)
        return 0;
    starts += self->row_count + 1;
    if (find_values(extra, self->extra_count, starts) < 0 || extra->at != extra->end)
        return -1;
    starts[self->extra_count] = extra->at;
    return 0;
}

/* Return the array of the values that are picked of a row and of the array behind it; NULL where it is no such row. */
static __attribute__((noinline)) PyObject *pick(Transcoder *self, Reader *row, Reader *extra)
{
    const unsigned char *few[FEW], **starts = few;
    Py_ssize_t all = self->row_count + self->extra_count + 2;
    Writer writer = {NULL, NULL, NULL};
    if (all > FEW && (starts = PyMem_Malloc((size_t)all * sizeof *starts)) == NULL)
        return PyErr_NoMemory();
    int failed = find_all(self, row, extra, starts) < 0;
    size_t size = 5;
    for (Py_ssize_t index = 0; !failed && index < self->count; index++)
        size += (size_t)(starts[self->picks[index] + 1] - starts[self->picks[index]]);
    if (!failed && !(failed = start(&writer, size))) {
        *writer.at++ = (char)0xdd;
        for (int shift = 24; shift >= 0; shift -= 8)
            *writer.at++ = (char)(self->count >> shift);
        for (Py_ssize_t index = 0; index < self->count; index++) {
            const unsigned char *from = starts[self->picks[index]];
            size = (size_t)(starts[self->picks[index] + 1] - from);
            memcpy(writer.at, from, size);
            writer.at += size;
        }
    }
    if (starts != few)
        PyMem_Free(starts);
    return writer.bytes;
}

/* Start at a row that stands alone, behind what is in front of it, or at what is picked of it; -1 where it is none. The
 * caller lets go of what is `*held` then.
 */
static int read_alone(Transcoder *self, PyObject *row, Reader *reader, PyObject **held)
{
    Reader extra = {NULL, NULL};
    if (self->extra_count) {
        if (!PyList_Check(row) || PyList_GET_SIZE(row) != 2 || !PyBytes_Check(PyList_GET_ITEM(row, 1)))
            return -1;
        extra = reader_of(PyList_GET_ITEM(row, 1));
        row = PyList_GET_ITEM(row, 0);
    }
    if (!PyBytes_Check(row) || PyBytes_GET_SIZE(row) < self->head)
        return -1;
    *reader = reader_of(row);
    reader->at += self->head;
    if (USUALLY(self->picks == NULL))
        return 0;
    if ((*held = pick(self, reader, &extra)) == NULL)
        return -1;
    *reader = reader_of(*held);
    return 0;
}

/* Return the JSON of the entity whose row stands alone, for which there is `room` at first. */
static inline __attribute__((always_inline)) PyObject *transcode_alone(Transcoder *self, PyObject *id, PyObject *row,
                                                                       size_t room)
{
    Reader reader;
    Writer writer;
    PyObject *held = NULL;
    if (start(&writer, room) < 0)
        return NULL;
    int failed = read_alone(self, row, &reader, &held) < 0 || transcode_entity(self, id, &reader, &writer, 0)
        || reader.at != reader.end;
    Py_XDECREF(held);
    return finish(&writer, failed);
}

static PyObject *Transcoder_one(Transcoder *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyUnicode_Check(arguments[0]) || !(PyBytes_Check(arguments[1]) || PyList_Check(arguments[1])))
        return PyErr_Format(PyExc_TypeError, "one() wants an id and a reply");
    size_t size = self->picks == NULL && PyBytes_Check(arguments[1]) ? 2 * (size_t)PyBytes_GET_SIZE(arguments[1]) : 0;
    return transcode_alone(self, arguments[0], arguments[1], 128 + 32 * (size_t)self->count + (size ? size : self->room));
}

static PyObject *Transcoder_each(Transcoder *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_Check(arguments[0]) || !PyList_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "each() wants a list of ids and a list of rows");
    PyObject *ids = arguments[0], *rows = arguments[1];
    Py_ssize_t number = PyList_GET_SIZE(rows);
    if (number != PyList_GET_SIZE(ids))
        return PyErr_Format(PyExc_ValueError, "the reply is not of so many entities");
    PyObject *entities = PyList_New(number);
    for (Py_ssize_t index = 0; entities != NULL && index < number; index++) {
        /* What is called may change the lists: never go on by their old sizes. */
        if (index >= PyList_GET_SIZE(ids) || index >= PyList_GET_SIZE(rows)) {
            PyErr_SetString(PyExc_ValueError, "the lists were changed");
            Py_CLEAR(entities);
            break;
        }
        PyObject *id = PyList_GET_ITEM(ids, index), *row = PyList_GET_ITEM(rows, index);
        PyObject *entity = Py_None;
        Py_INCREF(id);
        Py_INCREF(row);
        if (row != Py_None)
            entity = transcode_alone(self, id, row, 128 + self->room);
        else
            Py_INCREF(entity);
        Py_DECREF(id);
        Py_DECREF(row);
        if (entity == NULL)
            Py_CLEAR(entities);
        else
            PyList_SET_ITEM(entities, index, entity);
    }
    return entities;
}

/* Write the entity at `*position`, whose row is at the reader, and move on; -1 also where there is no such entity. */
static int transcode_next(Transcoder *self, PyObject *ids, Py_ssize_t *position, Reader *reader, Writer *writer,
                          int may_be_unknown)
{
    if (*position >= PyList_GET_SIZE(ids) || RESERVE(writer, 1) < 0)
        return -1;
    PyObject *id = PyList_GET_ITEM(ids, *position);
    *writer->at++ = *position ? ',' : '[';
    ++*position;
    Py_INCREF(id);
    int failed = transcode_entity(self, id, reader, writer, may_be_unknown);
    Py_DECREF(id);
    return failed;
}

/* Write the entities that one reply covers, from `*position` on: rows that stand alone, or a msgpack array of rows. */
static int transcode_part(Transcoder *self, PyObject *ids, Py_ssize_t *position, PyObject *reply, Writer *writer)
{
    static const unsigned char nil = 0xc0;
    Reader reader;
    Py_ssize_t count;
    int failed = 0;
    if (PyList_Check(reply)) {
        for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(reply); index++) {
            PyObject *row = PyList_GET_ITEM(reply, index), *held = NULL;
            Py_INCREF(row);
            if (row == Py_None)
                reader = (Reader){&nil, &nil + 1};
            else
                failed = read_alone(self, row, &reader, &held);
            failed = failed || transcode_next(self, ids, position, &reader, writer, row == Py_None) < 0
                || reader.at != reader.end;
            Py_XDECREF(held);
            Py_DECREF(row);
        }
        return failed ? -1 : 0;
    }
    if (!PyBytes_Check(reply) || self->picks != NULL)
        return -1;
    reader = reader_of(reply);
    if (take_array(&reader, &count) < 0)
        return -1;
    for (; !failed && count > 0; count--)
        failed = transcode_next(self, ids, position, &reader, writer, 1);
    return failed || reader.at != reader.end ? -1 : 0;
}

static PyObject *Transcoder_many(Transcoder *self, PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyList_Check(arguments[0]) || !PyList_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "many() wants a list of ids and a list of replies");
    PyObject *ids = arguments[0], *replies = arguments[1];
    Py_ssize_t position = 0;
    Writer writer;
    size_t room = 64 + (size_t)PyList_GET_SIZE(ids) * (64 + self->room);
    if (start(&writer, room < MOST_ROOM ? room : MOST_ROOM) < 0)
        return NULL;
    int failed = 0;
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(replies); index++) {
        PyObject *reply = PyList_GET_ITEM(replies, index);
        Py_INCREF(reply);
        failed = transcode_part(self, ids, &position, reply, &writer);
        Py_DECREF(reply);
    }
    failed = failed || position != PyList_GET_SIZE(ids) || position == 0 || RESERVE(&writer, 1) < 0;
    if (!failed)
        *writer.at++ = ']';
    return finish(&writer, failed);
}

/* Ids */

/* Write a word for each id; an id of another size than 1 to 256 bytes does not fit. */
static PyObject *encode_words(PyObject *ids, PyObject *before, PyObject *after)
{
    Writer writer;
    int failed = 0;
    if (start(&writer, 64 * (size_t)PyList_GET_SIZE(ids)) < 0)
        return NULL;
    for (Py_ssize_t index = 0; !failed && index < PyList_GET_SIZE(ids); index++) {
        Py_ssize_t size;
        const char *text = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(ids, index), &size);
        failed = text == NULL || size < 1 || size > 256 || put_word(&writer, before, text, (size_t)size, after) < 0;
    }
    return finish(&writer, failed);
}

static PyObject *encode_ids(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(arguments[0]) || !PyBytes_Check(arguments[1]) || !PyBytes_Check(arguments[2]))
        return PyErr_Format(PyExc_TypeError, "encode_ids() wants a list of ids, and what stands around each in its key");
    PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0), *words = NULL, *both = NULL;
    PyObject *keys = nothing ? encode_words(arguments[0], arguments[1], arguments[2]) : NULL;
    if (keys != NULL && (words = encode_words(arguments[0], nothing, nothing)) != NULL)
        both = PyTuple_Pack(2, keys, words);
    Py_XDECREF(nothing);
    Py_XDECREF(keys);
    Py_XDECREF(words);
    return both;
}

/* A vector by itself */

/* Write the number whose bits are given as `number`, a callable, does. */
static int put_by_python(Writer *writer, uint32_t bits, PyObject *number)
{
    PyObject *text = PyObject_CallFunction(number, "k", (unsigned long)bits);
    if (text == NULL)
        return -1;
    int failed = PyBytes_Check(text) ? put_bytes(writer, text) : -1;
    if (failed && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "write_vector() wants bytes of its second argument");
    Py_DECREF(text);
    return failed;
}

static PyObject *write_vector(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(arguments[0]) || PyBytes_GET_SIZE(arguments[0]) % 4 != 0)
        return PyErr_Format(PyExc_TypeError, "write_vector() wants the bytes of float32s, and what writes a number");
    size_t size = (size_t)PyBytes_GET_SIZE(arguments[0]) / 4;
    const unsigned char *at = (const unsigned char *)PyBytes_AS_STRING(arguments[0]);
    Writer writer;
    int failed = 0;
    if (start(&writer, 12 * size + 64) < 0)
        return NULL;
    *writer.at++ = '[';
    for (size_t index = 0; !failed && index < size; index++, at += 4)
        failed = (index && put(&writer, ",", 1) < 0) || RESERVE(&writer, ROOM_FOR_NARROW + COPY_MOST) < 0
            || (put_narrow(&writer, bits_at(at)) < 0 && put_by_python(&writer, bits_at(at), arguments[1]) < 0);
    return finish(&writer, failed || put(&writer, "]", 1) < 0);
}

/* The type */

/* Return `before`, then `text` as a JSON string, then a colon. */
static PyObject *key_of(char before, PyObject *text)
{
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
    Writer writer;
    if (utf8 == NULL || start(&writer, (size_t)size + 8) < 0)
        return NULL;
    *writer.at++ = before;
    int failed = put_text(&writer, (const unsigned char *)utf8, (size_t)size) < 0 || RESERVE(&writer, 1) < 0;
    if (!failed)
        *writer.at++ = ':';
    return finish(&writer, failed);
}

static void Transcoder_dealloc(Transcoder *self)
{
    for (Py_ssize_t index = 0; self->keys != NULL && index < self->count; index++)
        Py_XDECREF(self->keys[index]);
    PyMem_Free(self->keys);
    PyMem_Free(self->kinds);
    PyMem_Free(self->lengths);
    PyMem_Free(self->picks);
    Py_XDECREF(self->opening);
    Py_XDECREF(self->nothing);
    Py_XDECREF(self->encode);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* Take where each feature's value is among a reply's `all`, of which `row_count` are in the row. */
static int set_picks(Transcoder *self, PyObject *picks, Py_ssize_t all, Py_ssize_t row_count)
{
    if (picks == Py_None)
        return 0;
    if (!PyTuple_Check(picks) || PyTuple_GET_SIZE(picks) != self->count || row_count < 0 || row_count > all) {
        PyErr_SetString(PyExc_ValueError, "want a tuple with a pick for each name, and how many values a row has");
        return -1;
    }
    if ((self->picks = PyMem_Calloc((size_t)self->count, sizeof *self->picks)) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->row_count = row_count;
    self->extra_count = all - row_count;
    for (Py_ssize_t index = 0; index < self->count; index++) {
        Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GET_ITEM(picks, index));
        if (place == -1 && PyErr_Occurred())
            return -1;
        if (place < 0 || place >= all) {
            PyErr_Format(PyExc_ValueError, "there is no value %zd among %zd", place, all);
            return -1;
        }
        self->picks[index] = place + (place >= row_count);
    }
    return 0;
}

/* Take a feature's type; an entity of the features takes more room by what such a value may take. */
static int set_type(Transcoder *self, Py_ssize_t index, PyObject *type)
{
    if (take_type(type, &self->kinds[index], &self->lengths[index]) < 0)
        return -1;
    self->room += 24 + 12 * (size_t)self->lengths[index];
    return 0;
}

/* Make the features null, for an unknown entity: `null`, or a table's row of nulls. */
static PyObject *nothing_of(Transcoder *self)
{
    Writer writer;
    if (self->opening != NULL)
        return PyBytes_FromString("null");
    if (start(&writer, 64) < 0)
        return NULL;
    int failed = 0;
    for (Py_ssize_t index = 0; !failed && index < self->count; index++)
        failed = put_bytes(&writer, self->keys[index]) < 0 || put(&writer, "null", 4) < 0;
    return finish(&writer, failed || put(&writer, "]", 1) < 0);
}

static int set_features(Transcoder *self, PyObject *names, PyObject *types, PyObject *picks, Py_ssize_t row_count)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (count < 1 || (picks == Py_None && count != PyTuple_GET_SIZE(types))) {
        PyErr_SetString(PyExc_ValueError, "want a type for each name, and at least one");
        return -1;
    }
    self->kinds = PyMem_Calloc((size_t)count, 1);
    self->lengths = PyMem_Calloc((size_t)count, sizeof *self->lengths);
    self->keys = PyMem_Calloc((size_t)count, sizeof *self->keys);
    if (self->kinds == NULL || self->lengths == NULL || self->keys == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->count = count;
    if (set_picks(self, picks, PyTuple_GET_SIZE(types), row_count) < 0)
        return -1;
    for (Py_ssize_t index = 0; index < count; index++) {
        Py_ssize_t place = self->picks == NULL ? index : self->picks[index] - (self->picks[index] > row_count);
        if (set_type(self, index, PyTuple_GET_ITEM(types, place)) < 0)
            return -1;
        self->keys[index] = self->opening != NULL ? key_of(index ? ',' : '{', PyTuple_GET_ITEM(names, index))
            : PyBytes_FromString(index ? "," : "[");
        if (self->keys[index] == NULL)
            return -1;
    }
    self->closing = self->opening != NULL ? '}' : ']';
    if (self->room > 1 << 17)
        self->room = 1 << 17;
    return (self->nothing = nothing_of(self)) == NULL ? -1 : 0;
}

static PyObject *Transcoder_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *words[] = {"names", "types", "id_name", "head", "row_count", "picks", NULL};
    PyObject *names, *types, *id_name, *picks = Py_None;
    Py_ssize_t head = 0, row_count = 0;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OOO|nnO", words, &names, &types, &id_name, &head, &row_count,
                                     &picks))
        return NULL;
    if (id_name != Py_None && !PyUnicode_Check(id_name))
        return PyErr_Format(PyExc_TypeError, "an id's name is text, or None for a table");
    if (head < 0)
        return PyErr_Format(PyExc_ValueError, "there cannot be %zd bytes in front of a row", head);
    Transcoder *self = (Transcoder *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->head = head;
    PyObject *json = PyImport_ImportModule("msgspec.json"), *name_tuple = NULL, *type_tuple = NULL;
    int failed = json == NULL || (self->encode = PyObject_GetAttrString(json, "encode")) == NULL
        || (id_name != Py_None && (self->opening = key_of('{', id_name)) == NULL)
        || (name_tuple = PySequence_Tuple(names)) == NULL || (type_tuple = PySequence_Tuple(types)) == NULL
        || set_features(self, name_tuple, type_tuple, picks, row_count) < 0;
    Py_XDECREF(json);
    Py_XDECREF(name_tuple);
    Py_XDECREF(type_tuple);
    if (failed)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyMethodDef Transcoder_methods[] = {
    {"one", (PyCFunction)(void (*)(void))Transcoder_one, METH_FASTCALL,
     "one(entity_id, reply): the JSON of one entity, from a reply of get_features."},
    {"each", (PyCFunction)(void (*)(void))Transcoder_each, METH_FASTCALL,
     "each(entity_ids, rows): the JSON of each entity, from rows that stand alone; None where the row is None."},
    {"many", (PyCFunction)(void (*)(void))Transcoder_many, METH_FASTCALL,
     "many(entity_ids, replies): the JSON of a list of entities, from replies of get_features_batch: bytes or rows."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Transcoder_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "featurestore.native.transcode.Transcoder",
    .tp_doc = "Turns replies into JSON, for one set of features.",
    .tp_basicsize = sizeof(Transcoder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = Transcoder_new,
    .tp_dealloc = (destructor)Transcoder_dealloc,
    .tp_methods = Transcoder_methods,
};

static PyMethodDef functions[] = {
    {"encode_ids", (PyCFunction)(void (*)(void))encode_ids, METH_FASTCALL,
     "encode_ids(ids, before, after): the words of a command for the ids' keys, and those for the ids."},
    {"write_vector", (PyCFunction)(void (*)(void))write_vector, METH_FASTCALL,
     "write_vector(vector, number): the JSON of a vector; number(bits) writes numbers outside of 1e-20 to 1e9."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.transcode",
    .m_doc = "Replies of the read scripts, msgpack, straight into the JSON of a response.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_transcode(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made != NULL && PyModule_AddType(made, &Transcoder_type) < 0)
        Py_CLEAR(made);
    return made;
}
