"""Arrays with masks, units or dates.  Plain arrays do not pass through this module."""

from __future__ import annotations

import numpy as np

__all__ = ["PLAIN", "plain", "returned", "unmasked", "without_mask"]

# Types that need no check: numbers and sequences of numbers.
PLAIN = frozenset({np.ndarray, list, tuple, float, int, bool, range, type(None), np.float64})


def plain(value, what, door):
    """
    A dimensionless value as plain numbers; refused if it has units, is a date, or has masked elements.

    Parameters
    ----------
    value : object
    what : str
        Its name in messages: "x0", "the array that func returns".
    door : str
        The function that the user called.
    """
    value = _numbers(value, what, door)
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            masked = int(np.ma.count_masked(value))
            raise TypeError(f"{door}: {what} must not be masked, got {masked} masked of {value.size} values: "
                            f"{_how_to_leave_out(what, door)}")
        value = np.ma.getdata(value)
    return value


def returned(value, what="func", door="leastsq"):
    """The result of a user's function, without units and masks as in `plain`; `what` is the function's name."""
    if type(value) is np.ndarray and value.dtype.kind not in "mM" or type(value) is not np.ndarray and type(value) in PLAIN:
        return value
    return plain(value, f"the array that {what} returns", door)


def unmasked(value, what, door):
    """A pair: the value without mask and units, and its mask or None."""
    value = _numbers(value, what, door)
    if not isinstance(value, np.ma.MaskedArray):
        return value, None
    return np.ma.getdata(value), np.ma.getmaskarray(value) if np.ma.is_masked(value) else None


def without_mask(xdata, ydata, sigma):
    """
    `curve_fit`'s data without the points that are masked in any of the arrays.

    Values under a mask are ignored, even if they are nan.
    """
    door, masks = "curve_fit", []
    xdata, mask = unmasked(xdata, "xdata", door)
    if mask is not None:
        masks.append(mask.any(axis=tuple(range(mask.ndim - 1))) if mask.ndim > 1 else mask)
    ydata, mask = unmasked(ydata, "ydata", door)
    if mask is not None:
        masks.append(mask)
    sigma, mask = unmasked(sigma, "sigma", door)
    if mask is not None:
        masks.append(mask if mask.ndim == 1 else mask.diagonal())
        if mask.ndim == 2 and (mask & ~(masks[-1][:, None] | masks[-1])).any():
            raise TypeError("curve_fit: sigma must be masked point by point, row and column, got a matrix with single "
                            "elements masked")
    if not masks:
        return xdata, ydata, sigma
    m = np.size(ydata)
    if any(mask.shape != (m,) for mask in masks):
        raise ValueError(f"curve_fit: masks must have an entry for each of the {m} values of ydata, got shapes "
                         f"{', '.join(str(mask.shape) for mask in masks)}")
    good = ~np.logical_or.reduce(masks)
    return _points(xdata, good), np.asarray(ydata)[good], _points(sigma, good)


def _points(array, good):
    """The good points of an array of points, or the good rows and columns of a covariance matrix; others unchanged."""
    m = good.size
    shape = np.shape(array) if isinstance(array, (np.ndarray, list, tuple)) else ()
    if not shape or shape[-1] != m or m == 1:
        return array
    array = np.asarray(array)
    array = array[np.ix_(good, good)] if shape == (m, m) and m > 1 else array[..., good]
    array.flags.writeable = False               # the model sees it at every call
    return array


def _how_to_leave_out(what, door):
    if "returns" in what and door == "curve_fit":
        return "mask ydata there instead, and those points are left out; or return .filled(value)"
    if "returns" in what:
        return ("leave the points out in the function, (model - data)[keep], or use curve_fit, which leaves out masked data; "
                ".filled(0) turns them into residuals of zero")
    return "give .compressed(), or .filled(value)"


def _numbers(value, what, door):
    """A dimensionless value as plain numbers; TypeError if it has units or is a date."""
    of = type(value)                    # look up methods in the type: the __getattr__ of some arrays is slow
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind in "mM" and kind:
        how = "(t - t[0])/np.timedelta64(1, 's')" if kind == "M" else "t/np.timedelta64(1, 's')"
        raise TypeError(f"{door}: {what} must be numbers, got {'dates' if kind == 'M' else 'time spans'} (dtype {value.dtype}): "
                        f"{how} converts them to seconds")
    if hasattr(of, "to_value") and hasattr(value, "unit"):                   # astropy
        try:
            return value.to_value("")
        except Exception:
            raise TypeError(f"{door}: {what} must have no units, got {value.unit!s}: give {_attribute(what, 'value')}, in the "
                            "units that you want") from None
    if hasattr(of, "m_as") and hasattr(value, "units"):                 # pint
        try:
            return value.m_as("")
        except Exception:
            raise TypeError(f"{door}: {what} must have no units, got {value.units!s}: give {_attribute(what, 'magnitude')}, "
                            "in the units that you want") from None
    return value


def _attribute(what, name):
    return f"its .{name}" if " " in what else f"{what}.{name}"
