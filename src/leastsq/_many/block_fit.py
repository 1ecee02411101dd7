"""Fits to data in blocks, for `leastsq_blocks` and `leastsq.dask`.

The parts: `BlockTask` computes the results of one block, at its place: its norm, or its rows of J and f
folded into a `RowAccumulator`.  A scheduler, such as `Mapped` for any map, evaluates all
blocks with its methods `norm` and `model`.  `fit` passes the requests of
`LevenbergMarquardt` to a scheduler.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._core import RowAccumulator, weigh
from .._fit.ask_tell import LevenbergMarquardt
from .._fit.info import Info
from .._fit.status import SUCCESS, Status, message, not_finite_message
from .._fit.watch import Watcher
from .._problem.arguments import flag, noted, real_array
from .._problem.bounds import Bounds
from .._problem.derivatives import (
    EPS,
    GROWTH,
    MOST_GROWTHS,
    ORDINARY_SIZE,
    PRECISION,
    SCHEMES,
    TURNS,
    DifferenceJacobian,
    Differences,
    other_steps,
)
from .._problem.kinds import PLAIN, unmasked
from .._problem.losses import LEAST_SQUARES, Loss
from .._problem.problem import parse_problem
from .._problem.settings import parse_strategy
from .arguments import check_sizes

__all__ = ["BlockTask", "Mapped", "Model", "Norm", "Point", "at_block", "fit", "merge_models", "merge_norms", "parse_blocks"]

_SAFE_SUM = 1e-260, 1e300       # a sum of squares between these has not lost digits to underflow or overflow


class Fault(NamedTuple):
    """The first element that is not finite."""

    block: int
    row: int                    # in the block
    column: int
    value: float


class Norm(NamedTuple):
    """The norm of the residuals of some blocks, and facts about them."""

    rows: int
    norm: float
    eps: float                  # precision of the dtype that func returned; inf: there were no residuals
    fault: Fault | None


class Model(NamedTuple):
    """J and f of some blocks, folded, and facts about them."""

    rows: int
    accumulator: RowAccumulator
    evaluations: int            # counted as in leastsq
    fault: Fault | None
    sums: np.ndarray | None = None      # of central differences: see `DifferenceJacobian`
    change: np.ndarray | None = None    # Jᵀ(f at the previous x − f), if wanted


class Point(NamedTuple):
    """A point at which a Jacobian is wanted, with the facts that its differences need."""

    x: np.ndarray
    differences: Differences
    largest: np.ndarray         # largest |x| so far
    checked: bool               # not the first Jacobian
    factors: np.ndarray | None = None   # factors of the steps of central differences
    before: np.ndarray | None = None    # with a strategy: the previous x, at which f is evaluated once more


def merge_norms(parts):
    """The `Norm` of all blocks in the parts."""
    rows, norms, eps, faults = zip(*parts)
    return Norm(sum(rows), math.hypot(*norms), min(eps), _first(faults))


def merge_models(parts):
    """The `Model` of all blocks in the parts, which are not changed.

    Rounding errors depend on the order of the parts.
    """
    rows, total, evaluations, faults, sums, change = 0, None, 0, [], None, None
    for part in parts:
        total = RowAccumulator(part.accumulator.n) if total is None else total
        total.merge(part.accumulator)
        rows += part.rows
        evaluations = max(evaluations, part.evaluations)
        faults.append(part.fault)
        if part.sums is not None:
            sums = part.sums if sums is None else sums + part.sums
        if part.change is not None:
            change = part.change if change is None else change + part.change
    return Model(rows, total, evaluations, _first(faults), sums, change)


def _first(faults):
    return min((fault for fault in faults if fault is not None), default=None,
               key=lambda fault: fault[:2])


@dataclass(frozen=True, eq=False)
class BlockTask:
    """Computes the results of one block; pickles if the user's functions and arguments do.

    It is sent to other processes, so it holds only the part of a `Problem` that is needed there.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...] = ()
    Dfun: Callable[..., Any] | None = None          # None: differences, as a `Point` says
    col_deriv: bool = False
    bounds: Bounds | None = None
    loss: Loss = LEAST_SQUARES

    def call(self, x, *arguments):
        """The result of func, without masked residuals."""
        return self._unmasked(self.func(x.copy(), *arguments))[0]

    def _unmasked(self, value):
        """A pair: the result of func without masked residuals, and a mask of the rest; None: all are left."""
        if type(value) in PLAIN:
            return value, None
        value, mask = unmasked(value, "the array that func returns", "leastsq_blocks")
        return (value, None) if mask is None else (value[~mask], ~mask)

    def residuals(self, x, block):
        """(residuals as a new float64 array, precision of func, mask of the residuals that are not masked or None)."""
        value, kept = self._unmasked(self.func(x.copy(), block, *self.args))
        array = real_array(value, "the array that func returns", "leastsq_blocks")
        if array.ndim > 1:
            raise ValueError("leastsq_blocks: the array that func returns must be 0-d or 1-D, got "
                             f"shape {array.shape}")
        return np.array(array, float, ndmin=1), PRECISION.get(array.dtype, EPS), kept

    def norm(self, x, index, block):
        """The block's `Norm`."""
        f, eps, _ = self.residuals(x, block)
        if not self.loss.is_linear:
            f = weigh(self.loss.code, self.loss.scale, f, False)[0]
        norm = _norm(f)
        fault = None if math.isfinite(norm) else _find_fault(index, f)
        return Norm(f.size, norm, eps if f.size else math.inf, fault)

    def model(self, point, index, block):
        """The block's `Model`."""
        x = point.x
        f, _, kept = self.residuals(x, block)
        if self.Dfun is not None:
            jacobian, evaluations, sums = self._given(x, block, f.size, kept), 0, None
        else:
            maker = DifferenceJacobian(self.call, point.differences, self.bounds, alone=False)
            maker.factors = point.factors
            maker.largest, maker.checked = point.largest, point.checked
            jacobian = maker.jacobian_at(x, f, (block, *self.args))
            evaluations, sums = maker.evaluations, maker.sums
        difference = None
        if point.before is not None:
            difference = self.residuals(point.before, block)[0]
            if difference.size != f.size:
                raise ValueError("leastsq_blocks: the array returned by func changed size between calls: it had "
                                 f"{f.size} elements, now {difference.size}")
            difference -= f
            evaluations += 1
        if not self.loss.is_linear:
            f, weights = weigh(self.loss.code, self.loss.scale, f, True)
            jacobian = jacobian*weights[:, None]
            if difference is not None:
                difference *= weights
        accumulator = RowAccumulator(x.size)
        accumulator.push(jacobian, f)
        fault = accumulator.fault
        fault = fault if fault is None else Fault(index, *fault)
        change = None if difference is None else jacobian.T @ difference
        return Model(f.size, accumulator, evaluations, fault, sums, change)

    def _given(self, x, block, rows, kept=None):
        jacobian = real_array(self.Dfun(x.copy(), block, *self.args), "the array that Dfun returns", "leastsq_blocks")
        if kept is not None and jacobian.ndim == 2 and jacobian.shape[int(self.col_deriv)] == kept.size:
            jacobian = jacobian[:, kept] if self.col_deriv else jacobian[kept]
        wanted = (x.size, rows) if self.col_deriv else (rows, x.size)
        if 1 in wanted and jacobian.ndim < 3 and jacobian.size == rows*x.size:
            jacobian = jacobian.reshape(wanted)
        if jacobian.shape != wanted:
            raise ValueError(f"leastsq_blocks: the array that Dfun returns must have shape {wanted} for "
                             f"the {rows} residuals of this block, got {jacobian.shape}")
        return jacobian.T if self.col_deriv else jacobian


