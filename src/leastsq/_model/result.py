"""`FitResult`: parameters by name, and methods for all that follows from a fit.

(The file is long because every tool for a fit is also a method of its result.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .._fit.status import SUCCESS
from .._problem.accurate_jacobian import Evaluator
from .._problem.counts import around
from .._uncertainty.confidence import BandResult, confidence_band, confidence_intervals
from .._uncertainty.covariance import covariances
from .._uncertainty.export import Exports
from .._uncertainty.format import format_value
from .._uncertainty.report import report
from .._uncertainty.told import Fitted
from .fitted_parameter import FitParameter
from .residual import values_of
from .words import known, nearest

__all__ = ["FitResult", "Models"]


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """The models and data of a result.

    Attributes
    ----------
    calls : tuple of callable
        ``call(x, *parameters)`` of each data set.
    signatures : tuple of Signature
    sets : tuple of DataSet
    parameters : Parameters
    """

    calls: tuple
    signatures: tuple
    sets: tuple
    parameters: object

    def of_set(self, i, x):
        """The parameters of set i, out of all parameters."""
        places = self.parameters.places
        return x if places is None else x[places[i]]


class _Counted:
    """A residual function that counts its calls."""

    def __init__(self, func, result):
        self.func, self.count = func, result._count

    def __call__(self, x, *args):
        self.count[0] += 1
        return self.func(x, *args)


class FitResult(Exports, Mapping):
    """
    The result of `fit`: a mapping of parameters by name.

    Uncertainties are computed on first use, from derivatives at the answer that are more accurate than the
    solver's; `extra_nfev` counts the evaluations for that.

    Attributes
    ----------
    params : dict
        A `FitParameter` for each name.
    names : tuple of str
    x, start : ndarray, shape (n,)
        The parameters in order, and their starts.
    stderr : ndarray, shape (n,)
    cov, correlation : ndarray, shape (n, n)
    covariance : CovarianceResult
        Rank, condition, combinations that the data do not determine, and how derivatives were computed.
    chi2, reduced_chi2 : float
        Sum of the squares of the residuals, including those of priors (with a loss, sum of the losses); ``chi2/dof``.
    dof : int
        The number of data and priors minus the number of parameters that they determine.
    aic, bic, r_squared : float
        As in `Report`.
    residuals : ndarray
        (model - y)/sigma in the shape of y, nan where a point does not count; with several data sets a list.  A
        pandas Series, if y was one.  For counts, deviance residuals with that sign, whose squares sum to the deviance.
    success : bool
    message : str
    status : int
        Like `ier` of `leastsq`: a member of `Status`.
    nfev, njev : int, int or None
        Number of evaluations of the fit, and of its Jacobians.
    extra_nfev : int
        Number of evaluations since then, for uncertainties, profiles and so on.
    strategy : str
    search : str
        Without a start: how many places were tried, how often the answer was found, and the next minimum.
    problem : Problem or None
        The problem that was fitted.

    See Also
    --------
    fit : returns it.
    load : reads a file that `save` wrote.

    Examples
    --------
    >>> import numpy as np
    >>> import leastsq as lsq
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def decay(t, height, rate):
    ...     return height*np.exp(-rate*t)
    >>> result = lsq.fit(decay, t, y, [1, 1])
    >>> result.success, dict(result)
    (True, {'height': height = 5.081 ± 0.066, 'rate': rate = 0.504 ± 0.012})
    >>> result.predict(np.array([0.0, 10.0])).round(3)
    array([5.081, 0.033])
    >>> result.intervals(method="profile")
    95 % confidence intervals from likelihood profiles
      height   5.08   [ 4.90,  5.26]
      rate    0.504   [0.471, 0.539]
    """

    @classmethod
    def _made(cls, models, problem, x, fvec, end, strategy, search=""):
        """The result after a fit; `end` is (nfev, njev, ier, message)."""
        self = cls.__new__(cls)
        self._models, self.problem, self.x, self._fvec, self.strategy = models, problem, x, fvec, strategy
        self.nfev, self.njev, self.status, self._message = end
        self._count, self._spreads, self._said = [0], None, None
        self.search = search
        return self

    def __init__(self):
        raise TypeError("FitResult: only fit and load can make one")

    # ------------------------------------------------------------ a mapping of parameters

    def __getitem__(self, name):
        try:
            place = self.names.index(name)
        except ValueError:
            raise KeyError(f"there is no parameter {name!r}; {nearest(name, self.names)}") from None
        return FitParameter(self, place)

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__

    @property
    def names(self):
        return self._models.parameters.names

    @property
    def start(self):
        return self._models.parameters.start

    @property
    def params(self):
        return {name: FitParameter(self, j) for j, name in enumerate(self.names)}

    @property
    def message(self):
        if callable(self._message):             # computed on first use
            self._message = self._message()
        return self._message

    @property
    def success(self):
        return self.status in SUCCESS

    @property
    def extra_nfev(self):
        return self._count[0]

    # ------------------------------------------------------------ uncertainties, computed once

    def _as_fitted(self, spreads=True):
        """The `Fitted` that the tools use."""
        problem = self.problem
        if problem is not None and not problem.in_blocks:
            problem = replace(problem, func=around(problem.func, lambda func: _Counted(func, self)))
        info = {"nfev": self.nfev, "njev": self.njev, "search": self.search}
        return Fitted(problem, self.x, self._fvec, None, info, self.message, self.status, self.success,
                      self._made_once if spreads else None)

    def _made_once(self):
        if self._spreads is None:
            fitted = self._as_fitted(spreads=False)
            fitted.check("fit")
            complex_steps = self.problem.by_differences and self.problem.differences.scheme == "cs"
            self._spreads = covariances(fitted, method="cs" if complex_steps else None, tool="fit")
        return self._spreads

    def _reported(self):
        if self._said is None:
            self._said = report(self)
        return self._said

    @property
    def covariance(self):
        return self._made_once()[0]

    @property
    def cov(self):
        return self.covariance.cov

    @property
    def correlation(self):
        return self.covariance.correlation

    @property
    def dof(self):
        return self._reported().dof

    @property
    def reduced_chi2(self):
        return self._reported().reduced_chi2

    @property
    def aic(self):
        return self._reported().aic

    @property
    def bic(self):
        return self._reported().bic

    @property
    def r_squared(self):
        return self._reported().r2

    @property
    def stderr(self):
        if not np.isfinite(self._fvec).all():
            return np.full(self.x.size, np.nan)
        return self.covariance.stderr

    @property
    def chi2(self):
        return self.problem.loss.cost(self._fvec)

    @property
    def residuals(self):
        found, first = [], 0
        for data in self._models.sets:
            rows = self._fvec[first:first + data.values.size]
            found.append(data.labelled(data.natural(rows)))
            first += data.values.size
        return found if len(found) > 1 else found[0]

    # ------------------------------------------------------------ tools

    def report(self, correlation_limit=0.5):
        """
        A report of the fit: all numbers and remarks.

        Parameters
        ----------
        correlation_limit : float, optional
            Smallest correlation that is shown.

        Returns
        -------
        Report
        """
        return self._reported() if correlation_limit == 0.5 else report(self, correlation_limit=correlation_limit)

    def intervals(self, parameters=None, *, level=0.95, method="t", points=0, timeout=None, progress=False):
        """
        Confidence intervals.

        Parameters
        ----------
        parameters : str or sequence of str, optional
            None: all.
        level, method, points, timeout, progress : optional
            As in `confidence_intervals`.

        Returns
        -------
        ConfidenceResult
        """
        for name in [parameters] if isinstance(parameters, str) else parameters or ():
            if isinstance(name, str):
                known(name, self.names, "intervals")
        if method == "profile":
            self._needs_model("intervals")
        return confidence_intervals(self, parameters=parameters, level=level, method=method, points=points, timeout=timeout,
                                    progress=progress)

    def profile(self, parameters=None, *, level=0.95, points=8, timeout=None, progress=False):
        """
        Likelihood profiles: ``intervals(method="profile")`` with some more points for a curve.

        Returns
        -------
        ConfidenceResult
            ``.profiles[j]`` is the `Profile` of parameter j.
        """
        return self.intervals(parameters, level=level, method="profile", points=points, timeout=timeout, progress=progress)

    def predict(self, x=None, *, dataset=None):
        """
        The fitted model.

        Parameters
        ----------
        x : object, optional
            The first argument of the model, passed unchanged.  None: the x of the data.
        dataset : int, optional
            The number of one of several data sets; required with `x`.  None: a list for all sets.

        Returns
        -------
        ndarray or list of ndarray
            The result of the model; without `x` a pandas Series, if y was one.
        """
        self._needs_model("predict")
        models = self._models
        if dataset is None and len(models.sets) > 1:
            if x is not None:
                raise ValueError(f"predict: dataset must say which of the {len(models.sets)} data sets x belongs to")
            return [self.predict(dataset=i) for i in range(len(models.sets))]
        i = self._set_number("predict", dataset)
        data, p = models.sets[i], models.of_set(i, self.x)
        if x is not None:
            return models.calls[i](x, *p)
        return data.labelled(np.array(data.shaped(models.calls[i](data.x, *p), p)))

    def band(self, x=None, *, level=0.95, noise=None, simultaneous=False, dataset=None):
        """
        Confidence band of the fitted curve, or a prediction band.

        Parameters
        ----------
        x : object, optional
            As in `predict`.
        level, noise, simultaneous : optional
            As in `confidence_band`.
        dataset : int, optional
            Which of several data sets; None: the first.

        Returns
        -------
        BandResult
            In the shape of the model's result.  For a complex model `stderr`, `lower` and `upper` are complex and hold
            the numbers for the real and the imaginary part.
        """
        self._needs_model("band")
        i, shape = self._set_number("band", 0 if dataset is None else dataset), [None, False]
        data = self._models.sets[i]
        call = values_of(self._models.calls[i], data.is_complex, shape)

        def model(x, *p):
            return call(x, *self._models.of_set(i, np.array(p)))

        sigma, unknown = data.sigma, False
        if noise is True and np.ndim(sigma):
            if x is not None and x is not data.x:
                raise ValueError("band: with noise=True sigma is known only at the data, not at this x; give as noise the "
                                 "standard deviation of one observation: a number, one for each point or a function of x")
            sigma = np.ravel(data.natural_sigma())
            sigma = np.concatenate([sigma.real, sigma.imag]) if data.is_complex else sigma
            unknown = np.isnan(sigma)               # where a point does not count
            sigma = np.where(unknown, 0.0, sigma)
        if callable(noise):
            noise = noise(data.x if x is None else x)
        if noise is not None and noise is not True and np.ndim(noise):
            noise = np.ravel(noise)
            noise = np.concatenate([noise.real, noise.imag]) if np.iscomplexobj(noise) else np.tile(
                noise, 1 + data.is_complex)
        problem = replace(self.problem, model=model, xdata=data.x if x is None else x, sigma=sigma, priors=(), sets=())
        found = confidence_band(replace(self.covariance, problem=problem), level=level, noise=noise, simultaneous=simultaneous)
        sides = (np.where(unknown, np.nan, values) for values in (found.stderr, found.lower, found.upper))
        return BandResult(*(_in_shape(values, *shape) for values in (found.fit, *sides)))

    def derive(self, **functions):
        """
        Quantities that follow from the parameters, with their standard errors.

        Parameters
        ----------
        **functions : callable
            For each name a function of a dict of the parameters that returns a number: ``lambda p: np.log(2)/p["rate"]``.

        Returns
        -------
        DerivedResult
            A mapping by name: ``derived["halflife"].value``, ``.stderr``, ``.interval(0.95, method="profile")``.

        Examples
        --------
        >>> import numpy as np
        >>> import leastsq as lsq
        >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
        >>> result = lsq.fit(lambda t, height, rate: height*np.exp(-rate*t), t, y, [1, 1])
        >>> derived = result.derive(halflife=lambda p: np.log(2)/p["rate"], area=lambda p: p["height"]/p["rate"])
        >>> derived
          halflife  1.375 ± 0.033
          area      10.08 ± 0.21
        >>> print("{:.2f} to {:.2f}".format(*derived["halflife"].interval(method="profile")))
        1.29 to 1.47
        """
        from .derived import derive
        return derive(self, functions)

    def contour(self, a, b, *, level=0.95, points=40):
        """
        Joint confidence region of two parameters, by profile: all other parameters are refitted at each of its points.

        Parameters
        ----------
        a, b : str
            Names of two free parameters.
        level : float, optional
            Confidence level for both together.
        points : int, optional
            The approximate number of points on the outline.

        Returns
        -------
        ContourResult

        Examples
        --------
        >>> import numpy as np
        >>> import leastsq as lsq
        >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
        >>> result = lsq.fit(lambda t, height, rate: height*np.exp(-rate*t), t, y, [1, 1])
        >>> region = result.contour("height", "rate", points=16)
        >>> np.round([region.y.min(), region.y.max()], 2)
        array([0.46, 0.55])
        """
        from .contour import contour
        return contour(self, a, b, level, points)

    def ufloats(self):
        """
        The parameters as numbers of the package uncertainties, with the correlations of the fit.

        Returns
        -------
        dict of uncertainties.ufloat

        Raises
        ------
        ImportError
            uncertainties is not installed.
        """
        try:
            from uncertainties import correlated_values
        except ImportError as error:
            raise ImportError("ufloats needs the package uncertainties: pip install uncertainties") from error
        cov = np.where(np.isnan(self.cov), 0.0, self.cov)
        return dict(zip(self.names, correlated_values(self.x, cov)))

    # ------------------------------------------------------------ pictures

    def plot(self, **options):
        """
        Plot data, fitted curve and residuals; for an image as three images, for complex data both parts.

        Parameters
        ----------
        **options
            As in `plot.fit`; for several data sets, images and complex data only `title`, `xlabel` and `ylabel`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .pictures import draw
        self._needs_model("plot")
        return draw(self, **options)

    def plot_residuals(self, **options):
        """Plot residuals and their histogram, by `plot.residuals`."""
        from .. import plot
        return plot.residuals(self, **options)

    def plot_profile(self, parameters=None, *, level=0.95, points=8, title=None):
        """Plot profile curves, by `plot.profile`."""
        from .. import plot
        return plot.profile(self.profile(parameters, level=level, points=points), title=title)

    def plot_correlation(self, **options):
        """Plot the matrix of correlations, by `plot.correlation`."""
        from .. import plot
        return plot.correlation(self.covariance, **options)

    # ------------------------------------------------------------ exports

    def save(self, path):
        """
        Write everything except the code to a file, as JSON.

        Parameters
        ----------
        path : str or path

        See Also
        --------
        load : reads the file.
        """
        from .stored import save
        save(self, path)

    def _exported(self):
        if np.isfinite(self._fvec).all():
            return self.covariance._exported()
        fixed = self._models.parameters.fixed
        return [(name, float(value), np.nan, "fixed" if held else "free") for name, value, held in zip(self.names, self.x, fixed)]

    def _numbers(self):
        numbers = self._reported()._numbers()
        numbers["r_squared"] = numbers.pop("r2")
        return numbers | {"success": self.success, "status": self.status, "message": self.message}

    def __repr__(self):
        try:
            return str(self._reported())
        except ValueError as error:             # no covariance, or no sum of losses, can be computed
            stderr = np.full(self.x.size, np.nan) if self._spreads is None else self.stderr
            lines = [f"  {name} = {format_value(value, one)}" for name, value, one in zip(self.names, self.x, stderr)]
            return "\n".join([*lines, self.message, str(error)])

    def _repr_html_(self):
        try:
            return self._reported()._repr_html_()
        except ValueError:
            import html
            return f"<pre>{html.escape(repr(self))}</pre>"

    def __reduce__(self):
        from .stored import record, restored
        return restored, (record(self),)

    def __copy__(self):
        return self

    # ------------------------------------------------------------ used by these methods

    def _needs_model(self, tool):
        if not self._models.calls:
            raise ValueError(f"{tool}: this result was read from a file, or copied, without its model: "
                             "use load(path, model=...)")

    def _set_number(self, tool, dataset):
        count = len(self._models.sets)
        if dataset is None:
            return 0
        if isinstance(dataset, bool) or not hasattr(dataset, "__index__") or not 0 <= dataset < count:
            raise ValueError(f"{tool}: dataset must be a number from 0 to {count - 1}, got {dataset!r}")
        return int(dataset)

    def _evaluate(self, x):
        """The residuals at x; counts the evaluation."""
        return Evaluator(self._as_fitted().problem.func)(x)


def _in_shape(values, shape, is_complex):
    if is_complex:
        values = values[:values.size//2] + 1j*values[values.size//2:]
    return values.reshape(shape)

