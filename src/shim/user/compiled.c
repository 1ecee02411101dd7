/* Compiled functions: an address, the data of the function, and the number of residuals, in a
   capsule that never changes. */
#include "user.h"

const char compiled_doc[] =
    "compiled(function, m, data, lanes, owner)\n--\n\n"
    "A capsule for solve: the addresses of a C function and of its data (0: none), and the number\n"
    "of problems that the function takes at once (0: no lanes; solve accepts only 0).\n"
    "It keeps `owner` alive, which must keep the function and its data alive.";

/* The capsule's context is the owner, so a fit need hold only the capsule. */
static void
destroy(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, COMPILED_CAPSULE));
    Py_XDECREF((PyObject *)PyCapsule_GetContext(capsule));
}

PyObject *
compiled_new(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    compiled c, *kept;
    PyObject *capsule;

    (void)module;
    if (nargs != 5) {
        PyErr_Format(PyExc_TypeError, "compiled takes 5 arguments, got %zd", nargs);
        return NULL;
    }
    c.function = PyLong_AsVoidPtr(args[0]);
    c.m = PyLong_AsLongLong(args[1]);
    c.data = PyLong_AsVoidPtr(args[2]);
    c.lanes = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (c.lanes < 0 || c.lanes > MOST_LANES) {
        PyErr_SetString(PyExc_ValueError, "compiled: lanes is out of range");
        return NULL;
    }
    kept = PyMem_Malloc(sizeof *kept);
    if (kept == NULL)
        return PyErr_NoMemory();
    *kept = c;
    capsule = PyCapsule_New(kept, COMPILED_CAPSULE, destroy);
    if (capsule == NULL)
        PyMem_Free(kept);
    else if (PyCapsule_SetContext(capsule, args[4]) == 0)
        Py_INCREF(args[4]);
    else
        Py_CLEAR(capsule);
    return capsule;
}

/* Borrowed from the capsule; NULL, without an error set, if `object` is something else. */
const compiled *
as_compiled(PyObject *object)
{
    if (!PyCapsule_CheckExact(object) || !PyCapsule_IsValid(object, COMPILED_CAPSULE))
        return NULL;
    return PyCapsule_GetPointer(object, COMPILED_CAPSULE);
}
