"""Covariance of fitted parameters, from a new Jacobian at the solution."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace

import numpy as np

from .._problem.accurate_jacobian import METHODS, accurate_jacobian
from .._problem.losses import LINEAR, POISSON
from .._problem.problem import Problem
from .combinations import describe_direction
from .export import Exports
from .format import label, value_and_error
from .student import t_quantile
from .told import Fitted, fit_of, mask_of

__all__ = ["CovarianceResult", "covariance"]

ACCURATE = "accurate"
_EPS = np.finfo(float).eps
_NEARLY = 1e7           # condition number above which a combination is nearly undetermined
_NOISE = 0.5            # relative error above which a derivative says nothing
_SURE = 5               # the effect of a direction must exceed this many errors of the derivatives
_EXACT = 2.0**12        # data are exact if residuals are below this many rounding errors of the parameters' effects,
_FITTED = 2.0**-26      # and below this fraction of the signal
_ALIGNED = 1e-3         # cosine between residuals and a derivative that no minimum has


@dataclass(frozen=True, eq=False, repr=False)
class CovarianceResult(Exports):
    """
    The result of `covariance`.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The parameters.
    cov : ndarray, shape (n, n)
        Their covariance.  A parameter that the data do not determine has an
        infinite variance and nan covariances; a fixed one has nan.
    stderr : ndarray, shape (n,)
        Standard errors, the square roots of its diagonal.
    correlation : ndarray, shape (n, n)
    rank : int
        Numerical rank of the Jacobian of the free parameters.
    condition : float
        Its condition number, with columns scaled to length one; inf if `rank` is less
        than the number of free parameters.
    dof : int
        Degrees of freedom, m - rank.
    chi2 : float
        Sum of the squares of the (weighted) residuals; with a loss, sum of the losses; for counts, the deviance.
    reduced_chi2 : float
        ``chi2/dof``; with a loss, Huber's variance.  nan without degrees of freedom.
    absolute_sigma : bool
        If False, ``cov`` was multiplied by `reduced_chi2`.  True with ``loss="poisson"``, whose variance is the mean.
    optimality : float
        Largest cosine between the residuals and a column of the Jacobian: zero
        at a minimum.
    null_space : ndarray, shape (n, k)
        Directions in which the parameters can move without changing the
        residuals; k = 0 if the rank is full.
    names : tuple of str or None
    fixed : ndarray of bool, shape (n,)
        The parameters that count as known: fixed ones, and those held at a bound.
    method : str
        How derivatives were computed.
    derivative_error : float
        Estimated relative error of the worst column of the Jacobian.
    nfev : int
        Number of calls to `func`.
    bounds : tuple of ndarray or None
        Lower and upper bounds.
    loss, f_scale : str or callable, float
    held : ndarray of bool, shape (n,)
        The parameters that a bound holds: they are at it, and the minimum without it would be beyond,
        because the slope of the cost there is larger than its rounding error.
    problem : Problem or None
        The problem that was fitted; not in pickles.
    """

    x: np.ndarray
    cov: np.ndarray
    stderr: np.ndarray
    correlation: np.ndarray
    rank: int
    condition: float
    dof: int
    chi2: float
    reduced_chi2: float
    absolute_sigma: bool
    optimality: float
    null_space: np.ndarray
    names: tuple | None
    fixed: np.ndarray
    method: str
    derivative_error: float
    nfev: int
    bounds: tuple | None = None
    loss: object = LINEAR
    f_scale: float = 1.0
    held: np.ndarray | None = None
    problem: Problem | None = field(default=None)
    _bend: float = 1.0
    _is_exact: bool = False         # are the residuals rounding errors?
    _stretch: np.ndarray | None = None      # with priors: variances divided by those from the curvature of the sum of squares
    _words: tuple = ()              # about each direction that the data do not determine, or hardly

    def __getstate__(self):
        return self.__dict__ | {"problem": None}

    def __setstate__(self, state):
        self.__dict__.update(state)

    def label(self, j):
        """The name of parameter j, or ``x[j]``."""
        return label(j, self.names)

    def t(self, level=0.95):
        """Student's t for two-sided intervals; the normal quantile with absolute sigma."""
        if self.absolute_sigma:
            return t_quantile(level, np.inf)
        return t_quantile(level, self.dof) if self.dof > 0 else np.inf

    def explain(self):
        """
        Describe the combinations of parameters that the data do not determine.

        A sum, product or ratio is named only if a move along it does not change the residuals.

        Returns
        -------
        str

        Examples
        --------
        >>> import numpy as np
        >>> from leastsq import covariance
        >>> t = np.linspace(0, 1, 9)
        >>> def residual(x):
        ...     return x[0]*x[1]*t + x[2] - np.exp(t)
        >>> print(covariance(residual, [2.0, 0.85, 0.87], names=["gain", "slope", "level"]).explain())
        The data determine only 2 combinations of the 3 parameters.
        Changing gain by +1 % and slope by -1 % together leaves the residuals as they are.
        The data determine only the product of gain and slope.
        Fix one of gain and slope, or write the model with one parameter in place of them.
        """
        free = int((~self.fixed).sum())
        if self.null_space.shape[1]:
            first = (f"The data determine only {self.rank} combination{'s' if self.rank != 1 else ''} "
                     f"of the {free} parameters.",)
        else:
            first = ("The data determine every parameter." if free > 1 else "The data determine the parameter.",)
            if self._words:
                first += (f"But only just: the condition number is {self.condition:.1e}.",)
        return "\n".join((*first, *self._words))

    def _exported(self):
        held = np.zeros(self.x.size, bool) if self.held is None else self.held
        return [(self.label(j), float(self.x[j]), float(self.stderr[j]),
                 "free" if not self.fixed[j] else "held" if held[j] else "fixed") for j in range(self.x.size)]

    def _numbers(self):
        return {"covariance": self.cov, "correlation": self.correlation, "chi2": self.chi2, "reduced_chi2": self.reduced_chi2,
                "dof": self.dof, "absolute_sigma": self.absolute_sigma}

    def __repr__(self):
        rows = [(self.label(j), *value_and_error(self.x[j], self.stderr[j])) for j in range(self.x.size)]
        if self.fixed.any():
            rows = [(name, f"{self.x[j]:.6g}", "fixed") if self.fixed[j] else (name, value, error)
                    for j, (name, value, error) in enumerate(rows)]
        width = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"  {name:<{width[0]}}  {value:>{width[1]}} ± {error:<{width[2]}}".rstrip()
                 for name, value, error in rows]
        kind = ("absolute sigma" if self.absolute_sigma else f"reduced chi2 {self.reduced_chi2:.4g}"
                if self.loss == LINEAR else f"robust variance {self.reduced_chi2:.4g}")
        if self.loss == POISSON:
            kind = "Poisson's variance"
        lines.append(f"rank {self.rank} of {int((~self.fixed).sum())}, condition {self.condition:.1e}, "
                     f"{self.dof} degrees of freedom, {kind}")
        return "\n".join(lines)


