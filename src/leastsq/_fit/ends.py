"""Is the point where a fit ended a minimum in every parameter?  Tested with finite steps where derivatives are zero."""

from __future__ import annotations

import numpy as np

__all__ = ["Ends"]

_DECADES = tuple(10.0**k for k in range(-8, 9))         # steps of a parameter that is zero
_SHARES = (1e-6, 1e-4, 1e-2, 0.1, 1.0, 10.0, 100.0)     # steps of other parameters, relative to their values
_FARTHER = tuple(10.0**k for k in range(6, 309, 6))     # relative steps of a parameter that may be too near zero to have a size
_FARTHEST = 1e9         # limit on these steps, except the first
_BEYOND = (2.0, 10.0, 100.0)                            # factors for a value that ran off
_NOTHING = 1e-8         # relative to the norm of the residuals: a smaller change does not count
_LOWER = 1e-3           # relative to the sum of squares: a smaller decrease does not count
_LEVEL = 1e-6           # relative to the sum of squares: a smaller change does not determine a parameter
_FAR = 3.0              # a parameter ran off if it changed by this factor


class Ends:
    """
    Finite steps from one point.

    Parameters
    ----------
    residuals : callable
        ``residuals(x)``, float64, or None if they are not finite.
    bounds : Bounds or None
    x : ndarray, shape (n,)
    f : ndarray, shape (m,)
        Residuals at x.
    slopes : ndarray, shape (n,), optional
        Norms of the columns of their Jacobian; None: estimated from finite steps.
    """

    def __init__(self, residuals, bounds, x, f, slopes=None):
        self.residuals, self.bounds, self.x, self.f, self.slopes = residuals, bounds, x, f, slopes
        self.norm = np.linalg.norm(f)

    # -------------------------------------------------------------------- one parameter

    def moved(self, j, step, of=None):
        """Residuals after a step in parameter j; None outside the bounds, or if they are not finite."""
        point = (self.x if of is None else of).copy()
        point[j] += step
        b = self.bounds
        if b is not None and not b.low[j] <= point[j] <= b.high[j]:
            return None
        return self.residuals(point)

    def steps(self, j, of=None):
        """Growing steps to try, up and down."""
        x = (self.x if of is None else of)[j]
        room = () if self.bounds is None else [s for s in (self.bounds.high[j] - x, x - self.bounds.low[j]) if 0 < s < np.inf]
        sizes = [abs(x)*share for share in _SHARES] if x != 0 else sorted((*_DECADES, *(s/2 for s in room)))
        return [sign*size for size in sizes for sign in (1, -1)]

    def first_effect(self, j):
        """The value of parameter j after the first step that changes any residual; None if no step does."""
        for step in (*self.steps(j), *self._farther(j)):
            value = self.moved(j, step)
            if value is not None and not np.array_equal(value, self.f):
                return self.x[j] + step
        return None

    def _farther(self, j):
        """Steps beyond `steps`, multiples of a parameter that is not zero."""
        size = abs(float(self.x[j]))
        return [sign*share*size for share in _FARTHER if share == _FARTHER[0] or share*size < _FARTHEST
                for sign in (1, -1) if 0 < size < _FARTHEST]

    def is_flat(self, j):
        """Is the slope by parameter j zero, and the change over a step quadratic?"""
        step, change = self._first_visible(j)
        if step is None:
            return False
        half, quarter = (self._change(self.moved(j, step*part)) for part in (0.5, 0.25))
        return half is not None and quarter is not None and half < 0.4*change and quarter < 0.4*half

    def slope_error(self, j, step, truth):
        """The relative error of the forward difference over a step; inf if it cannot be computed."""
        value, size = self.moved(j, step), np.linalg.norm(truth)
        if value is None or size == 0:
            return np.inf
        return np.linalg.norm((value - self.f)/((self.x[j] + step) - self.x[j]) - truth)/size

    def _change(self, value, of=None):
        return None if value is None else np.linalg.norm(value - (self.f if of is None else of))

    # ------------------------------------------------------------------ what is reported

    def found(self, start, words):
        """
        Sentences about parameters in which the point is not a minimum, and about parameters without an effect.

        Parameters
        ----------
        start : ndarray, shape (n,)
            The start of the fit.
        words : Words
        """
        free = np.ones(self.x.size, bool) if self.bounds is None else self.bounds.free
        idle = [j for j in np.flatnonzero(free) if self._is_idle(j, start)]
        flat = [j for j in np.flatnonzero(free) if j not in idle and self._has_no_slope(j)]
        down = self._downhill(idle, flat, words)
        if down:
            yield down
        waiting = [j for j in idle if self._acts_elsewhere(j, start)]
        for j in np.flatnonzero(free):
            name, x = words.label(j), self.x[j]
            where = self._ran_off(j, start) if j not in waiting else None
            if where:
                yield (f"{name} went from {start[j]:.6g} to {x:.6g}, where {where} values, up to {_BEYOND[-1]:g} times, change "
                       f"the sum of squares by less than {_LEVEL:.0e} of it: the data do not say how {where[:-1]} it is. Start "
                       "elsewhere, give it bounds, or leave it out.")
            elif j in idle and j not in waiting:
                yield (f"{name} has no effect: no step from {x:.6g} changes a residual, with the other parameters as they are or "
                       f"moved. Does {words.func} use it, and not rounded (int(), an index)?")
        if waiting and not down:
            yield self._because_of(waiting, idle, words)

    def _ran_off(self, j, start):
        """"larger" or "smaller", if values beyond where the parameter went are as good; else None."""
        x, x0 = abs(self.x[j]), abs(start[j])
        if x > _FAR*x0:
            where, factors = "larger", _BEYOND
        elif 0 < x < x0/_FAR:
            where, factors = "smaller", [1/factor for factor in _BEYOND]
        else:
            return None
        sums = [np.vdot(value, value) for factor in factors
                if (value := self.moved(j, (factor - 1)*self.x[j])) is not None]
        total = self.norm**2
        if len(sums) < len(factors) or np.abs(np.subtract(sums, total)).max() > _LEVEL*total or self._is_merely_small(j, start):
            return None
        f = self.residuals(start.copy())        # did the parameter have an effect at the start?
        acted = f is not None and any((self._change(self.moved(j, step, start), f) or 0) > _NOTHING*np.linalg.norm(f)
                                      for step in self.steps(j, start))
        return where if acted else None

    def _is_idle(self, j, start):
        """Do steps of the parameter's own size leave the residuals unchanged?"""
        x = self.x[j]
        steps = self.steps(j) if x == 0 else (x, -x/2, x/10, -x/10)
        changes = [c for c in (self._change(self.moved(j, step)) for step in steps) if c is not None]
        if not changes or max(changes) > _NOTHING*self.norm:
            return False
        return not (self._is_merely_small(j, start) or self._is_too_near_zero(j))

    def _is_too_near_zero(self, j):
        """Do steps many times as large as the parameter change the residuals, although steps of its size do not?"""
        return any((self._change(self.moved(j, step)) or 0) > _NOTHING*self.norm for step in self._farther(j))

    def _has_no_slope(self, j):
        """Is the derivative negligible compared with the change over the first visible step?"""
        step, change = self._first_visible(j)
        return self.slopes is not None and step is not None and self.slopes[j]*abs(step) < 0.1*change

    def _first_visible(self, j):
        """The first of `steps` over which the residuals change visibly, and the change; (None, None) if there is none."""
        for step in self.steps(j):
            change = self._change(self.moved(j, step))
            if change is not None and change > _NOTHING**0.5*self.norm:
                return step, change
        return None, None

    def _slope(self, j):
        if self.slopes is not None:
            return self.slopes[j]
        step, change = self._first_visible(j)
        return 0.0 if step is None else change/abs(step)

    def _is_merely_small(self, j, start):
        """Is the parameter zero up to rounding, and do larger steps change the residuals as its derivative predicts?"""
        slope = self._slope(j)
        if not slope > 0:
            return False
        travelled = max(abs(self.x[j] - start[j]), abs(start[j])) if start[j] != 0 else np.inf
        step = min(0.1*self.norm/slope, travelled)
        for signed in (step, -step):
            change = self._change(self.moved(j, signed))
            if change is not None and change > _NOTHING*self.norm and 0.5 < change/(step*slope) < 2:
                return True
        return False

    def _elsewhere(self, j, start):
        """Points with the other parameters moved; those that are zero by a size estimated from their slopes or the start."""
        others = np.arange(self.x.size) != j
        if self.bounds is not None:
            others &= self.bounds.free
        sizes = 0.1*np.abs(self.x)
        for k in np.flatnonzero(others & (self.x == 0)):
            slope = self._slope(k)
            sizes[k] = 0.1*self.norm/slope if slope > 0 else abs(start[k])
        for size in (1.0, 1e-4, 1e4):
            for sign in (1, -1):
                point = self.x + np.where(others, sign*np.where(sizes > 0, sizes, size), 0.0)
                yield point if self.bounds is None else np.clip(point, self.bounds.low, self.bounds.high)

    def _acts_elsewhere(self, j, start):
        """Does the parameter have an effect after the other parameters are moved?"""
        for point in self._elsewhere(j, start):
            f = self.residuals(point.copy())
            if f is None:
                continue
            for step in self.steps(j, point):
                change = self._change(self.moved(j, step, point), f)
                if change is not None and change > _NOTHING*np.linalg.norm(f):
                    return True
        return False

    def _downhill(self, idle, flat, words):
        """A sentence if a finite step in parameters with zero slope, one or all of them, lowers the sum of squares."""
        best, named = self.norm*np.sqrt(1 - _LOWER), None
        groups = [[j] for j in flat] + [group for group in (idle, idle + flat) if len(group) > 1]
        for group in groups:
            for pattern in (np.ones(len(group)), (-1.0)**np.arange(len(group)))[:len(group)]:      # same or alternating signs
                for steps in zip(*(self.steps(j) for j in group)):
                    point = self.x.copy()
                    point[group] += pattern*steps
                    if self.bounds is not None:
                        point = np.clip(point, self.bounds.low, self.bounds.high)
                    value = self.residuals(point.copy())
                    if value is not None and np.linalg.norm(value) < best:
                        best, named = np.linalg.norm(value), (group, point)
        if named is None:
            return ""
        group, point = named
        where = ", ".join(f"{words.label(j)} = {self.x[j]:.6g}{self._bound_of(j)}" for j in group)
        there = ", ".join(f"{words.label(j)} = {point[j]:.6g}" for j in group)
        return (f"the answer is no minimum. The derivatives by {words.labels(group)} are zero at {where}, where the fit ended, "
                f"but {there} lowers the sum of squares from {self.norm**2:.6g} to {best**2:.6g}. Start elsewhere.")

    def _bound_of(self, j):
        if self.bounds is None:
            return ""
        low, high = self.x[j] <= self.bounds.low[j], self.x[j] >= self.bounds.high[j]
        return " (its lower bound)" if low else " (its upper bound)" if high else ""

    def _because_of(self, waiting, idle, words):
        """A sentence about parameters that have no effect at the current values of other parameters."""
        others = [j for j in range(self.x.size) if j not in idle and (self.x[j] == 0 or self._bound_of(j))]
        where = (f"where {' and '.join(f'{words.label(j)} is {self.x[j]:.6g}{self._bound_of(j)}' for j in others)}" if others else
                 "where the fit ended")
        return (f"{words.labels(waiting)} {'has' if len(waiting) == 1 else 'have'} no effect {where}: the residuals say nothing "
                f"about {'it' if len(waiting) == 1 else 'them'} there.")
