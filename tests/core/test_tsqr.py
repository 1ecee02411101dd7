"""The row accumulator: every split, stride, type and size gives the pivoted QR of all rows."""
from __future__ import annotations

import ctypes
import functools
import itertools
import os
import subprocess

import numpy as np
import pytest
import tsqr_build
from tsqr_build import Accumulator, Team, Model

pytestmark = pytest.mark.skipif(tsqr_build.compiler() is None, reason="needs gfortran")

EPS = np.finfo(float).eps
SHAPES = [(1, 1), (5, 1), (300, 1), (3, 3), (7, 3), (1000, 3), (257, 4), (256, 10), (513, 11),
          (2000, 50), (1500, 99), (300, 100), (700, 130)]
CONDITIONS = [1e0, 1e4, 1e8, 1e12, 1e14]


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)



@pytest.fixture(scope="session")
def built(tmp_path_factory):
    where = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        where = where.parent            # one build for all workers
    return {isa: tsqr_build.Library(tsqr_build.build(isa, where), isa)
            for isa in tsqr_build.supported()}


@pytest.fixture(params=list(tsqr_build.ISA_NEEDS))
def library(request, built):
    if request.param not in built:
        pytest.skip(f"this processor has no {request.param}")
    return built[request.param]


@functools.cache
def orthonormal(m, n, seed):
    """Random orthonormal columns: Gram and Schmidt twice, row by row.

    No BLAS: its bits differ from one processor to the next, and with them, in matrices
    this close to singular, the tests' digits.
    """
    q = np.random.default_rng([m, n, seed]).standard_normal((m, n))
    for j in range(n):
        for _ in range(2):
            q[:, j] -= (q[:, :j] * (q[:, :j] * q[:, j, None]).sum(0)).sum(1)
        q[:, j] /= np.sqrt((q[:, j, None]**2).sum(0))
    return q


def matrix(m, n, condition=1e3, seed=0):
    """Random columns, graded to a condition number, in random order."""
    rank = min(m, n)
    u, v = orthonormal(m, rank, 2 * seed), orthonormal(n, rank, 2 * seed + 1)
    a = np.zeros((m, n))
    values = np.logspace(0, -np.log10(condition), rank).astype(np.float32)     # any libm's
    for k, value in enumerate(values.astype(float)):
        a += (value * u[:, k, None]) * v[:, k]
    return a, np.random.default_rng([m, n, seed]).standard_normal(m)


def pivoted_qr(a, f):
    """The definition: largest remaining norm first, all norms computed anew."""
    a, f, n = a.copy(), f.copy(), a.shape[1]
    order = np.arange(n)
    for j in range(min(a.shape)):
        norms = np.linalg.norm(a[j:, j:], axis=0)
        best = j + int(np.argmax(norms))
        a[:, [j, best]], order[[j, best]] = a[:, [best, j]], order[[best, j]]
        v = a[j:, j].copy()
        size = np.linalg.norm(v)
        if size == 0:
            break
        v[0] += np.copysign(size, v[0])
        v /= np.linalg.norm(v)
        a[j:] -= 2 * np.outer(v, v @ a[j:])
        f[j:] -= 2 * v * (v @ f[j:])
    return np.triu(a), order, f


def check_model(model, a, f, factor=30.0):
    """R'R = P'J'JP, R'Q'f = P'J'f, the rest of f: each to rounding, column by column."""
    a, f = a.astype(np.longdouble), f.astype(np.longdouble)
    m, n = a.shape
    order, r = model.order, model.r.astype(np.longdouble)
    assert sorted(order) == list(range(n))
    assert np.all(np.tril(model.r, -1) == 0)
    norms = np.sqrt((a * a).sum(0))
    scale = np.where(norms > 0, norms, 1)[order]
    allowed = factor * EPS * np.sqrt(n + 1)
    # From here on all columns have norms near 1, so that doubles suffice.
    permuted, scaled_r = (a[:, order] / scale).astype(float), (r / scale).astype(float)
    assert np.abs(scaled_r.T @ scaled_r - permuted.T @ permuted).max() <= allowed
    f_norm = np.sqrt((f * f).sum())
    q = model.qtf.astype(np.longdouble)
    unit_q, unit_f = (q / f_norm).astype(float), (f / f_norm).astype(float)
    assert np.abs(scaled_r.T @ unit_q - permuted.T @ unit_f).max() <= allowed
    total = np.sqrt((q * q).sum() + np.longdouble(model.rest[0])**2)
    assert abs(total - f_norm) <= allowed * f_norm
    np.testing.assert_allclose(model.column_norms, norms.astype(float), rtol=allowed)


