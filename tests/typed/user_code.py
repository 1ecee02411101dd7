"""User code for `make lint`: mypy --strict and pyright accept it, and infer what each call returns.

The fits are like those of tests/package/test_smoke.py; nothing here is run.
"""
from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import leastsq as package
from leastsq import (
    BandResult,
    BatchResult,
    CFunction,
    ConfidenceResult,
    CovarianceResult,
    FitParameter,
    FitResult,
    OptimizeResult,
    Report,
    RowAccumulator,
    Status,
    check_gradient,
    confidence_band,
    confidence_intervals,
    covariance,
    curve_fit,
    fit,
    format_value,
    least_squares,
    leastsq,
    leastsq_batch,
    leastsq_blocks,
    load,
    plot,
    profile_time,
    report,
    show_config,
)

Array = NDArray[np.float64]
t: Array = np.linspace(0, 4, 50)
y: Array = 2.5 * np.exp(-1.3 * t)


def model(t: Array, a: float, b: float) -> Array:
    return a * np.exp(-b * t)


def residual(p: Array) -> Array:
    return model(t, p[0], p[1]) - y


def weighted(p: Array, sigma: Array) -> Array:
    return residual(p) / sigma


def jacobian(p: Array) -> Array:
    e: Array = np.exp(-p[1] * t)
    return np.column_stack([e, -p[0] * t * e])


def fits() -> None:
    p, ier = leastsq(residual, [1, 1])
    assert_type(p, Array)
    assert_type(ier, int)
    print(Status(ier).name)
    p, cov, info, message, ier = leastsq(residual, [1.0, 1.0], full_output=True)
    assert_type(cov, Array | None)
    assert_type(info["fvec"], Array)
    assert_type(info["ipvt"], NDArray[np.int32])
    assert_type(message, str)
    leastsq(weighted, np.ones(2), (np.ones(50),), None, True)[2]["nfev"]
    leastsq(weighted, (1, 1), args=(np.ones(50),), full_output=1)
    leastsq(residual, [1, 1], Dfun=jacobian, ftol=1e-10, maxfev=100, diag=[1, 1], qr="blocked", threads=2)
    leastsq(residual, [1, 1], Dfun="3-point", bounds=([0, 0], [np.inf, 5]), loss="huber", f_scale=0.1, verbose=1)
    leastsq(lambda p: [10 * (p[1] - p[0] ** 2), 1 - p[0]], [-1.2, 1], full_output=True, history=True, callback=print)
    popt, pcov = curve_fit(model, t, y, [1, 1], sigma=np.ones(50), absolute_sigma=True, bounds=(0, 9))
    assert_type(popt, Array)
    assert_type(pcov, Array)
    assert_type(curve_fit(model, t, y, full_output=True)[3], str)
    curve_fit(model, t, y, loss="soft_l1", f_scale=0.1, workers=2, bounds=(0, 9), x_scale=[1, 2], max_nfev=50)
    curve_fit(model, t, y, method="trf", maxfev=1e5, ftol=None, diff_step=1e-6, tr_solver="exact", tr_options={})
    curve_fit(model, t, y, maxfve=1000)  # type: ignore[call-overload]  # pyright: ignore
    result = least_squares(residual, [1, 1], jac="2-point", bounds=(0, [1, 2]), x_scale="jac", max_nfev=20)
    assert_type(result, OptimizeResult)
    assert_type(result.x, Array)
    assert_type(result.njev, int | None)
    print(result.x, result["cost"])
    leastsq(CFunction(print, 50, t), [1, 1])


