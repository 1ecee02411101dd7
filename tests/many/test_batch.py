"""leastsq_batch gives the same fits as leastsq one by one, whatever happens to some of them."""
import ctypes
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import compiled_problems
import leastsq as package
from docstrings import run_examples
from kernels import State
from leastsq import CFunction, Status, leastsq, leastsq_batch

ROOT = Path(__file__).resolve().parents[2]
M, N = 8, 3
T = 0.25 * np.arange(M)


# ---------------------------------------------------------------------------
# a curve of IEEE operations only, so that one problem has the same bits as many


def curve(x, y):
    return x[..., :1] / (1 + x[..., 1:2] * T) + x[..., 2:3] - y


def curve_jacobian(x, y):
    """(..., m, n)"""
    jacobian = np.empty((*x.shape[:-1], M, N))
    below = 1 + x[..., 1:2] * T
    jacobian[..., 0] = 1 / below
    jacobian[..., 1] = -x[..., :1] * T / (below * below)
    jacobian[..., 2] = 1
    return jacobian


def curve_jacobian_by_column(x, y):
    return np.ascontiguousarray(curve_jacobian(x, y).swapaxes(-1, -2))


METHODS = {"lmdif": {}, "lmder": {"Dfun": curve_jacobian},
           "col_deriv": {"Dfun": curve_jacobian_by_column, "col_deriv": True}}
methods = pytest.mark.parametrize("method", METHODS)


def curves(count, seed=0, noise=0.05):
    """Starts and data."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform([1, 0.5, -1], [3, 3, 1], (count, N))
    return np.tile([1.0, 1.0, 0.0], (count, 1)), curve(truth, 0) + noise * rng.standard_normal((count, M))


def with_hopeless_ones(x0, y, seed=1):
    """Make 5 % of the problems hopeless, each in one of seven ways."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(x0), len(x0) // 20, replace=False)
    for way, rows in enumerate(np.array_split(chosen, 7)):
        if way == 0:
            y[rows, rng.integers(M, size=rows.size)] = np.nan
        elif way == 1:
            y[rows] = np.inf
        elif way == 2:
            x0[rows, 1] = np.nan
        elif way == 3:
            x0[rows, 1] = -1 / T[4]             # a pole
        elif way == 4:
            x0[rows, 0] = 0                     # a Jacobian without rank
            y[rows] = 1
        elif way == 5:
            x0[rows] = [1e200, 1e150, -1e200]
        else:
            y[rows] = 1e9 * rng.standard_normal((rows.size, M))
    return chosen


