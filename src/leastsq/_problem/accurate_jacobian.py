"""A Jacobian at one point, as accurate as the function allows.

The solver's own forward differences are cheap and have only half of the
digits; the uncertainties of parameters need more.  Here every column gets its own step,
chosen by how much the residuals change and how straight they are over it, so that a
parameter near zero or with a tiny effect gets as accurate a column as any other. Then
Richardson's extrapolation in Ridders' form (Adv. Eng. Software 4, 1982, 75-76) gives the derivative and an
estimate of its error.  Complex steps, exact to rounding, are for functions that pass
complex numbers through.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np

from .arguments import jacobian_array
from .compiled import CFunction, call_compiled
from .counts import CountResiduals, impossible, of_means, score
from .derivatives import PRECISION
from .kinds import returned

__all__ = ["METHODS", "AccurateJacobian", "Evaluator", "accurate_jacobian", "evaluate_jacobian"]

METHODS = ("richardson", "3-point", "2-point", "cs")
_EPS = np.finfo(float).eps
_COMPLEX_STEP = 1e-100          # its square, the truncation error, is negligible
_STRAIGHT, _BENT = 1e-2, 1e-1   # second difference over first: below _STRAIGHT a step may grow, above _BENT it must shrink
_LOST = 450                     # a change of less than this many roundings of the residuals is rounding
_VISIBLE = 1e-3                 # a step should change the residuals by this fraction of their size
_ROUGH = 0.01                   # noise if the slope over a long step is below this fraction of that over the straight step,
_HIDDEN = 0.5                   # unless the straight step changes the residuals by more than this fraction of the noise
_CRAMPED = 8            # a step this many times the distance to a bound is one-sided
_PROBES = 40
_LEVELS = 10


@dataclass(frozen=True, eq=False)
class AccurateJacobian:
    """
    J, its estimated relative error for each column, f(x), the method, the number of evaluations, and the precision of f.

    For counts, J and f are those of scoring: ``J.T @ J`` is Fisher's information, ``J.T @ f`` half the gradient of the
    deviance, which is `cost`.
    """

    J: np.ndarray
    error: np.ndarray
    f: np.ndarray
    method: str
    nfev: int
    eps: float = _EPS
    cost: float | None = None           # twice the cost; None: the sum of the squares of f


class Evaluator:
    """``func(x, *args)`` as a function of x that returns a new float64 vector.

    Attributes
    ----------
    eps : float
        Precision of the dtype that func returned last.
    """

    def __init__(self, func, args=(), name="func"):
        self.args = args if isinstance(args, tuple) else (args,)
        self.func, self.name, self.eps = func, name, _EPS
        if isinstance(func, CFunction):
            if self.args:
                raise TypeError(f"args must be empty with a CFunction, got {len(self.args)} arguments")
        elif not callable(func):
            raise TypeError(f"{name} must be callable, got {type(func).__name__}")

    def __call__(self, x):
        return self.read(self.raw(x))

    def raw(self, x):
        """The result of func, unchanged."""
        return call_compiled(self.func, x) if isinstance(self.func, CFunction) else self.func(x.copy(), *self.args)

    def read(self, value):
        """A result of func as residuals."""
        value = np.asarray(returned(value, self.name))
        if value.ndim > 1:
            raise ValueError(f"{self.name} must return a vector, got shape {value.shape}")
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{self.name} must return real numbers, got dtype {value.dtype}")
        self.eps = PRECISION.get(value.dtype, _EPS)
        return np.array(value, dtype=float).reshape(-1)


def accurate_jacobian(problem, x, method=None, *, f0=None, steps=None, noise=None, data=0.0):
    """
    The Jacobian of a problem's function at `x`.

    Parameters
    ----------
    problem : Problem
        Gives the function, `Dfun` and the bounds: `func` is not called outside the bounds, and the column of a
        parameter whose bounds are equal is zero.
    x : ndarray, shape (n,)
    method : {None, "richardson", "3-point", "2-point", "cs"}
        None: use `Dfun`, whose errors are assumed to be rounding, or "richardson" if there is no `Dfun`.
    f0 : ndarray, optional
        ``func(x, *args)``, if known.
    steps : ndarray, shape (n,), optional
        Steps of central differences that are probably right, nan where none is known.  They are tried first,
        with two calls for each parameter, and used unless the residuals bend over them.
    noise : float, optional
        Changes of func smaller than this may be noise.  None: the norm of the residuals, which includes the noise.
    data : float, optional
        Norm of the data that func subtracts last, if known: the rounding errors of a difference scale with its terms.

    Returns
    -------
    AccurateJacobian

    Raises
    ------
    ValueError
        `method` is unknown; residuals at x are not finite; "cs" with a function
        that drops the imaginary part; no step gives finite residuals.
    """
    if method is not None and method not in METHODS:
        raise ValueError(f"method must be None or one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if isinstance(problem.func, CountResiduals):
        return _scored(problem, x, method, steps)
    counter = _Counter(Evaluator(problem.func, problem.args), problem.bounds)
    f0 = counter(x) if f0 is None else f0
    counter.size = f0.size
    if not np.isfinite(f0).all():
        bad = int(np.flatnonzero(~np.isfinite(f0))[0])
        raise ValueError(f"residuals are not finite at x: func(x)[{bad}] is {f0[bad]}")
    counter.noise, counter.data = np.linalg.norm(f0) if noise is None else noise, data
    if method is None and problem.Dfun is not None:
        return _given(problem, x, f0, counter)
    if method == "cs":
        return _complex_steps(problem, x, f0, counter)
    with np.errstate(all="ignore"):
        return _differences(counter, x, f0, method or "richardson", steps)


def _scored(problem, x, method, steps):
    """The same for counts: differentiates the expected counts, which bend less than the deviance residuals."""
    made = accurate_jacobian(of_means(problem), x, method, steps=steps, noise=0.0)
    residuals = problem.func.residuals(made.f)
    if not np.isfinite(residuals).all():
        k, count, mean = impossible(problem.func, made.f)
        raise ValueError(f"the model expects {mean:.6g} counts at point {k}, which is impossible for the observed count "
                         f"{count:.6g}")
    f, J = score(problem.func, made.f, made.J)
    return replace(made, f=f, J=J, cost=float(residuals @ residuals))


def evaluate_jacobian(Dfun, x, args, m, col_deriv=False, door="leastsq"):
    """The user's Jacobian at x, shape (m, n), as a new float64 array."""
    if isinstance(Dfun, CFunction):
        return call_compiled(Dfun, x, x.size)
    return jacobian_array(Dfun(x.copy(), *args), (m, x.size), door=door, col_deriv=col_deriv)


