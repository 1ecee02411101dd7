/* Many fits of compiled functions, in threads, without the GIL.

   Every thread takes a bunch of problems at a time and works in an arena of its
   own.  The calling thread waits, and looks at signals meanwhile.               */
#include "batch.h"

#include <pthread.h>
#include <stdatomic.h>

enum { POLL_MICROSECONDS = 20000, MOST_IN_A_BUNCH = 32, CACHE_LINE = 64 };

/* What the threads share. */
typedef struct {
    const batch_job *job;
    int64_t bunch;
    _Atomic int64_t next, done;
    atomic_int stop, running;
    PyThread_type_lock finished;        /* held while threads run */
} crew;

typedef struct {
    crew *all;
    pthread_t thread;
    double *arena;
    leastsq_residual func;
    leastsq_jacobian dfun;
    /* of the problem at work */
    void *func_data, *dfun_data;
    const double *weights;
    int32_t code;
    int no_residuals;           /* func stopped it at x0 */
} worker;

enum { INTERRUPTED = 1 };       /* returned to the core: what stops a fit is in `code` */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    worker *w = data;
    int code;

    if (atomic_load_explicit(&w->all->stop, memory_order_relaxed))
        return INTERRUPTED;
    code = w->func(m, n, x, fvec, w->func_data);
    w->code = code;
    if (code == 0) {
        w->no_residuals = 0;
        if (w->weights != NULL)
            for (int64_t i = 0; i < m; i++)
                fvec[i] = weighted(fvec[i], w->weights[i]);
    }
    return code;
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    worker *w = data;
    int code;

    if (atomic_load_explicit(&w->all->stop, memory_order_relaxed))
        return INTERRUPTED;
    code = w->dfun(m, n, x, fjac, w->dfun_data);
    w->code = code;
    if (code == 0 && w->weights != NULL)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++)
                fjac[i + j * m] = weighted(fjac[i + j * m], w->weights[i]);
    return code;
}

/* In doubles.  Whole cache lines, so that threads share none. */
static size_t
arena_size(npy_intp m, npy_intp n)
{
    size_t size = (size_t)(m + m * n + 3 * n + n * n + lsq_work_size(m, n));

    return (size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

static void
fit_one(worker *w, npy_intp k)
{
    const batch_job *j = w->all->job;
    npy_intp m = j->m, n = j->n;
    int64_t mode = j->diag == NULL ? LSQ_SCALE_COLUMNS : LSQ_SCALE_USER;
    double *fvec = w->arena, *fjac = fvec + m, *diag = fjac + m * n, *qtf = diag + n;
    double *scratch = qtf + n, *work = scratch + n * n, *x = j->x + k * n;
    int64_t *ipvt = (int64_t *)(work + lsq_work_size(m, n));
    char *data = j->data == NULL ? NULL : j->data + k * j->stride;

    w->func_data = data != NULL ? data : j->func->data;
    w->dfun_data = data != NULL || j->dfun == NULL ? data : j->dfun->data;
    w->weights = j->weights == NULL ? NULL : j->weights + k * m;
    w->code = 0;
    w->no_residuals = 1;
    if (j->diag != NULL)
        memcpy(diag, j->diag + k * j->diag_stride, (size_t)n * sizeof *diag);
    if (j->dfun == NULL)
        lsq_lmdif(residual, w, m, n, x, fvec, j->ftol, j->xtol, j->gtol, j->maxfev, j->epsfcn,
                  diag, mode, j->factor, j->ier + k, j->nfev + k, j->njev + k, fjac, ipvt, qtf,
                  work);
    else
        lsq_lmder(residual, jacobian, w, m, n, x, fvec, fjac, j->ftol, j->xtol, j->gtol,
                  j->maxfev, diag, mode, j->factor, j->ier + k, j->nfev + k, j->njev + k, ipvt,
                  qtf, work);
    for (npy_intp i = 0; w->no_residuals && i < m; i++)
        fvec[i] = Py_NAN;
    j->code[k] = w->code;
    j->fnorm[k] = lsq_enorm(m, fvec);
    if (j->fvec != NULL)
        memcpy(j->fvec + k * m, fvec, (size_t)m * sizeof *fvec);
    if (j->cov != NULL)
        batch_covariance(j->ier[k], n, fjac, m, ipvt, j->cov + k * n * n, scratch);
}

static void *
work(void *argument)
{
    worker *w = argument;
    crew *all = w->all;
    int64_t count = all->job->count;

    while (!atomic_load(&all->stop)) {
        int64_t first = atomic_fetch_add(&all->next, all->bunch), k;
        int64_t end = first + all->bunch < count ? first + all->bunch : count;

        if (first >= count)
            break;
        for (k = first; k < end && !atomic_load_explicit(&all->stop, memory_order_relaxed); k++)
            fit_one(w, k);
        atomic_fetch_add(&all->done, k - first);
    }
    if (atomic_fetch_sub(&all->running, 1) == 1)
        PyThread_release_lock(all->finished);
    return NULL;
}

/* Until all threads have ended; 0, or -1 if a signal or `progress` raised. */
static int
await_end(crew *all, PyObject *progress)
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
    size_t size = arena_size(job->m, job->n);
    worker *workers = PyMem_RawCalloc((size_t)threads, sizeof *workers);
    double *arenas = PyMem_RawMalloc((size_t)threads * size * sizeof *arenas);
    int started = 0, failed = -1, missing;
    crew all = {.job = job};

    all.bunch = job->count / (8 * (npy_intp)threads);
    all.bunch = all.bunch < 1 ? 1 : all.bunch > MOST_IN_A_BUNCH ? MOST_IN_A_BUNCH : all.bunch;
    all.finished = PyThread_allocate_lock();
    if (workers == NULL || arenas == NULL || all.finished == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    PyThread_acquire_lock(all.finished, WAIT_LOCK);
    atomic_store(&all.running, threads);
    for (; started < threads; started++) {
        workers[started].all = &all;
        workers[started].func = (leastsq_residual)job->func->function;
        workers[started].dfun = job->dfun == NULL ? NULL : (leastsq_jacobian)job->dfun->function;
        workers[started].arena = arenas + (size_t)started * size;
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
    PyMem_RawFree(arenas);
    PyMem_RawFree(workers);
    return failed;
}