def by_name() -> None:
    result = fit(model, t, y, {"a": 1, "b": 1.0}, sigma=0.1, bounds={"b": (0, None)}, fixed=["a"], prior={"b": (1.3, 0.1)})
    assert_type(result, FitResult)
    assert_type(result["b"], FitParameter)
    assert_type(result["b"].stderr, float)
    assert_type(result["b"].interval(0.9, method="profile"), tuple[float, float])
    assert_type(result.params["b"].value, float)
    assert_type(result.stderr, Array)
    assert_type(result.report(), Report)
    assert_type(result.intervals(["a"], method="profile"), ConfidenceResult)
    assert_type(result.band(noise=True), BandResult)
    assert_type(result.covariance.to_dict(), dict[str, Any])
    assert_type(result.to_csv(), str)
    result.to_latex("table.tex")
    derived = result.derive(halflife=lambda p: 0.69 / p["b"])
    assert_type(derived["halflife"].stderr, float)
    print(2 * result["b"], derived, result.contour("a", "b").x, format_value(result["b"], style="latex"))
    result.save("fit.json")
    assert_type(load("fit.json", model), FitResult)
    report(result)
    plot.fit(result)
    fit([model, model], t, [y, y], [[1, 2], 1], own="a", bounds=[(0, 1), None], loss="huber", nan_policy="omit")
    fit(model, t, y, separable=["a"], starts=64, jac="jax")
    fit(model, t, y, {"b": 1}, separable=True)
    curve_fit(model, t, y, separable="a", jac="jax")
    fit(model, (t, t), y.reshape(5, 10), np.ones(2), jac="3-point", fixed={"a": 3}, strategy="minpack")


def many() -> None:
    batch = leastsq_batch(lambda p, y: p[:, :1] * t - y, np.ones((9, 1)), np.ones((9, 50)), progress=True)
    assert_type(batch, BatchResult)
    assert_type(batch.x, Array)
    assert_type(batch.active_mask, NDArray[np.int8] | None)
    assert_type(batch.success, NDArray[np.bool_])
    rows = RowAccumulator(2)
    rows.push(jacobian(np.ones(2)), residual(np.ones(2)))
    assert_type(rows.triangle(), Array)


def uncertainties() -> None:
    fit = curve_fit(model, t, y, full_output=True, covariance="accurate")
    assert_type(fit[2]["covariance"], CovarianceResult)
    print(fit[2].problem.sigma)
    cov = covariance(fit, names=["a", "b"], fixed=[0])
    assert_type(cov, CovarianceResult)
    assert_type(cov.stderr, Array)
    assert_type(cov.held, NDArray[np.bool_] | None)
    print(cov.problem)
    intervals = confidence_intervals(fit, method="profile", parameters=["a"], level=0.9)
    assert_type(intervals, ConfidenceResult)
    assert_type(profile_time(fit), float)
    band = confidence_band(fit)
    assert_type(band, BandResult)
    confidence_band(fit, np.arange(9.0), noise=True, level=0.9)
    confidence_band(fit, t, noise=lambda t: 0.1 * t)
    confidence_band(cov, t, model=model, simultaneous=True)
    confidence_band((fit[0], fit[1]), t, model=model, dof=7.5, noise=[0.1] * 50)
    page = report(fit, correlation_limit=0.9)
    assert_type(page, Report)
    assert_type(page.correlation_limit, float)
    print(page.reduced_chi2, page.warnings[0].upper())
    print(check_gradient(residual, [1, 1], jacobian).message)
    figure: Any = plot.fit(fit, prediction=True)
    figure.savefig("fit.png")
    plot.residuals(fit, xlabel="time")
    plot.correlation(fit)
    plot.correlation([[1.0, 0.4], [0.4, 2.0]], ["a", "b"])
    plot.profile(fit)
    plot.profile(intervals)


def uncertainties_of_others() -> None:
    fit = leastsq(residual, [1, 1], full_output=True, history=True)
    report(fit, names=["a", "b"], y=y, sigma=1)
    covariance(fit, method="cs", rcond=1e-9)
    confidence_band(fit, t, model=model)
    plot.fit(fit, x=t, y=y, model=model, sigma=0.1)
    plot.convergence(fit)
    solved = least_squares(residual, [1, 1], covariance="accurate")
    assert_type(solved.covariance, CovarianceResult)
    assert_type(solved.copy(), OptimizeResult)
    print(solved.problem.names)
    report(solved)
    covariance(solved)
    plot.correlation(solved)
    report(leastsq_blocks(lambda p, rows: residual(p)[rows], [1, 1], [slice(0, 25), slice(25, 50)], full_output=True))
    covariance(residual, [1, 1], Dfun=jacobian, sigma=0.1, absolute_sigma=True, loss="huber", f_scale=2)
    confidence_intervals(weighted, [1, 1], (np.ones(50),), bounds=(0, 9))
    report((fit[0], fit[4]), func=residual)


def build() -> None:
    show_config()
    assert_type(show_config("dicts"), dict[str, str])
    assert_type(package.__version__, str)
    assert_type(package.get_include(), str)
