"""Errors about the arguments of `fit`, which name the argument, the value it got and the value it needs."""

from __future__ import annotations

import numpy as np

from .._problem.arguments import noted

__all__ = ["DOOR", "known", "nearest", "real_number", "shapes_differ", "sort_of"]

DOOR = "fit"


def nearest(name, valid):
    """"did you mean ...?" with the nearest valid name, or a list of all valid names."""
    import difflib                              # not at the top: needed only for messages
    close = difflib.get_close_matches(str(name), [str(one) for one in valid], 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, valid)) or 'none'}"


def known(name, valid, what):
    """Raise ValueError if a name is not valid."""
    if name not in valid:
        raise ValueError(f"{DOOR}: {what}: there is no parameter {name!r}; {nearest(name, valid)}")


def sort_of(value):
    """The repr of a value, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."


def real_number(value, what):
    """The value as a float, which may be infinite; nan and bools are refused."""
    if (type(value) is float or type(value) is int) and value == value:
        return float(value)
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None or np.ndim(value) or np.iscomplexobj(value):
        raise TypeError(f"{DOOR}: {what} must be a real number, got {sort_of(value)}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{DOOR}: {what} must be a real number, got {sort_of(value)}") from None
    if number != number:
        raise ValueError(f"{DOOR}: {what} must be a number, got nan")
    return number


def shapes_differ(what, got, wanted, x=None):
    """The error for a wrong shape: names both shapes and the axes in which they differ."""
    if len(got) != len(wanted):
        where = f"{len(got)} {'axis' if len(got) == 1 else 'axes'} instead of {len(wanted)}"
    else:
        where = ", ".join(f"axis {k} is {a} instead of {b}" for k, (a, b) in enumerate(zip(got, wanted)) if a != b)
    error = ValueError(f"{DOOR}: {what} has the shape {got}, but y has {wanted}: {where}")
    length = np.shape(x) if isinstance(x, np.ndarray) or hasattr(x, "__array__") else ()
    if got == length != wanted:
        error = ValueError(f"{error}. x has the shape {length}: x and y must have the same length")
    elif got == wanted[::-1] != wanted or len(got) == 2 == len(wanted) + 1 and 1 in got:
        noted(error, "is it transposed, or a column that needs .ravel()?")
    return error
