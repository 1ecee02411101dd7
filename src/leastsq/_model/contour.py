"""Joint confidence regions of two parameters, by profile: at each point of the outline all other parameters are refitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._uncertainty.covariance import covariances
from .._uncertainty.profile import Failed, Profiler, Stop
from .._uncertainty.student import f_quantile
from .words import known

__all__ = ["ContourResult", "contour"]

_CLOSE = 1e-4           # relative tolerance of the statistic at the outline
_REFITS = 30            # limit on the refits along one ray
_FAR = 1e3              # a search along a ray ends at this distance, in units of the ellipse


@dataclass(frozen=True, eq=False, repr=False)
class ContourResult:
    """
    The outline of a joint confidence region, returned by `FitResult.contour`.

    Attributes
    ----------
    names : tuple of str
        The names of the two parameters.
    level : float
    x, y : ndarray, shape (k + 1,)
        The outline, closed: the first point is also the last.  It includes the points at which either parameter is
        largest and smallest.  nan where nothing bounds the region.
    bounded : bool
        Do data and bounds bound the region on all sides?  If not, x and y hold the part of it found around the answer.
    center : tuple of float
        The fitted values.
    ellipse : ndarray, shape (2, points + 1)
        The outline for a linear model, from the covariance.
    nfev : int
        Number of evaluations.
    """

    names: tuple
    level: float
    x: np.ndarray
    y: np.ndarray
    center: tuple
    ellipse: np.ndarray
    nfev: int
    bounded: bool = True

    def __repr__(self):
        ends = [f"{name} from {np.nanmin(side):.6g} to {np.nanmax(side):.6g}" for name, side in zip(self.names, (self.x, self.y))]
        return f"{100*self.level:.4g} % joint confidence region: {', '.join(ends)}" + (
            "" if self.bounded else ", and more: the data do not bound it")

    def plot(self, ax=None):
        """
        The region, and the ellipse of a linear model.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .pictures import draw_contour
        return draw_contour(self, ax)


def contour(result, a, b, level, points):
    """The `ContourResult` of two parameters of a fit."""
    if not (isinstance(level, (int, float)) and 0 < level < 1):
        raise ValueError(f"contour: level must be between 0 and 1, got {level!r}")
    if isinstance(points, bool) or not hasattr(points, "__index__") or points < 4:
        raise ValueError(f"contour: points must be an integer from 4 up, got {points!r}")
    result._needs_model("contour")
    for name in (a, b):
        known(name, result.names, "contour")
    if a == b:
        raise ValueError(f"contour: the two parameters must differ, got {a!r} twice")
    spread, free = covariances(result._as_fitted())
    which = np.array([result.names.index(a), result.names.index(b)])
    for j in which:
        if free.fixed[j] or not np.isfinite(free.stderr[j]) or free.stderr[j] == 0:
            raise ValueError(f"contour: {result.names[j]} must be a free parameter that the data determine")
    dof = np.inf if free.absolute_sigma else free.dof
    limit = float(np.sqrt(2*f_quantile(level, 2, dof)))
    before = result.extra_nfev
    profiler = Profiler(result._as_fitted().problem, spread, free, limit, None)
    lower = np.linalg.cholesky(free.cov[np.ix_(which, which)])
    angles = np.linspace(0, 2*np.pi, int(points), endpoint=False)
    rays = lower @ np.array([np.cos(angles), np.sin(angles)])
    # the changes of the other parameters by these two
    towards = np.nan_to_num(free.cov[:, which] @ np.linalg.inv(free.cov[np.ix_(which, which)]))
    found = _extremes(profiler, which)
    if found is not None:
        outline = _slices(profiler, which, found, limit, free, int(points))
    else:                               # the region is unbounded on some side: the part of it around the answer
        outline, reach = np.full((2, angles.size), np.nan), 1.0
        for k, ray in enumerate(rays.T):
            whole, reach = _along(profiler, which, result.x, ray*limit, limit, towards, reach)
            outline[:, k] = np.nan if whole is None else whole[which]
    center = result.x[which]
    closed = [np.concatenate([side, side[:1]]) for side in outline]
    ellipse = center[:, None] + limit*np.column_stack([rays, rays[:, 0]])
    return ContourResult((a, b), float(level), *closed, tuple(map(float, center)), ellipse, result.extra_nfev - before,
                         found is not None)


