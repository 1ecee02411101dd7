"""One fit with the options that MINPACK does not have: bounds, losses, differences made in Python, watchers."""

from __future__ import annotations

import numpy as np

from .._core import solve
from .._problem.arguments import real_array
from .._problem.compiled import CFunction, handles
from .._problem.counts import of_means
from .._problem.derivatives import DifferenceJacobian
from .._problem.settings import parse_strategy
from .filled import Filled
from .scoring import Scoring
from .status import Status, message, not_finite_message, stopped_message, vanished_message
from .watch import Watcher

__all__ = ["Fit", "why_it_ended"]


class Fit:
    """One fit with any options: passes the problem and the settings to the core.

    Parameters
    ----------
    problem : Problem
    x0 : array_like
        The start.
    settings : Settings
    watching : Watching
    count_differences : bool
        Whether evaluations for differences count in nfev and against `maxfev`.
    """

    def __init__(self, problem, x0, settings, watching, count_differences=True):
        self.problem, self.settings, self.count_differences = problem, settings, count_differences
        self.x0, self.mean = x0, None       # mean: the expected counts at the end of the fit, if there are counts
        self.strategy = parse_strategy(settings.strategy)
        n = real_array(x0, "x0", "leastsq").size
        self.differences = _differences(of_means(problem), problem.loss.is_poisson, self.strategy != 0)
        self.maxfev = settings.limit(n, problem.by_differences)
        watch_maxfev = self.differences is not None and count_differences
        watcher = Watcher(watching, self.maxfev if watch_maxfev else None,
                          self._extra if count_differences else lambda: 0)
        self.watcher = watcher if watcher.is_wanted else None

    def _extra(self):
        return 0 if self.differences is None else self.differences.evaluations

    def solve(self, full_output):
        """The tuple of `_core.solve`; nfev includes the evaluations for differences if they count."""
        problem, settings = self.problem, self.settings
        func, Dfun, col_deriv = of_means(problem).func, problem.Dfun, problem.col_deriv
        if self.differences is not None:
            func, Dfun, col_deriv = self.differences.residual, self.differences.jacobian, False
        bounds, loss, filled = problem.bounds, problem.loss, None
        if loss.is_poisson:
            scoring = Scoring(loss.counts, func, Dfun, col_deriv, None if bounds is None else bounds.free)
            func, Dfun = scoring.mean, scoring.jacobian
        if bounds is not None and not bounds.free.all():
            filled = Filled(func, Dfun, col_deriv, bounds.low.size, int(bounds.free.sum()))
            func, Dfun = filled.func, filled.Dfun
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            func, Dfun = handles(func, Dfun, problem.args)
        factor, extras = settings.first_factor(bounds is not None), None
        if bounds is not None or loss.code is not None or self.watcher is not None or self.strategy:
            sides = (None, None) if bounds is None else (bounds.low, bounds.high)
            extras = *sides, loss.code, loss.scale, self.watcher, self.strategy
        try:
            out = solve(func, self.x0, problem.args, Dfun, full_output, col_deriv, settings.ftol, settings.xtol,
                        settings.gtol, self.maxfev, problem.differences.precision, factor, settings.diag, settings.qr,
                        settings.threads, extras)
        finally:
            if self.watcher is not None:
                self.watcher.close()
        ier = out[1]
        if ier == Status.WATCHER and self.watcher.reached_maxfev:
            ier = int(Status.MAXFEV)
        vanished = None
        if self.differences is not None:
            vanished = _which(self.differences.vanished)
        elif len(out) > 12:
            vanished = out[12]
        if len(out) <= 12:              # the short form, possibly with norms
            return (out[0], ier, *out[2:]) if vanished is None else (out[0], ier, *(None,)*10, vanished)
        extra = self._extra() if self.count_differences else 0
        fvec = out[2] if filled is None else filled.own(out[2])
        if loss.is_poisson:
            self.mean, fvec = fvec, problem.func.residuals(fvec)
        return (out[0], ier, fvec, out[3] + extra, *out[4:12], vanished, *out[13:])


def _which(mask):
    return None if mask is None or not mask.any() else tuple(np.flatnonzero(mask).tolist())


def why_it_ended(out, loss, **settings):
    """The message for a result of `_core.solve`; `settings` are the tolerances and `maxfev`."""
    x, ier = out[:2]
    if ier == Status.NOT_FINITE:
        return not_finite_message(x, out[4], out[9], loss=loss)
    if ier == Status.STOPPED:
        return stopped_message(*out[10])
    return message(ier, **settings) + vanished_message(x, out[12] if len(out) > 12 else None)


def _differences(problem, counts, remembers):
    """The `DifferenceJacobian` of a fit; None if the core or the user's Dfun computes the Jacobian."""
    func, how = problem.func, problem.differences
    if problem.Dfun is not None:
        if how.workers is not None:
            raise ValueError("leastsq: workers evaluate differences, but with Dfun there are none")
        if how.groups is not None:
            raise ValueError("leastsq: groups combine the differences of several parameters, but with Dfun there are none")
        return None
    if how.scheme == "2-point" and how.workers is how.steps is how.groups is None and not counts:
        return None                     # the core makes these differences
    if isinstance(func, CFunction):
        raise TypeError(f"leastsq: Dfun={how.scheme!r} with workers or steps, '3-point' and 'cs' need "
                        "a Python function, got a CFunction")
    if not callable(func):
        raise TypeError("leastsq: func must be callable or a CFunction, got "
                        f"{type(func).__name__}")
    return DifferenceJacobian(func, how, problem.bounds, grows=problem.grows, remembers=remembers)