def covariance(fit, x=None, args=(), Dfun=None, *, method=None, sigma=None, absolute_sigma=None,
               names=None, fixed=None, rcond=None, bounds=None, loss=None, f_scale=None):
    r"""
    Covariance and standard errors of fitted parameters.

    The Jacobian is computed anew at `x`, with many more correct digits than the solver's
    last one, which moreover belongs to an earlier point.

    Parameters
    ----------
    fit : tuple, result object, callable or CFunction
        The result of `leastsq`, `curve_fit` or `leastsq_blocks` with ``full_output=True``, that of
        `least_squares`, or problem i of a batch, ``result.fit(i)``: these know what was
        fitted, and need nothing else.  Or the residual function ``func(x, *args)``, as in `leastsq`,
        with the other arguments as needed.
    x : array_like, shape (n,), optional
        The fitted parameters, if `fit` is a function.
    args : tuple, optional
        Further arguments of the function and `Dfun`.
    Dfun : callable, optional
        Jacobian ``Dfun(x, *args)`` of shape (m, n).
    method : {None, "richardson", "3-point", "2-point", "cs"}, optional
        How to differentiate.  "richardson": central differences extrapolated to
        step zero, about 15 calls for each parameter and 9 to 13 digits;
        "3-point" and "2-point": central and forward differences, 6 to 9 calls,
        some 9 and 6 digits; "cs": complex steps, exact to rounding, for a `func`
        that takes complex `x` (checked).  Steps adapt to the effect that each
        parameter has, so that it may be near zero.  None: `Dfun` if given, else
        "richardson".
    sigma : float or array_like, shape (m,) or (m, m), optional
        Standard deviations of the data, or their covariance, if the function does not
        divide by them.  Data whose sigma is infinite do not count.  With a result, this and the arguments
        below must agree with what the result knows.
    absolute_sigma : bool, optional
        True if the size of sigma (or of residuals divided by it) is known.  If False, only
        ratios of sigma count, and the covariance is scaled with ``chi2/(m - rank)``.
    names : sequence of str, optional
        Names of the parameters, for `explain` and reports.
    fixed : sequence of int or of bool, optional
        Parameters that were held constant, as indices or a mask.  They count as known.
    rcond : float, optional
        Singular values of the column-scaled Jacobian below ``rcond`` times the
        largest count as zero.  None: the rounding and differentiation error.
    bounds : 2-tuple or object with lb and ub, optional
        As in `leastsq`: the function is not called outside.  A parameter counts as known if a bound holds it,
        that is if the cost has a slope there larger than its rounding error; being close to a bound is not enough.
    loss, f_scale : optional
        As in `leastsq`, if the fit had a loss: the covariance is then Huber's, from the slopes
        and curvatures of the losses [2]_.

    Returns
    -------
    CovarianceResult
        Covariance, standard errors, correlations, rank, condition number, and
        ``explain()``, which describes the combinations that the data do not determine.

    Raises
    ------
    ValueError
        Residuals or derivatives are not finite; `sigma`, `names` or `fixed` has
        the wrong size; `sigma` is not positive (definite); `method` is unknown; an argument does not
        agree with the result, or ``func(x)`` is not what it was at the end of the fit; "cs"
        with a function that drops the imaginary part; `x` is outside `bounds`; the loss is
        unknown, not curved upwards, or comes with `absolute_sigma` (the share of large
        residuals is not known beforehand).
    TypeError
        `fit` is neither a result nor a function, or the function does not return real numbers.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    With J the (weighted) Jacobian, its columns are scaled to length one before a
    QR factorization and the singular value decomposition of R, so that neither the units
    nor J.T @ J lose digits [1]_.  A direction counts as determined if the residuals change along it
    by more than the errors of the derivatives that it combines.  If the rank is deficient, parameters that are not
    part of a null direction keep their standard errors, and the others get infinity.

    References
    ----------
    .. [1] G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed. (2013),
       sections 5.3 and 5.5.
    .. [2] P. J. Huber, "Robust Statistics" (1981),
       section 7.6.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import covariance, leastsq
    >>> t = np.arange(6.0)
    >>> y = np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> fit = leastsq(residual, [1.0, 1.0], full_output=True)
    >>> covariance(fit, names=["height", "rate"])
      height  5.081 ± 0.066
      rate    0.504 ± 0.012
    rank 2 of 2, condition 1.8e+00, 4 degrees of freedom, reduced chi2 0.004902
    """
    fitted = fit_of("covariance", fit, x, args, Dfun, sigma=sigma, absolute_sigma=absolute_sigma, names=names, bounds=bounds,
                    loss=loss, f_scale=f_scale)
    fitted.check("covariance")
    return covariances(fitted, fixed=fixed, method=method, rcond=rcond, tool="covariance")[0]


