"""Fits with fewer residuals than parameters."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._problem.compiled import CFunction, call_compiled
from .._problem.kinds import returned

__all__ = ["Filled"]


class Filled:
    """
    Functions that append rows of zeros to their results if there are fewer rows than parameters.

    The core needs m >= n, but parameters that the bounds fix need no residuals.

    Parameters
    ----------
    func, Dfun, col_deriv
        As for the core.
    n : int
        Number of parameters.
    fewest : int
        With fewer residuals than this nothing is added, so the core refuses them.
    """

    def __init__(self, func, Dfun, col_deriv, n, fewest):
        self.m = None
        self.func, self.Dfun = func, Dfun
        if isinstance(func, CFunction):
            if not fewest <= func.m < n:
                return                  # enough residuals, or so few that the core raises
            func = partial(call_compiled, func)
        if isinstance(Dfun, CFunction) and Dfun.m < n:
            Dfun, col_deriv = partial(call_compiled, Dfun, columns=n), False

        def residual(x, *args):
            value = returned(func(x, *args))
            if type(value) is np.ndarray:
                few = fewest <= value.size < n and value.ndim < 2
            else:
                try:
                    few = fewest <= np.size(value) < n and np.ndim(value) < 2
                except ValueError:      # rows of different lengths: the core reports what is wrong
                    few = False
            if few:
                value = np.atleast_1d(value)
                self.m = value.size
                value = np.concatenate([value, np.zeros(n - self.m, value.dtype)])
            return value

        def jacobian(x, *args):
            value = returned(Dfun(x, *args), "Dfun")
            if self.m is None:
                return value
            value, shape = np.asarray(value), (n, self.m) if col_deriv else (self.m, n)
            if value.shape != shape and not (self.m == 1 and value.size == n):
                raise TypeError("leastsq: there is a mismatch between the input and output shape of the 'Dfun' "
                                f"argument. Shape should be {shape} but it is {value.shape}.")
            rest = np.zeros((n, n - self.m) if col_deriv else (n - self.m, n), value.dtype)
            return np.concatenate([value.reshape(shape), rest], axis=1 if col_deriv else 0)

        self.func = residual
        if callable(Dfun):
            jacobian.__name__ = getattr(Dfun, "__name__", "Dfun")
            self.Dfun = jacobian

    def own(self, fvec):
        """The residuals without the added zeros."""
        return fvec if self.m is None else fvec[:self.m].copy()
