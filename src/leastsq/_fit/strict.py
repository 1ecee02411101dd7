"""strict=True: find mistakes in the user's functions while a fit uses them."""

from __future__ import annotations

import inspect
import warnings

import numpy as np

from .._problem.accurate_jacobian import accurate_jacobian
from .._problem.arguments import real_array
from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction
from .._problem.problem import Problem
from .._problem.words import LEASTSQ
from .ends import Ends

__all__ = ["StrictError", "StrictWarning", "Watch"]

_SAME = 1e-11           # relative: results this close count as equal
_BLUNT = 0.05           # relative: forward differences this far off mislead the solver
_LOST = 100*2.0**-52    # relative to the residuals: a smaller change is rounding
_OTHER_STEPS = (0.1, 0.01, 1e-3, 1e-4, 10.0, 100.0, 1e3, 1e4, 1e6, 1e8)        # factors to try if the solver's step misleads
_WRONG = 1e-4           # relative to a column's length: an entry of a Jacobian this far off is wrong


class StrictWarning(UserWarning):
    """A function does something that this solver can handle, but others may not."""


class StrictError(ValueError):
    """A function does something that makes a correct fit impossible."""


class Watch:
    """
    Replacements for the user's functions, which call them and watch for mistakes.

    Parameters
    ----------
    func, Dfun, args, col_deriv, bounds
        As given to `leastsq`.
    differences : Differences
        How the solver computes its Jacobian, if there is no `Dfun`.
    words : Words
        The public function's names for them.

    Attributes
    ----------
    func, Dfun : callable
        The functions to pass to the solver, with the same `args`.
    """

    def __init__(self, func, Dfun, args, col_deriv, differences, bounds=None, words=LEASTSQ):
        self.words = words
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            raise TypeError("leastsq: strict=True watches Python functions; a CFunction cannot be watched")
        self.args, self.col_deriv, self.differences, self.bounds = args, bool(col_deriv), differences, bounds
        self.user_func, self.user_Dfun = func, Dfun
        self.residuals = _Watched(func, words.func, args)
        self.jacobians = None if Dfun is None else _Watched(Dfun, words.Dfun, args)
        self.func = self._func if callable(func) else func
        self.Dfun = self._Dfun if callable(Dfun) else Dfun
        self.first = None               # (x, f(x)) of the first call
        self.last_finite = None
        self.said_not_finite = False
        self._step_from_zero = None     # the solver's step for a parameter that is zero

    def _func(self, x, *args):
        if self.first is None:
            return self._begin(x, args)
        value = self.residuals(x, args)
        self._look(x, value)
        return value

    def _Dfun(self, x, *args):
        value = self.jacobians(x, args)
        if self.jacobians.calls == 1:
            self._check_jacobian(x, value)
        return value

    def _begin(self, x, args):
        """The first call: calls func twice, and once more for each parameter."""
        value = self.residuals(x, args)
        f = _numbers(value)
        if f is None:
            return value                # not numbers: the solver raises
        value = np.array(value)         # a copy, because func may reuse the array
        self.first = (x.copy(), f)
        self._repeat(x, args, f"called twice in a row at {self.words.x0}")
        if not np.isfinite(f).all():
            bad = np.flatnonzero(~np.isfinite(f))
            raise StrictError(f"{bad.size} of {f.size} residuals are not finite at {self.words.x0} = {x}, the first is "
                              + self.words.of(f"func(x)[{bad[0]}] = {f[bad[0]]}. Start elsewhere, or fix func there."))
        self.last_finite = x.copy()
        if self.user_Dfun is None and f.size >= x.size:
            self._sensitivity(x, f, value.dtype, args)
        return value

    def _repeat(self, x, args, when):
        at, before = self.first
        again = _numbers(self.residuals(at.copy(), args))
        if again is None or again.size != before.size or not _close(again, before):
            where = ""
            if again is not None and again.size == before.size:
                k = int(np.argmax(~np.isclose(again, before, rtol=_SAME, atol=0, equal_nan=True)))
                where = f": residual {k} was {before[k]}, then {again[k]}"
            culprits = self.residuals.changed_data()
            why = (f"It changes {' and '.join(culprits)} in place; copy first (a = a - b, not a -= b)." if culprits else
                   "Does it draw random numbers, or keep state between calls? Fix the seed, or pass it in.")
            raise StrictError(f"{self.words.func} gives different residuals for the same x ({when}){where}. {why}")

    def _sensitivity(self, x, f, dtype, args):
        """Check whether the solver's forward differences are right for every parameter."""
        made = self._differences(x, args)
        if made is None:
            return
        ends = Ends(lambda point: self._residuals(point, args), self._bounds(x), x, f)
        eps = max(self.differences.relative_error(0.0), np.finfo(dtype if dtype.kind == "f" else float).eps)
        self._step_from_zero = np.sqrt(eps)
        lengths = np.linalg.norm(made.J, axis=0)
        size = max(np.linalg.norm(f), (lengths*np.abs(x)).max(initial=0.0))
        for j in range(x.size):
            step = np.sqrt(eps)*abs(x[j]) or np.sqrt(eps)
            value = ends.moved(j, step)
            if value is None:
                continue
            unchanged = np.array_equal(value, f)
            if unchanged and (ends.first_effect(j) is None or ends.is_flat(j)):
                continue                        # not the fault of the solver's step: `finish` checks the end of the fit
            step = (x[j] + step) - x[j]         # as rounded
            truth = made.J[:, j]
            with np.errstate(all="ignore"):
                off = np.linalg.norm((value - f)/step - truth)/lengths[j] if lengths[j] > 0 else np.inf
            if unchanged or lengths[j] > 0 and off > max(_BLUNT, 2*made.error[j]):
                hidden = lengths[j]*step <= _LOST*size and lengths[j] > 0
                self._misled(ends, j, step, truth, off, unchanged, hidden)

    def _misled(self, ends, j, step, truth, off, unchanged, hidden):
        """Warn that the solver's step in a parameter misleads, and name a step that does not."""
        x, name = ends.x[j], self.words.label(j)
        if unchanged:
            first = ends.first_effect(j)
            what = f"the solver's step in {name}, from {x} to {x + step}, changes no residual; one to {first:.6g} does"
        else:
            what = (f"the derivative by {name} = {x}, as the solver makes it with a step of {step:.1e}, is "
                    f"{100*off:.0f} % off")
        right = next((factor for factor in _OTHER_STEPS if ends.slope_error(j, factor*step, truth) <= _BLUNT), None)
        if hidden and (right is None or right > 1):
            # from 0 the solver's step is absolute: would that be right?
            zero = "exactly 0, or from " if x != 0 and ends.slope_error(j, self._step_from_zero, truth) <= _BLUNT else ""
            near = (f"{name} is too near zero for a step relative to it" if zero else
                    "A step of this size changes the residuals by no more than their rounding")
            advice = f"{near}: start from {zero}a value of the size that you expect"
        elif right is None:
            advice = f"Is {name} rounded (int(), an index, float32), or {self.words.func} noisy?"
        elif right > 1:
            relative = (right*step/(abs(x) or 1.0))**2
            advice = (f"Is {self.words.func} rounded (float32, a table) or noisy? Compute in float64, or give "
                      f"epsfcn={relative:.0e}, with which the derivative is right")
        elif x != 0 and abs(x)*1e-3 > right*step:
            advice = (f"The step is relative to {name} and too long here: {right*step:.1e} would be right. Subtract an offset, "
                      f"so that {name} is measured from {x:.10g} (and the data too)")
        else:
            advice = (f"A step of {right*step:.1e} would be right: choose units in which {name} is smaller, or give "
                      f"{self.words.Dfun}")
        _warn(f"{what}. {advice}{'' if advice.endswith('?') else '.'}")

    def _residuals(self, point, args):
        """Residuals at any point, or None if they are not finite."""
        with np.errstate(all="ignore"):
            value = _numbers(self.residuals(point, args))
        if value is None or value.size != self.first[1].size or not np.isfinite(value).all():
            return None
        return value

    def _bounds(self, x):
        return None if self.bounds is None else parse_bounds(self.bounds, (x.size,))

    def _differences(self, x, args):
        """The Jacobian by differences within the bounds, or None."""
        try:
            return accurate_jacobian(Problem(self.user_func, args, bounds=self._bounds(x)), x)
        except ValueError:
            return None                 # no step is possible

    def _look(self, x, value):
        f = _numbers(value)
        if f is None:
            return
        if f.size != self.first[1].size:
            raise StrictError(f"{self.words.func} returned {f.size} residuals after {self.first[1].size} before; "
                              f"{_moves(self.last_finite, x, self.words)}. Their number must not depend on the parameters.")
        if np.isfinite(f).all():
            self.last_finite = x.copy()
        elif not self.said_not_finite:
            self.said_not_finite = True
            bad = np.flatnonzero(~np.isfinite(f))
            _warn(self.words.of(f"residuals are not finite at x = {x}: {bad.size} of {f.size}, the first is func(x)[{bad[0]}] = "
                  f"{f[bad[0]]}; ") + f"{_moves(self.last_finite, x, self.words)}. The solver steps back from there; bounds, or "
                  "another form of the parameter (its logarithm), would keep it away.")

    def finish(self, x):
        """Checks at the end: whether func still returns the same at the start, and whether the answer can be a minimum."""
        if self.first is None:
            return
        with np.errstate(all="ignore"):
            said = list(self._about_the_end(x))
            self._repeat(x, self.args, f"at {self.words.x0}, before the fit and after it")
            if self.jacobians is not None and self.jacobians.calls:
                value = real_array(self.user_Dfun(x.copy(), *self.args), f"the array that {self.words.Dfun} returns",
                                   self.words.caller)
                if np.isfinite(value).all():
                    self._check_jacobian(x, value)
        for text in said:               # only now, because they mean nothing if func drifts
            _warn(text)

    def _about_the_end(self, x):
        """Sentences about an answer that is not a minimum."""
        f = self._residuals(x.copy(), self.args) if np.isfinite(x).all() else None
        if f is None or not f.any():
            return
        made = self._differences(x, self.args)
        slopes = None if made is None else np.linalg.norm(made.J, axis=0)
        ends = Ends(lambda point: self._residuals(point, self.args), self._bounds(x), x, f, slopes)
        yield from ends.found(self.first[0], self.words)

    # ------------------------------------------------------------ the Jacobian

    def _check_jacobian(self, x, value):
        J = np.asarray(value)
        if J.dtype.kind not in "fiub" or J.ndim != 2:
            return                      # the solver raises
        m, n = self.first[1].size, x.size
        wanted = (n, m) if self.col_deriv else (m, n)
        if J.shape != wanted:
            if J.shape == wanted[::-1]:
                other = "col_deriv=False" if self.col_deriv else "col_deriv=True"
                raise StrictError(f"{self.words.Dfun} returns the transposed Jacobian: its shape is {J.shape}, but must be "
                                  f"{wanted}. Return J.T, or pass {other}.")
            return
        J = np.array(J.T if self.col_deriv else J, dtype=float)
        made = self._differences(x, self.args)
        if made is not None:
            _compare(J, made.J, made.error, x, self.words)


