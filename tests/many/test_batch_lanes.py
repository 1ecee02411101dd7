"""Compiled functions of several problems at once: the same fits, and no lane affects another."""
import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

import compiled_problems
import leastsq as package
from leastsq import CFunction, Status, covariance, leastsq, leastsq_batch
from test_batch import M, N, arrays, assert_same, compiled, curve, curves, library, with_hopeless_ones  # noqa: F401

LANES = (4, 8, 16)
SIGNATURE = "int (int64_t, int64_t, int64_t, const double *, double *, void *const *, int32_t *)"
lanes_of_all = pytest.mark.parametrize("lanes", LANES)


@pytest.fixture(autouse=True)
def quiet():
    """Hopeless problems divide by zero."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(scope="module")
def in_lanes(need_program, tmp_path_factory):
    path = tmp_path_factory.mktemp("lanes") / "liblane_problems.so"
    subprocess.run([need_program("cc"), *compiled_problems.FLAGS, f"-I{package.get_include()}",
                    Path(__file__).parents[1] / "programs" / "lane_problems.c", "-o", path, "-lm"], check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.lanes_seen.restype = ctypes.POINTER(ctypes.c_int64)
    return loaded


def both(loaded, lanes):
    return CFunction(loaded.lanes_curve, M, lanes=lanes), CFunction(loaded.lanes_curve_jacobian, M, lanes=lanes)


BOUNDS = ([0, 0, -1], [2, 2, 0.5])
OPTIONS = {"plain": {}, "bounds": dict(bounds=BOUNDS), "fixed": dict(bounds=([1, 0, -1], [1, 2, 0.5])),
           "huber": dict(loss="huber", f_scale=0.15), "both": dict(bounds=BOUNDS, loss="cauchy", f_scale=0.2),
           "diag": dict(diag=[1.0, 2.0, 3.0])}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("derivatives", [False, True])
@lanes_of_all
def test_fits_in_lanes_are_those_of_one_problem_at_a_time(lanes, derivatives, options, threads, in_lanes, compiled):  # noqa: F811
    x0, y = curves(331, seed=7)
    if "bounds" not in OPTIONS[options]:
        with_hopeless_ones(x0, y)
    keywords = dict(maxfev=60, return_fvec=True, **OPTIONS[options])
    func, dfun = both(in_lanes, lanes)
    result = leastsq_batch(func, x0, y, Dfun=dfun if derivatives else None, threads=threads, **keywords)
    wanted = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1] if derivatives else None, **keywords)
    assert_same(result, arrays(wanted))
    if wanted.multipliers is not None:
        np.testing.assert_array_equal(result.multipliers, wanted.multipliers)
    assert [result.message(i) for i in range(len(x0))] == [wanted.message(i) for i in range(len(x0))]


@pytest.mark.parametrize("derivatives", [False, True])
@lanes_of_all
def test_weights_and_growing_steps(lanes, derivatives, in_lanes, compiled):  # noqa: F811
    x0, y = curves(90, seed=8)
    x0[::3, 1] = 1e-14                  # a difference step of these changes no residual
    rng = np.random.default_rng(8)
    weights = rng.uniform(0.5, 2, y.shape) * (rng.random(y.shape) > 0.2)
    y[weights == 0] = np.nan
    func, dfun = both(in_lanes, lanes)
    for options in ({}, dict(bounds=(-1, [2.5, 2, 0.3])), dict(loss="soft_l1", f_scale=0.1)):
        keywords = dict(weights=weights, return_fvec=True, **options)
        result = leastsq_batch(func, x0.clip(-1, 0.3), y, Dfun=dfun if derivatives else None, **keywords)
        wanted = leastsq_batch(compiled[0], x0.clip(-1, 0.3), y, Dfun=compiled[1] if derivatives else None, **keywords)
        assert_same(result, arrays(wanted))


@pytest.mark.parametrize("derivatives", [False, True])
@lanes_of_all
def test_counts_in_lanes(lanes, derivatives, in_lanes, compiled):  # noqa: F811
    x0, y = curves(75, seed=15)
    rng = np.random.default_rng(15)
    x0, nothing = np.abs(x0) + 0.1, np.zeros_like(y)        # the curve without data: an expectation
    counts = np.ma.array(rng.poisson(30 * curve(x0, nothing) + 3), mask=rng.random(y.shape) < 0.1)
    func, dfun = both(in_lanes, lanes)
    for bounds in (None, ([0, 0, 0], [200, 5, 50])):
        keywords = dict(counts=counts, loss="poisson", bounds=bounds, return_fvec=True)
        wanted = leastsq_batch(compiled[0], x0, nothing, Dfun=compiled[1] if derivatives else None, **keywords)
        assert wanted.success.mean() > 0.8
        for threads in (1, 2):
            result = leastsq_batch(func, x0, nothing, Dfun=dfun if derivatives else None, threads=threads, **keywords)
            assert_same(result, arrays(wanted))


STARTS = {"short steps": (1.0, dict(factor=1e-3)), "long steps": (1.0, dict(factor=1e4)), "far": (1e6, {}),
          "a start of zeros": (0.0, {}), "a tiny start": (1e-20, {}),
          "numbers whose squares vanish": (1e-170, dict(diag=[1e-150] * 3)),
          "diag": (5.0, dict(diag=[1e-3, 1.0, 1e3], factor=0.5)), "no time": (2.0, dict(maxfev=3)),
          "a wide gtol": (1.0, dict(gtol=0.1)), "no tolerance": (1.0, dict(ftol=0.0, xtol=0.0, maxfev=400))}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
@pytest.mark.parametrize("name", STARTS)
def test_steps_that_are_not_ordinary(name, scale, in_lanes, compiled):  # noqa: F811
    """Damped and rejected steps, norms that are guarded, columns of zeros, fits without residuals."""
    x0, y = curves(90, seed=20)
    size, options = STARTS[name]
    x0, y = x0 * size, y * scale
    y[::5] = 0
    func, dfun = both(in_lanes, 8)
    for derivatives in (False, True):
        result = leastsq_batch(func, x0, y, Dfun=dfun if derivatives else None, return_fvec=True, **options)
        wanted = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1] if derivatives else None, return_fvec=True, **options)
        assert_same(result, arrays(wanted))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 10, 12])
def test_any_number_of_parameters(n, in_lanes):
    rng = np.random.default_rng(n)
    m = max(n, 13 - n)
    truth = rng.uniform(-2, 2, (60, n))
    t = 0.1 * np.arange(1, m + 1)
    y = (truth**2 @ t**np.arange(n)[:, None]) + 0.01 * rng.standard_normal((60, m))
    x0 = rng.uniform(0.1, 3, (60, n))
    for options in ({}, dict(factor=0.1), dict(diag=np.arange(1.0, n + 1))):
        result = leastsq_batch(CFunction(in_lanes.lanes_powers, m, lanes=8), x0, y, return_fvec=True, **options)
        assert_same(result, arrays(leastsq_batch(CFunction(in_lanes.powers, m), x0, y, return_fvec=True, **options)))


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1])
def test_tails_whose_squares_vanish(width, in_lanes):
    """Columns of Jacobians, and residuals, begin with numbers that MINPACK's guarded norm treats apart."""
    rng = np.random.default_rng(16)
    m, truth = 40, rng.uniform([1, 0.3], [2, 0.7], (70, 2))
    y = truth[:, :1] * np.exp(-((np.linspace(0, 1, m) - truth[:, 1:]) / width)**2)
    y[::3] += 0.01 * rng.standard_normal(y[::3].shape)
    x0, data = truth + width / 4, np.column_stack([np.full(len(y), width), y])
    for options in ({}, dict(factor=0.1)):
        result = leastsq_batch(CFunction(in_lanes.lanes_peak, m, lanes=8), x0, data, return_fvec=True, **options)
        wanted = leastsq_batch(CFunction(in_lanes.peak, m), x0, data, return_fvec=True, **options)
        assert_same(result, arrays(wanted))
        np.testing.assert_allclose(result.x, truth, atol=0.05)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 17, 40])
