/* One fit: its memory, and the call of the solver. */
#include "fit.h"
#include "module.h"

/* From this many elements of the Jacobian on, the solver's own work takes longer than releasing
   and taking the GIL around each callback. */
enum { RELEASE_GIL_ELEMENTS = 1 << 15 };

/* From this many elements (m*n) and rows (m) on, a QR from row blocks is faster: see
   docs/performance.md.  Smaller problems use MINPACK's QR, with MINPACK's bits. */
enum { BLOCKED_ELEMENTS = 1 << 15, BLOCKED_ROWS = 1 << 10 };

const char solve_doc[] =
    "solve(func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev,\n"
    "      precision, factor, diag, qr, threads, extras)\n--\n\n"
    "One fit.  Returns (x, ier); if ier is 2 or 4 and x is x0, (x, ier, norm of f,\n"
    "largest cosine, norm of D*x, R[0, 0]).  With full_output, and always if ier is 9 to 11 or the\n"
    "differences for some parameters vanish, returns (x, ier, fvec, nfev, njev, fjac, ipvt, qtf,\n"
    "cov_x or None, fault, stop, multipliers, vanished): the last are the numbers of those parameters.";

static int
use_blocks(const arguments *a, npy_intp m, npy_intp n)
{
    if (a->qr != QR_AUTO)
        return a->qr == QR_BLOCKED;
    return m >= BLOCKED_ROWS && m >= (BLOCKED_ELEMENTS + n - 1) / n;    /* m*n may overflow */
}

static int
no_memory(void)
{
    PyErr_NoMemory();
    return -1;
}

/* Allocate memory for the dense or the blocked provider, and write the start into it. */
static int
allocate(fit *f, const arguments *a, const kernels *k)
{
    npy_intp m = f->cb.m, n = f->cb.n, dims[2] = {n, m};
    int by_blocks = use_blocks(a, m, n), bounded = f->lo != NULL;
    int one_vector = by_blocks && a->strategy == LSQ_STRATEGY_MINPACK
        && blocked_leaves_trial(&f->cb, a->loss != NULL);
    int keeps, weights;
    int64_t columns = lsq_core_columns(n, bounded, a->strategy);
    size_t vector = (size_t)n * sizeof(double), doubles;
    double *next;
    int status;

    if (m > PY_SSIZE_T_MAX / (npy_intp)sizeof(double) / (2 * n + 16))
        return no_memory();
    if (a->full_output) {               /* these are returned, so they are arrays */
        f->fvec = (PyArrayObject *)PyArray_SimpleNew(1, &m, NPY_DOUBLE);
        if (f->fvec == NULL)
            return -1;
        if (!by_blocks && (f->fjac = (PyArrayObject *)PyArray_SimpleNew(2, dims, NPY_DOUBLE)) == NULL)
            return -1;
    }
    f->ldr = by_blocks ? n : m;
    keeps = a->strategy != LSQ_STRATEGY_MINPACK && !by_blocks;
    weights = a->strategy != LSQ_STRATEGY_MINPACK && by_blocks && a->loss != NULL;
    doubles = (size_t)n * (size_t)(columns + 1)
        + (size_t)m * (one_vector ? 0 : a->loss != NULL ? 3 : 1)
        + (f->fvec == NULL ? (size_t)m : 0) + (f->fjac == NULL ? (size_t)(n * f->ldr) : 0)
        + (keeps ? (size_t)(m * (n + (a->loss != NULL))) : 0)
        + (weights ? (size_t)m : 0);
    f->memory = PyMem_RawMalloc(doubles * sizeof(double));
    if (f->memory == NULL)
        return no_memory();
    next = f->memory;
    f->w = next;
    f->ipvt = (int64_t *)(next += n * columns);
    f->spare = next += n;
    f->problem.weighed = a->loss != NULL ? next += m : NULL;
    next += one_vector ? 0 : a->loss != NULL ? 2 * m : m;
    f->f = f->fvec != NULL ? PyArray_DATA(f->fvec) : next;
    next += f->fvec != NULL ? 0 : m;
    if (one_vector)
        f->spare = f->f;
    f->r = f->fjac != NULL ? PyArray_DATA(f->fjac) : next;
    next += f->fjac != NULL ? 0 : n * f->ldr;
    f->problem.kept = keeps ? next : NULL;          /* the last part of the memory, as are kept weights */

    memcpy(f->w + LSQ_X * n, PyArray_DATA(f->x), vector);
    if (f->diag != NULL)
        memcpy(f->w + LSQ_DIAG * n, PyArray_DATA(f->diag), vector);
    if (bounded) {
        memcpy(f->w + LSQ_LO * n, PyArray_DATA(f->lo), vector);
        memcpy(f->w + LSQ_HI * n, PyArray_DATA(f->hi), vector);
    }
    for (npy_intp j = 0; j < n; j++)    /* in case the fit ends before the first model */
        f->ipvt[j] = j + 1;
    if (!by_blocks)
        return 0;
    memset(f->r, 0, (size_t)n * vector);
    if (f->cb.dfun == NULL || f->cb.cdfun != NULL) {
        f->columns = PyMem_RawMalloc((size_t)m * vector);
        if (f->columns == NULL)
            return no_memory();
    }
    status = blocked_init(&f->blocks, &f->cb, a->loss != NULL ? &f->loss : NULL, k, a->threads, f->columns,
                          f->problem.weighed, a->strategy != LSQ_STRATEGY_MINPACK);
    f->blocks.kept_weights = weights ? next : NULL;
    return status;
}