@pytest.fixture(autouse=True)
def quiet():
    """Hopeless problems divide by zero."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="module")
def library(need_program, tmp_path_factory):
    path = tmp_path_factory.mktemp("batch") / "libbatch_problems.so"
    subprocess.run([need_program("cc"), *compiled_problems.FLAGS, f"-I{package.get_include()}",
                    Path(__file__).parents[1] / "programs" / "batch_problems.c", "-o", path], check=True)
    return ctypes.CDLL(str(path))


@pytest.fixture(scope="module")
def compiled(library):
    return CFunction(library.curve, M), CFunction(library.curve_jacobian, M)


def one_by_one(func, x0, y, **keywords):
    """The arrays of a BatchResult, made by leastsq."""
    fits = [leastsq(func, start, (row,), full_output=True, **keywords)
            for start, row in zip(x0, y, strict=True)]
    return {"x": np.array([f[0] for f in fits]), "ier": np.array([f[4] for f in fits]),
            "nfev": np.array([f[2]["nfev"] for f in fits]),
            "fvec": np.array([f[2]["fvec"] for f in fits]),
            "cov_x": np.array([np.full((N, N), np.nan) if f[1] is None else f[1] for f in fits])}


def assert_same(result, wanted):
    for name, values in wanted.items():
        got = getattr(result, name)
        same = (got == values) | (np.isnan(got) & np.isnan(values))
        assert same.all(), f"{name} differs in problems {np.argwhere(~same)[:5].tolist()}"


def arrays(result):
    return {name: getattr(result, name) for name in
            ("x", "ier", "nfev", "njev", "fnorm", "cov_x", "fvec") if getattr(result, name) is not None}


# ---------------------------------------------------------------------------
# the same iterates


@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_ten_thousand_problems_with_hopeless_ones_repeat_leastsq_bit_for_bit(method):
    x0, y = curves(10_000)
    spoiled = with_hopeless_ones(x0, y)
    result = leastsq_batch(curve, x0, y, maxfev=60, return_fvec=True, **METHODS[method])
    assert_same(result, one_by_one(curve, x0, y, maxfev=60, **METHODS[method]))
    assert {0, 5, 9} & set(result.ier[spoiled]) == {5, 9}
    assert result.success[np.setdiff1d(np.arange(10_000), spoiled)].mean() > 0.99
    norms = np.linalg.norm(result.fvec, axis=1)
    np.testing.assert_allclose(result.fnorm[result.success], norms[result.success], rtol=1e-14)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_compiled_functions_repeat_leastsq_bit_for_bit(method, threads, compiled):
    func, dfun = compiled[0], None if method == "lmdif" else compiled[1]
    x0, y = curves(3000, seed=3)
    with_hopeless_ones(x0, y)
    result = leastsq_batch(func, x0, y, Dfun=dfun, maxfev=60, threads=threads, return_fvec=True)
    python = leastsq_batch(curve, x0, y, maxfev=60, return_fvec=True, **METHODS[method])
    assert_same(result, arrays(python))


@methods
@pytest.mark.parametrize("slab", [1, 7, 63, 64, 65, 1000])
def test_the_slab_changes_nothing(method, slab):
    x0, y = curves(300, seed=4)
    with_hopeless_ones(x0, y)
    keywords = dict(maxfev=60, return_fvec=True, **METHODS[method])
    assert_same(leastsq_batch(curve, x0, y, slab=slab, **keywords),
                arrays(leastsq_batch(curve, x0, y, **keywords)))


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_neighbours_change_nothing(kind, compiled):
    """Up to four Jacobians are factored at once."""
    func, dfun = (curve, curve_jacobian) if kind == "python" else compiled
    x0, y = curves(9, seed=5)
    y[3] = np.nan
    wanted = one_by_one(curve, x0, y, Dfun=curve_jacobian)
    for count in range(1, 10):
        result = leastsq_batch(func, x0[:count], y[:count], Dfun=dfun, return_fvec=True)
        assert_same(result, {name: values[:count] for name, values in wanted.items()})


@pytest.mark.parametrize("m", [1365, 1366])     # 3 m elements: the most that are factored at once, and more
def test_problems_with_many_points_repeat_leastsq(m):
    t = np.linspace(0, 2, m)

    def long_curve(x, y):
        return x[..., :1] / (1 + x[..., 1:2] * t) + x[..., 2:3] - y

    x0, y = np.tile([1.0, 1, 0], (6, 1)), long_curve(np.random.default_rng(6).uniform(1, 2, (6, N)), 0)
    assert_same(leastsq_batch(long_curve, x0, y, return_fvec=True), one_by_one(long_curve, x0, y, qr="minpack"))


@pytest.mark.parametrize("keywords", [
    dict(ftol=1e-3, xtol=1e-3), dict(gtol=1e-2), dict(ftol=0, xtol=0), dict(maxfev=1), dict(maxfev=9),
    dict(factor=0.1), dict(diag=[1, 2, 3.0]), dict(epsfcn=1e-8), dict(epsfcn=0)], ids=str)
@methods
def test_settings_mean_what_they_mean_for_leastsq(method, keywords):
    x0, y = curves(40, seed=5)
    keywords = keywords | METHODS[method]
    assert_same(leastsq_batch(curve, x0, y, return_fvec=True, **keywords),
                one_by_one(curve, x0, y, **keywords))


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_each_problem_may_have_its_own_scale_factors(kind, compiled):
    x0, y = curves(40, seed=6)
    diag = np.random.default_rng(6).uniform(0.1, 10, (40, N))
    func, dfun = (curve, curve_jacobian) if kind == "python" else compiled
    wanted = [leastsq(curve, x0[i], (y[i],), Dfun=curve_jacobian, diag=diag[i])[0] for i in range(40)]
    result = leastsq_batch(func, x0, y, Dfun=dfun, diag=diag)
    assert_same(result, {"x": np.array(wanted)})
    shared = leastsq_batch(func, x0, y, Dfun=dfun, diag=diag[3])
    assert_same(shared, {"x": one_by_one(curve, x0, y, Dfun=curve_jacobian, diag=diag[3])["x"]})


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_an_improper_scale_factor_concerns_its_problem_only(kind, compiled):
    x0, y = curves(100, seed=7)
    diag = np.ones((100, N))
    diag[[0, 70], 1] = 0, -1
    func = curve if kind == "python" else compiled[0]
    result = leastsq_batch(func, x0, y, diag=diag)
    assert np.flatnonzero(result.ier == Status.IMPROPER).tolist() == [0, 70]
    assert result.success.sum() == 98
    np.testing.assert_array_equal(result.x[70], x0[70])
    assert result.message(70) == "Improper input parameters."


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_precision_of_func_sets_the_difference_step(dtype):
    x0, y = curves(20, seed=8)

    def rounded(x, y):
        return curve(x, y).astype(dtype)

    assert_same(leastsq_batch(rounded, x0, y, return_fvec=True), one_by_one(rounded, x0, y))


def test_problems_without_data():
    x0 = np.random.default_rng(9).normal(size=(50, 2))

    def rosenbrock(x):
        return np.stack([10 * (x[..., 1] - x[..., 0]**2), 1 - x[..., 0]], -1)

    result = leastsq_batch(rosenbrock, x0)
    assert_same(result, {"x": np.array([leastsq(rosenbrock, start)[0] for start in x0])})


# ---------------------------------------------------------------------------
# weights


def weighted_curve(x, y, w):
    return np.where(w == 0, 0.0, curve(x, y) * w)


@pytest.mark.parametrize("method", ["lmdif", "lmder", "compiled lmdif", "compiled lmder"])
def test_weights_multiply_residuals_and_rows(method, compiled):
    x0, y = curves(200, seed=10)
    rng = np.random.default_rng(10)
    weights = rng.uniform(0.5, 2, y.shape) * (rng.random(y.shape) > 0.2)
    func, dfun = compiled if "compiled" in method else (curve, curve_jacobian)
    dfun = dfun if "lmder" in method else None
    result = leastsq_batch(func, x0, y, Dfun=dfun, weights=weights, return_fvec=True)

    def jacobian(x, y, w):
        return curve_jacobian(x, y) * w[:, None]

    fits = [leastsq(weighted_curve, x0[i], (y[i], weights[i]), full_output=True,
                    Dfun=jacobian if "lmder" in method else None) for i in range(200)]
    enough = np.count_nonzero(weights, axis=1) >= x0.shape[1]
    assert (result.ier[~enough] == Status.NO_DATA).all() and np.isnan(result.x[~enough]).all() and 0 < (~enough).sum() < 9
    nan = np.nan
    assert_same(result, {"x": np.array([f[0] if good else nan*f[0] for f, good in zip(fits, enough)]),
                         "ier": np.array([f[4] if good else Status.NO_DATA for f, good in zip(fits, enough)]),
                         "fvec": np.array([f[2]["fvec"] if good else nan*f[2]["fvec"] for f, good in zip(fits, enough)])})


@pytest.mark.parametrize("dtype", [bool, float, np.float32, int])
@pytest.mark.parametrize("method", ["lmdif", "lmder", "compiled lmdif", "compiled lmder"])
def test_data_of_weight_zero_may_be_nan(method, dtype, compiled):
    x0, y = curves(60, seed=11, noise=1e-4)
    present = np.random.default_rng(11).random(y.shape) > 0.3
    present[:, 0] = present[:, -1] = True
    present[present.sum(1) < 4] = True
    spoiled = np.where(present, y, np.nan)

    def nan_jacobian(x, y):
        return curve_jacobian(x, y) + 0 * y[:, :, None]

    func, dfun = compiled if "compiled" in method else (curve, nan_jacobian)
    result = leastsq_batch(func, x0, spoiled, Dfun=dfun if "lmder" in method else None,
                           weights=present.astype(dtype), return_fvec=True)
    wanted = [leastsq(lambda x, y, w: curve(x, y)[w], x0[i], (y[i], present[i]), full_output=True)
              for i in range(60)]
    np.testing.assert_allclose(result.x, [f[0] for f in wanted], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.fnorm, [np.linalg.norm(f[2]["fvec"]) for f in wanted], rtol=1e-6)
    assert (result.fvec[~present] == 0).all()


# ---------------------------------------------------------------------------
# how functions are called


class Recorder:
    """A function that records its arguments."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, x, *rows):
        self.calls.append((x, *rows))
        return self.function(x.copy(), rows[0])