def _given(problem, x, f0, counter):
    J = evaluate_jacobian(problem.Dfun, x, problem.args, f0.size, problem.col_deriv)
    if not np.isfinite(J).all():
        row, column = map(int, np.argwhere(~np.isfinite(J))[0])
        raise ValueError(f"Dfun(x)[{row}, {column}] is {J[row, column]}")
    return AccurateJacobian(J, np.full(x.size, 4*counter.eps), f0, "Dfun", counter.nfev, counter.eps)


class _Counter:
    """Counts the evaluations of a function; an evaluation that fails at a probe counts as not finite."""

    def __init__(self, f, bounds=None):
        self.f, self.nfev, self.size, self.cause, self.noise, self.data = f, 0, None, None, 0.0, 0.0
        self.bounds = bounds

    def fixed(self, j):
        return self.bounds is not None and not self.bounds.free[j]

    @property
    def eps(self):
        """Precision of the residuals."""
        return self.f.eps

    def __call__(self, x):
        self.nfev += 1
        return self._sized(self.f(x))

    def _sized(self, value):
        if self.size is None:
            self.size = value.size
        elif value.size != self.size:
            raise ValueError(f"func changed size between calls: {self.size} residuals, then {value.size}")
        return value

    def probe(self, x):
        """f(x), or None if it is not finite or x is out of bounds."""
        if self.bounds is not None and not ((self.bounds.low <= x) & (x <= self.bounds.high)).all():
            return None
        self.nfev += 1
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                value = self.f.raw(x)
        except (ArithmeticError, ValueError) as error:      # raised by functions outside their domain
            self.cause = error
            return None
        value = self._sized(self.f.read(value))
        return value if np.isfinite(value).all() else None


