"""Quantities that follow from fitted parameters: by the delta method, and by profiles of the quantity itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .._problem.accurate_jacobian import accurate_jacobian
from .._problem.counts import of_means
from .._problem.problem import Problem
from .._uncertainty.confidence import confidence_intervals
from .._uncertainty.export import Exports
from .._uncertainty.format import value_and_error
from .._uncertainty.told import Fitted
from .fitted_parameter import Quantity
from .words import nearest, sort_of

__all__ = ["DerivedResult", "DerivedValue", "derive"]

_TURNS = 60             # limit on the steps of the search for the parameter value that gives a value of the quantity
_EPS = np.finfo(float).eps


class DerivedValue(Quantity):
    """
    A quantity that follows from the parameters: its value as a float, with a standard error.

    Attributes
    ----------
    name : str
    value, stderr : float
    """

    __slots__ = ()

    def interval(self, level=0.95, method="t"):
        """
        Confidence interval.

        Parameters
        ----------
        level : float, optional
        method : {"t", "profile"}, optional
            "t": from the standard error.  "profile": the values of this quantity for which the best fit is no worse
            than the F test permits, as in `confidence_intervals`; it follows the curvature of the quantity and the model.
            A limit is nan if it was not found, for example because of the bounds of several parameters.

        Returns
        -------
        tuple of float
        """
        return self._result._interval(self._place, level, method)

    def __repr__(self):
        return f"{self.name} = {' ± '.join(value_and_error(float(self), self.stderr))}"


class DerivedResult(Exports, Mapping):
    """
    The result of `FitResult.derive`: a mapping of derived quantities by name.

    Attributes
    ----------
    names : tuple of str
    x, stderr : ndarray, shape (k,)
        Values and standard errors.
    cov, correlation : ndarray, shape (k, k)
        Covariance and correlation of the quantities.
    """

    def __init__(self, result, functions, x, cov, jacobian):
        self.names, self.x, self.cov = tuple(functions), x, cov
        self._result, self._functions, self._jacobian = result, functions, jacobian

    @property
    def stderr(self):
        return np.sqrt(np.diag(self.cov))

    @property
    def correlation(self):
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.cov/np.outer(self.stderr, self.stderr)

    def __getitem__(self, name):
        if name not in self.names:
            raise KeyError(f"there is no quantity {name!r}; {nearest(name, self.names)}")
        return DerivedValue(self, self.names.index(name))

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def __repr__(self):
        rows = [(name, *value_and_error(value, error)) for name, value, error in zip(self.names, self.x, self.stderr)]
        width = [max(len(row[k]) for row in rows) for k in range(3)]
        return "\n".join(f"  {name:<{width[0]}}  {value:>{width[1]}} ± {error:<{width[2]}}".rstrip()
                         for name, value, error in rows)

    def _exported(self):
        return [(name, float(value), float(error), "free") for name, value, error in zip(self.names, self.x, self.stderr)]

    def _numbers(self):
        return {"covariance": self.cov, "correlation": self.correlation}

    def _interval(self, place, level, method):
        if method not in ("t", "profile"):
            raise ValueError(f"method must be 't' or 'profile', got {method!r}")
        if not (isinstance(level, (int, float)) and 0 < level < 1):
            raise ValueError(f"level must be between 0 and 1, got {level!r}")
        value, result = float(self.x[place]), self._result
        if method == "t":
            reach = result.covariance.t(level)*float(self.stderr[place])
            return value - reach, value + reach
        result._needs_model("interval")
        return _profiled(result, self._functions[self.names[place]], value, self._jacobian[place], level, self.names[place])


def derive(result, functions):
    """The `DerivedResult` for functions of a dict of the parameters."""
    if not functions:
        raise TypeError("derive: a function must be given by name, as in derive(halflife=lambda p: np.log(2)/p['rate'])")
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"derive: {name} must be a function of a dict of the parameters, got {sort_of(function)}")

    def values(x):
        p = _Asked(zip(result.names, x))
        return np.array([_number(name, function(p)) for name, function in functions.items()])

    spread = result.covariance
    problem = Problem(values, bounds=None if result.problem is None else result.problem.bounds)
    made = accurate_jacobian(problem, result.x, noise=0.0)
    matrix = np.where(spread.fixed[:, None] | spread.fixed, 0.0, spread.cov)
    touched = np.abs(made.J).max(axis=0, initial=0.0) > 0
    J = made.J[:, touched]
    with np.errstate(invalid="ignore"):
        cov = J @ matrix[np.ix_(touched, touched)] @ J.T
        endless = (np.abs(made.J) > 0) @ np.isinf(np.diag(matrix))
    cov[endless, :] = cov[:, endless] = np.nan
    cov[endless, endless] = np.inf
    return DerivedResult(result, functions, made.f, cov, made.J)


class _Asked(dict):
    """Parameters by name; the error for an unknown name suggests the nearest."""

    def __missing__(self, name):
        raise KeyError(f"derive: there is no parameter {name!r}; {nearest(name, self)}")


def _number(name, value):
    if np.size(value) != 1 or np.asarray(value).dtype.kind not in "fiub":
        raise TypeError(f"derive: {name} must return a real number, got {sort_of(value)}; band is for curves")
    return float(np.asarray(value).reshape(()))


# --------------------------------------------------------------- profiles

def _profiled(result, function, value, slopes, level, name):
    """The profile interval of a quantity q: in the fit q replaces the parameter that changes it most."""
    problem, spread = result._as_fitted().problem, result.covariance
    with np.errstate(invalid="ignore"):
        effects = np.abs(slopes)*np.where(spread.fixed, 0.0, spread.stderr)
    if not (effects > 0).any() or not np.isfinite(effects).all():
        raise ValueError(f"interval: {name} has no profile: "
                         + ("no free parameter changes it" if not (effects > 0).any() else "the data do not determine it"))
    j = int(np.argmax(effects))
    solve = _Solved(result.names, function, j, result.x, float(slopes[j]),
                    None if problem.bounds is None else (problem.bounds.low[j], problem.bounds.high[j]))

    def residual(z):
        x = solve(z)
        if x is None:
            return np.full(result._fvec.size, np.nan)
        return means.func(x)

    means = of_means(problem)
    bounds = problem.bounds
    if bounds is not None:
        low, high = bounds.low.copy(), bounds.high.copy()
        low[j], high[j] = solve.range_within(result.x) if np.count_nonzero(slopes) == 1 else (-np.inf, np.inf)
        bounds = type(bounds)(low, high)
    x = result.x.copy()
    x[j] = value
    names = tuple(name if k == j else one for k, one in enumerate(result.names))
    if problem.loss.is_poisson:
        residual = problem.func.around(lambda _, mean=residual: mean)
    other = replace(problem, func=residual, Dfun=None, args=(), bounds=bounds, names=names, model=None, xdata=None, ydata=None,
                    priors=problem.priors, sets=())
    fitted = Fitted(other, x, result._fvec, None, {}, result.message, result.status, result.success)
    found = confidence_intervals(_Loose(fitted), method="profile", level=level, parameters=[j])
    return float(found.lower[j]), float(found.upper[j])


class _Loose:
    """A `Fitted` in the form in which tools accept results."""

    def __init__(self, fitted):
        self._fitted = fitted

    def _as_fitted(self):
        return self._fitted


class _Solved:
    """Finds the value of parameter j that gives a quantity its value, with the other parameters given."""

    def __init__(self, names, function, j, x, slope, ends):
        self.names, self.function, self.j, self.slope, self.ends = names, function, j, slope, ends
        self.near = float(x[j])         # the result of the last search

    def _quantity(self, x):
        with np.errstate(all="ignore"):
            try:
                return float(self.function(dict(zip(self.names, x))))
            except ArithmeticError:
                return np.nan

    def range_within(self, x):
        """The smallest and the largest value of a quantity that depends only on parameter j, within that one's bounds."""
        ends = []
        for end in self.ends:
            moved = np.array(x)
            moved[self.j] = end
            ends.append(self._quantity(moved) if np.isfinite(end) else np.nan)
        low, high = ends if self.slope > 0 else ends[::-1]
        return (low if np.isfinite(low) else -np.inf), (high if np.isfinite(high) else np.inf)

    def __call__(self, z):
        x, wanted = np.array(z, float), float(z[self.j])
        at, slope = self.near, self.slope
        x[self.j] = at
        off = self._quantity(x) - wanted
        for _ in range(_TURNS):
            if not np.isfinite(off):
                return None
            if off == 0:
                break
            step, shorter = -off/slope, 0
            while True:                     # shorten the step while the quantity is not finite, or further off
                new = at + step
                x[self.j] = new
                now = self._quantity(x) - wanted
                if np.isfinite(now) and (abs(now) < abs(off) or abs(step) <= 4*_EPS*abs(at)):
                    break
                step, shorter = step/4, shorter + 1
                if shorter > 30:
                    return None if abs(off) > 1e-10*max(abs(wanted), abs(slope*at)) else self._ended(x, at)
            if new != at and now != off:
                slope = (now - off)/(new - at)
            done = abs(new - at) <= 4*_EPS*abs(new)
            at, off = new, now
            if done:
                break
        return self._ended(x, at)

    def _ended(self, x, at):
        if self.ends is not None:
            low, high = self.ends
            slack = 1e-12*abs(at)
            if not low - slack <= at <= high + slack:
                return None
            at = min(max(at, low), high)
        x[self.j], self.near = at, at
        return x
