"""curve_fit side by side with SciPy's: the same numbers, exceptions, messages and
warnings, apart from the differences that are asserted here."""
import functools
import gc
import inspect
import pickle
import re
import subprocess
import sys
import warnings
import weakref

import guards
import numpy as np
import pytest

import leastsq
import leastsq._core
from docstrings import run_examples
from leastsq import OptimizeWarning, curve_fit

X = np.linspace(0, 1, 12)
Y = np.exp(-X) + .1 * np.cos(9 * X)
SD = 1 + np.arange(12.0) / 4
COV = .01 * (np.eye(12) + .4 * np.eye(12, k=1) + .4 * np.eye(12, k=-1))
NO_ESTIMATE = "Covariance of the parameters could not be estimated"


def decay(x, a, b):
    return a * np.exp(-b * x)


def decay_jac(x, a, b):
    return np.stack([np.exp(-b * x), -a * x * np.exp(-b * x)], axis=1)


class Decay:
    def __call__(self, x, a, b):
        return decay(x, a, b)

    def method(self, x, a, b):
        return decay(x, a, b)


@functools.wraps(decay)
def wrapped(*args):
    return decay(*args)


def marked(values, value, *at):
    values = np.array(values, float)
    values[list(at)] = value
    return values


@pytest.fixture(scope="module")
def scipys():
    return pytest.importorskip("scipy.optimize",
                               reason="SciPy, which this compares with, is not installed").curve_fit


