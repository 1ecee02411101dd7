"""leastsq_batch with bounds and losses gives the fits of leastsq, whatever happens to some of them."""
import tracemalloc

import numpy as np
import pytest

from leastsq import CFunction, Status, leastsq, leastsq_batch
from leastsq._problem.losses import Loss
from test_batch import (METHODS, M, N, Recorder, arrays, assert_same, compiled, curve, curve_jacobian,
                        curves, library, methods, quiet, with_hopeless_ones)

assert compiled and library and quiet       # fixtures

LOSSES = ["soft_l1", "huber", "cauchy", "arctan"]


def log_loss(z):
    """The cauchy loss, for z of any shape, with the bits of NumPy's log1p."""
    return np.array([np.log1p(z), 1 / (1 + z), -1 / (1 + z)**2])


def loss_id(loss):
    """A test id without an address in it: all processes of pytest-xdist must collect the same ids."""
    return loss if isinstance(loss, str) else loss.__name__


def rational_loss(z):
    """Only IEEE operations, so that one problem has the same bits as many."""
    return np.array([z / (1 + z), 1 / (1 + z)**2, -2 / (1 + z)**3])


def random_bounds(x0, seed):
    """For each parameter and side a bound far away, near, at the start, or none."""
    rng = np.random.default_rng(seed)
    down, up = rng.choice([0, 0.3, 2, np.inf, np.inf], (2, *x0.shape))
    down[::10] = up[::10] = np.inf          # no bounds at all
    return x0 - down, x0 + up


def spoiled_data(x0, y, seed=1):
    """One point in ten is an outlier, far off in some problems."""
    rng = np.random.default_rng(seed)
    size = rng.choice([1, 3, 100], (len(x0), 1))
    return y + size * rng.standard_normal(y.shape) * (rng.random(y.shape) < 0.1)


def loop(func, x0, y, bounds=None, **keywords):
    """The results of leastsq for each problem alone, as arrays, and its messages."""
    fits = []
    for i, (start, row) in enumerate(zip(x0, y, strict=True)):
        if bounds is not None:
            keywords["bounds"] = [side[i] for side in bounds]
        fits.append(leastsq(func, start, (row,), full_output=True, **keywords))
    wanted = {"x": np.array([f[0] for f in fits]), "ier": np.array([f[4] for f in fits]),
              "nfev": np.array([f[2]["nfev"] for f in fits]),
              "fvec": np.array([f[2]["fvec"] for f in fits]),
              "cov_x": np.array([np.full((N, N), np.nan) if f[1] is None else f[1] for f in fits])}
    if "njev" in fits[0][2]:
        wanted["njev"] = np.array([f[2]["njev"] for f in fits])
    if bounds is not None:
        wanted["active_mask"] = np.array([f[2]["active_mask"] for f in fits])
    return wanted, [f[3] for f in fits]


# ---------------------------------------------------------------------------
# bounds


@methods
def test_bounded_problems_with_hopeless_ones_repeat_leastsq_bit_for_bit(method):
    x0, y = curves(4000, seed=40)
    low, high = random_bounds(x0, 40)
    spoiled = with_hopeless_ones(x0, y)
    low, high = np.fmin(low, x0), np.fmax(high, x0)
    result = leastsq_batch(curve, x0, y, bounds=(low, high), maxfev=100, return_fvec=True,
                           **METHODS[method])
    # leastsq raises for a start that is nan, leastsq_batch does not
    nan, limited = np.isnan(x0).any(1), (np.isfinite(low) | np.isfinite(high)).any(1)
    assert (result.ier[nan & ~limited] == Status.NOT_FINITE).all()
    lost = nan & limited
    assert lost.sum() >= 10 and (result.ier[lost] == Status.IMPROPER).all()
    assert not result.nfev[lost].any() and np.isnan(result.fvec[lost]).all()
    assert np.isnan(result.fnorm[lost]).all() and np.isnan(result.cov_x[lost]).all()
    np.testing.assert_array_equal(result.x[lost], x0[lost])
    kept = ~nan
    keywords = {"maxfev": 100}
    if method != "lmdif":
        keywords |= METHODS[method]
    wanted, messages = loop(curve, x0[kept], y[kept], (low[kept], high[kept]), **keywords)
    for name, values in wanted.items():
        np.testing.assert_array_equal(getattr(result, name)[kept], values, name)
    for i, text in zip(np.flatnonzero(kept)[::7], messages[::7], strict=True):
        assert result.message(i) == text or result.ier[i] == Status.NOT_FINITE
    assert {-1, 0, 1} == set(np.unique(result.active_mask))
    assert {5, 9} <= set(result.ier[spoiled])
    others = np.setdiff1d(np.arange(4000), spoiled)
    assert result.success[others].mean() > 0.95


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_compiled_bounded_problems_repeat_those_of_numpy(method, threads, compiled):
    func, dfun = compiled[0], None if method == "lmdif" else compiled[1]
    x0, y = curves(2000, seed=41)
    low, high = random_bounds(x0, 41)
    with_hopeless_ones(x0, y)
    keywords = dict(bounds=(np.fmin(low, x0), np.fmax(high, x0)), maxfev=60, return_fvec=True)
    result = leastsq_batch(func, x0, y, Dfun=dfun, threads=threads, **keywords)
    python = leastsq_batch(curve, x0, y, **METHODS[method], **keywords)
    assert_same(result, arrays(python) | {"active_mask": python.active_mask})
    assert [result.message(i) for i in range(0, 2000, 50)] == [python.message(i) for i in range(0, 2000, 50)]