def test_any_number_of_problems(count, in_lanes, compiled):  # noqa: F811
    x0, y = curves(count, seed=9)
    func, dfun = both(in_lanes, 8)
    for threads in (1, 3):
        wanted = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1])
        assert_same(leastsq_batch(func, x0, y, Dfun=dfun, threads=threads), arrays(wanted))


@pytest.mark.parametrize("derivatives", [False, True])
@lanes_of_all
def test_lanes_are_full_and_aligned_while_problems_are_left(lanes, derivatives, in_lanes):
    count = 2000
    x0, y = curves(count, seed=10)
    _, dfun = both(in_lanes, lanes)
    in_lanes.lanes_seen(1)
    result = leastsq_batch(CFunction(in_lanes.lanes_watched_curve, M, lanes=lanes), x0, y, Dfun=dfun if derivatives else None)
    calls, own, wrong = in_lanes.lanes_seen(0)[:3]
    assert wrong == 0 and own == result.nfev.sum()
    assert own / (calls * lanes) > 0.98 - 0.0015 * lanes


def test_a_lane_that_stops_does_not_affect_the_others(in_lanes, compiled):  # noqa: F811
    x0, y = curves(200, seed=30)
    y = np.abs(y)
    y[::7, 0] *= -1
    others = np.arange(200) % 7 != 0
    func, dfun = both(in_lanes, 8)
    for first, second, code in (("lanes_stop_below_zero", dfun, 7), (None, "lanes_jacobian_stops_below_zero", 8),
                                ("lanes_stop_beyond_one", None, 9), ("lanes_stop_beyond_one", dfun, 9)):
        f = func if first is None else CFunction(getattr(in_lanes, first), M, lanes=8)
        d = CFunction(getattr(in_lanes, second), M, lanes=8) if isinstance(second, str) else second
        wanted = leastsq_batch(compiled[0], x0, y, Dfun=None if d is None else compiled[1], return_fvec=True)
        for threads in (1, 2):
            result = leastsq_batch(f, x0, y, Dfun=d, return_fvec=True, threads=threads)
            for name, values in arrays(wanted).items():
                np.testing.assert_array_equal(getattr(result, name)[others], values[others], name)
            stopped = result.ier == Status.STOPPED
            assert not stopped[others].any() and stopped[~others].all() if code < 9 else stopped[~others].any()
            assert result.message(int(np.flatnonzero(stopped)[0])) == f"A compiled function stopped the fit by returning {code}."


