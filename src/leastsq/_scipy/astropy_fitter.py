"""A fitter for astropy's models, which astropy loads by its entry point; public as `leastsq.astropy`."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from astropy.modeling.fitting import (
    Covariance,
    Fitter,
    NonFiniteValueError,
    StandardDeviations,
    _convert_input,
    _validate_model,
    fitter_unit_support,
)
from astropy.utils.exceptions import AstropyUserWarning

from .._problem.losses import LINEAR
from .._uncertainty.covariance import Directions, covariance
from .least_squares import least_squares

__all__ = ["LeastsqFitter"]

_EPS = np.finfo(float).eps
_LAST_ERROR = _EPS**0.5         # relative error of the fit's last Jacobian, if it is of forward differences


class LeastsqFitter(Fitter):
    """
    Levenberg–Marquardt for astropy's models, with bounds, fixed and tied parameters.

    It is called as `astropy.modeling.fitting.TRFLSQFitter` is, and leaves the same behind.

    Parameters
    ----------
    calc_uncertainties : bool, optional
        Also put ``cov_matrix`` and ``stds`` on the fitted model, from derivatives made afresh at the answer by
        `leastsq.covariance`.
    strategy : {"minpack", "fast", "robust"}, optional
        Which steps are taken, as in `leastsq.leastsq`.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"} or callable, optional
        How outliers count, as in `leastsq.leastsq`.
    f_scale : float, optional
        The size of a weighted residual from which the loss counts it less.

    Attributes
    ----------
    fit_info : OptimizeResult
        That of `leastsq.least_squares` for the latest fit, whose x are the free parameters, with three more:
        ``param_names``, their names; ``param_cov``, their covariance, scaled with the reduced chi2 if there are no weights,
        or None without degrees of freedom; ``covariance``, the `leastsq.CovarianceResult` if there is one, from
        `calc_uncertainties` or a loss.  In ``param_cov`` a parameter that a bound holds has variance 0, one that the data
        do not determine an infinite one.  `leastsq.report` and the other tools for uncertainties take the whole.

    Examples
    --------
    >>> import numpy as np
    >>> from astropy.modeling.models import Gaussian1D
    >>> from leastsq.astropy import LeastsqFitter
    >>> x = np.linspace(-3, 3, 40)
    >>> y = 2*np.exp(-0.5*(x - 0.5)**2/0.8**2)
    >>> start = Gaussian1D(1, 0, 1, bounds={"stddev": (0, 5)})
    >>> fitter = LeastsqFitter()
    >>> fitted = fitter(start, x, y)
    >>> print(fitted.parameters.round(6))
    [2.  0.5 0.8]
    >>> fitter.fit_info.success, fitter.fit_info["param_cov"].shape
    (True, (3, 3))
    """

    __module__ = "leastsq.astropy"          # what pickles import
    supported_constraints = ["fixed", "tied", "bounds"]

    def __init__(self, calc_uncertainties=False, *, strategy="minpack", loss=LINEAR, f_scale=1.0):
        self._calc_uncertainties = bool(calc_uncertainties)
        self._options = {"strategy": strategy, "loss": loss, "f_scale": f_scale}
        self.fit_info = None

    @fitter_unit_support
    def __call__(self, model, x, y, z=None, weights=None, maxiter=None, acc=1e-8, epsilon=None, estimate_jacobian=False,
                 filter_non_finite=False, *, inplace=False):
        """
        Fit a model to data.

        Parameters
        ----------
        model : FittableModel
            Its parameters are the start.
        x, y : array_like
            Coordinates and data; with z two coordinates.
        z : array_like, optional
            The data of a model of two coordinates.
        weights : array_like, optional
            Those of the residuals: 1/sigma.  With them the covariance is not scaled with the reduced chi2.
        maxiter : int, optional
            Most evaluations of the model, without those for differences.  None: 100 for each free parameter.
        acc : float, optional
            Relative error wanted in the parameters.
        epsilon : float, optional
            Relative step of differences.  None: from the machine precision.
        estimate_jacobian : bool, optional
            True: differences, also where the model has derivatives.
        filter_non_finite : bool, optional
            True: points at which something is not finite are left out.
        equivalencies : list, optional
            As other fitters of astropy take them, with units.
        inplace : bool, optional
            True: the parameters of `model` itself are set.

        Returns
        -------
        FittableModel
            A copy of the model with the fitted parameters.

        Raises
        ------
        NonFiniteValueError
            Residuals are not finite at the start.
        ValueError
            No parameter is free; more free parameters than data; a start outside its bounds; an unknown option.
        """
        made = _validate_model(model, self.supported_constraints)
        if filter_non_finite:
            x, y, z, weights = _only_finite(x, y, z, weights)
        *inputs, data = _convert_input(x, y, z)
        problem = _Problem(made, inputs, data, weights)
        start = problem.start()
        info = least_squares(
            problem.residuals, start, problem.jacobian if problem.has_derivatives and not estimate_jacobian else "2-point",
            bounds=problem.bounds, xtol=acc, diff_step=epsilon, max_nfev=maxiter, **self._options)
        fit = replace(info.problem, names=tuple(problem.free_names()),
                      absolute_sigma=weights is not None and info.problem.loss.is_linear)
        object.__setattr__(info, "problem", fit)        # info.problem = would be a key
        fitted = model if inplace else made.copy() if problem.tied else made
        fitted.parameters = problem.parameters(info.x)
        if not info.success:
            warnings.warn(f"The fit may be unsuccessful; check: \n    {info.message}", AstropyUserWarning, stacklevel=3)
        self._describe(info, problem)
        if self._calc_uncertainties and info["param_cov"] is not None:
            fitted.cov_matrix = Covariance(info["param_cov"], info["param_names"])
            fitted.stds = StandardDeviations(info["param_cov"], info["param_names"])
        self.fit_info = info
        return fitted

    def _describe(self, info, problem):
        """Put the covariance of the parameters into a result."""
        info["param_names"] = problem.free_names()
        info["covariance"] = info["param_cov"] = None
        if problem.data.size <= info.x.size:
            return
        try:
            if self._calc_uncertainties or not info.problem.loss.is_linear:
                info["covariance"] = found = covariance(info)
                cov = np.where(found.fixed | found.fixed[:, None], 0.0, found.cov)
            else:
                cov = _last_covariance(info, problem)
        except ValueError as error:         # a model that is not finite around the answer
            warnings.warn(f"There is no covariance: {error}", AstropyUserWarning, stacklevel=4)
            return
        info["param_cov"] = cov
        lost = [name for name, variance in zip(info["param_names"], np.diag(cov)) if np.isinf(variance)]
        if lost:
            warnings.warn(f"The data do not determine {', '.join(lost)}, whose variance is infinite.", AstropyUserWarning,
                          stacklevel=4)


def _last_covariance(info, problem):
    """Of the last Jacobian of the fit; parameters that a bound holds have variance 0."""
    lo, hi = problem.bounds
    free = lo < hi
    if "multipliers" in info:
        free &= ~(np.abs(info.multipliers) > 0)
    error = _LAST_ERROR if info.problem.by_differences else _EPS
    cov = np.zeros((free.size, free.size))
    cov[np.ix_(free, free)] = Directions(info.jac[:, free], np.full(free.sum(), error)).inverse()
    return cov if info.problem.absolute_sigma else cov*(2*info.cost/(info.fun.size - free.sum()))


class _Problem:
    """The residuals of a model as a function of its free parameters, and their bounds."""

    def __init__(self, model, inputs, data, weights):
        self.model = model                      # with tied parameters this one is changed at each call
        self.inputs, self.data = inputs, data
        self.weights = None if weights is None else np.broadcast_to(np.asarray(weights, float), data.shape)
        self.tied = {name: tie for name, tie in model.tied.items() if tie}
        self.free = [name for name in model.param_names if not (model.fixed[name] or name in self.tied)]
        if not self.free:
            raise ValueError("all parameters of the model are fixed or tied: there is nothing to fit")
        self.shapes = [np.shape(getattr(model, name).value) for name in model.param_names]
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        ends = np.cumsum(sizes)
        self.slices = [slice(end - size, end) for size, end in zip(sizes, ends)]
        self.is_free = np.repeat([name in self.free for name in model.param_names], sizes)
        limits = np.repeat([[-np.inf if lo is None else lo, np.inf if hi is None else hi]
                            for lo, hi in (model.bounds[name] for name in model.param_names)], sizes, axis=0)
        self.bounds = tuple(limits[self.is_free].T)
        self.all = np.array(model.parameters, float)
        # derivatives ignore ties, and the domain onto which polynomials map x
        parts = [model] if model.n_submodels == 1 else [model[k] for k in range(model.n_submodels)]
        mapped = any(getattr(part, name, None) is not None for part in parts for name in ("domain", "x_domain", "y_domain"))
        self.has_derivatives = getattr(model, "fit_deriv", None) is not None and not self.tied and not mapped

    def start(self):
        """The free parameters of the model; an error if residuals are not finite there."""
        x = self.all[self.is_free]
        residuals = self.residuals(x)
        wrong = residuals.size - np.count_nonzero(np.isfinite(residuals))
        if wrong:
            raise NonFiniteValueError(
                f"{wrong} of {residuals.size} residuals are not finite at the start {dict(zip(self.free_names(), x.tolist()))}: "
                "filter_non_finite=True leaves out data, coordinates and weights that are not finite; if the model is not "
                "finite, start elsewhere")
        return x

    def free_names(self):
        """A name for each free number: those of a parameter that is an array have an index."""
        return [name if shape == () or shape == (1,) else f"{name}[{k}]"
                for name, shape in zip(self.model.param_names, self.shapes) if name in self.free
                for k in range(int(np.prod(shape)))]

    def parameters(self, x):
        """All parameters, ties included."""
        values = self.all.copy()
        values[self.is_free] = x
        if self.tied:
            self.model.parameters = values
            for name, tie in self.tied.items():         # one after another: a tie may use another
                setattr(self.model, name, tie(self.model))
            values = np.array(self.model.parameters, float)
        return values

    def _arguments(self, x):
        values = self.parameters(x)
        return [values[place].reshape(shape) if shape else values[place][0]
                for place, shape in zip(self.slices, self.shapes)]

    def residuals(self, x):
        """Those of the data, weighted, shape (m,)."""
        difference = self.model.evaluate(*self.inputs, *self._arguments(x)) - self.data
        return np.ravel(difference if self.weights is None else self.weights*difference)

    def jacobian(self, x):
        """Derivatives by the free parameters, shape (m, n)."""
        slopes = self.model.fit_deriv(*self.inputs, *self._arguments(x))
        if self.model.col_fit_deriv:
            columns = [np.ravel(np.broadcast_to(slope, self.data.shape)) for slope in slopes]
        else:
            columns = np.reshape(slopes, (self.data.size, self.all.size)).T
        J = np.stack([column for column, free in zip(columns, self.is_free) if free], axis=-1)
        return J if self.weights is None else J*np.ravel(self.weights)[:, None]


def _only_finite(x, y, z, weights):
    """The points at which coordinates, data and weights are finite."""
    given = [None if array is None else np.asanyarray(array) for array in (x, y, z, weights)]
    finite = np.all([np.isfinite(array) for array in given if array is not None], axis=0)
    if not finite.any():
        raise ValueError("All input data or weights are non-finite.")
    if not finite.all():
        warnings.warn("Non-Finite input data has been removed by the fitter.", AstropyUserWarning, stacklevel=5)
    return [None if array is None else array[finite] for array in given]