@pytest.mark.parametrize("bounds", [(-0.2, 2.5), ([0, 0.9, -1], [np.inf, 1.2, np.inf]), (-np.inf, [9, 1, 9]),
                                    ([-9, 1, -9], [9, 1, 9])], ids=str)
@pytest.mark.parametrize("kind", ["python", "compiled"])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_bounds_may_be_shared(method, kind, bounds, compiled):
    x0, y = curves(150, seed=42)
    func, dfun = (curve, curve_jacobian) if kind == "python" else compiled
    dfun = dfun if method == "lmder" else None
    result = leastsq_batch(func, x0, y, Dfun=dfun, bounds=bounds, return_fvec=True)
    wanted, _ = loop(curve, x0, y, [np.broadcast_to(side, x0.shape) for side in bounds],
                     **({"Dfun": curve_jacobian} if dfun else {}))
    assert_same(result, wanted)
    assert result.active_mask.any() and result.active_mask.dtype == np.int8


def test_one_side_may_be_shared_and_the_other_differ_between_problems():
    x0, y = curves(60, seed=43)
    low, high = random_bounds(x0, 43)
    result = leastsq_batch(curve, x0, y, bounds=(-100, high))
    assert_same(result, {"x": loop(curve, x0, y, (np.full_like(x0, -100), high))[0]["x"]})

    class Bounds:
        lb, ub = low, [np.inf] * N

    result = leastsq_batch(curve, x0, y, bounds=Bounds)
    assert_same(result, {"x": loop(curve, x0, y, (low, np.full_like(x0, np.inf)))[0]["x"]})


@pytest.mark.parametrize("slab", [1, 7, 64, 300])
@pytest.mark.parametrize("loss", ["linear", "soft_l1", rational_loss], ids=loss_id)
@methods
def test_the_size_of_the_slab_changes_nothing_with_options_either(method, loss, slab):
    x0, y = curves(200, seed=44)
    keywords = dict(bounds=random_bounds(x0, 44), loss=loss, f_scale=0.1, maxfev=60, return_fvec=True,
                    **METHODS[method])
    with_hopeless_ones(np.full_like(x0, 1), y)
    assert_same(leastsq_batch(curve, x0, y, slab=slab, **keywords),
                arrays(leastsq_batch(curve, x0, y, **keywords)))


@methods
def test_nothing_is_evaluated_outside_the_bounds_nor_more_often_than_counted(method):
    x0, y = curves(300, seed=45)
    low, high = random_bounds(x0, 45)
    func = Recorder(curve)
    keywords = dict(METHODS[method])
    if method != "lmdif":
        keywords["Dfun"] = Recorder(keywords["Dfun"])
    result = leastsq_batch(func, x0, (y, np.arange(300)), bounds=(low, high), slab=50, **keywords)
    count = np.bincount(np.concatenate([index for *_, index in func.calls]), minlength=300)
    np.testing.assert_array_equal(count, result.nfev)
    recorded = func.calls if method == "lmdif" else func.calls + keywords["Dfun"].calls
    for x, rows, index in recorded:
        assert ((low[index] <= x) & (x <= high[index])).all()
        np.testing.assert_array_equal(rows, y[index])
    assert ((low <= result.x) & (result.x <= high)).all()


