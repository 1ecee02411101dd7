"""`OptimizeResult` and `OptimizeWarning`; if SciPy is loaded, instances are also instances of SciPy's classes."""

from __future__ import annotations

import sys
import warnings

import numpy as np

from .._problem.words import callers_level

__all__ = ["OptimizeResult", "OptimizeWarning", "warn"]

_SHARED: dict[tuple[type, type], type] = {}     # {(our class, SciPy's class): a subclass of both}


def _with_scipys(ours):
    """A subclass of `ours` and of SciPy's class of that name, for `isinstance` and filters in scripts; `ours` without SciPy."""
    theirs = getattr(sys.modules.get("scipy.optimize"), ours.__name__, None)
    if theirs is None:
        return ours
    if (ours, theirs) not in _SHARED:
        _SHARED[ours, theirs] = type(ours.__name__, (ours, theirs), {"__doc__": ours.__doc__, "__module__": "leastsq",
                                                                     "__slots__": ()})
    return _SHARED[ours, theirs]


class OptimizeWarning(UserWarning):
    """A fit ended, but something about it should be checked.

    This package has its own class because SciPy need not be installed.  If `scipy.optimize` is loaded,
    the warnings are also instances of its `OptimizeWarning`, so a script's filters still work.
    """

    def __new__(cls, *args):
        return super().__new__(_with_scipys(cls) if cls is OptimizeWarning else cls, *args)

    def __reduce__(self):
        return OptimizeWarning, self.args       # a pickle cannot import the common subclass


class OptimizeResult(dict):
    """A dict whose keys are also attributes, like `scipy.optimize.OptimizeResult`.

    If `scipy.optimize` is loaded, it is also an instance of SciPy's class.  The result of a fit has another attribute,
    ``problem``, the problem that was fitted; copies and pickles leave it out.
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
    """Give an `OptimizeWarning` about a caller's line; `stacklevel` is counted as by `warnings.warn`."""
    warnings.warn(text, _with_scipys(OptimizeWarning), callers_level(stacklevel + 1))
