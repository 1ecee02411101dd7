"""Many problems at once: a scheduler over the ask/tell machine of ``fortran/core/lm_core.f90``.

A slab of problems is at work at a time.  In each round those that want a model get it,
those that are done leave and others take their slots, and all that are at work get
the norm they then want.  So every call of the user's functions is for many problems, while
each problem goes its own way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .. import _core
from .._problem.arguments import noted, real_array
from .._problem.derivatives import EPS, GROWTH, MOST_GROWTHS, ORDINARY_GROWTHS, ORDINARY_SIZE, PRECISION
from .._problem.problem import Problem
from .._problem.settings import Settings
from .arguments import check_count_sizes, check_sizes

__all__ = ["STATE", "Job", "lock_step", "slab_size"]

STATE = np.dtype(_core.state_layout)    # lsq_state of core.h
_FREE, _DONE, _NORM, _MODEL, _CHANGE, _FEELER = range(-1, 5)     # _FREE: the slot is
_SCALE_COLUMNS, _SCALE_USER = 1, 2
_X, _TRIAL, _STEP, _DIAG, _COLNORM, _QTF, _SCRATCH = range(7)
_VECTORS = _SCRATCH + 4
_LO, _HI, _, _, _LARGEST = range(_VECTORS, _VECTORS + 5)
_BOUND_VECTORS = 12             # and n more: what bounds take
_CURVATURE_VECTORS = 11         # what a strategy takes, behind those that its problem has
_C_LARGEST = _VECTORS + 2       # of a problem without bounds

# A slab's residuals fill a part of a core's cache, but for problems so small that Python's
# share of a round would then show.
_SLAB_ELEMENTS = 1 << 15
_MOST_IN_A_SLAB = 1 << 12
_FIRST = 64                     # before m is known


def slab_size(m):
    """How many problems with m residuals are at work at once."""
    return min(max(_SLAB_ELEMENTS // m, 1), _MOST_IN_A_SLAB)


class Slab:
    """The problems at work: a slot, which is a row of every array, for each."""

    def __init__(self, size, m, n, bounded=False, strategy=False):
        self.size, self.m, self.n = size, m, n
        self.problem = np.full(size, -1)            # -1: the slot is free
        self.state = np.zeros(size, STATE)
        self.state["request"] = _FREE
        self.words = self.state.view(np.int64).reshape(size, -1)        # the same, of 8 bytes each
        columns = _VECTORS + (_BOUND_VECTORS + n if bounded else 0) + (_CURVATURE_VECTORS if strategy else 0)
        self.w = np.zeros((size, columns, n))       # lm_core's vectors
        self.r = np.zeros((size, n, n))
        self.ipvt = np.tile(np.arange(1, n + 1, dtype=np.int64), (size, 1))     # in range before there is a model
        self.fvec = np.zeros((size, m))             # residuals at x
        self.jac = None                             # transposed, (size, n, m)
        self.arrays = (self.state, self.w, self.r, self.ipvt, self.fvec)
        if strategy:                # residuals at the x before; Jacobians as factored, and weights of their rows
            self.arrays += (np.zeros((size, m)), np.zeros((size, n + 1, m)))

    def start(self, problems, job):
        """Give as many of these problems a slot as there are; return the number."""
        slots = np.flatnonzero(self.problem < 0)[:len(problems)]
        problems = problems[:slots.size]
        self.problem[slots] = problems
        self.words[slots] = job.state.reshape(1).view(np.int64)         # field by field takes ten times as long
        self.w[slots, _X] = job.x[problems]
        diag, bounds = job.settings.diag, job.problem.bounds
        if diag is not None:
            self.w[slots, _DIAG] = diag if diag.ndim == 1 else diag[problems]
        if bounds is not None:
            part = bounds.row(problems)
            self.w[slots, _LO], self.w[slots, _HI] = part.low, part.high
            self.w[slots, _LARGEST] = 0         # the machine's, where it is bounded
            bounded = ((part.low > -np.inf) | (part.high < np.inf)).any(-1)
            self.state["bounded"][slots] = bounded
            self.state["factor"][slots] = np.where(bounded, job.settings.first_factor(True), job.settings.first_factor(False))
        _core.batch_start(self.arrays, slots)
        return slots.size

    def jacobians(self, count):
        """Room for this many Jacobians."""
        if self.jac is None:
            self.jac = np.empty((self.size, self.n, self.m))
        return self.jac[:count]

    def wanting(self, *requests):
        """The slots whose problems want one of these."""
        return _core.batch_wanting(self.arrays, requests)

    def largest(self, slots, bounded):
        """|x| so far of these slots' problems, which the machine keeps with bounds or a strategy; 0: it does not."""
        if not bounded:
            return self.w[slots, _C_LARGEST]
        if len(self.arrays) == 5:
            return self.w[slots, _LARGEST]
        return self.w[slots, np.where(self.state["bounded"][slots] == 1, _LARGEST, _C_LARGEST)]


