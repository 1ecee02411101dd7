/* GSL's Levenberg-Marquardt for benchmarks/programs/compiled.c, a library that it loads.

   gsl_multifit_nlinear with its defaults (QR, Moré's scaling).  GSL keeps matrices by rows, and the problems write
   Jacobians by columns: the copy, m n numbers, counts as GSL's own time.                                     */
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_version.h>
#include <stdint.h>
#include <string.h>

#include "leastsq.h"

/* GSL's manual recommends the cube root of the machine precision. */
static const double GTOL = 6.055454452393343e-06;

typedef struct {
    leastsq_residual residual;
    leastsq_jacobian jacobian;
    void *data;
    int64_t m, n;
    double *columns;
} problem;

static int
residual(const gsl_vector *x, void *params, gsl_vector *f)
{
    problem *p = params;
    double *dense = f->stride == 1 ? f->data : p->columns;      /* differences go into a column of a matrix */

    if (p->residual(p->m, p->n, x->data, dense, p->data))
        return GSL_EFAILED;
    if (dense != f->data)
        for (int64_t i = 0; i < p->m; i++)
            f->data[i * (int64_t)f->stride] = dense[i];
    return GSL_SUCCESS;
}

static int
jacobian(const gsl_vector *x, void *params, gsl_matrix *J)
{
    problem *p = params;

    if (p->jacobian(p->m, p->n, x->data, p->columns, p->data))
        return GSL_EFAILED;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            J->data[i * (int64_t)J->tda + j] = p->columns[i + j * p->m];
    return GSL_SUCCESS;
}

const char *
version(void)
{
    return GSL_VERSION;
}

/* A fit from x, which becomes the answer; jacobian is NULL for differences.  Zero on success. */
int
fit(leastsq_residual f, leastsq_jacobian j, void *data, int m, int n, double tolerance, double *x, int64_t *nfev,
    int64_t *njev)
{
    static _Thread_local gsl_multifit_nlinear_workspace *work;
    static _Thread_local double columns[1024];
    problem p = {f, j, data, m, n, columns};
    gsl_multifit_nlinear_fdf fdf = {residual, j ? jacobian : NULL, NULL, (size_t)m, (size_t)n, &p, 0, 0, 0};
    gsl_multifit_nlinear_parameters parameters = gsl_multifit_nlinear_default_parameters();
    gsl_vector_view start = gsl_vector_view_array(x, (size_t)n);
    int info, status;

    if (m * n > 1024)
        return 1;
    /* the memory is made once for a size, as for the other solvers */
    if (work == NULL || work->f->size != (size_t)m || work->x->size != (size_t)n) {
        if (work != NULL)
            gsl_multifit_nlinear_free(work);
        work = gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &parameters, (size_t)m, (size_t)n);
        if (work == NULL)
            return 1;
    }
    if (gsl_multifit_nlinear_init(&start.vector, &fdf, work))
        return 1;
    status = gsl_multifit_nlinear_driver(200, tolerance, GTOL, 0, NULL, NULL, &info, work);
    if (status != GSL_SUCCESS && status != GSL_ENOPROG)        /* no progress: rounding is all that is left */
        return 1;
    memcpy(x, gsl_multifit_nlinear_position(work)->data, (size_t)n * sizeof *x);
    *nfev = (int64_t)fdf.nevalf;
    *njev = (int64_t)fdf.nevaldf;
    return 0;
}