def outcome(fit, args, options):
    """(kind, what came out, [(warning's class name, message)])."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = "result", fit(*args, **options)
        except Exception as error:
            result = "error", error
    return *result, [(w.category.__name__, str(w.message), w.filename) for w in seen]


SAME = {
    # where the number of parameters comes from
    "function": ((decay, X, Y), {}),
    "star arguments": ((lambda x, *p: decay(x, *p), X, Y), {}),
    "star arguments with p0": ((lambda x, *p: decay(x, *p), X, Y, [1, 1]), {}),
    "one name, star arguments": ((lambda x, a, *p: decay(x, a, 1), X, Y), {}),
    "keyword-only": ((lambda x, a, *, b=1: decay(x, a, b), X, Y), {}),
    "default value": ((lambda x, a, b=3: decay(x, a, b), X, Y), {}),
    "positional-only": ((lambda x, a, /, b: decay(x, a, b), X, Y), {}),
    "no parameters": ((lambda x: x, X, Y), {}),
    "partial": ((functools.partial(decay, b=2), X, Y), {}),
    "callable object": ((Decay(), X, Y), {}),
    "method": ((Decay().method, X, Y), {}),
    "wraps": ((wrapped, X, Y), {}),
    "builtin": ((max, X, Y), {}),
    "class": ((Decay, X, Y), {}),
    "not callable": ((3, X, Y), {}),
    "not callable, p0": ((3, X, Y, [1, 1]), {}),
    # p0
    "scalar p0": ((lambda x, a: a * x, X, Y, 2.0), {}),
    "2-D p0": ((decay, X, Y, [[1.0, 1.0]]), {}),
    "integer p0": ((decay, X, Y, [1, 1]), {}),
    "tuple p0": ((decay, X, Y, (3, .1)), {}),
    # data
    "lists": ((decay, list(X), list(Y)), {}),
    "tuples": ((decay, tuple(X), tuple(Y)), {}),
    "integers": ((lambda x, a, b: a + b * x, range(12), [1, 0] * 6), {}),
    "float32": ((decay, X.astype("f4"), Y.astype("f4")), {}),
    "2-D x": ((lambda x, a, b: a * x[0] + b * x[1], np.array([X, X * X]), Y), {}),
    "x an object": ((lambda x, a, b: decay(x["t"], a, b), {"t": X}, Y), {}),
    "x None": ((lambda x, a: a * np.ones(12), None, Y), {}),
    "f returns a list": ((lambda x, a: [a * v for v in x], X, Y), {}),
    "f returns another length": ((lambda x, a: a * np.ones(3), X, Y), {}),
    "f raises": ((lambda x, a: 1 / 0, X, Y), {}),
    "empty": ((decay, [], []), {}),
    "empty y": ((decay, X, []), {}),
    "y of words": ((decay, X, ["q"] * 12), {}),
    "x of words": ((decay, ["q"] * 12, Y), {}),
    "y None": ((decay, X, None), {}),
    "nan in y": ((decay, X, marked(Y, np.nan, 2)), {}),
    "nan in x": ((decay, marked(X, np.nan, 2), Y), {}),
    "inf in y": ((decay, X, marked(Y, np.inf, 2)), {}),
    # nan_policy
    "raise, clean": ((decay, X, Y), {"nan_policy": "raise"}),
    "raise, y": ((decay, X, marked(Y, np.nan, 2)), {"nan_policy": "raise"}),
    "raise, x": ((decay, marked(X, np.nan, 2), Y), {"nan_policy": "raise"}),
    "propagate": ((decay, X, Y), {"nan_policy": "propagate"}),
    "unknown policy": ((decay, X, Y), {"nan_policy": "ignore"}),
    "omit, clean": ((decay, X, Y), {"nan_policy": "omit"}),
    "omit": ((decay, marked(X, np.nan, 5), marked(Y, np.nan, 2, 7)), {"nan_policy": "omit"}),
    "omit, 2-D x": ((lambda x, a, b: decay(x[0], a, b), np.array([X, marked(X, np.nan, 5)]),
                     marked(Y, np.nan, 2)), {"nan_policy": "omit"}),
    "omit, standard deviations": ((decay, X, marked(Y, np.nan, 2)),
                                  {"nan_policy": "omit", "sigma": SD}),
    "omit, covariance": ((decay, X, marked(Y, np.nan, 2)), {"nan_policy": "omit", "sigma": COV}),
    "omit, check_finite": ((decay, X, marked(Y, np.nan, 2)),
                           {"nan_policy": "omit", "check_finite": True}),
    # sigma
    "sigma a number": ((decay, X, Y), {"sigma": .3}),
    "sigma of one": ((decay, X, Y), {"sigma": [.3]}),
    "standard deviations": ((decay, X, Y), {"sigma": SD}),
    "integer sigma": ((decay, X, Y), {"sigma": list(range(1, 13))}),
    "negative sigma": ((decay, X, Y), {"sigma": -SD}),
    "infinite sigma": ((decay, X, Y), {"sigma": marked(SD, np.inf, 3)}),
    "absolute": ((decay, X, Y), {"sigma": SD, "absolute_sigma": True}),
    "absolute without sigma": ((decay, X, Y), {"absolute_sigma": True}),
    "covariance": ((decay, X, Y), {"sigma": COV}),
    "absolute covariance": ((decay, X, Y), {"sigma": COV, "absolute_sigma": True}),
    "lower triangle": ((decay, X, Y), {"sigma": COV + np.triu(COV, 1)}),
    "sigma too short": ((decay, X, Y), {"sigma": [1, 2]}),
    "covariance too small": ((decay, X, Y), {"sigma": np.eye(5)}),
    "sigma a column": ((decay, X, Y), {"sigma": SD[:, None]}),
    "sigma 3-D": ((decay, X, Y), {"sigma": np.ones((2, 2, 3))}),
    "not positive definite": ((decay, X, Y), {"sigma": -COV}),
    "nan in covariance": ((decay, X, Y), {"sigma": COV * np.nan}),
    # jac
    "jac": ((decay, X, Y), {"jac": decay_jac}),
    "jac, standard deviations": ((decay, X, Y), {"jac": decay_jac, "sigma": SD}),
    "jac, covariance": ((decay, X, Y), {"jac": decay_jac, "sigma": COV}),
    "jac returns lists": ((decay, X, Y), {"jac": lambda *a: decay_jac(*a).tolist()}),
    "jac by columns": ((decay, X, Y), {"jac": lambda *a: decay_jac(*a).T, "col_deriv": True}),
    "jac raises": ((decay, X, Y), {"jac": lambda *a: 1 / 0}),
    "jac a number": ((decay, X, Y), {"jac": 3}),
    # no covariance
    "as many parameters as data": ((decay, X[:2], Y[:2]), {}),
    "as many, absolute": ((decay, X[:2], Y[:2]), {"absolute_sigma": True}),
    "more parameters than data": ((lambda x, a, b, c: a + b * x + c, X[:2], Y[:2]), {}),
    "two parameters, one point": ((decay, X[:1], Y[:1]), {}),
    "idle parameter": ((lambda x, a, b: a * x + 0 * b, X, Y), {}),
    "perfect fit": ((lambda x, a, b: a + b * x, X, 1 + 2 * X), {}),
    # options
    "full output": ((decay, X, Y), {"full_output": True}),
    "full output with jac": ((decay, X, Y), {"full_output": True, "jac": decay_jac}),
    "lm": ((decay, X, Y), {"method": "lm"}),
    "no bounds": ((decay, X, Y), {"bounds": (-np.inf, np.inf)}),
    "no bounds, arrays": ((decay, X, Y), {"bounds": ([-np.inf] * 2, [np.inf] * 2)}),
    "maxfev": ((decay, X, Y), {"maxfev": 3}),
    "max_nfev": ((decay, X, Y), {"max_nfev": 3}),
    "unknown": ((decay, X, Y), {"foo": 3}),
    "args": ((decay, X, Y), {"args": (1,)}),
    "ftol, xtol, gtol": ((decay, X, Y), {"ftol": 1e-3, "xtol": 1e-3, "gtol": 1e-3}),
    "factor, diag": ((decay, X, Y), {"factor": 1.0, "diag": (1, 2)}),
    "epsfcn": ((decay, X, Y), {"epsfcn": 1e-10}),
    "ftol too small": ((decay, X, Y), {"ftol": 0.0, "xtol": 0.0, "maxfev": 1000}),
}


@pytest.mark.parametrize("args, options", SAME.values(), ids=SAME.keys())
def test_same_as_scipy(scipys, args, options):
    if options.get("nan_policy") == "ignore":
        guards.need_scipy((1, 16), "an older one words the refusal differently")
    kind, got, seen = outcome(curve_fit, args, options)
    want_kind, want, expected = outcome(scipys, args, options)
    assert kind == want_kind, (got, want)
    assert [(name, file) for name, _, file in seen] == [(name, file) for name, _, file in expected]     # stacklevel is right
    assert all(ours.startswith(theirs) for (_, ours, _), (_, theirs, _) in zip(seen, expected))
    if kind == "error":
        said = str(want).partition(". Did you mean")[0]         # Python's guess from 3.13 on
        assert type(got) is type(want) and str(got).replace("curve_fit()", "leastsq()") == said
        assert type(got.__cause__) is type(want.__cause__)
        return
    assert len(got) == len(want)
    # solving a triangular system in C may round differently from SciPy
    loose = np.ndim(options.get("sigma")) == 2
    np.testing.assert_allclose(got[0], want[0], rtol=1e-7 if loose else 1e-13, atol=1e-30)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6 if loose else 1e-11, atol=1e-30)
    assert got[0].dtype == got[1].dtype == np.float64
    if len(got) == 5:
        assert list(got[2]) == [key for key in want[2] if key in got[2]]
        np.testing.assert_allclose(got[2]["fvec"], want[2]["fvec"], rtol=1e-9, atol=1e-15)
        assert got[3:] == want[3:] and type(got[4]) is int
        assert got[2]["nfev"] == want[2]["nfev"]


MODELS = {
    "line": (lambda x, a, b: a + b * x, (1, 2)),
    "decay and level": (lambda x, a, b, c: a * np.exp(-b * x) + c, (2.5, 1.3, .5)),
    "saturation": (lambda x, a, b: a * x / (b + x), (3, .5)),
    "peak": (lambda x, a, b, c: a * np.exp(-((x - b) / c) ** 2), (4, 1.5, .7)),
    "wave": (lambda x, a, b, c: a * np.sin(b * x + c), (2, 1.1, .4)),
    "logistic": (lambda x, a, b, c: a / (1 + np.exp(-b * (x - c))), (5, 1.7, 2)),
    "power": (lambda x, a, b: a * (x + 1) ** b, (1.4, -.8)),
    "quartic": (lambda x, a, b, c, d, e: np.polyval([a, b, c, d, e], x), (.1, -.4, 1, -.7, .3)),
}


@pytest.mark.parametrize("weights", ["none", "deviations", "absolute", "covariance"])
@pytest.mark.parametrize("name", MODELS)
def test_same_fits_of_noisy_data(scipys, name, weights):
    f, truth = MODELS[name]
    rng = np.random.default_rng([len(name), len(weights)])
    for m in (6, 25, 100):
        x = np.linspace(.1, 4, m)
        y = f(x, *truth) + .03 * rng.standard_normal(m)
        p0 = np.array(truth) * rng.uniform(.8, 1.2, len(truth))
        sd = rng.uniform(.5, 2, m)
        options = {"none": {}, "deviations": {"sigma": sd},
                   "absolute": {"sigma": sd, "absolute_sigma": True},
                   "covariance": {"sigma": sd[:, None] * sd * .7 ** np.abs(np.subtract.outer(
                       np.arange(m), np.arange(m)))}}[weights]
        got, want = curve_fit(f, x, y, p0, **options), scipys(f, x, y, p0, **options)
        np.testing.assert_allclose(got[0], want[0], rtol=2e-6)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-7 * np.abs(want[1]).max())


# ---------------------------------------------------------------------------
# deliberate differences


@pytest.mark.parametrize("args, options", [
    ((decay, X, Y, [np.nan, 1]), {}),
    ((decay, X, marked(Y, np.nan, 2)), {"check_finite": False}),
    ((decay, X, marked(Y, np.inf, 2)), {"nan_policy": "omit"}),
    ((lambda x, a: a * np.nan * x, X, Y), {}),
])
def test_not_finite_at_the_start_is_a_failure_that_says_where(args, options):
    with pytest.raises(RuntimeError, match=r"Optimal parameters not found: .*f\(xdata, \*p\)\[\d+\] - ydata\[\d+\] is"):
        curve_fit(*args, **options)


@pytest.mark.parametrize("sigma", [marked(SD, 0, 3), marked(SD, np.nan, 3)])
def test_sigma_of_zero_or_nan_is_refused(sigma):
    with pytest.raises(ValueError, match="`sigma` must not be zero or nan, got .* at index 3"):
        curve_fit(decay, X, Y, sigma=sigma)


def test_matrix_of_one_is_a_covariance():
    with pytest.raises(ValueError, match="`sigma` has incorrect shape"):
        curve_fit(decay, X, Y, sigma=[[2.0]])
    got = curve_fit(lambda x, a: a * x, [1.0], [2.0], sigma=[[4.0]], absolute_sigma=True)
    np.testing.assert_allclose(got[1], [[4.0]])


def test_scalar_data_are_fitted():
    with pytest.warns(OptimizeWarning, match=NO_ESTIMATE):
        popt, pcov = curve_fit(lambda x, a: a, 1.0, 2.0)
    assert popt == 2 and np.isinf(pcov).all()


@pytest.mark.parametrize("options, words", [
    ({"ftol": -1.0}, "ftol must be zero or positive, got -1.0"),
    ({"xtol": np.nan}, "xtol must be zero or positive, got nan"),
    ({"factor": 0}, "factor must be positive, got 0"),
    ({"diag": [1, 0]}, r"every entry of diag must be positive, got \[1, 0\]"),
])
def test_improper_options_are_named(scipys, options, words):
    with pytest.raises(RuntimeError, match=f"Optimal parameters not found: Improper input parameters. {words}"):
        curve_fit(decay, X, Y, **options)
    if not np.isnan(options.get("xtol", 0)):        # MINPACK lets nan pass
        with pytest.raises(RuntimeError, match="Optimal parameters not found: Improper input parameters."):
            scipys(decay, X, Y, **options)


BOUNDED = {
    "inside": {"bounds": (0, 10)},
    "upper holds": {"bounds": (0, [np.inf, .5])},
    "lower holds": {"bounds": ([1.3, -np.inf], np.inf)},
    "start": {"bounds": (0, 10), "p0": [1, 2]},
    "deviations": {"bounds": (0, [10, .5]), "sigma": SD},
    "absolute": {"bounds": (0, [10, .5]), "sigma": SD, "absolute_sigma": True},
    "covariance": {"bounds": (0, [10, .5]), "sigma": COV},
    "jac": {"bounds": (0, [10, .5]), "jac": decay_jac},
    "3-point": {"bounds": (0, 10), "jac": "3-point"},
    "cs": {"bounds": (0, 10), "jac": "cs"},
    "loss": {"bounds": (0, 10), "loss": "soft_l1", "f_scale": .05},
    "loss with jac": {"bounds": (0, [10, .5]), "loss": "cauchy", "f_scale": .05, "jac": decay_jac},
    "huber, deviations": {"bounds": (0, 10), "loss": "huber", "f_scale": .02, "sigma": SD},
    "max_nfev, x_scale": {"bounds": (0, 10), "max_nfev": 1000, "x_scale": [2, 3]},
    "outside": {"bounds": (2, 3), "p0": [1, 1]},
    "two few": {"bounds": (2,)},
    "wrong shape": {"bounds": ([1, 2, 3], 4), "p0": [1, 1]},
    "fewer calls than needed": {"bounds": (0, 10), "max_nfev": 2},
}


@pytest.mark.parametrize("options", BOUNDED.values(), ids=BOUNDED.keys())
def test_bounded_fits_are_scipys(scipys, options):
    kind, got, seen = outcome(curve_fit, (decay, X, Y), options)
    tight = {} if "max_nfev" in options else {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}
    want_kind, want, expected = outcome(scipys, (decay, X, Y), options | tight)
    assert kind == want_kind and seen == expected, (got, want)
    if kind == "error":
        assert type(got) is type(want)
        return
    scale = np.abs(want[1]).max()
    np.testing.assert_allclose(got[0], want[0], rtol=1e-4)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-3, atol=1e-4 * scale)


def test_loss_needs_no_bounds():
    y = marked(Y, 7, 3)
    got = curve_fit(decay, X, y, loss="cauchy", f_scale=.05)
    want = curve_fit(decay, X, y, loss="cauchy", f_scale=.05, bounds=(-100, 100), p0=[1, 1])
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9)


def test_fixed_parameter_has_no_variance():
    popt, pcov = curve_fit(decay, X, Y, bounds=([-9, 1.1], [9, 1.1]))
    alone, variance = curve_fit(lambda x, a: decay(x, a, 1.1), X, Y)
    assert popt[1] == 1.1 and np.all(pcov[1] == 0) and np.all(pcov[:, 1] == 0)
    np.testing.assert_allclose(popt[0], alone[0], rtol=1e-7)
    np.testing.assert_allclose(pcov[0, 0], variance[0, 0], rtol=1e-6)


def test_bounded_model_is_called_nfev_times_and_never_outside():
    calls = []

    def f(x, a, b):
        calls.append((a, b))
        return decay(x, a, b)
    popt, _, info, mesg, ier = curve_fit(f, X, Y, bounds=([0, 0], [2, .5]), full_output=True)
    assert len(calls) == info["nfev"] and popt[1] == .5 and ier in (1, 2, 3, 4)
    assert np.all(np.array(calls) >= 0) and np.all(np.array(calls) <= [2, .5])
    assert re.search(r"Held: b at the upper bound \(multiplier [.\d]+\)\.$", mesg)
    assert info["multipliers"][0] == 0 and info["multipliers"][1] < 0


@pytest.mark.parametrize("bounds, words", [
    ((np.nan, 1), "must not be nan"), ((0, np.nan), "must not be nan"), ((1, 0), "Each lower bound must be"),
    (3, "`bounds` must contain 2 elements, .* got int"), (np.array(3.0), "got ndarray"), ((0,), "got 1"),
    (("a", "b"), "`bounds` must be real numbers")])
def test_bad_bounds_are_refused(bounds, words):
    with pytest.raises(ValueError, match=words):
        curve_fit(decay, X, Y, [.5, .5], bounds=bounds)


def notes_of(*args, **options):
    with pytest.raises((TypeError, ValueError)) as caught:
        curve_fit(*args, **options)
    return caught.value, getattr(caught.value, "__notes__", [])


@pytest.mark.parametrize("args, options, note", [
    ((3, X, Y), {}, "`f` must be a function of xdata and the parameters, got int"),
    ((3, X, Y, [1, 1]), {}, "`f` must be a function of xdata and the parameters, got int"),
    ((decay, X, Y), {"jac": 3}, "`jac` must be a function of xdata and the parameters, got int"),
    ((decay, X, marked(Y, np.inf, 2, 5)), {}, "`ydata`[2] is inf, the first of 2 that are not finite"),
    ((decay, np.array([X, marked(X, np.nan, 7)]), Y), {}, "`xdata`[1, 7] is nan, the first of 1 that are not finite"),
    ((decay, X, ["q"] * 12), {}, "`ydata` must be real numbers, got list"),
    ((decay, X, {}), {}, "`ydata` must be real numbers, got dict"),
    ((decay, ["q"] * 12, Y), {}, "`xdata` must be real numbers, got list"),
    ((decay, X, Y), {"sigma": np.ones(13)}, "got (13,); one number, shape (12,) or (12, 12) are right for 12 data"),
    ((decay, X, Y), {"sigma": COV - .1 * np.eye(12)}, "its smallest eigenvalue (of the lower triangle) is -0.097"),
    ((decay, X, Y), {"sigma": np.where(COV == 0, np.nan, COV)}, "`sigma`[0, 2] is nan, the first of 110"),
    ((decay, X, Y), {"bounds": ([0] * 3, 1)}, "lower bounds of shape (3,), upper bounds of shape (), for 2 parameters"),
    ((decay, X, Y), {"bounds": (0, 9), "x_scale": [1, -1]}, "got [1, -1]"),
    ((decay, X, Y), {"bounds": (0, 9), "max_nfev": "3"}, "got '3'"),
])
def test_a_note_says_what_scipys_message_leaves_out(args, options, note):
    assert [said[:len(note)] for said in notes_of(*args, **options)[1]] == [note]


@pytest.mark.parametrize("args, options, words", [
    ((decay, X, Y), {"jac": "exact"}, "`jac` must be callable, None or one of ['2-point', '3-point', 'cs', 'jax'], got 'exact'."),
    ((decay, X, Y, ["a", 1]), {}, "curve_fit: p0 must be real numbers that fit in float64, got ndarray of dtype <U21"),
    ((decay, X, Y, [1j, 1]), {}, "curve_fit: p0 must be real numbers that fit in float64, got ndarray of dtype complex128"),
    ((decay, X, Y, []), {}, "`p0` must have at least one element, got none."),
    ((decay, X, Y, [1, 5]), {"bounds": (0, 2)},
     "Initial guess is outside of provided bounds. `p0` is infeasible: p0[1] = 5.0 is outside its bounds [0.0, 2.0]."),
    ((decay, X, Y, [1, np.nan]), {"bounds": (0, 2)}, "`p0` must not be nan, got p0[1] = nan."),
    ((decay, X, Y), {"history": True}, "curve_fit: history=True needs full_output=True, because infodict holds the history"),
    ((decay, X, Y), {"maxfev": 1.5}, "curve_fit: maxfev must be an integer, got float"),
    ((decay, X, Y), {"bounds": (None, 2)}, "`bounds` must be real numbers, got None: -inf and inf leave a parameter free."),
    ((decay, X, Y), {"sigma": "a"}, "curve_fit: sigma must be real numbers that fit in float64, got str of dtype <U1"),
    ((decay, X, Y), {"sigma": SD + 1j}, "curve_fit: sigma must be real numbers that fit in float64, got ndarray of dtype "
                                        "complex128"),
])
def test_bad_arguments_are_named(args, options, words):
    assert str(notes_of(*args, **options)[0]) == words


def test_a_callback_may_end_the_fit_early():
    seen = []

    def enough(state):
        seen.append(state.x)
        return len(seen) == 3
    popt, pcov, info, mesg, ier = curve_fit(decay, X, Y, callback=enough, full_output=True)
    assert ier == 11 and "callback" in mesg and np.isfinite(pcov).all()
    np.testing.assert_array_equal(popt, seen[-1])
    np.testing.assert_array_equal(info["fvec"], decay(X, *popt) - Y)


@pytest.mark.parametrize("jac", ["2-point", "3-point", "cs"])
def test_derivatives_by_name(jac):
    np.testing.assert_allclose(curve_fit(decay, X, Y, jac=jac)[0], curve_fit(decay, X, Y)[0],
                               rtol=1e-6)


def test_infinite_bounds_object():
    class Bounds:
        lb, ub = -np.inf, np.inf
    np.testing.assert_array_equal(curve_fit(decay, X, Y, bounds=Bounds())[0],
                                  curve_fit(decay, X, Y)[0])


@pytest.mark.parametrize("method", ["LM", "TRF", 3, ["lm"]])
def test_other_methods_are_refused_by_name(method):
    error, notes = notes_of(decay, X, Y, method=method)
    assert "`method` must be 'trf', 'dogbox' or 'lm'." in str(error) and notes == [f"got {method!r}"]


# ---------------------------------------------------------------------------
# residuals are made in C: as Python's operators make them, to the bit


class Tagged(np.ndarray):
    """An array whose differences are doubled: code that treats it as a plain ndarray gets other numbers."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        plain = [np.asarray(value) for value in inputs]
        return getattr(ufunc, method)(*plain, **options) * (2 if ufunc is np.subtract else 1)


