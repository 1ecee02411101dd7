"""Covariance of fitted parameters: NIST's certified standard errors, parameters near zero, deficient rank."""
import ctypes
import math

import numpy as np
import pytest
import strd

import leastsq
from leastsq import covariance
from leastsq._problem.accurate_jacobian import accurate_jacobian
from leastsq._problem.problem import Problem

T = np.linspace(0.0, 1.0, 20)


# ----------------------------------------------------------------- correctness

@pytest.mark.parametrize("method, digits", [(None, 9.0), ("cs", 9.0), ("3-point", 5.5)])
@pytest.mark.parametrize("name", strd.NAMES)
def test_nist_standard_errors_without_derivatives(name, method, digits):
    dataset = strd.load(name)
    found = covariance(dataset.residual, dataset.certified, method=method)
    assert strd.correct_digits(found.stderr, dataset.stderr).min() >= digits
    assert found.rank == found.x.size == dataset.n
    assert found.dof == dataset.m - dataset.n
    assert found.chi2 == pytest.approx(dataset.rss, rel=1e-6)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("value", [0.0, 1e-9, -1e-9, 1e-15, 1e-30, 1e-6])
@pytest.mark.parametrize("method, tolerance", [(None, 1e-8), ("3-point", 1e-6), ("2-point", 1e-4), ("cs", 1e-8)])
def test_a_parameter_near_zero_has_the_right_standard_error(value, noise, method, tolerance):
    """For 1e-9 ± 1e-3, a step relative to the parameter would be lost in rounding."""
    y = 2*np.exp(-1.3*T) + np.sin(value*T) + noise*np.random.default_rng(0).standard_normal(T.size)
    J = np.column_stack([np.exp(-1.3*T), -2*T*np.exp(-1.3*T), T*np.cos(value*T)])
    right = 1e-3*np.sqrt(np.diag(np.linalg.inv(J.T @ J)))
    found = covariance(lambda x: x[0]*np.exp(-x[1]*T) + np.sin(x[2]*T) - y, [2.0, 1.3, value],
                       method=method, sigma=1e-3, absolute_sigma=True)
    assert right[2] > 1e-3
    assert found.stderr == pytest.approx(right, rel=tolerance)


@pytest.mark.parametrize("units", [1e-12, 1.0, 1e12])
def test_units_of_a_parameter_do_not_matter(units):
    def residual(x):
        return x[0]*np.exp(-x[1]*units*T) - np.cos(T)
    base = covariance(lambda x: x[0]*np.exp(-x[1]*T) - np.cos(T), [1.1, 0.4])
    found = covariance(residual, [1.1, 0.4/units])
    assert found.stderr*[1, units] == pytest.approx(base.stderr, rel=1e-8)
    assert found.condition == pytest.approx(base.condition, rel=1e-8)


@pytest.mark.parametrize("edge", [(lambda x: x >= 0), (lambda x: x <= 0)], ids=["from below", "from above"])
def test_a_parameter_at_the_edge_of_the_domain_gets_one_sided_differences(edge):
    def residual(x):
        return (x[0] + x[0]**2)*T + x[1] - T**2 if edge(x[0]) else np.full(T.size, np.nan)
    found = covariance(residual, [0.0, 0.1], absolute_sigma=True)
    J = np.column_stack([T, np.ones(T.size)])
    assert found.cov == pytest.approx(np.linalg.inv(J.T @ J), rel=1e-8)


def test_a_function_that_raises_beyond_its_domain_is_differentiated_within():
    def residual(x):
        return np.array([math.log(x[0])*t + x[1] - 1 for t in T])
    found = covariance(residual, [1e-9, 0.1], absolute_sigma=True)
    J = np.column_stack([T/1e-9, np.ones(T.size)])
    assert found.stderr == pytest.approx(np.sqrt(np.diag(np.linalg.inv(J.T @ J))), rel=1e-6)


def test_noise_in_the_function_shows_in_the_derivative_error():
    found = covariance(lambda x: (x[0]*T + x[1] - np.exp(T)).astype(np.float32), [1.7, 0.9])
    assert 1e-9 < found.derivative_error < 1e-3
    assert covariance(lambda x: x[0]*T + x[1] - np.exp(T), [1.7, 0.9]).derivative_error < 1e-12


def _logistic(x):
    return 1/(1 + np.exp(-(T - x[1])/x[2]))