@methods
def test_every_row_is_evaluated_nfev_times(method):
    x0, y = curves(200, seed=12)
    with_hopeless_ones(x0, y)
    func = Recorder(curve)
    keywords = dict(METHODS[method])
    if method != "lmdif":
        keywords["Dfun"] = Recorder(keywords["Dfun"])
    result = leastsq_batch(func, x0, (y, np.arange(200)), maxfev=60, slab=30, **keywords)
    count = np.bincount(np.concatenate([index for _, _, index in func.calls]), minlength=200)
    np.testing.assert_array_equal(count, result.nfev)
    if method != "lmdif":
        count = np.bincount(np.concatenate([c[2] for c in keywords["Dfun"].calls]), minlength=200)
        np.testing.assert_array_equal(count, result.njev)
    for x, rows, index in func.calls:
        assert x.shape == (len(index), N) and len(index) <= 30
        np.testing.assert_array_equal(rows, y[index])


def test_arrays_passed_to_functions_are_never_reused():
    x0, y = curves(100, seed=13)
    func = Recorder(curve)
    leastsq_batch(func, x0, y)
    for x, rows in func.calls:
        assert x.flags.owndata and x.flags.writeable and x.flags.c_contiguous
        assert not np.shares_memory(rows, y)
    copies = [x.copy() for x, _ in func.calls]
    assert not any(np.shares_memory(a[0], b[0]) for a, b in zip(func.calls, func.calls[1:]))
    for (x, _), copy in zip(func.calls, copies, strict=True):
        np.testing.assert_array_equal(x, copy)