def _extremes(profiler, which):
    """The profiles of both parameters, and all parameters at both ends of each; None if the region is unbounded there."""
    profiles, ends = [profiler.profile(j) for j in which], []
    for found in profiles:
        if not np.isfinite([found.lower, found.upper]).all():
            return None
        ends.append([found.x[np.argmin(np.abs(found.values - limit))] for limit in (found.lower, found.upper)])
    return profiles, ends


def _slices(profiler, which, found, limit, free, points):
    """
    The outline, anticlockwise, from slices: at each value of a, from the best fit of all other parameters down and up along b.

    This follows a curved valley, in which rays from the answer would leave the region early.
    """
    (profile, _), ((left, right), (bottom, top)) = found
    a, b = which
    part = free.cov[np.ix_(which, which)]
    unit = np.sqrt(part[1, 1] - part[0, 1]**2/part[0, 0])       # standard error of b with a known
    count = max(points - 4, 0)//2
    angles = np.pi*np.arange(1, count + 1)/(count + 1)
    inside = np.abs(profile.tau) <= 1.001*limit
    values = np.interp(-limit*np.cos(angles), profile.tau[inside], profile.values[inside])
    below, above = [bottom], [top]
    for value in values:
        guess = profile.x[np.argmin(np.abs(profile.values - value))]
        try:
            tau, best = profiler.tau(a, value, guess)
        except Stop:
            continue
        reach = unit*np.sqrt(max(limit**2 - tau**2, 1e-4*limit**2))
        for side, sign in ((below, -1), (above, 1)):
            whole = _along(profiler, which, best, np.array([0.0, sign*reach]), limit, None, 1.0, tau)[0]
            if whole is not None:
                side.append(whole)
    below.sort(key=lambda whole: whole[a])
    above.sort(key=lambda whole: -whole[a])
    return np.array([whole[which] for whole in (left, *below, right, *above)]).T


def _along(profiler, which, start, ray, limit, towards, reach, tau=0.0):
    """(all parameters at the point where a ray from inside leaves the region, its distance); (None, 1) if it does not leave."""
    with np.errstate(divide="ignore", invalid="ignore"):
        room = (np.where(ray > 0, profiler.high[which], profiler.low[which]) - start[which])/ray
    room = float(np.nanmin(np.where(ray == 0, np.inf, room)))
    if room <= 0:
        return start, reach
    low, high, guess = (0.0, tau), None, start
    distance = min(reach, room)
    for _ in range(_REFITS):
        values = np.clip(start[which] + distance*ray, profiler.low[which], profiler.high[which])
        try:
            tau, whole = profiler.tau(which, values, guess if towards is None else guess + towards @ (values - guess[which]))
        except Failed:
            tau, whole = np.inf, None
        except Stop:
            return None, 1.0
        if abs(tau - limit) <= _CLOSE*limit or distance == room and tau < limit:
            return whole, distance
        if tau < limit:
            low, guess = (distance, tau), whole
        else:
            high = (distance, tau)
        if high is None:
            if distance > _FAR:
                break
            distance = min(max(distance*min(limit/max(tau, 1e-3*limit), 3.0), 1.05*distance), room)
        elif np.isfinite(high[1]):
            secant = low[0] + (high[0] - low[0])*(limit - low[1])/(high[1] - low[1])
            edge = 0.05*(high[0] - low[0])
            distance = min(max(secant, low[0] + edge), high[0] - edge) if high[1] > 1.5*limit else secant
        else:
            distance = 0.5*(low[0] + high[0])
    return None, 1.0
