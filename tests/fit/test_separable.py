"""Linear parameters of `leastsq` (their basis) and `curve_fit` (their names), solved for inside each evaluation."""
import itertools

import numpy as np
import pytest

from leastsq import CFunction, covariance, curve_fit, leastsq, report

T = np.linspace(0, 4, 50)


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


Y = decay(T, 2.5, 1.3, 0.5) + 0.02*np.random.default_rng(1).standard_normal(50)


def residual(x):
    return x[1]*np.exp(-x[0]*T) + x[2] - Y


def basis(a):
    return np.stack([np.exp(-a[0]*T), np.ones(50)], axis=1)


def test_leastsq_with_a_basis_has_the_whole_answer():
    calls = []

    def counted(x):
        calls.append(x)
        return residual(x)
    x, cov, info, message, ier = leastsq(counted, [1.0], separable=basis, full_output=True)
    X, COV, INFO, _, _ = leastsq(residual, [1.0, 1, 1], full_output=True, ftol=1e-14, xtol=1e-14)
    assert x == pytest.approx(X, rel=1e-8)
    assert info["nfev"] == len(calls) < INFO["nfev"]
    assert ier == 1
    assert cov == pytest.approx(COV, rel=1e-5)
    assert np.array_equal(info["fvec"], residual(x))
    R = np.triu(info["fjac"].T[:3])
    J = np.stack([-x[1]*T*np.exp(-x[0]*T), *basis(x).T], axis=1)[:, info["ipvt"] - 1]
    assert R.T @ R == pytest.approx(J.T @ J, rel=1e-6)
    assert covariance((x, cov, info, message, ier)).stderr == pytest.approx(covariance(residual, x).stderr, rel=1e-8)
    assert "x[2]" in str(report((x, cov, info, message, ier)))
    assert np.array_equal(leastsq(residual, [1.0], separable=basis)[0], x)


def test_args_and_jacobian_go_to_func_dfun_and_basis():
    def func(x, t, y):
        return x[1]*np.exp(-x[0]*t) + x[2] - y

    def derivatives(x, t, y):
        return np.stack([-x[1]*t*np.exp(-x[0]*t), np.exp(-x[0]*t), np.ones_like(t)])
    x, _, info, _, _ = leastsq(func, [1.0], (T, Y), derivatives, True, True, separable=lambda a, t, y: basis(a))
    assert x == pytest.approx(leastsq(residual, [1.0, 1, 1])[0], rel=1e-6)
    assert info["njev"] > 1


@pytest.mark.parametrize("Dfun", ["2-point", "3-point", "cs"])
def test_leastsq_with_bounds_of_all_parameters(Dfun):
    bounds = ([0, 0, 0.6], [9, 2.3, 9])
    x, _, info, message, _ = leastsq(residual, [1.0], Dfun=Dfun, separable=basis, bounds=bounds, full_output=True)
    X, _, INFO, _, _ = leastsq(residual, [1.0, 1, 1], bounds=bounds, full_output=True, ftol=1e-14, xtol=1e-14)
    assert x == pytest.approx(X, rel=1e-5)
    assert np.array_equal(info["active_mask"], [0, 1, -1])
    assert info["multipliers"] == pytest.approx(INFO["multipliers"], rel=1e-3, abs=1e-9)
    assert "Held" in message


def test_workers_evaluate_the_differences():
    def two(x):
        return x[2]*np.exp(-x[0]*T) + x[3]*np.exp(-x[1]*T) - Y

    def columns(a):
        return np.exp(-np.outer(T, a))
    alone = leastsq(two, [0.1, 2.0], separable=columns)[0]
    assert np.array_equal(leastsq(two, [0.1, 2.0], separable=columns, workers=2)[0], alone)