@pytest.mark.parametrize("model, jacobian", [
    (lambda x: x[0]*(T + 1)**x[1], lambda x: [(T + 1)**x[1], x[0]*(T + 1)**x[1]*np.log(T + 1)]),
    (lambda x: x[0]*_logistic(x), lambda x: [_logistic(x), *(-x[0]*_logistic(x)*(1 - _logistic(x))/x[2]
                                                             * np.array([np.ones(T.size), (T - x[1])/x[2]]))]),
    (lambda x: x[0]*np.sin(x[1]*T + x[2]),
     lambda x: [np.sin(x[1]*T + x[2]), x[0]*T*np.cos(x[1]*T + x[2]), x[0]*np.cos(x[1]*T + x[2])]),
], ids=["power", "step", "wave"])
def test_steps_suit_parameters_of_any_size_and_effect(model, jacobian):
    """Random parameters over six decades, and residuals up to 1e9 times larger than the effect of a parameter."""
    rng = np.random.default_rng(5)
    for _ in range(150):
        with np.errstate(all="ignore"):
            x = rng.standard_normal(3)*10.0**rng.integers(-3, 3, 3)
            x[2] = abs(x[2]) + 0.05
            x = x[:len(jacobian(x))]
            J, f = np.column_stack(jacobian(x)), model(x) + rng.standard_normal(T.size)*10.0**rng.integers(-8, 3)
            sizes = np.linalg.norm(J, axis=0)
            if not np.isfinite(J).all() or sizes.min() < 1e-9*max(np.linalg.norm(f), np.linalg.norm(model(x))):
                continue
            made = accurate_jacobian(Problem(lambda z, y=model(x) - f: model(z) - y), x)
        off = np.linalg.norm(made.J - J, axis=0)/sizes
        assert (off <= np.maximum(1e-8, 20*made.error)).all(), x
        assert (made.error < 1e-3).all(), x


def test_dfun_is_used_when_given_and_differences_when_asked_for():
    calls = []

    def jacobian(x):
        calls.append(x)
        return np.column_stack([T, np.ones(T.size)])

    def residual(x):
        return x[0]*T + x[1] - np.exp(T)
    exact = covariance(residual, [1.7, 0.9], Dfun=jacobian)
    assert (exact.method, exact.nfev, len(calls)) == ("Dfun", 1, 1)
    assert covariance(residual, [1.7, 0.9], Dfun=jacobian, method="3-point").cov == pytest.approx(exact.cov, rel=1e-8)
    assert len(calls) == 1


def test_a_compiled_function_has_a_covariance():
    double_p = ctypes.POINTER(ctypes.c_double)
    signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, double_p, double_p, ctypes.c_void_p)

    @signature
    def line(m, n, x, f, data):
        for i in range(m):
            f[i] = x[0]*T[i] + x[1] - T[i]**2
        return 0
    ours = covariance(leastsq.CFunction(line, T.size), [1.0, -0.2])
    assert ours.cov == pytest.approx(covariance(lambda x: x[0]*T + x[1] - T**2, [1.0, -0.2]).cov, rel=1e-9)


# ---------------------------------------------------------- weights and scaling

A = np.column_stack([T, np.ones(T.size), T**2])
B = np.sin(5*T)
SIGMA = 0.1 + T


def line(x):
    return A @ x - B


def test_scaled_and_absolute_forms():
    x = np.linalg.lstsq(A, B, rcond=None)[0]
    inverse = np.linalg.inv(A.T @ A)
    absolute, scaled = covariance(line, x, absolute_sigma=True), covariance(line, x)
    assert absolute.cov == pytest.approx(inverse, rel=1e-9)
    assert scaled.cov == pytest.approx(inverse*(line(x) @ line(x))/(T.size - 3), rel=1e-9)
    assert scaled.correlation == pytest.approx(absolute.correlation, rel=1e-9)
    assert scaled.optimality < 1e-12
    assert covariance(line, x + 0.1).optimality > 0.1


def test_sigma_as_number_vector_and_matrix():
    x = np.array([0.3, 0.2, 0.1])
    weighted = np.linalg.inv((A/SIGMA[:, None]).T @ (A/SIGMA[:, None]))
    assert covariance(line, x, sigma=SIGMA, absolute_sigma=True).cov == pytest.approx(weighted, rel=1e-9)
    assert covariance(line, x, sigma=np.diag(SIGMA**2), absolute_sigma=True).cov == pytest.approx(weighted, rel=1e-9)
    mixed = np.exp(-np.abs(T[:, None] - T)/0.1)
    assert covariance(line, x, sigma=mixed, absolute_sigma=True).cov == pytest.approx(
        np.linalg.inv(A.T @ np.linalg.solve(mixed, A)), rel=1e-8)
    assert covariance(line, x, sigma=2.0).cov == pytest.approx(covariance(line, x).cov, rel=1e-12)


