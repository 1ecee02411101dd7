"""Numbers for people: a value and its standard error, rounded according to the standard error."""

from __future__ import annotations

import math

__all__ = ["format_value", "label", "value_and_error"]

_STYLES = ("plain", "short", "latex")


def label(j, names=None):
    """The name of parameter j, or x[j]."""
    return f"x[{j}]" if names is None else str(names[j])


def value_and_error(value, error, digits=2):
    """
    Both as strings, the standard error to `digits` significant digits and the value to the same place.

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


def format_value(value, stderr=None, digits=2, style="plain"):
    r"""
    A value and its standard error as a string, rounded according to the standard error.

    Parameters
    ----------
    value : float
    stderr : float, optional
        None: `value` is a parameter of a `FitResult`, which knows its standard error, or an exact number.
    digits : int, optional
        Significant digits of the standard error, from 1 to 16.
    style : {"plain", "short", "latex"}, optional
        "plain": 1.304 ± 0.012; "short": 1.304(12); "latex": ``1.304 \pm 0.012``, for math mode.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        `style` is unknown, or `digits` out of range.

    Examples
    --------
    >>> from leastsq import format_value
    >>> format_value(238.94212918, 2.7070075241)
    '238.9 ± 2.7'
    >>> format_value(5.5015643181e-4, 7.2668688436e-6)
    '(5.502 ± 0.073)e-04'
    >>> format_value(5.5015643181e-4, 7.2668688436e-6, style="short")
    '5.502(73)e-04'
    >>> print(format_value(5.5015643181e-4, 7.2668688436e-6, style="latex"))
    (5.502 \pm 0.073) \times 10^{-4}
    """
    if style not in _STYLES:
        raise ValueError(f"format_value: style must be one of {', '.join(map(repr, _STYLES))}, got {style!r}")
    if isinstance(digits, bool) or not hasattr(digits, "__index__") or not 1 <= digits <= 16:
        raise ValueError(f"format_value: digits must be an integer from 1 to 16, got {digits!r}")
    if stderr is None:
        stderr = getattr(value, "stderr", math.nan)
    value, stderr = float(value), float(stderr)
    if math.isnan(stderr):
        return _plain_number(f"{value:.6g}", style)
    a, b = value_and_error(value, stderr, digits)
    exponent = 0
    if "e" in a:
        a, exponent = a.split("e")
        exponent = int(exponent)
        b = f"{stderr*10.0**-exponent:.{len(a.partition('.')[2])}f}" if stderr > 0 else b
    if style == "short" and math.isfinite(stderr) and stderr > 0:
        last = len(a.partition(".")[2])
        short = f"{a}({b if float(b) >= 1 and last else b.replace('.', '').lstrip('0') or '0'})"
        return short + (f"e{exponent:+03d}" if exponent else "")
    if style == "latex":
        a, b = (_plain_number(text, style) for text in (a, b))
    both = f"{a} {chr(92) + 'pm' if style == 'latex' else '±'} {b}"
    if not exponent:
        return both
    return f"({both}) {chr(92)}times 10^{{{exponent}}}" if style == "latex" else f"({both})e{exponent:+03d}"


def _plain_number(text, style):
    """A number as a string; in LaTeX with a power of ten, and a symbol for infinity."""
    if style != "latex":
        return text
    if text.strip("+-") in ("inf", "nan"):
        return text.replace("inf", "\\infty").replace("nan", "\\mathrm{nan}")
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"
