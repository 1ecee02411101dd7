/* The choice of kernels.  So that one wheel suits all processors, the kernels of the blocked QR
   are compiled for several instruction sets, and the best one that this processor has is chosen
   when the module is imported.  LEASTSQ_ISA names another. */
#include "module.h"

#include <stdlib.h>

LSQ_TSQR_DECLARE(baseline);
#ifdef LEASTSQ_X86_64
LSQ_TSQR_DECLARE(v3);
#endif

/* From the fewest instructions to the most. */
static const kernels tables[] = {
    LSQ_TSQR_TABLE(baseline),
#ifdef LEASTSQ_X86_64
    LSQ_TSQR_TABLE(v3),
#endif
};

enum { TABLES = sizeof tables / sizeof tables[0] };

/* The number of tables that this processor can run. */
static int
supported(void)
{
#ifdef LEASTSQ_X86_64
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")
        || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
        return 1;
#endif
    return TABLES;
}

/* NULL with ImportError set if LEASTSQ_ISA names no set, or one that this processor lacks. */
const kernels *
kernels_choose(void)
{
    const char *wanted = getenv("LEASTSQ_ISA");
    int best = supported();

    if (wanted == NULL || wanted[0] == '\0')
        return &tables[best - 1];
    for (int k = 0; k < TABLES; k++) {
        if (strcmp(wanted, tables[k].isa) != 0)
            continue;
        if (k < best)
            return &tables[k];
        PyErr_Format(PyExc_ImportError, "leastsq: this processor does not support LEASTSQ_ISA=%s; "
                     "the best that it supports is %s", wanted, tables[best - 1].isa);
        return NULL;
    }
    PyErr_Format(PyExc_ImportError, "leastsq: LEASTSQ_ISA must be baseline%s, got '%s'",
                 TABLES > 1 ? " or v3" : "", wanted);
    return NULL;
}
