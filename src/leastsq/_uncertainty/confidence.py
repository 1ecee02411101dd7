"""Confidence intervals of fitted parameters, and the band of a fitted curve."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .._problem.accurate_jacobian import accurate_jacobian
from .._problem.bounds import Bounds
from .._problem.losses import LINEAR
from .covariance import CovarianceResult, covariances
from .format import label, value_and_error
from .names import _parameters, loose_problem
from .profile import Profile, Profiler, progress_line
from .student import f_quantile, t_quantile

__all__ = ["BandResult", "ConfidenceResult", "confidence_band", "confidence_intervals", "profile_time"]


@dataclass(frozen=True, eq=False, repr=False)
class ConfidenceResult:
    """
    What `confidence_intervals` returns.

    Attributes
    ----------
    x, lower, upper : ndarray, shape (n,)
        The parameters and their limits.  nan: no limit could be computed;
        infinite: the data set none; `reasons` says why.
    level : float
    method : str
        "t" or "profile".
    t : float
        Student's t of the level.
    covariance : CovarianceResult
    profiles : dict
        A `Profile` for each profiled parameter (key: its index).
    reasons : list of str
        Why limits are missing.
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

    def __repr__(self):
        names = self.covariance.names
        rows = []
        for j in range(self.x.size):
            widths = [w for w in (self.upper[j] - self.x[j], self.x[j] - self.lower[j]) if 0 < w < np.inf]
            error = min(widths, default=self.covariance.stderr[j])
            ends = [value_and_error(v, error)[0] for v in (self.x[j], self.lower[j], self.upper[j])]
            rows.append((label(j, names), *ends))
        width = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = [f"  {row[0]:<{width[0]}}  {row[1]:>{width[1]}}   [{row[2]:>{width[2]}}, {row[3]:>{width[3]}}]"
                 for row in rows]
        kind = "from Student's t" if self.method == "t" else "from likelihood profiles"
        return "\n".join([f"{100*self.level:.4g} % confidence intervals {kind}", *lines, *self.reasons])


