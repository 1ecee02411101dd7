"""strict=True finds faulty callbacks, and is silent about correct ones."""
import multiprocessing
import pickle
import re
import warnings

import numpy as np
import pytest

import leastsq
from leastsq import StrictError, StrictWarning
from leastsq._fit.ends import Ends
from leastsq._fit.strict import Watch
from leastsq._problem.bounds import Bounds
from leastsq._problem.derivatives import Differences
from leastsq._problem.words import LEASTSQ

T = np.linspace(0, 2, 10)
Y = 2*np.exp(-1.3*T) + 0.01*np.cos(20*T)
ANSWER = [2.00562545, 1.30559643]


def good(x):
    return x[0]*np.exp(-x[1]*T) - Y


def jacobian(x):
    return np.column_stack([np.exp(-x[1]*T), -x[0]*T*np.exp(-x[1]*T)])


def fit(func, x0=(1.0, 1.0), **options):
    return leastsq.leastsq(func, x0, strict=True, **options)


def warned(func, x0=(1.0, 1.0), **options):
    """The messages of the warnings, which must point to this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(func, x0, **options)
    assert {w.category for w in caught} <= {StrictWarning}
    assert {w.filename for w in caught} <= {__file__}
    return [str(w.message) for w in caught]


# ------------------------------------------------------------------- nothing to report

@pytest.mark.parametrize("options", [{}, {"Dfun": jacobian}, {"Dfun": lambda x: jacobian(x).T, "col_deriv": True}])
def test_good_functions_pass_with_the_same_result(options):
    x, ier = fit(good, **options)
    assert x == pytest.approx(ANSWER, rel=1e-6)
    assert np.array_equal(x, leastsq.leastsq(good, (1.0, 1.0), **options)[0])


def test_workspaces_lists_scalars_and_small_types_pass():
    work = np.empty(T.size)

    def with_workspace(x):
        np.exp(-x[1]*T, out=work)
        return x[0]*work - Y
    assert fit(with_workspace)[0] == pytest.approx(ANSWER, rel=1e-6)
    assert fit(lambda x: list(good(x)))[0] == pytest.approx(ANSWER, rel=1e-6)
    assert fit(lambda x: x[0] - 2.0, [1.0])[0] == pytest.approx([2.0])
    assert fit(lambda x: good(x).astype(np.float32))[0] == pytest.approx(ANSWER, rel=1e-3)
    assert fit(lambda x, a: a*good(x), args=2.0)[0] == pytest.approx(ANSWER, rel=1e-6)


def test_the_users_exceptions_and_the_solvers_errors_stay_unchanged():
    class Mine(Exception):
        pass

    def fails(x):
        raise Mine
    with pytest.raises(Mine):
        fit(fails)
    with pytest.raises(TypeError, match="func"):
        fit("no function")
    with pytest.raises(TypeError, match="complex"):
        fit(lambda x: good(x)*1j)
    with pytest.raises(TypeError, match="N="):
        fit(lambda x: x[:1])


# ------------------------------------------------------------------------ harmless

def test_a_reused_output_buffer_is_reported_once():
    buffer = np.empty(T.size)

    def reuse(x):
        buffer[:] = good(x)
        return buffer
    (text,) = warned(reuse)
    assert "returns the same array at every call" in text and "return a new array" in text


def test_a_result_changed_later_is_reported():
    kept = []

    def later(x):
        kept.append(good(x))
        if len(kept) > 1:
            kept[-2][:] = 0.0
        return kept[-1]
    assert any("changes an array that it returned earlier" in text for text in warned(later))


def test_writes_into_x_are_reported():
    def abs_in_place(x):
        np.abs(x, out=x)
        x[0] += 1.0
        return good(x)
    assert any("func writes into x (x[0] was 1.0, now 2.0)" in text for text in warned(abs_in_place))

    def zeroed(x):
        J = jacobian(x)
        x[:] = 0.0
        return J
    assert any("Dfun writes into x" in text for text in warned(good, Dfun=zeroed))


def test_an_x_kept_and_changed_later_is_reported():
    kept = []

    def keeper(x):
        kept.append(x)
        if len(kept) > 3:
            kept[-2][0] = 7.0
        return good(x)
    assert any("keeps the x of one call and changes it later" in text for text in warned(keeper))


def test_a_change_of_dtype_is_reported():
    messages = warned(lambda x: good(x).astype(np.float32 if x[0] > 1.5 else np.float64))
    assert any("float32 after float64" in text for text in messages)


def test_the_first_nan_is_located_with_the_parameters_that_moved():
    (text,) = warned(lambda x: np.where((np.arange(T.size) == 4) & (x[1] > 1.4), np.nan, good(x)))
    assert "1 of 10, the first is func(x)[4] = nan" in text
    assert "before moving x[0] from 1 to" in text and "x[1] from 1 to" in text


def test_a_parameter_without_effect_is_reported():
    (text,) = warned(lambda x: int(x[0] + 0.5)*np.exp(-x[1]*T) - Y)
    assert "step in x[0], from 1.0 to 1.0000000149011612, changes no residual" in text


@pytest.mark.parametrize("func, x0, words", [
    (lambda x: good(x).astype(np.float32).astype(float), (1.0, 1.0), "Is func rounded"),
    (lambda x: x[0]*np.exp(-T) + np.exp(x[1]*T) - Y, (1.0, 1e-9), "too near zero for a step relative to it"),
])
def test_forward_differences_that_mislead_are_reported(func, x0, words):
    messages = warned(func, x0)
    assert messages and all("% off" in text for text in messages) and any(words in text for text in messages)


def test_a_start_so_small_that_its_step_vanishes_is_reported():
    (text,) = warned(lambda x: x[0]*T + x[1] - Y, (1.0, 1e-9))
    assert "x[1]" in text and "start from exactly 0, or from a value of the size that you expect" in text


def transit(t0):
    t = t0 + np.linspace(-0.2, 0.2, 60)
    y = 1 - 0.01*np.exp(-((t - t0 - 0.013)/0.03)**2) + 1e-4*np.cos(50*np.arange(60.0))
    return lambda x: 1 - x[0]*np.exp(-((t - x[1])/x[2])**2) - y


def test_at_an_epoch_subtracting_an_offset_is_advised_and_helps():
    (text,) = warned(transit(2457957.0), (0.008, 2457957.0, 0.04))
    assert "Subtract an offset, so that x[1] is measured from 2457957" in text and "epsfcn" not in text
    assert warned(transit(0.0), (0.008, 0.0, 0.04)) == []


def test_the_epsfcn_that_is_advised_is_enough():
    def single(x):
        return good(x).astype(np.float32).astype(float)
    messages = warned(single)
    assert messages
    for text in messages:
        epsfcn = float(text.partition("epsfcn=")[2].partition(",")[0])
        assert not any(text.split(" = ")[0] in again for again in warned(single, epsfcn=epsfcn))


# ------------------------------------------------------------------ where a fit ended

@pytest.mark.parametrize("func, x0", [
    (good, (0.0, 1.0)),                                         # x[1] has no effect where x[0] is 0
    (lambda x: x[0]**2*np.exp(-x[1]*T) - Y, (0.0, 1.0)),        # a saddle, which a forward step leaves
    (lambda x: x[0]*T + x[1] - np.cos(20*T), (1.0, 0.0)),       # an answer near zero
    (lambda x: x[0]*np.cos(T) + x[1] - np.cos(T), (0.5, 0.0)),  # an answer that is zero up to rounding
])
def test_parameters_that_the_fit_moves_are_not_reported_as_stuck(func, x0):
    assert warned(func, x0) == []


def test_a_parameter_that_nothing_uses_is_named():
    (text,) = warned(lambda x: good((x[0], 1.3)))
    assert text.startswith("strict: x[1] has no effect: no step from 1 changes a residual")


def test_a_product_of_zeros_is_a_saddle_and_the_way_down_is_shown():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)     # leastsq's own: all derivatives are zero
        with pytest.warns(StrictWarning) as caught:
            fit(lambda x: x[0]*x[1]*T - Y, (0.0, 0.0))
    text = next(str(w.message) for w in caught if w.category is StrictWarning)
    assert "the answer is no minimum" in text and "x[0] and x[1] are zero" in text
    numbers = [float(number) for number in re.findall(r"= ([-\d.e]+)", text.partition("but ")[2])]
    before, after = (float(part) for part in re.search("from (.*) to (.*)[.] Start", text).groups())
    func = np.prod(numbers)*T - Y
    assert func @ func == pytest.approx(after, rel=1e-5) and after < before == pytest.approx(Y @ Y, rel=1e-5)


def test_the_way_down_from_a_bound_without_slope_is_taken_or_shown():
    """The solver tries to leave such a bound; where a fit ends there all the same, strict shows the way down."""
    def square(x):
        return x[0]**2*T - Y
    bounds = ([0], [9])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x, ier = fit(square, (0.0,), Dfun=lambda x: 2*x[0]*T[:, None], bounds=bounds)
    assert x[0] == pytest.approx(np.sqrt(T @ Y/(T @ T)), rel=1e-6) and ier in (1, 2, 3) and not caught
    at = np.zeros(1)
    (said,) = Ends(square, Bounds(*map(np.float64, bounds)), at, square(at), np.zeros(1)).found(at, LEASTSQ)
    assert "no minimum" in said and "(its lower bound)" in said


def test_a_bound_that_takes_the_effect_of_another_parameter_is_named():
    (text,) = warned(lambda x: x[0]*np.exp(-x[1]*T) + Y, bounds=([0, 0], [9, 9]))
    assert text.startswith("strict: x[1] has no effect where x[0] is 0 (its lower bound)")


def test_a_bound_that_holds_its_parameter_is_fine():
    assert warned(lambda x: x[0]*T + x[1] - Y, bounds=([0, 0], [9, 9])) == []


def spike(x):
    """A rate so fast that only the first point differs from zero."""
    return x[0]*np.exp(-x[1]*5*T) - np.where(T == 0, 1.0, 0.0) - 1e-3*np.cos(9*T)


def test_a_parameter_that_ran_away_is_named_with_its_value():
    (text,) = warned(spike)
    found = float(re.search(r"x\[1\] went from 1 to ([\d.]+), where larger values", text)[1])
    a = leastsq.leastsq(spike, (1.0, 1.0))[0]
    assert a[1] == pytest.approx(found, rel=1e-5)
    near, far = spike(a), spike((a[0], 100*a[1]))
    assert far @ far == pytest.approx(near @ near, rel=1e-6)


VERDICTS = {
    "nothing": (good, (1.0, 1.0), {}), "idle": (lambda x: good((x[0], 1.3)), (1.0, 1.0), {}),
    "ran off": (spike, (1.0, 1.0), {}), "near zero": (lambda x: x[0]*T + x[1] - Y, (1.0, 1e-9), {}),
    "rounds": (lambda x: good(x).astype(np.float32).astype(float), (1.0, 1.0), {}),
    "bound": (lambda x: x[0]*np.exp(-x[1]*T) + Y, (1.0, 1.0), {"bounds": np.array([[0.0, 0.0], [9.0, 9.0]])}),
    "epoch": (transit(2457957.0), (0.008, 2457957.0, 0.04), {}),
    "stairs": (lambda x: int(x[0] + 0.5)*np.exp(-x[1]*T) - Y, (1.0, 1.0), {}),
}


@pytest.mark.parametrize("powers", [(20, -20, 13), (-40, 40, -7)])
@pytest.mark.parametrize("name", VERDICTS)
def test_other_units_change_no_verdict(name, powers):
    """Units differ by powers of two, so that the fits have the same bits."""
    func, x0, options = VERDICTS[name]
    units = 2.0**np.array(powers[:len(x0)])

    def verdicts(messages):
        return [re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?(?!\])", "#", text) for text in messages]
    scaled = {"bounds": tuple(options["bounds"]/units)} if options else {}
    assert (verdicts(warned(func, x0, **({"bounds": tuple(options["bounds"])} if options else {})))
            == verdicts(warned(lambda x: func(x*units), np.array(x0)/units, **scaled)))


def test_under_curve_fit_the_models_own_names_are_used():
    def model(t, height, rate, unused):
        return height*np.exp(-rate*t)
    with pytest.warns(StrictWarning) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", leastsq.OptimizeWarning)
        leastsq.curve_fit(model, T, Y, strict=True)
    (text,) = [str(w.message) for w in caught if w.category is StrictWarning]
    assert text.startswith("strict: unused has no effect") and "Does f use it" in text
    with pytest.raises(StrictError, match="jac is not the derivative of f at p = .*: every sign is flipped.$"):
        leastsq.curve_fit(lambda t, a, b: a*np.exp(-b*t), T, Y, strict=True, jac=lambda t, a, b: -jacobian((a, b)))


# --------------------------------------------------------------------------- fatal

def test_random_residuals_are_an_error():
    rng = np.random.default_rng(0)
    with pytest.raises(StrictError, match="different residuals for the same x .* Does it draw random numbers"):
        fit(lambda x: good(x) + 1e-3*rng.standard_normal(T.size))


def test_data_changed_in_place_are_named():
    data = Y.copy()

    def eats(x):
        nonlocal data
        data -= x[0]*np.exp(-x[1]*T)
        return data.copy()
    with pytest.raises(StrictError, match="It changes the array 'data' in place"):
        fit(eats)

    def eats_argument(x, y):
        y -= x[0]*np.exp(-x[1]*T)
        return y.copy()
    with pytest.raises(StrictError, match=r"It changes args\[0\] in place"):
        fit(eats_argument, args=(Y.copy(),))


def test_a_function_that_drifts_is_found_at_the_end():
    calls = []

    def drifts(x, begins):
        calls.append(1)
        return good(x)*(1 + 0.01*(len(calls) >= begins))
    fit(drifts, args=(np.inf,))
    last = len(calls)
    calls.clear()
    with pytest.raises(StrictError, match="before the fit and after it"):
        fit(drifts, args=(last,))


def test_a_change_of_size_is_an_error_that_says_what_moved():
    with pytest.raises(StrictError, match=r"9 residuals after 10 before; .* moving x\[0\] from 1 to"):
        fit(lambda x: good(x)[:10 if x[0] < 1.5 else 9])


def test_a_start_that_is_not_finite_is_an_error():
    with pytest.raises(StrictError, match=r"10 of 10 residuals are not finite at x0 = \[1. 1.\]"):
        fit(lambda x: good(x)*np.nan)


@pytest.mark.parametrize("wrong, words", [
    (lambda x: jacobian(x).T, "transposed Jacobian: its shape is \\(2, 10\\)"),
    (lambda x: -jacobian(x), "every sign is flipped"),
    (lambda x: jacobian(x)*[1, -1], "column 1, by x\\[1\\], is wrong .* Its sign is flipped"),
    (lambda x: jacobian(x)[:, ::-1], "no column is right.*It is the column of x\\[1\\]"),
    (lambda x: jacobian(x)*[1, 2], "It is 2 times what it should be"),
    (lambda x: jacobian(x)*[0, 1], "It is all zeros"),
    (lambda x: jacobian(x) + [0, 0.1], "row .: Dfun gives .*, differences give"),
])
def test_wrong_jacobians_are_recognised(wrong, words):
    with pytest.raises(StrictError, match=words):
        fit(good, Dfun=wrong)


def test_a_transposed_square_jacobian_is_recognised():
    def rosenbrock(x):
        return np.array([10*(x[1] - x[0]**2), 1 - x[0]])

    def right(x):
        return np.array([[-20*x[0], 10.0], [-1.0, 0.0]])
    assert fit(rosenbrock, [-1.2, 1.0], Dfun=right)[0] == pytest.approx([1, 1])
    with pytest.raises(StrictError, match="it is transposed"):
        fit(rosenbrock, [-1.2, 1.0], Dfun=lambda x: right(x).T)


def test_a_jacobian_wrong_only_away_from_the_start_is_found_at_the_end():
    def stale(x):
        return jacobian([1.0, 1.0])
    with pytest.raises(StrictError, match="not the derivative of func"):
        fit(good, Dfun=stale)


def test_bounds_are_kept_and_fixed_parameters_pass():
    bounds = ([1.0, 0.0], [1.5, 3.0])

    def fenced(x):
        assert (x.real >= bounds[0]).all() and (x.real <= bounds[1]).all()
        return good(x)
    for options in ({}, {"Dfun": jacobian}, {"Dfun": "3-point"}, {"Dfun": "cs"}):
        x, _ = fit(fenced, [1.0, 1.0], bounds=bounds, **options)
        assert np.array_equal(x, leastsq.leastsq(good, [1.0, 1.0], bounds=bounds, **options)[0])
    with pytest.raises(StrictError, match="every sign is flipped"):
        fit(fenced, [1.0, 1.0], bounds=bounds, Dfun=lambda x: -jacobian(x))
    assert fit(good, [2.0, 1.0], bounds=([2.0, 0.0], [2.0, 3.0]))[0][0] == 2.0


# -------------------------------------------------------- functions called elsewhere

def test_a_process_pool_evaluates_what_strict_watches():
    """The watched function is sent to the processes; what it records there stays there."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        x, ier = fit(good, workers=pool.map)
        again, _ = fit(good, Dfun="3-point", workers=pool.map)
    assert np.array_equal(x, leastsq.leastsq(good, (1.0, 1.0), workers=2)[0]) and ier in (1, 2, 3)
    assert again == pytest.approx(ANSWER, rel=1e-7)


def test_what_goes_to_another_process_is_small():
    big = np.zeros(10**6)
    sent = pickle.dumps(Watch(good, None, (big,), False, Differences()).residuals)
    assert len(sent) < 2*big.nbytes         # args, but not a copy to compare them with
    assert len(pickle.dumps(Watch(good, None, (), False, Differences()).func)) < 10**4


def test_workers_in_threads_are_watched():
    assert np.array_equal(fit(good, workers=2)[0], fit(good)[0])