def test_a_scaled_covariance_is_that_of_curve_fit():
    optimize = pytest.importorskip("scipy.optimize")
    for absolute in (False, True):
        x, cov = optimize.curve_fit(lambda t, a, b: a*np.exp(-b*t), T, 1/(1 + T), sigma=SIGMA, absolute_sigma=absolute)
        found = covariance(lambda x: x[0]*np.exp(-x[1]*T) - 1/(1 + T), x, sigma=SIGMA, absolute_sigma=absolute)
        assert found.cov == pytest.approx(cov, rel=1e-5)


def test_fixed_parameters_count_as_known():
    x = np.array([0.3, 0.2, 0.1])
    part = np.linalg.inv(A[:, [0, 2]].T @ A[:, [0, 2]])
    for fixed in ([1], [False, True, False], [-2]):
        found = covariance(line, x, absolute_sigma=True, fixed=fixed)
        assert found.cov[np.ix_([0, 2], [0, 2])] == pytest.approx(part, rel=1e-9)
        assert np.isnan(found.cov[1]).all() and np.isnan(found.stderr[1])
        assert (found.rank, found.dof) == (2, T.size - 2)
    assert "fixed" in repr(found)


# ------------------------------------------------------------- bounds and losses

def within(low, high):
    """`line`, which must not be called outside the bounds."""
    def residual(x):
        assert (low <= x).all() and (x <= high).all(), x
        return line(x)
    return residual


@pytest.mark.parametrize("method", [None, "3-point", "2-point"])
def test_no_evaluation_is_outside_the_bounds(method):
    low, high = np.array([0.3, -1, 0.1]), np.array([9, 0.2 + 1e-9, 0.1])
    found = covariance(within(low, high), [0.3, 0.2, 0.1], method=method, bounds=(low, high))
    assert found.fixed.tolist() == [True, False, True]
    assert found.stderr[1] == pytest.approx(np.sqrt(found.reduced_chi2/T.size), rel=1e-5)
    assert found.dof == T.size - 1
    inside = covariance(line, [0.31, 0.2, 0.2], method=method, bounds=(low - [0, 0, 1], high + [0, 1, 1]))
    assert not inside.fixed.any()
    assert inside.cov == pytest.approx(covariance(line, [0.31, 0.2, 0.2], method=method).cov, rel=1e-5)


def test_complex_steps_keep_fixed_parameters():
    seen = []

    def residual(x):
        seen.append(x.copy())
        return line(x)
    found = covariance(residual, [0.3, 0.2, 0.1], method="cs", bounds=([-9, -9, 0.1], [9, 9, 0.1]))
    assert all(x[2] == 0.1 for x in seen) and found.fixed.tolist() == [False, False, True]


def test_a_fit_outside_its_bounds_is_refused():
    with pytest.raises(ValueError, match=r"`x` is infeasible: x\[1\] = 0.2 is outside"):
        covariance(line, [0.3, 0.2, 0.1], bounds=(0.25, [1, 1, 1]))


def test_a_loss_beyond_every_residual_changes_nothing():
    plain = covariance(line, [0.3, 0.2, 0.1])
    huber = covariance(line, [0.3, 0.2, 0.1], loss="huber", f_scale=100.0)
    assert huber.cov == pytest.approx(plain.cov, rel=1e-12)
    assert (huber.chi2, huber.reduced_chi2) == pytest.approx((plain.chi2, plain.reduced_chi2), rel=1e-12)
    assert "robust variance" in repr(huber)


def contaminated(rng, t):
    y = 2.5*np.exp(-1.3*t) + 0.02*rng.standard_normal(t.size)
    spoiled = rng.random(t.size) < 0.1
    y[spoiled] += 0.3*rng.standard_normal(spoiled.sum())
    return y


