"""`FitResult`: parameters by name, and all that can be asked of a fit.  Long, for its methods are what a user can ask."""

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
    """What a result knows of its models and data.

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
        """Of all parameters those of set i."""
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
    What `fit` returns: a mapping of parameters by name.

    Uncertainties are made when they are first asked for, from derivatives at the answer that are more accurate than the
    solver's; `extra_nfev` says how many evaluations that took.

    Attributes
    ----------
    params : dict
        A `FitParameter` for each name.
    names : tuple of str
    x, start : ndarray, shape (n,)
        The parameters in order, and where they started.
    stderr : ndarray, shape (n,)
    cov, correlation : ndarray, shape (n, n)
    covariance : CovarianceResult
        Rank, condition, what the data do not determine, and how derivatives were made.
    chi2, reduced_chi2 : float
        Sum of the squares of the residuals, those of priors too (with a loss, of the losses); and that over `dof`.
    dof : int
        Data and priors less the parameters that these determine.
    aic, bic, r_squared : float
        As in `Report`.
    residuals : ndarray
        (model - y)/sigma in the shape of y, nan where a point does not count; with several data sets a list.  A
        pandas Series, if y was one.  Of counts, deviance residuals with that sign: their squares sum up to the deviance.
    success : bool
    message : str
    status : int
        As `leastsq`'s ier: a member of `Status`.
    nfev, njev : int, int or None
        Evaluations of the fit, and its Jacobians.
    extra_nfev : int
        Evaluations since, for uncertainties, profiles and so on.
    strategy : str
    search : str
        Without a start: how many places were tried, how often the answer was found, and where the next minimum is.
    problem : Problem or None
        What was fitted.

    See Also
    --------
    fit : makes it.
    load : reads what `save` wrote.

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
        """After a fit; `end` is (nfev, njev, ier, message)."""
        self = cls.__new__(cls)
        self._models, self.problem, self.x, self._fvec, self.strategy = models, problem, x, fvec, strategy
        self.nfev, self.njev, self.status, self._message = end
        self._count, self._spreads, self._said = [0], None, None
        self.search = search
        return self

    def __init__(self):
        raise TypeError("FitResult: fit and load make it")

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
        if callable(self._message):             # made when it is first asked for
            self._message = self._message()
        return self._message

    @property
    def success(self):
        return self.status in SUCCESS

    @property
    def extra_nfev(self):
        return self._count[0]

    # ------------------------------------------------------------ uncertainties, made once

    def _as_fitted(self, spreads=True):
        """What the tools are asked about."""
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

    # ------------------------------------------------------------ what may be asked

    def report(self, correlation_limit=0.5):
        """
        Everything in words and numbers.

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
            What the model is called with, as it is.  None: the data's.
        dataset : int, optional
            Of several data sets, the number of one, which a given x needs; None: a list of all.

        Returns
        -------
        ndarray, or list of them
            What the model returns; without `x` a pandas Series, if y was one.
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
            In the shape of what the model returns.  Of a complex model `stderr`, `lower` and `upper` are complex:
            of the real and of the imaginary part.
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
                raise ValueError("band: noise=True knows sigma at the data only, not at this x; give noise=, the standard "
                                 "deviation of one observation: a number, one for each point or a function of x")
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
            For each name a function of a dict of the parameters, ``lambda p: np.log(2)/p["rate"]``, which returns a number.

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
        Joint confidence region of two parameters, by profile: all others are fitted anew at each of its points.

        Parameters
        ----------
        a, b : str
            Names of two free parameters.
        level : float, optional
            That both are within.
        points : int, optional
            About as many on the outline.

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
        The parameters as numbers of the package uncertainties, correlated as the fit found.

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
        Data, fitted curve and residuals; of an image the three as images, of complex data both parts.

        Parameters
        ----------
        **options
            As in `plot.fit`; else `title`, `xlabel` and `ylabel`.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .pictures import draw
        self._needs_model("plot")
        return draw(self, **options)

    def plot_residuals(self, **options):
        """Residuals and their histogram, as `plot.residuals` draws them."""
        from .. import plot
        return plot.residuals(self, **options)

    def plot_profile(self, parameters=None, *, level=0.95, points=8, title=None):
        """Profile curves, as `plot.profile` draws them."""
        from .. import plot
        return plot.profile(self.profile(parameters, level=level, points=points), title=title)

    def plot_correlation(self, **options):
        """The matrix of correlations, as `plot.correlation` draws it."""
        from .. import plot
        return plot.correlation(self.covariance, **options)

    # ------------------------------------------------------------ exports

    def save(self, path):
        """
        Write everything but the code to a file, as JSON.

        Parameters
        ----------
        path : str or path

        See Also
        --------
        load : reads it.
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
        except ValueError as error:             # no covariance can be made here, or no sum of losses
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

    # ------------------------------------------------------------ for these methods

    def _needs_model(self, tool):
        if not self._models.calls:
            raise ValueError(f"{tool}: this result was read from a file, or copied, without its model: "
                             "load(path, model=...) has it")

    def _set_number(self, tool, dataset):
        count = len(self._models.sets)
        if dataset is None:
            return 0
        if isinstance(dataset, bool) or not hasattr(dataset, "__index__") or not 0 <= dataset < count:
            raise ValueError(f"{tool}: dataset must be a number from 0 to {count - 1}, got {dataset!r}")
        return int(dataset)

    def _evaluate(self, x):
        """Residuals, counted."""
        return Evaluator(self._as_fitted().problem.func)(x)


def _in_shape(values, shape, is_complex):
    if is_complex:
        values = values[:values.size//2] + 1j*values[values.size//2:]
    return values.reshape(shape)