def covariances(fitted, *, fixed=None, method=None, rcond=None, tool="covariance"):
    """The covariance of a fit, and the covariance if only the fixed parameters were held."""
    problem, x = fitted.problem, fitted.x
    if fitted.spreads is not None and fixed is None and method is None and rcond is None:
        return tuple(replace(one, names=problem.names) for one in fitted.spreads())
    if not fitted.can_evaluate:
        return (own_covariance(fitted, tool, fixed),)*2
    held = mask_of(fixed, x.size)
    bounds = problem.bounds
    made = accurate_jacobian(problem, x, method)
    at_bound = np.zeros(x.size, bool)
    if bounds is not None:
        held = held | ~bounds.free
        at_bound = held_by(problem, x, made) & ~held
    evaluate = _evaluation(fitted)
    found = from_jacobian(problem, x, made, fixed=held | at_bound, rcond=rcond, evaluate=evaluate)
    found = replace(found, held=at_bound)
    if not at_bound.any():
        return found, found
    return found, from_jacobian(problem, x, made, fixed=held, rcond=rcond, evaluate=evaluate)


def shown_covariance(tool, fit, *, method=None, fixed=None, notes=None):
    """
    The covariance of a fit that a report or a band shows.

    For a result of `curve_fit` this is its pcov, and for a fit with ``covariance=`` that covariance, unless `method` or
    `fixed` asks for another; remarks about a pcov are appended to notes.
    """
    fitted = fit if isinstance(fit, Fitted) else fit_of(tool, fit)
    fitted.check(tool)
    problem, info = fitted.problem, fitted.info
    if method is None and fixed is None:
        made = info.get("covariance") if isinstance(info, dict) else None
        if isinstance(made, CovarianceResult):
            return replace(made, names=problem.names, problem=problem)
        if problem is not None and problem.model is not None and fitted.cov is not None:
            return _pcov(fitted, tool, [] if notes is None else notes)
    return covariances(fitted, fixed=fixed, method=method, tool=tool)[0]


