"""SciPy's method names and the options of its methods with bounds, as its users give them."""
import inspect
import subprocess
import sys
import warnings

import numpy as np
import pytest

from leastsq import OptimizeWarning, curve_fit, least_squares
from leastsq._scipy import outcome

METHODS = ["trf", "dogbox"]
FUNCTIONS = ["curve_fit", "least_squares"]
T = np.linspace(0, 4, 41)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.01*np.cos(40*T)


def model(t, a, b, c):
    return a*np.exp(-b*t) + c


def slopes(t, a, b, c):
    return np.stack([np.exp(-b*t), -a*t*np.exp(-b*t), np.ones_like(t)], axis=1)


def fun(p):
    return model(T, *p) - Y


def named(options):
    """A test id made from the options, the same in all processes."""
    if not isinstance(options, dict):
        return None
    return str({name: getattr(value, "__name__", value) for name, value in options.items()})


BEST = curve_fit(model, T, Y, [1, 1, 1])[0]


@pytest.fixture(autouse=True)
def _said():
    """Mark the warning about another algorithm as already given, whatever ran earlier in this process."""
    before = list(outcome.known)
    outcome.known[:] = ["trf"]
    yield
    outcome.known[:] = before


def answer(function, **options):
    """(parameters, message, status) of a fit by this function."""
    if function == "curve_fit":
        popt, _, _, mesg, ier = curve_fit(model, T, Y, [1, 1, 1], full_output=True, **options)
        return popt, mesg, ier
    result = least_squares(fun, [1, 1, 1], **options)
    return result.x, result.message, result.status


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("options", [
    {}, {"bounds": (0, 9)}, {"loss": "soft_l1", "f_scale": 1.0}, {"tr_solver": "exact"}, {"tr_solver": "lsmr", "tr_options": {}},
    {"tr_options": {"regularize": True}}, {"x_scale": "jac"}, {"x_scale": [1, 2, 3]}, {"x_scale": 2.0}, {"diff_step": 1e-6},
    {"diff_step": [1e-6, 1e-7, 1e-5], "jac": "3-point"}, {"jac": "2-point"}, {"jac": "cs"}, {"max_nfev": 1e4}, {"max_nfev": 300},
    {"ftol": None}, {"xtol": None, "gtol": None}, {"ftol": None, "xtol": None}, {"ftol": 0, "gtol": None}, {"xtol": 1e-20},
    {"max_nfev": np.inf}, {"max_nfev": None}, {"verbose": 0}], ids=named)
def test_named_methods_and_their_options_are_taken(function, method, options):
    x, message, status = answer(function, method=method, **options)
    np.testing.assert_allclose(x, BEST, rtol=1e-3 if "loss" in options else 1e-5)
    assert status in (1, 2, 3, 4)
    first, last = message.split("\n")[0], message.split("\n")[-1]
    assert "termination condition" in first or first.startswith("No further")
    assert last == f"  Levenberg-Marquardt answered in place of method '{method}'."


@pytest.mark.parametrize("options", [
    {"maxfev": 1e5}, {"maxfev": None}, {"maxfev": 0}, {"max_nfev": 1e5}, {"ftol": None}, {"ftol": None, "xtol": None},
    {"diff_step": 1e-6}, {"tr_solver": "exact", "tr_options": None}, {"x_scale": "jac"}, {"jac_sparsity": None}, {"gtol": None}],
    ids=named)
def test_bounds_alone_take_the_same_options(options):
    popt, pcov, _, mesg, ier = curve_fit(model, T, Y, [1, 1, 1], bounds=(0, 9), full_output=True, **options)
    np.testing.assert_allclose(popt, BEST, rtol=1e-5)
    assert ier in (1, 2, 3, 4) and "Levenberg" not in mesg and np.isfinite(pcov).all()


