"""Jacobians by differences and complex steps, whose evaluations may run in parallel."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from .. import _core
from .arguments import real_number
from .groups import GroupedMoves, Groups
from .kinds import returned

__all__ = ["EPS", "GROWTH", "MOST_GROWTHS", "ORDINARY_GROWTHS", "ORDINARY_SIZE", "PRECISION", "SCHEMES", "TURNS",
           "DifferenceJacobian", "Differences", "forward_differences", "other_steps", "steps_of"]

SCHEMES = ("2-point", "3-point", "cs")
EPS = 2.0**-52
PRECISION = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float16): 2.0**-10}
_COMPLEX_STEP = 2.0**-66        # relative; its square is negligible compared with 1
_DISAGREE = 0.1                 # a directional derivative that differs by this fraction is wrong, not only rounded
TURNS = 6                       # limit on the attempts at a central difference with other steps
_BENT = 0.1                     # a step is too long if its second difference is this fraction of the first
_ROUNDING = 1e3*EPS             # second differences below this fraction of the residuals count as zero
# fdjac2.f90's constants, for forward differences over which no residual changes
GROWTH, MOST_GROWTHS, ORDINARY_SIZE, ORDINARY_GROWTHS = 1e4, 3, 1e-6, 1


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """How to compute a Jacobian from residuals.

    Parameters
    ----------
    scheme : {"2-point", "3-point", "cs"}
        "2-point" has the bits of MINPACK's fdjac2.
    precision : float or None
        Relative error of the function; None: the precision of the dtype that it returns.
    workers : None, int or callable
        Number of threads, or a map: ``workers(f, points)``.
    steps : float, ndarray or None
        Relative steps, in place of those from `precision`.
    groups : Groups or None
        Parameters that may be moved in one evaluation.
    """

    scheme: str = "2-point"
    precision: float | None = None
    workers: int | Callable | None = None
    steps: float | np.ndarray | None = None
    groups: Groups | None = None

    def relative_error(self, eps=EPS):
        """The relative error of a function whose results have the precision `eps`; at least the machine precision."""
        return max(eps if self.precision is None else float(self.precision), EPS)

    def by(self, scheme):
        """The same differences with another scheme."""
        return replace(self, scheme=scheme)

    def of_precision(self, eps):
        """The same differences with the precision of the function, unless the user gave one."""
        return replace(self, precision=eps) if self.precision is None else self


def forward_differences(epsfcn, door):
    """The `Differences` for a user's `epsfcn`, which is checked."""
    if epsfcn is None:
        return Differences()
    value = real_number(epsfcn, "epsfcn", door)
    if value != value:
        raise TypeError("Improper input parameters. epsfcn must be a number or None, got nan")
    return Differences(precision=value)