def _norm(f):
    total = float(f @ f)
    if _SAFE_SUM[0] <= total <= _SAFE_SUM[1]:
        return math.sqrt(total)
    largest = float(np.abs(f).max(initial=0))
    if not 0 < largest < math.inf:
        return largest
    f = f/largest
    return largest*math.sqrt(f @ f)


def _find_fault(index, f):
    bad = np.flatnonzero(~np.isfinite(f))
    return Fault(index, int(bad[0]), 0, float(f[bad[0]])) if bad.size else None


def at_block(task, numbered_block):
    """(index, ``task(index, block)``) for a pair (index, block); errors get a note that names the block."""
    index, block = numbered_block
    try:
        return index, task(index, block)
    except StopIteration as error:      # would silently end a map
        raise RuntimeError(f"leastsq_blocks: StopIteration was raised in block {index}") from error
    except BaseException as error:
        noted(error, f"leastsq_blocks: in block {index}")
        raise


class Mapped:
    """The scheduler for any map that takes a function and an iterable.

    `norm` and `model` are the interface of a scheduler: each evaluates all blocks, and raises
    ValueError if a block has a different number of rows than before.
    """

    def __init__(self, blocks, map, task):          # noqa: A002
        self.blocks, self.map, self.task = blocks, map, task
        self._rows = None           # of each block

    def norm(self, x):
        return merge_norms(self._evaluate(partial(self.task.norm, x)))

    def model(self, point):
        return merge_models(self._evaluate(partial(self.task.model, point)))

    def _evaluate(self, task):
        """The result of the task for each block, as it arrives; the first error ends the evaluation."""
        count, rows = 0, {}

        def numbered():
            nonlocal count
            for block in self.blocks:
                pair = count, block
                del block           # so that the map can free it before the next one is loaded
                count += 1
                yield pair
                del pair

        results = self.map(partial(at_block, task), numbered())
        if not isinstance(results, Iterable):
            raise TypeError(f"leastsq_blocks: map must return an iterable of results, got {type(results).__name__}")
        for answer in results:
            if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], (Norm, Model))):
                raise TypeError("leastsq_blocks: map must return the results of the function with which it is called, "
                                f"got {type(answer).__name__}")
            index, result = answer
            if index in rows:
                raise ValueError("leastsq_blocks: map must return the result of each block once, got the result of block "
                                 f"{index} again")
            rows[index] = result.rows
            if self._rows is not None and self._rows.get(index) != result.rows:
                raise ValueError(
                    "leastsq_blocks: the array returned by func changed size between calls: for block "
                    f"{index} it had {self._rows.get(index, 'no')} elements, now {result.rows}")
            yield result
        if count == 0:
            raise ValueError("leastsq_blocks: blocks must have at least one block, got none")
        if len(rows) != count:
            raise ValueError(f"leastsq_blocks: map must return a result for each of the {count} blocks, "
                             f"got {len(rows)}")
        if self._rows is not None and len(rows) != len(self._rows):
            raise ValueError("leastsq_blocks: blocks must be the same in each iteration, got "
                             f"{len(self._rows)} blocks, then {len(rows)}")
        self._rows = rows


