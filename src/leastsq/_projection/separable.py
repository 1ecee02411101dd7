"""Fits whose linear parameters are solved for: passes the projected problem to the core, and returns the whole answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._fit.fit import Fit
from .._fit.status import Status
from .._fit.watch import Watcher
from .._problem.arguments import real_array
from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction
from .._problem.derivatives import Differences
from .._problem.problem import Problem
from .._problem.settings import Watching, parse_strategy
from .probing import LINEAR_TO, deviation, find_linear, shares
from .projected import Projected

__all__ = ["Linear", "SeparableFit", "from_leastsq", "refuse_others"]

@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """The linear parameters of a fit, as declared by the caller or to be found.

    Attributes
    ----------
    door : str
        The function that the user called.
    names : sequence of str or None
        The names of all parameters, for messages.
    which : sequence of int or None
        The linear parameters; None: find them by probing.
    basis : callable or None
        ``basis(a, *args)``: the columns of the linear parameters, which come last; a holds all others.
    is_found : bool
        They were found by probing, so it is not an error if the model is not linear in them.
    """

    door: str = "leastsq"
    names: Any = None
    which: Any = None
    basis: Any = None
    is_found: bool = False

    @property
    def is_claimed(self):
        """Did the user declare the parameters linear?"""
        return self.which is not None and not self.is_found

    def name(self, j):
        return f"x[{j}]" if self.names is None else self.names[j]


def refuse_others(door, loss, func=None, Dfun=None, **options):
    """Refuse arguments that cannot be combined with linear parameters that are solved for."""
    if not loss.is_linear:
        other = "Poisson's deviance" if loss.is_poisson else "a robust loss"
        raise ValueError(f"{door}: separable needs loss='linear', got {loss.rho!r}: linear parameters are solved for by least "
                         f"squares, but {other} is not a sum of squares")
    for name, function in (("func", func), ("Dfun", Dfun)):
        if isinstance(function, CFunction):
            raise TypeError(f"{door}: separable needs Python functions, got a CFunction for {name}")
    for name, value in options.items():
        if value:
            raise ValueError(f"{door}: separable cannot be combined with {name}, got {name}={value!r}")


def from_leastsq(separable, problem_of, x0, bounds, args, settings, watching, **options):
    """
    The `SeparableFit` of a call of `leastsq`.

    Parameters
    ----------
    separable : callable or Linear
        The user's argument, or that of another function of this package.
    problem_of : callable
        ``problem_of(x0)``: the `Problem` for this start.
    x0, bounds, args : object
        As given.
    settings : Settings
    watching : Watching
    **options
        Arguments that cannot be combined with `separable`.
    """
    linear = separable
    if not isinstance(separable, Linear):
        if not callable(separable):
            raise TypeError("leastsq: separable must be a function basis(a, *args), which returns the columns of the linear "
                            f"parameters, got {type(separable).__name__}")
        linear = Linear(basis=separable)
    start = x0
    if linear.basis is not None:
        start = np.array(real_array(x0, "x0", "leastsq"), float).ravel()
        count = _count_columns(linear.basis, start, args)
        linear = replace(linear, which=np.arange(start.size, start.size + count))
        start = np.concatenate([start, np.zeros(count)])
        if bounds is not None:
            sides = parse_bounds(bounds, start.shape)
            where = np.arange(start.size) >= np.size(x0)
            start[where] = np.clip(0.0, sides.low[where], sides.high[where])
    problem = problem_of(start)
    refuse_others(linear.door, problem.loss, problem.func, problem.Dfun, **options)
    return SeparableFit(problem, start, linear, settings, watching)


class SeparableFit:
    """
    One fit with linear parameters, with the attributes of a `Fit`.

    Parameters
    ----------
    problem : Problem
        The whole problem.
    x0 : array_like, shape (n,)
        The start; nan for linear parameters that have no start.
    linear : Linear
    settings : Settings
    watching : Watching

    Attributes
    ----------
    problem : Problem
    watcher : Watcher
    maxfev : int
    which : ndarray of int, or None
        The linear parameters, once they are known.
    jacobians : int
        The number of Jacobians of the projected residuals.
    """

    def __init__(self, problem, x0, linear, settings, watching):
        refuse_others(linear.door, problem.loss)
        parse_strategy(settings.strategy, linear.door)
        x0 = np.array(real_array(x0, "x0", linear.door), float).ravel()
        self.which = None if linear.which is None else np.unique(np.asarray(linear.which, int))
        self.problem, self.linear, self.settings, self.watching = problem, linear, settings, watching
        self.missing = np.isnan(x0)                     # linear parameters need no start
        zero = np.zeros(x0.size) if problem.bounds is None else np.clip(0.0, problem.bounds.low, problem.bounds.high)
        self.x0 = np.where(self.missing, zero, x0)
        self.maxfev = settings.limit(x0.size, problem.by_differences)
        self._before, self._projected, self.jacobians = 0, None, 0         # _before: evaluations of earlier attempts
        self.watcher = Watcher(watching, self.maxfev, self._extra)

    def _extra(self):
        """The number of evaluations that the core does not count."""
        projected = self._projected
        return self._before + projected.calls - projected.evaluations

    def find(self):
        """The linear parameters, as declared or found."""
        if self.which is None:
            probing, bounds = Projected(self.problem, self.x0, []), self.problem.bounds
            free = np.ones(self.x0.size, bool) if bounds is None else bounds.free
            with np.errstate(all="ignore"):
                found = find_linear(probing.call, self.x0, np.flatnonzero(free).tolist(), bounds)
            self._before += probing.calls
            if found is None and self.missing.any():
                at = ", ".join(f"{self.linear.name(j)} = {value:g}" for j, value in enumerate(self.x0))
                raise ValueError(f"{self.linear.door}: separable: the residuals are not finite at the point where linear "
                                 f"parameters were searched for, {at}; start elsewhere, or name them")
            self.which = np.array(found or (), int)
        lacking = [self.linear.name(j) for j in np.flatnonzero(self.missing) if j not in self.which]
        if lacking:
            raise ValueError(f"{self.linear.door}: start must have a value for each parameter in which the model is not linear, "
                             f"{', '.join(map(repr, lacking))} {'have' if len(lacking) > 1 else 'has'} none")
        return self.which

    def solve(self, full_output=True):
        """Like `Fit.solve`, for all parameters; without `full_output` there is no Jacobian, nor outputs that need it."""
        if not self.find().size:
            return self._plain(self.x0)
        x = self.x0
        for constant in (True, False):
            projected = self._projected = Projected(self.problem, x, self.which, self.linear.basis)
            a = x[projected.rest]
            with np.errstate(all="ignore"):
                self._begin(a, constant)
                ended = self._solve_nonlinear(a)
                self.jacobians += ended[4]
                found = projected.at(ended[0])
                if found is None:
                    return self._not_finite(ended)
                offset, columns, solution = found
                x = projected.whole(ended[0], solution.c)
                f = projected.call(x).astype(float)
            off = deviation(f, offset, columns, solution.c)
            if off <= self._tolerance:
                return self._whole(x, f, columns, ended, full_output)
            if not self.linear.is_claimed:
                break
            if projected.constant is None:
                self._refuse(ended[0], offset, columns, off)
            self._before += projected.calls
        self._before += projected.calls
        return self._plain(x)           # the model only seemed linear

    @property
    def _tolerance(self):
        return max(LINEAR_TO, 100*self._projected.eps)

    def _plain(self, x):
        self.which = np.zeros(0, int)
        fit = Fit(self.problem, x, self.settings, self.watching)
        out = fit.solve(True)
        self.watcher = fit.watcher or self.watcher
        return (*out[:3], out[3] + self._before, *out[4:])

    def _begin(self, a, constant):
        """Choose steps, check the declared parameters, and test whether the offset is constant."""
        projected = self._projected
        projected.begin(a)
        found = projected.at(a)
        if found is None:
            return                      # the core reports it
        offset, columns, _ = found
        if self.linear.is_claimed:
            z = shares(self.which.size)*projected.steps
            off = deviation(projected.call(projected.whole(a, z)).astype(float), offset, columns, z)
            if not off <= self._tolerance:
                self._refuse(a, offset, columns, off)
        if not constant or projected.zero.any() or not a.size:
            return
        factors = shares(a.size, 1)
        moved = np.where(a != 0, a*(1 + 0.1*factors), 0.1*factors)
        if projected.bounds is not None:
            moved = np.clip(moved, projected.bounds.low, projected.bounds.high)
        if np.array_equal(projected.call(projected.whole(moved, np.zeros(self.which.size))).astype(float), offset):
            projected.constant = offset

    def _refuse(self, a, offset, columns, off):
        """Raise ValueError: names the parameter in which the model is not linear, or those in which it is not jointly linear."""
        projected, door = self._projected, self.linear.door
        if self.linear.basis is not None:
            raise ValueError(f"{door}: separable: func must be func(a, 0) + basis(a) @ c, with its last {self.which.size} "
                             f"parameters c, and is off by {off:.2g} of its size")
        alone = {}
        for k, j in enumerate(self.which):
            z = np.zeros(self.which.size)
            z[k] = 0.5*projected.steps[k]
            one = deviation(projected.call(projected.whole(a, z)).astype(float), offset, columns, z)
            if not one <= self._tolerance:
                alone[self.linear.name(j)] = one
        if alone:
            worst = max(alone, key=alone.get)
            raise ValueError(f"{door}: separable: the model is not linear in {worst!r}: it is off by {alone[worst]:.2g} of its "
                             "size")
        listed = ", ".join(repr(self.linear.name(j)) for j in self.which)
        raise ValueError(f"{door}: separable: the model is not linear in {listed} together: it is off by {off:.2g} of its size")

    def _solve_nonlinear(self, a):
        """Like `Fit.solve`, for the nonlinear parameters; without a fit if none of them is free."""
        projected, settings = self._projected, self.settings
        if not a.size or projected.bounds is not None and not projected.bounds.free.any():
            found = projected.at(a)
            ier = int(Status.NOT_FINITE if found is None else Status.GTOL)      # the residuals are orthogonal to every column
            return a, ier, None, 1, 0, *(None,)*8
        diag = settings.diag
        if diag is not None and np.size(diag) == self.x0.size:
            diag = np.asarray(diag)[projected.rest]
        job = Fit(Problem(projected.residual, Dfun=projected.jacobian, bounds=projected.bounds), a,
                  replace(settings, maxfev=self.maxfev, diag=diag, qr=0, threads=1), self.watching)
        callback = self.watching.callback
        if callback is not None:
            def of_all(state):
                return callback(replace(state, x=projected.whole(state.x, projected.at(state.x)[2].c)))
            self.watcher.callback = of_all
        job.watcher = self.watcher
        return job.solve(True)

    def _not_finite(self, ended):
        """The result if residuals or derivatives at the start are not finite."""
        projected, n = self._projected, self.x0.size
        fault = projected.fault or ended[9]
        size = max(projected.rows, n)
        return (projected.whole(ended[0], np.zeros(self.which.size)), int(Status.NOT_FINITE), np.full(projected.rows, np.nan),
                self._before + projected.calls, int(fault is not None and fault[1] != n), np.full((n, size), np.nan),
                np.arange(1, n + 1, dtype=np.intc), np.full(n, np.nan), None, fault, None, self._no_multipliers(), None)

    def _no_multipliers(self):
        return None if self.problem.bounds is None else np.zeros(self.x0.size)

    def _whole(self, x, f, columns, ended, full_output):
        """The core's outputs for all parameters at the end of the fit."""
        projected, ier, fault = self._projected, int(ended[1]), ended[9]
        if fault is not None and fault[1] < projected.rest.size:
            fault = fault[0], int(projected.rest[fault[1]]), fault[2]
        of_core = (None,)*4 + (None, None, self._no_multipliers())
        if full_output:
            J = np.empty((f.size, x.size))
            J[:, projected.linear] = columns
            if projected.rest.size:
                J[:, projected.rest] = projected.derivatives(x[projected.rest], f, x[projected.linear] - projected.zero)
            whole = replace(self.problem, func=lambda *_: f.copy(), Dfun=lambda *_: J, col_deriv=False, args=(),
                            differences=Differences())
            settings = replace(self.settings, gtol=1.0, maxfev=1, diag=None,    # every point satisfies gtol=1
                               strategy="minpack")
            of_core = Fit(whole, x, settings, Watching()).solve(True)[5:12]
        return (x, ier, f, self._before + projected.calls, projected.jacobian_calls or ended[4], *of_core[:4], fault, ended[10],
                of_core[6], projected.vanished)


def _count_columns(basis, a, args):
    columns = np.asarray(basis(a.copy(), *args))
    if columns.ndim != 2 or not columns.shape[1]:
        raise ValueError("leastsq: separable must be a function that returns the columns of the linear parameters, shape (m, p), "
                         f"got the shape {columns.shape} from it")
    return columns.shape[1]