class DifferenceJacobian:
    """The residuals of a fit, and their Jacobian by differences.

    `residual` and `jacobian` replace func and Dfun.  The solver asks for a Jacobian
    only at the point at which it last asked for residuals, so those are kept.

    Parameters
    ----------
    func : callable
        ``func(x, *args)``.
    differences : Differences
    bounds : Bounds or None
        The function is evaluated only within them.
    grows : bool
        Steps of forward differences that change no residual grow, so the bits are not MINPACK's.
    remembers : bool
        Steps of forward differences are relative to the largest |x| so far, as with bounds.
    alone : bool
        `func` returns all residuals.  If not, `jacobian` leaves the steps unchanged: the caller adds up the `sums` of
        all parts, which show how straight the residuals are over the steps, and sets `factors`.

    Attributes
    ----------
    evaluations : int
        The number of evaluations that the Jacobians took.
    factors : ndarray, shape (n,), or None
        Factors of the steps of central differences, which are otherwise relative to the size of x.
    vanished : ndarray of bool, shape (n,), or None
        Parameters close to zero whose forward differences were zero in every Jacobian.
    sums : ndarray, shape (3, n)
        Sums of squares over the last steps of central differences: of first differences, second differences, residuals.
    """

    def __init__(self, func, differences, bounds=None, alone=True, grows=False, remembers=False):
        self.func, self.differences, self.bounds, self.alone = func, differences, bounds, alone
        self.grows = grows and differences.steps is None
        self.remembers = remembers or bounds is not None
        self.vanished = None
        self.map = _mapper(differences.workers)
        self.evaluations = 0
        self.checked = False
        self._scheme = {"2-point": self._two_point, "3-point": self._three_point,
                        "cs": self._complex_step}[differences.scheme]
        self._f = None
        self.largest = 0.0             # largest |x| so far
        self.factors = self.sums = None
        self._grouped = None if differences.groups is None else GroupedMoves(differences.groups)
        self._eps = None                # precision of the dtype that func returns

    def residual(self, x, *args):
        result = returned(self.func(x, *args))
        self._f = result.copy() if type(result) is np.ndarray else result
        if self._eps is None:
            self._eps = PRECISION.get(getattr(result, "dtype", None), EPS)
        return result

    def jacobian(self, x, *args):
        """Shape (m, n)."""
        f = np.atleast_1d(np.asarray(self._f, float))
        return self._scheme(x, f, args)

    def jacobian_at(self, x, f, args=()):
        """Like `jacobian`, given f = func(x)."""
        self._f = f
        return self._scheme(x.copy(), np.atleast_1d(f), args)

    def _relative_step(self, root):
        steps = self.differences.steps
        return root(self.differences.relative_error(self._eps or EPS)) if steps is None else steps

    def _bounds(self, n):
        if self.bounds is None:
            return np.full(n, -np.inf), np.full(n, np.inf)
        return self.bounds.low, self.bounds.high

    def _evaluate(self, points, args):
        """The values of func at the points, in order; without workers each is computed when it is used."""
        self.evaluations += len(points)
        values = self.map(partial(_call, self.func, args), points)
        return values if self.map is map else _all_of(values, len(points))

    def _moved(self, x, moves, f, args):
        """The values of func with single parameters moved: `moves` holds (j, new value)."""
        if self._grouped is None:
            return self._evaluate([_replaced(x, j, value) for j, value in moves], args)
        return self._grouped.evaluate(x, moves, f, partial(self._evaluate, args=args))

    def _largest(self, x):
        """The largest |x| so far, so that steps do not shrink where x passes close to zero."""
        self.largest = np.maximum(np.abs(x), self.largest)
        return self.largest

    def _two_point(self, x, f, args):
        n = x.size
        largest, low, high = None, None, None
        if self.remembers:
            largest = self._largest(x)
        if self.bounds is not None:
            low, high = self.bounds.low, self.bounds.high
        relative = self._relative_step(np.sqrt)
        if self.factors is not None:
            relative = relative*self.factors
        moved, steps = _core.difference_steps(x, relative, largest, low, high)
        rows = np.zeros((n, f.size))
        self._forward(x, f, args, np.flatnonzero(steps), moved, steps, rows)
        flat = ~rows.any(axis=1) & (steps != 0) & (x != 0) & f.any()
        if not self.alone and ((x != 0) & (np.abs(x) < ORDINARY_SIZE)).any():
            self.sums = np.stack([np.square(rows).sum(axis=1), *np.zeros((2, n))])
        which = np.flatnonzero(flat) if self.grows and self.alone else ()
        for turn in range(MOST_GROWTHS):
            which = [j for j in which if turn < ORDINARY_GROWTHS or abs(x[j]) < ORDINARY_SIZE]
            if not len(which):
                break
            relative, before = np.broadcast_to(relative, n)*GROWTH, moved
            moved, steps = _core.difference_steps(x, relative, largest, low, high)
            which = np.array([j for j in which if moved[j] != before[j]], int)
            self._forward(x, f, args, which, moved, steps, rows)
            lost = which[~np.isfinite(rows[which]).all(axis=1)]
            rows[lost] = 0              # outside the domain of func
            which = [j for j in which if j not in lost and not rows[j].any()]
        flat &= ~rows.any(axis=1) & (np.abs(x) < ORDINARY_SIZE)
        self.vanished = flat if self.vanished is None else self.vanished & flat
        return rows.T

    def _forward(self, x, f, args, which, moved, steps, rows):
        """Set the rows of these parameters to forward differences."""
        values = iter(self._moved(x, [(j, moved[j]) for j in which], f, args))
        for j in which:
            rows[j] = (_as_residuals(next(values), f.size) - f)/steps[j]

    def _three_point(self, x, f, args):
        """Central differences, one-sided ones at a bound.

        The step is relative to the parameter's size. It is made shorter if the residuals bend over
        it, longer if they do not change, and the factor is remembered.
        """
        n = x.size
        if self.factors is None:
            self.factors = np.ones(n)
        steps = _core.difference_steps(x, self._relative_step(np.cbrt), self._largest(x), None, None)[1]*self.factors
        rows, best, self.sums = np.zeros((n, f.size)), np.full(n, np.inf), np.zeros((3, n))     # best: the smallest bend so far
        todo = [j for j in range(n) if self._room(x, j) > 0]
        for turn in range(TURNS if self.alone and self.differences.steps is None else 1):
            plan = [self._ends(x, j, steps[j]) for j in todo]
            values = iter(self._moved(x, [(j, x[j] + d) for j, (_, *ends) in zip(todo, plan) for d in ends], f, args))
            for j, (central, a, b) in zip(todo, plan):
                first = _as_residuals(next(values), f.size).copy()
                second = _as_residuals(next(values), f.size)
                row = (first - second)/(a - b) if central else ((first - f)*b/a - (second - f)*a/b)/(b - a)
                self.sums[:, j] = _differences_of(f, first, second, central)
                bend = _bend(*self.sums[:, j])
                if bend < best[j] or turn == 0:
                    rows[j], best[j] = row, bend
            factors = other_steps(self.sums[:, todo], steps[todo], x[todo])
            again = np.flatnonzero(factors != 1)
            todo = [todo[k] for k in again]
            steps[todo] *= factors[again]
            if not todo or not self.alone:
                break
            self.factors[todo] *= factors[again]
        return rows.T

    def _room(self, x, j):
        low, high = self._bounds(x.size)
        return max(high[j] - x[j], x[j] - low[j])

    def _ends(self, x, j, h):
        """(central, first, second): distances of the two points, which lie within the bounds."""
        low, high = self._bounds(x.size)
        up, down = high[j] - x[j], x[j] - low[j]
        room = max(up, down)
        central = min(up, down) >= min(h, room/4)
        if central:
            h = min(h, up, down)
            ends = x[j] + h, x[j] - h
        else:                           # the parabola through f(x) and two points on one side
            h = min(h, room/2) if up >= down else -min(h, room/2)
            ends = x[j] + h, min(max(x[j] + 2*h, low[j]), high[j])
        return central, ends[0] - x[j], ends[1] - x[j]

    def _complex_step(self, x, f, args):
        n = x.size
        low, high = self._bounds(n)
        free = np.flatnonzero(low < high)
        steps = steps_of(x, _COMPLEX_STEP if self.differences.steps is None else self.differences.steps)
        rows = np.zeros((n, f.size))
        values = iter(self._moved(x.astype(complex), [(j, x[j] + 1j*steps[j]) for j in free], f, args))
        for j in free:
            value = np.atleast_1d(np.asarray(returned(next(values))))
            if value.dtype.kind != "c" or value.shape != f.shape:
                raise TypeError(
                    "leastsq: complex steps ('cs') need a func that passes complex numbers through, but "
                    f"func(x) with a complex x[{j}] returned {value.dtype} of shape {value.shape}: "
                    "it drops the imaginary part (abs, real, or a float64 array that it fills?). "
                    "'3-point' needs only real numbers")
            # a nan in the real part may leave 0 in the imaginary one
            rows[j] = np.where(np.isfinite(value.real), value.imag/steps[j], np.nan)
        if not self.checked and free.size:
            self._check_complex(x, f, args, rows, low, high)
        return rows.T

    def _check_complex(self, x, f, args, rows, low, high):
        """Compare the Jacobian with real differences, which complex steps must match; one is usually enough."""
        self.checked = True
        signs = (-1.0)**np.arange(x.size)
        for step in self._check_steps(x, f, rows):
            steps = step*signs
            point = np.where((x + steps < low) | (x + steps > high), x - steps, x + steps)
            point = np.clip(point, low, high)
            (value,) = self._evaluate([point.copy()], args)
            with np.errstate(all="ignore"):
                seen = _as_residuals(value, f.size) - f
                meant = (point - x) @ rows
                error = np.linalg.norm(seen - meant)
                noise = 1e3*EPS*(np.linalg.norm(f) + np.linalg.norm(f + seen))
                if not error > _DISAGREE*np.linalg.norm(seen) + noise:
                    return
        raise ValueError(
            "leastsq: the Jacobian by complex steps ('cs') disagrees with a difference of func: somewhere "
            "func drops the imaginary part, or is not analytic (abs, real, conj, comparisons). '3-point' "
            "needs only real numbers")

    @staticmethod
    def _check_steps(x, f, rows):
        """Steps relative to x, then ever shorter ones over which the residuals should change a little."""
        plain = steps_of(x, 2.0**-26)
        yield plain
        sizes = np.linalg.norm(rows, axis=1)
        effects = (np.abs(x)*sizes)[(x != 0) & (sizes > 0)]
        size = np.linalg.norm(f) or float(effects.min(initial=np.inf))
        for share in (1e-3, 1e-5, 1e-7):
            with np.errstate(all="ignore"):
                steps = np.maximum(share*size/sizes, 8*np.spacing(np.abs(x)))
                part = float(np.nanmax(np.where((sizes > 0) & (x != 0), steps/np.abs(x), 0.0), initial=0.0))
            # a parameter that seems to have no effect moves by the largest relative step of the others
            yield np.where(sizes > 0, steps, np.maximum(part*np.abs(x), plain))