class Cool:
    """An object with its own subtraction, which returns a list."""

    def __init__(self, values):
        self.values = values

    def __sub__(self, other):
        return list(self.values - other)


def unaligned(values):
    room = np.zeros(8 * len(values) + 1, "u1")[1:].view("f8")
    room[:] = values
    return room


RETURNS = {
    "plain": lambda r: r, "strided": lambda r: np.repeat(r, 3)[::3], "backwards": lambda r: r[::-1].copy()[::-1],
    "read-only": lambda r: np.broadcast_to(r[:1], r.shape), "unaligned": unaligned,
    "swapped": lambda r: r.astype(">f8"), "float32": lambda r: r.astype("f4"), "integers": lambda r: np.int64(9 * r),
    "longdouble": lambda r: r.astype("g"), "complex": lambda r: r + 0j, "objects": lambda r: r.astype(object),
    "list": list, "tuple": tuple, "number": lambda r: r[0], "one of it": lambda r: r[:1], "empty": lambda r: r[:0],
    "too short": lambda r: r[:-1], "2-D": lambda r: r[None, :], "0-d": lambda r: np.array(r[0]),
    "subclass": lambda r: r.view(Tagged), "matrix": lambda r: np.asmatrix(r),
    "own operator": Cool, "None": lambda r: None, "words": lambda r: "q" * 12, "generator": lambda r: (v for v in r),
    "nan": lambda r: marked(r, np.nan, 4), "inf": lambda r: marked(r, np.inf, 4), "huge": lambda r: 1e308 * r,
    "tiny": lambda r: Y + 1e-308 * r, "zero": lambda r: Y.copy(), "the data": lambda r: Y,
}
WEIGHTS = {"none": None, "one": 2.5, "many": 1 / SD, "huge": 1e200, "tiny": 1e-250, "zeros": marked(1 / SD, 0, 1, 5),
           "float32": (1 / SD).astype("f4"), "strided": np.repeat(1 / SD, 2)[::2]}


