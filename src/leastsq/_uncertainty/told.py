"""The fit that a tool describes: a result that knows its problem, or a function with facts about it.

An argument must agree with the result if the result knows it; facts that the result does not know may be added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .._fit.status import SUCCESS
from .._problem.accurate_jacobian import Evaluator
from .._problem.bounds import Bounds, parse_bounds
from .._problem.compiled import CFunction, call_compiled
from .._problem.losses import LINEAR, POISSON, parse_loss
from .._problem.problem import Problem
from .._problem.weights import Weighted, weigher

__all__ = ["Fitted", "fit_of", "is_function", "mask_of", "names_of", "parameters_of"]

_SAME = 1e-6            # of the residuals' norm: the largest change of func(x) since the end of the fit
_ROUNDING = 1e-11       # of the effect of the parameters: the same


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fit by any function: its problem, its end point, and its own results."""

    problem: Problem | None         # None if it is not known
    x: np.ndarray
    fvec: np.ndarray | None = None
    cov: np.ndarray | None = None   # cov_x of leastsq, pcov of curve_fit
    info: Any = None                # infodict, or the result object
    message: str | None = None
    ier: int | None = None
    success: bool | None = None
    spreads: Any = None             # returns the covariance, and that as if no bound held, if the fit keeps them

    @property
    def can_evaluate(self):
        return self.problem is not None and not self.problem.in_blocks

    def evaluate(self, x=None):
        """The residuals at x, or at the end point of the fit."""
        return Evaluator(self.problem.func, self.problem.args)(self.x if x is None else x)

    def check(self, tool):
        """Raise an error if the function now gives other residuals than at the end of the fit."""
        if self.fvec is None or not self.can_evaluate:
            return
        f = self.evaluate()
        if f.size == self.fvec.size and _same(f, self.fvec, self):
            weighted = self._weighted_anew()
            if weighted is None or _same(weighted, self.fvec, self):
                return
            raise ValueError(f"{tool}: sigma is not what it was in the fit: has it been changed in place since then? Fit again.")
        raise ValueError(f"{tool}: func(x) is not what it was at the end of the fit: the norm of the residuals was "
                         f"{np.linalg.norm(self.fvec):.6g} and is {np.linalg.norm(f):.6g}. Were data changed in place since, "
                         "or is func random? Fit again.")

    def _weighted_anew(self):
        """The residuals with the current sigma, of which curve_fit's function has a copy.  None if there is no sigma."""
        problem = self.problem
        if problem.model is None or problem.sigma is None or problem.sets:
            return None                 # `fit` owns its data
        rows = np.ravel(np.asarray(problem.model(problem.xdata, *self.x), dtype=float) - problem.ydata)
        weigh = weigher(problem.sigma, rows.size)
        return weigh(rows) if callable(weigh) else weigh*rows


def _same(f, before, fitted):
    with np.errstate(all="ignore"):
        if np.array_equal(f, before, equal_nan=True):
            return True
        off, size = np.linalg.norm(f - before), np.linalg.norm(before)
        if off <= _SAME*size:
            return True
        moved = fitted.evaluate(np.where(fitted.x != 0, 1.01*fitted.x, 1e-2))
        return bool(off <= _ROUNDING*100*np.linalg.norm(moved - f))


def is_function(thing):
    """Is this a residual function, rather than a result?"""
    return callable(thing) or isinstance(thing, CFunction)


