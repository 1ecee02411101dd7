/* The ask/tell machine as an object: the requests of strategies, for the change of the residuals along J. */
#include "machine.h"

const char machine_tell_change_doc[] =
    "tell_change($self, change, evaluations=None)\n--\n\n"
    "Answer the requests \"change\" and \"feeler\", which only strategies make.\n\n"
    "Parameters\n----------\n"
    "change : array_like of shape (n,), or None\n"
    "    ``J.T @ (other - f)``, where J and f are those of the last model and `other` are the residuals at\n"
    "    `x_eval`.  A vector that is not finite counts as None.  None: the change is not available; the\n"
    "    machine makes neither of the two requests again.\n"
    "evaluations : int, optional\n"
    "    The number to add to `nfev`.  None: 1 for a \"feeler\" that is answered, 0 for a \"change\", whose\n"
    "    residuals are those of the last \"norm\".\n\n"
    "Raises\n------\n"
    "RuntimeError\n"
    "    The request is another, or None; or it was answered by other code while `change` was read.\n"
    "TypeError, ValueError\n"
    "    An argument is of the wrong kind or has another length.  The fit has not changed.";
const char machine_change_doc[] =
    "change(J, f, other)\n--\n\n"
    "``J.T @ (other - f)``, the argument `change` of `tell_change` and `tell_model`, with the same bits as in\n"
    "`leastsq`.\n\n"
    "Parameters\n----------\n"
    "J : array_like, shape (m, n)\n"
    "    The Jacobian of the last model; for `tell_model`, of the model that is told.\n"
    "f : array_like, shape (m,)\n"
    "    The residuals at the same point.\n"
    "other : array_like, shape (m,)\n"
    "    The residuals at the other point.\n\n"
    "Returns\n-------\n"
    "ndarray, shape (n,)\n\n"
    "Raises\n------\n"
    "TypeError, ValueError\n"
    "    An argument is not an array of real numbers, or has the wrong shape.";

/* Which of the two requests is the current one?  -1 with an error set. */
static int64_t
wanted_now(machine *m)
{
    PyThreadState *released;
    int64_t request;

    if (lock_take((PyObject *)m, &m->lock, 0, &released) < 0)
        return -1;
    request = m->state.s.request;
    lock_give(&m->lock, released);
    return request == LSQ_ASK_FEELER ? LSQ_ASK_FEELER : LSQ_ASK_CHANGE;
}

PyObject *
machine_tell_change(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"change", "evaluations", NULL};
    machine *m = (machine *)self;
    lsq_state *s = &m->state.s;
    PyObject *object, *evaluations = Py_None;
    PyThreadState *released;
    int64_t n = s->n, cost = -1, request, wanted;
    uint64_t which;
    int same, status = -1, answered;
    double *work, *told = NULL;
    void *memory = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:tell_change", names, &object, &evaluations))
        return NULL;
    answered = object != Py_None;
    if ((wanted = wanted_now(m)) < 0 || !machine_wants_now(m, wanted, "tell_change", &which)
        || (evaluations != Py_None && machine_read_evaluations(evaluations, &cost) < 0))
        return NULL;
    if (cost < 0)
        cost = wanted == LSQ_ASK_FEELER && answered;
    told = PyMem_RawMalloc((size_t)n * sizeof *told);
    if (told == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if ((!answered || machine_read_vector(object, n, told) == 0) && machine_scratch(m, &work, &memory) == 0
        && lock_take(self, &m->lock, machine_is_long_step(m), &released) == 0) {
        request = s->request;
        same = m->answers == which;
        if (same && request == wanted) {
            m->answers++;
            if (answered)
                memcpy(m->room.w + (lsq_core_columns(n, s->bounded, 0) + LSQ_C_CHANGE) * n, told,
                       (size_t)n * sizeof *told);
            lsq_tell_change(s, m->room.w, m->room.r, n, m->room.ipvt, cost, answered,
                            m->state.by_blocks ? m->k->qrsolv : NULL, work);
        }
        lock_give(&m->lock, released);
        status = machine_still_wants(request, wanted, "tell_change", same) ? 0 : -1;
    }
    PyMem_RawFree(memory);
    PyMem_RawFree(told);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

/* A matrix or vector of real numbers as doubles, by columns; NULL with an error set. */
static PyArrayObject *
doubles(PyObject *object, const char *name, npy_intp rows, int dimensions)
{
    PyArrayObject *array = as_real_array(object, name), *values = NULL;

    if (array == NULL)
        return NULL;
    if (PyArray_NDIM(array) != dimensions || (rows >= 0 && PyArray_DIM(array, 0) != rows))
        PyErr_Format(PyExc_ValueError, dimensions == 2 ? "leastsq: change: %s must have shape (m, n)"
                     : "leastsq: change: %s must have one element for each row of J, %zd", name, (Py_ssize_t)rows);
    else
        values = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_DOUBLE, NPY_ARRAY_FARRAY_RO);
    Py_DECREF(array);
    return values;
}

PyObject *
machine_change(PyObject *unused, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"J", "f", "other", NULL};
    PyObject *jac_object, *f_object, *other_object, *change = NULL;
    PyArrayObject *jac = NULL, *f = NULL, *other = NULL;
    npy_intp m, n;

    (void)unused;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OOO:change", names, &jac_object, &f_object, &other_object)
        || (jac = doubles(jac_object, "J", -1, 2)) == NULL)
        return NULL;
    m = PyArray_DIM(jac, 0);
    n = PyArray_DIM(jac, 1);
    f = doubles(f_object, "f", m, 1);
    other = f == NULL ? NULL : doubles(other_object, "other", m, 1);
    change = other == NULL ? NULL : PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    if (change != NULL)
        lsq_change_along(m, n, PyArray_DATA(jac), PyArray_DATA(f), PyArray_DATA(other),
                         PyArray_DATA((PyArrayObject *)change), NULL);
    Py_DECREF(jac);
    Py_XDECREF(f);
    Py_XDECREF(other);
    return change;
}
