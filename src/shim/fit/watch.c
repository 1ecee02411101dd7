/* The watcher: a Python function told of every event of a fit. */
#include "fit.h"

static PyObject *
vector(const double *w, npy_intp n, int column)
{
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);

    if (array != NULL)
        memcpy(PyArray_DATA((PyArrayObject *)array), w + column * n, (size_t)n * sizeof(double));
    return array;
}

/* watcher(is_model, accepted, x, trial, fnorm, gnorm, radius, par, actual, predicted,
   ratio, nfev, njev, iteration); true ends the fit.  is_model: a Jacobian was made
   at x; else the norm at a trial point was told, which is x if it was accepted. */
static int
tell_watcher(fit *f, const lsq_state *s, const double *w)
{
    int is_model = s->njev > f->watched_models, stop;
    PyObject *x = vector(w, s->n, LSQ_X), *trial = vector(w, s->n, LSQ_TRIAL), *answer = NULL;

    f->watched_models = s->njev;
    if (x != NULL && trial != NULL)     /* not N: it loses them when memory runs out */
        answer = PyObject_CallFunction(
            f->watcher, "iiOOdddddddLLL", is_model, (int)s->accepted, x, trial, s->fnorm,
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