def parse_blocks(func, x0, args, Dfun, differences, bounds, loss):
    """The `Problem` of a function of blocks, without `col_deriv`, from the user's arguments."""
    if not callable(func):
        raise TypeError(f"leastsq_blocks: func must be callable, got {type(func).__name__}")
    if not (Dfun is None or callable(Dfun) or isinstance(Dfun, str) and Dfun in SCHEMES):
        raise TypeError(f"leastsq_blocks: Dfun must be callable, None or one of {list(SCHEMES)}, "
                        f"got {Dfun!r}")
    return parse_problem(func, x0, args if isinstance(args, tuple) else (args,), Dfun, False, differences, bounds, loss)


def fit(schedule, problem, x0, settings, watching, *, full_output, col_deriv, with_mask):
    """
    `leastsq_blocks` with any scheduler.

    Parameters
    ----------
    schedule : callable
        ``schedule(task)`` is a scheduler: see `Mapped`.
    problem : Problem
        Its functions take a block after x.
    settings : Settings
    watching : Watching
    x0, full_output, col_deriv
        As in `leastsq_blocks`.
    with_mask : bool
        Return ``active_mask``, because bounds were given (which may all be infinite).
    """
    full_output, col_deriv = (flag(value, name, "leastsq_blocks") for value, name in
                              ((full_output, "full_output"), (col_deriv, "col_deriv")))
    if watching.history and not full_output:
        raise ValueError("leastsq_blocks: history=True needs full_output=True, because infodict holds the history")
    parse_strategy(settings.strategy, "leastsq_blocks")
    bounds = problem.bounds
    limit = settings.limit(real_array(x0, "x0", "leastsq_blocks").size, problem.by_differences)
    watcher = Watcher(watching, None, lambda: 0)
    lm = LevenbergMarquardt(x0, **settings.tolerances(), maxfev=limit, factor=settings.factor, diag=settings.diag,
                            bounds=None if bounds is None else (bounds.low, bounds.high), strategy=settings.strategy)
    task = BlockTask(problem.func, problem.args, problem.Dfun, col_deriv, bounds, problem.loss)
    try:
        ier, fault, rows = _drive(lm, schedule(task), problem.differences, watcher if watcher.is_wanted else None)
    finally:
        watcher.close()

    x = lm.x
    if ier == Status.NOT_FINITE:
        block, *where = fault or (None,)
        mesg = not_finite_message(x, lm.njev, where or None, block)
    else:
        mesg = message(ier, **settings.tolerances(), maxfev=limit)
    mesg += problem.describe_bounds(x, lm.multipliers)
    if watching.verbose:
        watcher.finish(lm.nfev, mesg)
    if not full_output:
        if ier not in (*SUCCESS, Status.WATCHER):
            warnings.warn(mesg, RuntimeWarning, stacklevel=3)
        return x, ier
    info = {"fnorm": lm.fnorm, "nfev": lm.nfev}
    if not problem.by_differences:
        info["njev"] = lm.njev
    info["ipvt"], info["qtf"] = lm.ipvt, lm.qtf if ier != Status.NOT_FINITE else np.full(x.size, np.nan)
    if with_mask:
        info |= problem.at_bounds(x, lm.multipliers)
    if watching.history:
        info["history"] = watcher.history()
    return x, lm.cov_x, Info.of(replace(problem, in_blocks=True, rows=rows), info), mesg, ier


