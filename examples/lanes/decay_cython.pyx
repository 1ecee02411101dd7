# cython: language_level=3, cdivision=True
"""The functions of decay.c in Cython.

LANES is a constant of C, so that the C compiler sees how many there are.  The loops that become vectors use only arrays
of their own: the compiler cannot know that the other pointers do not overlap.
"""
from libc.math cimport exp
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    enum { LANES = 8 };         /* as given to CFunction */
    """
    const int LANES


cdef api int decay_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fvec, void **data,
                            int32_t *status) noexcept nogil:
    cdef int64_t i
    cdef int l
    cdef double[8] a, k, c, t, y, f
    memcpy(a, x, sizeof(a))
    memcpy(k, x + LANES, sizeof(k))
    memcpy(c, x + 2*LANES, sizeof(c))
    for i in range(m):
        for l in range(LANES):
            t[l] = (<double *>data[l])[i]
            y[l] = (<double *>data[l])[m + i]
        for l in range(LANES):
            f[l] = a[l]*exp(-k[l]*t[l]) + c[l] - y[l]
        memcpy(fvec + i*LANES, f, sizeof(f))
    return 0


cdef api int decay_jacobian_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac, void **data,
                                     int32_t *status) noexcept nogil:
    cdef int64_t i
    cdef int l
    cdef double[8] a, k, t, e, slope, one
    memcpy(a, x, sizeof(a))
    memcpy(k, x + LANES, sizeof(k))
    for l in range(LANES):
        one[l] = 1
    for i in range(m):
        for l in range(LANES):
            t[l] = (<double *>data[l])[i]
        for l in range(LANES):
            e[l] = exp(-k[l]*t[l])
            slope[l] = -a[l]*t[l]*e[l]
        memcpy(fjac + i*LANES, e, sizeof(e))
        memcpy(fjac + (i + m)*LANES, slope, sizeof(slope))
        memcpy(fjac + (i + 2*m)*LANES, one, sizeof(one))
    return 0
