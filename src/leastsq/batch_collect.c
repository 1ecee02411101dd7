/* Many problems: what came of each. */
#include "batch.h"

const char batch_collect_doc[] =
    "batch_collect(slab, slots, problems, x, ier, nfev, njev, fnorm, cov, fvec, multipliers)\n--\n\n"
    "Copy every slot's results into the rows `problems` of the others; cov, fvec and multipliers\n"
    "may be None.";

int
batch_bounded(npy_intp n, const double *lo, const double *hi)
{
    for (npy_intp j = 0; j < n; j++)
        if (lo[j] > -Py_HUGE_VAL || hi[j] < Py_HUGE_VAL)
            return 1;
    return 0;
}

void
batch_covariance(const lsq_state *state, double *w, const double *r, int64_t ldr,
                 const int64_t *ipvt, double *cov, double *scratch)
{
    npy_intp n = state->n;
    int determined = state->info >= LSQ_FTOL && state->info <= LSQ_GTOL;

    if (determined && state->bounded)
        determined = covariance_between_bounds(n, r, ldr, ipvt, w, cov, scratch) != 0;
    else if (determined)
        determined = lsq_covar(n, r, ldr, ipvt, 0.0, cov, scratch) == n;
    for (npy_intp i = 0; !determined && i < n * n; i++)
        cov[i] = Py_NAN;
}

PyObject *
batch_collect(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    npy_intp matrix[2] = {-1}, cube[3];
    const int64_t *problems;
    int64_t *ier, *nfev, *njev;
    double *x, *fnorm, *cov, *fvec, *multipliers, *scratch;
    int failed = 0;

    (void)module;
    if (!batch_takes("batch_collect", 11, nargs) || batch_read_slab(args[0], args[1], &s) < 0
        || (problems = batch_array(args[2], "problems", NPY_INT64, 1, &s.count)) == NULL)
        return NULL;
    matrix[1] = cube[1] = cube[2] = s.n;
    if ((x = batch_array(args[3], "x", NPY_DOUBLE, 2, matrix)) == NULL
        || (ier = batch_array(args[4], "ier", NPY_INT64, 1, matrix)) == NULL
        || (nfev = batch_array(args[5], "nfev", NPY_INT64, 1, matrix)) == NULL
        || (njev = batch_array(args[6], "njev", NPY_INT64, 1, matrix)) == NULL
        || (fnorm = batch_array(args[7], "fnorm", NPY_DOUBLE, 1, matrix)) == NULL)
        return NULL;
    cube[0] = matrix[0];
    multipliers = batch_optional(args[10], "multipliers", NPY_DOUBLE, 2, matrix, &failed);
    matrix[1] = s.m;
    cov = failed ? NULL : batch_optional(args[8], "cov", NPY_DOUBLE, 3, cube, &failed);
    fvec = failed ? NULL : batch_optional(args[9], "fvec", NPY_DOUBLE, 2, matrix, &failed);
    for (npy_intp k = 0; !failed && k < s.count; k++)
        failed = problems[k] < 0 || problems[k] >= matrix[0];
    if (failed) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "batch: a problem is out of range");
        return NULL;
    }
    scratch = PyMem_RawMalloc((size_t)s.n * (size_t)(2 * s.n + 1) * sizeof *scratch);
    if (scratch == NULL)
        return PyErr_NoMemory();
    for (npy_intp k = 0; k < s.count; k++) {
        int64_t slot = s.slots[k], p = problems[k];
        const lsq_state *state = s.state + slot;
        double *w = batch_vectors(&s, slot), *f = s.fvec + slot * s.m;

        memcpy(x + p * s.n, w + LSQ_X * s.n, (size_t)s.n * sizeof *x);
        ier[p] = state->info;
        nfev[p] = state->nfev;
        njev[p] = state->njev;
        fnorm[p] = state->nfev > 0 ? state->fnorm : Py_NAN;
        for (npy_intp i = 0; state->nfev == 0 && i < s.m; i++)
            f[i] = Py_NAN;              /* it never began */
        if (fvec != NULL)
            memcpy(fvec + p * s.m, f, (size_t)s.m * sizeof *fvec);
        if (multipliers != NULL)
            lsq_multipliers(state, w, multipliers + p * s.n);
        if (cov != NULL)
            batch_covariance(state, w, s.r + slot * s.n * s.n, s.n, s.ipvt + slot * s.n,
                             cov + p * s.n * s.n, scratch);
    }
    PyMem_RawFree(scratch);
    Py_RETURN_NONE;
}