def _model(scheduler, point):
    """The `Model` at a point, with difference steps that are right for all blocks together; and the factors of the steps."""
    if point.differences.scheme == "2-point":
        return _forward_model(scheduler, point), point.factors
    evaluations = 0
    for _ in range(TURNS):
        part = scheduler.model(point)
        evaluations += part.evaluations
        if part.sums is None or point.differences.steps is not None:
            break
        steps = point.factors*np.cbrt(point.differences.relative_error())*np.maximum(np.abs(point.x), 1e-300)
        factors = other_steps(part.sums, steps, point.x)
        if (factors == 1).all():
            break
        point = point._replace(factors=point.factors*factors)
    return part._replace(evaluations=evaluations), point.factors


def _forward_model(scheduler, point):
    """The `Model` by forward differences, with longer steps for parameters close to zero whose differences are all zero."""
    part, evaluations = scheduler.model(point), 0
    for _ in range(MOST_GROWTHS):
        if part.sums is None or point.differences.steps is not None:
            break
        flat = (part.sums[0] == 0) & (point.x != 0) & (np.abs(point.x) < ORDINARY_SIZE)
        if not flat.any():
            break
        point = point._replace(factors=np.where(flat, GROWTH*point.factors, point.factors))
        evaluations, before, part = evaluations + part.evaluations, part, scheduler.model(point)
        if part.fault is not None:      # outside the domain of func
            return before._replace(evaluations=evaluations + part.evaluations)
    return part._replace(evaluations=evaluations + part.evaluations)


def _event(lm):
    """The arguments of a watcher, except the kind of event."""
    return (lm.accepted, lm.x, lm.x_eval, lm.fnorm, lm.gnorm, lm.radius, lm.par, lm.actual, lm.predicted, lm.ratio, lm.nfev,
            lm.njev, lm.iteration)


def _drive(lm, scheduler, differences, watcher):
    """Answer requests until the fit ends; returns (ier, the last evaluation's fault, the number of residuals)."""
    rows, largest, fault, factors, before = None, 0.0, None, np.ones(lm.n), None
    strategic = lm.strategy != "minpack"
    while lm.request is not None:
        x = lm.x_eval
        if lm.request in ("change", "feeler"):      # declined, because no residuals and no Jacobian are kept
            lm.tell_change(None)
            if watcher is not None:
                watcher(2, *_event(lm))
            continue
        wants_model = lm.request == "model"
        if wants_model:
            part, factors = _model(scheduler, Point(x, differences, largest, lm.njev > 0, factors, before))
            largest = np.maximum(largest, np.abs(x))
            fault = part.fault
            lm.tell_model(part.accumulator, evaluations=part.evaluations, change=part.change)
        else:
            was = lm.x
            part = scheduler.norm(x)
            if rows is None:
                check_sizes(x.size, part.rows, None, None)
                rows, fault = part.rows, part.fault
                differences = differences.of_precision(part.eps)
            lm.tell_norm(part.norm)
            before = was if strategic and lm.accepted and lm.iteration > 1 else None
        if part.rows != rows:
            raise ValueError("leastsq_blocks: the array returned by func changed size between calls: "
                             f"all blocks together had {rows} elements, now {part.rows}")
        if watcher is not None and watcher(int(wants_model), *_event(lm)):
            return int(Status.WATCHER), fault, rows
    return lm.ier, fault, rows
