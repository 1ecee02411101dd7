/* The Jacobians of several problems, factored together. */
#include "batch.h"

/* With fewer problems one after another is quicker, with more elements of each the
   caches do not hold them all (benchmarks/batch.py). */
enum { FEWEST = 3, MOST_ELEMENTS = 1 << 12 };

struct batch_lanes {
    const lsq_lanes_kernels *kernels;
    npy_intp m, n;              /* the rest is there if their problems come together */
    double *a, *b, *rdiag, *acnorm, *work;
    int64_t *ipvt;              /* of the last models */
    int64_t *came;              /* ipvt before them */
    int64_t *places;
    int64_t plain[LSQ_LANES];
};

static size_t
lay_out(batch_lanes *l, npy_intp m, npy_intp n)
{
    npy_intp wide = LSQ_LANES * n, size = m * wide + m * LSQ_LANES + 7 * wide + n;

    if (l != NULL) {
        l->a = (double *)(l + 1);
        l->b = l->a + m * wide;
        l->rdiag = l->b + m * LSQ_LANES;
        l->acnorm = l->rdiag + wide;
        l->ipvt = (int64_t *)(l->acnorm + wide);
        l->came = l->ipvt + wide;
        l->places = l->came + wide;
        l->work = (double *)(l->places + n);
    }
    return sizeof *l + (size_t)size * sizeof(double);
}

int
batch_lanes_count(npy_intp m, npy_intp n)
{
    return m * n > MOST_ELEMENTS ? 1 : LSQ_LANES;
}

size_t
batch_lanes_bytes(npy_intp m, npy_intp n)
{
    return batch_lanes_count(m, n) > 1 ? lay_out(NULL, m, n) : sizeof(batch_lanes);
}

batch_lanes *
batch_lanes_make(void *memory, const lsq_lanes_kernels *loops, npy_intp m, npy_intp n)
{
    batch_lanes *l = memory;

    memset(l, 0, batch_lanes_bytes(m, n));
    l->kernels = loops;
    l->m = m;
    l->n = n;
    if (batch_lanes_count(m, n) > 1) {
        lay_out(l, m, n);
        for (npy_intp k = 0; k < LSQ_LANES * n; k++)
            l->ipvt[k] = k / LSQ_LANES + 1;
    }
    return l;
}

/* Element i of every lane's vector, one row of lanes after another. */
static inline void
interleave(npy_intp m, const double *const *vectors, npy_intp stride, double *lanes)
{
    const double *a = vectors[0], *b = vectors[1], *c = vectors[2], *d = vectors[3];
    const double *e = vectors[4], *f = vectors[5], *g = vectors[6], *h = vectors[7];

    _Static_assert(LSQ_LANES == 8, "as many vectors as lanes");
    for (npy_intp i = 0; i < m; i++, lanes += LSQ_LANES) {
        npy_intp k = i * stride;

        lanes[0] = a[k];
        lanes[1] = b[k];
        lanes[2] = c[k];
        lanes[3] = d[k];
        lanes[4] = e[k];
        lanes[5] = f[k];
        lanes[6] = g[k];
        lanes[7] = h[k];
    }
}

/* Column by column in the order of each lane's last pivots: the next are likely to be much the same, and
   then no columns need change places.  In lanes without a model stands the first. */
static void
pack(const batch_lanes *l, const batch_model *models, int count)
{
    npy_intp m = l->m, n = l->n, stride = models->lane == NULL ? 1 : models->lanes;
    const double *vectors[LSQ_LANES];

    for (npy_intp j = 0; j <= n; j++) {
        for (int q = 0; q < LSQ_LANES; q++) {
            const batch_model *model = models + (q < count ? q : 0);
            const double *jac = model->lane == NULL ? model->fjac : model->lane;

            if (j < n)
                vectors[q] = jac + (l->ipvt[j * LSQ_LANES + q] - 1) * m * stride;
            else
                vectors[q] = model->lane == NULL ? model->f : model->residuals;
        }
        if (j < n && stride > 1)
            interleave(m, vectors, stride, l->a + j * m * LSQ_LANES);
        else if (j < n)
            interleave(m, vectors, 1, l->a + j * m * LSQ_LANES);
        else
            interleave(m, vectors, 1, l->b);
    }
}

/* J and f of a model in lanes, in the room for them. */
static void
take_out(const batch_lanes *l, const batch_model *model)
{
    for (npy_intp k = 0; k < l->m * l->n; k++)
        model->fjac[k] = model->lane[k * model->lanes];
    memcpy(model->f, model->residuals, (size_t)l->m * sizeof *model->f);
}

static void
unpack(const batch_lanes *l, int q, const batch_model *model)
{
    npy_intp m = l->m, n = l->n;

    for (npy_intp j = 0; j < n; j++) {
        const double *column = l->a + j * m * LSQ_LANES + q;

        for (npy_intp i = 0; i < j; i++)
            model->fjac[i + j * m] = column[i * LSQ_LANES];
        model->fjac[j + j * m] = l->rdiag[j * LSQ_LANES + q];
        model->w[LSQ_QTF * n + j] = l->b[j * LSQ_LANES + q];
        model->ipvt[j] = l->ipvt[j * LSQ_LANES + q];
        model->w[LSQ_COLNORM * n + l->came[j * LSQ_LANES + q] - 1] = l->acnorm[j * LSQ_LANES + q];
    }
}

void
batch_factor(batch_lanes *l, const batch_model *models, int count)
{
    int together = count >= FEWEST;

    if (together) {
        pack(l, models, count);
        memcpy(l->came, l->ipvt, (size_t)(LSQ_LANES * l->n) * sizeof *l->came);
        l->kernels->factor(l->m, l->n, l->a, l->b, l->ipvt, l->rdiag, l->acnorm, l->plain, l->work, l->places);
    }
    for (int q = 0; q < count; q++) {
        if (together && l->plain[q]) {
            unpack(l, q, models + q);
            continue;
        }
        if (models[q].lane != NULL)
            take_out(l, models + q);
        lsq_dense_model(l->m, l->n, models[q].fjac, models[q].f, models[q].ipvt,
                        models[q].w + LSQ_QTF * l->n, models[q].w + LSQ_COLNORM * l->n,
                        models[q].w + LSQ_SCRATCH * l->n);
    }
}