def bits(value):
    if isinstance(value, np.ndarray):
        if value.dtype.char in "OgG":              # some bytes of these are not part of the number
            return type(value), value.dtype, value.shape, repr(value.tolist())
        return type(value), value.dtype, value.shape, value.tobytes()
    return type(value), repr(value)


def trace(solve, function, *args, **options):
    kind, got, seen = outcome(solve, (function, *args), options)
    seen = [(category, text) for category, text, _ in seen]
    if kind == "error":
        return type(got), str(got), seen
    return [bits(value) for value in (got if isinstance(got, tuple) else (got,))], seen


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("form", RETURNS.values(), ids=RETURNS.keys())
def test_residuals_are_what_python_makes(form, weights):
    def model(x, a, b):
        return form(decay(x, a, b))

    def by_python(p):
        difference = model(X, *p) - y
        return difference if weights is None else weights * difference

    for y in (Y, np.repeat(Y, 2)[::2], marked(Y, np.inf, 4)):
        by_c = leastsq._core.Curve(model, X, y, weights)
        for p in (np.array([1.0, 2.0]), np.array([1.0, 9.0, 2.0, 9.0])[::2], [1, 2], np.array([1.0, 2 + 1j])):
            assert trace(by_c, p) == trace(by_python, p)
        for options in ({}, {"qr": "blocked"}, {"Dfun": "3-point"}):
            got, want = (trace(leastsq.leastsq, f, [1.0, 2.0], maxfev=9, **options) for f in (by_c, by_python))
            assert got == want


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("form", [
    lambda j: j, np.asfortranarray, lambda j: np.repeat(j, 2, 0)[::2], lambda j: j.astype("f4"), lambda j: j.tolist(),
    lambda j: j.view(Tagged), lambda j: j[:-1], lambda j: j.T, lambda j: j[:, 0], lambda j: j * np.nan, lambda j: 1e308 * j,
    lambda j: None])
