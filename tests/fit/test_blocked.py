"""The blocked path of `leastsq` gives the answers of the minpack path, to rounding, and the same bits for
any number of threads and any layout of the Jacobian.

test_tsqr.py tests the accumulator alone; test_blocked_faults.py tests faults, memory and processes.
"""
import json
import subprocess
import sys
import tracemalloc
import weakref
from functools import cache, partial
from pathlib import Path

import guards
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
import strd  # noqa: E402
from make_nist_scipy import digits
from test_callbacks import LAYOUTS, At, assert_same
from test_nist import FITS, fit_id
from test_parity import RUNS, SMALL, by_leastsq

import leastsq as package
from leastsq import leastsq

EPS = np.finfo(float).eps
TINIEST = np.finfo(float).smallest_subnormal
CONVERGED = (1, 2, 3)
# Shapes of one block and of several chunks, with and without a partial block.
SHAPES = [(40, 4), (256, 3), (1000, 12), (3000, 37), (400, 150), (20000, 2), (30000, 6)]
SEVERAL_CHUNKS = [(20000, 2), (50001, 7), (20000, 60), (300000, 1)]


@pytest.fixture(autouse=True)
def quiet():
    """Trial points far out make the problems overflow."""
    with np.errstate(all="ignore"):
        yield


class Smooth:
    """Residuals A g(x) - b with g(x) = x + x²/8, of any size, without BLAS: its threads
    would change bits."""

    def __init__(self, m, n, seed=0):
        rng = np.random.default_rng([m, n, seed])
        self.m, self.n = m, n
        self.a = rng.integers(-99, 100, (m, n)) / 64 + 4.0 * np.eye(m, n)
        self.b = self.a.sum(axis=1) + rng.integers(-9, 10, m) / 8
        self.x0 = np.full(n, 0.25)

    def residual(self, x):
        return np.einsum("ij,j->i", self.a, x + x * x / 8) - self.b

    def jacobian(self, x):
        return self.a * (1 + x / 4)

    def by_columns(self, x):
        return self.jacobian(x).T

    def options_by_method(self):
        return {"lmdif": {}, "lmder": {"Dfun": self.jacobian},
                "col_deriv": {"Dfun": self.by_columns, "col_deriv": True}}


def blocked(func, x0, **options):
    return leastsq(func, x0, full_output=True, **{"qr": "blocked"} | options)


def minpack(func, x0, **options):
    return leastsq(func, x0, full_output=True, qr="minpack", **options)


# ----------------------------------------------------- the classic problems

# Fits that may end elsewhere, depending on the last bits of the instruction set, for each
# kind of derivatives.  The reasons:
WITHOUT_END = "maxfev stops the fit on a long flat path, where rounding errors have grown to digits"
TWO_MINIMA = "rounding decides between two minima of the problem"
FALSE_END = "12 polynomial coefficients, condition 1e10: xtol may be met on the way"
ELSEWHERE = {
    ("kowalik_osborne-4-11-x100", "lmder"): WITHOUT_END,
    ("kowalik_osborne-4-11-x100", "lmdif"): WITHOUT_END,
    ("meyer-3-16-x10", "lmder"): WITHOUT_END,
    ("brown_dennis-4-20-x1", "lmdif"): WITHOUT_END,
    ("brown_dennis-4-20-x100", "lmdif"): WITHOUT_END,
    ("gulf-3-10-x1", "lmdif"): WITHOUT_END,
    ("brown_almost_linear-10-10-x100", "lmdif"): TWO_MINIMA,
    ("brown_almost_linear-30-30-x1", "lmder"): TWO_MINIMA,
    ("brown_almost_linear-30-30-x1", "lmdif"): TWO_MINIMA,
    ("brown_almost_linear-40-40-x1", "lmder"): TWO_MINIMA,
    ("brown_almost_linear-40-40-x1", "lmdif"): TWO_MINIMA,
    ("biggs_exp6-6-13-x100", "lmdif"): TWO_MINIMA,
    ("watson-12-31-x100", "lmdif"): FALSE_END,
}
METHODS = ["lmdif", "lmder", "col_deriv"]
runs = pytest.mark.parametrize("run", RUNS)


def classic(run, method, **options):
    p, factor = RUNS[run]
    x, info, ier, _ = by_leastsq(leastsq, "lmdif" if method == "lmdif" else "lmder", p,
                                 p.start(factor), col_deriv=method == "col_deriv", **options)
    return x, np.linalg.norm(info["fvec"]), ier


