/* Many fits of compiled functions, in threads, without the GIL.

   Every thread takes a bunch of problems at a time and fits them in an arena of its
   own (fitter.c).  The calling thread waits, and looks at signals meanwhile.  */
#include "batch.h"

#include <pthread.h>

enum { POLL_MICROSECONDS = 20000, MOST_IN_A_BUNCH = 32 };

typedef struct {
    batch_crew *all;
    pthread_t thread;
    batch_fitter *fitter;
} worker;

static void *
work(void *argument)
{
    worker *w = argument;
    batch_crew *all = w->all;

    batch_fit(w->fitter);
    if (atomic_fetch_sub(&all->running, 1) == 1)
        PyThread_release_lock(all->finished);
    return NULL;
}

/* Until all threads have ended; 0, or -1 if a signal or `progress` raised. */
static int
await_end(batch_crew *all, PyObject *progress)
{
    PyLockStatus status;
    PyObject *answer;
    int failed = 0;

    do {
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(all->finished, POLL_MICROSECONDS, 1);
        Py_END_ALLOW_THREADS
        if (failed)
            continue;
        failed = PyErr_CheckSignals() < 0;
        if (!failed && progress != Py_None) {
            answer = PyObject_CallFunction(progress, "L", (long long)atomic_load(&all->done));
            failed = answer == NULL;
            Py_XDECREF(answer);
        }
        if (failed)
            atomic_store(&all->stop, 1);
    } while (status != PY_LOCK_ACQUIRED);
    return failed ? -1 : 0;
}

/* Do the job with this many threads, or as many as can be had. */
int
batch_run(const batch_job *job, int threads, PyObject *progress)
{
    size_t size = (batch_fitter_size(job) + BATCH_APART - 1) / BATCH_APART * BATCH_APART;
    worker *workers = PyMem_RawCalloc((size_t)threads, sizeof *workers);
    char *memory = PyMem_RawMalloc((size_t)threads * size + BATCH_APART), *fitter;
    int started = 0, failed = -1, missing;
    batch_crew all = {.job = job};

    all.bunch = job->count / (8 * (npy_intp)threads);
    all.bunch = all.bunch < 1 ? 1 : all.bunch > MOST_IN_A_BUNCH ? MOST_IN_A_BUNCH : all.bunch;
    all.finished = PyThread_allocate_lock();
    if (workers == NULL || memory == NULL || all.finished == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    PyThread_acquire_lock(all.finished, WAIT_LOCK);
    atomic_store(&all.running, threads);
    fitter = memory + (BATCH_APART - (uintptr_t)memory % BATCH_APART);
    for (; started < threads; started++, fitter += size) {
        workers[started].all = &all;
        workers[started].fitter = batch_fitter_make(fitter, job, (batch_queue){&all, &all.stop, 0, 0, 0});
        if (pthread_create(&workers[started].thread, NULL, work, workers + started) != 0)
            break;
    }
    if (started == 0) {
        PyErr_SetString(PyExc_RuntimeError, "leastsq_batch: no thread can be started");
        goto done;
    }
    missing = threads - started;
    if (missing > 0 && atomic_fetch_sub(&all.running, missing) == missing)
        PyThread_release_lock(all.finished);
    failed = await_end(&all, progress);
    for (int k = 0; k < started; k++)
        pthread_join(workers[k].thread, NULL);
done:
    if (all.finished != NULL)
        PyThread_free_lock(all.finished);
    PyMem_RawFree(memory);
    PyMem_RawFree(workers);
    return failed;
}