def test_weighted_rows_are_what_python_makes(form, weights):
    def jac(x, a, b):
        return form(decay_jac(x, a, b))

    def by_python(p):
        rows = jac(X, *p)
        if weights is None:
            return rows
        rows = np.asarray(rows)
        return np.reshape(weights, (-1, 1)) * rows if rows.ndim > 1 else weights * rows
    by_python.__name__ = "jac"

    by_c = leastsq._core.Curve(jac, X, None, weights)
    assert trace(by_c, np.array([1.0, 2.0])) == trace(by_python, np.array([1.0, 2.0]))
    for options in ({}, {"qr": "blocked"}, {"col_deriv": True}):
        got, want = (trace(leastsq.leastsq, lambda p: decay(X, *p) - Y, [1.0, 2.0], Dfun=f, maxfev=9, **options)
                     for f in (by_c, by_python))
        assert got == want


def test_numpys_error_settings_hold():
    for f, words in ((lambda x, a: a * x * 1e-300, "underflow"), (lambda x, a: -a * x * 1e308, "overflow")):
        with np.errstate(all="raise"), pytest.raises(FloatingPointError, match=words):
            curve_fit(f, X + 1, 1e308 * (X + .5) if words == "overflow" else 0 * X, [1.0], sigma=1e10)


@pytest.mark.parametrize("sigma", [None, .5, SD, COV], ids=["none", "one", "many", "covariance"])
@pytest.mark.parametrize("jac", [None, decay_jac, "cs"], ids=["differences", "jac", "cs"])
def test_models_may_raise_at_any_call(jac, sigma):
    class Stop(Exception):
        pass

    def counting(function, at=None):
        def called(*args):
            calls.append(args)
            if len(calls) == at:
                raise error
            return function(*args)
        return called

    def fit(at=None):
        calls.clear()
        return curve_fit(counting(decay, at), X, Y, [1, 1], sigma,
                         jac=counting(jac, at) if callable(jac) else jac)
    calls, error = [], Stop()
    fit()
    for at in range(1, len(calls) + 1):
        with pytest.raises(Stop) as caught:
            fit(at)
        assert caught.value is error and caught.traceback[-1].name == "called" and error.__context__ is None
        error.__traceback__ = None


