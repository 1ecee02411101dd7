"""Jacobians by differences and complex steps, one after another or side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from .. import _core

__all__ = ["EPS", "PRECISION", "SCHEMES", "Differences", "steps_of"]

SCHEMES = ("2-point", "3-point", "cs")
EPS = 2.0**-52
PRECISION = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float16): 2.0**-10}
_COMPLEX_STEP = 2.0**-66        # relative; its square is nothing beside 1
_DISAGREE = 0.1                 # of a directional derivative: no rounding error


class Differences:
    """The residuals of a fit, and their Jacobian from more of them.

    `residual` and `jacobian` take the place of func and Dfun.  The solver asks for
    a Jacobian only where it last asked for residuals, which are kept for that.

    Parameters
    ----------
    func : callable
        ``func(x, *args)``.
    scheme : {"2-point", "3-point", "cs"}
        "2-point" makes the differences of MINPACK's fdjac2, to the bit.
    low, high : ndarray, shape (n,), or None
        Bounds; no point lies outside.
    workers : None, int or callable
        Number of threads, or a map: ``workers(f, points)``.
    epsfcn : float or None
        Relative error of func; None: that of the type it returns.
    step : array_like or None
        Relative steps, in place of those from `epsfcn`.

    Attributes
    ----------
    evaluations : int
        How many residuals the Jacobians took.
    """

    def __init__(self, func, scheme, low=None, high=None, workers=None, epsfcn=None, step=None):
        self.func = func
        self.low, self.high = low, high
        self.map = _mapper(workers)
        self.epsfcn = epsfcn
        self.step = step
        self.evaluations = 0
        self.checked = False
        self._scheme = {"2-point": self._two_point, "3-point": self._three_point,
                        "cs": self._complex_step}[scheme]
        self._f = None
        self.largest = 0.0             # |x| so far
        self._eps = None

    def residual(self, x, *args):
        result = self.func(x, *args)
        self._f = result.copy() if type(result) is np.ndarray else result
        if self._eps is None:
            self._eps = PRECISION.get(getattr(result, "dtype", None), EPS)
        return result

    def jacobian(self, x, *args):
        """Shape (m, n)."""
        f = np.atleast_1d(np.asarray(self._f, float))
        return self._scheme(x, f, args)

    def jacobian_at(self, x, f, args=()):
        """As `jacobian`, where f = func(x) is known."""
        self._f = f
        return self._scheme(x.copy(), np.atleast_1d(f), args)

    def _relative_step(self, root):
        if self.step is not None:
            return self.step
        eps = (self._eps or EPS) if self.epsfcn is None else float(self.epsfcn)
        return root(max(eps, EPS))

    def _bounds(self, n):
        if self.low is None:
            return np.full(n, -np.inf), np.full(n, np.inf)
        return self.low, self.high

    def _evaluate(self, points, args):
        """func at the points, in order, as they are wanted."""
        self.evaluations += len(points)
        values = self.map(partial(_call, self.func, args), points)
        return values if self.map is map else _all_of(values, len(points))

    def _largest(self, x):
        """|x| so far, so that steps do not shrink where x passes close to zero."""
        self.largest = np.maximum(np.abs(x), self.largest)
        return self.largest

    def _two_point(self, x, f, args):
        n = x.size
        largest = None if self.low is None else self._largest(x)
        moved, steps = _core.difference_steps(x, self._relative_step(np.sqrt), largest, self.low, self.high)
        which = np.flatnonzero(steps)
        points = [_replaced(x, j, moved[j]) for j in which]
        rows = np.zeros((n, f.size))
        values = iter(self._evaluate(points, args))
        for j in which:
            rows[j] = (_as_residuals(next(values), f.size) - f)/steps[j]
        return rows.T

    def _three_point(self, x, f, args):
        n = x.size
        low, high = self._bounds(n)
        _, steps = _core.difference_steps(x, self._relative_step(np.cbrt), self._largest(x), None, None)
        plan, points = [], []
        for j in range(n):
            h, up, down = steps[j], high[j] - x[j], x[j] - low[j]
            room = max(up, down)
            if room == 0:
                continue
            central = min(up, down) >= min(h, room/4)
            if central:
                h = min(h, up, down)
                ends = x[j] + h, x[j] - h
            else:
                h = min(h, room/2) if up >= down else -min(h, room/2)
                ends = x[j] + h, min(max(x[j] + 2*h, low[j]), high[j])
            plan.append((j, central, ends[0] - x[j], ends[1] - x[j]))
            points += [_replaced(x, j, end) for end in ends]
        rows = np.zeros((n, f.size))
        values = iter(self._evaluate(points, args))
        for j, central, a, b in plan:
            first = _as_residuals(next(values), f.size).copy()
            second = _as_residuals(next(values), f.size)
            if central:
                rows[j] = (first - second)/(a - b)
            else:                       # the parabola through f(x) and two points beside
                rows[j] = ((first - f)*b/a - (second - f)*a/b)/(b - a)
        return rows.T

    def _complex_step(self, x, f, args):
        n = x.size
        low, high = self._bounds(n)
        free = np.flatnonzero(low < high)
        steps = steps_of(x, _COMPLEX_STEP if self.step is None else self.step)
        points = [_replaced(x.astype(complex), j, x[j] + 1j*steps[j]) for j in free]
        rows = np.zeros((n, f.size))
        values = iter(self._evaluate(points, args))
        for j in free:
            value = np.atleast_1d(np.asarray(next(values)))
            if value.dtype.kind != "c" or value.shape != f.shape:
                raise TypeError(
                    "leastsq: complex steps ('cs') need a func that lets complex numbers through, and "
                    f"func(x) with a complex x[{j}] returned {value.dtype} of shape {value.shape}: "
                    "it drops the imaginary part (abs, real, a float64 array that is filled?). "
                    "'3-point' makes do with real numbers")
            # a nan in the real part may leave 0 in the imaginary one
            rows[j] = np.where(np.isfinite(value.real), value.imag/steps[j], np.nan)
        if not self.checked and free.size:
            self._check_complex(x, f, args, rows, low, high)
        return rows.T

    def _check_complex(self, x, f, args, rows, low, high):
        """One more evaluation tells whether func is what complex steps need."""
        self.checked = True
        steps = steps_of(x, 2.0**-26)*(-1.0)**np.arange(x.size)
        point = np.where((x + steps < low) | (x + steps > high), x - steps, x + steps)
        point = np.clip(point, low, high)
        (value,) = self._evaluate([point.copy()], args)
        with np.errstate(all="ignore"):
            seen = _as_residuals(value, f.size) - f
            meant = (point - x) @ rows
            error = np.linalg.norm(seen - meant)
            noise = 1e3*EPS*(np.linalg.norm(f) + np.linalg.norm(f + seen))
            wrong = error > _DISAGREE*np.linalg.norm(seen) + noise
        if wrong:
            raise ValueError(
                "leastsq: the Jacobian by complex steps ('cs') disagrees with a difference of func: somewhere "
                "func drops the imaginary part, or is not analytic (abs, real, conj, comparisons). '3-point' "
                "makes do with real numbers")


def _mapper(workers):
    if workers is None:
        return map
    if callable(workers):
        return workers
    if isinstance(workers, bool) or not hasattr(workers, "__index__"):
        raise TypeError("leastsq: workers must be an integer or a map-like callable, got "
                        f"{type(workers).__name__}")
    count = workers.__index__()
    if count == -1:
        count = os.cpu_count() or 1
    if count < 1:
        raise ValueError(f"leastsq: workers must be positive, or -1, got {workers}")

    def by_threads(function, points):
        with ThreadPoolExecutor(min(count, max(len(points), 1))) as pool:
            return list(pool.map(function, points))
    return map if count == 1 else by_threads


def _all_of(values, count):
    """What a map of the user's returned, if it is what was asked for."""
    if not hasattr(values, "__iter__"):
        raise TypeError("leastsq: workers must return the results in the order of the points, got "
                        f"{type(values).__name__}")
    values = list(values)
    if len(values) != count:
        raise ValueError(f"leastsq: workers must return a result for each of {count} points, got {len(values)}")
    return values


def _call(func, args, x):
    return func(x, *args)


def steps_of(x, relative):
    """As fdjac2 makes them without bounds."""
    return _core.difference_steps(x, relative, None, None, None)[1]


def _replaced(x, j, value):
    moved = x.copy()
    moved[j] = value
    return moved


def _as_residuals(value, m):
    value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"leastsq: func must return real numbers, got {value.dtype}")
    if value.ndim > 1 or value.size != m:
        raise ValueError(f"leastsq: func returned shape {value.shape} where it returned "
                         f"{m} residuals before")
    return np.atleast_1d(value).astype(float, copy=False)
