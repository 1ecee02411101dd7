"""Arguments of `leastsq_batch` and of others, checked: what is wrong with them is said by name."""

from __future__ import annotations

import operator
import os

import numpy as np

__all__ = ["both_bounds", "bound_rows", "check_sizes", "data_arrays", "evaluation_limit", "factors_of_scales",
           "flag", "improper", "jacobian_array", "noted", "real_array", "relative_error", "scale_factors",
           "start_points", "thread_count", "tolerances", "whole_number"]

AS_PAIRS = "pairs of bounds, one for each parameter, are turned by tuple(zip(*bounds))"


def noted(error, note):
    """An error whose text is SciPy's, with more beneath it."""
    error.add_note(note)
    return error


def real_array(value, what, door="leastsq_batch"):
    """An array whose dtype casts safely to float64."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:            # such as rows of unequal lengths
        raise type(error)(f"{door}: {what} must be an array of real numbers, got an unusable "
                          f"{type(value).__name__}") from error
    if not np.can_cast(array.dtype, np.float64, "safe"):
        raise TypeError(f"{door}: {what} must be real numbers that fit in float64, "
                        f"got {type(value).__name__} of dtype {array.dtype}")
    return array


def jacobian_array(value, shape, name="Dfun", door="leastsq", col_deriv=False):
    """What a Jacobian of the user's returned, as a float64 array of this shape of its own."""
    array, wanted = real_array(value, f"the array that {name} returns", door), shape[::-1] if col_deriv else shape
    if 1 in wanted and array.ndim < 3 and array.size == wanted[0]*wanted[1]:
        array = array.reshape(wanted)
    if array.shape != wanted:
        raise ValueError(f"{door}: the array that {name} returns must have shape {wanted}, got {array.shape}")
    return np.array(array.T if col_deriv else array, np.float64)


def factors_of_scales(x_scale, n):
    """What SciPy calls `x_scale` as `diag`, one over the scales; None: from the Jacobian."""
    if x_scale is None or isinstance(x_scale, str) and x_scale == "jac":
        return None
    try:
        scales = np.asarray(x_scale, float)
        proper = bool(np.all(np.isfinite(scales)) and np.all(scales > 0))
    except (TypeError, ValueError):
        proper = False
    if not proper:
        raise noted(ValueError("`x_scale` must be 'jac' or array_like with positive numbers."), f"got {x_scale!r}")
    if scales.ndim > 0 and scales.shape != (n,):
        raise noted(ValueError("Inconsistent shapes between `x_scale` and `x0`."), f"got {scales.shape} and ({n},)")
    return np.array(np.broadcast_to(1/scales, n))


def evaluation_limit(max_nfev, default):
    """SciPy's `max_nfev` as an integer."""
    if max_nfev is None:
        return default
    if not hasattr(max_nfev, "__index__") or max_nfev <= 0:
        raise noted(ValueError("`max_nfev` must be None or positive integer."), f"got {max_nfev!r}")
    return max_nfev.__index__()


def start_points(x0):
    """x0 as a new float64 array of shape (B, n)."""
    array = real_array(x0, "x0")
    if array.ndim != 2 or array.size == 0:
        raise ValueError("leastsq_batch: x0 must have a row for each problem, shape (B, n) with "
                         f"B and n at least 1, got {array.shape}")
    return np.array(array, np.float64, order="C")


def data_arrays(data, count):
    """The tuple of arrays, each with a row for each of `count` problems."""
    arrays = tuple(map(np.asarray, data if isinstance(data, tuple) else (data,)))
    for k, array in enumerate(arrays):
        if array.ndim == 0 or array.shape[0] != count:
            name = f"data[{k}]" if isinstance(data, tuple) else "data"
            raise ValueError(f"leastsq_batch: {name} must have a row for each of the {count} rows of "
                             f"x0, shape ({count}, ...), got {array.shape}")
    return arrays


def scale_factors(diag, count, n):
    """diag as float64 of shape (n,), all positive, or (B, n)."""
    if diag is None:
        return None
    array = real_array(diag, "diag")
    if array.shape not in ((n,), (count, n)):
        raise ValueError(f"leastsq_batch: diag must have shape ({n},) or ({count}, {n}), "
                         f"got {array.shape}")
    if array.ndim == 1 and (words := improper("diag", array, diag)):
        raise TypeError(words)
    return np.ascontiguousarray(array, np.float64)


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


def improper(name, value, given):
    """What MINPACK calls improper about a tolerance, `factor` or `diag`, in words; or None.

    The value is a float or a real array, and was given as is shown.
    """
    positive = name in ("factor", "diag")
    right = value > 0 if positive else value >= 0           # nan is neither
    if right is True or np.all(right):      # the former is quicker
        return None
    return (f"Improper input parameters. {'every entry of ' if name == 'diag' else ''}{name} must be "
            f"{'positive' if positive else 'zero or positive'}, got {given!r}")


def tolerances(ftol, xtol, gtol, factor):
    """The four as floats: not negative, the last positive."""
    named = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "factor": factor}
    values = {name: _real(value, name) for name, value in named.items()}
    for name, value in values.items():
        if words := improper(name, value, value):
            raise TypeError(words)
    return tuple(values.values())


def relative_error(epsfcn):
    """epsfcn as a float, or None."""
    if epsfcn is None:
        return None
    value = _real(epsfcn, "epsfcn")
    if value != value:
        raise TypeError("Improper input parameters. epsfcn must be a number or None, got nan")
    return value


def _real(value, name):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"leastsq_batch: {name} must be a real number, "
                        f"got {type(value).__name__}") from None


def whole_number(value, name, least=None):
    """An integer, at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"leastsq_batch: {name} must be an integer, got {type(value).__name__}")
    value = value.__index__()
    if least is not None and value < least:
        raise ValueError(f"leastsq_batch: {name} must be at least {least}, got {value}")
    if value >= 2**63:
        raise OverflowError(f"leastsq_batch: {name} must fit in 64 bits, got {value}")
    return value


def flag(value, name, door="leastsq_batch"):
    """A bool, of that or an integer, as in `leastsq`."""
    if isinstance(value, np.bool_):
        return bool(value)
    try:
        return bool(operator.index(value))
    except TypeError:
        raise TypeError(f"{door}: {name} must be an integer, got {type(value).__name__}") from None


def thread_count(threads):
    """How many threads; None: one for each processor that this process may use."""
    if threads is not None:
        return whole_number(threads, "threads", 1)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def check_sizes(n, m, weights, count):
    """May `count` problems have n parameters, m residuals and these weights?"""
    if n > m:
        raise TypeError(f"Improper input: func input vector length N={n} must not exceed func output "
                        f"vector length M={m}")
    if weights is not None and weights.shape != (count, m):
        raise ValueError("leastsq_batch: weights must have an entry for each residual of each "
                         f"problem, shape {(count, m)}, got {weights.shape}")