@pytest.mark.parametrize("method", METHODS)
@runs
def test_classic_problems_end_in_the_same_minimum(run, method):
    _, want, want_ier = classic(run, method, qr="minpack")
    x, norm, ier = classic(run, method, qr="blocked")
    p, factor = RUNS[run]
    assert norm == pytest.approx(np.linalg.norm(p.residual(x)), rel=1e-14)
    assert ier in (1, 2, 3, 4, 5, 6, 7, 8)
    why = ELSEWHERE.get((run, "lmder" if method == "col_deriv" else method))
    if why == WITHOUT_END:
        assert 5 in (ier, want_ier) and norm == pytest.approx(want, rel=0.5)
    elif why == TWO_MINIMA:
        assert norm in minima(p) and want in minima(p) and {ier, want_ier} <= {1, 2, 3, 4}
    elif why == FALSE_END:
        assert ier in CONVERGED and norm < 0.5 and np.linalg.norm(p.residual(p.start(factor))) > 1e6
    else:
        assert_same_end(norm, want, run, method)


class minima:
    """The norms of the residuals at a problem's minima, known or found by minpack."""

    def __init__(self, p):
        self.norms = [np.sqrt(least.ssq) for least in p.minima]
        if p.name == "biggs_exp6":
            self.norms.append(0.5535040854848168)       # from a distant x0: a flat minimum

    def __contains__(self, norm):
        return any(norm == pytest.approx(own, rel=1e-5, abs=1e-6) for own in self.norms)


def assert_same_end(norm, want, run, method):
    """Assert the same minimum, or that the run depends on the last bits of this processor's functions."""
    if norm != pytest.approx(want, rel=1e-7, abs=1e-8):
        assert_minpack_hangs_on_roundings(run, "lmder" if method == "col_deriv" else method)


def assert_minpack_hangs_on_roundings(run, method):
    """The order of the residuals changes only rounding, and yet the minpack path too ends at different
    minima for different orders."""
    p, factor = RUNS[run]
    norms = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        order = rng.permutation(p.m)
        options = {"Dfun": lambda x: p.jacobian(x)[order]} if method == "lmder" else {}  # noqa: B023
        x0 = p.start(factor) * (1 + EPS * rng.integers(-2, 3, p.n))
        result = minpack(lambda x: p.residual(x)[order], x0, **options)  # noqa: B023
        norms.append(np.linalg.norm(result[2]["fvec"]))
        if max(norms) - min(norms) > 1e-7 * max(norms) + 1e-7:
            return
    pytest.fail(f"all {len(norms)} fits end at {norms[0]}")


@pytest.mark.parametrize("run, method", ELSEWHERE)
def test_where_the_paths_differ_minpacks_own_end_depends_on_rounding(run, method):
    assert_minpack_hangs_on_roundings(run, method)


@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("corner", [dict(maxfev=1), dict(maxfev=7), dict(gtol=1e-3, ftol=0, xtol=0),
                                    dict(gtol=2.0), dict(factor=0.1), dict(factor=1e6),
                                    dict(ftol=0, xtol=0, maxfev=30), dict(diag="ones")], ids=str)
def test_settings_mean_the_same(corner, qr):
    for run in SMALL:
        p, factor = RUNS[run]
        options = dict(corner)
        if "diag" in options:
            options["diag"] = np.ones(p.n)
        want = minpack(p.residual, p.start(factor), Dfun=p.jacobian, **options)
        got = blocked(p.residual, p.start(factor), Dfun=p.jacobian, **options | {"qr": qr})
        assert np.linalg.norm(got[2]["fvec"]) == pytest.approx(np.linalg.norm(want[2]["fvec"]),
                                                               rel=1e-6, abs=1e-8), run
        if want[4] in (4, 5):
            assert got[4] == want[4], run


# ---------------------------------------------------------------------- NIST

def nist_digits(fit, qr):
    data = strd.load(fit["data set"])
    options = {"Dfun": data.jacobian} if fit["jacobian"] else {}
    return digits(leastsq(data.residual, data.starts[fit["start"] - 1], full_output=True, qr=qr,
                          **options)[0], data)


@pytest.mark.parametrize("fit", FITS, ids=fit_id)
def test_nist_problems_keep_their_digits(fit):
    """At least the digits that SciPy keeps when the model's last bits change at random."""
    got = nist_digits(fit, "blocked")
    assert got >= fit["digits under noise"]
    assert got >= nist_digits(fit, "minpack") - 1


