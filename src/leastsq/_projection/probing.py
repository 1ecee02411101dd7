"""Find the parameters in which a function is linear by probing, and measure the deviation from linearity."""

from __future__ import annotations

import numpy as np

__all__ = ["FAR", "LINEAR_TO", "LOST", "deviation", "find_linear", "shares"]

LINEAR_TO = 1e-6        # largest deviation of a function that the user declared linear, relative to the size of the parts
_FOUND = 1e-10          # the same for a function that is found to be linear, for float64
_SEED = 20
LOST = 2.0**-12         # effects smaller than this, relative to the residuals, are probed again with a longer step
FAR = (2.0**30, 2.0**60, 2.0**400, 2.0**800)    # steps to try for an effect that shorter steps do not show


def shares(count, turn=0):
    """Fractions of the steps at which a function is compared with the sum of its columns; the same in every fit."""
    return np.random.default_rng([_SEED, turn]).uniform(0.3, 0.9, count)


def deviation(f, offset, columns, z):
    """The deviation of f from ``offset + columns @ z``, relative to the size of the parts."""
    with np.errstate(all="ignore"):
        size = np.linalg.norm(np.abs(offset) + np.abs(columns*z).sum(axis=1))
        off = np.linalg.norm(f - (offset + columns @ z))
        return float(off/size) if size > 0 else float(off)


def find_linear(projected, a, candidates, bounds):
    """
    The parameters in which a function is linear, each jointly with those found before it.

    A parameter is linear if the function, with it and all linear parameters found so far moved, is the sum of their single
    effects.  It does not count if the function is not finite with the parameter at zero (or the bound nearest to zero).

    Parameters
    ----------
    projected : callable
        ``call(x)``: the residuals at all parameters, as a vector.
    a : ndarray, shape (n,)
        The point to probe; nonlinear parameters keep these values.
    candidates : sequence of int
        Parameters to test, in this order.
    bounds : Bounds or None

    Returns
    -------
    list of int, or None
        None: the function is not finite at `a`.
    """
    found, columns, steps = [], [], []
    x = np.array(a, float)
    here = projected(x)
    tolerance = max(_FOUND, 1e5*float(np.finfo(here.dtype).eps)) if here.dtype.kind == "f" else _FOUND
    here = here.astype(float)
    if not np.isfinite(here).all():
        return None
    for turn, j in enumerate(candidates):
        low, high = (-np.inf, np.inf) if bounds is None else (bounds.low[j], bounds.high[j])
        zero = min(max(0.0, low), high)
        moved = x.copy()
        if x[j] == zero:                # its size is not known
            nought, column = here, _look_for_column(projected, x, j, here, low, high)
        else:
            moved[j] = zero
            nought = projected(moved).astype(float)
            column = (here - nought)/(x[j] - zero)
        if column is None or not np.isfinite(column).all() or not column.any():
            continue
        step = _step(column, nought, x[j] - zero or 1.0, low - zero, high - zero)
        z = shares(len(found) + 1, turn)*np.array([*steps, step])
        moved[j] = zero
        moved[[*found, j]] += z
        if deviation(projected(moved).astype(float), nought, np.column_stack([*columns, column]), z) <= tolerance:
            found.append(j)
            columns.append(column)
            steps.append(step)
            x[j], here = zero, nought
    return found


def _look_for_column(projected, x, j, here, low, high):
    """The column of a parameter at zero, by a step whose effect is visible in the residuals; None if no step has one."""
    size, column, step = np.linalg.norm(here), None, 1.0
    for far in (1.0, *FAR):
        reach = far if column is None else step
        step = min(reach, high - x[j]) if high - x[j] >= min(reach, x[j] - low) else -min(reach, x[j] - low)
        if step == 0:
            break
        moved = x.copy()
        moved[j] += step
        there = projected(moved).astype(float)
        if not np.isfinite(there).all():
            break
        column = (there - here)/(moved[j] - x[j])
        effect = np.linalg.norm(column)*abs(step)
        if effect >= LOST*size:
            return column
        if effect == 0:                 # try a longer step
            column = None
        else:                           # an effect: make it as large as the residuals
            step = 2.0**round(np.log2(size/effect))*abs(step)
    return column


def _step(column, offset, step, low, high):
    """The step over which a linear parameter has an effect as large as the rest, within its bounds."""
    with np.errstate(all="ignore"):
        wanted = np.linalg.norm(offset)/np.linalg.norm(column)
    if not 0 < wanted < np.inf:
        return step
    return min(wanted, high) if high >= -low else max(-wanted, low)
