"""`fit`: parameters by the names of the model's arguments, x unchanged, the answers of the solver."""
import re
import warnings
from functools import partial

import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 50)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*np.random.default_rng(1).standard_normal(T.size)
START = {"height": 1, "rate": 1, "level": 0}


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def derivatives(t, height, rate, level):
    e = np.exp(-rate*t)
    return np.column_stack([e, -height*t*e, np.ones_like(t)])


def test_a_result_is_a_mapping_of_parameters_by_name():
    result = lsq.fit(decay, T, Y, START)
    assert list(result) == ["height", "rate", "level"] == list(result.names) and len(result) == 3
    assert "rate" in result and "rte" not in result
    assert result["rate"].value == result["rate"] == result.x[1] == result.params["rate"]
    assert result["rate"].stderr == result.stderr[1]
    assert (result["rate"].name, result["rate"].start, result["rate"].fixed, result["rate"].prior) == ("rate", 1.0, False, None)
    assert {**result} == dict(zip(result.names, result.x))
    with pytest.raises(KeyError, match="did you mean 'rate'"):
        result["rat"]


@pytest.mark.parametrize("sigma, absolute", [(None, False), (0.02, False), (0.02, True), (np.linspace(0.01, 0.03, 50), True),
                                             (0.02**2*(np.eye(50) + 0.3*np.eye(50, k=1) + 0.3*np.eye(50, k=-1)), True)],
                         ids=["none", "number", "absolute", "vector", "matrix"])
def test_answers_are_those_of_curve_fit(sigma, absolute):
    popt, pcov, info, _, ier = lsq.curve_fit(decay, T, Y, [1, 1, 0], sigma, absolute, full_output=True, covariance="accurate",
                                             strategy="fast")
    result = lsq.fit(decay, T, Y, START, sigma=sigma, absolute_sigma=absolute)
    assert np.allclose(result.x, popt, rtol=1e-12)
    assert result.status == ier and result.success and result.nfev <= info["nfev"]
    assert np.allclose(result.cov, pcov, rtol=1e-6)
    assert np.allclose(result.residuals, info["fvec"], rtol=1e-9, atol=1e-12)
    assert result.chi2 == pytest.approx(info["fvec"] @ info["fvec"])
    found = lsq.report((popt, pcov, info, "", ier))
    assert [result.dof, result.aic, result.bic, result.r_squared] == pytest.approx([found.dof, found.aic, found.bic, found.r2])


@pytest.mark.parametrize("start", [[1, 1, 0], (1, 1, 0), np.array([1, 1, 0]), {"level": 0, "rate": 1.0, "height": np.float32(1)}])
def test_starts_are_in_order_or_by_name(start):
    assert np.allclose(lsq.fit(decay, T, Y, start).x, lsq.fit(decay, T, Y, START).x, rtol=1e-7)


def test_a_result_is_a_start():
    first = lsq.fit(decay, T, Y, START)
    assert lsq.fit(decay, T, Y, first).nfev < first.nfev


def test_defaults_of_arguments_are_starts():
    def model(t, height, rate=1.0, level=0):
        return decay(t, height, rate, level)
    assert np.array_equal(lsq.fit(model, T, Y, {"height": 1}).x, lsq.fit(decay, T, Y, START).x)
    assert np.array_equal(lsq.fit(model, T, Y, {"height": 1, "level": 0.2}).start, [1, 1, 0.2])


def test_options_of_a_model_are_not_parameters():
    def model(t, height, kind="exp", flag=True, what=None, rate=1, *, level=0.5, base):     # noqa: ARG001
        return height*base**(-rate*t) + level
    result = lsq.fit(partial(model, base=np.e), T, Y, [1, 1])
    assert result.names == ("height", "rate")
    assert np.allclose(result.x, [2.5, 1.3], atol=0.05)


def test_a_bound_argument_is_not_a_parameter():
    result = lsq.fit(partial(decay, rate=1.3), T, Y, {"height": 1, "level": 0})
    held = lsq.fit(decay, T, Y, {"height": 1, "rate": 1.3, "level": 0}, fixed="rate")
    assert result.names == ("height", "level")
    assert np.allclose(result.x, held.x[[0, 2]], rtol=1e-9)


