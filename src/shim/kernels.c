/* The choice of kernels.  So that one wheel suits all processors, the kernels of the blocked QR
   are compiled for several instruction sets, and one is chosen when the module is imported, by the features and
   the model of the processor.  Nothing is timed, so that a machine always computes the same bits.  LEASTSQ_ISA names
   another. */
#include "module.h"

#include <stdlib.h>

LSQ_TSQR_DECLARE(baseline);
#ifdef LEASTSQ_X86_64
#include <cpuid.h>

LSQ_TSQR_DECLARE(v3);
LSQ_TSQR_DECLARE(v4);
#endif

/* From the fewest instructions to the most. */
static const kernels tables[] = {
    LSQ_TSQR_TABLE(baseline),
#ifdef LEASTSQ_X86_64
    LSQ_TSQR_TABLE(v3),
    LSQ_TSQR_TABLE(v4),
#endif
};

enum { TABLES = sizeof tables / sizeof tables[0] };

#ifdef LEASTSQ_X86_64
enum {
    /* CPUID leaf 1 */
    INTEL_FAMILY = 6,
    SKYLAKE_SERVER = 0x55,      /* Skylake-SP, Cascade Lake, Cooper Lake; Skylake-X */
    ICE_LAKE_SERVER = 0x6a,
    SAPPHIRE_RAPIDS = 0x8f,
    EMERALD_RAPIDS = 0xcf,
    GRANITE_RAPIDS = 0xad,
    /* AMD's leaf of performance hints, and its bit for a data path of 512 bits */
    AMD_HINTS = 0x8000001a,
    AMD_FP512 = 1 << 3,
    /* the leaves of the processor's name */
    FIRST_NAME = 0x80000002,
    LAST_NAME = 0x80000004
};

/* Does the processor's name contain one of these words? */
static int
is_called(const char *const *words, size_t count)
{
    unsigned text[13] = {0};

    for (unsigned leaf = FIRST_NAME; leaf <= LAST_NAME; leaf++) {
        unsigned *part = text + 4 * (size_t)(leaf - FIRST_NAME);
        if (!__get_cpuid(leaf, &part[0], &part[1], &part[2], &part[3]))
            return 0;
    }
    for (size_t k = 0; k < count; k++)
        if (strstr((const char *)text, words[k]) != NULL)
            return 1;
    return 0;
}

/* Does the processor complete two multiply-adds of 512 bits in a cycle?  Where it splits them into halves, or
   has one such unit made of two of 256 bits, AVX-512 brings little and can lower the clock.

   No feature bit says this.  AMD has a hint (clear on Zen 4, whose path is 256 bits wide).  Intel's servers have
   two units, clients one; of the first generation Bronze, Silver and Gold 5xxx have one too, and only the name
   tells them apart.  A model that is not listed gets v3, which is correct everywhere and fast. */
static int
is_full_width(void)
{
    static const char *const one_unit[] = {"Bronze", "Silver", "Gold 5"};
    unsigned eax, ebx, ecx, edx, family, model;

    if (__builtin_cpu_is("amd"))
        return __get_cpuid(AMD_HINTS, &eax, &ebx, &ecx, &edx) && (eax & AMD_FP512) != 0;
    if (!__builtin_cpu_is("intel") || !__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return 0;
    family = eax >> 8 & 0xf;
    model = (eax >> 4 & 0xf) | (eax >> 12 & 0xf0);
    if (family != INTEL_FAMILY)
        return 0;
    switch (model) {
    case SKYLAKE_SERVER:
        return !is_called(one_unit, sizeof one_unit / sizeof one_unit[0]);
    case ICE_LAKE_SERVER:
    case SAPPHIRE_RAPIDS:
    case EMERALD_RAPIDS:
    case GRANITE_RAPIDS:
        return 1;
    default:
        return 0;
    }
}
#endif

/* The number of tables that this processor can run, and of the fastest one. */
static int
supported(int *fastest)
{
    int count = 1;

#ifdef LEASTSQ_X86_64
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
        && __builtin_cpu_supports("bmi2"))
        count = 2;
    if (count == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512cd"))
        count = 3;
    *fastest = count == 3 && !is_full_width() ? 1 : count - 1;
#else
    *fastest = 0;
#endif
    return count;
}

/* NULL with ImportError set if LEASTSQ_ISA names no set, or one that this processor lacks. */
const kernels *
kernels_choose(void)
{
    const char *wanted = getenv("LEASTSQ_ISA");
    int fastest, possible = supported(&fastest);

    if (wanted == NULL || wanted[0] == '\0')
        return &tables[fastest];
    for (int k = 0; k < TABLES; k++) {
        if (strcmp(wanted, tables[k].isa) != 0)
            continue;
        if (k < possible)
            return &tables[k];
        PyErr_Format(PyExc_ImportError, "leastsq: this processor does not support LEASTSQ_ISA=%s; "
                     "the best that it supports is %s", wanted, tables[possible - 1].isa);
        return NULL;
    }
    PyErr_Format(PyExc_ImportError, "leastsq: LEASTSQ_ISA must be baseline%s, got '%s'",
                 TABLES > 1 ? ", v3 or v4" : "", wanted);
    return NULL;
}
