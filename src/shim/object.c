/* Shared by the extension's types: memory, locks, and the state of objects as bytes, for pickles. */
#include "object.h"

#ifndef _WIN32
#include <unistd.h>
#endif

enum { LINE = 64 };             /* bytes of a cache line */

/* Allocates `doubles` doubles, 64-byte aligned, in *memory, which is NULL on failure. */
double *
aligned_room(int64_t doubles, void **memory)
{
    *memory = PyMem_RawMalloc((size_t)doubles * sizeof(double) + LINE);
    return (double *)(((uintptr_t)*memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
}

/* ------------------------------------------------------------------- locks

   fork copies only one thread: a lock that another thread held is never released in the child.
   Such a lock is detected when the child first takes it, without a fork handler.  Threads that
   take a lock without the GIL first record their process in it (`settle`), so a lock that is held
   and has not been recorded in this process belongs to the parent's thread.  A lock that is taken
   and released under the GIL is always free when os.fork runs. */

#ifdef Py_GIL_DISABLED
enum { PATIENCE = 100000 };     /* microseconds: another thread may be settling the same lock */
#else
enum { PATIENCE = 0 };
#endif

static long
this_process(void)
{
#ifdef _WIN32
    return 0;                   /* there is no fork here */
#else
    return (long)getpid();
#endif
}

int
lock_make(object_lock *lock)
{
    atomic_init(&lock->process, this_process());
    if ((lock->lock = PyThread_allocate_lock()) != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* Free a lock.  One that was lost in a fork is left to the operating system. */
void
lock_free(object_lock *lock)
{
    if (lock->lock == NULL || !PyThread_acquire_lock(lock->lock, NOWAIT_LOCK))
        return;
    PyThread_release_lock(lock->lock);
    PyThread_free_lock(lock->lock);
    lock->lock = NULL;
}

/* Can this lock still be taken?  0 if its holder was lost in a fork. */
static int
settle(object_lock *lock)
{
    long here = this_process();

    if (atomic_load(&lock->process) == here)
        return 1;
    if (PyThread_acquire_lock_timed(lock->lock, PATIENCE, 0) != PY_LOCK_ACQUIRED)
        return atomic_load(&lock->process) == here;
    atomic_store(&lock->process, here);
    PyThread_release_lock(lock->lock);
    return 1;
}

/* Take the lock of `self`.  Returns 0, or -1 with RuntimeError set if its holder was lost in a fork.
   The GIL is released on request, or while another thread has the lock.  No Python may be called
   until the lock is released, because it could take the same lock. */
int
lock_take(PyObject *self, object_lock *lock, int release, PyThreadState **released)
{
    *released = NULL;
#ifndef Py_GIL_DISABLED
    if (!release && PyThread_acquire_lock(lock->lock, NOWAIT_LOCK))
        return 0;
#endif
    if (!settle(lock)) {
        const char *name = Py_TYPE(self)->tp_name, *dot = strrchr(name, '.');
        PyErr_Format(PyExc_RuntimeError, "leastsq: another thread was working on this %s when the process "
                     "forked, and only the parent has the result: make a new one here",
                     dot == NULL ? name : dot + 1);
        return -1;
    }
    if (!release && PyThread_acquire_lock(lock->lock, NOWAIT_LOCK))
        return 0;
    *released = PyEval_SaveThread();
    PyThread_acquire_lock(lock->lock, WAIT_LOCK);
    return 0;
}

void
lock_give(object_lock *lock, PyThreadState *released)
{
    PyThread_release_lock(lock->lock);
    if (released != NULL)
        PyEval_RestoreThread(released);
}

/* ------------------------------------------------------------------- pickles

   The state of an object as bytes: a header, then numbers in the byte order of the machine.
   Bytes of another kind, version, byte order or length, or with a changed word, are refused. */

enum { VERSION = 3 };

typedef struct {
    uint32_t kind, version;
    uint64_t check;
} head;

/* A checksum (FNV-1a, by words).  Each step is one-to-one, so any single changed word changes it. */
static uint64_t
checksum(const char *payload, size_t size)
{
    uint64_t sum = 0xcbf29ce484222325u, word;

    for (size_t k = 0; k < size; k += sizeof word) {
        memcpy(&word, payload + k, sizeof word);
        sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
}

/* Bytes for a payload of `size`, a multiple of 8, which the caller writes and seals. */
PyObject *
pickled_new(size_t size, void **payload)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(sizeof(head) + size));

    if (bytes != NULL)
        *payload = PyBytes_AS_STRING(bytes) + sizeof(head);
    return bytes;
}

void
pickled_seal(PyObject *bytes, uint32_t kind)
{
    char *start = PyBytes_AS_STRING(bytes);
    head h = {kind, VERSION,
              checksum(start + sizeof h, (size_t)PyBytes_GET_SIZE(bytes) - sizeof h)};

    memcpy(start, &h, sizeof h);
}

/* The payload in the bytes of a state made by pickled_reduce, with no alignment; NULL with ValueError or
   TypeError set if it is not what was sealed. */
const void *
pickled_open(PyObject *state, uint32_t kind, const char *of, size_t *size)
{
    PyObject *bytes, *names;
    const char *start;
    head h;

    if (!PyTuple_Check(state) || PyTuple_GET_SIZE(state) != 2
        || !PyBytes_Check(bytes = PyTuple_GET_ITEM(state, 0))
        || !(PyDict_Check(names = PyTuple_GET_ITEM(state, 1)) || names == Py_None)) {
        PyErr_Format(PyExc_TypeError, "leastsq: the state of a %s must be a tuple of bytes and a "
                     "dict or None, got %s", of, Py_TYPE(state)->tp_name);
        return NULL;
    }
    start = PyBytes_AS_STRING(bytes);
    *size = (size_t)PyBytes_GET_SIZE(bytes);
    if (*size < sizeof h || *size % sizeof(uint64_t) != 0) {
        PyErr_Format(PyExc_ValueError, "leastsq: the state of a %s is incomplete or something else: "
                     "it has %zd bytes", of, PyBytes_GET_SIZE(bytes));
        return NULL;
    }
    memcpy(&h, start, sizeof h);
    *size -= sizeof h;
    if (h.kind != kind)
        PyErr_Format(PyExc_ValueError, "leastsq: these bytes are not the state of a %s, or are from a "
                     "machine with another byte order", of);
    else if (h.version != VERSION)
        PyErr_Format(PyExc_ValueError, "leastsq: the state of this %s has version %u, but this "
                     "leastsq reads version %d", of, (unsigned)h.version, VERSION);
    else if (h.check != checksum(start + sizeof h, *size))
        PyErr_Format(PyExc_ValueError, "leastsq: the state of this %s is damaged", of);
    else
        return start + sizeof h;
    return NULL;
}

/* The result of __reduce__: a call that makes the object from `made_of` (the arguments of its type's
   __new__ after the type), and its state, which is `bytes` and the attributes of an instance of a
   subclass.  Steals references to both. */
PyObject *
pickled_reduce(PyObject *self, PyObject *made_of, PyObject *bytes)
{
    PyObject *copyreg = PyImport_ImportModule("copyreg"), *new = NULL, *names = NULL;
    PyObject *answer = NULL;

    if (copyreg != NULL && made_of != NULL && bytes != NULL)
        new = PyObject_GetAttrString(copyreg, "__newobj__");
    if (new != NULL) {
        names = PyObject_GetAttrString(self, "__dict__");
        if (names == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            names = Py_NewRef(Py_None);
        }
    }
    if (names != NULL)
        answer = Py_BuildValue("OO(OO)", new, made_of, bytes, names);
    Py_XDECREF(copyreg);
    Py_XDECREF(new);
    Py_XDECREF(names);
    Py_XDECREF(made_of);
    Py_XDECREF(bytes);
    return answer;
}

/* Set the attributes of a state, after its bytes have been used. */
PyObject *
pickled_attributes(PyObject *self, PyObject *state)
{
    PyObject *names = PyTuple_GET_ITEM(state, 1), *own;
    int status;

    if (names == Py_None)
        Py_RETURN_NONE;
    own = PyObject_GetAttrString(self, "__dict__");
    status = own == NULL ? -1 : PyDict_Update(own, names);
    Py_XDECREF(own);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}