def confidence_intervals(func, x, args=(), Dfun=None, *, level=0.95, method="t", parameters=None,
                         names=None, sigma=None, absolute_sigma=False, points=0, timeout=None,
                         progress=False, bounds=None, loss=LINEAR, f_scale=1.0):
    r"""
    Confidence intervals of fitted parameters.

    Parameters
    ----------
    func : callable or CFunction
        Residuals ``func(x, *args)``, as in `leastsq`.
    x : array_like, shape (n,)
        The fitted parameters, at a minimum.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.
    Dfun : callable, optional
        Jacobian ``Dfun(x, *args)`` of shape (m, n).
    level : float, optional
        Confidence level, between 0 and 1.
    method : {"t", "profile"}, optional
        "t": value plus and minus Student's t times the standard error; exact for a
        model that is linear in its parameters.  "profile": the values of a
        parameter for which the best fit of all the others is no worse than
        the F test permits, found by refits; follows the model's curvature, so that the
        interval need not be symmetric, nor bounded.
    parameters : sequence of int or str, optional
        Which to profile, by index or name.  None: all.
    names : sequence of str, optional
    sigma : float or array_like, optional
        As in `covariance`.
    absolute_sigma : bool, optional
        As in `covariance`; then the normal quantile takes the place of t.
    points : int, optional
        Additional refits on each side of the minimum, for a smooth curve
        in `plot.profile`.
    timeout : float, optional
        Seconds after which limits that are still missing become nan.
    progress : bool, optional
        Show an estimate of the time and a progress line (with tqdm if it is
        installed) on stderr.
    bounds : 2-tuple or object with lb and ub, optional
        As in `leastsq`: `func` is not called outside, refits keep within, and an interval
        ends at a bound.  For a parameter that is at its bound, "t" gives nan: its
        estimate is not normally distributed; "profile" applies.
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
    profile_time : how long profiles will take.

    Notes
    -----
    The profile statistic of parameter value v is
    :math:`\tau(v) = \pm\sqrt{(S(v) - S_{min})/s^2}`, S(v) the least sum of squares with
    the parameter held at v; the limits are where it is plus and minus Student's t [1]_.
    Refits start from their neighbour's solution.  Between bounds the least sum of squares
    is that between them, and the interval of a parameter near its bound holds the truth
    at least as often as `level` says.  With a loss, S is the sum of the losses, and
    :math:`s^2` Huber's variance of it, mean(psi^2)/mean(psi') [2]_.

    References
    ----------
    .. [1] D. M. Bates, D. G. Watts, "Nonlinear Regression Analysis and Its
       Applications" (1988), section 6.1.
    .. [2] P. J. Huber, E. M. Ronchetti, "Robust Statistics", 2nd ed. (2009), section 7.6.

    Examples
    --------
    Oxygen demand, of which the data do not show the plateau well:

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
    began = time.perf_counter()
    if method not in ("t", "profile"):
        raise ValueError(f"method must be 't' or 'profile', got {method!r}")
    if not (isinstance(level, (int, float)) and 0 < level < 1):
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    x = _parameters(x)
    problem = loose_problem(func, args, Dfun, x, sigma=sigma, absolute_sigma=absolute_sigma, names=names, bounds=bounds,
                            loss=loss, f_scale=f_scale)
    spread, free = covariances(problem, x)
    chosen = _chosen(parameters, spread)
    t = (free if method == "profile" else spread).t(level)
    reasons = [f"{spread.label(j)}: the data do not determine it." for j in range(x.size)
               if np.isinf(spread.stderr[j]) and spread.dof > 0]
    if spread.dof <= 0:
        reasons.append("There are no more residuals than parameters: no degrees of freedom, no intervals.")
    with np.errstate(invalid="ignore"):
        reach = t*spread.stderr
    lower, upper = x - reach, x + reach
    if spread.bounds is not None:
        reasons += _cut(spread, lower, upper, method)
        chosen = [j for j in chosen if not free.fixed[j]]
    profiles, nfev = {}, spread.nfev
    if method == "profile":
        others = np.setdiff1d(np.arange(x.size), chosen)
        lower[others] = upper[others] = np.nan
        if free.dof > 0:
            profiler = Profiler(problem, spread, free, t, None if timeout is None else began + timeout)
            with progress_line(progress, profiler, 2*len(chosen)) as tell:
                for j in chosen:
                    profile = profiler.profile(j, points, tell)
                    profiles[j] = profile
                    lower[j], upper[j] = profile.lower, profile.upper
                    reasons += profile.reasons
            nfev += profiler.nfev
    return ConfidenceResult(x, lower, upper, float(level), method, float(t), spread, profiles,
                            list(dict.fromkeys(reasons)), nfev, time.perf_counter() - began)


def _cut(spread, lower, upper, method):
    """End intervals at the bounds, in place; say what of that is worth knowing."""
    (low, high), reasons = spread.bounds, []
    for j in np.flatnonzero(low == high):
        reasons.append(f"{spread.label(j)}: it is fixed.")
    if method == "t":
        for j in np.flatnonzero(spread.fixed & (low < high)):
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
            raise ValueError(f"parameters: there is no parameter {p}, but {spread.x.size} in all")
        chosen.append(int(p) % spread.x.size)
    return chosen


def profile_time(func, x, args=(), Dfun=None, *, parameters=None, sigma=None, bounds=None, loss=LINEAR,
                 f_scale=1.0):
    """
    Estimate how long ``confidence_intervals(method="profile")`` will take.

    Parameters
    ----------
    func, x, args, Dfun, parameters, sigma, bounds, loss, f_scale
        As in `confidence_intervals`.

    Returns
    -------
    float
        Seconds, from one refit made on trial.  Right within a factor of two or
        three for well-behaved models.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import profile_time
    >>> t = np.arange(5.0)
    >>> profile_time(lambda x: x[0] + x[1]*t - t**2, [-2.0, 4.0]) < 1
    True
    """
    x = _parameters(x)
    problem = loose_problem(func, args, Dfun, x, sigma=sigma, bounds=bounds, loss=loss, f_scale=f_scale)
    spread, free = covariances(problem, x, method=None if Dfun else "3-point")
    profiler = Profiler(problem, spread, free, free.t(0.95), None)
    return profiler.estimate(2*len(_chosen(parameters, spread)))


# --------------------------------------------------------------------- the band

@dataclass(frozen=True, eq=False)
class BandResult:
    """
    What `confidence_band` returns; all of shape (k,).

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


