"""`FitParameter`, one parameter of a result, and `Quantity`: floats with a name and a standard error."""

from __future__ import annotations

import numpy as np

from .._uncertainty.format import format_value

__all__ = ["FitParameter", "Quantity"]


class Quantity(float):
    """
    A float with a name and a standard error.

    Parameters
    ----------
    result : object
        Has the attributes `names`, `x` and `stderr` of all values.
    place : int
        The index of this one.
    """

    __slots__ = ("_place", "_result")

    def __new__(cls, result, place):
        self = super().__new__(cls, result.x[place])
        self._result, self._place = result, place
        return self

    @property
    def name(self):
        return self._result.names[self._place]

    @property
    def value(self):
        return float(self)

    @property
    def stderr(self):
        return float(self._result.stderr[self._place])

    def __str__(self):
        return repr(self)

    def __format__(self, spec):
        return format(float(self), spec) if spec else str(self)

    def __reduce__(self):
        return float, (float(self),)


class FitParameter(Quantity):
    """
    A fitted parameter: its value as a float, with a name, a standard error and more.

    Attributes
    ----------
    name : str
    value : float
    stderr : float
        Standard error; nan for a parameter that is fixed or held by a bound.
    start : float
        The start of the fit, or the value at which the parameter was fixed.
    bounds : tuple of float
    fixed : bool
    prior : tuple of float or None
        (mean, width).

    Examples
    --------
    >>> import numpy as np
    >>> import leastsq as lsq
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> result = lsq.fit(lambda t, height, rate: height*np.exp(-rate*t), t, y, [1, 1])
    >>> result["rate"]
    rate = 0.504 ± 0.012
    >>> print(f"{np.log(2)/result['rate']:.2f}")        # it is a float
    1.38
    >>> print("{:.2f} to {:.2f}".format(*result["rate"].interval(0.95)))
    0.47 to 0.54
    """

    __slots__ = ()

    @property
    def start(self):
        return float(self._result.start[self._place])

    @property
    def fixed(self):
        return bool(self._result._models.parameters.fixed[self._place])

    @property
    def bounds(self):
        limits = self._result._models.parameters.limits
        return (-np.inf, np.inf) if limits is None else tuple(float(side[self._place]) for side in limits)

    @property
    def prior(self):
        return next(((mean, width) for j, mean, width in self._result._models.parameters.priors if j == self._place), None)

    def interval(self, level=0.95, method="t"):
        """
        Confidence interval.

        Parameters
        ----------
        level : float, optional
        method : {"t", "profile"}, optional
            As in `confidence_intervals`.

        Returns
        -------
        tuple of float
            Lower and upper limit.
        """
        found = self._result.intervals([self.name], level=level, method=method)
        return float(found.lower[self._place]), float(found.upper[self._place])

    @property
    def ufloat(self):
        """The parameter as an ``uncertainties.ufloat``, which is correlated with the others."""
        return self._result.ufloats()[self.name]

    def __repr__(self):
        text = f"{float(self):.6g} (fixed)" if self.fixed else format_value(float(self), self.stderr)
        return f"{self.name} = {text}"

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self
