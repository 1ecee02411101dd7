"""Bounds of parameters: parsed from the user's argument, for one problem or many, and described in results."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from .arguments import noted, real_array

__all__ = ["Bounds", "parse_bounds"]

_AS_PAIRS = "tuple(zip(*bounds)) converts pairs of bounds, one for each parameter"


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """Lower and upper bounds, float64 of shape (n,); in a batch also (B, n), a row for each problem."""

    low: np.ndarray
    high: np.ndarray

    @property
    def free(self):
        """A mask of the parameters that are not fixed."""
        return self.low < self.high

    @property
    def finite(self):
        """Is there any bound?"""
        return bool((self.low != -np.inf).any() or (self.high != np.inf).any())

    def row(self, i):
        """The bounds of problem i of a batch, or of several problems."""
        return Bounds(*(side if side.ndim == 1 else side[i] for side in (self.low, self.high)))

    def part(self, which):
        """The bounds of some of the parameters."""
        return Bounds(self.low[which], self.high[which])

    def inside(self):
        """A start between the bounds, as SciPy chooses it."""
        start = np.ones(np.broadcast_shapes(self.low.shape, self.high.shape))
        lows, highs = np.broadcast_arrays(self.low, self.high)
        has_low, has_high = np.isfinite(lows), np.isfinite(highs)
        both, low, high = has_low & has_high, has_low & ~has_high, has_high & ~has_low
        start[both] = 0.5*(lows[both] + highs[both])
        start[low] = lows[low] + 1
        start[high] = highs[high] - 1
        return start

    def active_mask(self, x, dtype=np.int64):
        """-1 for a parameter at its lower bound, 1 at its upper bound, else 0: the position of x, whether held or not."""
        mask = np.zeros(x.shape, dtype)
        mask[x >= self.high] = 1
        mask[x <= self.low] = -1
        return mask

    def describe(self, x, multipliers=None, names=None):
        """
        Lines about the parameters at a bound, or an empty string.

        A parameter is held if the slope of the cost points out of the box; a parameter at a bound need not be held.

        Parameters
        ----------
        x : ndarray, shape (n,)
        multipliers : ndarray, shape (n,), optional
            The core's multipliers, slopes of the cost; 0: not held; nan: the cost does not depend on the parameter.
            None: not known.
        names : sequence of str, optional
            The names of the parameters.
        """
        names = [f"x[{j}]" for j in range(x.size)] if names is None else names
        slopes = [None]*x.size if multipliers is None else multipliers.tolist()
        held, fixed, idle, lines = [], [], [], []
        for name, value, slope, low, high in zip(names, x.tolist(), slopes, self.low.tolist(), self.high.tolist()):
            if not low < high:
                fixed.append(name)
            elif not (value <= low or value >= high):
                continue
            elif slope is not None and slope != slope:
                lines.append(f"Nothing depends on {name} at its bound {value:g}.")
            elif slope:
                held.append(f"{name} at the {'lower' if value <= low else 'upper'} bound (multiplier {abs(slope):.2g})")
            else:
                idle.append(name)
        if idle:
            lines.insert(0, f"At a bound{'' if multipliers is None else ', but not held by it'}: {', '.join(idle)}.")
        held += [f"{', '.join(fixed)} fixed"] if fixed else []
        if held:
            lines.insert(0, f"Held: {'; '.join(held)}.")
        return "".join(f"\n  {line}" for line in lines)

    def check_start(self, x0, name="x0"):
        """Refuse a start that is nan or out of bounds, with SciPy's messages; the core refuses objects that are not numbers."""
        x0 = np.asarray(x0)
        if x0.dtype.kind not in "biuf":
            return
        x0, label = x0.astype(float).ravel(), _label(name)
        for j in np.flatnonzero(np.isnan(x0)):
            raise ValueError(f"`{name}` must not be nan, got {label}[{j}] = nan.")
        for j in np.flatnonzero(~((self.low <= x0) & (x0 <= self.high))):
            scipys = "Initial guess is outside of provided bounds. "*(name in ("x0", "p0"))
            error = ValueError(f"{scipys}`{name}` is infeasible: {label}[{j}] = {x0[j]} is outside its bounds "
                               f"[{self.low[j]}, {self.high[j]}].")
            as_pairs = self._may_be_pairs() and self.low[0] <= x0[0] <= self.low[1] and self.high[0] <= x0[1] <= self.high[1]
            raise noted(error, _AS_PAIRS) if as_pairs else error

    def check_starts(self, x0, door="leastsq_batch", name="x0"):
        """The same for the starts of a batch, except that a nan is not refused: it ends only its own problem."""
        _refuse_any((x0 < self.low) | (x0 > self.high), self, x0, door=door, name=name)

    def _may_be_pairs(self):
        return self.low.size == 2 and self.low[0] <= self.low[1] and self.high[0] <= self.high[1]


