"""The search for a start: tries many places, on scales that bounds and data suggest, and refines the best."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import copysign, exp, isfinite

import numpy as np

from .._fit.fit import Fit
from .._fit.status import SUCCESS
from .._problem.settings import Watching
from .._projection.probing import find_linear
from .._projection.projected import Projected
from .._projection.separable import Linear, SeparableFit
from .words import DOOR, sort_of

__all__ = ["Searched", "parse_starts", "search"]

SEED = 0                            # the same for every search
_MOST_REFINED = 6                   # limit on refined places
_ENOUGH = 3                         # refinement stops after this number of places ended in the same minimum
_STEPS = 40                         # limit on the steps of a refinement
_APART = 0.5                        # relative: of places nearer than this only the best is refined
_CALLS = {1: 48, 2: 200, 3: 500, 4: 1000}   # {number of searched parameters: calls of the model, with one linear parameter}
_MOST_CALLS = 2000                  # the same for more searched parameters
_SAME, _OTHER = 1e-3, 1e-2          # relative differences of chi2: up to _SAME the same minimum, from _OTHER on another
_DECADES = 3                        # sizes of a bounded parameter: decades below its largest bound
_NEGATIVE = 0.15                    # fraction of negative values where either sign is possible
_MAY_FAIL = (ArithmeticError, ValueError, np.linalg.LinAlgError)    # raised by models outside their domain


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """The result of a search.

    Attributes
    ----------
    x, origin : ndarray, shape (n,)
        The best place after refinement, and before it.
    linear : Linear or None
        The parameters that are solved for.
    tried, failed, nfev : int
        The number of places tried; of those at which the model was not finite or failed; of evaluations.
    minima : list of (float, bool)
        For each refined place its chi2, and whether the refinement converged.
    """

    x: np.ndarray
    origin: np.ndarray
    linear: Linear | None
    tried: int
    failed: int
    nfev: int
    minima: list

    def sentence(self, chi2, name="chi2"):
        """A sentence about the search for an answer with this chi2, or deviance; empty if all parameters were solved for."""
        if not self.tried:
            return ""
        found = sum(value <= chi2*(1 + _OTHER) for value, _ in self.minima)
        others = [value for value, ended in self.minima if ended and value > chi2*(1 + _OTHER)]
        times = {0: "not found again", 1: "found once", 2: "found twice"}.get(found, f"found {found} times")
        said = f"Without a start: the best of {self.tried} places, {times} from the best {len(self.minima)}"
        said += f"; next minimum at {name} {min(others):.6g}" if others else "; no other minimum was seen"
        if 2*self.failed > self.tried:
            said += f"; at {self.failed} places the model was not finite, or failed"
        return said + "."


def parse_starts(starts):
    """The user's number of places to try, or None."""
    if starts is None:
        return None
    if isinstance(starts, (bool, np.bool_)) or not hasattr(starts, "__index__"):
        raise TypeError(f"{DOOR}: starts must be a positive integer, got {sort_of(starts)}")
    if starts.__index__() < 1:
        raise ValueError(f"{DOOR}: starts must be a positive integer, got {starts}")
    return starts.__index__()


