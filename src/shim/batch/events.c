/* Many problems in lock-step: the events of lm_core, each for a list of problems, and what
   came of them.

   First the events without a Jacobian, then those with one, then the results.          */
#include "batch.h"
#include "covariance.h"

const char batch_start_doc[] =
    "batch_start(slab, slots)\n--\n\nlsq_start for every slot.";
const char batch_wanting_doc[] =
    "batch_wanting(slab, requests)\n--\n\nThe slots, as an array, whose problems want one of these.";
const char batch_points_doc[] =
    "batch_points(slab, slots, column)\n--\n\nThis vector of every slot, as rows of an array of its own.";
const char batch_tell_norm_doc[] =
    "batch_tell_norm(slab, slots, f, weights, loss)\n--\n\n"
    "Here are the residuals at every slot's trial, or feeler; weights and loss may be None.";
const char batch_difference_doc[] =
    "batch_difference(slab, slots, f, weights, step, jac, j)\n--\n\n"
    "Row j of every jac is the difference of f and the slot's residuals, over step; zeros\n"
    "where that is 0.";
const char batch_tell_model_doc[] =
    "batch_tell_model(slab, slots, jac, weights, loss, cost)\n--\n\n"
    "Here are the Jacobians, transposed, at every slot's x, each for `cost` residuals.";
const char batch_collect_doc[] =
    "batch_collect(slab, slots, problems, x, ier, nfev, njev, fnorm, cov, fvec, multipliers)\n--\n\n"
    "Copy every slot's results into the rows `problems` of the others; cov, fvec and multipliers\n"
    "may be None.";

PyObject *
batch_start(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;

    (void)module;
    if (!batch_takes("batch_start", 2, nargs) || batch_read_slab(args[0], args[1], &s) < 0)
        return NULL;
    for (npy_intp k = 0; k < s.count; k++)
        lsq_start(s.state + s.slots[k], batch_vectors(&s, s.slots[k]));
    Py_RETURN_NONE;
}

PyObject *
batch_points(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    npy_intp shape[2], column;
    double *to;
    PyObject *points;

    (void)module;
    if (!batch_takes("batch_points", 3, nargs) || batch_read_slab(args[0], args[1], &s) < 0)
        return NULL;
    column = PyLong_AsSsize_t(args[2]);
    if (column < 0 || column >= s.columns) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "batch: w has no such vector");
        return NULL;
    }
    shape[0] = s.count;
    shape[1] = s.n;
    points = PyArray_SimpleNew(2, shape, NPY_DOUBLE);
    if (points == NULL)
        return NULL;
    to = PyArray_DATA((PyArrayObject *)points);
    for (npy_intp k = 0; k < s.count; k++)
        memcpy(to + k * s.n, batch_vectors(&s, s.slots[k]) + column * s.n, (size_t)s.n * sizeof *to);
    return points;
}

static int
asks(const lsq_state *state, int64_t wanted)
{
    return state->request >= 0 && state->request <= LSQ_ASK_FEELER && (wanted >> state->request & 1);
}

PyObject *
batch_wanting(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    npy_intp size[1] = {-1}, count = 0;
    const lsq_state *state;
    int64_t wanted = 0, *slots;         /* a bit for each request */
    PyObject *found;

    (void)module;
    if (!batch_takes("batch_wanting", 2, nargs))
        return NULL;
    if (!PyTuple_Check(args[0]) || PyTuple_GET_SIZE(args[0]) < 1 || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "batch: a slab and requests are tuples");
        return NULL;
    }
    state = batch_array(PyTuple_GET_ITEM(args[0], 0), "state", NPY_VOID, 1, size);
    if (state == NULL)
        return NULL;
    if (PyArray_ITEMSIZE((PyArrayObject *)PyTuple_GET_ITEM(args[0], 0)) != sizeof *state) {
        PyErr_SetString(PyExc_ValueError, "batch: state is not a record of lsq_state");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(args[1]); k++) {
        long request = PyLong_AsLong(PyTuple_GET_ITEM(args[1], k));

        if (request == -1 && PyErr_Occurred())
            return NULL;
        if (request >= 0 && request <= LSQ_ASK_FEELER)
            wanted |= (int64_t)1 << request;
    }
    for (npy_intp k = 0; k < size[0]; k++)
        count += asks(state + k, wanted);
    found = PyArray_SimpleNew(1, &count, NPY_INT64);
    if (found == NULL)
        return NULL;
    slots = PyArray_DATA((PyArrayObject *)found);
    for (npy_intp k = 0; k < size[0]; k++)
        if (asks(state + k, wanted))
            *slots++ = k;
    return found;
}