def _compare(J, truth, error, x, words):
    """StrictError if J is not the Jacobian; it names the usual mistakes."""
    def agrees(a, b):
        size = np.maximum(np.linalg.norm(b, axis=0), np.linalg.norm(a, axis=0))
        return np.abs(a - b).max(axis=0, initial=0.0) <= np.maximum(_WRONG, 100*error)*np.where(size > 0, size, 1.0)

    good = agrees(J, truth)
    if good.all():
        return
    Dfun, func = words.Dfun, words.func
    start = f"{Dfun} is not the derivative of {func} at {'p' if words.x0 == 'p0' else 'x'} = {x}: "
    if agrees(-J, truth).all():
        hint = " If func is data - model, Dfun must be -d(model)/dx." if Dfun == "Dfun" else ""
        raise StrictError(start + "every sign is flipped." + hint)
    if J.shape[0] == J.shape[1] and agrees(J.T, truth).all():
        raise StrictError(start + "it is transposed. Row i must hold the derivatives of residual i (or pass "
                          "col_deriv=True).")
    for j in np.flatnonzero(~good):
        column = J[:, [j]]
        length = np.linalg.norm(column)
        entry = int(np.argmax(np.abs(column[:, 0] - truth[:, j])))
        which = f"column {j}, by {words.label(j)}, is wrong" if good.any() else "no column is right; column 0"
        detail = (f" (row {entry}: {Dfun} gives {column[entry, 0]:.6g}, differences give {truth[entry, j]:.6g}).")
        if length == 0:
            hint = " It is all zeros."
        elif _agrees(-column[:, 0], truth[:, j]):
            hint = " Its sign is flipped."
        else:
            same = [k for k in range(x.size) if k != j and _agrees(column[:, 0], truth[:, k])]
            factor = column[:, 0] @ truth[:, j]/(truth[:, j] @ truth[:, j]) if truth[:, j].any() else 0.0
            if same:
                hint = f" It is the column of {words.label(same[0])}: are they in the wrong order?"
            elif factor and _agrees(column[:, 0], factor*truth[:, j]):
                hint = f" It is {factor:.6g} times what it should be."
            else:
                hint = ""
        raise StrictError(start + which + detail + hint)


