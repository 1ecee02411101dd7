"""Numbers for people: a value and its error, rounded to what the error lets one know."""

from __future__ import annotations

import math

__all__ = ["label", "value_and_error"]


def label(j, names=None):
    """The name of parameter j: its own, or x[j]."""
    return f"x[{j}]" if names is None else str(names[j])


def value_and_error(value, error, digits=2):
    """
    The two as text, the error to `digits` significant digits and the value as far.

    Examples
    --------
    >>> value_and_error(238.94212918, 2.7070075241)
    ('238.9', '2.7')
    >>> value_and_error(5.5015643181e-4, 7.2668688436e-6)
    ('5.502e-04', '7.3e-06')
    >>> value_and_error(1e-9, 1e-3)
    ('0.0000', '0.0010')
    """
    if not math.isfinite(value):
        return f"{value}", f"{error:.{digits}g}"
    if not math.isfinite(error) or error < 0:
        return f"{value:.6g}", f"{error}"
    if error == 0.0:
        return f"{value:.15g}", "0"
    last = int(f"{error:.{digits - 1}e}".split("e")[1]) - digits + 1
    leading = max(last, math.floor(math.log10(abs(value))) if value else last)
    if -5 <= last <= 0 and leading < 7:
        return f"{round(value, -last) + 0.0:.{-last}f}", f"{error:.{-last}f}"
    if 0 < last and leading < 7 and last < 4:
        return f"{round(value, -last):.0f}", f"{round(error, -last):.0f}"
    return f"{value:.{max(0, min(leading - last, 16))}e}", f"{error:.{digits - 1}e}"