@pytest.mark.parametrize("options", [
    {"x_scale": "jac"}, {"diff_step": 1e-6}, {"tr_solver": "exact"}, {"tr_options": {}}, {"max_nfev": 99},
    {"jac_sparsity": None}], ids=named)
def test_curve_fit_refuses_these_options_without_bounds_or_a_method_name(options):
    with pytest.raises(TypeError, match=r"^curve_fit\(\) got an unexpected") as caught:
        curve_fit(model, T, Y, [1, 1, 1], **options)
    assert "with method 'trf' or 'dogbox'" in caught.value.__notes__[0]


def test_bad_options_are_named_for_the_function_that_was_called():
    for options, error, words in [
            ({"tr_solver": "svd"}, ValueError, "`tr_solver` must be None, 'exact' or 'lsmr'."),
            ({"tr_options": 3}, TypeError, "`tr_options` must be a dict or None, got int"),
            ({"jac_sparsity": np.ones((41, 3))}, ValueError, "`jac_sparsity` must be None, got .*dense"),
            ({"diff_step": "a"}, TypeError, "^curve_fit: `diff_step` must be real numbers"),
            ({"diff_step": [1, 2]}, ValueError, "Inconsistent shapes between `diff_step`"),
            ({"diff_step": 0}, ValueError, "`diff_step` must be finite and not zero"),
            ({"x_scale": -1}, ValueError, "`x_scale` must be"), ({"max_nfev": -1}, ValueError, "`max_nfev` must be"),
            ({"max_nfev": np.nan}, ValueError, "`max_nfev` must be"), ({"maxfev": "3"}, ValueError, "`maxfev` must be"),
            ({"maxfev": 3, "max_nfev": 3}, TypeError, "^curve_fit: `maxfev` and `max_nfev` are names of the same limit"),
            ({"ftol": None, "xtol": None, "gtol": None}, ValueError, "At least one of the tolerances"),
            ({"ftol": "a"}, TypeError, "^curve_fit: ftol must be a real number|curve_fit: .*ftol"),
            ({"ftol": -1.0}, RuntimeError, "Improper input parameters. ftol"), ({"callback": 3}, TypeError, "`callback` must be"),
            ({"nonsense": 3}, TypeError, r"^curve_fit\(\) got an unexpected keyword argument 'nonsense'")]:
        for how in ({"method": "trf"}, {"bounds": (0, 9)}):
            if "callback" in options and "bounds" in how:
                continue                # a callback of a `State`
            with pytest.raises(error, match=words):
                curve_fit(model, T, Y, [1, 1, 1], **how, **options)


@pytest.mark.parametrize("method", METHODS)
def test_status_sentences_and_keys_are_scipys(method):
    scipys = pytest.importorskip("scipy.optimize", reason="SciPy, which this compares with, is not installed")
    for options in ({}, {"jac": slopes}, {"bounds": (0, 9)}):
        ours = curve_fit(model, T, Y, [1, 1, 1], method=method, full_output=True, **options)
        theirs = scipys.curve_fit(model, T, Y, [1, 1, 1], method=method, full_output=True, **options)
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-3)
        assert theirs[2].keys() <= ours[2].keys() and type(ours[4]) is int and ours[4] in (1, 2, 3, 4)
        said = {"`gtol` termination condition is satisfied.": 1, "`ftol` termination condition is satisfied.": 2,
                "`xtol` termination condition is satisfied.": 3,
                "Both `ftol` and `xtol` termination conditions are satisfied.": 4}
        assert said[ours[3].split("\n")[0]] == ours[4] and said[theirs[3]] == theirs[4]
    ours, theirs = (f(fun, [1, 1, 1], method=method) for f in (least_squares, scipys.least_squares))
    assert theirs.keys() <= ours.keys() and ours.njev > 0
    for f in (least_squares, scipys.least_squares):
        short = f(fun, [1, 1, 1], method=method, max_nfev=2)
        assert short.status == 0 and not short.success and short.nfev == 2
        assert short.message.startswith("The maximum number of function evaluations is exceeded.")
    for f in (curve_fit, scipys.curve_fit):
        with pytest.raises(RuntimeError, match="not found: The maximum number of function evaluations is exceeded."):
            f(model, T, Y, [1, 1, 1], method=method, maxfev=2)


