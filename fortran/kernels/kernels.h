/* The C interface of the row accumulator: tsqr.F90, triangle.F90, gram.F90, reflectors.F90,
   compiled once for each instruction set and named lsq_..._<isa>.

   An accumulator is a workspace of work_size(n) doubles that holds the triangle
   of the QR factorisation of the rows [J f] pushed so far.  Accumulators form a
   monoid: `empty` is neutral, `merge` adds two of them, `push` appends rows.
   Sizes are 64-bit; the caller owns everything; no function allocates, prints,
   keeps a pointer or touches Python.  Functions on different workspaces may
   run at the same time.  Workspaces should start on a 64-byte line (for speed
   only).                                                                      */
#ifndef LEASTSQ_KERNELS_H
#define LEASTSQ_KERNELS_H

#include <stdint.h>

#include "core.h"

/* Element types of pushed rows, native byte order. */
enum {
    LSQ_FLOAT64 = 0,
    LSQ_FLOAT32 = 1
};

/* Rows are folded in blocks of LSQ_BLOCK_ROWS (BLOCK_ROWS of tsqr.F90) or, where columns are fewer, more, but fewer than
   LSQ_MOST_WAITING (NARROW_ROWS) of the pushed rows ever wait to be folded. */
enum {
    LSQ_BLOCK_ROWS = 256,
    LSQ_MOST_WAITING = 1024
};

/* What the caller of `finish` knows about the order of the columns: nothing; a permutation that is likely to
   be the answer; or that the columns were also pushed in this order. */
enum {
    LSQ_ORDER_UNKNOWN = 0,
    LSQ_ORDER_LIKELY = 1,
    LSQ_ORDER_PUSHED = 2
};

/* A team: threads that work on one triangle (team.F90).  NULL is the calling thread alone. */
typedef struct lsq_team {
    int64_t size;               /* threads */
    int64_t room_size;          /* at least the kernels' room_size(n) */
    double *room;               /* one for each thread except the first, on cache lines */
    /* Run body(number, data) in each thread, number 0 in the caller; returns when all have finished. */
    void (*run)(struct lsq_team *team, void (*body)(int64_t number, void *data), void *data);
    /* Each thread has a counter, which starts at 0.  Wait until the counter of thread `whose` is at
       least `value`, or set it; the kernels set only their own.  Not 0: the work is cancelled. */
    int (*await)(struct lsq_team *team, int64_t number, int64_t whose, int64_t value);
    int (*reach)(struct lsq_team *team, int64_t number, int64_t whose, int64_t value);
} lsq_team;

/* The kernels of one instruction set. */
typedef struct {
    const char *isa;

    /* The number of doubles in an accumulator of n columns, and in a thread's room (lsq_team). */
    int64_t (*work_size)(int64_t n);
    int64_t (*room_size)(int64_t n);

    void (*empty)(int64_t n, double *work);

    /* Append rows.  Element (i, j) of J is at a + i*row_stride + j*col_stride
       bytes, of f at f + i*f_stride; strides may have any sign or be zero, and
       need not be multiples of the element's size.  If f is NULL, f is column n+1
       of a.  The rows are read once and not kept.  No bit of the result depends on
       how rows are split into pushes.  Column j of J becomes column places[j] - 1 of the
       accumulator, or j if `places` is NULL, as it must be if f is.                  */
    void (*push)(int64_t n, int64_t rows, const void *a, int64_t a_type,
                 int64_t row_stride, int64_t col_stride, const void *f,
                 int64_t f_type, int64_t f_stride, double *work, const int64_t *places);

    /* The same by a team, all rows at once.  No rows may be waiting in the accumulator, and none
       are afterwards.  f is not NULL.  The team's size changes no bit. */
    void (*push_by)(int64_t n, int64_t rows, const void *a, int64_t a_type,
                    int64_t row_stride, int64_t col_stride, const void *f,
                    int64_t f_type, int64_t f_stride, double *work, const int64_t *places,
                    lsq_team *team);

    /* Add to `work` the rows of `other`, which keeps them. */
    void (*merge)(int64_t n, double *work, double *other);

    /* Fold the waiting rows, so that the triangle T of all rows, T'T = [J f]'[J f], is complete:
       T(j, k), k >= j, both from 0, is at work[triangle(n, &ldt) + j*ldt + k]. */
    void (*fold)(int64_t n, double *work);
    int64_t (*triangle)(int64_t n, int64_t *ldt);

    /* R (n x n, leading dimension ldr, zero below the diagonal), ipvt (from 1),
       the first n elements of Q'f, the column norms of J in J's order, and the
       norm of the rest of f: |f|^2 = |qtf|^2 + rest^2.  The accumulator must be
       emptied before the next rows.  If a column norm is not finite, a row was not
       finite in that column (this is certain for the first such column only); ipvt
       is then the identity and R is meaningless.  `expected`, one of LSQ_ORDER: in ipvt is a
       permutation that is likely to be the answer.  It is tried before others are
       guessed.  If the columns were pushed in this order, with `places` its inverse,
       the leading columns that are pivots are final at once; nothing is lost if they are few. */
    void (*finish)(int64_t n, double *work, double *r, int64_t ldr, int64_t *ipvt,
                   double *qtf, double *column_norms, double *rest, lsq_team *team, int64_t expected);

    /* MINPACK's qrsolv, by blocks.  `work`: work_size(n) doubles, overwritten. */
    void (*qrsolv)(int64_t n, double *r, int64_t ldr, const int64_t *ipvt,
                   const double *diag, const double *qtb, double *x, double *sdiag,
                   double *wa, double *work, lsq_team *team);

    /* lsq_covar (core.h), by blocks. */
    int64_t (*covar)(int64_t n, const double *r, int64_t ldr, const int64_t *ipvt, double tol,
                     double *cov, double *work, lsq_team *team);

    /* |x| at the speed of memory; not MINPACK's order of summation. */
    double (*norm)(int64_t n, const double *x);

    /* Several small problems at once, with MINPACK's bits (core.h). */
    lsq_lanes_kernels lanes;
} lsq_tsqr_kernels;