def test_models_may_reuse_one_array_and_change_their_data():
    room = np.empty(12)

    def f(x, a, b):
        room[:] = decay(x, a, b)
        return room
    for sigma in (None, SD):
        np.testing.assert_array_equal(curve_fit(f, X, Y, sigma=sigma)[0], curve_fit(decay, X, Y, sigma=sigma)[0])

    y, calls = Y.copy(), []             # np.asarray makes no copy: all calls return the same array

    def shrinking(x, a, b):
        calls.append(y.shape)
        if len(calls) == 4:
            y.resize(6, refcheck=False)
        return decay(x, a, b)
    with pytest.raises(ValueError, match="operands could not be broadcast"):
        curve_fit(shrinking, X, y)


def test_fits_within_models_and_many_parameters():
    def outer(x, a, b):
        return a * x + b * curve_fit(decay, X, Y)[0][0]
    assert np.isfinite(curve_fit(outer, X, Y)[0]).all()
    x = np.arange(60.0)
    popt, _ = curve_fit(lambda x, *p: np.polynomial.chebyshev.chebval(x / 30 - 1, p), x, np.cos(x / 9), np.zeros(30))
    np.testing.assert_allclose(np.polynomial.chebyshev.chebval(x / 30 - 1, popt), np.cos(x / 9), atol=1e-9)