# ------------------------------------------------------------------ differences

class _Column:
    """Central differences along one parameter, or one-sided ones at an edge of the domain."""

    def __init__(self, f, x, j, f0):
        self.f, self.x, self.j, self.f0 = f, x, j, f0
        self.down, self.up = (np.inf, np.inf) if f.bounds is None else (x[j] - f.bounds.low[j], f.bounds.high[j] - x[j])
        self.side = 0                   # +1, -1: only that side is finite
        if min(self.down, self.up) == 0:
            self.side = 1 if self.up > 0 else -1

    def is_cramped(self, h):
        """Is a bound so near that a central difference would be too short, and is there room on the other side?"""
        return not self.side and h > _CRAMPED*min(self.down, self.up) and h <= max(self.down, self.up)/2

    def leave_side(self):
        self.side = 1 if self.up > self.down else -1

    def at(self, h):
        shifted = self.x.copy()
        shifted[self.j] += h
        return self.f.probe(shifted), shifted[self.j] - self.x[self.j]

    def both(self, h):
        """(f(x + h), f(x - h), h up, h down), with f None where it is not finite; one-sided: the points at h and 2*h."""
        if self.side:
            near, a = self.at(self.side*h)
            far, b = self.at(2*self.side*h)
            return near, far, abs(a), abs(b)
        plus, a = self.at(h)
        minus, b = self.at(-h)
        return plus, minus, a, -b

    def forward(self, h):
        """The derivative by a forward difference."""
        plus, a = self.at(h)
        return None if plus is None else (plus - self.f0)/a

    def slope(self, h):
        """An estimate of the derivative whose error has only even powers of h (one-sided: all powers)."""
        if self.side:
            near, a = self.at(self.side*h)
            return None if near is None else (near - self.f0)/a
        plus, minus, a, b = self.both(h)
        return None if plus is None or minus is None else (plus - minus)/(a + b)

    def straight(self, h):
        """(slope, its relative error) over a step, if the residuals are straight over it and change visibly; else None."""
        plus, minus, a, b = self.both(h)
        if plus is None or minus is None or a + b == 0:
            return None
        change, bend = np.linalg.norm(plus - minus), np.linalg.norm((plus - self.f0) - (self.f0 - minus))
        rounding = self.f.eps*(np.linalg.norm(plus) + np.linalg.norm(self.f0) + self.f.data)
        if not bend <= _BENT*change or rounding > 1e-4*change:
            return None
        return (plus - minus)/(a + b), max((bend/change)**2, rounding/change)

    def change_and_bend(self, h):
        """(None, first difference, second difference) as norms; or (which sides are finite, None, None) if one is not."""
        plus, minus, a, b = self.both(h)
        if plus is None or minus is None:
            return (plus is not None, minus is not None), None, None
        if self.side:                   # of f0, near, far
            plus, minus, middle = minus, self.f0, plus
        else:
            middle = self.f0
        change, second = np.linalg.norm(plus - minus)/2, np.linalg.norm((plus - middle) - (middle - minus))/2
        if not (np.isfinite(change) and np.isfinite(second)):       # squares that overflow
            return (False, False), None, None
        return None, change, second


