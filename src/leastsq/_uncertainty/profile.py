"""Likelihood profiles: refits with one parameter held, followed up to Student's t."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import numpy as np

from .._fit.leastsq import leastsq
from .._fit.status import SUCCESS, Status
from .._problem.accurate_jacobian import Evaluator, evaluate_jacobian
from .._problem.counts import CountResiduals, of_means

__all__ = ["Failed", "Profile", "Profiler", "Stop", "progress_line"]

_CLOSE = 1e-5           # the statistic is found to this fraction of t
_REFITS = 60            # the most refits on one side
_TYPICAL_REFITS = 7
_FIRST = 0.1            # the first step, as a fraction of Student's interval
_STRAYED = 3            # a statistic this many times t does not belong to a neighbour of the last point
_FLAT = 1e6             # the search ends this many standard errors away from x


@dataclass(frozen=True, eq=False)
class Profile:
    """
    The profile of one parameter.

    Attributes
    ----------
    parameter : int
    values : ndarray, shape (k,)
        The values at which it was held, increasing.
    tau : ndarray, shape (k,)
        Signed root of the increase in the sum of squares, in units of the
        residual variance; Student's t if the model is linear.
    x : ndarray, shape (k, n)
        All parameters at each value.
    lower, upper : float
        Limits of the interval.
    reasons : list of str
        The reason for a missing limit.
    """

    parameter: int
    values: np.ndarray
    tau: np.ndarray
    x: np.ndarray
    lower: float
    upper: float
    reasons: list[str]


class Stop(Exception):
    """A limit cannot be found; carries the reason, the limit to report and the points found."""

    def __init__(self, reason, limit=np.nan, found=()):
        super().__init__(reason)
        self.limit, self.found = limit, found


class Failed(Stop):
    """A refit failed; one after a shorter step may not."""


class Profiler:
    """Profiles of one fit: the function, its minimum, and the statistic that each side must reach.

    Refits stay within the bounds of `spread`, and minimize its losses.  `free` is the covariance as
    if no bound held, which gives the range of the search and the variance of the residuals: a
    bound that holds at the minimum may not hold along the profile.
    """

    def __init__(self, problem, spread, free, t, deadline):
        self.problem, self.spread, self.free, self.x = problem, spread, free, spread.x
        self.t, self.deadline, self.nfev = t, deadline, 0
        bounds = problem.bounds
        infinite = np.full(self.x.size, np.inf)
        self.low, self.high = (-infinite, infinite) if bounds is None else (bounds.low, bounds.high)
        self._evaluate = Evaluator(problem.func, problem.args)
        self._mean = Evaluator(of_means(problem).func, problem.args)       # the expected counts, with loss="poisson"
        self.stretch = free._stretch
        self.variance = 1.0 if problem.absolute_sigma or self.stretch is not None else free.reduced_chi2*free._bend
        self.least = spread.chi2

    def residual(self, x):
        self.nfev += 1
        f = self._evaluate(x)
        self.size = f.size
        return f

    def refit(self, j, value, guess):
        """The least cost with parameter j at `value`, and its point; or with several parameters at several values."""
        if self.deadline is not None and time.perf_counter() > self.deadline:
            raise Stop("the time was up")
        problem, free = self.problem, self.low < self.high
        free[j] = False
        whole = np.clip(guess, self.low, self.high)
        whole[j] = value
        if not free.any():
            return self.problem.loss.cost(self.residual(whole)), whole

        def reduced(z):
            whole[free] = z
            return self.residual(whole)

        def mean(z):
            self.nfev += 1
            whole[free] = z
            f = self._mean(whole)
            self.size = f.size
            return f

        if problem.loss.is_poisson:
            reduced = CountResiduals(mean, problem.loss.counts, problem.func.others)
        def derivative(z):
            whole[free] = z
            return evaluate_jacobian(problem.Dfun, whole, problem.args, self.size, problem.col_deriv,
                                     "confidence_intervals")[:, free]

        with np.errstate(all="ignore"):
            z, _, info, mesg, ier = leastsq(
                reduced, whole[free], Dfun=None if problem.by_differences else derivative, full_output=True,
                ftol=1e-10, xtol=1e-10, maxfev=100*(self.x.size + 1),
                bounds=None if problem.bounds is None else (self.low[free], self.high[free]),
                **problem.loss.options)
        if ier not in (*SUCCESS, Status.FTOL_TOO_SMALL, Status.XTOL_TOO_SMALL, Status.GTOL_TOO_SMALL):
            raise Failed(f"the refit at {_said(value)} failed ({' '.join(mesg.split())})")
        whole[free] = z
        return self.problem.loss.cost(np.atleast_1d(info["fvec"])), whole

    def tau(self, j, value, guess):
        """The absolute value of the profile statistic, and the parameters there."""
        squares, whole = self.refit(j, value, guess)
        gain = squares - self.least
        if not np.isfinite(gain):
            raise Failed(f"the residuals are not finite at {_said(value)}")
        if gain < -1e-6*max(self.least, self.variance):
            raise Stop(f"x is not the minimum: with this parameter at {_said(value)} the sum of squares is "
                        f"{squares:.6g}, less than {self.least:.6g}; fit again from there")
        # with priors, only the variance of the data is estimated, so each parameter has its own unit of the statistic
        unit = self.variance if self.stretch is None else np.exp(np.mean(np.log(self.stretch[j])))
        return np.sqrt(max(gain, 0.0)/unit), whole

    def side(self, j, sign, points):
        """The points (value, tau, x) outwards on one side, and the limit."""
        bound = self.low[j] if sign < 0 else self.high[j]
        room = abs(bound - self.x[j])
        if room == 0:
            raise Stop("the parameter is at its bound", bound)
        unit = self.free.stderr[j]
        if not np.isfinite(unit) or unit == 0.0:
            raise Stop("its standard error is not known" if unit else "its standard error is zero")
        towards = np.nan_to_num(self.free.cov[:, j]/self.free.cov[j, j], posinf=0.0, neginf=0.0)
        found = [(self.x[j], 0.0, self.x)]
        walk, low, high, edge = [(0.0, 0.0)], (0.0, 0.0), None, np.inf     # (distance, tau)
        distance = _FIRST*self.t*unit
        for _ in range(_REFITS):
            distance = min(distance, room)
            value = bound if distance == room else self.x[j] + sign*distance
            try:
                tau, whole = self._best(found, j, value, towards)
            except Failed:
                if distance - low[0] < 1e-3*unit:
                    raise
                edge = distance                 # perhaps outside the domain: go back half of the way
                distance = 0.5*(low[0] + edge)
                continue
            found.append((value, tau, whole))
            walk.append((distance, tau))
            if abs(tau - self.t) <= _CLOSE*self.t:
                break
            if distance == room and tau < self.t:
                raise Stop(f"its bound (tau is {tau:.3g} there, the limit would be where it is {self.t:.3g})", bound,
                            found)
            if tau < self.t:
                low = max(low, walk[-1])
            elif high is None or distance < high[0]:
                high = walk[-1]
            if high is None and distance > _FLAT*unit:
                raise Stop(f"none: the data do not bound it there (tau is {tau:.3g} at {value:.3g}, "
                            f"the limit is where it is {self.t:.3g})", sign*np.inf)
            distance = min(self._next(walk, low, high, unit), 0.5*(low[0] + edge))
            if edge - low[0] < 1e-3*unit:
                raise Stop(f"the function or the refit fails beyond {value:.6g}")
        else:
            raise Stop(f"not found in {_REFITS} refits")
        limit = value
        reached = sorted(point for point in walk if point[0] <= distance)
        shares = np.arange(1, points + 1)/(points + 1)              # evenly spaced in tau
        for far in np.interp(shares*self.t, [tau for _, tau in reached], [d for d, _ in reached]):
            value = self.x[j] + sign*min(far, room)
            tau, whole = self._best(found, j, value, towards)
            found.append((value, tau, whole))
        return found, limit

    def _best(self, found, j, value, towards):
        """tau at this value; if a refit seems to have gone astray, the better of two starts."""
        try:
            tau, whole = self.tau(j, value, self._guess(found, j, value, towards))
        except Failed:
            tau, whole = np.inf, None
        if tau > _STRAYED*self.t:
            near = sorted((p for p in found if p[1] <= _STRAYED*self.t), key=lambda p: abs(p[0] - value))
            try:
                other = self.tau(j, value, near[0][2])
            except Failed:              # outside the domain: try points on the way to it
                inside = [p for p in near[1:] if abs(p[0] - self.x[j]) < abs(value - self.x[j])]
                if not inside:
                    raise
                other = self.tau(j, value, inside[0][2])
            tau, whole = min((tau, whole), other, key=lambda p: p[0])
        return tau, whole

    def _next(self, walk, low, high, unit):
        """The secant method on the statistic, which is nearly straight; bisection where it is not."""
        (before, tau_before), (distance, tau) = walk[-2:]
        if tau != tau_before:
            guess = distance + (before - distance)*(self.t - tau)/(tau_before - tau)
        else:
            guess = np.inf
        if high is None:
            # Where the statistic follows Student's line, the whole way in one step; otherwise in
            # small steps, because a profile may fall again after a maximum.
            straight = abs(tau*unit/distance - 1) < 0.1
            most = 1.2*self.t*unit if straight else (2 if distance < 3*self.t*unit else 4)*distance
            return min(max(guess, 1.1*distance), max(most, 1.1*distance))
        if not low[0] < guess < high[0] or high[1] > _STRAYED*self.t or len(walk) > 12:
            return 0.5*(low[0] + high[0])
        return guess

    def _guess(self, found, j, value, towards):
        """A start for the other parameters: from the nearest point, along the last two points or the covariance."""
        near = sorted((p for p in found if p[1] <= _STRAYED*self.t), key=lambda p: abs(p[0] - value))[:2]
        if len(near) == 2 and near[0][0] != near[1][0]:
            towards = (near[0][2] - near[1][2])/(near[0][0] - near[1][0])
        return near[0][2] + towards*(value - near[0][0])

    def profile(self, j, points=0, tell=lambda: None):
        everything, limits, reasons = [(self.x[j], 0.0, self.x)], [], []
        for sign in (-1, 1):
            try:
                found, limit = self.side(j, sign, points)
            except Stop as stop:
                found, limit = stop.found, stop.limit
                reasons.append(f"{self.spread.label(j)}, {'lower' if sign < 0 else 'upper'} limit: {stop}.")
            everything += [(v, sign*tau, whole) for v, tau, whole in found[1:]]
            limits.append(float(limit))
            tell()
        everything.sort(key=lambda point: point[0])
        values, tau, whole = zip(*everything, strict=True)
        return Profile(j, np.array(values), np.array(tau), np.array(whole), *limits, reasons)

    def estimate(self, sides):
        """An estimate of the seconds for `sides` sides, from one refit half a standard error away."""
        known = np.flatnonzero(np.isfinite(self.free.stderr) & (self.free.stderr > 0))
        if not known.size:
            return 0.0
        j = int(known[0])
        began = time.perf_counter()
        try:
            step = 0.5*self.free.stderr[j]
            up, down = min(self.x[j] + step, self.high[j]), max(self.x[j] - step, self.low[j])
            self.tau(j, up if up > self.x[j] else down, self.x)
        except Stop:
            pass
        return (time.perf_counter() - began)*_TYPICAL_REFITS*sides


def _said(values):
    return ", ".join(f"{value:.6g}" for value in np.atleast_1d(values))


class progress_line:
    """A context that gives the function to call after each side; see `progress_of` for why it is not a generator."""

    def __init__(self, wanted, profiler, sides):
        self.wanted, self.profiler, self.sides, self.done, self.bar = wanted, profiler, sides, 0, None

    def __enter__(self):
        if not self.wanted:
            return lambda: None
        seconds = self.profiler.estimate(self.sides)
        print(f"profiles: {self.sides} limits, about {seconds:.2g} s", file=sys.stderr)
        try:
            from tqdm import tqdm
        except ImportError:
            return self.tell
        self.bar = tqdm(total=self.sides, desc="profiles", unit="limit")
        return self.bar.update

    def tell(self):
        self.done += 1
        print(f"\rprofiles: {self.done} of {self.sides} limits", end="\n" if self.done == self.sides else "",
              file=sys.stderr, flush=True)

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()
