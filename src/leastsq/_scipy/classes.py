"""`OptimizeResult` and `OptimizeWarning`, which are SciPy's too where SciPy is loaded."""

from __future__ import annotations

import sys
import warnings

import numpy as np

from .._problem.words import callers_level

__all__ = ["OptimizeResult", "OptimizeWarning", "warn"]

_SHARED: dict[tuple[type, type], type] = {}     # {(ours, SciPy's): a class that is both}


def _with_scipys(ours):
    """A class that is `ours` and SciPy's of the same name, for a script's `isinstance` and filters; `ours` without SciPy."""
    theirs = getattr(sys.modules.get("scipy.optimize"), ours.__name__, None)
    if theirs is None:
        return ours
    if (ours, theirs) not in _SHARED:
        _SHARED[ours, theirs] = type(ours.__name__, (ours, theirs), {"__doc__": ours.__doc__, "__module__": "leastsq",
                                                                     "__slots__": ()})
    return _SHARED[ours, theirs]


class OptimizeWarning(UserWarning):
    """A fit ended, but something about it should be looked at.

    A class of its own, since SciPy need not be installed.  Where `scipy.optimize` is loaded
    the warnings are instances of its `OptimizeWarning` too, so that a script's filters go on to hold.
    """

    def __new__(cls, *args):
        return super().__new__(_with_scipys(cls) if cls is OptimizeWarning else cls, *args)

    def __reduce__(self):
        return OptimizeWarning, self.args       # a pickle cannot find the class that is SciPy's too


class OptimizeResult(dict):
    """A dict whose keys are attributes too, as `scipy.optimize.OptimizeResult`.

    Where `scipy.optimize` is loaded it is an instance of that, too.  The result of a fit also has an attribute
    ``problem``, what was fitted, which copies and pickles leave out.
    """

    __slots__ = ("problem",)

    def __new__(cls, *args, **kwargs):
        return super().__new__(_with_scipys(cls) if cls is OptimizeResult else cls)

    def __reduce__(self):
        return OptimizeResult, (dict(self),)

    def copy(self):
        return OptimizeResult(self)

    __copy__ = copy

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self):
        return list(self.keys())

    def __repr__(self):
        width = max(map(len, self), default=0)
        lines = []
        for name, value in self.items():
            text = repr(value) if not isinstance(value, np.ndarray) else np.array2string(
                value, threshold=30, edgeitems=3, precision=4)
            lines.append(f"{name:>{width}}: " + text.replace("\n", "\n" + " "*(width + 2)))
        return "\n".join(lines) or "OptimizeResult()"


def warn(text, stacklevel):
    """An `OptimizeWarning` about a caller's line, counted as `warnings.warn` counts."""
    warnings.warn(text, _with_scipys(OptimizeWarning), callers_level(stacklevel + 1))
