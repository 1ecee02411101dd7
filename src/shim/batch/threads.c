/* Many fits of compiled functions, in a pool of worker threads, without the GIL.

   Every thread takes a group of problems at a time and fits them in an arena of its
   own (fitter.c).  The calling thread waits, and looks at signals meanwhile.  */
#include "batch.h"

#include <pthread.h>

enum { POLL_MICROSECONDS = 20000, LARGEST_GROUP = 32 };

typedef struct {
    batch_supply supply;
    PyThread_type_lock finished;        /* held while workers run */
    atomic_int running;
} worker_pool;

typedef struct {
    worker_pool *pool;
    pthread_t thread;
    batch_fitter *fitter;
} worker;

static void *
work(void *argument)
{
    worker *w = argument;
    worker_pool *pool = w->pool;

    batch_fit(w->fitter);
    if (atomic_fetch_sub(&pool->running, 1) == 1)
        PyThread_release_lock(pool->finished);
    return NULL;
}

/* Until all threads have ended; 0, or -1 if a signal or `progress` raised. */
static int
await_end(worker_pool *pool, PyObject *progress)
{
    PyLockStatus status;
    PyObject *answer;
    int failed = 0;

    do {
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(pool->finished, POLL_MICROSECONDS, 1);
        Py_END_ALLOW_THREADS
        if (failed)
            continue;
        failed = PyErr_CheckSignals() < 0;
        if (!failed && progress != Py_None) {
            answer = PyObject_CallFunction(progress, "L", (long long)atomic_load(&pool->supply.done));
            failed = answer == NULL;
            Py_XDECREF(answer);
        }
        if (failed)
            atomic_store(&pool->supply.stop, 1);
    } while (status != PY_LOCK_ACQUIRED);
    return failed ? -1 : 0;
}

/* Do the job with this many threads, or with as many as can be started. */
int
batch_run(const batch_job *job, int threads, PyObject *progress)
{
    size_t size = (batch_fitter_size(job) + BATCH_APART - 1) / BATCH_APART * BATCH_APART;
    worker *workers = PyMem_RawCalloc((size_t)threads, sizeof *workers);
    char *memory = PyMem_RawMalloc((size_t)threads * size + BATCH_APART), *fitter;
    int started = 0, failed = -1, missing;
    worker_pool pool = {.supply = {.count = job->count}};
    int64_t group = job->count / (8 * (npy_intp)threads);

    pool.supply.group = group < 1 ? 1 : group > LARGEST_GROUP ? LARGEST_GROUP : group;
    pool.finished = PyThread_allocate_lock();
    if (workers == NULL || memory == NULL || pool.finished == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    PyThread_acquire_lock(pool.finished, WAIT_LOCK);
    atomic_store(&pool.running, threads);
    fitter = memory + (BATCH_APART - (uintptr_t)memory % BATCH_APART);
    for (; started < threads; started++, fitter += size) {
        workers[started].pool = &pool;
        workers[started].fitter = batch_fitter_make(fitter, job, &pool.supply);
        if (pthread_create(&workers[started].thread, NULL, work, workers + started) != 0)
            break;
    }
    if (started == 0) {
        PyErr_SetString(PyExc_RuntimeError, "leastsq_batch: no thread can be started");
        goto done;
    }
    missing = threads - started;
    if (missing > 0 && atomic_fetch_sub(&pool.running, missing) == missing)
        PyThread_release_lock(pool.finished);
    failed = await_end(&pool, progress);
    for (int k = 0; k < started; k++)
        pthread_join(workers[k].thread, NULL);
done:
    if (pool.finished != NULL)
        PyThread_free_lock(pool.finished);
    PyMem_RawFree(memory);
    PyMem_RawFree(workers);
    return failed;
}