def test_a_function_may_reuse_its_buffer_and_write_into_x():
    x0, y = curves(50, seed=14)
    buffer = np.empty((64, M))

    def reusing(x, y):
        out = buffer[:len(x)]
        out[:] = curve(x, y)
        x[:] = np.nan
        return out

    assert_same(leastsq_batch(reusing, x0, y, return_fvec=True), one_by_one(curve, x0, y))


def test_differences_take_n_calls_for_all_problems():
    x0, y = curves(50, seed=15)
    func = Recorder(curve)
    result = leastsq_batch(func, x0, y)
    rounds = result.nfev.max()
    assert len(func.calls) <= rounds + N        # not 50 times as many


def test_residuals_may_be_lists_and_integers():
    target = np.arange(20)

    def func(x, y):
        return [[int(round(v)) - int(w), 1] for (v,), w in zip(x, y, strict=True)]

    result = leastsq_batch(func, np.zeros((20, 1)), target, epsfcn=1.0)
    assert result.x.shape == (20, 1) and result.success.all()


def test_arguments_come_after_the_rows():
    x0, y = curves(30, seed=16)

    def func(x, y, t, scale):
        assert t.shape == (M,)
        return scale * (x[:, :1] / (1 + x[:, 1:2] * t) + x[:, 2:3] - y)

    np.testing.assert_array_equal(leastsq_batch(func, x0, y, (T, 1.0)).x, leastsq_batch(curve, x0, y).x)

    def one_argument(x, y, t):
        return func(x, y, t, 1.0)

    np.testing.assert_array_equal(leastsq_batch(one_argument, x0, (y,), T).x,
                                  leastsq_batch(curve, x0, y).x)


def test_the_input_is_not_changed():
    x0, y = curves(100, seed=17)
    x0.flags.writeable = y.flags.writeable = False
    result = leastsq_batch(curve, x0, y)
    assert not np.shares_memory(result.x, x0)
    assert (x0 == [1, 1, 0]).all()


def test_starts_and_data_may_be_strided_or_of_another_type():
    x0, y = curves(100, seed=18)
    wanted = leastsq_batch(curve, x0[::2], np.ascontiguousarray(y[::2])).x
    np.testing.assert_array_equal(leastsq_batch(curve, np.asfortranarray(x0[::2]), y[::2]).x, wanted)
    np.testing.assert_array_equal(leastsq_batch(curve, x0[::2].astype(np.float32), y[::2]).x, wanted)


def test_compiled_functions_may_have_strided_rows_of_data(compiled):
    x0, y = curves(100, seed=19)
    wide = np.full((100, M + 3), np.nan)
    wide[:, 1:M + 1] = y
    wanted = leastsq_batch(compiled[0], x0, y).x
    np.testing.assert_array_equal(leastsq_batch(compiled[0], x0, wide[:, 1:M + 1]).x, wanted)
    np.testing.assert_array_equal(leastsq_batch(compiled[0], x0[::-1], y[::-1]).x, wanted[::-1])


def test_without_batch_data_compiled_functions_get_the_data_of_their_cfunction(library):
    x0, y = curves(5, seed=20)
    own = CFunction(library.curve, M, y[2])
    result = leastsq_batch(own, x0)
    np.testing.assert_array_equal(result.x, np.tile(leastsq(own, x0[0])[0], (5, 1)))