def _agrees(a, b):
    """Are two columns equal, up to the tolerance?"""
    return bool(np.abs(a - b).max() <= _WRONG*max(np.linalg.norm(a), np.linalg.norm(b)))


# --------------------------------------------------------------- watching calls

class _Watched:
    """Calls one of the user's functions and watches what it does to its arguments and results."""

    def __init__(self, function, name, args):
        self.function, self.name, self.calls = function, name, 0
        self.given = None               # the x of the last call, and a copy of its values
        self.result = None              # the last array returned, and a copy of its values
        self.dtype = None
        self.data = _arrays_of(function, args)
        self.said = set()

    def __getstate__(self):
        """The state for another process, whose calls share no arrays with this one: without the copies."""
        return self.__dict__ | {"given": None, "result": None, "data": []}

    def __call__(self, x, args):
        mine = x.copy()
        value = self.function(mine, *args)
        if self.given is not None and not _equal(*self.given):
            self._say("kept", f"{self.name} keeps the x of one call and changes it later. Keep a copy: x = x.copy().")
        self.calls += 1
        changed = np.flatnonzero(~((mine == x) | (np.isnan(mine) & np.isnan(x)))) if mine.shape == x.shape else []
        if len(changed):
            j = changed[0]
            self._say("x", f"{self.name} writes into x (x[{j}] was {x[j]}, now {mine[j]}). The solver does not see the "
                           "change; begin with x = x.copy().")
        self.given = (mine, mine.copy())
        self._result(value)
        return value

    def changed_data(self):
        """The names of the arrays that calls have changed, among those that the function can reach."""
        return [what for what, array, before in self.data
                if array.shape != before.shape or not _equal(array, before)]

    def _result(self, value):
        if not isinstance(value, np.ndarray):
            self.result = None
            return
        if self.result is not None and np.shares_memory(self.result[0], value) and self.result[0].size:
            self._say("buffer", f"{self.name} returns the same array at every call. This solver copies it, but SciPy's fit "
                                "ends at x0 with 'success'; return a new array.")
        elif self.result is not None and not _equal(*self.result):
            self._say("buffer", f"{self.name} changes an array that it returned earlier; return a new one each time.")
        if value.dtype.kind == "c":
            return                          # a complex step
        if self.dtype is not None and value.dtype != self.dtype:
            self._say("dtype", f"{self.name} returned {value.dtype} after {self.dtype}: the accuracy of its results "
                               "changes. Always return float64.")
        self.dtype = value.dtype
        self.result = (value, value.copy())

    def _say(self, what, text):
        if what not in self.said:
            self.said.add(what)
            _warn(text)


