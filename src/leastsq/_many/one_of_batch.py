"""One problem of a batch, as if it had been fitted alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .._fit.info import Info
from .._fit.leastsq import leastsq
from .._fit.status import Status
from .._problem.compiled import CFunction, call_compiled
from .._problem.counts import CountResiduals
from .._problem.kinds import returned

__all__ = ["one_fit"]


def one_fit(result, i, problem, data, weights):
    """
    The result that `leastsq` would have returned for problem i of a batch.

    Parameters
    ----------
    result : BatchResult
    i : int
    problem : Problem
        The problem of the whole batch; its functions take rows.
    data : tuple of ndarray
        Arrays with a row for each problem.
    weights : ndarray, shape (B, m), or None
    """
    x, ier = result.x[i].copy(), int(result.ier[i])
    one = _alone(problem, i, data, None if weights is None else weights[i])
    info = {"fvec": None, "nfev": int(result.nfev[i])}
    if one.Dfun is not None:
        info["njev"] = int(result.njev[i])
    m, n = result._counted if weights is None else weights.shape[1], x.size
    if ier in (Status.NO_DATA, Status.NOT_FINITE, Status.STOPPED, Status.IMPROPER):
        made = {"fvec": np.full(m, np.nan), "fjac": np.full((n, m), np.nan), "ipvt": np.arange(1, n + 1, dtype=np.intc),
                "qtf": np.full(n, np.nan)}
        cov_x = None
    else:
        loss, bounds = one.loss, one.bounds
        with np.errstate(all="ignore"):
            _, cov_x, made, _, _ = leastsq(one.func, x, (), one.Dfun, True, one.col_deriv, maxfev=1, qr="minpack",
                                           epsfcn=one.differences.precision, **loss.options,
                                           bounds=None if bounds is None else (bounds.low, bounds.high))
            made["fvec"] = np.array(one.func(x))            # at x, because that fit may have taken a step
        if result.cov_x is not None:
            cov_x = None if np.isnan(result.cov_x[i]).all() else result.cov_x[i].copy()
    info |= {name: made[name] for name in ("fvec", "fjac", "ipvt", "qtf")}
    if one.bounds is not None:
        info |= one.at_bounds(x, result.multipliers[i].copy())
    return x, cov_x, Info.of(one, info), result.message(i), ier


def _alone(problem, i, data, weights):
    """The `Problem` of problem i alone: its functions get the data of that problem, and apply the weights."""
    rows = tuple(array[i] for array in data)

    def function(user, columns):
        if user is None:
            return None
        if isinstance(user, CFunction):
            compiled = CFunction(user.func, user.m, data=rows[0], lanes=user.lanes) if rows else user

            def call(x):
                return call_compiled(compiled, x, columns)
        else:
            def call(x):
                return np.asarray(returned(user(x[None].copy(), *(row[None].copy() for row in rows), *problem.args)))[0]
        if weights is None:
            return call

        def weighted(x):
            value = np.array(call(x), dtype=float)
            by_rows = value.ndim == 1 or not problem.col_deriv or isinstance(user, CFunction)
            factor = weights if value.ndim == 1 else weights[:, None] if by_rows else weights
            return np.where(factor == 0, 0.0, factor*value)
        return weighted

    bounds = None if problem.bounds is None else problem.bounds.row(i)
    if bounds is not None and not bounds.finite:
        bounds = None
    sigma = None
    if weights is not None:
        with np.errstate(divide="ignore"):
            sigma = 1/np.abs(np.asarray(weights, dtype=float))
    Dfun = problem.Dfun
    func, loss, absolute = function(problem.func, None), problem.loss, problem.absolute_sigma
    if loss.is_poisson:
        loss, absolute = replace(loss, counts=loss.counts[i]), True
        func = CountResiduals(func, loss.counts)
    one = replace(problem, func=func, args=(), bounds=bounds, sigma=sigma, loss=loss, absolute_sigma=absolute)
    if Dfun is None:
        return one

    def jacobian(x):
        return function(Dfun, x.size)(x)
    return replace(one, Dfun=jacobian, col_deriv=problem.col_deriv and not isinstance(Dfun, CFunction))