@pytest.mark.parametrize("loss, f_scale", [("huber", 0.03), ("soft_l1", 0.03), ("cauchy", 0.03)])
def test_intervals_of_robust_fits_cover_the_truth(loss, f_scale):
    """250 fits with a tenth of the data outliers: 95 % within 2.6 binomial standard deviations."""
    rng = np.random.default_rng(8)
    t, fits = np.linspace(0, 4, 50), 250
    hits = np.zeros(2)
    for _ in range(fits):
        popt, pcov, info, *_ = leastsq.curve_fit(
            lambda t, a, b: a*np.exp(-b*t), t, contaminated(rng, t), [2.5, 1.3], loss=loss, f_scale=f_scale,
            jac=lambda t, a, b: np.stack([np.exp(-b*t), -a*t*np.exp(-b*t)], axis=1), covariance="accurate",
            full_output=True)
        found = info["covariance"]
        off = np.abs(popt - [2.5, 1.3])
        hits = hits + (off <= found.t()*np.sqrt(np.diag(pcov)))
    assert np.abs(hits/fits - 0.95).max() < 2.6*np.sqrt(0.95*0.05/fits)


def test_losses_that_give_no_standard_errors_are_refused():
    with pytest.raises(ValueError, match="absolute_sigma must be False with a loss"):
        covariance(line, [0.3, 0.2, 0.1], loss="huber", absolute_sigma=True)
    with pytest.raises(ValueError, match="nearly all residuals count as outliers"):
        covariance(line, [5.0, 5.0, 5.0], loss="cauchy", f_scale=1e-3)
    with pytest.raises(ValueError, match="`loss` must be one of"):
        covariance(line, [0.3, 0.2, 0.1], loss="l1")


# ------------------------------------------- as an option of the fitting functions

def decay(t, height, rate):
    return height*np.exp(-rate*t)


NOISY = decay(T, 2.0, 1.5) + 0.05*np.cos(40*T)


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("sigma", [None, 0.1, SIGMA, np.diag(SIGMA**2)], ids=["none", "number", "vector", "matrix"])
@pytest.mark.parametrize("choice", ["accurate", "richardson", "3-point", "2-point", "cs"])
def test_curve_fit_takes_the_option(choice, sigma, absolute):
    popt, pcov, info, *_ = leastsq.curve_fit(decay, T, NOISY, [1, 1], sigma, absolute, covariance=choice,
                                             full_output=True)
    want = covariance(lambda x: decay(T, *x) - NOISY, popt, sigma=sigma, absolute_sigma=absolute, method="cs")
    assert pcov == pytest.approx(want.cov, rel=1e-4 if choice == "2-point" else 1e-7)
    assert info["covariance"].names == ("height", "rate")
    assert info["covariance"].method == {"accurate": "richardson"}.get(choice, choice)
    plain = leastsq.curve_fit(decay, T, NOISY, [1, 1], sigma, absolute)
    assert (popt == plain[0]).all() and pcov == pytest.approx(plain[1], rel=1e-3) and (pcov != plain[1]).any()


def test_exact_derivatives_of_curve_fit_are_used():
    def jac(t, height, rate):
        return np.stack([np.exp(-rate*t), -height*t*np.exp(-rate*t)], axis=1)
    for given, method in ((jac, "Dfun"), ("cs", "cs"), ("3-point", "richardson")):
        *_, info, _, _ = leastsq.curve_fit(decay, T, NOISY, [1, 1], jac=given, covariance="accurate", full_output=True)
        assert info["covariance"].method == method


def test_calls_of_curve_fit_are_counted():
    calls = []
    *_, info, _, _ = leastsq.curve_fit(lambda t, a, b: calls.append(1) or decay(t, a, b), T, NOISY, [1, 1],
                                       covariance="accurate", full_output=True)
    assert info["nfev"] == len(calls) > info["covariance"].nfev > 10


def test_curve_fit_with_bounds_has_standard_errors_of_the_free_parameters():
    bounds = ([0, -9, 0.5], [1.9, 9, 0.5])
    popt, pcov = leastsq.curve_fit(lambda t, a, b, c: decay(t, a, b) + c - 0.5, T, NOISY, [1, 1, 0.5], bounds=bounds,
                                   covariance="accurate")
    assert popt[0] == 1.9 and np.isnan(pcov[0, :2]).all() and (pcov[2] == 0).all() and (pcov[:, 2] == 0).all()
    alone = leastsq.curve_fit(lambda t, b: decay(t, 1.9, b), T, NOISY, [1], covariance="accurate")
    assert (popt[1], pcov[1, 1]) == pytest.approx((alone[0][0], alone[1][0, 0]), rel=1e-5)