@pytest.mark.parametrize("options, said", [
    ({"separable": 3}, "must be a function"),
    ({"separable": lambda a: np.ones(3)}, r"shape \(m, p\), got the shape \(3,\)"),
    ({"separable": lambda a: np.ones((7, 2))}, r"must have the shape \(50, 2\)"),
    ({"separable": lambda a: np.stack([T, 1 + 0*T], 1)}, "is off by 0.4"),
    ({"loss": "huber"}, "separable needs loss='linear', got 'huber'"),
    ({"strategy": "quick"}, "leastsq: strategy must be 'minpack', 'fast' or 'robust', got 'quick'"),
    ({"strict": True}, "cannot be combined with strict"),
    ({"history": True, "full_output": True}, "cannot be combined with history"),
    ({"qr": "blocked"}, "cannot be combined with qr"),
    ({"bounds": ([0, 0], [1, 1])}, "Inconsistent shapes"),
])
def test_leastsq_refuses(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        leastsq(residual, [1.0], **({"separable": basis} | options))


def test_compiled_functions_are_refused():
    function = CFunction.__new__(CFunction)
    with pytest.raises(TypeError, match="separable needs Python functions, got a CFunction for func"):
        leastsq(function, [1.0], separable=basis)


def test_a_start_that_is_not_finite_is_reported_with_the_parameters_of_the_whole_model():
    x, cov, info, message, ier = leastsq(lambda x: residual(x)*np.nan, [1.0], separable=basis, full_output=True)
    assert ier == 9 and cov is None and x.size == 3
    assert "func(x)[0] is nan" in message


def test_exceptions_arrive_from_every_call():
    class Mine(Exception):
        pass
    total = leastsq(residual, [1.0], separable=basis, full_output=True)[2]["nfev"]
    for after in range(total):
        calls = itertools.count()

        def failing(x, after=after, calls=calls):
            if next(calls) == after:
                raise Mine
            return residual(x)
        with pytest.raises(Mine):
            leastsq(failing, [1.0], separable=basis)


@pytest.mark.parametrize("separable", [True, "height", ["level", "height"]])
def test_curve_fit_has_the_whole_covariance(separable):
    popt, pcov, info, message, ier = curve_fit(decay, T, Y, [1, 1, 1], separable=separable, full_output=True)
    whole = curve_fit(decay, T, Y, [1, 1, 1], ftol=1e-14, xtol=1e-14, covariance="accurate")
    assert popt == pytest.approx(whole[0], rel=1e-7)
    assert pcov == pytest.approx(whole[1], rel=1e-6)
    assert ier == 1
    assert np.array_equal(info["fvec"], decay(T, *popt) - Y)


def test_strategies_take_other_steps_to_the_same_answer():
    found = {one: leastsq(residual, [40.0], separable=basis, strategy=one, full_output=True)
             for one in ("minpack", "fast", "robust")}
    for x, *_ in found.values():
        assert x == pytest.approx(found["minpack"][0], rel=1e-6)
    assert not np.array_equal(found["fast"][0], found["minpack"][0])


def test_relative_steps_are_those_of_the_remaining_parameters():
    steps = {"bounds": (0, 99), "diff_step": np.array([1e-2, 1e-6, 1e-2])}
    answer = curve_fit(decay, T, Y, [1, 1, 1], separable=["height", "level"], **steps)[0]
    assert answer == pytest.approx(curve_fit(decay, T, Y, [1, 1, 1], ftol=1e-14, xtol=1e-14)[0], rel=1e-6)


def test_curve_fit_with_sigma_and_bounds():
    options = {"sigma": np.linspace(1, 2, 50), "bounds": (0, [2.3, 10, 10])}
    popt, pcov = curve_fit(decay, T, Y, [1, 1, 1], separable=True, **options)
    whole = curve_fit(decay, T, Y, [1, 1, 1], ftol=1e-14, xtol=1e-14, **options)
    assert popt == pytest.approx(whole[0], rel=1e-5)
    assert pcov == pytest.approx(whole[1], rel=1e-4)


@pytest.mark.parametrize("options, said", [
    ({"separable": "rate"}, "curve_fit: separable: the model is not linear in 'rate': it is off by 0.1"),
    ({"separable": ["height", "rate"]}, "not linear in 'height', 'rate' together"),
    ({"separable": "rte"}, "got 'rte': f has height, rate, level"),
    ({"separable": 4}, "must be True, None or names"),
    ({"separable": True, "loss": "cauchy"}, "curve_fit: separable needs loss='linear'"),
    ({"separable": True, "strategy": "quick"}, "curve_fit: strategy must be"),
    ({"separable": True, "threads": 2}, "cannot be combined with threads"),
])
def test_curve_fit_refuses(options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        curve_fit(decay, T, Y, [1, 1, 1], **options)
