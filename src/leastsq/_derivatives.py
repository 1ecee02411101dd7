"""Jacobians by differences and complex steps, one after another or side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from ._core import chkder

__all__ = ["EPS", "PRECISION", "SCHEMES", "Differences", "GradientCheck", "check_gradient"]

SCHEMES = ("2-point", "3-point", "cs")
EPS = 2.0**-52
PRECISION = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float16): 2.0**-10}
_COMPLEX_STEP = 2.0**-66        # relative; its square is nothing beside 1
LEAST_PART = 2.0**-10           # of a parameter's largest size: fdjac2.f90's
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
        return self.map(partial(_call, self.func, args), points)

    def _sizes(self, x):
        """|x|, but not what it is just when it passes close to zero."""
        self.largest = np.maximum(np.abs(x), self.largest)
        return np.maximum(np.abs(x), LEAST_PART*self.largest)

    def _two_point(self, x, f, args):
        n = x.size
        low, high = self._bounds(n)
        size = x if self.low is None else self._sizes(x)
        steps = _steps(size, self._relative_step(np.sqrt))
        which, points = [], []
        for j in range(n):
            moved = x[j] + steps[j]
            if moved > high[j]:
                moved = _point_within(x[j], steps[j], low[j], high[j])
                steps[j] = moved - x[j]
            if steps[j] != 0:
                which.append(j)
                points.append(_replaced(x, j, moved))
        rows = np.zeros((n, f.size))
        values = iter(self._evaluate(points, args))
        for j in which:
            rows[j] = (_as_residuals(next(values), f.size) - f)/steps[j]
        return rows.T

    def _three_point(self, x, f, args):
        n = x.size
        low, high = self._bounds(n)
        steps = _steps(self._sizes(x), self._relative_step(np.cbrt))
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
        steps = _steps(x, _COMPLEX_STEP if self.step is None else self.step)
        points = [_replaced(x.astype(complex), j, x[j] + 1j*steps[j]) for j in free]
        rows = np.zeros((n, f.size))
        values = iter(self._evaluate(points, args))
        for j in free:
            value = np.atleast_1d(np.asarray(next(values)))
            if value.dtype.kind != "c" or value.shape != f.shape:
                raise TypeError(
                    "leastsq: Dfun='cs' needs a func that lets complex numbers through, and "
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
        steps = _steps(x, 2.0**-26)*(-1.0)**np.arange(x.size)
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
                "leastsq: Dfun='cs' disagrees with a difference of func: somewhere func drops the "
                "imaginary part, or is not analytic (abs, real, conj, comparisons). '3-point' "
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


def _call(func, args, x):
    return func(x, *args)


def _steps(x, relative):
    """As fdjac2 makes them."""
    steps = relative*np.abs(x)
    return np.where(steps == 0, relative, steps)


def _replaced(x, j, value):
    moved = x.copy()
    moved[j] = value
    return moved


def _point_within(x, h, low, high):
    """fdjac2.f90's."""
    if x - h >= low:
        return x - h
    return high if high - x > x - low else low


def _as_residuals(value, m):
    value = np.asarray(value)
    if value.dtype.kind not in "biuf":
        raise TypeError(f"leastsq: func must return real numbers, got {value.dtype}")
    if value.ndim > 1 or value.size != m:
        raise ValueError(f"leastsq: func returned shape {value.shape} where it returned "
                         f"{m} residuals before")
    return np.atleast_1d(value).astype(float, copy=False)


class GradientCheck(dict):
    """What `check_gradient` found; the keys are attributes too.

    Attributes
    ----------
    ok : bool
        No entry is wrong.
    wrong : ndarray, shape (k, 2)
        Row and column of each wrong entry; with "chkder" the wrong rows, shape (k,).
    error : ndarray, shape (m, n)
        Absolute differences between `Dfun` and `numerical`; None with "chkder".
    numerical : ndarray, shape (m, n)
        The Jacobian by central differences; None with "chkder".
    rows : ndarray, shape (m,)
        MINPACK's chkder measure of each residual: 1 right, 0 wrong, about 0.5 in doubt.
    message : str
        What is wrong, in words.
    """

    __getattr__ = dict.__getitem__

    def __str__(self):
        return self["message"]