def test_curve_fit_keeps_the_standard_errors_of_determined_parameters():
    def twice(t, a, b, c):
        return (a + b)*t + c
    with pytest.warns(leastsq.OptimizeWarning, match="the sum of a and b"):
        pcov = leastsq.curve_fit(twice, T, NOISY, [1, 2, 3], covariance="accurate")[1]
    alone = leastsq.curve_fit(lambda t, a, c: a*t + c, T, NOISY)[1]
    assert np.isinf(np.diag(pcov)[:2]).all()
    assert pcov[2, 2] == pytest.approx(alone[1, 1], rel=1e-5)


@pytest.mark.parametrize("choice", ["accurate", "cs", "2-point"])
@pytest.mark.parametrize("options", [{}, {"loss": "soft_l1", "f_scale": 0.1}, {"bounds": (0, [1.9, 9])}], ids=str)
def test_least_squares_takes_the_option(choice, options):
    def fun(x, shift):
        return decay(T, *x) - NOISY + shift
    plain = leastsq.least_squares(fun, [1, 1], args=(0.01,), **options)
    fit = leastsq.least_squares(fun, [1, 1], args=(0.01,), covariance=choice, **options)
    assert "covariance" not in plain and (fit.x == plain.x).all() and fit.nfev == plain.nfev
    want = covariance(fun, fit.x, (0.01,), method="cs", **options)
    assert fit.covariance.cov == pytest.approx(want.cov, rel=1e-5, nan_ok=True)
    assert np.isnan(fit.covariance.stderr).tolist() == (fit.active_mask != 0).tolist()


def test_least_squares_has_both_forms():
    def fun(x):
        return (decay(T, *x) - NOISY)/0.1
    scaled, absolute = (leastsq.least_squares(fun, [1, 1], covariance="accurate", absolute_sigma=a).covariance
                        for a in (False, True))
    assert scaled.cov == pytest.approx(absolute.cov*scaled.reduced_chi2, rel=1e-9)
    with pytest.raises(ValueError, match="`absolute_sigma` is for `covariance`"):
        leastsq.least_squares(fun, [1, 1], absolute_sigma=True)


@pytest.mark.parametrize("choice", ["auto", True, 3])
def test_other_covariances_are_refused_before_the_fit(choice):
    for fit in (lambda f: leastsq.curve_fit(lambda t, a: f(a), T, NOISY, covariance=choice),
                lambda f: leastsq.least_squares(f, [1.0], covariance=choice)):
        with pytest.raises(ValueError, match="`covariance` must be None, 'accurate', 'richardson'"):
            fit(lambda x: pytest.fail("called"))


# --------------------------------------------------------------- deficient rank

def explained(func, x, **options):
    found = covariance(func, x, **options)
    return found, found.explain()


def test_a_sum_that_is_all_the_data_determine_is_named():
    found, text = explained(lambda x: (x[0] + x[1])*T + x[2] - np.exp(T), [1.0, 0.7, 0.9], names="gain drift level")
    assert found.rank == 2 and found.condition > 1e10
    assert "only 2 combinations of the 3 parameters" in text
    assert "The data determine only the sum of gain and drift" in text
    assert "level" not in text.split("parameters.", 1)[1]
    assert np.isinf(found.stderr[:2]).all()
    J = np.column_stack([T, np.ones(T.size)])       # determined parameters keep their standard errors
    assert found.stderr[2]**2 == pytest.approx(np.linalg.inv(J.T @ J)[1, 1]*found.reduced_chi2, rel=1e-8)
    assert found.dof == T.size - 2


@pytest.mark.parametrize("func, words", [
    (lambda x: (x[0] - x[1])*T - np.exp(T), "the difference of x[0] and x[1]"),
    (lambda x: x[0]*x[1]*T - np.exp(T), "the product of x[0] and x[1]"),
    (lambda x: x[0]/x[1]*T - np.exp(T), "the ratio of x[0] and x[1]"),
    (lambda x: x[0]*T - np.exp(T), "Changing x[1] leaves the residuals as they are."),
])
def test_usual_combinations_are_recognised(func, words):
    found, text = explained(func, [1.7, 2.3])
    assert found.rank == 1 and words in text