def test_stops_in_differences_count_the_calls_so_far(in_lanes):
    x0, y = curves(20, seed=31)
    y[::3, 0] = -1
    result = leastsq_batch(CFunction(in_lanes.lanes_stop_beyond_one, M, lanes=4), x0, y)
    assert (result.ier[::3] == Status.STOPPED).all() and (result.nfev[::3] == 2).all() and (result.njev[::3] == 0).all()


def test_a_nonzero_return_ends_all_fits_of_the_call(in_lanes):
    x0, y = curves(50)
    result = leastsq_batch(CFunction(in_lanes.lanes_return_six, M, lanes=8), x0, y)
    assert (result.ier == Status.STOPPED).all() and (result.nfev == 1).all()
    assert result.message(3).endswith("returning 6.")


def test_output_that_is_not_written_is_not_finite(in_lanes):
    x0, y = curves(50)
    result = leastsq_batch(CFunction(in_lanes.lanes_short_curve, M, lanes=8), x0, y)
    assert (result.ier == Status.NOT_FINITE).all()


def test_a_nan_in_one_lane_does_not_affect_the_others(in_lanes, compiled):  # noqa: F811
    x0, y = curves(64, seed=12)
    func, dfun = both(in_lanes, 8)
    clean = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1])
    for lane in range(8):
        spoiled = y.copy()
        spoiled[lane::8, 3] = np.nan
        result = leastsq_batch(func, x0, spoiled, Dfun=dfun)
        others = np.arange(64) % 8 != lane
        np.testing.assert_array_equal(result.x[others], clean.x[others])
        assert (result.ier[~others] == Status.NOT_FINITE).all()


