/* The headers of Python, NumPy and the core, with the settings of every C file of the shim. */
#ifndef LEASTSQ_PYTHON_H
#define LEASTSQ_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL leastsq_array_api
#ifndef LEASTSQ_IMPORT_ARRAY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdatomic.h>

#include "core.h"
#include "kernels.h"

#endif