def test_fits_keep_no_references_after_they_end():
    class Data(dict):
        pass

    def refused(x, a, b):
        raise ZeroDivisionError
    model, jac = functools.partial(decay), functools.partial(decay_jac)
    data = [Data(t=X), X.copy(), Y.copy(), model, jac]

    def fit():
        for sigma in (None, SD, COV):
            for by in (None, jac):
                curve_fit(model, data[1], data[2], [1, 1], sigma, jac=by)
                curve_fit(lambda x, a, b: decay(x["t"], a, b), data[0], data[2], [1, 1], sigma)
            with pytest.raises(ZeroDivisionError):
                curve_fit(refused, data[0], data[2], [1, 1], sigma)
    fit()
    before = [sys.getrefcount(value) for value in data]
    for _ in range(5):
        fit()
    assert [sys.getrefcount(value) for value in data] == before


def test_cycles_through_models_are_collected():
    class Model:
        def __call__(self, x, a, b):
            return decay(x, a, b)
    model = Model()
    model.curve = leastsq._core.Curve(model, X, Y, SD)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_difference_points_may_go_to_other_processes():
    curve = leastsq._core.Curve(decay, X, Y, 1 / SD)
    copied = pickle.loads(pickle.dumps(curve))
    np.testing.assert_array_equal(copied(np.ones(2)), curve(np.ones(2)))

    def shipping(function, points):
        return [pickle.loads(pickle.dumps(function))(point) for point in points]
    for sigma in (None, SD, COV):
        got, want = (curve_fit(decay, X, Y, sigma=sigma, workers=workers) for workers in (shipping, None))
        np.testing.assert_array_equal(got[0], want[0])


@pytest.mark.parametrize("args", [(), (np.ones(2), 1)])
def test_curves_take_the_parameters_alone(args):
    curve = leastsq._core.Curve(decay, X, Y, None)
    with pytest.raises(TypeError, match="takes one argument, the parameters"):
        curve(*args)
    with pytest.raises(TypeError, match="takes one argument, the parameters"):
        curve(params=np.ones(2))
    with pytest.raises(TypeError, match="takes 4 positional arguments"):
        leastsq._core.Curve(decay)


# ---------------------------------------------------------------------------
# what callers rely on


def test_signature_is_scipys(scipys):
    def shape(f):
        return [(p.name, p.kind, repr(p.default)) for p in inspect.signature(f).parameters.values()]
    ours = [p for p in shape(curve_fit) if p[0] not in ("covariance", "separable")]
    assert ours == shape(scipys) and len(ours) == len(shape(curve_fit)) - 2


def test_arguments_are_not_changed():
    x, y, p0, sd = X.copy(), Y.copy(), np.ones(2), SD.copy()
    curve_fit(decay, x, y, p0, sd, jac=decay_jac)
    for array, original in ((x, X), (y, Y), (p0, np.ones(2)), (sd, SD)):
        np.testing.assert_array_equal(array, original)