def test_nist_problems_lose_as_many_digits_as_they_gain():
    moved = [nist_digits(fit, "blocked") - nist_digits(fit, "minpack") for fit in FITS]
    assert abs(np.mean(moved)) < 0.2


# ----------------------------------------------------------------- results

@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("m, n", SHAPES)
def test_full_output_is_that_of_a_pivoted_qr(m, n, method):
    p = Smooth(m, n)
    made = []

    def noting(function):
        def call(x):
            made.append(x.copy())
            return function(x)
        return call

    options = p.options_by_method()[method]
    if options:
        options["Dfun"] = noting(options["Dfun"])
    x, cov, info, mesg, ier = blocked(p.residual, p.x0, **options)
    want = minpack(p.residual, p.x0, **p.options_by_method()[method])
    np.testing.assert_allclose(x, want[0], rtol=1e-6)
    assert ier in CONVERGED and want[4] in CONVERGED
    assert list(info) == list(want[2]) and mesg.startswith(("Both", "The relative"))
    np.testing.assert_array_equal(info["fvec"], p.residual(x))

    fjac, ipvt = info["fjac"], info["ipvt"]
    assert fjac.shape == (n, m) and fjac.dtype == np.float64 and fjac.flags.c_contiguous
    assert fjac.flags.owndata and fjac.flags.writeable
    r = np.triu(fjac.T[:n])
    assert np.array_equal(fjac.T[:n], r) and not fjac.T[n:].any()
    assert ipvt.dtype == np.int32 and sorted(ipvt) == list(range(1, n + 1))
    np.testing.assert_array_equal(ipvt, want[2]["ipvt"])
    assert np.all(np.abs(np.diag(r))[:-1] >= (1 - 1e-7) * np.abs(np.diag(r))[1:])
    if not made:
        return
    jac = p.jacobian(made[-1])[:, ipvt - 1]
    scale = np.linalg.norm(jac, axis=0)
    gram = (r / scale).T @ (r / scale)
    np.testing.assert_allclose(gram, (jac / scale).T @ (jac / scale), atol=50 * EPS * np.sqrt(n))
    f = p.residual(made[-1])
    np.testing.assert_allclose(r.T @ info["qtf"] / scale, jac.T @ f / scale,
                               atol=50 * EPS * np.sqrt(n) * np.linalg.norm(f))
    np.testing.assert_allclose(cov[np.ix_(ipvt - 1, ipvt - 1)] @ (r.T @ r), np.eye(n), atol=1e-10)
    np.testing.assert_array_equal(cov, cov.T)


@pytest.mark.parametrize("m, n", [(40, 4), (20000, 2)])
def test_short_and_full_form_agree(m, n):
    p = Smooth(m, n)
    for options in p.options_by_method().values():
        x, ier = leastsq(p.residual, p.x0, qr="blocked", **options)
        full = blocked(p.residual, p.x0, **options)
        np.testing.assert_array_equal(x, full[0])
        assert ier == full[4]


@pytest.mark.parametrize("convert", [float, np.float64, lambda v: [float(v)]])
@pytest.mark.parametrize("options", [{}, {"Dfun": lambda p: [[2.0]]}], ids=["lmdif", "lmder"])
def test_one_residual_of_one_parameter(convert, options):
    x, cov, info, _, ier = blocked(lambda p: convert(2 * p[0] - 3), 1.0, **options)
    assert ier in (1, 2, 3, 4) and info["fjac"].shape == (1, 1)
    np.testing.assert_allclose(x, [1.5], rtol=1e-7)
    np.testing.assert_allclose(cov, [[0.25]], rtol=1e-6)
    assert np.ndim(info["fvec"]) == np.ndim(convert(1.0))


# --------------------------------------------- ownership of the array of residuals

def test_residuals_that_only_the_solver_holds_are_not_copied():
    p, places = Smooth(20000, 3), set()

    def func(x):
        f = p.residual(x)
        places.add(f.ctypes.data)
        return f

    for options in p.options_by_method().values():
        x, _, info, *_ = blocked(func, p.x0, **options)
        assert info["fvec"].ctypes.data in places and info["fvec"].flags.owndata
        np.testing.assert_array_equal(info["fvec"], p.residual(x))