@dataclass(eq=False)
class Job:
    """What is to be fitted: B problems of one kind, where each starts, and the data of each."""

    problem: Problem                # of all; its bounds may have a row for each
    settings: Settings              # diag is (n,) or (B, n)
    x: np.ndarray                   # (B, n), where to start
    data: tuple[np.ndarray, ...]    # each (B, ...)
    weights: np.ndarray | None      # (B, m)
    eps: float = EPS                # precision of func, once it was called
    m: int | None = None            # until func was called
    door: str = "leastsq_batch"     # what the user called
    names: tuple[str, str] = ("func", "Dfun")       # of the user's functions there

    @cached_property
    def state(self):
        """A state with what must be set before the start."""
        state, settings = np.zeros((), STATE), self.settings
        state["n"], state["maxfev"], state["factor"] = self.x.shape[1], settings.maxfev, settings.first_factor(False)
        state["strategy"] = settings.number
        state["changes"] = settings.number > 0
        for name, value in settings.tolerances().items():
            state[name] = value
        state["scaling"] = _SCALE_COLUMNS if settings.diag is None else _SCALE_USER
        return state

    def rows(self, problems):
        """The data of these problems, as arrays of their own."""
        return tuple(d.take(problems, axis=0) for d in self.data)

    def weights_of(self, problems):
        if self.weights is None:
            return None
        return self.weights.take(problems, axis=0).astype(np.float64, copy=False)

    def call(self, function, name, problems, *args):
        try:
            return function(*args)
        except BaseException as error:
            noted(error, f"{self.door}: raised by {name}, called for {len(problems)} of "
                         f"{len(self.x)} problems, {problems.min()} to {problems.max()}")
            raise

    def residuals(self, x, problems):
        """f at x, (k, m), for these k problems; x and the rows of data are theirs alone."""
        rows = self.rows(problems)
        f = real_array(self.call(self.problem.func, self.names[0], problems, x, *rows, *self.problem.args),
                       "the array that func returns")
        if self.m is None:
            self.learn(f, x)
        elif f.shape != (len(x), self.m):
            raise ValueError("leastsq_batch: the array returned by func changed size between calls: "
                             f"wanted shape {(len(x), self.m)} for x of shape {x.shape}, "
                             f"got {f.shape}")
        return f if f.dtype == np.float64 and f.flags.carray else np.require(f, np.float64, ["C", "ALIGNED"])

    def learn(self, f, x):
        """From the first residuals: m, and the precision of func."""
        count, n = x.shape
        if f.ndim != 2 or f.shape[0] != count or f.shape[1] == 0:
            raise ValueError("leastsq_batch: func must return a row of residuals for each problem, "
                             f"shape ({count}, m) for x of shape {x.shape}, got {f.shape}")
        m = f.shape[1]
        check_sizes(n, m, self.weights, len(self.x))
        check_count_sizes(self.problem.loss, m)
        self.m = m
        self.eps = PRECISION.get(f.dtype, EPS)

    def jacobians(self, x, problems):
        """J at x, transposed, (k, n, m), for these k problems."""
        rows = self.rows(problems)
        jac = real_array(self.call(self.problem.Dfun, self.names[1], problems, x, *rows, *self.problem.args),
                         "the array that Dfun returns")
        by_row, by_column = (len(x), self.m, x.shape[1]), (len(x), x.shape[1], self.m)
        wanted, other = (by_column, by_row) if self.problem.col_deriv else (by_row, by_column)
        if jac.shape != wanted:
            hint = f"; col_deriv={not self.problem.col_deriv} is for that" if jac.shape == other else ""
            raise TypeError(f"leastsq_batch: Dfun must return shape {wanted} for x of shape {x.shape}, "
                            f"got {jac.shape}{hint}")
        jac = np.require(jac, None, "A")
        return jac if self.problem.col_deriv else jac.transpose(0, 2, 1)

    def loss_at(self, f, problems, weights=None):
        """The core's loss for these residuals, and what multiplies them: a callable's rho is
        found here."""
        loss = self.problem.loss
        if loss.is_linear:
            return None
        if loss.is_poisson:
            return loss.counts.take(problems, axis=0), loss.scale
        if not callable(loss.code):
            return loss.code, loss.scale
        with np.errstate(all="ignore"):
            if weights is not None:
                f = np.where(weights == 0, 0.0, f*weights)
            z = f/loss.scale
            z *= z
        rho = real_array(self.call(loss.code, "loss", problems, z), "the array that loss returns")
        if rho.shape != (3, *f.shape):
            raise ValueError(f"leastsq_batch: the array that loss returns must have shape {(3, *f.shape)} "
                             f"for z of shape {f.shape}, got {rho.shape}")
        return np.require(rho, np.float64, ["C", "ALIGNED"]), loss.scale


