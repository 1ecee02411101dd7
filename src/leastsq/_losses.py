"""Robust losses by name, and bounds: checked, in the form that the core wants; what they hold."""

from __future__ import annotations

import numpy as np

from ._checks import AS_PAIRS, both_bounds, noted, real_array

__all__ = ["LINEAR", "active_mask", "bound_arrays", "bound_pair", "bound_sides", "core_loss", "held", "loss_values",
           "nothing_depends"]

LINEAR = "linear"
_NUMBERS = {LINEAR: None, "soft_l1": 0, "huber": 1, "cauchy": 2, "arctan": 3}      # loss.c's


def core_loss(loss, f_scale):
    """(what `_core.solve` takes as loss, the scale as a float)."""
    if not isinstance(loss, str) and callable(loss):
        number = loss
    elif isinstance(loss, str) and loss in _NUMBERS:
        number = _NUMBERS[loss]
    else:
        raise ValueError(f"`loss` must be one of {list(_NUMBERS)} or a callable, got {loss!r}.")
    try:
        scale = float(f_scale)
    except (TypeError, ValueError):
        raise TypeError(f"`f_scale` must be a real number, got {type(f_scale).__name__}.") from None
    if not 0 < scale < np.inf:
        raise ValueError(f"`f_scale` must be positive and finite, got {f_scale!r}.")
    return number, scale


def loss_values(loss, f_scale, residuals):
    """The loss of each residual, and its first two derivatives, for residuals scaled.

    Returns an array of shape (3, m): ``f_scale**2*rho(z)``, ``rho'(z)`` and
    ``rho''(z)/f_scale**2`` with ``z = (residuals/f_scale)**2``.
    """
    z = (residuals/f_scale)**2
    if not isinstance(loss, str):
        rho = np.array(real_array(loss(z), "the array that loss returns", "leastsq"), float)
        if rho.shape != (3, z.size):
            raise ValueError(f"leastsq: the array that loss returns must have shape (3, {z.size}), got {rho.shape}")
    elif loss == LINEAR:
        rho = np.array([z, np.ones_like(z), np.zeros_like(z)])
    elif loss == "soft_l1":
        root = np.sqrt(1 + z)
        rho = np.array([2*z/(root + 1), 1/root, -0.5/root**3])
    elif loss == "huber":
        root = np.sqrt(np.maximum(z, 1))
        rho = np.where(z <= 1, [z, np.ones_like(z), np.zeros_like(z)],
                       [2*root - 1, 1/root, -0.5/root**3])
    elif loss == "cauchy":
        rho = np.array([np.log1p(z), 1/(1 + z), -1/(1 + z)**2])
    else:
        rho = np.array([np.arctan(z), 1/(1 + z**2), -2*z/(1 + z**2)**2])
    rho[0] *= f_scale**2
    rho[2] /= f_scale**2
    return rho


def robust_variance(loss, f_scale, residuals, n):
    """
    Of an estimate of n parameters that minimizes the losses of m > n residuals.

    Returns
    -------
    psi : ndarray, shape (m,)
        Halves of the losses' derivatives with respect to the residuals: what takes the
        place of the residuals in the gradient.
    twice_cost : float
        Sum of the losses.
    bend : float
        Mean of psi': how curved the cost is, in units of the sum of squares'.
    variance : float
        What ``inv(J.T @ J)`` is to be multiplied by: Huber's estimate with his correction of
        order n/m (Robust Statistics, 1981, section 7.6).  nan if the cost is not curved
        upwards.
    """
    m = residuals.size
    rho, slope, curvature = loss_values(loss, f_scale, residuals)
    psi = slope*residuals
    bends = slope + 2*curvature*residuals**2
    bend = float(bends.mean())
    if not (bend > 0 and m > n):
        return psi, float(rho.sum()), bend, np.nan
    correction = 1 + n/m*bends.var()/bend**2
    return psi, float(rho.sum()), bend, float(correction**2*(psi @ psi)/(m - n)/bend**2)


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


def active_mask(x, low, high, dtype=np.int64):
    """-1 for a variable at its lower bound, 1 at its upper one, else 0."""
    mask = np.zeros(x.shape, dtype)
    mask[x >= high] = 1
    mask[x <= low] = -1
    return mask


def held(x, low, high, multipliers=None, names=None):
    """What to say of parameters at a bound, or an empty string.

    `multipliers` as the core's: a parameter is held at a bound by a slope of the cost, which is
    evidence; without slope it merely is there; nan says that nothing depends on it there.  None: not known.
    """
    fixed, low, high = low == high, x <= low, x >= high
    at = (low | high) & ~fixed
    slopes = np.full(x.size, np.inf) if multipliers is None else multipliers
    lost, pushed = at & np.isnan(slopes), at & (slopes != 0) & ~np.isnan(slopes)
    said = [f"{_name(j, names)} at the {'lower' if low[j] else 'upper'} bound"
            + (f" (multiplier {abs(slopes[j]):.2g})" if np.isfinite(slopes[j]) else "") for j in np.flatnonzero(pushed)]
    if fixed.any():
        said.append(f"{', '.join(_name(j, names) for j in np.flatnonzero(fixed))} fixed")
    text = f"\n  Held: {'; '.join(said)}." if said else ""
    idle = at & ~pushed & ~lost
    if idle.any():
        text += "\n  At a bound, but not held by it: " + ", ".join(_name(j, names) for j in np.flatnonzero(idle)) + "."
    for j in np.flatnonzero(lost):
        text += f"\n  N{nothing_depends(j, x, names)[1:]}."
    return text


def nothing_depends(j, x, names=None):
    return f"nothing depends on {_name(j, names)} at its bound {x[j]:g}"


def _name(j, names):
    return f"x[{j}]" if names is None else names[j]