@pytest.mark.parametrize("options, calls", [
    ({}, 12), ({"jac": slopes}, 3), ({"jac": "3-point"}, 21), ({"jac": "cs"}, 12)], ids=named)
def test_maxfev_does_not_count_differences_as_in_scipy(options, calls):
    seen = []

    def counted(t, a, b, c):
        seen.append(a)
        return model(t, a, b, c)
    with pytest.raises(RuntimeError, match="maximum number"):
        curve_fit(counted, T, Y, [9, 9, 9], bounds=(0, 10), maxfev=3, ftol=1e-15, xtol=1e-15, **options)
    assert 3 <= len(seen) <= calls + 4              # the last Jacobian's differences, and its check


def test_one_warning_per_process_says_that_another_algorithm_answers():
    script = ("import warnings, numpy as np, leastsq\n"
              "with warnings.catch_warnings(record=True) as caught:\n"
              "    warnings.simplefilter('always')\n"
              "    for method in ('trf', 'dogbox', 'trf'):\n"
              "        leastsq.curve_fit(lambda x, a: a*x, [1.0, 2.0], [1.0, 2.1], method=method)\n"
              "        leastsq.least_squares(lambda x: x - [1.0, 2.0], [0, 0], method=method)\n"
              "assert len(caught) == 1 and caught[0].category is leastsq.OptimizeWarning, caught\n"
              "assert 'Levenberg-Marquardt' in str(caught[0].message) and caught[0].filename == '<string>'\n")
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_warning_is_about_the_callers_line(function):
    outcome.known.clear()
    with pytest.warns(OptimizeWarning, match="method='dogbox'.*Levenberg-Marquardt") as caught:
        line = inspect.currentframe().f_lineno + 1
        answer_here(function)
    assert caught[0].filename == __file__ and caught[0].lineno != line and len(caught) == 1


def answer_here(function):
    if function == "curve_fit":
        curve_fit(model, T, Y, [1, 1, 1], method="dogbox")
    else:
        least_squares(fun, [1, 1, 1], method="dogbox")


# ---------------------------------------------------------------------------
# fewer data than parameters


@pytest.mark.parametrize("options", [
    {"bounds": (0, 9)}, {"method": "trf"}, {"method": "dogbox", "jac": slopes}, {"bounds": (0, 9), "jac": "3-point"},
    {"method": "trf", "jac": "cs"}, {"method": "trf", "loss": "soft_l1"}, {"bounds": ([0, 0, .4], [9, 9, .4]), "m": 1},
    {"bounds": (0, 9), "callback": lambda state: None}], ids=named)
def test_fewer_data_than_parameters(options):
    options = dict(options)
    m = options.pop("m", 2)
    start = [1, 1, .4]
    with pytest.warns(OptimizeWarning, match=f"could not be estimated. There are no more data than parameters, {m}"):
        popt, pcov, info, mesg, ier = curve_fit(model, T[1:m + 1], Y[1:m + 1], start, full_output=True, **options)
    np.testing.assert_allclose(model(T[1:m + 1], *popt), Y[1:m + 1], atol=1e-6)
    assert np.all(np.isinf(pcov)) and info["fvec"].shape == (m,) and ier in (1, 2, 3, 4)
    assert f"Many answers are as good as this one: {m} residuals for {m + 1} free parameters." in mesg
    assert info.problem.func(popt).shape == (m,)
    with pytest.warns(OptimizeWarning, match="could not be estimated"):
        known = curve_fit(model, T[1:m + 1], Y[1:m + 1], start, sigma=np.full(m, .1), absolute_sigma=True, **options)[1]
    assert np.isinf(np.diag(known)).any()