def lock_step(job, result, size=None, progress=None):
    """
    Fit all problems of a job.

    Parameters
    ----------
    job : Job
        The problems.
    result : BatchResult
        Its arrays are filled in.
    size : int, optional
        Most problems at work at once.
    progress : callable, optional
        Called with the number of problems done, after each round that ends some.
    """
    count, n = job.x.shape
    first = np.arange(min(count, size or _FIRST, _FIRST))
    f = job.residuals(job.x[first], first)
    result.set_size(job.m)
    order, done = None, 0               # of the problems that are fitted; None: all
    poor = result.without_data(job.weights)
    if poor is not None and poor.any():
        order, f = np.flatnonzero(~poor), f[~poor[first]]
        done, first = count - order.size, order[:len(f)]
        if not order.size:
            return
    last = count - done
    slab = Slab(min(last, size or slab_size(job.m)), job.m, n, job.problem.bounds is not None, job.settings.number > 0)
    strategic = (_FEELER,) if job.settings.number else ()
    waiting = slab.start(first, job)
    slots = slab.wanting(_NORM)
    f = f[slots]                    # an improper diag has ended a problem already
    while True:
        if slots.size:
            problems = slab.problem[slots]
            weights = job.weights_of(problems)
            _core.batch_tell_norm(slab.arrays, slots, f, weights, job.loss_at(f, problems, weights))
        slots = slab.wanting(_MODEL)
        if slots.size:
            make_models(slab, slots, job)
        slots = slab.wanting(_DONE)
        if slots.size:
            collect(slab, slots, result)
            done += slots.size
            if progress is not None:
                progress(done)
        if done == count:
            return
        if waiting < last:
            stop = min(waiting + slab.size, last)
            waiting += slab.start(np.arange(waiting, stop) if order is None else order[waiting:stop], job)
        slots = slab.wanting(_NORM, *strategic)
        if slots.size:
            f = job.residuals(_core.batch_points(slab.arrays, slots, _TRIAL), slab.problem[slots])


