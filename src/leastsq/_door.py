"""What a fit does beside MINPACK: bounds, losses, differences of its own, watchers."""

from __future__ import annotations

import operator

import numpy as np

from ._compiled import CFunction, handles
from ._core import solve
from ._derivatives import SCHEMES, Differences
from ._losses import LINEAR, bound_arrays, core_loss
from ._watch import Watcher

__all__ = ["Door", "active_mask", "held"]

_MAXFEV, _WATCHER = 5, 11


class Door:
    """One fit with any of the options, from the user's arguments to the core's.

    Parameters are those of `leastsq`; `step` are relative steps of differences,
    and `count_differences` is False if they do not count against `maxfev`.
    """

    def __init__(self, func, x0, Dfun, maxfev, epsfcn, bounds=None, loss=LINEAR, f_scale=1.0,
                 callback=None, history=False, verbose=0, workers=None, step=None,
                 count_differences=True):
        self.low = self.high = None
        self.has_bounds = bounds is not None
        if self.has_bounds:
            self.low, self.high = bound_arrays(bounds, x0)
        self.loss, self.f_scale = core_loss(loss, f_scale)
        self.func, self.Dfun = func, Dfun
        self.differences = _differences(func, Dfun, self.low, self.high, workers, epsfcn, step)
        if self.differences is not None:
            self.func, self.Dfun = self.differences.residual, self.differences.jacobian
        elif isinstance(Dfun, str):
            self.Dfun = None
        self.by_differences = self.Dfun is None or self.differences is not None
        maxfev = operator.index(maxfev)
        if maxfev <= 0:
            maxfev = (200 if self.by_differences else 100)*(np.size(x0) + 1)
        self.maxfev = maxfev
        watch_maxfev = self.differences is not None and count_differences
        self.watcher = None
        watched = Watcher(callback, history, verbose, maxfev if watch_maxfev else None,
                          self._extra if count_differences else lambda: 0)
        if callback is not None or history or verbose or watch_maxfev:
            self.watcher = watched
        self.count_differences = count_differences

    def _extra(self):
        return 0 if self.differences is None else self.differences.evaluations

    def solve(self, x0, args, full_output, col_deriv, ftol, xtol, gtol, epsfcn, factor, diag,
              qr, threads):
        """As `_core.solve`: its tuple, but of other counts if differences count."""
        func, Dfun = self.func, self.Dfun
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            func, Dfun = handles(func, Dfun, args)
        extras = None
        if self.low is not None or self.loss is not None or self.watcher is not None:
            extras = self.low, self.high, self.loss, self.f_scale, self.watcher
        if self.differences is not None:
            col_deriv = False
        try:
            out = solve(func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol,
                        self.maxfev, epsfcn, factor, diag, qr, threads, extras)
        finally:
            if self.watcher is not None:
                self.watcher.close()
        ier = out[1]
        if ier == _WATCHER and self.watcher.reached_maxfev:
            ier = _MAXFEV
        if len(out) == 2:
            return out[0], ier
        extra = self._extra() if self.count_differences else 0
        return (out[0], ier, out[2], out[3] + extra, *out[4:])

    def held(self, x):
        return held(x, self.low, self.high)

    def active_mask(self, x):
        return active_mask(x, self.low, self.high)


def held(x, low, high):
    """What to say of parameters at a bound, or an empty string."""
    if low is None:
        return ""
    fixed, at_low, at_high = low == high, x <= low, x >= high
    said = [f"{_names(which)} {what}" for which, what in (
        (at_low & ~fixed, "at the lower bound"), (at_high & ~fixed, "at the upper bound"),
        (fixed, "fixed")) if which.any()]
    return f"\n  Held: {'; '.join(said)}." if said else ""


def active_mask(x, low, high):
    """-1 for a variable at its lower bound, 1 at its upper one, else 0."""
    mask = np.zeros(x.size, dtype=np.int64)
    if low is not None:
        mask[x >= high] = 1
        mask[x <= low] = -1
    return mask


def _names(which):
    return ", ".join(f"x[{j}]" for j in np.flatnonzero(which))


def _differences(func, Dfun, low, high, workers, epsfcn, step):
    """Who makes the Jacobian, if it is neither the core nor the user."""
    if isinstance(Dfun, str) and Dfun not in SCHEMES:
        raise TypeError(f"leastsq: Dfun must be callable, None or one of {list(SCHEMES)}, "
                        f"got {Dfun!r}")
    scheme = "2-point" if Dfun is None else Dfun
    if not isinstance(scheme, str):
        if workers is not None:
            raise ValueError("leastsq: workers evaluate differences, and Dfun makes none")
        return None
    if scheme == "2-point" and workers is None and step is None:
        return None                     # the core's
    if isinstance(func, CFunction):
        raise TypeError(f"leastsq: Dfun={scheme!r} with workers or steps, '3-point' and 'cs' need "
                        "a Python function, got a CFunction")
    if not callable(func):
        raise TypeError("leastsq: func must be callable or a CFunction, got "
                        f"{type(func).__name__}")
    return Differences(func, scheme, low, high, workers, epsfcn, step)
