"""Bounds, checked: a pair or an object with lb and ub, of one problem or with a row for each; what they hold."""

from __future__ import annotations

import operator

import numpy as np

from .arguments import noted, real_array

__all__ = ["active_mask", "bound_arrays", "bound_pair", "bound_rows", "bound_sides", "held"]

AS_PAIRS = "pairs of bounds, one for each parameter, are turned by tuple(zip(*bounds))"


def both_bounds(bounds, name):
    """The lower and the upper one, as they are, of a pair or an object with lb and ub."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        return bounds.lb, bounds.ub
    try:
        low, high = bounds
    except (TypeError, ValueError):
        count = operator.length_hint(bounds, -1)        # an array without dimensions has no len()
        got = type(bounds).__name__ if count < 0 else count
        error = ValueError(f"{name} must contain 2 elements, lower and upper ones, got {got}")
        raise (noted(error, AS_PAIRS) if count > 2 and all(np.size(pair) == 2 for pair in bounds) else error) from None
    return low, high


def bound_pair(bounds):
    """Lower and upper bounds, from a pair or an object with lb and ub, as arrays of floats."""
    low, high = both_bounds(bounds, "`bounds`")
    if any(value is None for side in (low, high) for value in np.ravel(np.asarray(side, object))):
        raise ValueError("`bounds` must be real numbers, got None: -inf and inf leave a parameter free.")
    try:
        return np.array(low, float), np.array(high, float)
    except (TypeError, ValueError) as error:
        raise type(error)(f"`bounds` must be real numbers, or n of them: {error}.") from None


def bound_sides(bounds, n, name="x0"):
    """As `bound_pair`, of shape (n,)."""
    low, high = bound_pair(bounds)
    if any(side.ndim > 0 and side.size != n for side in (low, high)):
        raise noted(ValueError(f"Inconsistent shapes between bounds and `{name}`."),
                    f"lower bounds of shape {low.shape}, upper ones of shape {high.shape}, for {n} parameters")
    return tuple(np.array(np.broadcast_to(side.ravel(), n)) for side in (low, high))


def bound_arrays(bounds, x0, name="x0"):
    """Lower and upper bounds, float64 of shape (n,), or (None, None) if none is finite.

    Raises
    ------
    ValueError
        Not a pair, of the wrong shape, nan, lower above upper, or `x0`, which messages
        call `name`, outside.
    """
    x0 = np.asarray(x0)
    n = x0.size
    low, high = bound_sides(bounds, n, name)
    for j in np.flatnonzero(np.isnan(low) | np.isnan(high)):
        raise ValueError(f"`bounds` must not be nan, got [{low[j]}, {high[j]}] for x[{j}].")
    pairs = n == 2 and low[0] <= low[1] and high[0] <= high[1]
    for j in np.flatnonzero(low > high):
        error = ValueError("Each lower bound must be at most the upper bound, "
                           f"got [{low[j]}, {high[j]}] for x[{j}].")
        raise noted(error, AS_PAIRS) if pairs else error
    if x0.dtype.kind in "biuf":         # else the core says what is wrong with it
        x0 = x0.astype(float).ravel()
        for j in np.flatnonzero(np.isnan(x0)):
            raise ValueError(f"`{name}` must not be nan, got x[{j}] = nan.")
        for j in np.flatnonzero(~((low <= x0) & (x0 <= high))):
            error = ValueError(f"`{name}` is infeasible: x[{j}] = {x0[j]} is outside its bounds "
                               f"[{low[j]}, {high[j]}].")
            raise noted(error, AS_PAIRS) if pairs and low[0] <= x0[0] <= low[1] and high[0] <= x0[1] <= high[1] else error
    if np.all(low == -np.inf) and np.all(high == np.inf):
        return None, None
    return low, high


def bound_rows(bounds, x):
    """Lower and upper bounds, float64 of shape (n,) or (B, n); None if none is finite."""
    if bounds is None:
        return None
    low, high = both_bounds(bounds, "leastsq_batch: bounds")
    low, high = _bound_side(low, "lower", x.shape), _bound_side(high, "upper", x.shape)
    for wrong, what in ((np.isnan(low) | np.isnan(high), "bounds must not be nan"),
                        (low > high, "each lower bound must be at most the upper bound"),
                        ((x < low) | (x > high), "x0 is infeasible: it must be within its bounds")):
        if wrong.any():
            *row, j = first = tuple(np.argwhere(wrong)[0])
            problem = f" of problem {row[0]}" if row else ""
            at = f"x[{j}] = {x[first]} outside " if what.startswith("x0") else ""
            of = "" if at else f" for x[{j}]"
            ends = [np.broadcast_to(side, wrong.shape)[first] for side in (low, high)]
            others = np.count_nonzero(wrong.any(-1)) - 1 if row else 0
            more = f", and so in {others} more" if others else ""
            raise ValueError(f"leastsq_batch: {what}, got {at}[{ends[0]}, {ends[1]}]{of}{problem}{more}")
    if (low == -np.inf).all() and (high == np.inf).all():
        return None
    return low, high


def _bound_side(side, name, shape):
    array = real_array(side, f"the {name} bounds")
    if array.shape not in ((), shape[1:], shape):
        raise ValueError(f"leastsq_batch: the {name} bounds must have shape (), {shape[1:]} or {shape}, "
                         f"got {array.shape}")
    return np.array(np.broadcast_to(array, array.shape or shape[1:]), np.float64, order="C")


def active_mask(x, low, high, dtype=np.int64):
    """-1 for a variable at its lower bound, 1 at its upper one, else 0."""
    mask = np.zeros(x.shape, dtype)
    mask[x >= high] = 1
    mask[x <= low] = -1
    return mask


def held(x, low, high):
    """What to say of parameters at a bound, or an empty string."""
    fixed, low, high = low == high, x <= low, x >= high
    said = [f"{_names(which)} {what}" for which, what in (
        (low & ~fixed, "at the lower bound"), (high & ~fixed, "at the upper bound"),
        (fixed, "fixed")) if which.any()]
    return f"\n  Held: {'; '.join(said)}." if said else ""


def _names(which):
    return ", ".join(f"x[{j}]" for j in np.flatnonzero(which))