def make_models(slab, slots, job):
    """The Jacobian at x for each of these slots: Dfun's, or by forward differences."""
    problems = slab.problem[slots]
    weights = job.weights_of(problems)
    x = _core.batch_points(slab.arrays, slots, _X)
    if job.problem.Dfun is not None:
        jac, cost = job.jacobians(x, problems), np.zeros(slots.size, np.int64)
    else:
        jac, cost = difference_jacobians(slab, slots, job, x, problems, weights)
        weights = None              # they are in it
    loss = None if job.problem.loss.is_linear else job.loss_at(slab.fvec[slots], problems)
    _core.batch_tell_model(slab.arrays, slots, jac, weights, loss, cost)


def difference_jacobians(slab, slots, job, x, problems, weights):
    """As fortran/problems/fdjac2.f90, one parameter of all problems at a time; what each one cost."""
    relative_step = np.sqrt(job.problem.differences.relative_error(job.eps))
    jac = slab.jacobians(slots.size)
    cost = np.full(slots.size, slab.n)
    bounds = job.problem.bounds
    limits = (None, None, None)
    if bounds is not None:
        part = bounds.row(problems)
        limits = slab.largest(slots, True), part.low, part.high
    elif job.settings.number:
        limits = slab.largest(slots, False), None, None
    points, steps = _core.difference_steps(x, relative_step, *limits)
    grows = None                    # whose steps that change no residual grow
    if not job.problem.loss.is_linear:
        grows = np.ones(slots.size, bool)
    elif bounds is not None:
        grows = slab.state["bounded"][slots] == 1
    for j, step in enumerate(np.ascontiguousarray(steps.T)):
        moved = x.copy()
        moved[:, j] = points[:, j]
        if bounds is None or step.all():
            f = job.residuals(moved, problems)
        else:                       # no derivative is wanted of what is fixed
            free = np.flatnonzero(step)
            f = np.zeros((slots.size, slab.m))
            if free.size:
                f[free] = job.residuals(moved[free], problems[free])
            cost -= step == 0
        _core.batch_difference(slab.arrays, slots, f, weights, step, jac, j)
        if grows is not None:
            grow_steps(slab, slots, job, x, problems, weights, (j, relative_step, points, limits, grows), (jac, cost))
    return jac, cost


def grow_steps(slab, slots, job, x, problems, weights, differences, made):
    """Longer steps for the problems in which those by parameter j changed no residual, as in fdjac2.f90."""
    (j, relative, before, limits, grows), (jac, cost) = differences, made
    which = np.flatnonzero(grows & (before[:, j] != x[:, j]) & (x[:, j] != 0) & ~jac[:, j].any(axis=1))
    for turn in range(MOST_GROWTHS):
        if turn == ORDINARY_GROWTHS:
            which = which[np.abs(x[which, j]) < ORDINARY_SIZE]
        if not which.size:
            return
        relative = relative*GROWTH
        points, steps = _core.difference_steps(x[which], relative,
                                               *(side if side is None or side.ndim == 1 else side[which] for side in limits))
        elsewhere = points[:, j] != before[which, j]
        which, points, steps = which[elsewhere], points[elsewhere], steps[elsewhere]
        if not which.size:
            return
        moved = x[which]
        moved[:, j] = before[which, j] = points[:, j]
        f = job.residuals(moved, problems[which])
        part = np.zeros((which.size, slab.n, slab.m))
        _core.batch_difference(slab.arrays, slots[which], f, None if weights is None else weights[which],
                               np.ascontiguousarray(steps[:, j]), part, j)
        finite = np.isfinite(part[:, j]).all(axis=1)
        jac[which[finite], j] = part[finite, j]     # elsewhere it stays zero
        cost[which] += 1
        which = which[finite & ~part[:, j].any(axis=1)]


def collect(slab, slots, result):
    """Take the results of these slots, and free them."""
    _core.batch_collect(slab.arrays, slots, slab.problem[slots], result.x, result.ier, result.nfev,
                        result.njev, result.fnorm, result.cov_x, result.fvec, result.multipliers)
    slab.problem[slots] = -1
    slab.state["request"][slots] = _FREE