/* What a strategy asks for, where f at the trial is `told`. */
static void
tell_change(const slab *s, const slab_loss *loss, int64_t slot, const double *told)
{
    npy_intp m = s->m, n = s->n;
    lsq_state *state = s->state + slot;
    double *w = batch_vectors(s, slot), *kept = s->kept + slot * (n + 1) * m;

    lsq_change_along(m, n, kept, s->fvec + slot * m, told,
                     w + (lsq_core_columns(n, state->bounded, 0) + LSQ_C_CHANGE) * n,
                     loss->none ? NULL : kept + n * m);
    lsq_tell_change(state, w, s->r + slot * n * n, n, s->ipvt + slot * n, state->request == LSQ_ASK_FEELER, 1,
                    NULL, NULL);
}

/* Norms that are found at once: six chains of additions go side by side. */
enum { TOGETHER = 48 };

PyObject *
batch_tell_norm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    slab_loss loss;
    npy_intp shape[2];
    const double *f, *weights;
    double *row, *weighed, norms[TOGETHER];
    PyThreadState *released;
    int failed = 0, plain;

    (void)module;
    if (!batch_takes("batch_tell_norm", 5, nargs) || batch_read_slab(args[0], args[1], &s) < 0
        || batch_read_loss(args[4], &s, &loss) < 0)
        return NULL;
    shape[0] = s.count;
    shape[1] = s.m;
    f = batch_array(args[2], "f", NPY_DOUBLE, 2, shape);
    weights = batch_optional(args[3], "weights", NPY_DOUBLE, 2, shape, &failed);
    if (f == NULL || failed)
        return NULL;
    row = PyMem_RawMalloc((size_t)(3 * s.m) * sizeof *row);
    if (row == NULL)
        return PyErr_NoMemory();
    weighed = row + s.m;
    plain = weights == NULL && loss.none;
    released = batch_release(&s);
    for (npy_intp k = 0; k < s.count; k++) {
        int64_t slot = s.slots[k];
        const double *told = f + k * s.m, *fitted;
        npy_intp next = k % TOGETHER;

        if (weights != NULL) {
            for (npy_intp i = 0; i < s.m; i++)
                row[i] = weighted(told[i], weights[k * s.m + i]);
            told = row;
        }
        if (plain && next == 0)
            lsq_column_norms(s.m, s.count - k < TOGETHER ? s.count - k : TOGETHER, told, s.m, norms);
        if (s.state[slot].request == LSQ_ASK_FEELER) {
            tell_change(&s, &loss, slot, told);
            continue;
        }
        fitted = told;
        if (!loss.none) {
            batch_weigh(&s, &loss, k, told, weighed, 0);
            fitted = weighed;
        }
        lsq_tell_norm(s.state + slot, batch_vectors(&s, slot), s.r + slot * s.n * s.n, s.n,
                      s.ipvt + slot * s.n, plain ? norms[next] : lsq_enorm(s.m, fitted), 1);
        if (s.state[slot].accepted && s.before != NULL)
            memcpy(s.before + slot * s.m, s.fvec + slot * s.m, (size_t)s.m * sizeof *told);
        if (s.state[slot].accepted)
            memcpy(s.fvec + slot * s.m, told, (size_t)s.m * sizeof *told);
        if (s.state[slot].request == LSQ_ASK_CHANGE)
            tell_change(&s, &loss, slot, told);
    }
    batch_restore(released);
    PyMem_RawFree(row);
    Py_RETURN_NONE;
}

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

/* The k-th problem's model where J and f lie, if nothing weighs them and J lies column by column; fjac
   and f are room. */
static int
model_in_place(const slab *s, PyArrayObject *jac, npy_intp k, double *fjac, double *f, batch_model *model)
{
    npy_intp m = s->m, n = s->n;
    int64_t slot = s->slots[k];

    if (PyArray_STRIDE(jac, 2) != (npy_intp)sizeof(double)
        || PyArray_STRIDE(jac, 1) != m * (npy_intp)sizeof(double))
        return 0;
    *model = (batch_model){fjac, f, batch_vectors(s, slot), s->ipvt + slot * n,
                           (const double *)(PyArray_BYTES(jac) + k * PyArray_STRIDE(jac, 0)),
                           s->fvec + slot * m, 1};
    return 1;
}

