/* The covariance of a fit, from R, and the multipliers of its bounds. */
#include "covariance.h"

#include <math.h>

/* The covariance of the variables between their bounds; nan for those at a bound. */
static int
between_bounds(int64_t n, const double *r, int64_t ldr, const int64_t *ipvt, double *w, double *cov,
               double *work)
{
    double *side = w + LSQ_SIDE * n;
    int64_t determined = lsq_free_covar(n, r, ldr, ipvt, w + LSQ_X * n, w + LSQ_LO * n,
                                        w + LSQ_HI * n, cov, side, work);

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            if (side[i] != 0 || side[j] != 0)
                cov[i + j * n] = NAN;
    return determined != 0;
}

/* The number of doubles of work that a covariance needs. */
int64_t
covariance_work(int64_t n, int64_t bounded)
{
    return bounded ? n * (2 * n + 1) : n * n;
}

/* (J'J)^-1 at the end of a fit, n x n; nan for variables at a bound.  w holds lm_core's vectors, with
   LSQ_SIDE set.  k is NULL, or the kernels if the model came from them; the threads of `team` may then
   be used.  Returns 0 if the fit did not succeed or columns of J are dependent; cov is then
   meaningless. */
int
covariance(const lsq_state *s, double *w, const double *r, int64_t ldr, const int64_t *ipvt,
           const kernels *k, lsq_team *team, double *cov, double *work)
{
    int64_t n = s->n;

    if (!lsq_succeeded(s))
        return 0;
    if (s->bounded)
        return between_bounds(n, r, ldr, ipvt, w, cov, work);
    if (k != NULL && n >= COVARIANCE_BY_BLOCKS)
        return k->covar(n, r, ldr, ipvt, 0.0, cov, work, team) == n;
    return lsq_covar(n, r, ldr, ipvt, 0.0, cov, work) == n;
}

/* The same as an array, or None; NULL with an error set if memory runs out. */
PyObject *
covariance_array(const lsq_state *s, double *w, const double *r, int64_t ldr, const int64_t *ipvt,
                 const kernels *k)
{
    npy_intp n = s->n, dims[2] = {n, n};
    PyObject *cov;
    double *work;
    int determined;

    if (!lsq_succeeded(s))
        Py_RETURN_NONE;
    cov = PyArray_SimpleNew(2, dims, NPY_DOUBLE);
    if (cov == NULL)
        return NULL;
    work = PyMem_RawMalloc((size_t)covariance_work(n, s->bounded) * sizeof *work);
    if (work == NULL) {
        Py_DECREF(cov);
        return PyErr_NoMemory();
    }
    determined = covariance(s, w, r, ldr, ipvt, k, NULL, PyArray_DATA((PyArrayObject *)cov), work);
    PyMem_RawFree(work);
    if (determined)
        return cov;
    Py_DECREF(cov);
    Py_RETURN_NONE;
}

/* lsq_multipliers as an array if there are bounds and a model, else None.  NULL with an error set if
   memory runs out. */
PyObject *
multipliers_array(const lsq_state *s, const double *w)
{
    npy_intp n = s->n;
    PyObject *array;

    if (!s->bounded || s->njev == 0 || s->info == LSQ_NOT_FINITE)
        Py_RETURN_NONE;
    array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    if (array != NULL)
        lsq_multipliers(s, w, PyArray_DATA((PyArrayObject *)array));
    return array;
}