/* LSQ_TSQR_DECLARE(v3) declares the functions of one instruction set,
   LSQ_TSQR_TABLE(v3) is the initialiser of their table.                       */
#define LSQ_TSQR_DECLARE(isa)                                                     \
    int64_t lsq_tsqr_work_size_##isa(int64_t);                                    \
    int64_t lsq_tsqr_room_size_##isa(int64_t);                                    \
    void lsq_tsqr_empty_##isa(int64_t, double *);                                 \
    void lsq_tsqr_push_##isa(int64_t, int64_t, const void *, int64_t, int64_t,    \
                             int64_t, const void *, int64_t, int64_t, double *,   \
                             const int64_t *);                                    \
    void lsq_tsqr_push_by_##isa(int64_t, int64_t, const void *, int64_t, int64_t, \
                                int64_t, const void *, int64_t, int64_t,          \
                                double *, const int64_t *, lsq_team *);           \
    void lsq_tsqr_merge_##isa(int64_t, double *, double *);                       \
    void lsq_tsqr_fold_##isa(int64_t, double *);                                  \
    int64_t lsq_tsqr_triangle_##isa(int64_t, int64_t *);                          \
    void lsq_tsqr_finish_##isa(int64_t, double *, double *, int64_t, int64_t *,   \
                               double *, double *, double *, lsq_team *, int64_t);\
    void lsq_tsqr_qrsolv_##isa(int64_t, double *, int64_t, const int64_t *,       \
                               const double *, const double *, double *,          \
                               double *, double *, double *, lsq_team *);         \
    int64_t lsq_tsqr_covar_##isa(int64_t, const double *, int64_t,                \
                                 const int64_t *, double, double *, double *,     \
                                 lsq_team *);                                     \
    double lsq_norm_##isa(int64_t, const double *);                               \
    void lsq_lanes_factor_##isa(int64_t, int64_t, double *, double *, int64_t *,  \
                                double *, double *, int64_t *, double *,          \
                                int64_t *);                                       \
    void lsq_lanes_norms_##isa(int64_t, const double *, double *, int64_t *);     \
    void lsq_lanes_pack_##isa(int64_t, int64_t, const double *, const double *,   \
                              const int64_t *, double *, double *);               \
    void lsq_lanes_keep_##isa(int64_t, const int64_t *, const double *, double *);\
    void lsq_lanes_difference_##isa(int64_t, const double *, const double *,      \
                                    const double *, double *);                    \
    void lsq_lanes_difference_alone_##isa(int64_t, const double *,                \
                                          const double *, double, double *);      \
    void lsq_lanes_tell_norm_##isa(const lsq_state *, const int64_t *,            \
                                   const double *, lsq_lanes_state *, double *,   \
                                   const double *, const int64_t *, double *,     \
                                   int64_t *);                                    \
    void lsq_lanes_tell_model_##isa(const lsq_state *, const int64_t *,           \
                                    const int64_t *, int64_t, const double *,     \
                                    const double *, const int64_t *,              \
                                    const int64_t *, const double *,              \
                                    const double *, lsq_lanes_state *, double *,  \
                                    double *, int64_t *, double *, int64_t *);    \
    void lsq_lanes_covar_##isa(int64_t, const double *, const int64_t *,          \
                               double *, double *, int64_t *)

#define LSQ_TSQR_TABLE(isa)                                                       \
    {#isa, lsq_tsqr_work_size_##isa, lsq_tsqr_room_size_##isa, lsq_tsqr_empty_##isa, lsq_tsqr_push_##isa,\
     lsq_tsqr_push_by_##isa, lsq_tsqr_merge_##isa,                                \
     lsq_tsqr_fold_##isa, lsq_tsqr_triangle_##isa, lsq_tsqr_finish_##isa,         \
     lsq_tsqr_qrsolv_##isa, lsq_tsqr_covar_##isa, lsq_norm_##isa,         \
     {lsq_lanes_factor_##isa, lsq_lanes_norms_##isa, lsq_lanes_pack_##isa,      \
      lsq_lanes_keep_##isa, lsq_lanes_difference_##isa,                           \
      lsq_lanes_difference_alone_##isa,                                           \
      lsq_lanes_tell_norm_##isa, lsq_lanes_tell_model_##isa, lsq_lanes_covar_##isa}}

#endif