def check_gradient(func, x, Dfun, args=(), *, col_deriv=False, rtol=1e-4, method="differences"):
    """
    Compare a Jacobian with differences of its function.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, *args)``, m real numbers.
    x : array_like
        Where; n real numbers.  Not the solution, nor a point with many zeros:
        mistakes hide there.
    Dfun : callable
        Jacobian ``Dfun(x, *args)``, shape (m, n).
    args : tuple, optional
        Further arguments of both.
    col_deriv : bool, optional
        `Dfun` returns shape (n, m).
    rtol : float, optional
        Relative difference from which on an entry is wrong, beside the estimated
        error of the difference itself.
    method : {"differences", "chkder"}, optional
        "differences": every entry, by central differences.  "chkder": every row, by
        MINPACK's chkder alone, for large Jacobians: two calls to `func` in all.

    Returns
    -------
    check : GradientCheck
        `ok`, `wrong`, `error`, `numerical`, `rows`, `message`; prints as its message.

    Raises
    ------
    ValueError
        `func` is not finite at `x`, or `Dfun` has a shape that is not even the transposed one,
        or with "chkder" another than its own; unknown `method`.

    Notes
    -----
    `rows` are MINPACK's chkder [1]_, to the bit: one step along all variables at once, and
    the logarithm of what is left of it.  It costs one evaluation; the entries cost 4*n
    more.  Mistakes that cancel along that step stay hidden from it.  Rows that it
    cannot tell, since their residuals are zero or do not move, are 1 here, and 0 as
    MINPACK has them with ``method="chkder"``.

    References
    ----------
    .. [1] J. J. Moré, B. S. Garbow, K. E. Hillstrom, "User guide for MINPACK-1",
       Argonne National Laboratory report ANL-80-74 (1980).

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import check_gradient
    >>> t = np.linspace(0.1, 2, 4)
    >>> def func(x):
    ...     return x[0]*np.exp(-x[1]*t)
    >>> def Dfun(x):
    ...     e = np.exp(-x[1]*t)
    ...     return np.stack([e, x[0]*t*e], axis=1)      # a minus is missing
    >>> check = check_gradient(func, [2.0, 0.7], Dfun)
    >>> check.ok
    False
    >>> print(check)
    The sign of column 1 of the Jacobian (derivatives with respect to x[1]) is flipped.
    """
    if method not in ("differences", "chkder"):
        raise ValueError(f"check_gradient: method must be 'differences' or 'chkder', got {method!r}")
    if not isinstance(args, tuple):
        args = (args,)
    x = np.array(x, float).ravel()
    f = np.atleast_1d(np.array(func(x.copy(), *args), float))
    if f.ndim > 1 or not np.isfinite(f).all():
        raise ValueError("check_gradient: func(x) must be one-dimensional and finite, "
                         f"got {f}")
    given = np.atleast_1d(np.array(Dfun(x.copy(), *args), float))
    if given.ndim == 1:
        given = given.reshape((f.size, -1) if x.size == 1 or f.size > 1 else (1, -1))
    if col_deriv:
        given = given.T
    if method == "chkder" and given.shape == (f.size, x.size):
        return _by_rows(given, f, x, func, args)
    if method == "chkder":
        raise ValueError(f"check_gradient: the Jacobian must have shape {(f.size, x.size)}, got {given.shape}")
    coarse, numerical = (_central(func, args, x, f, root) for root in (2.0**-15, 2.0**-17))
    shape = f.size, x.size
    if given.shape == shape[::-1] and shape[0] != shape[1]:
        return _verdict(given.T, numerical, coarse, f, x, func, args, rtol, transposed=True)
    if given.shape != shape:
        raise ValueError(f"check_gradient: the Jacobian must have shape {shape}, "
                         f"got {given.shape}")
    return _verdict(given, numerical, coarse, f, x, func, args, rtol, transposed=False)


