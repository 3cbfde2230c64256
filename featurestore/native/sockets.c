/* What a worker does for each plain GET of a connection: take it from the socket, and send its response.
 *
 * sockets.py has the same in Python, and says what both do. Neither call waits, so neither gives the interpreter away.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES 4096
#define SEND_BYTES 4096

static const char method[] = "GET ", version[] = " HTTP/1.1";
#define METHOD_BYTES (sizeof method - 1)
#define VERSION_BYTES (sizeof version - 1)

/* Whether a path, or the query behind it, may have this byte and still be plain: letters, digits and "_.~/-,?=". */
static int is_plain(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= ',' && byte <= '9') || (byte >= 'A' && byte <= 'Z')
        || byte == '_' || byte == '~' || byte == '?' || byte == '=';
}

/* Set where the path starts and how long it is, if `data` is one plain GET that ends in `usual`; else return 0. */
static int find_path(const char *data, size_t size, const char *usual, size_t usual_size, size_t longest_line,
                     const char **path, size_t *path_size)
{
    if (size < usual_size + METHOD_BYTES + VERSION_BYTES + 1)
        return 0;
    size_t line = size - usual_size;
    *path = data + METHOD_BYTES;
    *path_size = line - METHOD_BYTES - VERSION_BYTES;
    if ((longest_line > 0 && line > longest_line) || **path != '/' || memcmp(data, method, METHOD_BYTES) != 0
        || memcmp(*path + *path_size, version, VERSION_BYTES) != 0 || memcmp(data + line, usual, usual_size) != 0)
        return 0;
    for (size_t index = 0; index < *path_size; index++)
        if (!is_plain((unsigned char)(*path)[index]))
            return 0;
    return 1;
}

/* Whether it is an int; where not, an exception is set: cut off it would be another descriptor. */
static int is_descriptor(long number)
{
    if (number == (int)number)
        return 1;
    PyErr_SetString(PyExc_OverflowError, "no descriptor is that large");
    return 0;
}

static PyObject *take(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 3 || (arguments[1] != Py_None && !PyBytes_Check(arguments[1])))
        return PyErr_Format(PyExc_TypeError, "take() wants a descriptor, header fields or None, and a length");
    long descriptor = PyLong_AsLong(arguments[0]);
    size_t longest_line = PyLong_AsSize_t(arguments[2]);
    if (PyErr_Occurred() || !is_descriptor(descriptor))
        return NULL;
    char data[READ_BYTES];
    ssize_t size = recv((int)descriptor, data, sizeof data, MSG_DONTWAIT);
    if (size < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            Py_RETURN_NONE;
        size = 0;
    }
    const char *path;
    size_t path_size;
    if (arguments[1] != Py_None
        && find_path(data, (size_t)size, PyBytes_AS_STRING(arguments[1]), (size_t)PyBytes_GET_SIZE(arguments[1]),
                     longest_line, &path, &path_size))
        return PyUnicode_DecodeASCII(path, (Py_ssize_t)path_size, NULL);
    return PyBytes_FromStringAndSize(data, size);
}

/* Send `size` bytes; return how many were taken, or -1 with an exception. */
static Py_ssize_t send_now(long descriptor, const char *data, size_t size)
{
    ssize_t sent = send((int)descriptor, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (sent < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    return sent;
}

static PyObject *send_pieces(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 2 || !PyTuple_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "send() wants a descriptor and a tuple of bytes");
    long descriptor = PyLong_AsLong(arguments[0]);
    if ((descriptor == -1 && PyErr_Occurred()) || !is_descriptor(descriptor))
        return NULL;
    char data[SEND_BYTES];
    size_t size = 0;
    Py_ssize_t sent;
    for (Py_ssize_t index = 0; index < PyTuple_GET_SIZE(arguments[1]); index++) {
        PyObject *piece = PyTuple_GET_ITEM(arguments[1], index);
        if (!PyBytes_Check(piece))
            return PyErr_Format(PyExc_TypeError, "send() wants bytes in its tuple");
        size_t piece_size = (size_t)PyBytes_GET_SIZE(piece);
        if (piece_size <= sizeof data && size <= sizeof data - piece_size)
            memcpy(data + size, PyBytes_AS_STRING(piece), piece_size);
        size = piece_size > (size_t)PY_SSIZE_T_MAX - size ? (size_t)PY_SSIZE_T_MAX : size + piece_size;
    }
    if (size <= sizeof data)
        sent = send_now(descriptor, data, size);
    else {
        PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
        PyObject *whole = nothing ? PyObject_CallMethod(nothing, "join", "(O)", arguments[1]) : NULL;
        Py_XDECREF(nothing);
        if (whole == NULL)
            return NULL;
        sent = send_now(descriptor, PyBytes_AS_STRING(whole), (size_t)PyBytes_GET_SIZE(whole));
        Py_DECREF(whole);
    }
    return sent < 0 ? NULL : PyLong_FromSsize_t((Py_ssize_t)size - sent);
}

static PyMethodDef functions[] = {
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, "take(descriptor, usual, longest_line): see worker/sockets.py."},
    {"send", (PyCFunction)(void (*)(void))send_pieces, METH_FASTCALL, "send(descriptor, pieces): see worker/sockets.py."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "featurestore.native.sockets",
    .m_doc = "Takes plain GETs from sockets, and sends responses.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_sockets(void)
{
    return PyModule_Create(&module);
}