def parse_bounds(bounds, shape, name="x0", door=None):
    """
    The `Bounds` made of a user's `bounds`.

    Parameters
    ----------
    bounds : 2-tuple or object with lb and ub
        Each side a number, or a number for each parameter; in a batch also a row for each problem.
    shape : tuple of int
        The shape of the start: (n,), or (B, n) in a batch.
    name : str
        The name of the start in messages.
    door : str, optional
        The function that the user called, if messages should begin with its name; else they are SciPy's.

    Raises
    ------
    ValueError
        Not a pair, of the wrong shape, nan, or lower above upper.
    """
    sides = _both(bounds, "`bounds`" if door is None else f"{door}: bounds")
    if door is None:
        low, high = _real_sides(*sides)
        if any(side.ndim > 0 and side.size != shape[0] for side in (low, high)):
            raise noted(ValueError(f"Inconsistent shapes between bounds and `{name}`."),
                        f"lower bounds of shape {low.shape}, upper bounds of shape {high.shape}, for {shape[0]} parameters")
        parsed = Bounds(*(np.array(np.broadcast_to(side.ravel(), shape)) for side in (low, high)))
    else:
        parsed = Bounds(*(_side_of_rows(side, which, shape, door) for side, which in zip(sides, ("lower", "upper"))))
    _check_order(parsed, door, _label(name))
    return parsed


def _both(bounds, name):
    """The lower and the upper side, unchecked, of a pair or an object with lb and ub."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    try:
        low, high = bounds
    except (TypeError, ValueError):
        count = operator.length_hint(bounds, -1)        # an array without dimensions has no len()
        got = type(bounds).__name__ if count < 0 else count
        error = ValueError(f"{name} must contain 2 elements, the lower and the upper bounds, got {got}")
        raise (noted(error, _AS_PAIRS) if count > 2 and all(np.size(pair) == 2 for pair in bounds) else error) from None
    return low, high


def _real_sides(low, high):
    if any(value is None for side in (low, high) for value in np.ravel(np.asarray(side, object))):
        raise ValueError("`bounds` must be real numbers, got None: -inf and inf leave a parameter free.")
    try:
        return np.array(low, float), np.array(high, float)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`bounds` must be real numbers, or n of them: {error}.") from None


def _side_of_rows(side, which, shape, door):
    array = real_array(side, f"the {which} bounds", door)
    if array.shape not in ((), shape[1:], shape):
        raise ValueError(f"{door}: the {which} bounds must have shape (), {shape[1:]} or {shape}, got {array.shape}")
    return np.array(np.broadcast_to(array, array.shape or shape[1:]), np.float64, order="C")


def _label(name):
    return "x" if name == "x0" else name


def _check_order(parsed, door, label):
    unordered, crossed = np.isnan(parsed.low) | np.isnan(parsed.high), parsed.low > parsed.high
    if door is not None:
        _refuse_any(unordered, parsed, what="bounds must not be nan", door=door, name=label)
        _refuse_any(crossed, parsed, what="each lower bound must be at most the upper bound", door=door, name=label)
        return
    for j in np.flatnonzero(unordered):
        raise ValueError(f"`bounds` must not be nan, got [{parsed.low[j]}, {parsed.high[j]}] for {label}[{j}].")
    for j in np.flatnonzero(crossed):
        error = ValueError("Each lower bound must be at most the upper bound, "
                           f"got [{parsed.low[j]}, {parsed.high[j]}] for {label}[{j}].")
        raise noted(error, _AS_PAIRS) if parsed._may_be_pairs() else error


def _refuse_any(wrong, parsed, x0=None, what=None, door="leastsq_batch", name="x0"):
    """Raise ValueError if any bounds are wrong: names the first and, in a batch, counts the other problems."""
    if not wrong.any():
        return
    *row, j = first = tuple(np.argwhere(wrong)[0])
    problem = f" of problem {row[0]}" if row else ""
    ends = "[{}, {}]".format(*(np.broadcast_to(side, wrong.shape)[first] for side in (parsed.low, parsed.high)))
    label = _label(name)
    got = f"{ends} for {label}[{j}]" if x0 is None else f"{label}[{j}] = {x0[first]} outside {ends}"
    what = what or f"{name} is infeasible: it must be within its bounds"
    others = np.count_nonzero(wrong.any(-1)) - 1 if row else 0
    more = f", and so in {others} more" if others else ""
    raise ValueError(f"{door}: {what}, got {got}{problem}{more}")
