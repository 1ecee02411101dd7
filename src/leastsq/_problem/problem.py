"""The problem to fit, in one record: the only source of facts for all tools that describe a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .arguments import real_array
from .bounds import Bounds, parse_bounds
from .derivatives import SCHEMES, Differences
from .losses import LEAST_SQUARES, LINEAR, Loss, parse_loss

__all__ = ["Problem", "parse_problem"]


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """
    The function whose squares are summed, and the facts known about it.

    Attributes
    ----------
    func : callable or CFunction
        ``func(x, *args)``: the residuals as they are squared, already divided by `sigma`.
    args : tuple
        Further arguments of `func` and `Dfun`.
    Dfun : callable, CFunction or None
        ``Dfun(x, *args)``: the Jacobian of the residuals, shape (m, n), or (n, m) with `col_deriv`; None: use
        `differences`.  For counts (`CountResiduals`), the Jacobian of the expected counts.
    col_deriv : bool
    differences : Differences
        How to compute a Jacobian from residuals.
    bounds : Bounds or None
        None: no parameter has any.
    loss : Loss
    names : tuple of str or None
        The names of the parameters.
    model : callable or None
        ``model(xdata, *parameters)``, if the model and the data are known separately.
    xdata, ydata : object, ndarray or None
        The data: the first argument of the model, and the values that the model should match.
    sigma : None, float or ndarray, shape (m,) or (m, m)
        Standard deviations of the data, or their covariance.
    absolute_sigma : bool or None
        The sizes of `sigma` are known, and not only their ratios; None: not specified.
    in_blocks : bool
        The functions take a block of data after x, and cannot be called without the blocks.
    rows : int or None
        Number of residuals of all blocks together.
    priors : tuple
        (index, mean, width) of each parameter that has a prior; the residuals of priors come last and are not data.
    sets : tuple
        The `DataSet` of each data set that was passed to `fit`; `ydata` and `sigma` are then vectors of all used points.
    """

    func: Callable | Any
    args: tuple = ()
    Dfun: Callable | Any | None = None
    col_deriv: bool = False
    differences: Differences = Differences()
    bounds: Bounds | None = None
    loss: Loss = LEAST_SQUARES
    names: tuple | None = None
    model: Callable | None = None
    xdata: Any = None
    ydata: np.ndarray | None = None
    sigma: Any = None
    absolute_sigma: bool | None = None
    in_blocks: bool = False
    rows: int | None = None
    priors: tuple = ()
    sets: tuple = ()

    @property
    def by_differences(self):
        return self.Dfun is None

    @property
    def grows(self):
        """May steps of forward differences grow?  Only with bounds or a loss, where MINPACK's bits are not promised."""
        return self.bounds is not None or not self.loss.is_linear

    def counted(self, m):
        """A mask of the m residuals that count: not those of points with an infinite sigma."""
        if self.sigma is None or np.shape(self.sigma) != (m,):
            return np.ones(m, bool)
        return np.isfinite(self.sigma)

    def describe_bounds(self, x, multipliers=None):
        """Lines about the parameters at a bound, or an empty string: see `Bounds.describe`."""
        return "" if self.bounds is None else self.bounds.describe(x, multipliers, self.names)

    def at_bounds(self, x, multipliers=None):
        """The entries of a result about bounds: which parameters are at a bound, and the multipliers that hold them there."""
        mask = np.zeros(x.size, np.int64) if self.bounds is None else self.bounds.active_mask(x)
        return {"active_mask": mask, "multipliers": np.zeros(x.size) if multipliers is None else multipliers}

    def data_part(self, f):
        """The residuals of the data, without those of priors."""
        return f[:f.size - len(self.priors)] if self.priors else f

    def parts(self, m):
        """(name, slice) of each data set's residuals, and of each part of complex ones."""
        first = 0
        for i, data in enumerate(self.sets):
            name, size = f"y[{i}]" if len(self.sets) > 1 else "y", data.values.size
            for part in (".real", ".imag") if data.is_complex else ("",):
                last = first + (size//2 if part else size)
                yield name + part, slice(first, last)
                first = last
        if not self.sets:
            yield "", slice(0, m)

    def where(self, row):
        """The data point of residual number `row`, in words; None if there is nothing to add to the number."""
        first = 0
        for i, data in enumerate(self.sets):
            if row < first + data.values.size:
                if len(self.sets) == 1 and data.is_plain:
                    break
                return f"y[{i}]{data.where(row - first)}" if len(self.sets) > 1 else f"y{data.where(row)}"
            first += data.values.size
        return None

    def free_count(self, n):
        """The number of parameters, out of n, that the bounds do not fix."""
        return n if self.bounds is None else int(np.count_nonzero(self.bounds.free))


def parse_problem(func, x0, args, Dfun, col_deriv, differences, bounds=None, loss=(LINEAR, 1.0)):
    """
    The `Problem` of a residual function, from the arguments of `leastsq`.

    Parameters
    ----------
    func, x0, args, Dfun, col_deriv : object
        As given; `Dfun` may be the name of a scheme of differences, or `Differences` with steps (from `curve_fit`).
    differences : Differences
        The scheme and the steps are replaced by those of `Dfun`, if that gives them.
    bounds : object
        As given; None: there are none.
    loss : tuple
        `loss` and `f_scale` as given.
    """
    parsed = None
    if bounds is not None:
        x0 = real_array(x0, "x0", "leastsq")
        parsed = parse_bounds(bounds, (x0.size,))
        parsed.check_start(x0)
        parsed = parsed if parsed.finite else None
    loss = parse_loss(*loss)
    if isinstance(Dfun, str):
        if Dfun not in SCHEMES:
            raise TypeError(f"leastsq: Dfun must be callable, None or one of {list(SCHEMES)}, got {Dfun!r}")
        differences, Dfun = differences.by(Dfun), None
    elif isinstance(Dfun, Differences):
        differences, Dfun = replace(differences, scheme=Dfun.scheme, steps=Dfun.steps), None
    return Problem(func, args, Dfun, col_deriv, differences, parsed, loss)