def test_a_model_with_any_number_of_parameters_gets_names_from_the_start():
    def by_place(t, *p):
        return p[0]*np.exp(-p[1]*t) + p[2]

    def by_name(t, **p):
        return p["a"]*np.exp(-p["b"]*t) + p["c"]

    wanted = lsq.fit(decay, T, Y, START).x
    for model, start, names in ((by_place, [1, 1, 0], ("p0", "p1", "p2")), (by_place, dict(a=1, b=1, c=0), ("a", "b", "c")),
                                (by_name, dict(a=1, b=1, c=0), ("a", "b", "c"))):
        result = lsq.fit(model, T, Y, start)
        assert result.names == names and np.array_equal(result.x, wanted)


def test_methods_and_objects_are_models():
    class Decay:
        def __call__(self, t, height, rate, level):
            return decay(t, height, rate, level)

        def of(self, t, height, rate, level):
            return decay(t, height, rate, level)
    wanted = lsq.fit(decay, T, Y, START).x
    for model in (Decay(), Decay().of, lambda t, height, rate, level: decay(t, height, rate, level)):
        assert np.array_equal(lsq.fit(model, T, Y, START).x, wanted)


@pytest.mark.parametrize("x", [(T, 2*T), {"t": T, "u": 2*T}, np.array([T, 2*T]), T, T.tolist(), T.astype(np.float32), "anything"],
                         ids=["tuple", "dict", "rows", "vector", "list", "float32", "object"])
def test_the_model_gets_x_as_it_is(x):
    seen = []

    def model(given, height, rate, level):
        seen.append(given)
        return decay(T, height, rate, level)
    result = lsq.fit(model, x, Y, START)
    assert np.allclose(result.x, lsq.fit(decay, T, Y, START).x)
    result.stderr, result.band(), result.predict()
    if isinstance(x, list):
        assert all(isinstance(one, np.ndarray) and np.array_equal(one, T) for one in seen)      # numbers become an array
    else:
        assert all(one is x for one in seen)


@pytest.mark.parametrize("jac", [derivatives, "2-point", "3-point", "cs"])
@pytest.mark.parametrize("sigma", [None, 0.1, np.linspace(1, 2, 50), np.eye(50) + 0.1])
def test_derivatives_may_be_given(jac, sigma):
    plain, result = lsq.fit(decay, T, Y, START, sigma=sigma), lsq.fit(decay, T, Y, START, sigma=sigma, jac=jac)
    assert np.allclose(result.x, plain.x, rtol=1e-6)
    assert np.allclose(result.stderr, plain.stderr, rtol=1e-6)
    assert (result.njev is None) == (jac is not derivatives)


@pytest.mark.parametrize("bounds", [{"rate": (0, 1.2)}, [None, (0, 1.2), (None, None)]])
def test_bounds_hold_and_are_reported(bounds):
    result = lsq.fit(decay, T, Y, START, bounds=bounds)
    assert result["rate"] == 1.2 and np.isnan(result["rate"].stderr)
    assert result["rate"].bounds == (0, 1.2) and result["level"].bounds == (-np.inf, np.inf)
    assert re.search(r"[\d)]\. rate is at the upper bound\.$", result.message)
    assert "rate is held at its bound" in str(result)
    assert result.to_dict()["parameters"]["rate"]["status"] == "held"


@pytest.mark.parametrize("fixed", ["rate", ["rate"], {"rate": True}, {"rate": 1.0, "level": False}, [False, True, None],
                                   np.array([False, True, False])])
def test_fixed_parameters_stay(fixed):
    result = lsq.fit(decay, T, Y, START, fixed=fixed)
    popt, _ = lsq.curve_fit(lambda t, height, level: decay(t, height, 1.0, level), T, Y, [1, 0])
    assert result["rate"] == 1.0 and result["rate"].fixed and not result["level"].fixed
    assert np.allclose(result.x[[0, 2]], popt, rtol=1e-7)
    assert result.dof == T.size - 2
    assert "fixed" in repr(result["rate"])


def test_a_fixed_value_needs_no_start():
    result = lsq.fit(decay, T, Y, {"height": 1, "level": 0}, fixed={"rate": 1.25})
    assert result["rate"] == result["rate"].start == 1.25


def test_everything_may_be_fixed():
    result = lsq.fit(decay, T, Y, START, fixed=["height", "rate", "level"])
    assert np.array_equal(result.x, [1, 1, 0]) and result.chi2 == pytest.approx(np.sum((decay(T, 1, 1, 0) - Y)**2))


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan",
                                  lambda z: np.array([z, np.ones_like(z), np.zeros_like(z)])])
