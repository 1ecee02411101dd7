/* Memory and locks of the extension's types. */
#include "objects.h"

enum { LINE = 64 };             /* bytes of a cache line */

/* Room for so many doubles on a cache line, in *memory; NULL there: there is not enough. */
double *
aligned_room(int64_t doubles, void **memory)
{
    *memory = PyMem_RawMalloc((size_t)doubles * sizeof(double) + LINE);
    return (double *)(((uintptr_t)*memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
}

/* Take an object's lock, and if asked, or while it cannot be had, release the GIL.  No
   Python may be called until it is given back: it could ask for the same lock. */
PyThreadState *
lock_take(PyThread_type_lock lock, int release)
{
    PyThreadState *released;

    if (!release && PyThread_acquire_lock(lock, NOWAIT_LOCK))
        return NULL;
    released = PyEval_SaveThread();
    PyThread_acquire_lock(lock, WAIT_LOCK);
    return released;
}

void
lock_give(PyThread_type_lock lock, PyThreadState *released)
{
    PyThread_release_lock(lock);
    if (released != NULL)
        PyEval_RestoreThread(released);
}