def _pcov(fitted, tool, notes):
    """The covariance of curve_fit, with what new derivatives say about the point."""
    problem, cov, f = fitted.problem, fitted.cov, fitted.fvec
    stderr = np.sqrt(np.diag(cov))
    try:
        found = covariances(fitted, tool=tool)[0]
    except ValueError as error:
        notes.append(f"No other covariance can be computed: {error}.")
        found = None
    free = problem.free_count(fitted.x.size)
    fixed = np.zeros(fitted.x.size, bool) if problem.bounds is None else ~problem.bounds.free
    count = int(problem.counted(f.size).sum())
    dof = count - free
    chi2 = problem.loss.cost(f)
    if count < f.size and problem.bounds is None and problem.loss.is_linear and not problem.absolute_sigma and f.size > free:
        notes.append(f"curve_fit counts the {f.size - count} points of infinite sigma as data, as SciPy's curve_fit does: these "
                     f"uncertainties are too small by a factor of {np.sqrt(max(dof, 0)/(f.size - free)):.4g}. "
                     "covariance(fit), or covariance='accurate' in curve_fit, gives the right ones.")
    facts = {"cov": cov, "stderr": stderr, "correlation": correlation_of(cov, stderr), "fixed": fixed, "dof": dof, "chi2": chi2,
             "reduced_chi2": chi2/dof if dof > 0 else np.nan, "method": "curve_fit's pcov", "problem": problem,
             "absolute_sigma": bool(problem.absolute_sigma)}
    if found is None:
        return replace(_shown(fitted.x, cov, problem, fixed=fixed, dof=dof, chi2=chi2, reduced_chi2=np.nan), **facts)
    freedom = 1.0 if problem.absolute_sigma or not found.dof > 0 or dof <= 0 else np.sqrt(found.dof/dof)
    if problem.loss.is_robust:
        notes.append("These uncertainties are SciPy's for a loss: commonly too large, by up to a factor of two. "
                     "covariance(fit), or covariance='accurate' in curve_fit, gives Huber's.")
    elif not found.held.any() and _differ(found.stderr*freedom, stderr, ~fixed):
        notes.append("With better derivatives the uncertainties differ by more than 1 %: covariance(fit), or "
                     "covariance='accurate' in curve_fit, gives those.")
    return replace(found, **facts)


