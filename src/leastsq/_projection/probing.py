"""Which parameters a function is linear in: found by probing, and what was claimed checked."""

from __future__ import annotations

import numpy as np

__all__ = ["FAR", "LINEAR_TO", "LOST", "deviation", "find_linear", "shares"]

LINEAR_TO = 1e-6        # of the size of the parts: so far may a function be from linear that was said to be
_FOUND = 1e-10          # and so far one that is found to be, for float64
_SEED = 20
LOST = 2.0**-12         # of the residuals' size: an effect so small is probed again, by a longer step
FAR = (2.0**30, 2.0**60, 2.0**400, 2.0**800)    # steps over which an effect is looked for that shorter ones do not show


def shares(count, turn=0):
    """Parts of the steps at which a function is compared with the sum of its columns; the same ones in every fit."""
    return np.random.default_rng([_SEED, turn]).uniform(0.3, 0.9, count)


def deviation(f, offset, columns, z):
    """How far f is from ``offset + columns @ z``, relative to the size of the parts."""
    with np.errstate(all="ignore"):
        size = np.linalg.norm(np.abs(offset) + np.abs(columns*z).sum(axis=1))
        off = np.linalg.norm(f - (offset + columns @ z))
        return float(off/size) if size > 0 else float(off)


def find_linear(projected, a, candidates, bounds):
    """
    The parameters in which a function is linear, jointly with those before.

    A parameter counts if the function, with all linear ones so far somewhere, is the sum of what each does alone.  Where it is
    not finite with the parameter at zero (or the bound next to it) it does not count.

    Parameters
    ----------
    projected : callable
        ``call(x)``: the residuals at all parameters, as a vector.
    a : ndarray, shape (n,)
        Where to probe: the nonlinear ones stay there.
    candidates : sequence of int
        In the order in which they are tried.
    bounds : Bounds or None

    Returns
    -------
    list of int, or None
        None: the function is not finite where it is probed.
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
        if x[j] == zero:                # nothing is known of its size
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
    """The effect of a parameter at zero, by a step that shows it beside the rest; None: none does."""
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
        if effect == 0:                 # further
            column = None
        else:                           # it is there: as large as the rest
            step = 2.0**round(np.log2(size/effect))*abs(step)
    return column


def _step(column, offset, step, low, high):
    """By how much a linear parameter has an effect of the size of the rest; within its bounds."""
    with np.errstate(all="ignore"):
        wanted = np.linalg.norm(offset)/np.linalg.norm(column)
    if not 0 < wanted < np.inf:
        return step
    return min(wanted, high) if high >= -low else max(-wanted, low)
