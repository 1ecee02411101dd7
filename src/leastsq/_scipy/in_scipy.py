"""in_scipy: replaces SciPy's functions by this package's in a program that cannot be changed."""

from __future__ import annotations

import functools
import sys
import threading
from collections import Counter
from importlib import import_module
from types import ModuleType

from .._fit.leastsq import leastsq
from .arguments import NotDense, has_finite_bounds
from .curve_fit import curve_fit
from .least_squares import least_squares
from .outcome import known

__all__ = ["in_scipy"]

__leastsq_stands_in__ = True            # warnings skip this module's functions and name the line that called them

_OURS = {"leastsq": leastsq, "curve_fit": curve_fit, "least_squares": least_squares}
_active: list[in_scipy] = []            # when this is empty, SciPy's functions are back
_places: dict[str, _Place] = {}
_lock = threading.RLock()


class in_scipy:
    """
    Put `leastsq`, `curve_fit` and `least_squares` in the place of SciPy's, for programs that cannot be changed.

    From the call on, the names mean this package's functions in `scipy.optimize` and in every module that has already
    imported them.  Used as a context manager, it puts SciPy's functions back at the end; otherwise call `restore`.

    Attributes
    ----------
    calls : collections.Counter
        The number of calls that this package has answered, by name.
    passed_on : collections.Counter
        The number of calls that SciPy has answered, because they asked for features that this package does not have:
        `jac_sparsity`, sparse Jacobians, linear operators.

    Raises
    ------
    ImportError
        SciPy is not installed.

    Notes
    -----
    Callers get SciPy's conventions: `least_squares`, and `curve_fit` with bounds, answer as with
    ``method="trf"`` unless another method is named, and ``infodict["ipvt"]`` counts as in the installed SciPy.  The
    messages say that Levenberg-Marquardt answered; there is no warning, because the user of `in_scipy` knows.

    Only names in modules are replaced, not references in an attribute of an instance or a class, a default argument or
    a `functools.partial`; nor names that another thread imports during the replacement, nor names in other processes,
    unless they are forked from this one.  The private module `scipy.optimize._minpack` is not changed.

    Several instances may be active, and may end in any order: each counts the calls while it is active.

    Examples
    --------
    >>> import leastsq, scipy.optimize
    >>> with leastsq.in_scipy() as place:
    ...     x, ier = scipy.optimize.leastsq(lambda p: [p[0] - 1.0, p[1] - 2.0], [0.0, 0.0])
    >>> x.round(6), place.calls
    (array([1., 2.]), Counter({'leastsq': 1}))
    >>> place
    <leastsq.in_scipy: SciPy's own are back; answered 1 call, passed on 0>
    """

    def __init__(self):
        public = import_module("scipy.optimize")
        self.calls, self.passed_on = Counter(), Counter()
        with _lock:
            if not _active:
                _places.update((name, _Place(name, getattr(public, name), ours)) for name, ours in _OURS.items())
                for place in _places.values():
                    _rename(place.theirs, place.function)
            _active.append(self)
        known.append("trf")             # no warning: the caller of in_scipy knows

    def restore(self):
        """Put SciPy's functions back, also in modules that imported the names in the meantime."""
        with _lock:
            if self not in _active:
                return
            _active.remove(self)
            if not _active:
                for place in _places.values():
                    _rename(place.function, place.theirs)
        known.remove("trf")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restore()

    def __repr__(self):
        state = "in place" if self in _active else "SciPy's own are back"
        answered = self.calls.total()
        return (f"<leastsq.in_scipy: {state}; answered {answered} call{'s'*(answered != 1)}, "
                f"passed on {self.passed_on.total()}>")


class _Place:
    """One of SciPy's functions and its replacement."""

    def __init__(self, name, theirs, ours):
        self.name, self.theirs, self.ours = name, theirs, ours
        self.first = 1                  # the number from which SciPy's `ipvt` counts

        @functools.wraps(theirs)
        def function(*args, **kwargs):
            return self.call(args, kwargs)
        if name == "leastsq":
            self.first = int(theirs(lambda x: x - 1, [0.0], full_output=True)[2]["ipvt"].min())
        elif name == "curve_fit":
            self.first = _places["leastsq"].first
        self.function = function

    def call(self, args, kwargs):
        counting = tuple(_active)
        if not counting:                # a reference to the replacement that `restore` did not find
            return self.theirs(*args, **kwargs)
        refused = False
        try:
            result = self.ours(*args, **self.meant(args, kwargs))
        except NotDense:
            refused = True
        finally:                        # a call that raises was answered, too
            for one in counting:
                (one.passed_on if refused else one.calls)[self.name] += 1
        if refused:
            return self.theirs(*args, **kwargs)
        if self.first == 0 and len(result) == 5 and self.name != "least_squares":
            result[2]["ipvt"] = result[2]["ipvt"] - 1
        return result

    def meant(self, args, kwargs):
        """The keywords with SciPy's default method."""
        if self.name == "least_squares" and len(args) < 5:
            return {"method": "trf"} | kwargs
        if self.name == "curve_fit" and len(args) < 9 and kwargs.get("method") is None:
            if has_finite_bounds(args[7] if len(args) > 7 else kwargs.get("bounds")):
                return kwargs | {"method": "trf"}
        return kwargs


def _rename(old, new):
    """Replace `old` by `new` in the namespace of every module."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                if value is old:
                    setattr(module, name, new)