def test_parameters_fixed_in_all_problems_are_not_moved_for_differences():
    x0, y = curves(40, seed=46)
    func = Recorder(curve)
    leastsq_batch(func, x0, y, bounds=([-9, 1, -9], [9, 1, 9]))
    assert all((x[:, 1] == 1).all() for x, _ in func.calls)
    free = Recorder(curve)
    leastsq_batch(free, x0, y, bounds=(-9, 9))
    assert len(func.calls) < len(free.calls)


def test_infinite_bounds_change_nothing(compiled):
    x0, y = curves(100, seed=47)
    for func in (curve, compiled[0]):
        plain = leastsq_batch(func, x0, y)
        result = leastsq_batch(func, x0, y, bounds=(-np.inf, np.inf))
        assert_same(result, arrays(plain))
        assert plain.active_mask is None and result.message(3) == plain.message(3)


def test_a_start_that_is_nan_is_named_in_the_message():
    x0, y = curves(80, seed=48)
    x0[[3, 70], 1] = np.nan
    result = leastsq_batch(curve, x0, y, bounds=(-9, 9))
    assert np.flatnonzero(result.ier == Status.IMPROPER).tolist() == [3, 70]
    assert result.message(3) == "x0 = [ 1. nan  0.] is not within the bounds."
    assert result.success.sum() == 78


def test_results_of_bounded_problems_may_be_copies_of_bounds_changed_later():
    x0, y = curves(20, seed=49)
    low, high = np.full_like(x0, -9.0), np.full_like(x0, 1.0)
    result = leastsq_batch(curve, x0, y, bounds=(low, high))
    messages = [result.message(i) for i in range(20)]
    low[:] = high[:] = 0
    assert [result.message(i) for i in range(20)] == messages
    assert any("at the upper bound" in text for text in messages)


# ---------------------------------------------------------------------------
# losses