@pytest.mark.parametrize("full_output, vectors", [(False, 0), (True, 2)])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_residuals_are_not_kept_for_a_caller_who_does_not_want_them(method, full_output, vectors):
    """Without full output there is no vector besides the one that func makes at a trial point.  With it there
    is the vector at x, and a spare for functions that keep their result, which is unused here."""
    p, lying = Smooth(20000, 3), []

    def func(x):
        arrays = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)])
        lying.append(sum(trace.size == 8 * p.m for trace in arrays.traces))
        return p.residual(x)

    first_trial = {"lmdif": 1 + p.n, "lmder": 1}[method]
    tracemalloc.start()
    try:
        leastsq(func, p.x0, qr="blocked", full_output=full_output, **p.options_by_method()[method])
    finally:
        tracemalloc.stop()
    assert lying[first_trial] == vectors, lying


class Own(np.ndarray):
    """A subclass of ndarray defined by the user."""


@pytest.mark.parametrize("method", ["lmdif", "lmder"])
@pytest.mark.parametrize("way", ["kept", "weak", "view", "buffer", "read-only", "class", "mixed"])
def test_residuals_with_other_references_are_copied(way, method):
    """The holder of the other reference writes into all of them at the next call, and after the fit."""
    p, kept, buffer = Smooth(20000, 3), [], np.empty(20000)
    clean = blocked(p.residual, p.x0, **p.options_by_method()[method])

    def spoil():
        for one in kept:
            array = one() if isinstance(one, weakref.ref) else one
            if array is not None:
                array[:] = np.nan

    def func(x):
        spoil()
        f = p.residual(x)
        how = ("kept", "fresh", "view")[len(kept) % 3] if way == "mixed" else way
        if how == "buffer":
            buffer[:] = f
            f = buffer
        elif how == "class":
            f = f.view(Own)
        kept.append(weakref.ref(f) if how == "weak" else np.empty(0) if how == "fresh" else f)
        if how == "view":
            return f[:]
        if how == "read-only":
            f = f.copy()
            f.flags.writeable = False
        return f

    got = blocked(func, p.x0, **p.options_by_method()[method])
    spoil()
    assert_same(got, clean)
    assert got[2]["fvec"].flags.writeable and type(got[2]["fvec"]) is np.ndarray


# ------------------------------------------------------------------- threads

@pytest.mark.parametrize("method", ["lmdif", "lmder"])
@pytest.mark.parametrize("m, n", SEVERAL_CHUNKS)
def test_threads_change_no_bit(m, n, method):
    p = Smooth(m, n)
    limit = {"maxfev": 2 * n + 4} if method == "lmdif" else {}
    one = blocked(p.residual, p.x0, threads=1, **limit, **p.options_by_method()[method])
    for threads in (2, 3, 8) if m * n < 1e6 else (2, 3):
        assert_same(blocked(p.residual, p.x0, threads=threads, **limit, **p.options_by_method()[method]), one)


KINDS = ["dense", "zero rows", "zero columns", "equal columns"]


@pytest.mark.parametrize("m, n, kind", [
    *((300, 300, kind) for kind in KINDS), (600, 256, "dense"), (2300, 300, "dense"),
    *(pytest.param(m, n, kind, marks=pytest.mark.slow) for m, n in [(600, 256), (2300, 300), (517, 517)]
      for kind in KINDS if kind != "dense" or n == 517)])
def test_threads_on_one_triangle_change_no_bit(m, n, kind):
    """With few rows the threads work together on one triangle."""
    rng = np.random.default_rng([m, n])
    a = rng.standard_normal((m, n))
    if kind == "zero rows":
        a[:280] = 0
    elif kind == "zero columns":
        a[:, ::3] = 0
    elif kind == "equal columns":
        a[:, 1::2] = a[:, :-1:2]
    b = rng.standard_normal(m)

    def fit(threads):
        # small first steps make the solver solve damped systems too
        return blocked(lambda x: a @ x + 0.1 * np.sin(a @ x) - b, np.zeros(n), factor=0.1, maxfev=4,
                       Dfun=lambda x: a * (1 + 0.1 * np.cos(a @ x))[:, None], threads=threads)

    one = fit(1)
    if kind == "dense":         # for the other kinds only the length of a step is determined
        want = leastsq(lambda x: a @ x + 0.1 * np.sin(a @ x) - b, np.zeros(n), factor=0.1, maxfev=4,
                       Dfun=lambda x: a * (1 + 0.1 * np.cos(a @ x))[:, None], qr="minpack",
                       full_output=True)
        np.testing.assert_allclose(one[2]["fvec"], want[2]["fvec"], atol=1e-8)
    for threads in (2, 3, 8) if m > 1000 else (2, 3):
        assert_same(fit(threads), one)


