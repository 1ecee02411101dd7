"""Checks of the arguments of all public functions; errors name the argument."""

from __future__ import annotations

import operator
import warnings
from math import isfinite

import numpy as np

from .kinds import PLAIN, plain

__all__ = ["flag", "improper", "jacobian_array", "noted", "real_array", "real_data", "real_number", "tolerances", "whole_number"]

_FLOAT = np.dtype(float)        # a singleton: every float64 array in native byte order has this object as its dtype


def noted(error, note):
    """The error with a note added; unchanged if it accepts none, such as an instance of a frozen class."""
    try:
        error.add_note(note)
    except Exception:
        pass
    return error


def real_array(value, what, door="leastsq_batch"):
    """An array whose dtype casts safely to float64."""
    if type(value) not in PLAIN:
        value = plain(value, what, door)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:            # for example rows of unequal lengths
        raise type(error)(f"{door}: {what} must be an array of real numbers, got an unusable "
                          f"{type(value).__name__}") from error
    if not np.can_cast(array.dtype, np.float64, "safe"):
        plain(array, what, door)                        # dates: raises with advice
        raise TypeError(f"{door}: {what} must be real numbers that fit in float64, "
                        f"got {type(value).__name__} of dtype {array.dtype}")
    return array


def jacobian_array(value, shape, name="Dfun", door="leastsq", col_deriv=False):
    """The result of a user's Jacobian as a new float64 array of this shape."""
    array, wanted = real_array(value, f"the array that {name} returns", door), shape[::-1] if col_deriv else shape
    if 1 in wanted and array.ndim < 3 and array.size == wanted[0]*wanted[1]:
        array = array.reshape(wanted)
    if array.shape != wanted:
        raise ValueError(f"{door}: the array that {name} returns must have shape {wanted}, got {array.shape}")
    return np.array(array.T if col_deriv else array, np.float64)


def _protected(array):
    """Make an array that this package owns read-only, because a model gets it at every call and must not change it.

    A view is left unchanged, because its memory is the caller's.
    """
    if array.base is None:
        array.flags.writeable = False
    return array


def real_data(values, name, finite):
    """Like `numpy.asarray` (with `finite`, `numpy.asarray_chkfinite`) to floats; errors get a note that names the argument."""
    plain_array = type(values) is np.ndarray and values.dtype is _FLOAT
    if not plain_array and getattr(getattr(values, "dtype", None), "kind", "f") in "mM":
        plain(values, name, "curve_fit")                # dates: refused
    try:
        array = values if plain_array else _converted(values, name)
        if finite and not isfinite(np.vdot(array, array)):      # not finite, or the squares overflow
            np.asarray_chkfinite(array)
    except (TypeError, ValueError) as error:
        noted(error, _what_is_wrong(values, name))
        raise
    return array if array is values else _protected(array)


def _converted(values, name):
    """An array of floats; complex values lose their imaginary parts with NumPy's warning, as in SciPy."""
    if getattr(getattr(values, "dtype", None), "kind", "") != "c":
        return np.asarray(values, float)
    warnings.warn(f"Casting complex values to real discards the imaginary part of `{name}`. {_as_real(name)}",
                  np.exceptions.ComplexWarning, stacklevel=4)
    return np.asarray(np.real(values), float)


def _as_real(name):
    return (f"To fit both parts give {name}.view(float), and let f return its complex values .view(float)" if name == "ydata" else
            "If the model needs complex data, let it hold them itself instead of xdata")


def _what_is_wrong(values, name):
    if np.asarray(values, object).size and any(isinstance(v, complex) for v in np.ravel(np.asarray(values, object))[:100]):
        return f"`{name}` must be real numbers, got complex numbers. {_as_real(name)}"
    try:
        bad = np.argwhere(~np.isfinite(np.asarray(values, float)))
    except (TypeError, ValueError):
        return f"`{name}` must be real numbers, got {type(values).__name__}"
    where = tuple(map(int, bad[0]))
    return f"`{name}`{list(where)} is {np.asarray(values, float)[where]}, the first of {len(bad)} that are not finite"


def improper(name, value, given):
    """The message for a tolerance, `factor` or `diag` that MINPACK calls improper; None if it is proper.

    `value` is a float or a real array; `given` is the user's object, shown in the message.
    """
    positive = name in ("factor", "diag")
    right = value > 0 if positive else value >= 0           # nan is neither
    if right is True or np.all(right):      # the first test is faster
        return None
    return (f"Improper input parameters. {'every entry of ' if name == 'diag' else ''}{name} must be "
            f"{'positive' if positive else 'zero or positive'}, got {given!r}")


def tolerances(ftol, xtol, gtol, factor, door="leastsq_batch"):
    """The three tolerances, which must not be negative, and `factor`, which must be positive, as floats."""
    named = {"ftol": ftol, "xtol": xtol, "gtol": gtol, "factor": factor}
    values = {name: real_number(value, name, door) for name, value in named.items()}
    for name, value in values.items():
        if words := improper(name, value, value):
            raise TypeError(words)
    return tuple(values.values())


def real_number(value, name, door="leastsq_batch"):
    """The value as a float."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{door}: {name} must be a real number, "
                        f"got {type(value).__name__}") from None


def whole_number(value, name, least=None, door="leastsq_batch"):
    """The value as an integer, at least `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{door}: {name} must be an integer, got {type(value).__name__}")
    value = value.__index__()
    if least is not None and value < least:
        raise ValueError(f"{door}: {name} must be at least {least}, got {value}")
    if value >= 2**63:
        raise OverflowError(f"{door}: {name} must fit in 64 bits, got {value}")
    return value


def flag(value, name, door="leastsq_batch"):
    """A bool or an integer as a bool, as in `leastsq`."""
    if isinstance(value, np.bool_):
        return bool(value)
    try:
        return bool(operator.index(value))
    except TypeError:
        raise TypeError(f"{door}: {name} must be an integer, got {type(value).__name__}") from None