def _differences(f, x, f0, method, steps=None):
    n = x.size
    J, error = np.empty((f0.size, n), order="F"), np.empty(n)
    columns, scale = [_Column(f, x, j, f0) for j in range(n)], None
    for j, column in enumerate(columns):
        tried = None
        if f.fixed(j):
            tried = np.zeros(f0.size), 0.0
        elif steps is not None and np.isfinite(steps[j]):
            tried = column.straight(steps[j])
        if tried is not None:
            J[:, j], error[j] = tried
            continue
        scale = _size_of_changes(columns, x, f0) if scale is None else scale
        step = _step(column, abs(x[j]), scale)
        if step.size is None:
            J[:, j], error[j] = 0.0, 0.0
        elif step.rough:
            J[:, j], error[j] = column.slope(step.size), step.bend
        elif method == "richardson":
            J[:, j], error[j] = _richardson(column, step.size, step.limit)
        else:
            J[:, j], error[j] = _plain(column, step.size, scale, method)
    return AccurateJacobian(J, error, f0, method, f.nfev, f.eps)


def _size_of_changes(columns, x, f0):
    """The scale of the residuals: their norm, or a larger change of it by moving a parameter by 1 %."""
    scale = np.linalg.norm(f0)
    for j in np.flatnonzero(x):
        if not columns[j].f.fixed(j):
            plus, _ = columns[j].at(0.01*x[j])
            if plus is not None:
                scale = max(scale, np.linalg.norm(plus - f0))
    return scale


@dataclass(frozen=True)
class _Step:
    """A step: its size (None if no step changes the residuals), the limit beyond which f bends or ends, and whether it
    is rough, chosen long so that noise does not prevail."""

    size: float | None
    limit: float = np.inf
    rough: bool = False
    bend: float = 0.0


def _step(column, size, scale):
    """A step that changes f visibly and along which f is nearly straight."""
    h = start = min(0.01*size or 1e-3, max(column.down, column.up)/2)
    low, high = 0.0, np.inf             # too short: f hardly changes; too long: f bends or ends
    best, refused, finite = (0.0, None), np.zeros(2, dtype=int), False
    lost, seen = _LOST*column.f.eps, []
    for _ in range(_PROBES):
        if column.is_cramped(h):
            column.leave_side()
            low = 0.0
        missing, change, second = column.change_and_bend(h)
        bend = np.nan
        if missing is not None:
            high = h
            refused = refused + ~np.array(missing) if sum(missing) == 1 else 0*refused
            if refused.max() >= 6 and refused.min() == 0 and not column.side:
                column.side = 1 if refused[1] else -1   # one side is outside the domain
                h, low, high = start, 0.0, np.inf
                continue
        else:
            finite = True
            here = max(scale, change)
            bend = second/change if change > 0 else np.inf
            seen.append((h, change, bend))
            if max(change, second) <= lost*here:
                low = h
            elif bend <= _BENT and second <= 10*lost*here and change < _VISIBLE*here:
                best, low = max(best, (change, h)), h   # straight, as far as rounding allows to tell
            elif bend > _BENT or best[1] and best[0] > 1e4*lost*here and not 0.7 < change/h*best[1]/best[0] < 1.4:
                high = h                        # bent, or a different slope than over a shorter step
            else:
                best = max(best, (change, h))
                if change >= _VISIBLE*here or bend > _STRAIGHT:
                    break
                low = h
        if low and high < 4*low or h > 1e12*max(start, 1.0):
            break
        if low and np.isfinite(high):
            h = np.sqrt(low)*np.sqrt(high)
        elif low:
            h *= min(10*_VISIBLE*here/change, 30) if change > lost*here else 1e3
        else:
            h *= max(0.3*_BENT/bend, 0.03) if np.isfinite(bend) else 1/8
        if column.x[column.j] + h == column.x[column.j]:
            break
    if not finite:
        raise ValueError(f"no step along x[{column.j}] = {float(column.x[column.j])!r} gives finite residuals and slopes"
                         ) from column.f.cause
    for power in range(1, 7):           # all apparent bends may have been rounding
        if best[1] is not None:
            break
        missing, change, second = column.change_and_bend(start*1e3**power)
        if missing is None and change > 0 and second <= _BENT*change:
            return _Step(start*1e3**power)
    if best[1] is None and column.side and seen and all(abs(bend - 0.5) < 0.05 for _, change, bend in seen
                                                        if change > lost*scale):
        return _Step(None)              # like a square at its minimum: the slope is zero
    return _over_noise(column, start, best, seen) or _Step(best[1], high)