def _arrays_of(function, args):
    """(name, array, copy) for each array that a function can reach."""
    found = [(f"args[{k}]", a) for k, a in enumerate(args) if isinstance(a, np.ndarray)]
    try:
        seen = inspect.getclosurevars(function)
        found += [(f"the array {name!r}", a) for name, a in {**seen.globals, **seen.nonlocals}.items()
                  if isinstance(a, np.ndarray)]
    except (TypeError, ValueError):
        pass                            # not a Python function: its variables are not accessible
    return [(what, a, a.copy()) for what, a in found if a.dtype != object and a.nbytes < 2**26]


def _equal(a, b):
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _numbers(value):
    value = np.asarray(value)
    return value.astype(float).reshape(-1) if value.dtype.kind in "fiub" and value.ndim < 2 else None


def _close(a, b):
    return bool(np.allclose(a, b, rtol=_SAME, atol=_SAME*np.nan_to_num(np.abs(b)).max(initial=0.0), equal_nan=True))


def _moves(before, x, words):
    moved = np.flatnonzero(before != x)
    if moved.size == 0:
        return "the parameters had not moved"
    steps = [f"{words.label(j)} from {before[j]:.6g} to {x[j]:.6g}" for j in moved[:4]]
    more = f" and {moved.size - 4} more" if moved.size > 4 else ""
    return f"the last finite ones were before moving {', '.join(steps)}{more}"


def _warn(text):
    """Warn about the line outside this package that called it."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == __package__.split(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(f"strict: {text}", StrictWarning, stacklevel=max(level, 1))
