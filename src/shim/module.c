/* leastsq._core: the slots and the method table. */
#define LEASTSQ_IMPORT_ARRAY
#include "module.h"

#include "accumulator/accumulator.h"
#include "batch/batch.h"
#include "fit/fit.h"
#include "machine/machine.h"

static PyMethodDef methods[] = {
    {"batch_compiled", batch_compiled, METH_VARARGS, batch_compiled_doc},
    {"batch_collect", (PyCFunction)(void (*)(void))batch_collect, METH_FASTCALL, batch_collect_doc},
    {"batch_difference", (PyCFunction)(void (*)(void))batch_difference, METH_FASTCALL,
     batch_difference_doc},
    {"batch_wanting", (PyCFunction)(void (*)(void))batch_wanting, METH_FASTCALL, batch_wanting_doc},
    {"batch_points", (PyCFunction)(void (*)(void))batch_points, METH_FASTCALL, batch_points_doc},
    {"batch_start", (PyCFunction)(void (*)(void))batch_start, METH_FASTCALL, batch_start_doc},
    {"batch_tell_model", (PyCFunction)(void (*)(void))batch_tell_model, METH_FASTCALL,
     batch_tell_model_doc},
    {"batch_tell_norm", (PyCFunction)(void (*)(void))batch_tell_norm, METH_FASTCALL,
     batch_tell_norm_doc},
    {"chkder", (PyCFunction)(void (*)(void))chkder, METH_FASTCALL, chkder_doc},
    {"compiled", (PyCFunction)(void (*)(void))compiled_new, METH_FASTCALL, compiled_doc},
    {"difference_steps", (PyCFunction)(void (*)(void))difference_steps, METH_FASTCALL,
     difference_steps_doc},
    {"solve", (PyCFunction)(void (*)(void))solve, METH_FASTCALL, solve_doc},
    {"weigh", loss_weigh_array, METH_VARARGS, loss_weigh_doc},
    {NULL, NULL, 0, NULL},
};

static int
exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    PyObject *layout;
    int status;

    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    state->kernels = kernels_choose();
    if (state->kernels == NULL)
        return -1;
    state->accumulator_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &accumulator_spec, NULL);
    if (state->accumulator_type == NULL || PyModule_AddType(module, state->accumulator_type) < 0)
        return -1;
    state->curve_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &curve_spec, NULL);
    if (state->curve_type == NULL || PyModule_AddType(module, state->curve_type) < 0)
        return -1;
    state->machine_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &machine_spec, NULL);
    if (state->machine_type == NULL || PyModule_AddType(module, state->machine_type) < 0)
        return -1;
    if ((layout = batch_state_layout()) == NULL)
        return -1;
    status = PyModule_AddObjectRef(module, "state_layout", layout);
    Py_DECREF(layout);
    return status < 0 ? -1 : PyModule_AddStringConstant(module, "isa", state->kernels->isa);
}

static int
traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);

    Py_VISIT(state->accumulator_type);
    Py_VISIT(state->curve_type);
    Py_VISIT(state->machine_type);
    return 0;
}

static int
clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);

    Py_CLEAR(state->accumulator_type);
    Py_CLEAR(state->curve_type);
    Py_CLEAR(state->machine_type);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec},
#if PY_VERSION_HEX >= 0x030C0000
    /* NumPy has one API table for the whole process */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "leastsq._core",
    .m_doc = "The C shim over the Fortran core; see _core.pyi.",
    .m_size = sizeof(module_state),
    .m_methods = methods,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

/* The state of the module to which `type` or one of its bases belongs; NULL with an error set if
   there is none. */
module_state *
state_of(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &definition);

    return module == NULL ? NULL : PyModule_GetState(module);
}

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