def _differ(a, b, which):
    """Do finite standard errors differ by more than 1 %?"""
    which = which & np.isfinite(b)
    return bool((np.abs(a[which] - b[which]) > 0.01*b[which]).any())


def held_by(problem, x, made):
    """The parameters that a bound holds: they are at it, and the cost falls beyond it by more than rounding errors."""
    bounds, f = problem.bounds, made.f
    psi = problem.loss.values(f)[1]*f if problem.loss.is_robust else f
    slopes, sizes = made.J.T @ psi, np.linalg.norm(made.J, axis=0)*np.linalg.norm(psi)
    certain = np.abs(slopes) > (8*_EPS*np.sqrt(f.size) + 2*made.error)*sizes
    return certain & ((x <= bounds.low) & (slopes > 0) | (x >= bounds.high) & (slopes < 0))


def _evaluation(fitted):
    """The residuals at any x, or None if there are none; for moves along undetermined directions."""
    bounds = fitted.problem.bounds

    def evaluate(x):
        if bounds is not None and not ((bounds.low <= x) & (x <= bounds.high)).all():
            return None
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                f = fitted.evaluate(x)
        except (ArithmeticError, ValueError):       # outside the domain of the function
            return None
        return f if np.isfinite(f).all() else None
    return evaluate


def check_option(choice):
    """Is `choice` a valid `covariance` of curve_fit and least_squares?"""
    if choice is not None and choice not in (ACCURATE, *METHODS):
        raise ValueError(f"`covariance` must be None, {', '.join(map(repr, (ACCURATE, *METHODS)))}, got {choice!r}.")


def by_option(choice, problem, x):
    """The covariance that curve_fit and least_squares return for their option `covariance`."""
    if choice == ACCURATE:
        choice = "cs" if problem.by_differences and problem.differences.scheme == "cs" else None
    return covariances(Fitted(problem, x), method=choice)[0]


def own_covariance(fitted, tool, fixed=None):
    """The covariance that the fit itself computed, as a `CovarianceResult`, where its function cannot be called."""
    x, problem, info = fitted.x, fitted.problem, fitted.info
    rows = None if problem is None else problem.rows
    if fitted.fvec is not None:
        rows = fitted.fvec.size
    if fitted.cov is None or rows is None:
        raise ValueError(f"{tool}: this result does not know what was fitted (it was pickled, or copied, or comes from "
                         f"elsewhere): give the residual function, {tool}(function, x)")
    if problem is not None and problem.loss.is_robust and tool != "report":
        raise ValueError(f"{tool}: the covariance of a fit with a loss needs its residuals, which this result does not have: "
                         f"give the residual function, {tool}(function, x, loss=...)")
    held = mask_of(fixed, x.size) | np.isnan(np.diag(fitted.cov))
    chi2 = float(fitted.fvec @ fitted.fvec) if fitted.fvec is not None else float(info["fnorm"]**2)
    dof = rows - int((~held).sum())
    absolute = bool(problem is not None and problem.absolute_sigma)
    reduced, cov = chi2/dof if dof > 0 else np.nan, fitted.cov
    if not absolute and _is_unscaled(cov, info, ~held):
        cov = cov*(reduced if dof > 0 else np.inf)
    problem = Problem(None) if problem is None else problem
    return _shown(x, cov, problem, fixed=held, dof=dof, chi2=chi2, reduced_chi2=reduced)