def _differences_of(f, first, second, central):
    """Sums of squares of the first and the second difference over a step, and of the residuals."""
    with np.errstate(all="ignore"):
        change = first - second if central else second - f
        curve = (first - f) + (second - f) if central else (second - f) - 2*(first - f)
        return change @ change, curve @ curve, f @ f + first @ first + second @ second


def _bend(change, curve, size):
    """Second difference over first, from their sums of squares; inf if nothing changes."""
    with np.errstate(all="ignore"):
        if curve <= _ROUNDING**2*size:
            return 0.0
        return np.sqrt(curve/change) if change > 0 else np.inf


def other_steps(sums, steps, x):
    """Factors of the steps for the next attempt; 1 where a step is right, or no better one is known."""
    factors = np.ones(steps.size)
    for k, (change, curve, size) in enumerate(sums.T):
        bend = _bend(change, curve, size)
        if bend > _BENT:
            factors[k] = max(0.3*_BENT/bend, 0.03)
        elif change == 0 < size and x[k] != 0 and steps[k] < 0.1*abs(x[k]):
            factors[k] = 1e4
    return factors


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
        from concurrent.futures import ThreadPoolExecutor   # not at the top: it is slow to import and rarely used
        with ThreadPoolExecutor(min(count, max(len(points), 1))) as pool:
            return list(pool.map(function, points))
    return map if count == 1 else by_threads


def _all_of(values, count):
    """The results of a user's map as a list, after a check of their number."""
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
    """The steps of fdjac2 without bounds."""
    return _core.difference_steps(x, relative, None, None, None)[1]


def _replaced(x, j, value):
    moved = x.copy()
    moved[j] = value
    return moved


def _as_residuals(value, m):
    value = np.asarray(returned(value))
    if value.dtype.kind not in "biuf":
        raise TypeError(f"leastsq: func must return real numbers, got {value.dtype}")
    if value.ndim > 1 or value.size != m:
        raise ValueError(f"leastsq: func returned shape {value.shape}, but {m} residuals before")
    return np.atleast_1d(value).astype(float, copy=False)
