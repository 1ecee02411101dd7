"""Confidence intervals of fitted parameters, and the band of a fitted curve."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .._problem.accurate_jacobian import accurate_jacobian
from .._problem.bounds import Bounds
from .._problem.problem import Problem
from .covariance import CovarianceResult, covariances, not_a_minimum, shown_covariance
from .format import label, value_and_error
from .profile import Profile, Profiler, progress_line
from .student import f_quantile, t_quantile
from .told import fit_of, parameters_of

__all__ = ["BandResult", "ConfidenceResult", "confidence_band", "confidence_intervals", "profile_time"]


@dataclass(frozen=True, eq=False, repr=False)
class ConfidenceResult:
    """
    The result of `confidence_intervals`.

    Attributes
    ----------
    x, lower, upper : ndarray, shape (n,)
        The parameters and their limits.  A limit is nan if it could not be computed, and
        infinite if the data give none; `reasons` says why.
    level : float
    method : str
        "t" or "profile".
    t : float
        Student's t for the level.
    covariance : CovarianceResult
    profiles : dict
        A `Profile` for each profiled parameter (key: its index).
    reasons : list of str
        The reasons for missing limits.
    nfev : int
        Number of calls to `func`.
    seconds : float
        Time taken.
    """

    x: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float
    method: str
    t: float
    covariance: CovarianceResult
    profiles: dict[int, Profile]
    reasons: list[str]
    nfev: int
    seconds: float
    _asked: tuple | None = None         # the parameters whose intervals were asked for; None for all

    def __repr__(self):
        names = self.covariance.names
        rows = []
        for j in range(self.x.size) if self._asked is None else self._asked:
            widths = [w for w in (self.upper[j] - self.x[j], self.x[j] - self.lower[j]) if 0 < w < np.inf]
            error = min(widths, default=self.covariance.stderr[j])
            ends = [value_and_error(v, error)[0] for v in (self.x[j], self.lower[j], self.upper[j])]
            rows.append((label(j, names), *ends))
        width = [max((len(row[k]) for row in rows), default=0) for k in range(4)]
        lines = [f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}   [{row[2]:>{width[2]}}, {row[3]:>{width[3]}}]"
                 for row in rows]
        kind = "from Student's t" if self.method == "t" else "from likelihood profiles"
        return "\n".join([f"{100*self.level:.4g} % confidence intervals {kind}", *lines, *self.reasons])


def confidence_intervals(fit, x=None, args=(), Dfun=None, *, level=0.95, method="t", parameters=None,
                         names=None, sigma=None, absolute_sigma=None, points=0, timeout=None,
                         progress=False, bounds=None, loss=None, f_scale=None):
    r"""
    Confidence intervals of fitted parameters.

    Parameters
    ----------
    fit : tuple, result object, callable or CFunction
        The fit: a result, or the residual function with facts about it, as in `covariance`.
    x : array_like, shape (n,), optional
        The fitted parameters, at a minimum, if `fit` is a function.
    args : tuple, optional
        Further arguments of the function and `Dfun`.
    Dfun : callable, optional
        Jacobian ``Dfun(x, *args)`` of shape (m, n).
    level : float, optional
        Confidence level, between 0 and 1.
    method : {"t", "profile"}, optional
        "t": value plus and minus Student's t times the standard error, which is exact for a
        model that is linear in its parameters.  "profile": the values of a parameter for
        which the best fit of all the others is no worse than the F test permits, found by
        refits.  Such intervals follow the model's curvature, and need not be symmetric or
        bounded.
    parameters : sequence of int or str, optional
        The parameters whose intervals to find, by index or name.  None: all.
    names : sequence of str, optional
    sigma : float or array_like, optional
        As in `covariance`; this and `absolute_sigma` must agree with a result that knows them.
    absolute_sigma : bool, optional
        As in `covariance`; if True, the normal quantile is used instead of t.
    points : int, optional
        Additional refits on each side of the minimum, for a smooth curve
        in `plot.profile`.
    timeout : float, optional
        Seconds after which limits that have not been found become nan.
    progress : bool, optional
        Show an estimate of the time and a progress line (with tqdm if it is
        installed) on stderr.
    bounds : 2-tuple or object with lb and ub, optional
        As in `leastsq`: `func` is not called outside, refits stay within, and an interval
        ends at a bound.  For a parameter at its bound "t" gives nan, because its estimate
        is not normally distributed; use "profile".
    loss, f_scale : optional
        As in `leastsq`, if the fit had a loss; refits have it too.  Not with
        `absolute_sigma`.

    Returns
    -------
    ConfidenceResult

    Raises
    ------
    ValueError
        `level`, `method`, `parameters`, `sigma` or `names` is not valid;
        residuals or derivatives are not finite at `x`; `bounds`, `loss` and `f_scale` as
        in `covariance`.

    See Also
    --------
    profile_time : estimate how long profiles will take.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    The profile statistic of parameter value v is
    :math:`\tau(v) = \pm\sqrt{(S(v) - S_{min})/s^2}`, where S(v) is the least sum of squares
    with the parameter held at v; the limits are where it equals plus and minus Student's t
    [1]_.  Each refit starts from the solution of its neighbour.  With bounds, S(v) is the
    least sum within them, and the interval of a parameter near its bound covers the truth at
    least as often as `level` says.  With a loss, S is the sum of the losses, and
    :math:`s^2` is Huber's variance, mean(psi^2)/mean(psi') [2]_.

    References
    ----------
    .. [1] D. M. Bates, D. G. Watts, "Nonlinear Regression Analysis and Its
       Applications" (1988), section 6.1.
    .. [2] P. J. Huber, E. M. Ronchetti, "Robust Statistics", 2nd ed. (2009),
       section 7.6.

    Examples
    --------
    Oxygen demand, with data that hardly determine the plateau:

    >>> import numpy as np
    >>> from leastsq import confidence_intervals, leastsq
    >>> t = np.array([1.0, 2, 3, 4, 5, 7])
    >>> y = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])
    >>> def residual(x):
    ...     return x[0]*(1 - np.exp(-x[1]*t)) - y
    >>> x, ier = leastsq(residual, [20.0, 0.5])
    >>> confidence_intervals(residual, x, names=["plateau", "rate"])
    95 % confidence intervals from Student's t
      plateau  19.1   [ 12.2, 26.1]
      rate     0.53   [-0.03, 1.09]
    >>> confidence_intervals(residual, x, names=["plateau", "rate"], method="profile", level=0.9)
    90 % confidence intervals from likelihood profiles
      plateau  19.1   [15.0, 29.2]
      rate     0.53   [0.20, 1.26]
    """
    began, tool = time.perf_counter(), "confidence_intervals"
    if method not in ("t", "profile"):
        raise ValueError(f"method must be 't' or 'profile', got {method!r}")
    if not (isinstance(level, (int, float)) and 0 < level < 1):
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    fitted = fit_of(tool, fit, x, args, Dfun, sigma=sigma, absolute_sigma=absolute_sigma, names=names, bounds=bounds,
                    loss=loss, f_scale=f_scale)
    fitted.check(tool)
    spread, free = covariances(fitted, tool=tool)
    x = spread.x
    chosen = _chosen(parameters, spread)
    t = (free if method == "profile" else spread).t(level)
    reasons = [] if not_a_minimum(spread) is None else [not_a_minimum(spread)]
    reasons += [f"{spread.label(j)}: the data do not determine it." for j in range(x.size)
                if np.isinf(spread.stderr[j]) and (spread.dof > 0 or spread.absolute_sigma)]
    if spread.dof <= 0 and not spread.absolute_sigma:
        reasons.append("There are no more residuals than parameters: no degrees of freedom, no intervals.")
    others = np.setdiff1d(np.arange(x.size), chosen)
    with np.errstate(invalid="ignore"):
        reach = t*spread.stderr
    lower, upper = x - reach, x + reach
    if spread.bounds is not None:
        reasons += _cut(spread, lower, upper, method)
        chosen = [j for j in chosen if not free.fixed[j]]
    profiles, nfev = {}, spread.nfev
    lower[others] = upper[others] = np.nan
    if method == "profile" and not fitted.can_evaluate:
        raise ValueError(f"{tool}: method='profile' needs the residual function, which this result does not have: give it "
                         "as func(x)")
    if method == "profile":
        if free.dof > 0 or free.absolute_sigma:
            profiler = Profiler(fitted.problem, spread, free, t, None if timeout is None else began + timeout)
            with progress_line(progress, profiler, 2*len(chosen)) as tell:
                for j in chosen:
                    profile = profiler.profile(j, points, tell)
                    profiles[j] = profile
                    lower[j], upper[j] = profile.lower, profile.upper
                    reasons += profile.reasons
            nfev += profiler.nfev
    return ConfidenceResult(x, lower, upper, float(level), method, float(t), spread, profiles,
                            list(dict.fromkeys(reasons)), nfev, time.perf_counter() - began, _asked=tuple(chosen))


def _cut(spread, lower, upper, method):
    """Cut intervals at the bounds, in place; returns remarks about that."""
    (low, high), reasons = spread.bounds, []
    for j in np.flatnonzero(low == high):
        reasons.append(f"{spread.label(j)}: it is fixed.")
    if method == "t":
        for j in np.flatnonzero(spread.held):
            reasons.append(f"{spread.label(j)}: it is at its bound, where the estimate is not normally distributed; "
                           "method='profile' makes an interval.")
        for ends, edge, cut, side in ((lower, low, lower < low, "lower"), (upper, high, upper > high, "upper")):
            ends[cut] = edge[cut]
            reasons += [f"{spread.label(j)}, {side} limit: its bound." for j in np.flatnonzero(cut)]
    return reasons


def _chosen(parameters, spread):
    if parameters is None:
        return list(range(spread.x.size))
    if isinstance(parameters, (str, int, np.integer)):
        parameters = [parameters]
    chosen = []
    for p in parameters:
        if isinstance(p, str):
            if p not in (spread.names or ()):
                raise ValueError(f"parameters: no parameter is named {p!r}")
            p = spread.names.index(p)
        if not -spread.x.size <= p < spread.x.size:
            raise ValueError(f"parameters: there is no parameter {p}: the fit has {spread.x.size}")
        chosen.append(int(p) % spread.x.size)
    return chosen


def profile_time(fit, x=None, args=(), Dfun=None, *, parameters=None, sigma=None, bounds=None, loss=None,
                 f_scale=None):
    """
    Estimate how long ``confidence_intervals(method="profile")`` will take.

    Parameters
    ----------
    fit, x, args, Dfun, parameters, sigma, bounds, loss, f_scale
        As in `confidence_intervals`.

    Returns
    -------
    float
        Seconds, estimated from one trial refit; within a factor of two or three for
        well-behaved models.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import profile_time
    >>> t = np.arange(5.0)
    >>> profile_time(lambda x: x[0] + x[1]*t - t**2, [-2.0, 4.0]) < 1
    True
    """
    fitted = fit_of("profile_time", fit, x, args, Dfun, sigma=sigma, bounds=bounds, loss=loss, f_scale=f_scale)
    fitted.check("profile_time")
    spread, free = covariances(fitted, method=None if fitted.problem.Dfun else "3-point", tool="profile_time")
    profiler = Profiler(fitted.problem, spread, free, free.t(0.95), None)
    return profiler.estimate(2*len(_chosen(parameters, spread)))


# --------------------------------------------------------------------- the band

@dataclass(frozen=True, eq=False)
class BandResult:
    """
    The result of `confidence_band`; all arrays have shape (k,).

    Attributes
    ----------
    fit : ndarray
        The curve.
    stderr : ndarray
        Standard error of the curve, or of a new observation.
    lower, upper : ndarray
        The band.
    """

    fit: np.ndarray
    stderr: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def confidence_band(fit, x=None, *, model=None, level=0.95, dof=None, noise=None, method=None, simultaneous=False):
    """
    Confidence band of a fitted curve, or of anything computed from the parameters.

    Parameters
    ----------
    fit : result, CovarianceResult or tuple (popt, pcov)
        The result of `curve_fit` with ``full_output=True``, which knows model and data; with `model`, another result,
        a `CovarianceResult`, or parameters and their covariance matrix of shapes (n,) and (n, n).
        If there were bounds, the model is not called outside them, and parameters that are
        held at a bound count as known.
    x : array_like or object, optional
        The points of the band, as passed to the model.  None: the x of the data.
    model : callable, optional
        ``model(x, *parameters)``, as in `curve_fit`: the values of the curve at k points.
    level : float, optional
        Confidence level at each point, or of the whole curve with `simultaneous`.
    dof : float, optional
        Degrees of freedom for Student's t, if the covariance is a matrix; None: the normal
        distribution.
    noise : float, array_like of shape (k,), callable or True, optional
        Standard deviation of one observation, as a number, one for each point, or a function of x; the band is then
        that of new observations (a prediction band).  True: the standard deviation of the fit's data, which is the
        fit's sigma, times the root of reduced chi2 if sigma is not absolute; for counts it is the root of their mean.
        If sigma is an array, it is known only at the x of the data.
    method : optional
        How to differentiate, as in `covariance`.
    simultaneous : bool, optional
        Scheffé's band, which with confidence `level` covers the curve at all points at
        once.  It is wider: sqrt(k F) replaces t, where k is the number of uncertain parameters on
        which the curve depends, and F the quantile of Fisher's F for k and `dof`.

    Returns
    -------
    BandResult

    Raises
    ------
    TypeError
        There is no model; `fit` is none of the above.
    ValueError
        Sizes do not agree; the model is not finite; ``noise=True`` where the standard deviation is not known,
        as with a loss; both `noise` and `simultaneous`, because no band can hold all new observations.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import confidence_band, curve_fit
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def curve(t, height, rate):
    ...     return height*np.exp(-rate*t)
    >>> fit = curve_fit(curve, t, y, full_output=True)
    >>> band = confidence_band(fit, np.array([0.0, 10.0]))
    >>> band.fit.round(3), (band.upper - band.lower).round(3)
    (array([5.081, 0.033]), array([0.365, 0.021]))
    """
    tool = "confidence_band"
    if simultaneous and noise is not None:
        raise ValueError("noise and simultaneous exclude each other: no band can hold all new observations, whose "
                         "number is unlimited")
    spread, parameters, matrix, bounds = _spread_of(tool, fit)
    problem = None if spread is None else spread.problem
    own_x = x is None
    if own_x:
        if problem is None or problem.model is None:
            raise TypeError(f"{tool}: x must be given: this fit does not know where its data are")
        x = problem.xdata
    elif isinstance(x, (list, tuple, np.ndarray)):      # as curve_fit passes them to the model
        x = np.asarray(x, dtype=float)
    if model is None:
        if problem is None or problem.model is None:
            raise TypeError(f"{tool}: model must be given: this fit does not know its model")
        model = problem.model
    elif problem is not None and problem.model is not None and model is not problem.model:
        raise ValueError(f"{tool}: model must be that of the fit, {problem.model!r}, got {model!r}")
    if spread is None:
        dof = np.inf if dof is None else dof
        t = t_quantile(level, dof)
    else:
        t, dof = spread.t(level), np.inf if spread.absolute_sigma else spread.dof

    curve = Problem(lambda p: np.ravel(model(x, *p)), bounds=bounds)
    made = accurate_jacobian(curve, parameters, method, noise=0.0)
    if noise is True and problem is not None and problem.loss.is_poisson:
        noise = np.sqrt(np.maximum(made.f, 0.0))
    if noise is not None:
        noise = _noise(tool, noise, spread, x, own_x, made.f.size)
    with np.errstate(invalid="ignore"):
        touched = np.abs(made.J).max(axis=0, initial=0.0) > 0
        J = made.J[:, touched]
        variance = np.einsum("ij,jk,ik->i", J, matrix[np.ix_(touched, touched)], J)
        if noise is not None:
            variance = variance + noise**2
        stderr = np.sqrt(variance)
    if simultaneous:
        k = int((touched & (np.diag(matrix) > 0)).sum())
        t = np.inf if not dof > 0 else np.sqrt(k*f_quantile(level, k, dof)) if k else 0.0
    return BandResult(made.f, stderr, made.f - t*stderr, made.f + t*stderr)


def _spread_of(tool, fit):
    """(CovarianceResult or None, parameters, covariance matrix, bounds) of the fit of a band."""
    if isinstance(fit, tuple) and len(fit) == 2 and np.ndim(fit[1]) == 2:
        x, matrix = parameters_of(fit[0]), np.asarray(fit[1], dtype=float)
        if matrix.shape != (x.size, x.size):
            raise ValueError(f"{tool}: the covariance must have shape ({x.size}, {x.size}), got {matrix.shape}")
        return None, x, matrix, None
    spread = fit if isinstance(fit, CovarianceResult) else shown_covariance(tool, fit)
    matrix = spread.cov
    if spread.fixed.any():
        matrix = np.where(spread.fixed[:, None] | spread.fixed, 0.0, matrix)
    return spread, spread.x, matrix, None if spread.bounds is None else Bounds(*spread.bounds)


def _noise(tool, noise, spread, x, own_x, count):
    """The standard deviation of new observations at the `count` points of x."""
    if callable(noise):
        noise = noise(x)
    elif noise is True:
        noise = _known_noise(tool, spread, x, own_x, count)
    try:
        values = np.asarray(noise, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{tool}: noise must be a number, {count} numbers, a function of x or True, got {noise!r}") from None
    if values.shape not in ((), (1,), (count,)):
        raise ValueError(f"{tool}: noise must be a number or have shape ({count},), got {values.shape}")
    if not (values >= 0).all():
        raise ValueError(f"{tool}: noise must not be negative or nan, got {values.min():g}")
    return values


def _known_noise(tool, spread, x, own_x, count):
    problem = None if spread is None else spread.problem
    give = "give noise=, the standard deviation of one observation: a number, one for each point or a function of x"
    if problem is None:
        raise ValueError(f"{tool}: noise=True needs a result that knows its data; {give}")
    if not problem.loss.is_linear:
        raise ValueError(f"{tool}: noise=True does not go with a loss: outliers have no standard deviation; {give}")
    if problem.model is None and problem.sigma is None:
        raise ValueError(f"{tool}: noise=True cannot know whether this function divides by sigma; {give}")
    factor = 1.0 if spread.absolute_sigma else np.sqrt(spread.reduced_chi2)
    sigma = 1.0 if problem.sigma is None else np.asarray(problem.sigma, dtype=float)
    if np.size(sigma) == 1:
        return factor*abs(float(np.ravel(sigma)[0]))
    same = own_x or problem.xdata is x or np.shape(problem.xdata) == np.shape(x) and np.array_equal(problem.xdata, x)
    if not same:
        raise ValueError(f"{tool}: noise=True knows sigma at the {np.shape(sigma)[0]} data only, not at this x; {give}")
    return factor*(np.abs(sigma) if np.ndim(sigma) == 1 else np.sqrt(np.diag(sigma)))