def confidence_band(model, x, cov, args=(), *, level=0.95, dof=None, noise=None, method=None,
                    simultaneous=False):
    """
    Confidence band of a fitted curve, or of anything computed from the parameters.

    Parameters
    ----------
    model : callable
        ``model(x, *args)``: the curve's values at the k points where the band is
        wanted.
    x : array_like, shape (n,)
        The fitted parameters.
    cov : CovarianceResult or array_like, shape (n, n)
        Their covariance.  If it was made with bounds, `model` is not called outside of them,
        and parameters on one count as known.
    args : tuple, optional
        Further arguments of `model`.
    level : float, optional
        Confidence level at each point, or with `simultaneous` of the whole curve.
    dof : float, optional
        Degrees of freedom for Student's t, if `cov` is a matrix; None: the normal
        distribution.
    noise : float or array_like, shape (k,), optional
        Standard deviation of one observation: the band is then that of new
        observations (a prediction band).  True: the residuals' own, from `cov`.
    method : optional
        How to differentiate, as in `covariance`.
    simultaneous : bool, optional
        Scheffé's band, which with confidence `level` holds the curve at all points at
        once: wider, with sqrt(k F) for t, k the number of uncertain parameters that the
        curve depends on and F the quantile of Fisher's F for k and `dof`.

    Returns
    -------
    BandResult

    Raises
    ------
    ValueError
        Sizes do not agree; the model is not finite; ``noise=True`` with a matrix, or a
        covariance with a loss; `noise` and `simultaneous`, for no band holds all new
        observations.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import confidence_band, covariance, leastsq
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def curve(x, t):
    ...     return x[0]*np.exp(-x[1]*t)
    >>> def residual(x):
    ...     return curve(x, t) - y
    >>> x, ier = leastsq(residual, [1.0, 1.0])
    >>> band = confidence_band(curve, x, covariance(residual, x), (np.array([0.0, 10.0]),))
    >>> band.fit.round(3), (band.upper - band.lower).round(3)
    (array([5.081, 0.033]), array([0.365, 0.021]))
    """
    x = _parameters(x)
    bounds = None
    if simultaneous and noise is not None:
        raise ValueError("noise and simultaneous exclude each other: there is no end of new observations, and no band "
                         "that holds them all")
    if isinstance(cov, CovarianceResult):
        matrix, t, bounds = cov.cov, cov.t(level), None if cov.bounds is None else Bounds(*cov.bounds)
        dof = np.inf if cov.absolute_sigma else cov.dof
        if noise is True:
            if cov.loss != LINEAR:
                raise ValueError("noise=True does not go with a loss: outliers have no standard deviation; give that "
                                 "of the other observations")
            noise = 1.0 if cov.absolute_sigma else np.sqrt(cov.reduced_chi2)
        if cov.fixed.any():
            matrix = np.where(cov.fixed[:, None] | cov.fixed, 0.0, matrix)
    else:
        matrix = np.asarray(cov, dtype=float)
        dof = np.inf if dof is None else dof
        t = t_quantile(level, dof)
        if noise is True:
            raise ValueError("noise=True needs a CovarianceResult; give the standard deviation")
    if matrix.shape != (x.size, x.size):
        raise ValueError(f"cov must have shape ({x.size}, {x.size}), got {matrix.shape}")
    made = accurate_jacobian(model, x, args, None, method, bounds=bounds)
    with np.errstate(invalid="ignore"):
        touched = np.abs(made.J).max(axis=0, initial=0.0) > 0
        J = made.J[:, touched]
        variance = np.einsum("ij,jk,ik->i", J, matrix[np.ix_(touched, touched)], J)
        if noise is not None:
            variance = variance + np.asarray(noise, dtype=float)**2
        stderr = np.sqrt(variance)
    if simultaneous:
        k = int((touched & (np.diag(matrix) > 0)).sum())
        t = np.inf if not dof > 0 else np.sqrt(k*f_quantile(level, k, dof)) if k else 0.0
    return BandResult(made.f, stderr, made.f - t*stderr, made.f + t*stderr)