def test_two_undetermined_combinations_are_distinguished():
    _, text = explained(lambda x: (x[0] + x[1])*T + x[2] - x[3] - np.exp(T), [1.0, 0.5, 2.0, 1.0])
    assert "the sum of x[0] and x[1]" in text and "the difference of x[2] and x[3]" in text


def test_three_parameters_in_one_combination():
    found, text = explained(lambda x: (x[0] + 2*x[1] + x[2])*T - 1 + x[3], [1.0, 0.5, 2.0, 1.0])
    assert found.null_space.shape == (4, 2)
    assert found.null_space[:3].T @ [1, 2, 1] == pytest.approx([0, 0], abs=1e-8)
    assert "only 2 combinations of the 4" in text


def test_a_good_fit_says_so_and_a_nearly_bad_one_says_how():
    assert explained(line, [1.0, 1.0, 1.0])[1] == "The data determine every parameter."
    _, text = explained(lambda x: x[0]*T + x[1]*(T + 1e-8*np.cos(9*T)) - 1, [1.0, 2.0])
    assert "only just" in text and "sum of x[0] and x[1]" in text


def test_no_degrees_of_freedom():
    found = covariance(lambda x: np.array([x[0] - 1, x[0] + x[1] - 2.5]), [1.0, 1.0])
    assert found.dof == 0 and np.isinf(found.stderr).all() and np.isnan(found.reduced_chi2)
    assert np.isfinite(covariance(lambda x: np.array([x[0] - 1, x[0] + x[1]]), [1.0, 1.0], absolute_sigma=True).cov).all()


# -------------------------------------------------------------------- bad input

@pytest.mark.parametrize("func, words", [
    (lambda x: np.array([math.exp(x[0]), 1.0]), "does not accept complex|drops the imaginary part"),
    (lambda x: np.array([x[0], x[0]**2]).real, "drops the imaginary part: it returned float64"),
    (lambda x: np.abs(x[0])*T, "drops the imaginary part"),
    (lambda x: np.sqrt(x[0]*np.conj(x[0]))*T if np.iscomplexobj(x) else x[0]*T, "drops the imaginary part on the way"),
])
def test_a_function_that_drops_the_imaginary_part_is_named(func, words):
    with pytest.raises(ValueError, match=words):
        covariance(func, [1.5], method="cs")


@pytest.mark.parametrize("options, error, words", [
    ({"method": "best"}, ValueError, "method must be"),
    ({"sigma": [1.0, 2.0]}, ValueError, r"shape \(20,\)"),
    ({"sigma": 0.0}, ValueError, "positive"),
    ({"sigma": -np.eye(20)}, ValueError, "positive definite"),
    ({"names": ["a"]}, ValueError, "3 names"),
    ({"fixed": [3]}, ValueError, "indices from 0 to 2"),
    ({"fixed": [True]}, ValueError, "mask of 3"),
    ({"Dfun": lambda x: A.T}, ValueError, r"shape \(20, 3\), got \(3, 20\)"),
    ({"Dfun": lambda x: A*np.nan}, ValueError, r"Dfun\(x\)\[0, 0\] is nan"),
])
def test_bad_options_are_named(options, error, words):
    with pytest.raises(error, match=words):
        covariance(line, [1.0, 1.0, 1.0], **options)


@pytest.mark.parametrize("func, x, error, words", [
    (line, [1.0, np.nan, 1.0], ValueError, "x must be finite"),
    (line, ["a"], TypeError, "real numbers"),
    ("line", [1.0], TypeError, "a function with its x; got str"),
    (lambda x: T*np.nan, [1.0], ValueError, r"func\(x\)\[0\] is nan"),
    (lambda x: T*1j, [1.0], TypeError, "complex128"),
    (lambda x: T if x[0] == 1 else T[:-1], [1.0], ValueError, "changed size"),
    (lambda x: T if x[0] == 1 else T*np.nan, [1.0], ValueError, r"no step along x\[0\] = 1.0"),
])
def test_bad_functions_are_named(func, x, error, words):
    with pytest.raises(error, match=words):
        covariance(func, x)


def test_x_and_results_are_neither_kept_nor_changed():
    x, buffer = np.array([1.0, 1.0, 1.0]), np.empty(T.size)

    def residual(z):
        buffer[:] = line(z)
        z[:] = 99.0
        return buffer
    assert covariance(residual, x).cov == pytest.approx(covariance(line, x).cov, rel=1e-12)
    assert np.array_equal(x, [1.0, 1.0, 1.0])