def test_more_threads_than_rows_are_allowed():
    p = Smooth(40, 4)
    assert_same(blocked(p.residual, p.x0, threads=256), blocked(p.residual, p.x0))


def test_a_repeated_fit_has_the_same_bits():
    p = Smooth(50001, 7)
    first = blocked(p.residual, p.x0, Dfun=p.jacobian, threads=3)
    for _ in range(5):
        assert_same(blocked(p.residual, p.x0, Dfun=p.jacobian, threads=3), first)


# ----------------------------------------------------- layouts of the Jacobian

BLOCKED_LAYOUTS = LAYOUTS | {
    "read-only": lambda a: read_only(a), "list": lambda a: a.tolist(),
    "upside down": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "mirrored": lambda a: np.ascontiguousarray(a[:, ::-1])[:, ::-1],
    "field of records": lambda a: field_of_records(a), "int8": lambda a: a.astype("i1"),
    "float16": lambda a: a.astype("f2"), "swapped float32": lambda a: a.astype(">f4"),
    "F float32": lambda a: np.asfortranarray(a, "f4"),
    "backwards float32": lambda a: np.flip(np.flip(a).astype("f4")),
    "every third row": lambda a: np.repeat(a, 3, axis=0)[::3]}


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def field_of_records(a):
    """A float64 field every 12 bytes, so that strides are not multiples of 8."""
    records = np.zeros(a.shape, np.dtype([("tag", "i4"), ("value", "f8")]))
    records["value"] = a
    return records["value"]


@cache
def whole_numbers(m, n):
    """Jacobian and residuals of integers that every dtype can hold."""
    rng = np.random.default_rng([m, n])
    jac = rng.integers(-30, 31, (m, n)) + 60.0 * np.eye(m, n)
    return jac, rng.integers(-9, 10, m) / 4


@pytest.mark.parametrize("name", BLOCKED_LAYOUTS)
@pytest.mark.parametrize("m, n", [(9, 2), (257, 8), (64, 64), (700, 1), (1, 1), (2571, 13),
                                  (20001, 3)])
def test_jacobians_of_every_layout_give_the_same_bits(m, n, name):
    jac, b = whole_numbers(m, n)

    def func(x):
        return np.einsum("ij,j->i", jac, x) - b

    expected = blocked(func, np.ones(n), Dfun=lambda x: jac.copy())
    np.testing.assert_allclose(expected[0], np.linalg.lstsq(jac, b, rcond=None)[0],
                               rtol=1e-6, atol=1e-9)
    for col_deriv in (0, 1):
        given = BLOCKED_LAYOUTS[name](jac.T if col_deriv else jac)
        before = np.array(given)
        got = blocked(func, np.ones(n), Dfun=lambda x: given, col_deriv=col_deriv, threads=2)
        assert_same(got, expected)
        np.testing.assert_array_equal(given, before)


def test_broadcast_jacobians_are_read_by_zero_strides():
    row = np.array([3.0, -4.0])
    jac = np.broadcast_to(row, (30000, 2))
    x, cov, info, _, ier = blocked(lambda x: np.full(30000, row @ x - 2.0), [1.0, 1.0],
                                   Dfun=lambda x: jac)
    np.testing.assert_allclose(row @ x, 2.0, rtol=1e-12)
    np.testing.assert_allclose(np.abs(info["fjac"][:, 0]), [4 * np.sqrt(30000), 3 * np.sqrt(30000)])
    np.testing.assert_allclose(info["fjac"][1, 1], 0, atol=1e-10)
    assert ier in CONVERGED


@pytest.mark.parametrize("col_deriv", [False, True])
@pytest.mark.parametrize("shape", [(12,), (12, 1), (1, 12), (3, 4)], ids=str)
@pytest.mark.parametrize("dtype", ["f8", "f4", "i2", ">f8"])
def test_jacobian_of_one_column_may_have_any_shape(shape, dtype, col_deriv):
    t = np.arange(1.0, 13.0)
    y = 3 * t + np.resize([1, -2, 3], 12)
    jac = t.astype(dtype).reshape(shape)
    result = blocked(lambda p: p * t - y, 5.0, Dfun=lambda p: jac, col_deriv=col_deriv)
    assert_same(result, blocked(lambda p: p * t - y, 5.0, Dfun=lambda p: t[:, None]))
    np.testing.assert_allclose(result[0], t @ y / (t @ t), rtol=1e-12)


