"""Variable projection: residuals as a function of the nonlinear parameters, with the linear parameters solved for."""

from __future__ import annotations

from dataclasses import replace
from math import frexp

import numpy as np

from .._problem.arguments import real_array
from .._problem.derivatives import EPS, PRECISION, DifferenceJacobian
from .._problem.groups import GroupedMoves
from .._problem.kinds import returned
from .linear import solve_linear
from .probing import FAR, LOST

__all__ = ["Projected"]


class Projected:
    """
    Residuals and their Jacobian as functions of the nonlinear parameters.

    The residuals of the whole problem are ``offset(a) + columns(a) @ z``, where z are the distances of the linear parameters
    from a point within their bounds, usually zero.  The residuals of this class are those for the best z [1]_; their Jacobian
    is Kaufman's [2]_: the derivatives by a with z fixed, minus their part in the space of the columns.  Its product with the
    residuals is the exact gradient.

    Parameters
    ----------
    problem : Problem
        The whole problem.
    x : ndarray, shape (n,)
        The start.  For linear parameters only the size matters: it is the first step.
    linear : ndarray of int
        The indices of the linear parameters.
    basis : callable, optional
        ``basis(a, *args)``: the columns, shape (m, p).

    Attributes
    ----------
    calls, jacobian_calls : int
        The number of calls of the function and of `problem.Dfun`.
    evaluations : int
        The number of evaluations of the projected residuals.
    fault : tuple or None
        Row, column (n for the residuals) and value of the number that was not finite at the last evaluation.

    References
    ----------
    .. [1] G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose
       variables separate", SIAM Journal on Numerical Analysis 10 (1973), 413-432.
    .. [2] L. Kaufman, "A variable projection method for solving separable nonlinear least squares problems", BIT 15 (1975),
       49-57.
    """

    def __init__(self, problem, x, linear, basis=None):
        self.problem, self.basis = problem, basis
        self.x, self.linear = np.array(x, float), np.asarray(linear, int)
        self.rest = np.setdiff1d(np.arange(self.x.size), self.linear)
        starts = np.abs(self.x[self.linear])
        self.steps = np.where(np.isfinite(starts) & (starts > 0), starts, 1.0)
        self.zero, self.low, self.high = np.zeros(self.linear.size), None, None
        self.bounds = bounds = problem.bounds
        if bounds is not None:
            mine, self.bounds = bounds.part(self.linear), bounds.part(self.rest)
            if mine.finite:
                self.zero = np.clip(self.zero, mine.low, mine.high)
                self.low, self.high = mine.low - self.zero, mine.high - self.zero
                self.steps = self._allowed(self.steps)
        self.first_steps = self.steps.copy()
        self.constant = None            # the offset, once it is known not to depend on a
        self.calls = self.jacobian_calls = self.evaluations = 0
        self.fault, self.eps, self.rows = None, EPS, 1
        self._last = self._held = self._differences = None
        self._looks_far = False
        groups = problem.differences.groups
        self._grouped = None if groups is None or groups.of_rows is None else GroupedMoves(groups)

    def _allowed(self, steps):
        """Steps from `zero` that stay within the bounds."""
        if self.low is None:
            return steps
        up, down = self.high, -self.low
        return np.where(np.abs(steps) <= up, np.abs(steps), np.where(up >= down, up, -np.minimum(np.abs(steps), down)))

    # ------------------------------------------------------------ the whole function

    def whole(self, a, z):
        """All parameters, with the linear ones at ``zero + z``."""
        x = self.x.astype(np.result_type(a, float))
        x[self.rest], x[self.linear] = a, self.zero + z
        if self.low is not None:            # exactly on a bound that holds a parameter
            bounds = self.problem.bounds.part(self.linear)
            x[self.linear] = np.where(z <= self.low, bounds.low, np.where(z >= self.high, bounds.high, x[self.linear]))
        return x

    def call(self, x):
        """The residuals of the whole problem, as a vector."""
        self.calls += 1
        value = np.asarray(returned(self.problem.func(x, *self.problem.args)))
        self.eps = PRECISION.get(value.dtype, self.eps)
        return np.atleast_1d(value)

    def _call_all(self, points):
        return [self.call(point) for point in points]

    def call_jacobian(self, x):
        self.jacobian_calls += 1
        J = np.asarray(returned(self.problem.Dfun(x, *self.problem.args), "Dfun"), float)
        J = J.T if self.problem.col_deriv else J
        if J.ndim != 2 or J.shape[1] != self.x.size:
            raise TypeError("leastsq: there is a mismatch between the input and output shape of the 'Dfun' argument. Shape "
                            f"should be ({self.rows}, {self.x.size}) but it is {J.shape}.")
        return J

    # ------------------------------------------------------------ offset and columns

    def begin(self, a):
        """Like `at`, at the start: columns without a visible effect are computed again with longer steps."""
        self._last, self._looks_far = None, True
        found = self.at(a)
        self._looks_far = False
        return found

    def _seen_well(self, a, offset, columns):
        """The columns, with those whose effect was lost in rounding computed again; also sets the steps for the next time."""
        size = np.linalg.norm(offset)
        for k, step in enumerate(self.steps.tolist()):
            length = np.linalg.norm(columns[:, k])
            first = self.first_steps[k]
            if abs(step)*length < LOST*size and step != first:      # the column of the last point was far larger
                self.steps[k] = step = first
                columns[:, k] = self._column(a, k, offset)
                length = np.linalg.norm(columns[:, k])
            for far in FAR if self._looks_far and self.low is None else ():
                if length > 0:
                    break
                self.steps[k] = far*step
                columns[:, k] = self._column(a, k, offset)
                length = np.linalg.norm(columns[:, k])
            if not (size > 0 and 0 < length < np.inf):
                self.steps[k] = step
                continue
            lost = abs(self.steps[k])*length < LOST*size
            self.steps[k] = 2.0**(frexp(size/length)[1] - 1)        # powers of two, which cause no rounding
            self.steps = self._allowed(self.steps)
            if lost:
                columns[:, k] = self._column(a, k, offset)
        return columns

    def _column(self, a, k, offset):
        z = np.zeros(self.linear.size)
        z[k] = self.steps[k]
        return (self.call(self.whole(a, z)).astype(float) - offset)/self.steps[k]

    def _columns(self, a, offset):
        count = self.linear.size
        if self.basis is not None:
            columns = np.asarray(returned(self.basis(np.array(a), *self.problem.args), "basis"))
            return real_array(columns, "the array that basis returns", "leastsq").astype(float)
        if self.problem.Dfun is not None:
            return self.call_jacobian(self.whole(a, np.zeros(count)))[:, self.linear]
        columns = np.empty((offset.size, count))
        if self._grouped is not None:       # one evaluation for columns of different groups
            x = self.whole(a, np.zeros(count))
            values = self._grouped.evaluate(x, list(zip(self.linear, self.zero + self.steps)), offset, self._call_all)
            columns[:] = ((np.array(values, float) - offset)/self.steps[:, None]).T
            return self._seen_well(a, offset, columns) if np.isfinite(np.sum(columns)) else columns
        for k in range(count):
            columns[:, k] = self._column(a, k, offset)
            if not np.isfinite(np.sum(columns[:, k])):
                return columns[:, :k + 1]
        return self._seen_well(a, offset, columns)

    def at(self, a):
        """(offset, columns, solution) at a; None if they are not finite."""
        if self._last is not None and np.array_equal(self._last[0], a):
            return self._last[1:]
        offset = self.constant
        if offset is None:
            offset = self.call(self.whole(a, np.zeros(self.linear.size))).astype(float)
        self.rows, self.fault = offset.size, _fault(offset, None, self.x.size)
        if self.fault is None:
            columns = self._columns(a, offset)
            if columns.shape[0] != offset.size:
                raise ValueError("leastsq: the array that basis returns must have the shape "
                                 f"({offset.size}, {self.linear.size}), a column for each linear parameter, got {columns.shape}")
            self.fault = _fault(columns, self.linear, self.x.size)
        if self.fault is not None:
            self._last = None
            return None
        found = offset, columns, solve_linear(columns, offset, self.low, self.high)
        self._last = (np.array(a), *found)
        return found

    # ------------------------------------------------------------ called by the solver

    def residual(self, a, *_):
        self.evaluations += 1
        found = self.at(a)
        return np.full(self.rows, np.nan) if found is None else found[2].residual

    def jacobian(self, a, *_):
        offset, columns, solution = self.at(a)
        return solution.project(self.derivatives(a, offset + columns @ solution.c, solution.c))

    def derivatives(self, a, f, z):
        """The derivatives of the whole residuals by the nonlinear parameters, where f are the residuals at (a, z)."""
        if self.problem.Dfun is not None:
            return self.call_jacobian(self.whole(a, z))[:, self.rest]
        if self._differences is None:
            how = self.problem.differences.of_precision(self.eps)
            if how.groups is not None:
                how = replace(how, groups=how.groups.part(self.rest))
            if np.ndim(how.steps):
                how = replace(how, steps=how.steps[self.rest])
            self._differences = DifferenceJacobian(self._at_held, how, self.bounds, grows=True)
        self._held = z
        return self._differences.jacobian_at(np.array(a), f)

    @property
    def vanished(self):
        """Parameters so close to zero that no difference step changed a residual; None if there are none."""
        mask = None if self._differences is None else self._differences.vanished
        return None if mask is None or not mask.any() else tuple(self.rest[mask].tolist())

    def _at_held(self, a):
        return self.call(self.whole(a, self._held))


def _fault(rows, columns, n):
    """(row, column, value) of the first number that is not finite, where column n stands for the residuals; or None."""
    if np.isfinite(np.sum(rows)):
        return None
    wrong = np.argwhere(~np.isfinite(rows))
    if not wrong.size:                  # only the sum overflows
        return None
    first = tuple(wrong[0])
    return int(first[0]), n if columns is None else int(columns[first[1]]), float(rows[first])
