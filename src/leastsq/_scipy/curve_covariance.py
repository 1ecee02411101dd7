"""The covariance that `curve_fit` returns."""

from __future__ import annotations

import numpy as np

from .._problem.accurate_jacobian import accurate_jacobian
from .._problem.derivatives import EPS, Differences, steps_of
from .._uncertainty.covariance import Directions, by_option
from .classes import warn

__all__ = ["accurate_covariance", "scipys_covariance", "warn_of_lost_steps", "with_infinities"]

_SHARE_OF_ERROR = 0.05
_DOUBTFUL = 1e-3                # relative error of pcov from which better derivatives are needed
_LOST = 0.05                    # rounding of the residuals, relative to their change over a step, from which a step is too short


def accurate_covariance(choice, popt, info):
    """The covariance from new derivatives at the solution; the `CovarianceResult` is also put into `info`."""
    problem = info.problem
    info["covariance"] = found = by_option(choice, problem, popt)
    info["nfev"] += found.nfev
    if found.method == "Dfun":
        info["njev"] += 1
    if found.null_space.shape[1] or found.dof <= 0 and not problem.absolute_sigma:
        why = found.explain() if found.null_space.shape[1] else "There are no degrees of freedom."
        warn(f"Covariance of the parameters could not be estimated. {why}", 3)
    pcov = found.cov.copy()
    if problem.bounds is not None:
        fixed = ~problem.bounds.free
        pcov[fixed], pcov[:, fixed] = 0, 0
    return pcov


def scipys_covariance(popt, info, weigh, ydata):
    """The inverse of ``J.T @ J`` for J at the solution, with rows weighted by the loss as in SciPy; and the sum of the losses.

    A parameter without an effect has an infinite variance; a fixed parameter has the variance 0.
    """
    problem = info.problem
    fvec = np.atleast_1d(info["fvec"])
    free = np.ones(popt.size, bool) if problem.bounds is None else problem.bounds.free
    if problem.by_differences:
        made = accurate_jacobian(problem, popt, "3-point", f0=fvec, steps=_steps_within_errors(popt, fvec, info),
                                 data=np.linalg.norm(_weighted(ydata, weigh)))
    else:
        made = accurate_jacobian(problem, popt, f0=fvec)
        info["njev"] += 1
    info["nfev"] += made.nfev
    weights = problem.loss.row_weights(fvec)[:, None]
    directions = Directions(made.J[:, free]*weights, made.error[free])
    count = free.sum()
    doubtful = directions.rank < count or count > 0 and made.error[free].max()*directions.condition > _DOUBTFUL
    if doubtful and problem.by_differences:         # judged by these derivatives: better ones may not be doubtful
        made = accurate_jacobian(problem, popt, "richardson", f0=fvec)
        info["nfev"] += made.nfev
        directions = Directions(made.J[:, free]*weights, made.error[free])
    pcov = np.zeros((popt.size, popt.size))
    pcov[np.ix_(free, free)] = directions.inverse()
    return pcov, problem.loss.cost(fvec)


def _steps_within_errors(popt, fvec, info):
    """A fraction of each parameter's standard error, with the others known, from the columns of the fit's last Jacobian."""
    R = np.triu(info["fjac"].T[:popt.size])
    columns = np.empty(popt.size)
    columns[info["ipvt"] - 1] = np.linalg.norm(R, axis=0)
    with np.errstate(all="ignore"):
        return _SHARE_OF_ERROR*np.linalg.norm(fvec)/np.sqrt(fvec.size)/columns


def _weighted(ydata, weigh):
    """The data, weighted as in the residuals, as a vector."""
    data = np.ravel(ydata)
    return data if weigh is None else weigh(data) if callable(weigh) else weigh*data


def warn_of_lost_steps(popt, info, weigh, ydata, precision):
    """Warn of forward differences whose steps, relative to parameters close to zero, were lost in rounding.

    Longer steps are not possible, because these fits promise MINPACK's numbers.
    """
    R = np.triu(info["fjac"].T[:popt.size])
    columns = np.empty(popt.size)
    columns[info["ipvt"] - 1] = np.linalg.norm(R, axis=0)
    rounding = EPS*np.linalg.norm(info["fvec"] + _weighted(ydata, weigh))
    changes = columns*steps_of(popt, np.sqrt(Differences(precision=precision).relative_error()))
    lost = np.flatnonzero(rounding > _LOST*changes)
    if lost.size:
        listed = " and ".join(f"parameter {j}, {popt[j]:.3g}" for j in lost)
        warn(f"The variance of {listed}, may be wrong: its forward difference had a step relative to it, and it is so "
                      'close to zero that rounding prevails. covariance="accurate" gives the right one.', 3)


def with_infinities(pcov, n):
    """pcov, or a matrix of inf if no variance in it is finite."""
    if pcov is None or not np.isfinite(np.diag(pcov)).any():
        return np.full((n, n), np.inf)
    return pcov