def _is_unscaled(cov, info, free):
    """Is this the inverse of J.T @ J, as from leastsq, or multiplied by a variance, as from curve_fit?"""
    try:
        R = np.triu(np.asarray(info["fjac"]).T[:len(info["ipvt"])])
        order = np.asarray(info["ipvt"]) - np.min(info["ipvt"])       # counted from one here, from zero in SciPy
    except (KeyError, ValueError, TypeError):
        return True                     # a fit in blocks, which keeps no R
    J = np.empty_like(R)
    J[:, order] = R
    product = cov[np.ix_(free, free)] @ (J.T @ J)[np.ix_(free, free)]
    return bool(np.allclose(np.diag(product), 1.0, rtol=1e-4))


def _shown(x, cov, problem, *, fixed, dof, chi2, reduced_chi2):
    """A covariance that the fit computed, as a `CovarianceResult`."""
    bounds, n = problem.bounds, x.size
    stderr = np.sqrt(np.diag(cov))
    return CovarianceResult(
        x=x, cov=cov, stderr=stderr, correlation=correlation_of(cov, stderr), rank=n - int(fixed.sum()),
        condition=_condition_of(cov[np.ix_(~fixed, ~fixed)]),
        dof=dof, chi2=chi2, reduced_chi2=reduced_chi2, absolute_sigma=bool(problem.absolute_sigma), optimality=np.nan,
        null_space=np.zeros((n, 0)), names=problem.names, fixed=fixed, method="the fit's own", derivative_error=np.nan, nfev=0,
        bounds=None if bounds is None else (bounds.low, bounds.high), loss=problem.loss.rho, f_scale=problem.loss.scale,
        held=np.zeros(n, bool), problem=problem)


def _condition_of(cov):
    """Of the Jacobian with columns of length one, from which this covariance was made; inf if that is singular."""
    if not np.isfinite(cov).all():
        return np.inf
    scale = np.sqrt(np.diag(cov))
    if not (scale > 0).all():
        return np.inf                   # exact data: nothing is left of the Jacobian
    values, vectors = np.linalg.eigh(cov/np.outer(scale, scale))
    if not values.size or values[0] <= 0:
        return np.inf if values.size else 1.0
    gram = (vectors/values) @ vectors.T
    lengths = np.sqrt(np.diag(gram))
    values = np.linalg.eigvalsh(gram/np.outer(lengths, lengths))
    return float(np.sqrt(values[-1]/values[0])) if values[0] > 0 else np.inf


def correlation_of(cov, stderr):
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = cov/np.outer(stderr, stderr)
    finite = np.isfinite(stderr)
    correlation[finite, finite] = 1.0
    return correlation