@pytest.mark.parametrize("loss", [*LOSSES, rational_loss], ids=loss_id)
@methods
def test_robust_problems_with_hopeless_ones_repeat_leastsq_bit_for_bit(method, loss):
    x0, y = curves(800, seed=50)
    y = spoiled_data(x0, y)
    with_hopeless_ones(x0, y)
    keywords = dict(loss=loss, f_scale=0.15, maxfev=60, **METHODS[method])
    result = leastsq_batch(curve, x0, y, return_fvec=True, **keywords)
    wanted, messages = loop(curve, x0, y, **keywords)
    assert_same(result, wanted)
    for i in range(0, 800, 9):              # a batch says less about what is not finite
        assert result.message(i) == messages[i] or result.ier[i] == Status.NOT_FINITE
    assert result.success.mean() > 0.3      # 60 evaluations are few for "arctan"
    tame = np.abs(result.fvec).max(1) < 1e6
    if isinstance(loss, str):
        cost = Loss(loss, 0.15).values(result.fvec[tame])[0].sum(1)
        np.testing.assert_allclose(result.fnorm[tame]**2, cost, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_compiled_robust_problems_repeat_those_of_numpy(method, loss, threads, compiled):
    func, dfun = compiled[0], None if method == "lmdif" else compiled[1]
    x0, y = curves(700, seed=51)
    y = spoiled_data(x0, y)
    with_hopeless_ones(x0, y)
    keywords = dict(loss=loss, f_scale=0.15, maxfev=60, return_fvec=True)
    result = leastsq_batch(func, x0, y, Dfun=dfun, threads=threads, **keywords)
    assert_same(result, arrays(leastsq_batch(curve, x0, y, **METHODS[method], **keywords)))


@pytest.mark.parametrize("options", [dict(bounds=([0, 0, -1], [2, 2, 0.5])), dict(loss="huber", f_scale=0.15),
                                     dict(bounds=([0, 0, -1], [2, 2, 0.5]), loss="cauchy", f_scale=0.2)],
                         ids=["bounds", "loss", "both"])
@pytest.mark.parametrize("derivatives", [False, True])
def test_compiled_problems_repeat_leastsq_of_the_compiled_function(derivatives, options, library, compiled):
    x0, y = curves(100, seed=52)
    y = spoiled_data(x0, y)
    dfun = compiled[1] if derivatives else None
    result = leastsq_batch(compiled[0], x0, y, Dfun=dfun, return_fvec=True, **options)
    fits = [leastsq(CFunction(library.curve, M, row), start, Dfun=dfun, full_output=True, **options)
            for start, row in zip(x0, y, strict=True)]
    assert_same(result, {"x": np.array([f[0] for f in fits]), "ier": np.array([f[4] for f in fits]),
                         "nfev": np.array([f[2]["nfev"] for f in fits]),
                         "cov_x": np.array([np.full((N, N), np.nan) if f[1] is None else f[1] for f in fits])})
    assert [result.message(i) for i in range(100)] == [f[3] for f in fits]


@pytest.mark.parametrize("method", ["lmdif", "lmder", "compiled lmdif", "compiled lmder"])
@pytest.mark.parametrize("loss", ["soft_l1", rational_loss], ids=loss_id)
def test_weights_bounds_and_loss_go_together(loss, method, compiled):
    x0, y = curves(150, seed=53)
    y = spoiled_data(x0, y)
    rng = np.random.default_rng(53)
    weights = rng.uniform(0.5, 2, y.shape) * (rng.random(y.shape) > 0.2)
    y[weights == 0] = np.nan
    func, dfun = compiled if "compiled" in method else (curve, curve_jacobian)
    dfun = dfun if "lmder" in method else None
    options = dict(bounds=(0, [2.5, 2, 0.3]), loss=loss, f_scale=0.15)
    if "compiled" in method and callable(loss):
        with pytest.raises(TypeError, match="loss must be one of the names with a CFunction, .* got function"):
            leastsq_batch(func, x0, y, weights=weights, **options)
        return
    result = leastsq_batch(func, x0, y, Dfun=dfun, weights=weights, return_fvec=True, **options)
    data = np.stack([y, weights], axis=1)

    def weighted(x, data):
        return np.where(data[1] == 0, 0.0, curve(x, data[0]) * data[1])

    def jacobian(x, data):
        return curve_jacobian(x, data[0]) * data[1][:, None]

    keywords = options | ({"Dfun": jacobian} if dfun else {})
    keywords["bounds"] = [np.broadcast_to(side, N) for side in options["bounds"]]
    fits = [leastsq(weighted, x0[i], (data[i],), full_output=True, **keywords) for i in range(150)]
    assert_same(result, {"x": np.array([f[0] for f in fits]), "ier": np.array([f[4] for f in fits]),
                         "fvec": np.array([f[2]["fvec"] for f in fits])})
    assert result.active_mask.any()


def test_a_callable_loss_gives_what_the_named_one_does():
    x0, y = curves(100, seed=54)
    y = spoiled_data(x0, y)
    named = leastsq_batch(curve, x0, y, loss="cauchy", f_scale=0.2)
    called = leastsq_batch(curve, x0, y, loss=log_loss, f_scale=0.2)
    both = named.success & called.success
    assert both.mean() > 0.9
    assert np.median(np.abs(named.x - called.x)[both]) < 1e-7


def test_linear_means_no_loss_whatever_f_scale_is(compiled):
    x0, y = curves(50, seed=55)
    for func in (curve, compiled[0]):
        assert_same(leastsq_batch(func, x0, y, loss="linear", f_scale=3.0), arrays(leastsq_batch(func, x0, y)))


def test_robust_fits_are_near_the_truth():
    rng = np.random.default_rng(56)
    truth = rng.uniform([1, 0.5, -1], [3, 3, 1], (300, N))
    y = curve(truth, 0) + 0.001 * rng.standard_normal((300, M))
    y[np.arange(300), rng.integers(M, size=300)] += 0.5
    x0 = truth * 1.1
    plain = np.abs(leastsq_batch(curve, x0, y).x - truth)
    robust = np.abs(leastsq_batch(curve, x0, y, loss="soft_l1", f_scale=0.003).x - truth)
    assert np.median(robust) < 0.2 * np.median(plain)


# ---------------------------------------------------------------------------
# bad input


@pytest.mark.parametrize("bounds, message", [
    (3, "bounds must contain 2 elements, the lower and the upper bounds, got int"),
    ((0, 1, 2), "bounds must contain 2 elements"),
    (([0, 0], 1), r"the lower bounds must have shape \(\), \(3,\) or \(4, 3\), got \(2,\)"),
    ((-9, np.ones((4, 1))), r"the upper bounds must have shape .* got \(4, 1\)"),
    ((-9, np.ones((3, 4))), r"the upper bounds must have shape .* got \(3, 4\)"),
    (([0, np.nan, 0], 9), r"bounds must not be nan, got \[nan, 9\.0\] for x\[1\]$"),
    ((np.where(np.eye(4, N, -1) > 0, np.nan, -9), 9),
     r"bounds must not be nan, got \[nan, 9\.0\] for x\[0\] of problem 1, and so in 2 more$"),
    ((-9, [9, -10, 9]), r"lower bound must be at most the upper bound, got \[-9\.0, -10\.0\] for x\[1\]$"),
    ((np.where(np.eye(4, N, -3) > 0, 10, -9), 9),
     r"each lower bound must be at most the upper bound, got \[10\.0, 9\.0\] for x\[0\] of problem 3$"),
    ((2, 9), r"x0 is infeasible: it must be within its bounds, got x\[0\] = 1\.0 outside \[2\.0, 9\.0\] of "
             r"problem 0, and so in 3 more"),
    ((-9, np.where(np.eye(4, N, -1) > 0, -1, 9)),
     r"x0 is infeasible.* got x\[0\] = 1\.0 outside \[-9\.0, -1\.0\] of problem 1, and so in 2 more"),
], ids=range(11))
@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_bad_bounds_are_named(kind, bounds, message, compiled):
    x0, y = curves(4)
    calls = []
    func = compiled[0] if kind == "compiled" else lambda x, y: calls.append(1)
    with pytest.raises(ValueError, match=message):
        leastsq_batch(func, x0, y, bounds=bounds)
    assert not calls


def test_bounds_must_be_real():
    x0, y = curves(4)
    with pytest.raises(TypeError, match="the upper bounds must be real numbers .* complex128"):
        leastsq_batch(curve, x0, y, bounds=(0, 1j))


@pytest.mark.parametrize("keywords, error, message", [
    (dict(loss="tukey"), ValueError, "`loss` must be one of .* got 'tukey'"),
    (dict(loss=None), ValueError, "`loss` must be one of .* got None"),
    (dict(loss="huber", f_scale=0), ValueError, "`f_scale` must be positive and finite, got 0"),
    (dict(loss="huber", f_scale=np.nan), ValueError, "`f_scale` must be positive and finite, got nan"),
    (dict(loss="huber", f_scale=np.ones(4)), TypeError, "`f_scale` must be a real number, got ndarray"),
    (dict(f_scale="wide"), TypeError, "`f_scale` must be a real number, got str"),
], ids=lambda value: ",".join(value) if isinstance(value, dict) else "")
@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_bad_losses_are_named(kind, keywords, error, message, compiled):
    x0, y = curves(4)
    with pytest.raises(error, match=message):
        leastsq_batch(curve if kind == "python" else compiled[0], x0, y, **keywords)


@pytest.mark.parametrize("returned, error, message", [
    (lambda z: z, ValueError, r"array that loss returns must have shape \(3, 4, 8\) for z of shape \(4, 8\), "
                              r"got \(4, 8\)"),
    (lambda z: np.zeros((3, z.size)), ValueError, r"got \(3, 32\)"),
    (lambda z: np.zeros((3, *z.shape), complex), TypeError, "the array that loss returns must be real .* complex128"),
    (lambda z: None, TypeError, "the array that loss returns .* NoneType"),
], ids=range(4))
def test_the_wrong_result_of_a_loss_is_described(returned, error, message):
    x0, y = curves(4)
    with pytest.raises(error, match=message):
        leastsq_batch(curve, x0, y, loss=returned)


@pytest.mark.parametrize("call", [1, 2, 3, 6])
def test_an_exception_of_a_loss_arrives_with_the_problems_that_it_concerns(call):
    x0, y = curves(100)
    raised, calls = ZeroDivisionError("sic"), []

    def loss(z):
        calls.append(1)
        if len(calls) == call:
            raise raised
        return rational_loss(z)

    with pytest.raises(ZeroDivisionError) as caught:
        leastsq_batch(curve, x0, y, loss=loss, slab=50)
    assert caught.value is raised
    (note,) = raised.__notes__
    assert "raised by loss, called for 50 of 100 problems, 0 to 49" in note or call > 2


# ---------------------------------------------------------------------------
# memory, and private functions


@pytest.mark.parametrize("options", [dict(bounds=True), dict(loss=rational_loss), dict(bounds=True, loss="huber")],
                         ids=["bounds", "callable loss", "both"])
def test_options_take_as_much_memory_as_documented(options):
    x0, y = curves(20_000)
    if "bounds" in options:
        options = options | {"bounds": (np.full_like(x0, -9), np.full_like(x0, 9))}
    slab, func = 2000, 2000 * 8 * M * 2 * N
    peaks = []
    for keywords in ({}, options):
        leastsq_batch(curve, x0[:1000], y[:1000], slab=10, **(keywords | (
            {"bounds": (-9, 9)} if "bounds" in keywords else {})))
        tracemalloc.start()
        try:
            result = leastsq_batch(curve, x0, y, slab=slab, maxfev=40, **keywords)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        output = sum(a.nbytes for a in arrays(result).values()) + x0.nbytes
        if "bounds" in keywords:
            output += 3 * x0.nbytes + result.active_mask.nbytes
        peaks.append(peak - output)
    documented = 8 * slab * (M * (N + 2) + N**2 + 12 * N + 44) + slab * y[0].nbytes
    if "bounds" in options:
        documented += 8 * slab * (N**2 + 13 * N)
    if "loss" in options:
        documented += 40 * slab * M
    assert peaks[1] < documented + func + 100_000


def test_the_extension_refuses_vectors_and_losses_that_do_not_fit():
    from leastsq import _core
    from leastsq._many.lock_step import Slab
    slots, f = np.arange(2), np.ones((2, M))
    slab = Slab(4, M, N)
    slab.state["n"] = N
    slab.state["bounded"][1] = 1            # without arrays for bounds
    with pytest.raises(ValueError, match="not set up"):
        _core.batch_start(slab.arrays, slots)
    slab = Slab(4, M, N, bounded=True)
    slab.state["n"] = N
    wrong = (slab.state, np.ascontiguousarray(slab.w[:, :-1]), *slab.arrays[2:])
    with pytest.raises(ValueError, match="vectors of lm_core"):
        _core.batch_start(wrong, slots)
    _core.batch_start(slab.arrays, slots)
    for bad, error in ((7, TypeError), ((7, 1.0), ValueError), (("huber", 1.0), TypeError), ((1,), TypeError),
                       ((np.ones((2, 2, M)), 1.0), ValueError), ((np.ones((3, 2, M), int), 1.0), ValueError)):
        with pytest.raises(error):
            _core.batch_tell_norm(slab.arrays, slots, f, None, bad)
        with pytest.raises(error):
            _core.batch_tell_model(slab.arrays, slots, np.ones((2, N, M)), None, bad, slots)
    for bad in (0, np.zeros(3, np.int64), np.zeros(2)):
        with pytest.raises(ValueError, match="batch: cost "):
            _core.batch_tell_model(slab.arrays, slots, np.ones((2, N, M)), None, None, bad)


# ---------------------------------------------------------------------------
# strategies


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("loss", ["linear", "cauchy"])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
@pytest.mark.parametrize("strategy", ["fast", "robust"])
def test_strategies_go_through_the_points_of_leastsq_in_every_kind_of_batch(strategy, method, loss, bounded, compiled):
    """From starts far off, some hopeless, between bounds that some problems do not have."""
    rng = np.random.default_rng(44)
    x0, y = curves(400, seed=44)
    x0 += rng.uniform(-0.5, 9, x0.shape)
    with_hopeless_ones(x0, y)
    kept = np.isfinite(x0).all(1)
    x0, y = x0[kept], y[kept]
    options = {"maxfev": 60, "loss": loss, "f_scale": 0.1, "strategy": strategy}
    bounds = None
    if bounded:
        low, high = random_bounds(x0, 44)
        bounds = np.fmin(low, x0), np.fmax(high, x0)
    func, dfun = compiled[0], None if method == "lmdif" else compiled[1]
    keywords = {} if method == "lmdif" else METHODS[method]
    python = leastsq_batch(curve, x0, y, bounds=bounds, return_fvec=True, slab=33, **options, **keywords)
    assert_same(leastsq_batch(func, x0, y, Dfun=dfun, bounds=bounds, threads=2, return_fvec=True, **options), arrays(python))
    wanted, _ = loop(curve, x0, y, bounds, **options, **keywords)
    for name in ("x", "ier", "nfev", "fvec"):
        np.testing.assert_array_equal(getattr(python, name), wanted[name], name)
    assert python.success.mean() > 0.3