def parameters_of(x):
    """Fitted parameters given by the user: finite numbers, shape (n,)."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x must be real numbers, got dtype {x.dtype}")
    x = np.array(x, dtype=float).reshape(-1)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"x must be finite numbers, got {x}")
    return x


def names_of(names, n):
    """n names, from strings or one string with all of them, without control characters."""
    if names is None:
        return None
    if isinstance(names, str):
        names = names.replace(",", " ").split()
    names = tuple("".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name)) for name in names)
    if len(names) != n:
        raise ValueError(f"names must be {n} names, got {len(names)}")
    return names


def mask_of(fixed, n):
    """A mask of n parameters, from one or from indices."""
    mask = np.zeros(n, dtype=bool)
    if fixed is None:
        return mask
    fixed = np.asarray(fixed)
    if fixed.dtype == bool:
        if fixed.shape != (n,):
            raise ValueError(f"fixed must be a mask of {n} values or indices, got shape {fixed.shape}")
        return fixed.copy()
    if fixed.size:
        if fixed.dtype.kind not in "iu" or fixed.min() < -n or fixed.max() >= n:
            raise ValueError(f"fixed must be indices from 0 to {n - 1}, got {fixed}")
        mask[fixed] = True
    return mask


# ------------------------------------------------------------------ given facts


def fit_of(tool, fit, x=None, args=(), Dfun=None, *, func=None, **told):
    """
    The `Fitted` that a tool describes.

    Parameters
    ----------
    tool : str
        The function that the user called, for messages.
    fit : tuple, result object or callable
        The result of a fit, or the residual function.
    x, args, Dfun
        With a function: the point, and the function's other arguments and derivatives.
    func : callable, optional
        The residual function of a result that does not know it.
    **told
        names, sigma, absolute_sigma, bounds, loss, f_scale: None if not given.
    """
    if is_function(fit):
        if x is None:
            raise TypeError(f"{tool}: x must be given with a function")
        x = parameters_of(x)
        return Fitted(_loose_problem(fit, args, Dfun, x, told), x)
    fitted = _result(tool, fit, func is not None)
    if x is not None and not np.array_equal(parameters_of(x), fitted.x):
        raise ValueError(f"{tool}: x must be that of the fit, {fitted.x}, got {x}")
    if func is not None:
        fitted = _with_function(tool, fitted, func, args, Dfun, told)
    elif fitted.problem is None:
        if not any(value is not None for value in told.values()):
            return fitted
        if told.get("sigma") is not None:
            raise TypeError(f"{tool}: sigma needs the function, which this result does not know: {tool}(func, x, sigma=...)")
        fitted = replace(fitted, problem=replace(_told_problem(Problem(None), tool, fitted.x, told), in_blocks=True))
    else:
        fitted = _divided(replace(fitted, problem=_told_problem(fitted.problem, tool, fitted.x, told)), told)
    return fitted


def _divided(fitted, told):
    """A fit whose residuals are not divided by anything, with one given sigma for all data."""
    problem, sigma = fitted.problem, told.get("sigma")
    if sigma is None or problem.model is not None or fitted.fvec is None or not fitted.can_evaluate:
        return fitted
    func, Dfun = (_weighted(function, sigma, n) for function, n in ((problem.func, None), (problem.Dfun, fitted.x.size)))
    return replace(fitted, fvec=Weighted(None, sigma).weigh(fitted.fvec), cov=None,
                   problem=replace(problem, func=func, Dfun=Dfun))


def _with_function(tool, fitted, func, args, Dfun, told):
    """A residual function given with a result: its residuals, or these divided by sigma, must be those of the fit."""
    known, before = fitted.problem, fitted.fvec
    if known is None:
        return replace(fitted, problem=_loose_problem(func, args, Dfun, fitted.x, told))
    for sigma in (None, told.get("sigma"), known.sigma):
        loose = _loose_problem(func, args, Dfun, fitted.x, {"sigma": sigma})
        f = Evaluator(loose.func, loose.args)(fitted.x)
        if before is None or f.size == before.size and _same(f, before, replace(fitted, problem=loose)):
            break
    else:
        raise ValueError(f"{tool}: func must be the function that was fitted: the norm of its residuals at x is "
                         f"{np.linalg.norm(f):.6g}, that of the fit {np.linalg.norm(before):.6g}")
    if sigma is not None and known.sigma is None and known.model is None:
        known, told = replace(known, sigma=sigma), told | {"sigma": None}
    problem = _told_problem(known, tool, fitted.x, told)
    if known.in_blocks:
        problem = replace(problem, func=loose.func, args=loose.args, Dfun=loose.Dfun, in_blocks=False)
    return replace(fitted, problem=problem)


def _result(tool, fit, has_function):
    """The `Fitted` of a result; results without full output need the function too."""
    own = getattr(type(fit), "_as_fitted", None)
    if own is not None:                                         # a FitResult
        return own(fit)
    if isinstance(fit, tuple) and not hasattr(fit, "x"):
        if len(fit) == 5 and isinstance(fit[2], dict):
            x, cov, info, message, ier = fit
            fvec = info.get("fvec")
            return Fitted(getattr(info, "problem", None), parameters_of(x),
                          None if fvec is None else np.atleast_1d(np.asarray(fvec, dtype=float)),
                          None if cov is None else np.asarray(cov, dtype=float), info,
                          " ".join(str(message).split()).rstrip("."), int(ier), int(ier) in SUCCESS)
        if len(fit) == 2 and has_function:
            return Fitted(None, parameters_of(fit[0]), ier=int(fit[1]) if np.ndim(fit[1]) == 0 else None)
        if len(fit) == 2:
            raise TypeError(f"{tool}: there are no residuals in this fit; call curve_fit or leastsq with full_output=True, "
                            f"or give the function: {tool}(func, x)")
    if all(hasattr(fit, name) for name in ("x", "fun", "jac")):
        return Fitted(getattr(fit, "problem", None), parameters_of(fit.x), np.atleast_1d(np.asarray(fit.fun, dtype=float)), None,
                      fit, " ".join(str(getattr(fit, "message", "")).split()).rstrip("."), None,
                      bool(getattr(fit, "success", True)))
    if hasattr(fit, "cov") and hasattr(fit, "problem"):         # a CovarianceResult
        return Fitted(fit.problem, fit.x, info=fit)
    if hasattr(fit, "cov_x") and hasattr(fit, "fit"):
        raise TypeError(f"{tool}: this is a batch; result.fit(i) is the fit of its problem i")
    raise TypeError(f"{tool}: fit must be what leastsq, curve_fit or leastsq_blocks returned with full_output=True, a result "
                    f"with x, fun and jac, or a function with its x; got {type(fit).__name__}")


def _loose_problem(func, args, Dfun, x, told):
    """The `Problem` of a function and given facts about it."""
    sigma, names, bounds = told.get("sigma"), names_of(told.get("names"), x.size), None
    if told.get("bounds") is not None:
        bounds = parse_bounds(told["bounds"], x.shape, "x")
        bounds.check_start(x, "x")
        bounds = bounds if bounds.finite else None
    if sigma is not None:
        func, Dfun = (_weighted(function, sigma, n) for function, n in ((func, None), (Dfun, x.size)))
    return Problem(func, args if isinstance(args, tuple) else (args,), Dfun, bounds=bounds, loss=_told_loss(told), names=names,
                   sigma=sigma, absolute_sigma=None if told.get("absolute_sigma") is None else bool(told["absolute_sigma"]))


def _told_loss(told):
    loss, f_scale = told.get("loss"), told.get("f_scale")
    return parse_loss(LINEAR if loss is None else loss, 1.0 if f_scale is None else f_scale)


def _weighted(function, sigma, columns):
    """A Python function divided by sigma; other objects are returned unchanged, to be refused later."""
    if isinstance(function, CFunction):
        function = partial(call_compiled, function, columns=columns)
    return Weighted(function, sigma) if callable(function) else function


def _told_problem(problem, tool, x, told):
    """A problem with given facts added, after checking that they agree with what it knows."""
    changes = {}
    if told.get("names") is not None:
        changes["names"] = names_of(told["names"], x.size)          # for display only: names are not a fact of the fit
    for name in ("sigma", "absolute_sigma"):
        given, known = told.get(name), getattr(problem, name)
        if given is None:
            continue
        if not (known is None or np.shape(known) == np.shape(given) and np.array_equal(known, given)):
            raise ValueError(f"{tool}: {name} must be that of the fit, {_short(known)}, got {_short(given)}")
        if known is None and name == "sigma":
            if problem.model is not None:
                raise ValueError(f"{tool}: sigma must be that of the fit, None, got {_short(given)}")
            if np.size(given) > 1 and problem.func is not None:
                raise ValueError(f"{tool}: sigma must be one number with a result that does not know any: the fit used the "
                                 f"residuals that func returns, and {_short(given)} would weight them differently; divide by it "
                                 "in func and fit again")
        if known is None:
            changes[name] = bool(given) if name == "absolute_sigma" else given
    if told.get("bounds") is not None:
        bounds = parse_bounds(told["bounds"], x.shape, "x")
        known = problem.bounds or Bounds(np.full(x.size, -np.inf), np.full(x.size, np.inf))
        if problem.func is not None and not (np.array_equal(bounds.low, known.low) and np.array_equal(bounds.high, known.high)):
            raise ValueError(f"{tool}: bounds must be those of the fit, {known.low} to {known.high}, got {bounds.low} to "
                             f"{bounds.high}")
        changes["bounds"] = bounds if bounds.finite else None
    if told.get("loss") is not None or told.get("f_scale") is not None:
        known = problem.loss
        if known.is_poisson and told.get("loss") == POISSON and told.get("f_scale") is None:
            return replace(problem, **changes)
        loss = _told_loss(told)
        same = loss.rho == known.rho and (told.get("f_scale") is None or known.is_linear or loss.scale == known.scale)
        if problem.func is not None and not same:
            raise ValueError(f"{tool}: loss and f_scale must be those of the fit, {known.rho!r} and {known.scale!r}, got "
                             f"{loss.rho!r} and {loss.scale!r}")
        if problem.func is None:
            changes["loss"] = loss
    return replace(problem, **changes) if changes else problem


def _short(value):
    return repr(value) if np.size(value) < 6 else f"an array of shape {np.shape(value)}"