/* The solver's settings and the functions that answer it. */
static void
prepare(fit *f, const arguments *a)
{
    npy_intp n = f->cb.n;
    lsq_state *s = &f->state;
    lsq_problem *p = &f->problem;

    s->n = n;
    s->maxfev = a->maxfev > 0 ? a->maxfev : (a->dfun ? 100 : 200) * ((int64_t)n + 1);
    s->scaling = f->diag != NULL ? LSQ_SCALE_USER : LSQ_SCALE_COLUMNS;
    s->ftol = a->ftol;
    s->xtol = a->xtol;
    s->gtol = a->gtol;
    s->factor = a->factor;
    s->bounded = f->lo != NULL;
    s->strategy = a->strategy;
    s->changes = a->strategy != LSQ_STRATEGY_MINPACK;
    p->differences.precision = a->has_precision ? a->precision : f->cb.eps;
    p->differences.grows = s->bounded || a->loss != NULL;
    if (s->bounded) {
        p->differences.lo = f->w + LSQ_LO * n;
        p->differences.hi = f->w + LSQ_HI * n;
        p->differences.largest = f->w + LSQ_LARGEST * n;
    } else if (s->strategy != LSQ_STRATEGY_MINPACK) {
        p->differences.largest = f->w + (lsq_core_columns(n, 0, 0) + LSQ_C_LARGEST) * n;
    }
    f->blocks.returns_residuals = a->full_output;
    fit_set_answers(f);
}

/* Run the solver (lsq_fit, or the MINPACK library); 0, or -1 with an error set. */
static int
run(fit *f, const arguments *a)
{
    npy_intp m = f->cb.m;

    (void)a;                    /* used only with the reference */
    if (f->cb.cfunc || f->cb.cdfun || f->blocks.k || m * f->cb.n >= RELEASE_GIL_ELEMENTS)
        gil_release(&f->cb.gil);
#ifdef LEASTSQ_REFERENCE
    if (a->qr == QR_REFERENCE)
        reference_fit(&f->problem, m, &f->state, f->w, f->f, f->r, f->ldr, f->ipvt, f->spare);
    else
#endif
    lsq_fit(&f->problem, m, &f->state, f->w, f->f, f->r, f->ldr, f->ipvt, f->spare);
    gil_restore(&f->cb.gil);
    if (f->blocks.current != NULL) {
        Py_XSETREF(f->fvec, blocked_residuals(&f->blocks));
        f->f = PyArray_DATA(f->fvec);
    }
    if (!PyErr_Occurred() && f->state.info == LSQ_IMPROPER)
        PyErr_SetString(PyExc_TypeError, "Improper input parameters.");
    return PyErr_Occurred() ? -1 : 0;
}

PyObject *
solve(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    module_state *state = PyModule_GetState(module);
    arguments a;
    fit f;
    PyObject *answer = NULL;

    memset(&a, 0, sizeof a);
    memset(&f, 0, sizeof f);
    f.cb.vector = f.cb.inline_vector;
    if (arguments_parse(&a, args, nargs) < 0 || (f.x = arguments_start_point(a.x0)) == NULL)
        goto done;
    /* With full_output SciPy returns a result for no parameters; _fit/leastsq.py makes it */
    if (PyArray_DIM(f.x, 0) == 0 && a.full_output && a.lo == Py_None && a.loss == NULL && a.watcher == NULL
        && PyCallable_Check(a.func)) {
        answer = Py_NewRef(Py_None);
        goto done;
    }
    if (!arguments_has_parameters(f.x))
        goto done;
    if (a.diag_object != Py_None
        && (f.diag = arguments_scale_factors(a.diag_object, PyArray_DIM(f.x, 0))) == NULL)
        goto done;
    if (a.lo != Py_None
        && ((f.lo = arguments_bounds(a.lo, PyArray_DIM(f.x, 0))) == NULL
            || (f.hi = arguments_bounds(a.hi, PyArray_DIM(f.x, 0))) == NULL))
        goto done;
    if (callbacks_init(&f.cb, a.func, a.dfun, a.args, PyArray_DIM(f.x, 0), a.col_deriv) < 0
        || loss_choose(&f.loss, a.loss, a.loss_scale) < 0
        || callbacks_first(&f.cb, PyArray_DATA(f.x)) < 0)
        goto done;
    f.cb.gil.fitter_in_python = &state->fitter_in_python;
    if (f.cb.cdfun != NULL && f.cb.cdfun->m != f.cb.m) {
        PyErr_Format(PyExc_ValueError,
                     "leastsq: the compiled Dfun is for m = %lld residuals, but func returns %zd",
                     (long long)f.cb.cdfun->m, (Py_ssize_t)f.cb.m);
        goto done;
    }
    if (f.cb.m < f.cb.n) {
        raise_too_few_residuals(f.cb.m, f.cb.n);
        goto done;
    }
#ifdef LEASTSQ_REFERENCE
    if (a.qr == QR_REFERENCE && reference_refuses(&a, f.cb.m, f.cb.n))
        goto done;
#endif
    f.watcher = a.watcher;
    f.watched_request = LSQ_ASK_NORM;
    if (allocate(&f, &a, state->kernels) < 0)
        goto done;
    prepare(&f, &a);
    if (run(&f, &a) == 0)
        answer = fit_result(&f, &a);
done:
    callbacks_clear(&f.cb);
    Py_XDECREF(f.x);
    Py_XDECREF(f.fvec);
    Py_XDECREF(f.fjac);
    Py_XDECREF(f.diag);
    Py_XDECREF(f.lo);
    Py_XDECREF(f.hi);
    PyMem_RawFree(f.memory);
    PyMem_RawFree(f.columns);
    blocked_clear(&f.blocks);
    return answer;
}