def test_losses_are_those_of_leastsq(loss):
    y = Y.copy()
    y[3] += 2
    result = lsq.fit(decay, T, y, START, sigma=0.02, loss=loss)
    x, _, info, _, _ = lsq.leastsq(lambda p: (decay(T, *p) - y)/0.02, [1, 1, 0], full_output=True, loss=loss)
    assert np.allclose(result.x, x, rtol=1e-5)
    spread = lsq.covariance(lambda p: (decay(T, *p) - y)/0.02, result.x, loss=loss)
    assert np.allclose(result.stderr, spread.stderr, rtol=1e-6)


def test_a_fit_that_fails_says_so_and_warns():
    with pytest.warns(RuntimeWarning, match="maxfev"):
        result = lsq.fit(decay, T, Y, START, maxfev=4)
    assert not result.success and result.status == lsq.Status.MAXFEV
    with np.errstate(all="ignore"):
        with pytest.warns(RuntimeWarning, match=r"The residual of y\[0\] is -?inf at the start: a = 1, b = 1"):
            result = lsq.fit(lambda t, a, b: a*np.log(b*t), T, Y, [1, 1])
        assert not result.success and np.isnan(result.stderr).all()
        assert "not finite" in str(result) and result._repr_html_()


def test_a_callback_ends_a_fit_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = lsq.fit(decay, T, Y, START, callback=lambda state: state.iteration == 2)
    assert result.status == lsq.Status.WATCHER and not result.success


def test_verbose_prints(capsys):
    lsq.fit(decay, T, Y, START, verbose=2)
    assert "Iteration" in capsys.readouterr().out


def test_an_exception_of_the_model_arrives_unchanged():
    error = ValueError("mine")

    def model(t, a):
        raise error
    for x in (T, "anything"):
        with pytest.raises(ValueError) as caught:
            lsq.fit(model, x, Y, [1.0])
        assert caught.value is error


def test_the_model_is_called_as_often_as_reported():
    calls = [0]

    def model(t, height, rate, level):
        calls[0] += 1
        return decay(t, height, rate, level)
    result = lsq.fit(model, T, Y, START, sigma=0.02)
    assert calls[0] == result.nfev and result.extra_nfev == 0          # uncertainties have not been computed yet
    result.stderr
    made = result.extra_nfev
    assert calls[0] == result.nfev + made > result.nfev
    result.cov, result.correlation, result["rate"].stderr, result.covariance
    assert result.extra_nfev == made
    result.intervals(method="profile"), result.contour("rate", "level", points=4)
    assert calls[0] == result.nfev + result.extra_nfev


@pytest.mark.parametrize("strategy", ["fast", "minpack", "robust"])
def test_a_strategy_is_kept(strategy):
    assert lsq.fit(decay, T, Y, START, strategy=strategy).strategy == strategy


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("options", [{}, {"sigma": 0.02}, {"sigma": np.linspace(0.01, 0.03, 50)}, {"sigma": 4e-4*np.eye(50)},
                                     {"jac": "3-point"}, {"bounds": {"rate": (0.5, 9)}, "strategy": "minpack"},
                                     {"sigma": 0.02, "prior": {"rate": (1.3, 0.1)}}])
def test_models_of_low_precision_get_longer_steps(dtype, options):
    def rounded(t, height, rate, level):
        return decay(t, height, rate, level).astype(dtype)
    result, exact = lsq.fit(rounded, T, Y, START, **options), lsq.fit(decay, T, Y, START, **options)
    close = 0.01 if dtype is np.float32 else 1.0
    assert np.all(np.abs(result.x - exact.x) < close*exact.stderr)
    assert np.allclose(result.stderr, exact.stderr, rtol=0.02 if dtype is np.float32 else 0.3)


def test_a_model_of_low_precision_is_counted_in_full():
    calls = [0]

    def rounded(t, height, rate, level):
        calls[0] += 1
        return decay(t, height, rate, level).astype(np.float32)
    result = lsq.fit(rounded, T, Y, START)
    assert calls[0] == result.nfev
    calls[0] = 0
    whole = lsq.fit(lambda t, a: rounded(t, 0, 0, 0).astype(float) + a, T, np.round(Y), [0])     # values look rounded at first
    assert calls[0] == whole.nfev
