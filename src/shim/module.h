/* The state of the module, and the choice of kernels. */
#ifndef LEASTSQ_MODULE_H
#define LEASTSQ_MODULE_H

#include "python.h"

/* kernels.c */
typedef lsq_tsqr_kernels kernels;

const kernels *kernels_choose(void);

/* module.c */
typedef struct {
    const kernels *kernels;             /* for this processor */
    atomic_int fitter_in_python;        /* user/gil.c: set while a thread that fits has the GIL */
    PyTypeObject *accumulator_type, *curve_type, *machine_type;
} module_state;

module_state *state_of(PyTypeObject *type);

#endif