def search(problem, parameters, settings, linear, starts=None):
    """
    Look for a start.

    Parameters
    ----------
    problem : Problem
    parameters : Parameters
        Parameters whose start is nan are searched for.
    settings : Settings
        The settings of the fit that follows.
    linear : Linear or None
        None: no parameter is solved for.
    starts : int, optional
        The number of places to try; None: depends on the number of parameters.

    Returns
    -------
    Searched

    Raises
    ------
    ValueError
        The model is not finite at any place tried.
    Exception
        The model's own error, if it raises at every place.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return _Search(problem, parameters, settings, linear).run(starts)


class _Search:
    def __init__(self, problem, parameters, settings, linear):
        self.problem, self.parameters, self.settings, self.linear = problem, parameters, settings, linear
        self.draw = _Places(problem, parameters, np.random.default_rng(SEED))
        self.free = ~parameters.fixed
        self.calls, self.error, self.failed, self.raised = 0, None, 0, 0

    def run(self, starts):
        which = self._linear_ones()
        if self.linear is not None:
            self.linear = replace(self.linear, which=which, is_found=self.linear.which is None) if which else None
        self.searched = [j for j in np.flatnonzero(np.isnan(self.parameters.start) & self.free) if j not in which]
        projected = Projected(self.problem, self.parameters.start, which)
        each = max(len(which), 1)       # calls at each place
        limit = int(_CALLS.get(len(self.searched), _MOST_CALLS)*each**0.5)
        if self.settings.maxfev > 0:
            limit = min(limit, self.settings.maxfev//2)
        tried = starts if starts is not None else max(limit//each, 1)
        if not self.searched:
            tried = 1
        places = []
        for turn in range(tried):
            x = self.draw()
            cost = self._cost(projected, x)
            if isfinite(cost):
                places.append((cost, turn, x))
        self.calls += projected.calls + projected.jacobian_calls
        if not places and self.raised == tried:
            raise self.error
        if not places:
            at = ", ".join(f"{name} = {value:.3g}" for name, value in zip(self.parameters.names, x))
            raise ValueError(f"{DOOR}: start must be given: the model was not finite at any of the {tried} places that were "
                             f"tried, such as {at}") from self.error
        places.sort(key=lambda place: place[:2])
        best, minima = None, []
        for x in self._apart(places):
            found = self._refined(x)
            if found is None:
                continue
            minima.append(found[:2])
            if best is None or found[0] < best[0]:
                best = (*found, x)
            if sum(value <= best[0]*(1 + _SAME) for value, ended in minima if ended) >= _ENOUGH:
                break
        if best is None:                # no refinement succeeded: the fit will report why
            best = places[0][0], False, places[0][2], places[0][2]
        origin = best[3].copy()
        origin[which] = np.nan          # the tried values of linear parameters have no effect
        return Searched(best[2], origin, self.linear, tried if self.searched else 0, self.failed, self.calls, minima)

    # ------------------------------------------------------------ linear parameters

    def _linear_ones(self):
        """The linear parameters: those that the user named, or those that probing finds at two of three places."""
        if self.linear is None:
            return []
        if self.linear.which is not None:
            return list(self.linear.which)
        votes, asked = np.zeros(self.free.size, int), 0
        probing = Projected(self.problem, self.parameters.start, [])
        for _ in range(12):
            try:
                found = find_linear(probing.call, self.draw(), np.flatnonzero(self.free).tolist(), self.problem.bounds)
            except _MAY_FAIL:
                continue
            if found:
                votes[found] += 1
                asked += 1
            if asked == 3:
                break
        self.calls += probing.calls
        return np.flatnonzero(2*votes > max(asked, 1)).tolist()

    # ------------------------------------------------------------ places

    def _cost(self, projected, x):
        try:
            if not projected.linear.size:
                f = projected.call(x).astype(float)
            else:
                a = x[projected.rest]
                before, projected.x = projected.x, x
                found = projected.begin(a) if projected._last is None else projected.at(a)
                f = np.array([np.nan]) if found is None else found[2].residual
                self._note_constant(projected, found, before)
        except _MAY_FAIL as error:
            self.error, self.failed, self.raised = error, self.failed + 1, self.raised + 1
            return np.inf
        cost = self.problem.loss.cost(f) if np.isfinite(np.sum(f)) else np.inf
        self.failed += not isfinite(cost)
        return cost

    _offset = None

    def _note_constant(self, projected, found, before):
        """Evaluate the residuals at zero linear parameters only until two places give the same."""
        if found is None or projected.zero.any():
            return
        if self._offset is not None and np.array_equal(self._offset, found[0]):
            projected.constant = self._offset
        self._offset = found[0]

    def _apart(self, places):
        """The best places, without places close to a better one."""
        chosen = []
        for _, _, x in places:
            a = x[self.searched]
            if all((np.abs(a - b) > _APART*np.maximum(np.abs(a), np.abs(b))).any() for b in chosen):
                chosen.append(a)
                yield x
            if len(chosen) == _MOST_REFINED or not self.searched:
                return

    def _refined(self, x):
        """(chi2, converged, x) after a few steps from x; None if the model failed."""
        n = int(self.free.sum())
        settings = replace(self.settings, maxfev=(_STEPS + 2)*(n + 2), factor=1.0)
        job = (Fit(self.problem, x, settings, Watching()) if self.linear is None else
               SeparableFit(self.problem, x, self.linear, settings, Watching()))
        try:
            out = job.solve(self.linear is None)
        except _MAY_FAIL as error:
            self.error = error
            return None
        self.calls += out[3]
        cost = self.problem.loss.cost(out[2]) if np.isfinite(np.sum(out[2])) else np.inf
        return (cost, out[1] in SUCCESS, out[0]) if isfinite(cost) else None


class _Places:
    """Random places: each call returns values for all parameters."""

    def __init__(self, problem, parameters, rng):
        self.rng, self.start, n = rng, parameters.start, parameters.start.size
        bounds = problem.bounds
        self.low, self.high = (np.full(n, -np.inf), np.full(n, np.inf)) if bounds is None else (bounds.low, bounds.high)
        self.priors = {j: (mean, width) for j, mean, width in parameters.priors}
        self.scales = _scales(problem.sets)

    def __call__(self):
        return np.array([self._one(j) for j in range(self.start.size)])

    def _one(self, j):
        low, high, start = self.low[j], self.high[j], self.start[j]
        if start == start:
            return start
        for _ in range(20):
            value = self._free(j, low, high)
            if low <= value <= high:
                return value
        value = self._size()
        return min(low + value, high) if isfinite(low) else max(high - value, low)

    def _free(self, j, low, high):
        rng = self.rng
        if j in self.priors and rng.random() < 0.7:
            mean, width = self.priors[j]
            return mean + 2*width*rng.standard_normal()
        if isfinite(high - low) and rng.random() < 0.7:
            nearest = min(abs(low), abs(high)) if low*high > 0 else 0.0
            if rng.random() < 0.5 or nearest == 0 and low*high < 0:
                return low + (high - low)*rng.random()
            largest = max(abs(low), abs(high))
            least = max(nearest, largest*10.0**-_DECADES)
            return copysign(least*(largest/least)**rng.random(), high if high > 0 else low)
        kind, first, last = self.scales[rng.integers(len(self.scales))]
        if kind == "place":
            return first + (last - first)*rng.random()
        value = first*(last/first)**rng.random()
        if high <= 0 or low < 0 and rng.random() < _NEGATIVE:
            return -value
        return value

    def _size(self):
        kind, first, last = self.scales[self.rng.integers(len(self.scales))]
        return first*(last/first)**self.rng.random() if kind == "size" else exp(self.rng.standard_normal())


def _scales(sets):
    """Ranges of likely parameters, from x and y: ("size", least, largest) for sizes, ("place", first, last) for positions."""
    found = []
    for data in sets:
        for values in _columns_of(data.x):
            values = np.unique(values[np.isfinite(values)])
            if not values.size or not np.abs(values).max() > 0:
                continue
            top, span = float(np.abs(values).max()), float(np.ptp(values))
            between = float(np.median(np.diff(values))) if values.size > 1 else top
            found += [("size", 0.1/top, 3/between),                      # rates, frequencies
                      ("place", float(values[0]), float(values[-1])),
                      ("size", between, 3*max(top, span)),              # widths, times
                      ("size", 0.1/top**2, 10/top**2)]                  # coefficients of squares
        height = float(np.abs(data.values).max())
        if height > 0:
            found.append(("size", 0.05*height, 20*height))
    found = [one for one in dict.fromkeys(found) if all(map(isfinite, one[1:])) and (one[0] == "place" or one[1] > 0)]
    return [*found, ("size", 0.1, 10.0), ("size", 0.1, 10.0)]           # dimensionless: exponents, shapes


def _columns_of(x):
    """The arrays of numbers in a model's x, each as a vector; of a stack of predictors, each predictor."""
    if hasattr(x, "columns") and hasattr(x, "items"):
        parts = [column for _, column in x.items()]
    elif isinstance(x, Mapping):
        parts = list(x.values())
    else:
        parts = list(x) if isinstance(x, (tuple, list)) else [x]
    for part in parts:
        try:
            array = np.asarray(part, float)
        except (TypeError, ValueError):
            continue
        yield from array.reshape(len(array), -1) if array.ndim > 1 else (array.ravel(),)