def check_greedy(model):
    """Each diagonal element is at least the remaining norm of any later column.

    This holds as far as pivoted QR knows these norms: a norm is downdated in at most n steps, each
    with a rounding error of 2 eps of its square, until (norm / first norm)^2 is sqrt(eps).
    """
    r, n = model.r, model.r.shape[0]
    slack = n * np.sqrt(EPS)
    for j in range(n - 1):
        left = np.linalg.norm(r[j:, j + 1:], axis=0).max()
        noise = 100 * EPS * model.column_norms.max()
        assert abs(r[j, j]) >= left * (1 - slack) - noise, j


# ---- the factorisation -------------------------------------------------------------

@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_triangle_is_that_of_all_rows(library, shape, condition):
    a, f = matrix(*shape, condition)
    model = Accumulator(library, shape[1]).push(a, f).finish()
    check_model(model, a, f)
    check_greedy(model)


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("shape", [(200, 8), (900, 20), (400, 40), (600, 120)], ids=str)
def test_pivot_order_is_that_of_pivoted_qr(library, shape, condition):
    a, f = matrix(*shape, condition, seed=1)
    if condition == 1:          # orthonormal columns are all ties
        a *= np.random.default_rng(5).uniform(0.5, 2.0, shape[1])
    r, order, qtf = pivoted_qr(a, f)
    model = Accumulator(library, shape[1]).push(a, f).finish()
    # Beyond sqrt(eps) of the first, MINPACK's own updated norms no longer tell pivots apart.
    told_apart = int(np.sum(np.abs(np.diag(r)) > 1e-7 * abs(r[0, 0])))
    assert told_apart >= 3
    np.testing.assert_array_equal(model.order[:told_apart], order[:told_apart])
    np.testing.assert_allclose(np.abs(np.diag(model.r)), np.abs(np.diag(r)),
                               rtol=1e-6, atol=1e3 * EPS)
    np.testing.assert_allclose(np.abs(model.qtf[:told_apart]), np.abs(qtf[:told_apart]),
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("condition", [2.0, 1e6, 1e14])
@pytest.mark.parametrize("n", [95, 96, 200])
@pytest.mark.parametrize("known", [tsqr_build.LIKELY, tsqr_build.PUSHED], ids=["tried", "pushed"])
def test_an_expected_order_is_taken_only_where_it_is_right(library, n, condition, known):
    a, f = matrix(2 * n, n, condition)
    accumulator = Accumulator(library, n).push(a, f)
    guessed = accumulator.finish()
    half = guessed.ipvt.copy()
    half[n // 2:] = half[n // 2:][::-1]
    for expected in (guessed.ipvt, half, guessed.ipvt[::-1], np.roll(guessed.ipvt, 1), np.arange(1, n + 1)):
        if known == tsqr_build.PUSHED:
            accumulator = Accumulator(library, n).push(a, f, expected)
        model = accumulator.finish(expected, known)
        check_model(model, a, f)
        check_greedy(model)
        told_apart = int(np.sum(np.abs(np.diag(guessed.r)) > 1e-7 * abs(guessed.r[0, 0])))
        np.testing.assert_array_equal(model.ipvt[:told_apart], guessed.ipvt[:told_apart])


def test_an_expected_order_that_is_right_gives_the_bits_of_the_guess(library):
    a, f = matrix(400, 150, 10.0)
    accumulator = Accumulator(library, 150).push(a, f)
    guessed = accumulator.finish()
    model = accumulator.finish(guessed.ipvt)
    for one, other in ((model.r, guessed.r), (model.qtf, guessed.qtf), (model.ipvt, guessed.ipvt)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rank", [0, 1, 60, 119])
@pytest.mark.parametrize("known", [tsqr_build.LIKELY, tsqr_build.PUSHED], ids=["tried", "pushed"])
def test_an_expected_order_of_a_matrix_of_short_rank(library, rank, known):
    a, f = matrix(300, 120, 10.0)
    a[:, rank:] = a[:, :1]*3 if rank else 0
    accumulator = Accumulator(library, 120).push(a, f)
    for expected in (accumulator.finish().ipvt, np.arange(120, 0, -1)):
        if known == tsqr_build.PUSHED:
            accumulator = Accumulator(library, 120).push(a, f, expected)
        model = accumulator.finish(expected, known)
        check_model(model, a, f)
        check_greedy(model)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [3, 10, 130])
def test_columns_pushed_in_an_order_give_the_bits_of_permuted_columns(library, n, dtype):
    a, f = matrix(700, n, 10.0)
    a, order = a.astype(dtype), np.random.default_rng(n).permutation(n) + 1
    wanted = Accumulator(library, n).push(np.asfortranarray(a[:, order - 1]), f).finish()
    packed = np.zeros(700, np.dtype([("pad", "i1"), ("row", dtype, n)]))
    packed["row"] = a
    for layout in (a, np.asfortranarray(a), np.repeat(a, 2, 1)[:, ::2], packed["row"]):
        model = Accumulator(library, n).push(layout, f, order).finish()
        for one, other in ((model.r, wanted.r), (model.qtf, wanted.qtf), (model.ipvt, wanted.ipvt),
                           (model.column_norms, wanted.column_norms)):
            np.testing.assert_array_equal(one, other)


def test_columns_that_are_not_finite_show_where_they_belong_in_any_order(library):
    a, f = matrix(300, 100, 10.0)
    a[17, 40] = np.nan
    order = np.roll(np.arange(1, 101), 59)      # column 41 comes last
    assert order[-1] == 41
    model = Accumulator(library, 100).push(a, f, order).finish(order, tsqr_build.PUSHED)
    assert np.flatnonzero(~np.isfinite(model.column_norms)).tolist() == [40]
    assert model.ipvt.tolist() == list(range(1, 101))


def test_equal_columns_take_the_first(library):
    a = np.zeros((50, 4))
    a[:4] = np.diag([2.0, 3.0, 3.0, 2.0])
    model = Accumulator(library, 4).push(a, np.ones(50)).finish()
    np.testing.assert_array_equal(model.ipvt, [2, 3, 1, 4])


@pytest.mark.parametrize("shape", [(300, 7), (2000, 60)], ids=str)
def test_least_squares_solution_is_numpys(library, shape):
    a, f = matrix(*shape, 1e3)
    model = Accumulator(library, shape[1]).push(a, f).finish()
    x = np.empty(shape[1])
    x[model.order] = np.linalg.solve(model.r, model.qtf)
    expected, residual, *_ = np.linalg.lstsq(a, f, rcond=None)
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(model.rest[0], np.sqrt(residual[0]), rtol=1e-12)


@pytest.mark.parametrize("n", [96, 97, 200, 311])
@pytest.mark.parametrize("kind", ["random", "graded", "rank deficient", "duplicates", "kahan"])
def test_guessed_pivots_of_large_triangles_hold(library, n, kind):
    rng = np.random.default_rng(n)
    m = 2 * n
    a = rng.standard_normal((m, n))
    if kind == "graded":
        a *= np.logspace(0, -30, n)[rng.permutation(n)]
    elif kind == "rank deficient":
        a = a[:, :n // 3] @ rng.standard_normal((n // 3, n))
    elif kind == "duplicates":
        a[:, 1::2] = a[:, :n - 1:2] if n % 2 else a[:, ::2]
    elif kind == "kahan":
        sine, cosine = np.sin(1.2), np.cos(1.2)
        a = np.zeros((m, n))
        a[:n] = np.diag(sine**np.arange(n)) @ (np.eye(n) - cosine * np.triu(np.ones((n, n)), 1))
    f = rng.standard_normal(m)
    model = Accumulator(library, n).push(a, f).finish()
    check_model(model, a, f)
    check_greedy(model)


# ---- the monoid ----------------------------------------------------------------------

@pytest.mark.parametrize("m,n", [(1111, 1), (1111, 3), (1111, 10), (1111, 41), (1111, 100), (5000, 1), (5000, 2), (5000, 3)])
def test_splits_of_the_rows_change_no_bit(library, m, n):
    a, f = matrix(m, n)
    whole = Accumulator(library, n).push(a, f).finish()
    for cuts in [[1, 2, 3], [256], [0, 0, 255, 257], [700, 701, 1111], [1023], [1024], [1025], [m - 1], list(range(1, m, 7))]:
        split = Accumulator(library, n)
        for start, stop in itertools.pairwise([0, *cuts, m]):
            split.push(a[start:stop], f[start:stop])
        model = split.finish()
        for name in ["r", "ipvt", "qtf", "column_norms", "rest"]:
            np.testing.assert_array_equal(getattr(model, name), getattr(whole, name))


@pytest.mark.parametrize("n", [1, 3, 10, 50, 101, slow(300)])
def test_merge_is_associative(library, n):
    a, f = matrix(4 * n + 37, n, 1e2)
    cuts = [0, n // 2, n + 9, 2 * n + 20, 4 * n + 37]
    parts = [(a[s:e], f[s:e]) for s, e in itertools.pairwise(cuts)]

    def leaves():
        return [Accumulator(library, n).push(*part) for part in parts]

    p, q, r, s = leaves()
    left = p.merge(q).merge(r).merge(s).finish()
    p, q, r, s = leaves()
    right = p.merge(q.merge(r.merge(s))).finish()
    p, q, r, s = leaves()
    tree = p.merge(q).merge(r.merge(s)).finish()
    for model in [left, right, tree]:
        check_model(model, a, f)
        np.testing.assert_array_equal(model.ipvt, left.ipvt)
        np.testing.assert_allclose(np.abs(model.r), np.abs(left.r), rtol=0,
                                   atol=1e4 * EPS * left.column_norms.max())


def test_merge_is_deterministic_and_keeps_the_other(library):
    a, f = matrix(900, 23)
    models = []
    for _ in range(2):
        p, q = (Accumulator(library, 23).push(a[part], f[part])
                for part in [slice(0, 400), slice(400, 900)])
        models.append(p.merge(q).finish())
        check_model(q.finish(), a[400:], f[400:])
    np.testing.assert_array_equal(models[0].r, models[1].r)


def test_empty_is_neutral(library):
    a, f = matrix(300, 9)
    lone = Accumulator(library, 9).push(a, f).finish()
    merged = Accumulator(library, 9).merge(Accumulator(library, 9).push(a, f)).finish()
    check_model(merged, a, f)
    np.testing.assert_array_equal(merged.ipvt, lone.ipvt)
    kept = Accumulator(library, 9).push(a, f).merge(Accumulator(library, 9)).finish()
    np.testing.assert_array_equal(kept.r, lone.r)


def test_no_rows_give_zeros(library):
    model = Accumulator(library, 5).push(np.empty((0, 5)), np.empty(0)).finish()
    assert not model.r.any() and not model.qtf.any() and not model.column_norms.any()
    assert model.rest[0] == 0
    np.testing.assert_array_equal(model.ipvt, [1, 2, 3, 4, 5])


def test_finish_twice_and_go_on(library):
    a, f = matrix(777, 12)
    accumulator = Accumulator(library, 12).push(a[:500], f[:500])
    check_model(accumulator.finish(), a[:500], f[:500])
    check_model(accumulator.finish(), a[:500], f[:500])
    check_model(accumulator.push(a[500:], f[500:]).finish(), a, f)


@pytest.mark.parametrize("shape", [(1, 3), (2, 10), (40, 100), (99, 100), (100, 260), slow((300, 700))],
                         ids=str)
def test_fewer_rows_than_columns(library, shape):
    a, f = matrix(*shape, 10.0)
    model = Accumulator(library, shape[1]).push(a, f).finish()
    check_model(model, a, f)
    check_greedy(model)
    assert np.abs(model.r[shape[0]:]).max(initial=0) <= 100 * EPS


# ---- rows read without a copy ----------------------------------------------------------

def layouts(a):
    """The same numbers with all kinds of strides."""
    m, n = a.shape
    spread = np.full((3 * m, 2 * n), np.nan)
    spread[::3, ::2] = a
    record = np.zeros((m, n), np.dtype([("pad", "i1"), ("value", a.dtype)]))
    record["value"] = a
    return {
        "C": np.ascontiguousarray(a),
        "Fortran": np.asfortranarray(a),
        "rows reversed": np.ascontiguousarray(a[::-1])[::-1],
        "columns reversed": np.asfortranarray(a[:, ::-1])[:, ::-1],
        "both reversed": np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
        "spread": spread[::3, ::2].astype(a.dtype) if a.dtype != np.float64 else spread[::3, ::2],
        "unaligned": record["value"],
    }


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("m,n", [(601, 1), (601, 3), (601, 18), (2500, 1), (2500, 2), (2500, 3)])
def test_strides_and_types_change_no_bit(library, m, n, dtype):
    a, f = (array.astype(dtype) for array in matrix(m, n))
    expected = Accumulator(library, n).push(a.astype(float), f.astype(float)).finish()
    f_spread = np.full(2 * m, np.nan, dtype)
    f_spread[::2] = f
    for (name, view), rhs in itertools.product(layouts(a).items(), [f, f_spread[::2],
                                                                    f[::-1].copy()[::-1]]):
        np.testing.assert_array_equal(view, a)
        model = Accumulator(library, n).push(view, rhs).finish()
        np.testing.assert_array_equal(model.r, expected.r, err_msg=name)
        np.testing.assert_array_equal(model.qtf, expected.qtf, err_msg=name)
        both = np.asfortranarray(np.column_stack([a, f]))
        model = Accumulator(library, n).push(both).finish()
        np.testing.assert_array_equal(model.qtf, expected.qtf)


def rows_for_few_columns():
    """Long matrices of up to three columns, and residuals: ordinary ones, and those whose later rows are unlike the first."""
    m = 20000
    random, t = np.random.default_rng(5).standard_normal((m, 5)), np.linspace(0, 1, m)
    made = {f"random {n}": (random[:, :n], random[:, 4]) for n in (1, 2, 3)}
    for rate in (0.01, 5, 50):
        made[f"decay {rate}"] = (np.column_stack([np.exp(-rate*t), -t*np.exp(-rate*t), np.ones(m)]), random[:, 4])
    made["exact"] = (made["decay 5"][0], made["decay 5"][0] @ [3.0, 0.0, 1.0])
    for power in (20, 400, -20, -700):
        made[f"graded e^{power}"] = (random[:, :3] * np.exp(power*t)[:, None], random[:, 4])
    for nearness in (1e-4, 1e-8, 1e-12, 1e-15, 0.0):
        made[f"near {nearness}"] = (random[:, [0, 0, 2]] + nearness*random[:, [3, 1, 3]], random[:, 4])
    made["late column"] = (random[:, :3] * [1, 1, 0] + np.outer(t > 0.5, [0, 0, 1]), random[:, 4])
    made["zero column"] = (random[:, :3] * [1, 0, 1], random[:, 4])
    made["steps"] = (np.column_stack([t < 0.3, t >= 0.3, t > 0.9]).astype(float), random[:, 4])
    return made


FEW = rows_for_few_columns()


@pytest.mark.parametrize("name", FEW)
def test_few_columns_fold_with_the_rounding_of_a_few_operations(library, name):
    """R'R differs from [J f]'[J f] by rounding of the columns' lengths, however near the columns are to each other."""
    a, f = FEW[name]
    n = a.shape[1]
    model = Accumulator(library, n).push(np.ascontiguousarray(a), f).finish()
    exact = np.column_stack([a[:, model.order], f]).astype(np.longdouble)
    got = np.zeros((n + 1, n + 1), np.longdouble)
    got[:n, :n], got[:n, n], got[n, n] = np.triu(model.r), model.qtf, model.rest[0]
    lengths = np.sqrt((exact**2).sum(0))
    lengths[lengths == 0] = 1
    exact, got = exact/lengths, got/lengths
    assert np.abs(got.T @ got - exact.T @ exact).max() < 30*EPS
    model.r /= np.abs(model.r).max()            # (NumPy's norm overflows)
    check_greedy(model)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("row", [1023, 1024, 3000, 4999])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_few_columns_show_what_is_not_finite_in_any_block(library, n, row, bad):
    for column in range(n):
        a, f = matrix(5000, n)
        a[row, column] = bad
        model = Accumulator(library, n).push(a, f).finish()
        assert np.flatnonzero(~np.isfinite(model.column_norms))[0] == column
        assert model.ipvt.tolist() == list(range(1, n + 1))


@pytest.mark.parametrize("exponent", [-1000, -600, 600, 1000])
def test_few_columns_of_any_magnitude_scale_like_ordinary_ones(library, exponent):
    a, f = matrix(5000, 3)
    plain = Accumulator(library, 3).push(a, f).finish()
    scaled = Accumulator(library, 3).push(a * 2.0**exponent, f).finish()
    np.testing.assert_allclose(scaled.r, plain.r * 2.0**exponent, rtol=1e-13)
    np.testing.assert_allclose(scaled.qtf, plain.qtf, rtol=0, atol=1e-13 * np.linalg.norm(f))


def test_broadcast_rows_and_scalars(library):
    a = np.broadcast_to(np.arange(1.0, 4.0), (500, 3))
    f = np.broadcast_to(2.0, 500)
    check_model(Accumulator(library, 3).push(a, f).finish(), a, f)


def test_input_is_not_written_to(library):
    a, f = matrix(600, 11)
    kept = a.copy(), f.copy()
    Accumulator(library, 11).push(a, f).finish()
    np.testing.assert_array_equal(a, kept[0])
    np.testing.assert_array_equal(f, kept[1])


# ---- bad input --------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 4, 30, 150])
def test_zero_columns_come_last(library, n):
    a, f = matrix(700, n, 10.0)
    a[:, ::3] = 0
    model = Accumulator(library, n).push(a, f).finish()
    check_model(model, a, f)
    zeros = len(range(0, n, 3))
    assert set(model.order[n - zeros:]) == set(range(0, n, 3))
    assert not np.diag(model.r)[n - zeros:].any()


@pytest.mark.parametrize("n", [8, 50])
def test_sparse_rows_leave_other_columns_alone(library, n):
    a, f = matrix(3000, n, 10.0)
    for start in range(0, 3000, 300):               # each stretch of rows has few columns
        mask = np.random.default_rng(start).uniform(size=n) < 0.3
        a[start:start + 300, ~mask] = 0
    a[:, n // 2] += 1e-3
    model = Accumulator(library, n).push(a, f).finish()
    check_model(model, a, f)
    check_greedy(model)


@pytest.mark.slow
def test_more_elements_than_32_bits_count(built):
    fastest = list(built.values())[-1]
    rows, n = 2**31 // 3 + 1000, 3
    x = np.zeros(rows + n - 1, np.float32)          # pages never written cost no memory
    x[-5:] = [1, 2, 3, 4, 5]
    a = np.lib.stride_tricks.as_strided(x, (rows, n), (4, 4))
    assert a.size > 2**31
    f = np.broadcast_to(np.float32(1), rows)
    model = Accumulator(fastest, n).push(a, f).finish()
    np.testing.assert_allclose(model.column_norms**2, [14.0, 30.0, 55.0], rtol=1e-14)
    np.testing.assert_allclose(model.qtf @ model.qtf + model.rest[0]**2, rows, rtol=1e-9)


@pytest.mark.parametrize("exponent", [-300, -160, -150, 140, 160, 300])
@pytest.mark.parametrize("n", [1, 3, 17, 120])
def test_extreme_magnitudes_scale_like_ordinary_ones(library, n, exponent):
    a, f = matrix(900, n, 10.0)
    scale = 2.0**int(exponent / np.log10(2))
    plain = Accumulator(library, n).push(a, f).finish()
    scaled = Accumulator(library, n).push(a * scale, f).finish()
    np.testing.assert_array_equal(scaled.ipvt, plain.ipvt)
    # Large triangles of ordinary magnitude go another way: rows may change sign.
    signs = np.sign(np.diag(scaled.r) * np.diag(plain.r))
    np.testing.assert_allclose(signs[:, None] * scaled.r / scale, plain.r, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scaled.column_norms / scale, plain.column_norms, rtol=1e-13)
    np.testing.assert_allclose(signs * scaled.qtf, plain.qtf, rtol=0, atol=1e-10)


def test_columns_graded_over_the_whole_range(library):
    a, f = matrix(800, 13, 10.0)
    powers = 2.0**np.linspace(-990, 990, 13).round()
    shuffled = powers[np.random.default_rng(1).permutation(13)]
    plain = np.linalg.norm(a, axis=0)
    model = Accumulator(library, 13).push(a * shuffled, f).finish()
    np.testing.assert_allclose(model.column_norms / shuffled, plain, rtol=1e-13)
    np.testing.assert_array_equal(model.order, np.argsort(shuffled)[::-1])
    scaled_r = model.r / shuffled[model.order]
    np.testing.assert_allclose(scaled_r.T @ scaled_r, (a.T @ a)[np.ix_(model.order, model.order)],
                               rtol=0, atol=1e-12)


def test_rows_graded_over_the_whole_range(library):
    a, f = matrix(1000, 5, 10.0)
    rows = 2.0**np.linspace(-1000, 900, 1000).round()[::-1]
    model = Accumulator(library, 5).push(a * rows[:, None], f * rows).finish()
    check = np.ldexp(a * rows[:, None], -900), np.ldexp(f * rows, -900)
    model.r, model.qtf = np.ldexp(model.r, -900), np.ldexp(model.qtf, -900)
    model.column_norms, model.rest = np.ldexp(model.column_norms, -900), np.ldexp(model.rest, -900)
    check_model(model, *check)


def test_denormals_keep_their_norms_and_rank(library):
    a, f = matrix(900, 6, 10.0)
    scale = 2.0**-1040
    model = Accumulator(library, 6).push(a * scale, f).finish()
    assert np.all(np.isfinite(model.r)) and np.all(np.isfinite(model.qtf))
    np.testing.assert_allclose(model.column_norms, np.linalg.norm(a, axis=0) * scale, rtol=1e-2)
    assert np.all(np.diag(model.r) != 0)


def test_largest_and_smallest_doubles(library):
    for value in [np.finfo(float).max / 4, 5e-324, 1e-308]:
        a = np.zeros((300, 2))
        a[5, 0] = value
        a[290, 1] = -value / 2
        model = Accumulator(library, 2).push(a, np.ones(300)).finish()
        np.testing.assert_array_equal(model.column_norms, [value, value / 2])
        np.testing.assert_array_equal(np.abs(np.diag(model.r)), [value, value / 2])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", [1, 3, 20, 150])
@pytest.mark.parametrize("row", [0, 255, 256, 699])
def test_not_finite_rows_show_in_the_column_norms(library, n, row, bad):
    a, f = matrix(700, n)
    column = (2 * n) // 3
    a[row, column] = bad
    model = Accumulator(library, n).push(a, f).finish()
    finite = np.isfinite(model.column_norms)
    assert finite[:column].all() and not finite[column]
    np.testing.assert_array_equal(model.order, np.arange(n))
    # The accumulator can be used again afterwards.
    a[row, column] = 0
    accumulator = Accumulator(library, n)
    accumulator.push(np.full((1, n), bad), f[:1]).finish()
    library.empty(n, accumulator.work.ctypes.data)
    check_model(accumulator.push(a, f).finish(), a, f)


def test_not_finite_residuals_leave_the_triangle_alone(library):
    a, f = matrix(700, 8)
    good = Accumulator(library, 8).push(a, f).finish()
    f[300] = np.nan
    model = Accumulator(library, 8).push(a, f).finish()
    np.testing.assert_array_equal(model.r, good.r)
    assert np.isnan(model.rest[0])


# ---- R on top of D ------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 3, 10, 64, 257, slow(300)])
def test_qrsolv_is_least_squares_with_the_diagonal_appended(library, n):
    a, f = matrix(3 * n + 2, n, 1e4)
    model = Accumulator(library, n).push(a, f).finish()
    diagonal = np.random.default_rng(n).uniform(0.01, 2.0, n)
    r, kept = model.r, model.r.copy()
    x, sdiag, wa = np.empty((3, n))
    work = tsqr_build.aligned(library.work_size(n))
    library.qrsolv(n, r.ctypes.data, n, model.ipvt.ctypes.data, diagonal.ctypes.data,
                   model.qtf.ctypes.data, x.ctypes.data, sdiag.ctypes.data, wa.ctypes.data,
                   work.ctypes.data, None)
    stacked = np.vstack([a, np.diag(diagonal)])
    expected = np.linalg.lstsq(stacked, np.concatenate([f, np.zeros(n)]), rcond=None)[0]
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    s = np.tril(r, -1).T + np.diag(sdiag)
    p = model.order
    np.testing.assert_allclose(s.T @ s, (stacked.T @ stacked)[np.ix_(p, p)], rtol=0, atol=1e-13 * n)
    np.testing.assert_array_equal(np.triu(r), kept)


def test_qrsolv_of_a_singular_system_zeroes_the_rest(library):
    r = np.asfortranarray([[2.0, 1.0, 1.0], [0, 0, 0], [0, 0, 3.0]])
    ipvt, diagonal, qtb = np.array([3, 1, 2]), np.zeros(3), np.array([4.0, 5.0, 6.0])
    x, sdiag, wa = np.empty((3, 3))
    work = tsqr_build.aligned(library.work_size(3))
    library.qrsolv(3, r.ctypes.data, 3, ipvt.ctypes.data, diagonal.ctypes.data, qtb.ctypes.data,
                   x.ctypes.data, sdiag.ctypes.data, wa.ctypes.data, work.ctypes.data, None)
    np.testing.assert_array_equal(x, [0, 0, 2.0])


# ---- the covariance ------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 2, 3, 4, 23, 24, 25, 100, slow(301)])
@pytest.mark.parametrize("rank", ["full", "short"])
def test_covariance_is_the_inverse_of_the_normal_matrix(library, n, rank):
    a, f = matrix(2 * n + 3, n, 100.0)
    model = Accumulator(library, n).push(a, f).finish()
    known = n if rank == "full" else n // 2
    model.r[known:] = 0
    cov, work = np.full((2, n, n), np.nan)
    got = library.covar(n, model.r.ctypes.data, n, model.ipvt.ctypes.data, 0.0, cov.ctypes.data,
                        work.ctypes.data, None)
    assert got == known
    kept = model.order[:known]
    expected = np.zeros((n, n))
    expected[np.ix_(kept, kept)] = np.linalg.inv(model.r[:known, :known].T @ model.r[:known, :known])
    np.testing.assert_array_equal(cov, cov.T)
    np.testing.assert_allclose(cov, expected, rtol=0, atol=1e-10 * np.abs(expected).max(initial=1))


# ---- threads, and cancellation ---------------------------------------------------------------

def every_part(library, n, team, expected=None, known=tsqr_build.UNKNOWN):
    """Rows, their pivoted QR, a damped step, the covariance: what is computed, bytes."""
    a, f = matrix(2 * n + 300, n, 10.0)
    at = None if team is None else ctypes.addressof(team)
    accumulator, model, cov = Accumulator(library, n), Model(n), np.zeros((2, n, n))
    x, sdiag, wa = np.zeros((3, n))
    diagonal = np.linspace(0.1, 1.0, n)
    places = tsqr_build.places(expected) if known == tsqr_build.PUSHED else None
    library.push_by(n, len(a), a.ctypes.data, 0, *a.strides, f.ctypes.data, 0, 8,
                    accumulator.work.ctypes.data, None if places is None else places.ctypes.data, at)
    if expected is not None:
        model.ipvt[:] = expected
    if team is None or not team.cancelled:
        library.finish(n, accumulator.work.ctypes.data, model.r.ctypes.data, n, model.ipvt.ctypes.data,
                       model.qtf.ctypes.data, model.column_norms.ctypes.data, model.rest.ctypes.data, at, known)
    if team is None or not team.cancelled:
        library.covar(n, model.r.ctypes.data, n, model.ipvt.ctypes.data, 0.0, cov[0].ctypes.data,
                      cov[1].ctypes.data, at)
    if team is None or not team.cancelled:
        library.qrsolv(n, model.r.ctypes.data, n, model.ipvt.ctypes.data, diagonal.ctypes.data,
                       model.qtf.ctypes.data, x.ctypes.data, sdiag.ctypes.data, wa.ctypes.data,
                       accumulator.work.ctypes.data, at)
    return b"".join(part.tobytes() for part in (model.r, model.ipvt, model.qtf, cov[0], x, sdiag))


EXPECTED = pytest.mark.parametrize("expected", [(), (np.arange(130, 0, -1), tsqr_build.LIKELY),
                                                (np.arange(130, 0, -1), tsqr_build.PUSHED)],
                                   ids=["guessed", "tried", "pushed"])


@EXPECTED
@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_team_gives_the_bits_of_one_thread(library, size, expected):
    team = Team(library, 130, size)
    assert every_part(library, 130, team, *expected) == every_part(library, 130, None, *expected)
    assert team.looks > 20


@EXPECTED
@pytest.mark.parametrize("size", [1, 2])
def test_a_team_that_is_cancelled_at_any_look_comes_back(library, size, expected):
    """Ctrl-C: a thread that waits for a block, a panel or a band stops waiting."""
    team = Team(library, 130, size)
    every_part(library, 130, team, *expected)
    for last in range(1, team.looks + 1, 1 + team.looks // 60):
        cut = Team(library, 130, size, last)
        every_part(library, 130, cut, *expected)
        assert cut.cancelled and cut.looks < last + 6 * size
    assert every_part(library, 130, Team(library, 130, size), *expected) == every_part(library, 130, None, *expected)


# ---- the norm ---------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 33, 1001])
@pytest.mark.parametrize("scale", [1.0, 2.0**-1060, 2.0**-600, 2.0**600, 2.0**1000])
def test_norm_is_safe_at_any_magnitude(library, n, scale):
    x = np.random.default_rng(n).uniform(0.5, 1.0, n) * scale
    exact = np.sqrt(np.sum((x.astype(np.longdouble) / scale)**2)) * np.longdouble(scale)
    np.testing.assert_allclose(library.norm(n, x.ctypes.data), float(exact), rtol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_norm_of_not_finite_is_not_finite(library, bad):
    for place in range(9):
        x = np.ones(9)
        x[place] = bad
        assert not np.isfinite(library.norm(9, x.ctypes.data))


# ---- libraries that it may depend on -------------------------------------------------------------

def test_no_fortran_runtime_no_heap(library):
    symbols = subprocess.run(["nm", "-u", str(library.path)], capture_output=True, text=True,
                             check=True).stdout
    needed = {line.split()[-1].split("@")[0] for line in symbols.splitlines() if line.split()}
    allowed = {"memcpy", "memmove", "memset", "__cxa_finalize", "__gmon_start__",
               "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__stack_chk_fail"}
    assert needed <= allowed
