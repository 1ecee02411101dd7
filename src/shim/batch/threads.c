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
    struct worker *workers;
    int started;
} worker_pool;

typedef struct worker {
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

/* Python ends a daemon thread that asks for the GIL while the interpreter ends; its
   stack, which the workers use, goes with it. */
static void
end_before_the_stack(void *argument)
{
    worker_pool *pool = argument;

    atomic_store(&pool->supply.stop, 1);
    for (int k = 0; k < pool->started; k++)
        pthread_join(pool->workers[k].thread, NULL);
}

static int
await_end_here(worker_pool *pool, PyObject *progress)
{
    int failed;

    pthread_cleanup_push(end_before_the_stack, pool);
    failed = await_end(pool, progress);
    pthread_cleanup_pop(0);
    return failed;
}

/* Do the job with this many threads, or with as many as can be started. */
int
batch_run(const batch_job *job, int threads, PyObject *progress)
{
    size_t size = (batch_fitter_size(job) + BATCH_APART - 1) / BATCH_APART * BATCH_APART;
    worker *workers = PyMem_RawCalloc((size_t)threads, sizeof *workers);
    char *memory = PyMem_RawMalloc((size_t)threads * size + BATCH_APART), *fitter;
    int failed = -1, missing;
    worker_pool pool = {.supply = {.count = job->count}, .workers = workers};
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
    for (worker *w = workers; pool.started < threads; w++, pool.started++, fitter += size) {
        w->pool = &pool;
        w->fitter = batch_fitter_make(fitter, job, &pool.supply);
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            break;
    }
    if (pool.started == 0) {
        PyErr_SetString(PyExc_RuntimeError, "leastsq_batch: no thread can be started");
        goto done;
    }
    missing = threads - pool.started;
    if (missing > 0 && atomic_fetch_sub(&pool.running, missing) == missing)
        PyThread_release_lock(pool.finished);
    failed = await_end_here(&pool, progress);
    for (int k = 0; k < pool.started; k++)
        pthread_join(workers[k].thread, NULL);
done:
    if (pool.finished != NULL)
        PyThread_free_lock(pool.finished);
    PyMem_RawFree(memory);
    PyMem_RawFree(workers);
    return failed;
}