def test_model_is_called_nfev_times():
    calls = []

    def f(x, a, b):
        calls.append((a, b))
        return decay(x, a, b)
    info = curve_fit(f, X, Y, full_output=True)[2]
    assert len(calls) == info["nfev"]
    assert all(type(a) is np.float64 for a in calls[0])     # 1/a is inf at 0, not an error


def test_warning_is_a_user_warning_of_ours():
    assert issubclass(OptimizeWarning, UserWarning) and leastsq.OptimizeWarning is OptimizeWarning


def test_filters_for_scipys_warning_hold():
    scipy = pytest.importorskip("scipy.optimize")
    with pytest.warns(scipy.OptimizeWarning, match=NO_ESTIMATE) as caught:
        curve_fit(lambda x, a: a*x, [1.0], [1.0])
    assert issubclass(caught[0].category, OptimizeWarning) and caught[0].category.__name__ == "OptimizeWarning"
    script = ("import sys, warnings\nfrom leastsq import OptimizeWarning, curve_fit\n"
              "with warnings.catch_warnings(record=True) as caught:\n"
              "    warnings.simplefilter('always')\n    curve_fit(lambda x, a: a*x, [1.0], [1.0])\n"
              "assert caught[0].category is OptimizeWarning and 'scipy' not in sys.modules\n")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_jacobian_of_the_wrong_shape_is_named():
    def slopes(x, a, b):
        return np.ones((3, 2))
    with pytest.raises(TypeError, match="'slopes'.*Shape should be"):
        curve_fit(decay, X, Y, jac=slopes)


def test_examples_of_the_documentation():
    wrong, tried = run_examples(curve_fit.__doc__)
    assert tried > 5 and wrong == ""


# ------------------------------------------------------------------ an optimum near zero

def _near_zero(curvature, noise=0.01):
    """Data whose least-squares curvature is exactly this: (x, y, the standard error of the curvature)."""
    x = np.linspace(-1, 1, 30)
    J = np.column_stack([np.ones(30), x**2])
    z = noise*np.random.default_rng(1).standard_normal(30)
    z -= J @ np.linalg.lstsq(J, z, rcond=None)[0]
    return x, 1 + curvature*x**2 + z, np.sqrt(z @ z/28*np.linalg.inv(J.T @ J)[1, 1])


def _parabola(x, level, curvature):
    return level + curvature*x**2


@pytest.mark.parametrize("sigma", [None, 0.5, np.full(30, 0.5), 0.25*np.eye(30)], ids=["none", "number", "vector", "matrix"])
@pytest.mark.parametrize("curvature", [1e-9, -1e-9, 3e-9])
def test_a_forward_difference_lost_in_rounding_gives_a_warning(curvature, sigma):
    x, y, error = _near_zero(curvature)
    with pytest.warns(OptimizeWarning, match="parameter 1.*covariance=\"accurate\""):
        pcov = curve_fit(_parabola, x, y, [1, 0.5], sigma=sigma)[1]
    assert abs(np.sqrt(pcov[1, 1])/error - 1) > 0.1
    for options in ({"covariance": "accurate"}, {"bounds": (-9, 9)}, {"jac": "cs"}):
        pcov = curve_fit(_parabola, x, y, [1, 0.5], sigma=sigma, **options)[1]      # a warning would fail
        assert np.sqrt(pcov[1, 1]) == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize("curvature", [1e-4, 1e-3, 0.1])
def test_a_forward_difference_that_is_accurate_gives_no_warning(curvature):
    x, y, error = _near_zero(curvature)
    pcov = curve_fit(_parabola, x, y, [1, 0.5])[1]
    assert np.sqrt(pcov[1, 1]) == pytest.approx(error, rel=1e-3)


def test_ordinary_fits_of_a_parameter_that_is_zero_give_no_warning():
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, 30)
    for _ in range(300):
        curve_fit(_parabola, x, 1 + 0.01*rng.standard_normal(30), [1, 0.5])


def test_points_of_infinite_sigma_do_not_count_with_bounds():
    x, y, error = _near_zero(0.1)
    sigma = np.append(np.ones(30), [np.inf]*5)
    pcov = curve_fit(_parabola, np.append(x, x[:5]), np.append(y, [9.0]*5), [1, 0.5], sigma=sigma, bounds=(-9, 9))[1]
    assert np.sqrt(pcov[1, 1]) == pytest.approx(error, rel=1e-6)


def test_a_parameter_at_its_bound_that_acts_by_its_square_leaves_the_others_their_standard_errors():
    x, y, error = _near_zero(0.1)

    def model(x, level, curvature, width):
        return level + curvature*x**2 + np.where(x > 0, width**2, 0)
    with pytest.warns(OptimizeWarning, match="could not be estimated"):
        popt, pcov = curve_fit(model, x, y - 0.1*(x > 0), [1, 0.5, 0.3], bounds=([-9, -9, 0], 9))
    assert popt[2] == 0 and np.isinf(pcov[2, 2]) and np.isfinite(pcov[:2, :2]).all()