@pytest.mark.parametrize("kind", ["f2", "f4", ">f4", "i1", "i8", "u2", bool])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_residuals_of_other_dtypes_are_widened(kind, method):
    p = Smooth(300, 3)

    def narrow(x):
        return np.abs(32 * p.residual(x)).astype(kind)

    epsilon = {"f2": 2.0 ** -10, "f4": 2.0 ** -23, ">f4": 2.0 ** -23}.get(kind, 2.0 ** -52)
    assert_same(blocked(narrow, p.x0, **p.options_by_method()[method]),
                blocked(lambda x: narrow(x).astype(float), p.x0, epsfcn=epsilon, **p.options_by_method()[method]))


@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_residuals_of_every_layout_are_read_alike(method):
    p = Smooth(20000, 2)
    expected = blocked(p.residual, p.x0, **p.options_by_method()[method])
    for name in ("strided", "backwards", "unaligned", "swapped"):
        assert_same(blocked(lambda x: LAYOUTS[name](p.residual(x)), p.x0, **p.options_by_method()[method]), expected)
    assert_same(blocked(lambda x: p.residual(x).tolist(), p.x0, **p.options_by_method()[method]), expected)


# ------------------------------------------------------------------ callbacks

@pytest.mark.parametrize("limits", [{}, {"maxfev": 1}, {"maxfev": 5}, {"xtol": 0, "ftol": 0},
                                    {"factor": 0.1}, {"gtol": 0.5}], ids=str)
@pytest.mark.parametrize("m", [40, 20000])
@pytest.mark.parametrize("method", METHODS)
def test_functions_run_exactly_as_often_as_reported(method, m, limits):
    p = Smooth(m, 2)
    func, options = At(p.residual, None, None), p.options_by_method()[method]
    dfun = At(options.get("Dfun"), None, None)
    if options:
        options["Dfun"] = dfun
    info = blocked(func, p.x0, **options | limits)[2]
    assert func.calls == info["nfev"]
    assert dfun.calls == info.get("njev", 0)
    assert ("njev" in info) == (method != "lmdif")


@pytest.mark.parametrize("m", [40, 20000])
@pytest.mark.parametrize("method", METHODS)
def test_x_is_fresh_and_never_changed_afterwards(method, m):
    p = Smooth(m, 2)
    kept, copies = [], []

    def keeping(function):
        def call(x):
            assert type(x) is np.ndarray and x.dtype == np.float64 and x.shape == (2,)
            assert x.base is None and x.flags.owndata and x.flags.writeable
            kept.append(x)
            copies.append(x.copy())
            return function(x)
        return call

    options = p.options_by_method()[method]
    expected = blocked(p.residual, p.x0, **options)
    if options:
        options = options | {"Dfun": keeping(options["Dfun"])}
    result = blocked(keeping(p.residual), p.x0, **options)
    np.testing.assert_array_equal(kept, copies)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[:i])
    assert not any(np.shares_memory(result[0], x) for x in kept)
    assert_same(result, expected)


@pytest.mark.parametrize("m", [40, 20000])
def test_reused_buffers_and_a_spoilt_x_do_not_matter(m):
    p = Smooth(m, 2)
    out, jac_out = np.empty(m), np.empty((m, 2))

    def func(x):
        out[:] = p.residual(x)
        x[:] = np.nan
        return out

    def dfun(x):
        jac_out[:] = p.jacobian(x)
        x[:] = np.nan
        return jac_out

    assert_same(blocked(func, p.x0), blocked(p.residual, p.x0))
    result = blocked(func, p.x0, Dfun=dfun)
    assert_same(result, blocked(p.residual, p.x0, Dfun=p.jacobian))
    assert not any(np.shares_memory(a, b) for a in (out, jac_out) for b in result[2].values()
                   if isinstance(b, np.ndarray))


# ------------------------------------- singular, graded and denormal Jacobians

A = np.random.default_rng(3).standard_normal((60, 5))
B = np.random.default_rng(4).standard_normal(60)


def with_column(j, column):
    a = A.copy()
    a[:, j] = column
    return a