def test_batch_data_goes_before_a_compiled_functions_own(library, compiled):
    x0, y = curves(5, seed=21)
    template = CFunction(library.curve, M, np.zeros(M))
    np.testing.assert_array_equal(leastsq_batch(template, x0, y).x, leastsq_batch(compiled[0], x0, y).x)


def test_batches_may_nest_and_run_in_threads(compiled):
    x0, y = curves(200, seed=22)
    wanted = leastsq_batch(curve, x0, y).x

    def nesting(x, y):
        leastsq_batch(curve, x0[:3], wanted[:3, :1] + np.zeros(M))
        leastsq_batch(compiled[0], x0[:3], wanted[:3, :1] + np.zeros(M))
        return curve(x, y)

    answers = [None] * 4

    def work(k):
        with np.errstate(all="ignore"):
            answers[k] = leastsq_batch([curve, nesting, compiled[0], compiled[0]][k], x0, y, threads=2).x

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for answer in answers:
        np.testing.assert_array_equal(answer, wanted)


# ---------------------------------------------------------------------------
# the result


def test_the_result_says_how_each_problem_ended():
    x0, y = curves(10, seed=31)
    y[2, 3] = np.nan
    x0[5, 0] = 0                # no Jacobian with respect to the second parameter
    y[5] = 1.0

    def jacobian(x, y):
        J = curve_jacobian(x, y)
        J[np.abs(y[:, 0] - 7) < 1e-9, 2, 1] = np.inf
        return J

    y[7, 0] = 7
    result = leastsq_batch(curve, x0, y, Dfun=jacobian, maxfev=3)
    assert result.ier[2] == result.ier[7] == Status.NOT_FINITE
    assert result.message(2) == "The residuals, or their norm, are not finite at x0 = [1. 1. 0.]."
    assert result.message(7) == "The Jacobian, or the norm of a column, is not finite at x = [1. 1. 0.]."
    assert np.isnan(result.cov_x[~result.success]).all()
    (hurried,) = np.flatnonzero(result.ier == Status.MAXFEV)[:1]
    assert result.message(hurried) == "Number of calls to function has reached maxfev = 3."
    assert "2 NOT_FINITE" in repr(result) and "MAXFEV" in repr(result)
    assert repr(result).startswith(f"<BatchResult of 10 fits: {result.success.sum()} converged, ")
    assert result.success.dtype == bool
    assert result.fvec is None


def test_messages_are_those_of_leastsq():
    x0, y = curves(30, seed=32)
    result = leastsq_batch(curve, x0, y)
    for i in range(30):
        assert result.message(i) == leastsq(curve, x0[i], (y[i],), full_output=True)[3]


def test_a_singular_jacobian_has_no_covariance():
    x0, y = curves(4, seed=33)
    result = leastsq_batch(lambda x, y: x[:, :1] + x[:, 2:] - y, x0, y)
    assert result.success.all() and np.isnan(result.cov_x).all()


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_covariances_may_be_left_out(kind, compiled):
    x0, y = curves(100)
    func = curve if kind == "python" else compiled[0]
    result = leastsq_batch(func, x0, y, return_cov=False, return_fvec=True)
    assert result.cov_x is None
    np.testing.assert_array_equal(result.fvec, curve(result.x, y))


# ---------------------------------------------------------------------------
# memory


@pytest.mark.parametrize("method", METHODS)
def test_memory_is_bounded_by_the_slab(method):
    """Memory besides the output and that of func is as documented."""
    x0, y = curves(30_000)
    keywords = METHODS[method]
    leastsq_batch(curve, x0[:100], y[:100], **keywords)
    slab = 2000
    tracemalloc.start()
    try:
        result = leastsq_batch(curve, x0, y, slab=slab, maxfev=40, **keywords)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    output = sum(a.nbytes for a in arrays(result).values()) + x0.nbytes
    documented = 8 * slab * (M * (N + 2) + N**2 + 12 * N + 44) + slab * y[0].nbytes
    func = slab * 8 * M * 2 * N
    assert peak - output < documented + func + 100_000


# ---------------------------------------------------------------------------
# private functions


def test_the_state_record_is_that_of_c():
    from leastsq._many.lock_step import STATE
    assert [(name, STATE[name].kind, STATE.fields[name][1]) for name in STATE.names] == [
        (name, "f" if kind is ctypes.c_double else "i", getattr(State, name).offset)
        for name, kind in State._fields_]
    assert STATE.itemsize == ctypes.sizeof(State)


