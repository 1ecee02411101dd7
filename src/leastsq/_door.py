"""What a fit does beside MINPACK: bounds, losses, differences of its own, watchers."""

from __future__ import annotations

import operator
from functools import partial

import numpy as np

from ._checks import real_array
from ._compiled import CFunction, call_compiled, handles
from ._core import solve
from ._derivatives import SCHEMES, Differences
from ._losses import LINEAR, active_mask, bound_arrays, core_loss, held
from ._watch import Watcher

__all__ = ["Door"]

_MAXFEV, _WATCHER = 5, 11


class Door:
    """One fit with any of the options, from the user's arguments to the core's.

    Parameters are those of `leastsq`; `step` are relative steps of differences,
    and `count_differences` is False if they do not count against `maxfev`.
    """

    def __init__(self, func, x0, Dfun, maxfev, epsfcn, bounds=None, loss=LINEAR, f_scale=1.0,
                 callback=None, history=False, verbose=0, workers=None, step=None,
                 count_differences=True):
        x0 = real_array(x0, "x0", "leastsq")
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
        try:
            maxfev = operator.index(maxfev)
        except TypeError:
            raise TypeError(f"leastsq: maxfev must be an integer, got {type(maxfev).__name__}") from None
        if maxfev <= 0:
            maxfev = (200 if self.by_differences else 100)*(x0.size + 1)
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
        if self.differences is not None:
            col_deriv = False
        filled = None
        if self.low is not None and (self.low == self.high).any():
            filled = _Filled(func, Dfun, col_deriv, self.low, self.high)
            func, Dfun = filled.func, filled.Dfun
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            func, Dfun = handles(func, Dfun, args)
        extras = None
        if self.low is not None or self.loss is not None or self.watcher is not None:
            extras = self.low, self.high, self.loss, self.f_scale, self.watcher
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
        fvec = out[2] if filled is None else filled.own(out[2])
        return (out[0], ier, fvec, out[3] + extra, *out[4:])

    def held(self, x, multipliers):
        """What to say of parameters at a bound, or an empty string."""
        return "" if self.low is None else held(x, self.low, self.high, multipliers)

    def active_mask(self, x):
        """-1 for a variable at its lower bound, 1 at its upper one, else 0."""
        if self.low is None:
            return np.zeros(x.size, np.int64)
        return active_mask(x, self.low, self.high)


class _Filled:
    """Functions with zeros below their rows, where these are fewer than the parameters.

    The core wants m >= n; parameters that the bounds fix need no residuals.
    """

    def __init__(self, func, Dfun, col_deriv, low, high):
        self.m, n, free = None, low.size, int((low < high).sum())
        self.func, self.Dfun = func, Dfun
        if isinstance(func, CFunction):
            if not free <= func.m < n:
                return                  # enough, or the core says that they are not
            func = partial(call_compiled, func)
        if isinstance(Dfun, CFunction) and Dfun.m < n:
            Dfun, col_deriv = partial(call_compiled, Dfun, columns=n), False

        def residual(x, *args):
            value = func(x, *args)
            if free <= np.size(value) < n and np.ndim(value) < 2:
                value = np.atleast_1d(value)
                self.m = value.size
                value = np.concatenate([value, np.zeros(n - self.m, value.dtype)])
            return value

        def jacobian(x, *args):
            value = Dfun(x, *args)
            if self.m is None:
                return value
            value, shape = np.asarray(value), (n, self.m) if col_deriv else (self.m, n)
            if value.shape != shape and not (self.m == 1 and value.size == n):
                raise TypeError("leastsq: there is a mismatch between the input and output shape of the 'Dfun' "
                                f"argument. Shape should be {shape} but it is {value.shape}.")
            rest = np.zeros((n, n - self.m) if col_deriv else (n - self.m, n), value.dtype)
            return np.concatenate([value.reshape(shape), rest], axis=1 if col_deriv else 0)

        self.func = residual
        if callable(Dfun):
            jacobian.__name__ = getattr(Dfun, "__name__", "Dfun")
            self.Dfun = jacobian

    def own(self, fvec):
        return fvec if self.m is None else fvec[:self.m].copy()


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