def from_jacobian(problem, x, made, *, fixed=None, rcond=None, evaluate=None):
    """A `CovarianceResult` from an `AccurateJacobian`, computed or given."""
    n, loss, bounds = x.size, problem.loss, problem.bounds
    absolute_sigma = bool(problem.absolute_sigma)
    if absolute_sigma and loss.is_robust:
        raise ValueError("absolute_sigma must be False with a loss: a loss means that some residuals are larger than "
                         "sigma says, and their share is estimated from the residuals")
    known = np.zeros(n, dtype=bool) if fixed is None else fixed
    free = np.flatnonzero(~known)
    counted = problem.counted(made.f.size)
    f, J, errors = made.f[counted], made.J[np.ix_(counted, free)], np.minimum(made.error[free], 1.0)
    m = f.size
    data, priors = J[:m - len(problem.priors)], J[m - len(problem.priors):]
    bend = loss.variance(f, 0)[2] if loss.is_robust else 1.0
    apart = bool(problem.priors) and not absolute_sigma         # the variance of the data is estimated, that of priors is known
    directions = Directions(np.concatenate([data*np.sqrt(max(bend, 0.0)), priors]) if apart else J, errors, rcond)
    rank, unknown = directions.rank, directions.unknown
    inner = directions.inverse()

    dof = m - rank
    psi = f
    if not loss.is_robust:
        chi2 = float(f @ f) if made.cost is None else made.cost
        reduced = chi2/dof if dof > 0 else np.nan
    else:
        psi, chi2, _, reduced = loss.variance(f, rank)
        if dof > 0 and np.isnan(reduced):
            raise ValueError(f"with this loss and f_scale={loss.scale:g} nearly all residuals count as outliers: the cost "
                             "is not curved upwards, and gives no standard errors; use a larger f_scale")
    stretch = None
    if apart:
        stretch, before = np.full(n, np.nan), np.diag(inner).copy()
        _scale_data_alone(inner, priors, ~unknown, reduced*bend)
        with np.errstate(invalid="ignore"):
            stretch[free] = np.diag(inner)/before
    elif not absolute_sigma:
        determined = np.ix_(~unknown, ~unknown)
        inner[determined] *= reduced
        if dof <= 0:
            inner[determined] = np.inf
    cov = np.full((n, n), np.nan)
    cov[np.ix_(free, free)] = inner
    stderr = np.sqrt(np.diag(cov))

    null = np.zeros((n, directions.null.shape[1]))
    null[free] = _legible(directions.null)/directions.scale[:, None]
    exact = _are_rounding(J, psi, x[free], made.eps)
    words = _describe(directions, free, problem, x, evaluate)
    return CovarianceResult(
        x=x, cov=cov, stderr=stderr, correlation=correlation_of(cov, stderr), rank=rank, condition=directions.condition, dof=dof,
        chi2=chi2, reduced_chi2=reduced, absolute_sigma=absolute_sigma,
        optimality=0.0 if exact else _optimality(J, psi), null_space=null,
        names=problem.names, fixed=known, method=made.method, derivative_error=float(errors.max(initial=0.0)), nfev=made.nfev,
        bounds=None if bounds is None else (bounds.low, bounds.high), loss=loss.rho, f_scale=loss.scale,
        held=np.zeros(n, bool), problem=problem, _bend=bend, _is_exact=exact, _stretch=stretch, _words=words)


def _scale_data_alone(inner, priors, determined, factor):
    """
    Change H^-1 to H^-1 (factor A + P) H^-1 in place, where A is from the rows of the data, P from the priors, H = A + P.

    The variance of the data is estimated from the residuals, and that of a prior is known.
    """
    which = np.ix_(determined, determined)
    part, P = inner[which], priors[:, determined]
    inner[which] = factor*part + (1 - factor)*(part @ P.T) @ (P @ part) if np.isfinite(factor) else np.inf