def _central(func, args, x, f, relative):
    maker = Differences(func, "3-point", step=relative)
    return maker.jacobian_at(x, f, args)


def _verdict(given, numerical, coarse, f, x, func, args, rtol, transposed):
    def misses(matrix):
        scale = np.maximum(np.abs(numerical), np.abs(matrix))
        return ~(np.abs(matrix - numerical) <= rtol*scale + slack)

    column = np.abs(numerical).max(axis=0, initial=0)
    steps = _steps(x, 2.0**-17)
    slack = (4*np.abs(coarse - numerical) + 1e-10*column
             + 8*EPS*np.maximum(np.abs(f)[:, None], np.abs(x)*column)/steps)
    bad = misses(given)
    wrong = np.argwhere(bad)
    square = given.shape[0] == given.shape[1]
    flipped = bad.any(axis=0) & ~(misses(-given)).any(axis=0)
    if transposed and not bad.any():
        message = "The Jacobian is transposed: rows are for residuals, or pass col_deriv=True."
    elif not bad.any():
        message = "The Jacobian agrees with differences of the function."
    elif square and given.shape[0] > 1 and not misses(given.T).any():
        message = "The Jacobian is transposed: rows are for residuals, or pass col_deriv=True."
    elif flipped.any() and (flipped | ~bad.any(axis=0)).all():
        which = np.flatnonzero(flipped)
        if which.size > 1 and (flipped | (column == 0)).all():
            message = "The sign of the whole Jacobian is flipped."
        elif which.size == 1:
            message = (f"The sign of column {which[0]} of the Jacobian (derivatives with respect "
                       f"to x[{which[0]}]) is flipped.")
        else:
            message = f"The signs of columns {which.tolist()} of the Jacobian are flipped."
    else:
        i, j = wrong[np.argmax(np.abs(given - numerical)[bad])]
        columns = sorted(set(wrong[:, 1].tolist()))
        message = (f"{len(wrong)} of {given.size} entries are wrong, in columns {columns}; the "
                   f"worst is the derivative of residual {i} with respect to x[{j}]: "
                   f"{given[i, j]:.6g} where differences give {numerical[i, j]:.6g}.")
    if transposed and bad.any():
        message = "The Jacobian has the shape of a transposed one. As such: " + message
    rows, told = _rows(func, args, x, f, given)
    return GradientCheck(ok=not bad.any() and not transposed, wrong=wrong,
                         error=np.abs(given - numerical), numerical=numerical,
                         rows=np.where(told, rows, 1.0), message=message)


def _rows(func, args, x, f, jacobian):
    """MINPACK's measure of each row, and where it tells: elsewhere f does not move."""
    moved = np.atleast_1d(np.array(func(chkder(x), *args), float))
    with np.errstate(all="ignore"):
        told = (f != 0) & (moved != 0) & (np.abs(moved - f) >= 100*EPS*np.abs(f))
    return chkder(x, f, jacobian, moved), told


def _by_rows(given, f, x, func, args):
    """The verdict of MINPACK's chkder alone."""
    rows, told = _rows(func, args, x, f, given)
    bad = np.flatnonzero(told & ~(rows > 0.5))
    if bad.size:
        worst = bad[np.argmin(rows[bad])]
        message = (f"{bad.size} of {f.size} rows of the Jacobian disagree with a step along all variables: {_few(bad)}; "
                   f"the worst is row {worst} ({rows[worst]:.2g}).")
    elif told.any():
        message = "The rows of the Jacobian agree with a step along all variables."
    else:
        message = "No residual moves with a step along all variables: nothing was checked."
    if not told.all() and told.any():
        message += f" Not told: {_few(np.flatnonzero(~told))}, whose residuals are zero or do not move."
    return GradientCheck(ok=not bad.size and bool(told.any()), wrong=bad, error=None, numerical=None, rows=rows,
                         message=message)


def _few(indices):
    shown = ", ".join(map(str, indices[:5]))
    return f"{shown} and {indices.size - 5} more" if indices.size > 5 else shown