def test_long_residuals_and_data_that_the_function_holds(in_lanes):
    """m*n is too large for the factorization in lanes."""
    m = 2000
    rng = np.random.default_rng(13)
    y = 2 / (1 + 0.25 * np.arange(m)) + 0.01 * rng.standard_normal(m)
    x0 = rng.uniform(0.5, 1.5, (9, 3))
    result = leastsq_batch(CFunction(in_lanes.lanes_curve, m, y, lanes=8), x0)
    wanted = leastsq_batch(lambda x: x[:, :1] / (1 + x[:, 1:2] * (0.25 * np.arange(m))) + x[:, 2:] - y, x0)
    assert_same(result, arrays(wanted))


@lanes_of_all
def test_a_batch_stops_while_all_lanes_are_busy(lanes, in_lanes):
    """Where `progress` raises, fits do not go on to their ends."""
    x0, y = curves(2 * lanes, seed=17)
    func = CFunction(in_lanes.lanes_sleepy_curve, M, lanes=lanes)
    calls = []
    for progress in (None, lambda done, total: 1 / 0):
        in_lanes.lanes_seen(1)
        try:
            leastsq_batch(func, x0, y, threads=1, progress=progress, ftol=0.0, xtol=0.0)
        except ZeroDivisionError:
            pass
        calls.append(in_lanes.lanes_seen(0)[0])
    assert calls[1] < calls[0] / 2


def test_tools_accept_one_fit_of_a_batch_in_lanes(in_lanes):
    x0, y = curves(10)
    func, dfun = both(in_lanes, 8)
    result = leastsq_batch(func, x0, y, Dfun=dfun)
    found = covariance(result.fit(3))
    np.testing.assert_allclose(found.stderr, result.stderr[3], rtol=1e-5)
    np.testing.assert_array_equal(result.fit(3)[2]["fvec"], curve(result.x[3], y[3]))


# ------------------------------------------------------------------- what is refused


def test_lanes_are_for_batches(in_lanes):
    func, dfun = both(in_lanes, 8)
    assert (func.lanes, CFunction(in_lanes.lanes_curve, M).lanes) == (8, None) and repr(func).endswith("lanes=8)")
    with pytest.raises(TypeError, match="leastsq: func must be a CFunction without lanes, which are for leastsq_batch"):
        leastsq(func, np.ones(N))
    with pytest.raises(TypeError, match="leastsq: Dfun must be a CFunction without lanes"):
        leastsq(CFunction(in_lanes.lanes_curve, M), np.ones(N), Dfun=dfun)
    x0, y = curves(3)
    with pytest.raises(ValueError, match="Dfun must have the lanes of func, 8, got 4"):
        leastsq_batch(func, x0, y, Dfun=both(in_lanes, 4)[1])
    with pytest.raises(ValueError, match="Dfun must have the lanes of func, 8, got None"):
        leastsq_batch(func, x0, y, Dfun=CFunction(in_lanes.lanes_curve_jacobian, M))
    for strategy in ("fast", "robust"):
        with pytest.raises(ValueError, match=f"leastsq_batch: strategy must be 'minpack' with lanes, got '{strategy}' and a "
                                             "CFunction with 8 of them"):
            leastsq_batch(func, x0, y, strategy=strategy)


@pytest.mark.parametrize(("lanes", "error", "text"), [
    (0, ValueError, "lanes must be one of 4, 8, 16 or None, got 0"), (5, ValueError, "got 5"), (True, TypeError, "got bool"),
    (8.0, TypeError, "lanes must be an integer or None, got float")])
def test_other_numbers_of_lanes_are_refused(lanes, error, text, in_lanes):
    with pytest.raises(error, match=text):
        CFunction(in_lanes.lanes_curve, M, lanes=lanes)