def _over_noise(column, start, best, seen):
    """A step long enough that noise does not prevail, if the step found before is within the noise; else None.

    The noise of an otherwise smooth function (from an interpolation, or a solver's tolerance) gives slopes over
    short steps that are far larger than those over long steps, while the residuals change by less than their
    norm, which includes the noise.
    """
    change, h = best
    flat = [] if h is None else [(s, c, b) for s, c, b in seen if s > 10*h and 0 < c < _ROUGH*change/h*s]
    if h is not None and (not flat or change > _HIDDEN*column.f.noise):
        return None
    found = list(seen)
    for factor in (3, 10, 30):
        missing, c, second = column.change_and_bend(factor*start)
        if missing is None and c > 0:
            found.append((factor*start, c, second/c))
    if h is not None and not any(_is_above_noise(point, found, column.f.noise) for point in flat):
        return None
    found = [(bend, step) for step, change, bend in found
             if change > 0 and step > 0.03*start and (h is None or step > 10*h)]
    if not found:
        return None
    bend, step = min(found)
    return _Step(step, rough=True, bend=min(bend, 1.0))


def _is_above_noise(point, found, noise):
    """Is the small slope over this step the slope of the function?

    It is not if the residuals no longer respond to the parameter, such as when a peak has left the data.  They respond
    if slopes over steps of other lengths agree, or if all of their change may be noise.
    """
    step, change, bend = point
    if max(change, bend*change) <= _HIDDEN*noise:
        return True
    return bend < _HIDDEN and any(not 1/1.5 < s/step < 1.5 and 1/1.5 < c/s*step/change < 1.5 for s, c, _ in found)


def _richardson(column, h, limit):
    """The derivative extrapolated to h = 0, and its relative error."""
    best, error = _tableau(column, h)
    for _ in range(3):
        if error < 1e-8 or 30*h > 0.5*limit:
            break
        h *= 30                                 # rounding prevails: longer steps may be better
        other, other_error = _tableau(column, h)
        if not other_error < error:
            break
        best, error = other, other_error
    if best is None:
        raise ValueError(f"no step along x[{column.j}] = {float(column.x[column.j])!r} gives finite residuals and slopes"
                         ) from column.f.cause
    return best, error


def _tableau(column, h):
    ratio = 2.0 if column.side else 4.0
    row, best, error = [], None, np.inf
    for level in range(_LEVELS):
        value = column.slope(h/2**level)
        if value is None:
            row = []
            continue
        new = [value]
        size = np.linalg.norm(value)
        if size == 0.0 and not row:
            return value, 0.0
        for k, old in enumerate(row):
            factor = ratio**(k + 1)
            new.append((factor*new[k] - old)/(factor - 1))
            guess = max(np.linalg.norm(new[k + 1] - new[k]), np.linalg.norm(new[k + 1] - old))
            guess = guess/size if size > 0 else guess
            if guess <= error:
                best, error = new[k + 1], guess
        if error < 1e-13 or (level > 2 and row and
                             np.linalg.norm(new[-1] - row[-1]) > 4*max(error, _EPS)*size):
            break
        row = new
    rounding = np.linalg.norm(column.f0)/(h*np.linalg.norm(best)) if best is not None and best.any() else 0.0
    return best, max(error, column.f.eps*max(4, rounding))


