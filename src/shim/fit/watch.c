/* The watcher: a Python function that is called at every event of a fit. */
#include "fit.h"

static PyObject *
vector(const double *w, npy_intp n, int column)
{
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);

    if (array != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)array), w + column * n, (size_t)n * sizeof(double));
    return array;
}

/* watcher(kind, accepted, x, trial, fnorm, gnorm, radius, par, actual, predicted,
   ratio, nfev, njev, iteration); a true result ends the fit.  kind 0: the norm at a trial point was told,
   and x is that point if it was accepted; 1: a Jacobian was made at x; 2: with a strategy, the trial has
   changed. */
static int
tell_watcher(fit *f, const lsq_state *s, const double *w)
{
    int kind = f->watched_request == LSQ_ASK_MODEL ? 1 : f->watched_request > LSQ_ASK_MODEL ? 2 : 0, stop;
    PyObject *x = vector(w, s->n, LSQ_X), *trial = vector(w, s->n, LSQ_TRIAL), *answer = NULL;

    f->watched_request = s->request;
    if (x != NULL && trial != NULL)     /* O, not N, which leaks them when memory runs out */
        answer = PyObject_CallFunction(
            f->watcher, "iiOOdddddddLLL", kind, (int)s->accepted, x, trial, s->fnorm,
            s->gnorm, s->radius, s->par, s->actual, s->predicted, s->ratio, (long long)s->nfev,
            (long long)s->njev, (long long)s->iteration);
    Py_XDECREF(x);
    Py_XDECREF(trial);
    if (answer == NULL)
        return -1;
    stop = PyObject_IsTrue(answer);
    Py_DECREF(answer);
    return stop;
}

int
fit_watch(const lsq_state *s, const double *w, void *data)
{
    fit *f = data;
    int status;

    gil_take(&f->cb.gil);
    status = tell_watcher(f, s, w);
    gil_give(&f->cb.gil);
    return status;
}