HARD = {
    "zero column": (with_column(2, 0.0), B), "two zero columns": (A * [0, 1, 1, 1, 0], B),
    "all zero": (0 * A, B), "equal columns": (with_column(3, A[:, 1]), B),
    "dependent columns": (with_column(3, A[:, 1] + A[:, 0]), B),
    "one direction": (A[:, :1] * [1, 2, 3, 4, 5], B),
    **{f"all by {s:g}": (A * s, B) for s in (1e-300, 1e-200, 1e-160, 1e-310, 5e-324, 1e150, 1e200, 1e300)},
    **{f"first by {s:g}": (A * [s, 1, 1, 1, 1], B)
       for s in (1e-300, 1e-200, 1e-160, 1e-310, 5e-324, 1e150, 1e200, 1e300)},
    "graded": (A * [1e300, 1e150, 1, 1e-150, 1e-300], B),
    "graded, denormal": (A * [1e-300, 1e150, 1, 1e-310, 1e300], B),
    "f 1e300": (A, 1e300 * B), "f 1e-300": (A, 1e-300 * B), "J and f 1e300": (1e300 * A, 1e300 * B),
    "J and f 1e-300": (1e-300 * A, 1e-300 * B), "J and f 1e-310": (1e-310 * A, 1e-310 * B),
    "f zero": (A, 0 * B),
}


def scaled_norm(f):
    largest = np.abs(f).max()
    return largest * np.linalg.norm(f / largest) if largest > 0 else 0.0


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("copies", [1, 300], ids=["one block", "chunks"])
def test_hard_jacobians_end_as_on_the_minpack_path(name, copies):
    a, b = HARD[name]
    a, b = np.tile(a, (copies, 1)), np.tile(b, copies)
    x0 = np.zeros(5) if name == "f zero" else np.ones(5)
    want, got = (solver(lambda x: np.einsum("ij,j->i", a, x) - b, x0, Dfun=lambda x: a, maxfev=40)
                 for solver in (minpack, partial(blocked, threads=2)))
    # Whether ftol or xtol is met first depends on the last bits.
    assert want[4] == got[4] or {want[4], got[4]} <= set(CONVERGED)
    assert scaled_norm(got[2]["fvec"]) == pytest.approx(scaled_norm(want[2]["fvec"]), rel=1e-9)
    assert (want[1] is None) == (got[1] is None) or "columns" in name or name == "one direction"
    if "columns" not in name and name != "one direction":
        np.testing.assert_array_equal(got[2]["ipvt"], want[2]["ipvt"])
        norms = [np.abs(np.diag(out[2]["fjac"].T[:5])) for out in (want, got)]
        np.testing.assert_allclose(norms[1], norms[0], rtol=1e-9, atol=4 * TINIEST)


@pytest.mark.parametrize("copies", [1, 300], ids=["one block", "chunks"])
def test_norms_that_overflow_end_the_fit(copies):
    huge = np.full((60 * copies, 2), 1.7e308)
    for func, dfun, what in [
            (lambda x: huge[:, 0], lambda x: huge, "The norm of the residuals overflows"),
            (lambda x: np.ones(len(huge)), lambda x: huge, "The norm of a column of the Jacobian")]:
        outs = [solver(func, [0.0, 0.0], Dfun=dfun) for solver in (minpack, blocked)]
        assert [out[4] for out in outs] == [9, 9]
        assert outs[0][3] == outs[1][3] and outs[0][3].startswith(what)


# --------------------------------------------------------------- which path

def was_blocked(result):
    """The blocked path leaves zeros below R, MINPACK its Householder vectors."""
    info = result[2]
    n, m = info["fjac"].shape
    return not info["fjac"].T[np.tril_indices(m, -1, n)].any()


@runs
def test_small_problems_keep_minpacks_bits_by_default(run):
    p, factor = RUNS[run]
    for options in ({}, {"Dfun": p.jacobian}):
        default = leastsq(p.residual, p.start(factor), full_output=True, **options)
        assert_same(default, minpack(p.residual, p.start(factor), **options))
        assert_same(default, leastsq(p.residual, p.start(factor), full_output=True, threads=2, **options))


@pytest.mark.parametrize("m, n, by_blocks", [
    (1023, 300, False), (100, 90, False), (2000, 3, False), (4096, 50, True), (100000, 1, True),
    (300000, 3, True), (3000, 300, True)])
def test_long_problems_are_blocked_by_default(m, n, by_blocks):
    p = Smooth(m, n)
    once = dict(Dfun=p.jacobian, maxfev=2)
    default = leastsq(p.residual, p.x0, full_output=True, **once)
    assert was_blocked(default) == by_blocks
    assert_same(default, (blocked if by_blocks else minpack)(p.residual, p.x0, **once))
    assert not was_blocked(minpack(p.residual, p.x0, **once))
    assert was_blocked(blocked(p.residual, p.x0, **once))