def _plain(column, straight, scale, method):
    """One difference, with a step that balances truncation and rounding; its error from a second one over twice the step.

    If the difference is not close to the slope over the straight step, it is noisy, and that slope is used instead.
    """
    missing, change, second = column.change_and_bend(straight)
    share = column.f.eps**(1/2 if method == "2-point" else 1/3)
    h = straight*min(1.0, share*max(scale, change)/change) if change else straight
    forward = method == "2-point" and not column.side
    slopes = [column.forward(step) if forward else column.slope(step) for step in (h, 2*h)]
    if slopes[0] is None:
        slopes = [column.slope(step) for step in (h, 2*h)]
    value, other = slopes
    if value is None:
        raise ValueError(f"no step along x[{column.j}] = {float(column.x[column.j])!r} gives finite residuals and slopes"
                         ) from column.f.cause
    size = np.linalg.norm(value)
    told = 1.0 if other is None or size == 0 else min(np.linalg.norm(value - other)/size, 1.0)
    over = column.slope(straight) if missing is None else None
    if over is not None:
        bent = min(second/change, 1.0)
        off = np.linalg.norm(value - over)
        if off > _BENT*np.linalg.norm(over):
            return over, bent
        if told > bent:                 # noise, which is smaller over the longer step
            return over, max(bent**2, told*h/straight)
    return value, max(told, share if forward or column.side else share**2)


# ---------------------------------------------------------------- complex steps

def _complex_steps(problem, x, f0, counter):
    func, args = problem.func, problem.args
    if isinstance(func, CFunction):
        raise ValueError("method 'cs' needs a Python function; a CFunction takes real numbers")
    n = x.size
    J = np.zeros((f0.size, n), order="F")
    for j in range(n):
        if counter.fixed(j):
            continue
        shifted = x.astype(complex)
        shifted[j] += 1j*_COMPLEX_STEP
        counter.nfev += 1
        with warnings.catch_warnings():         # ComplexWarning: replaced by the error below
            warnings.simplefilter("ignore")
            try:
                value = np.asarray(returned(func(shifted, *args)))
            except TypeError as error:
                raise ValueError("method 'cs': func does not accept complex parameters "
                                 f"({error}); use method='richardson'") from error
        if value.dtype.kind != "c":
            raise ValueError(f"method 'cs': func drops the imaginary part: it returned {value.dtype} for a "
                             "complex x (float(), .real, abs() or a real output array?); "
                             "use method='richardson'")
        if value.size != f0.size:
            raise ValueError(f"func changed size between calls: {f0.size} residuals, then {value.size}")
        # a nan in the real part may leave 0 in the imaginary one
        J[:, j] = np.where(np.isfinite(value.real), value.imag/_COMPLEX_STEP, np.nan).reshape(-1)
    if not np.isfinite(J).all():
        row, column = map(int, np.argwhere(~np.isfinite(J))[0])
        raise ValueError(f"method 'cs': the derivative of residual {row} with respect to x[{column}] "
                         f"is {J[row, column]}")
    _compare_with_differences(J, x, f0, counter)
    return AccurateJacobian(J, np.full(n, 4*_EPS), f0, "cs", counter.nfev, counter.eps)


def _compare_with_differences(J, x, f0, counter):
    """Raise ValueError if real differences disagree: func may drop the imaginary part in only some of its terms."""
    plain = _differences(counter, x, f0, "3-point").J
    size = np.linalg.norm(plain, axis=0)
    wrong = np.flatnonzero(np.linalg.norm(J - plain, axis=0) > 1e-3*np.maximum(size, np.linalg.norm(J, axis=0)))
    if wrong.size:
        j = int(wrong[0])
        raise ValueError(f"method 'cs': the complex derivative with respect to x[{j}] differs from that of real "
                         "differences: func drops the imaginary part on the way (abs(), .real, a "
                         "comparison or a real array?); use method='richardson'")