class Directions:
    """
    The directions of parameter space, ordered by the change of the residuals along each: J with columns of length one.

    Each column has its own error.  A direction is determined if the change along it is larger than
    the errors of the columns that it combines, so that a noisy derivative decides nothing about others.

    Attributes
    ----------
    scale : ndarray, shape (k,)
        Lengths of the columns; one for columns that are zero.
    rank : int
    condition : float
    null : ndarray, shape (k, k - rank)
        Directions that change nothing, for the scaled columns.
    unknown : ndarray of bool, shape (k,)
        The parameters that take part in one of these, or whose derivative is noise.
    """

    def __init__(self, J, errors, rcond=None):
        m, k = J.shape
        norms = np.linalg.norm(J, axis=0)
        self.scale = np.where(norms > 0, norms, 1.0)
        scaled = J/self.scale
        R = np.linalg.qr(scaled, mode="r") if m >= k else scaled
        _, s, Vt = np.linalg.svd(R)
        self.values, self.Vt = np.concatenate([s, np.zeros(k - s.size)]), Vt
        noise = _SURE*np.sqrt((Vt**2) @ errors**2)
        least = np.minimum(np.maximum(max(m, k)*_EPS, noise), _NOISE) if rcond is None else np.full(k, rcond*s.max(initial=0.0))
        self.determined = self.values > least
        self.rank = int(self.determined.sum())
        self.null = Vt[~self.determined].T
        touched = max(1e-6, min(0.1, 2*float(noise[~self.determined].max(initial=0.0))) if rcond is None else 1e3*rcond)
        self.unknown = (np.linalg.norm(self.null, axis=1) > touched) | (errors >= _NOISE)
        full = k > 0 and self.rank == k
        self.condition = float(self.values[0]/self.values[-1]) if full else np.inf

    def inverse(self):
        """The inverse of J.T @ J for determined parameters; infinite variances and nan covariances for the others."""
        factors = self.Vt[self.determined].T/self.values[self.determined]/self.scale[:, None]
        inner = factors @ factors.T
        inner[self.unknown, :] = np.nan
        inner[:, self.unknown] = np.nan
        inner[self.unknown, self.unknown] = np.inf
        return inner


def _describe(directions, free, problem, x, evaluate):
    """Sentences about the undetermined directions, or about the weakest one if there are none."""
    labels = [label(j, problem.names) for j in range(x.size)]
    vectors, hardly = list(_legible(directions.null).T), False
    if not vectors and directions.condition > _NEARLY and np.isfinite(directions.condition):
        vectors = [np.where(np.abs(directions.Vt[-1]) > 0.03*np.abs(directions.Vt[-1]).max(), directions.Vt[-1], 0.0)]
        hardly = True
    words, shared = [], (np.count_nonzero(vectors, axis=0) > 1).any() if vectors else False
    for vector in vectors:
        direction, effects = np.zeros(x.size), np.zeros(x.size)
        effects[free] = vector
        direction[free] = vector/directions.scale
        words += describe_direction(direction, effects, x, labels, evaluate, hardly, bool(shared))
    return tuple(words)


def _are_rounding(J, psi, x, eps):
    """Are the residuals those of exact data?

    They may be a few rounding errors of the effect of the largest parameter, for example of an offset, or the
    remainder that a fit leaves of the signal, for which the median effect of a parameter stands.
    """
    effects = np.sort(np.linalg.norm(J, axis=0)*np.abs(x))
    if effects.size == 0:
        return False
    return bool(np.linalg.norm(psi) <= max(_EXACT*eps*effects[-1], _FITTED*effects[(effects.size - 1)//2]))


def _optimality(J, psi):
    """The largest cosine between the residuals and a column."""
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.abs(J.T @ psi)/(np.linalg.norm(J, axis=0)*np.linalg.norm(psi))
    return float(np.nan_to_num(cosines).max(initial=0.0))


def not_a_minimum(found):
    """A sentence if the point is not a minimum; or None."""
    if not found.optimality > _ALIGNED or found.chi2 == 0:      # nan: not known
        return None
    return (f"This does not look like a minimum: the residuals make an angle with cosine {found.optimality:.2g} "
            "with the derivative of one parameter (it is 0 at a minimum). Continue from here, or use smaller ftol and xtol.")


def _legible(null):
    """A basis of the null space with as many zeros as possible."""
    basis = null.copy()
    k = basis.shape[1]
    used = []
    for c in range(k):                          # Gauss-Jordan with complete pivoting
        size = np.abs(basis[:, c:])
        size[used] = 0.0
        row, shift = np.unravel_index(np.argmax(size), size.shape)
        basis[:, [c, c + shift]] = basis[:, [c + shift, c]]
        basis[:, c] /= basis[row, c]
        for other in range(k):
            if other != c:
                basis[:, other] -= basis[row, other]*basis[:, c]
        used.append(row)
    basis[np.abs(basis) < 1e-6] = 0.0
    return basis
