"""Covariance of fitted parameters: NIST's certified errors, parameters near zero, short rank."""
import ctypes
import math

import numpy as np
import pytest
import strd

import leastsq
from leastsq import covariance
from leastsq._accurate_jacobian import accurate_jacobian

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
def test_a_parameter_near_zero_has_the_right_error(value, noise, method, tolerance):
    """1e-9 +- 1e-3: a step relative to the parameter would be lost in rounding."""
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
    """Random parameters over six decades, residuals up to 1e9 times larger than what a parameter does."""
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
            made = accurate_jacobian(lambda z, y=model(x) - f: model(z) - y, x)
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


def test_a_scaled_covariance_is_curve_fits():
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


# ------------------------------------------------------------------- short rank

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
    J = np.column_stack([T, np.ones(T.size)])       # what is determined keeps its error
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


def test_two_undetermined_combinations_are_told_apart():
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
def test_a_function_that_drops_the_imaginary_part_is_told(func, words):
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
    ("line", [1.0], TypeError, "func must be callable"),
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