/* The k-th problem's model from its fjac; f has room for 2m. */
static batch_model
weighed_model(const slab *s, const slab_loss *loss, npy_intp k, double *fjac, double *f)
{
    npy_intp m = s->m, n = s->n;
    int64_t slot = s->slots[k];
    lsq_state *state = s->state + slot;
    double *kept = s->kept == NULL ? NULL : s->kept + slot * (n + 1) * m;

    if (loss->none) {
        memcpy(f, s->fvec + slot * m, (size_t)m * sizeof *f);
    } else {
        batch_weigh(s, loss, k, s->fvec + slot * m, f, 1);
        for (npy_intp j = 0; j < n; j++)
            for (npy_intp i = 0; i < m; i++)
                fjac[i + j * m] *= f[m + i];
        if (kept != NULL)
            memcpy(kept + n * m, f + m, (size_t)m * sizeof *f);
    }
    if (kept != NULL)
        memcpy(kept, fjac, (size_t)(m * n) * sizeof *f);
    if (kept != NULL && state->past == LSQ_PAST_WANTED) {
        lsq_change_along(m, n, kept, s->fvec + slot * m, s->before + slot * m,
                         batch_vectors(s, slot) + (lsq_core_columns(n, state->bounded, 0) + LSQ_C_CHANGE) * n,
                         loss->none ? NULL : kept + n * m);
        state->past = LSQ_PAST_TOLD;
    }
    return (batch_model){fjac, f, batch_vectors(s, slot), s->ipvt + slot * n, NULL, NULL, 0};
}

/* Factored: R moves to a place of its own, and the core is told. */
static void
tell_model(const slab *s, npy_intp k, const batch_model *model, int64_t cost)
{
    npy_intp n = s->n;
    int64_t slot = s->slots[k];
    double *r = s->r + slot * n * n;

    for (npy_intp j = 0; j < n; j++)
        memcpy(r + j * n, model->fjac + j * s->m, (size_t)(j + 1) * sizeof *r);
    lsq_tell_model(s->state + slot, model->w, r, n, model->ipvt, cost);
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
    const lsq_lanes_kernels *loops = &((module_state *)PyModule_GetState(module))->kernels->lanes;

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
            loops->difference_alone(s.m, moved, fvec, h, column);
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
    module_state *state = PyModule_GetState(module);
    slab s;
    slab_loss loss;
    npy_intp shape[2];
    PyArrayObject *jac;
    const double *weights;
    const int64_t *cost;
    double *scratch = NULL, *fjac, *f;
    batch_lanes *lanes;
    batch_model models[LSQ_LANES];
    size_t each;
    PyThreadState *released;
    int failed = 0, count, most;

    if (!batch_takes("batch_tell_model", 6, nargs) || batch_read_slab(args[0], args[1], &s) < 0
        || batch_read_loss(args[4], &s, &loss) < 0)
        return NULL;
    each = (size_t)(s.m * (s.n + 2));
    most = batch_lanes_count(s.m, s.n);
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
    else if ((scratch = PyMem_RawMalloc((size_t)most * each * sizeof *scratch
                                        + batch_lanes_bytes(s.m, s.n))) == NULL)
        PyErr_NoMemory();
    if (scratch != NULL) {
        released = batch_release(&s);
        lanes = batch_lanes_make(scratch + (size_t)most * each, &state->kernels->lanes, s.m, s.n);
        for (npy_intp k = 0; k < s.count; k += count) {
            count = s.count - k < most ? (int)(s.count - k) : most;
            for (int q = 0; q < count; q++) {
                fjac = scratch + (size_t)q * each;
                f = fjac + s.m * s.n;
                if (weights == NULL && loss.none && s.kept == NULL
                    && model_in_place(&s, jac, k + q, fjac, f, models + q))
                    continue;
                copy_columns(jac, k + q, s.m, s.n, weights == NULL ? NULL : weights + (k + q) * s.m,
                             fjac);
                models[q] = weighed_model(&s, &loss, k + q, fjac, f);
            }
            batch_factor(lanes, models, count);
            for (int q = 0; q < count; q++)
                tell_model(&s, k + q, models + q, cost[k + q]);
        }
        batch_restore(released);
        PyMem_RawFree(scratch);
    }
    Py_DECREF(jac);
    return scratch == NULL ? NULL : Py_NewRef(Py_None);
}

/* (J'J)^-1 of a fit that ended, or nan. */
void
batch_covariance(const lsq_state *state, double *w, const double *r, int64_t ldr,
                 const int64_t *ipvt, double *cov, double *work)
{
    int determined = covariance(state, w, r, ldr, ipvt, NULL, NULL, cov, work);

    for (int64_t i = 0; !determined && i < state->n * state->n; i++)
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
    scratch = PyMem_RawMalloc((size_t)covariance_work(s.n, 1) * sizeof *scratch);
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