def test_the_extension_refuses_arrays_that_do_not_fit():
    from leastsq import _core
    from leastsq._many.lock_step import Slab
    slab = Slab(4, M, N)
    slab.state["n"] = N
    slots = np.arange(2)
    f, jac = np.zeros((2, M)), np.zeros((2, N, M))
    _core.batch_start(slab.arrays, slots)
    for arrays_ in ((), slab.arrays[:4], (*slab.arrays[:4], np.zeros((4, M), np.float32)),
                    (np.zeros(4), *slab.arrays[1:]), (slab.state[:3], *slab.arrays[1:])):
        with pytest.raises((TypeError, ValueError), match="batch: "):
            _core.batch_start(arrays_, slots)
    for bad in (np.array([4]), np.array([-1]), np.array([0.0]), [0], slots[::-1]):
        with pytest.raises(ValueError, match="batch: "):
            _core.batch_start(slab.arrays, bad)
    slab.state["n"][1] = N + 1
    with pytest.raises(ValueError, match="not set up"):
        _core.batch_start(slab.arrays, slots)
    slab.state["n"] = N
    for bad in (f[:1], f[:, :-1], f.astype(int), None, np.asfortranarray(f)):
        with pytest.raises(ValueError, match="batch: f "):
            _core.batch_tell_norm(slab.arrays, slots, bad, None, None)
    with pytest.raises(ValueError, match="batch: weights "):
        _core.batch_tell_norm(slab.arrays, slots, f, f[:1], None)
    with pytest.raises(ValueError, match="batch: jac "):
        _core.batch_tell_model(slab.arrays, slots, jac[:, :, :-1], None, None, slots)
    for j in (-1, N):
        with pytest.raises(ValueError, match="j is out of range"):
            _core.batch_difference(slab.arrays, slots, f, None, np.ones(2), jac, j)
    outputs = [np.zeros((5, N)), *(np.zeros(5, np.int64) for _ in range(3)), np.zeros(5), None, None, None]
    for bad in (np.array([0, 5]), np.array([-1, 0])):
        with pytest.raises(ValueError, match="a problem is out of range"):
            _core.batch_collect(slab.arrays, slots, bad, *outputs)
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        _core.batch_start(slab.arrays)


# ---------------------------------------------------------------------------
# documentation and examples


def test_the_documentations_examples_run():
    wrong, tried = run_examples(leastsq_batch.__doc__)
    assert tried >= 7 and wrong == ""


def test_the_pixels_have_the_standard_errors_of_the_bound(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "examples" / "pixels.py", "--size=80", "--no-plot"],
                          cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
                          env=os.environ | {"PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "<BatchResult of 6400 fits: 6317 converged, 83 NOT_FINITE>" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_pixels_say_when_the_standard_errors_are_larger():
    import pixels
    fits = pixels.experiment(80)
    assert pixels.as_good_as_can_be(fits)
    fits.result.x[:] += 0.5 * fits.bound.reshape(-1, 3)
    assert not pixels.as_good_as_can_be(fits)


def test_the_pixels_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    import pixels
    pixels.draw(pixels.experiment(40), tmp_path / "new" / "p.png")
    header = (tmp_path / "new" / "p.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(header[16:20], "big") == 1820


def benchmark(tmp_path, *options):
    """The cases that benchmarks/batch.py reports, without numba, which takes seconds to compile."""
    (tmp_path / "numba.py").write_text("raise ImportError('takes seconds to compile')")
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "batch.py", "--json", *options],
                          capture_output=True, text=True, timeout=600, check=False,
                          env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["cases"]


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory is read from Linux's /proc")
def test_a_million_problems_take_less_than_a_gigabyte_besides_input_and_output(need_program, tmp_path):
    need_program("cc")
    cases = benchmark(tmp_path, "--memory", "--sizes=1000000")
    assert len(cases) == 2
    for title, taken in cases.items():
        assert taken["1000000"] < 1 << 30, title


def test_the_benchmark_reports_every_solver(need_program, tmp_path):
    need_program("cc")
    cases = benchmark(tmp_path, "--rounds=1", "--sizes=60")
    assert len(cases) == 3
    for case in cases.values():
        assert {"leastsq_batch", "loop over leastsq"} <= case["60"].keys()
        assert all(rate > 0 for rate in case["60"].values())