# ----------------------------------------------------------------- arguments

@pytest.mark.parametrize("qr", ["", "MINPACK", "lapack", 0, 1, True, b"blocked", ["blocked"],
                                np.array(["blocked"])], ids=repr)
def test_other_values_of_qr_are_refused(qr):
    with pytest.raises(ValueError, match=r"leastsq: qr must be None, 'minpack' or 'blocked', got "):
        leastsq(lambda x: x, [1.0], qr=qr)


@pytest.mark.parametrize("threads", [0, -1, 257, 10 ** 30])
def test_other_numbers_of_threads_are_refused(threads):
    with pytest.raises(ValueError, match=rf"leastsq: threads must be from 1 to 256, got {threads}"):
        leastsq(lambda x: x, [1.0], threads=threads)


@pytest.mark.parametrize("threads", [1.0, "2", True, [1], np.float64(2)], ids=repr)
def test_a_number_of_threads_that_is_not_an_integer_is_refused(threads):
    with pytest.raises(TypeError, match="leastsq: threads must be an integer, got "):
        leastsq(lambda x: x, [1.0], threads=threads)


@pytest.mark.parametrize("threads", [1, 256, np.int8(3), np.uint64(2)], ids=repr)
def test_a_number_of_threads_may_be_of_any_integer_type(threads):
    assert leastsq(lambda x: x, [1.0], threads=threads)[1] in (1, 2, 3, 4)


def test_qr_and_threads_are_keywords_only():
    with pytest.raises(TypeError, match="positional"):
        leastsq(lambda x: x, [1.0], (), None, 0, 0, 1e-8, 1e-8, 0.0, 0, None, 100, None, "blocked")


def test_show_config_names_the_kernels():
    kernels = package.show_config("dicts")["kernels"]
    assert kernels.rpartition(" ")[2] in ("baseline", "v3", "v4") and "blocked" in kernels


# ----------------------------------------------------------------- benchmark

@guards.LINUX
def test_benchmark_of_large_fits_measures_every_solver():
    program = Path(__file__).resolve().parents[2] / "benchmarks" / "large.py"
    done = subprocess.run([sys.executable, program, "--quick", "--json", "--shapes", "64x40",
                           "--seconds", "0.001"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert [(row["m"], row["n"]) for row in report["shapes"]] == [(64, 40)]
    for row in report["shapes"]:
        assert {"blocked", "blocked, 2 threads", "minpack", "SciPy", "numpy qr", "peak"} <= set(row["ms"])
        assert all(ms > 0 for ms in row["ms"].values())
        assert set(row["memory"]) == {"blocked, Dfun", "SciPy, Dfun"}


def test_an_order_of_columns_that_stays_and_then_changes_is_followed():
    """After two models with the same order it is tried first; each fit ends as on the minpack path."""
    n, m = 120, 1100
    rng = np.random.default_rng(3)
    a = rng.standard_normal((m, n))*np.geomspace(1, 3, n)
    target = a @ np.ones(n) + 0.1*rng.standard_normal(m)
    made = []

    def residual(x):
        return a @ (x + 0.3*x**3) - target

    def jacobian(x):
        made.append(a*(1 + 0.9*x**2))
        return made[-1]

    ends = []
    for qr in ("minpack", "blocked"):
        made.clear()
        x, _, info, _, ier = leastsq(residual, np.zeros(n), Dfun=jacobian, full_output=True, qr=qr, factor=0.1,
                                   ftol=1e-15, xtol=1e-15)
        order = info["ipvt"] - 1
        last = made[-1][:, order]
        np.testing.assert_allclose(np.abs(np.diag(info["fjac"][:, :n].T)), np.abs(np.diag(np.linalg.qr(last, mode="r"))),
                                   rtol=1e-10)
        assert info["njev"] > 5 and ier in (1, 2, 3, 4)
        ends.append((x, order))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-8)
    np.testing.assert_array_equal(ends[1][1], ends[0][1])

    # The order stays for three models, changes, and stays again.
    alone = [leastsq(lambda x, j=j: j @ x - target, np.zeros(n), Dfun=lambda x, j=j: j, full_output=True, qr="minpack",
                     maxfev=1)[2]["ipvt"] for j in made]
    stays = [np.array_equal(one, other) for one, other in zip(alone, alone[1:])]
    assert all(stays[:3]) and not all(stays) and stays[-1]