def test_signatures_of_lanes_are_checked(in_lanes):
    pointer, long = ctypes.POINTER(ctypes.c_double), ctypes.c_int64
    right = ctypes.CFUNCTYPE(ctypes.c_int, long, long, long, pointer, pointer, ctypes.POINTER(ctypes.c_void_p),
                             ctypes.POINTER(ctypes.c_int32))
    wrong = ctypes.CFUNCTYPE(ctypes.c_int, long, long, pointer, pointer, ctypes.c_void_p)
    CFunction(right(lambda *_: 0), 3, lanes=4)
    with pytest.raises(TypeError, match="must have the signature for lanes 'int .int64_t, int64_t, int64_t"):
        CFunction(wrong(lambda *_: 0), 3, lanes=4)
    with pytest.raises(TypeError, match="must have the signature 'int .int64_t, int64_t, const double"):
        CFunction(right(lambda *_: 0), 3)


def test_cffi_and_capsules_of_lanes(in_lanes):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("int lanes_curve(int64_t, int64_t, int64_t, const double *, double *, void *const *, int32_t *);")
    loaded = ffi.dlopen(in_lanes._name)
    x0, y = curves(20)
    wanted = leastsq_batch(both(in_lanes, 4)[0], x0, y)
    assert_same(leastsq_batch(CFunction(ffi.addressof(loaded, "lanes_curve"), M, lanes=4), x0, y), arrays(wanted))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    name = SIGNATURE.encode()
    capsule = new(ctypes.cast(in_lanes.lanes_curve, ctypes.c_void_p), name, None)
    assert_same(leastsq_batch(CFunction(capsule, M, lanes=4), x0, y), arrays(wanted))
    assert f'"{SIGNATURE}"' in (Path(package.get_include()) / "leastsq.h").read_text()


# ----------------------------------------------------------------------------- numba


def point(i, x, y):
    return x[0] / (1 + x[1] * (0.25 * i)) + x[2] - y[i]


def slopes(i, x, row, y):
    t = 0.25 * i
    below = 1 + x[1] * t
    row[0] = 1 / below
    row[1] = -x[0] * t / (below * below)
    row[2] = 1


def test_numba_makes_lanes_of_a_function_of_one_point(compiled):  # noqa: F811
    pytest.importorskip("numba")
    x0, y = curves(50, seed=14)
    func = CFunction.from_numba(point, M, y[0], lanes=8)
    dfun = CFunction.from_numba(slopes, M, y[0], jacobian=True, lanes=8)
    for derivatives in (False, True):
        result = leastsq_batch(func, x0, y, Dfun=dfun if derivatives else None)
        wanted = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1] if derivatives else None)
        np.testing.assert_allclose(result.x, wanted.x, rtol=1e-6)
        assert result.success.all()


def test_numba_without_data_and_what_it_refuses():
    pytest.importorskip("numba")
    func = CFunction.from_numba(lambda i, x: x[i] - i, 3, lanes=4)

    def unit(i, x, row):
        for j in range(row.size):
            row[j] = 1.0 if i == j else 0.0
    result = leastsq_batch(func, np.full((7, 3), 5.0), Dfun=CFunction.from_numba(unit, 3, jacobian=True, lanes=4))
    np.testing.assert_allclose(result.x, np.tile([0.0, 1.0, 2.0], (7, 1)), atol=1e-9)
    with pytest.raises(TypeError, match=r"must take \(i, x\) without data and with lanes, got \(x, out, data\)"):
        CFunction.from_numba(lambda x, out, data: 0, 3, lanes=4)
    with pytest.raises(TypeError, match=r"must take \(i, x, row, data\) with data and with lanes"):
        CFunction.from_numba(lambda i, x, data: 0.0, 3, np.ones(3), jacobian=True, lanes=4)
    with pytest.raises(TypeError, match="does not compile in numba's nopython mode as a function of one point"):
        CFunction.from_numba(lambda i, x: "text", 3, lanes=4)

    def raises(i, x):
        if x[0] > 4:
            raise ValueError("mine")
        return x[i]
    stopped = leastsq_batch(CFunction.from_numba(raises, 3, lanes=4), np.full((2, 3), 5.0))
    assert (stopped.ier == Status.STOPPED).all()