@pytest.mark.parametrize("options", [
    {"bounds": (0, 9)}, {"method": "trf"}, {"method": "dogbox", "jac": lambda p: slopes(T[:2], *p)},
    {"method": "trf", "jac": "3-point"},
    {"bounds": (0, 9), "jac": "cs"}, {"method": "trf", "loss": "huber"}], ids=named)
def test_fewer_residuals_than_parameters(options):
    result = least_squares(lambda p: fun(p)[:2], [1, 1, 1], **options)
    assert result.success and result.fun.shape == (2,) and result.jac.shape == (2, 3) and result.cost < 1e-12
    assert "2 residuals for 3 free parameters" in result.message
    np.testing.assert_allclose(result.grad, result.jac.T @ result.fun, atol=1e-12)


def test_linear_problems_of_few_data_are_solved():
    rng = np.random.default_rng(2)
    A, b = rng.standard_normal((3, 6)), rng.standard_normal(3)
    result = least_squares(lambda p: A @ p - b, np.zeros(6), jac=lambda p: A, method="trf")
    np.testing.assert_allclose(A @ result.x, b, atol=1e-8)


def test_method_lm_still_needs_enough_data():
    with pytest.raises(TypeError, match="must not exceed the number of data points=2"):
        curve_fit(model, T[:2], Y[:2], [1, 1, 1])
    with pytest.raises(ValueError, match="Method 'lm' doesn't work when"):
        least_squares(lambda p: fun(p)[:2], [1, 1, 1])


# ---------------------------------------------------------------------------
# callbacks


def test_callbacks_are_scipys_with_scipys_method_names():
    seen = []
    curve_fit(model, T, Y, [1, 1, 1], method="trf", callback=lambda x: seen.append(x) or True)
    assert len(seen) > 2 and all(type(x) is np.ndarray for x in seen)       # its return value does not end the fit
    seen = []

    def look(intermediate_result):
        seen.append(intermediate_result.cost)
        if len(seen) == 2:
            raise StopIteration
    with pytest.raises(RuntimeError, match="not found: `callback` ended the fit"):
        curve_fit(model, T, Y, [1, 1, 1], method="trf", callback=look)
    assert len(seen) == 2 and seen[0] >= seen[1]
    seen = []
    assert least_squares(fun, [1, 1, 1], method="trf", callback=look).status == -2
    told = []
    result = least_squares(fun, [1, 1, 1], method="trf", callback=lambda intermediate_result: told.append(intermediate_result))
    assert [one.nit for one in told] == list(range(1, len(told) + 1))           # after each step, not before the first
    assert not np.array_equal(told[0].x, [1, 1, 1]) and told[-1].nfev <= result.nfev


@pytest.mark.parametrize("method", METHODS)
def test_a_limit_of_one_evaluation_stays_at_the_start(method):
    seen = []

    def counted(p):
        seen.append(p)
        return fun(p)
    result = least_squares(counted, [1, 1, 1], jac=lambda p: slopes(T, *p), method=method, max_nfev=1)
    assert len(seen) == result.nfev == 1 and result.status == 0 and not result.success
    np.testing.assert_array_equal(result.x, [1, 1, 1])
    assert result.message.startswith("The maximum number of function evaluations is exceeded.")


def test_strict_workers_and_covariance_work_with_a_method_name():
    for options in ({"strict": True}, {"workers": 2}, {"covariance": "accurate"}, {"workers": map, "diff_step": 1e-7}):
        np.testing.assert_allclose(curve_fit(model, T, Y, [1, 1, 1], method="trf", **options)[0], BEST, rtol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = least_squares(fun, [1, 1, 1], method="trf", covariance="accurate")
    np.testing.assert_allclose(np.diag(result.covariance.cov), np.diag(curve_fit(model, T, Y, BEST, method="trf")[1]), rtol=1e-4)
