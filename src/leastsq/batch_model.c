/* Many problems in lock-step: the events of lm_core that have to do with Jacobians,
   each for a list of problems. */
#include "batch.h"

const char batch_difference_doc[] =
    "batch_difference(slab, slots, f, weights, step, jac, j)\n--\n\n"
    "Row j of every jac is the difference of f and the slot's residuals, over step; zeros\n"
    "where that is 0.";
const char batch_tell_model_doc[] =
    "batch_tell_model(slab, slots, jac, weights, loss, cost)\n--\n\n"
    "Here are the Jacobians, transposed, at every slot's x, for so many residuals each.";

/* The Jacobian of the k-th problem, column by column, its rows weighted. */
static void
copy_columns(PyArrayObject *jac, npy_intp k, npy_intp m, npy_intp n, const double *weights,
             double *fjac)
{
    const char *source = PyArray_BYTES(jac) + k * PyArray_STRIDE(jac, 0);
    npy_intp column = PyArray_STRIDE(jac, 1), row = PyArray_STRIDE(jac, 2);

    for (npy_intp j = 0; j < n; j++, source += column, fjac += m) {
        if (row == (npy_intp)sizeof(double))
            memcpy(fjac, source, (size_t)m * sizeof(double));
        else
            for (npy_intp i = 0; i < m; i++)
                fjac[i] = *(const double *)(source + i * row);
        if (weights != NULL)
            for (npy_intp i = 0; i < m; i++)
                fjac[i] = weighted(fjac[i], weights[i]);
    }
}

/* Factor the k-th problem's fjac and tell: what the dense provider does
   (fortran/dense.f90), but R moves to a place of its own.  rhs has room for 2m. */
static void
tell_model(const slab *s, const slab_loss *loss, npy_intp k, double *fjac, double *rhs,
           int64_t cost)
{
    npy_intp m = s->m, n = s->n;
    int64_t slot = s->slots[k], *ipvt = s->ipvt + slot * n;
    double *w = batch_vectors(s, slot), *r = s->r + slot * n * n;
    double *rdiag = w + LSQ_SCRATCH * n;

    if (loss->none) {
        memcpy(rhs, s->fvec + slot * m, (size_t)m * sizeof *rhs);
    } else {
        batch_weigh(s, loss, k, s->fvec + slot * m, rhs, 1);
        for (npy_intp j = 0; j < n; j++)
            for (npy_intp i = 0; i < m; i++)
                fjac[i + j * m] *= rhs[m + i];
    }
    lsq_qrfac(m, n, fjac, m, 1, ipvt, rdiag, w + LSQ_COLNORM * n, w + LSQ_STEP * n, rhs);
    for (npy_intp j = 0; j < n; j++) {
        memcpy(r + j * n, fjac + j * m, (size_t)j * sizeof *r);
        r[j + j * n] = rdiag[j];
    }
    memcpy(w + LSQ_QTF * n, rhs, (size_t)n * sizeof *rhs);
    lsq_tell_model(s->state + slot, w, r, n, ipvt, cost);
}

PyObject *
batch_difference(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    npy_intp shape[2], cube[3], j;
    const double *f, *weights, *step;
    double *jac;
    PyThreadState *released;
    int failed = 0;

    (void)module;
    if (!batch_takes("batch_difference", 7, nargs) || batch_read_slab(args[0], args[1], &s) < 0)
        return NULL;
    shape[0] = cube[0] = s.count;
    shape[1] = cube[2] = s.m;
    cube[1] = s.n;
    f = batch_array(args[2], "f", NPY_DOUBLE, 2, shape);
    weights = batch_optional(args[3], "weights", NPY_DOUBLE, 2, shape, &failed);
    if (f == NULL || failed || (step = batch_array(args[4], "step", NPY_DOUBLE, 1, shape)) == NULL
        || (jac = batch_array(args[5], "jac", NPY_DOUBLE, 3, cube)) == NULL)
        return NULL;
    j = PyLong_AsSsize_t(args[6]);
    if (j < 0 || j >= s.n) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "batch: j is out of range");
        return NULL;
    }
    released = batch_release(&s);
    for (npy_intp k = 0; k < s.count; k++) {
        const double *moved = f + k * s.m, *fvec = s.fvec + s.slots[k] * s.m;
        double *column = jac + (k * s.n + j) * s.m, h = step[k];

        if (h == 0)
            memset(column, 0, (size_t)s.m * sizeof *column);
        else if (weights == NULL)
            for (npy_intp i = 0; i < s.m; i++)
                column[i] = (moved[i] - fvec[i]) / h;
        else
            for (npy_intp i = 0; i < s.m; i++)
                column[i] = (weighted(moved[i], weights[k * s.m + i]) - fvec[i]) / h;
    }
    batch_restore(released);
    Py_RETURN_NONE;
}

PyObject *
batch_tell_model(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    slab_loss loss;
    npy_intp shape[2];
    PyArrayObject *jac;
    const double *weights;
    const int64_t *cost;
    double *scratch = NULL;
    PyThreadState *released;
    int failed = 0;

    (void)module;
    if (!batch_takes("batch_tell_model", 6, nargs) || batch_read_slab(args[0], args[1], &s) < 0
        || batch_read_loss(args[4], &s, &loss) < 0)
        return NULL;
    shape[0] = s.count;
    shape[1] = s.m;
    weights = batch_optional(args[3], "weights", NPY_DOUBLE, 2, shape, &failed);
    if (failed || (cost = batch_array(args[5], "cost", NPY_INT64, 1, shape)) == NULL)
        return NULL;
    jac = (PyArrayObject *)PyArray_FROM_OTF(args[2], NPY_DOUBLE,
                                            NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED);
    if (jac == NULL)
        return NULL;
    if (PyArray_NDIM(jac) != 3 || PyArray_DIM(jac, 0) != s.count || PyArray_DIM(jac, 1) != s.n
        || PyArray_DIM(jac, 2) != s.m)
        PyErr_SetString(PyExc_ValueError, "batch: jac has not the wanted shape");
    else if ((scratch = PyMem_RawMalloc((size_t)(s.m * (s.n + 2)) * sizeof *scratch)) == NULL)
        PyErr_NoMemory();
    if (scratch != NULL) {
        released = batch_release(&s);
        for (npy_intp k = 0; k < s.count; k++) {
            copy_columns(jac, k, s.m, s.n, weights == NULL ? NULL : weights + k * s.m, scratch);
            tell_model(&s, &loss, k, scratch, scratch + s.m * s.n, cost[k]);
        }
        batch_restore(released);
        PyMem_RawFree(scratch);
    }
    Py_DECREF(jac);
    return scratch == NULL ? NULL : Py_NewRef(Py_None);
}
