"""The interface of the extension.  Arguments are those of `leastsq`, and are checked by the extension."""

from collections.abc import Callable
from typing import Any, Literal, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

isa: str  # the instruction set of the kernels in use: baseline, v3 or v4
state_layout: Any  # lsq_state of core.h, the dtype of the states of a batch: a dict for numpy.dtype

class RowAccumulator:
    def __new__(cls, n: int) -> Self: ...
    @property
    def n(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def fnorm(self) -> float: ...
    @property
    def finite(self) -> bool: ...
    @property
    def fault(self) -> tuple[int, int, float] | None: ...  # row, column (n: f), value
    def push(self, J: ArrayLike, f: ArrayLike) -> None: ...
    def merge(self, other: RowAccumulator, /) -> None: ...
    def triangle(self) -> NDArray[np.float64]: ...         # (n + 1, n + 1)

class Machine:                           # leastsq.LevenbergMarquardt is derived from it
    def __new__(
        cls,
        x0: ArrayLike,
        ftol: float,
        xtol: float,
        gtol: float,
        maxfev: int,
        factor: float,
        diag: ArrayLike | None,
        low: NDArray[np.float64] | None,
        high: NDArray[np.float64] | None,
        precision: float | None,
        strategy: int,                   # core.h's number
        /,
    ) -> Self: ...
    @property
    def request(self) -> Literal["norm", "model", "change", "feeler"] | None: ...
    @property
    def x_eval(self) -> NDArray[np.float64] | None: ...
    @property
    def x(self) -> NDArray[np.float64]: ...
    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None: ...
    @property
    def fnorm(self) -> float: ...
    @property
    def ier(self) -> int | None: ...
    @property
    def accepted(self) -> bool: ...
    @property
    def cov_x(self) -> NDArray[np.float64] | None: ...
    @property
    def fault(self) -> tuple[int, int, float] | None: ...  # row, column (n: f), value
    @property
    def n(self) -> int: ...
    @property
    def nfev(self) -> int: ...
    @property
    def njev(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def maxfev(self) -> int: ...
    @property
    def strategy(self) -> Literal["minpack", "fast", "robust"]: ...
    @property
    def ftol(self) -> float: ...
    @property
    def xtol(self) -> float: ...
    @property
    def gtol(self) -> float: ...
    @property
    def gnorm(self) -> float: ...
    @property
    def radius(self) -> float: ...
    @property
    def par(self) -> float: ...
    @property
    def actual(self) -> float: ...
    @property
    def predicted(self) -> float: ...
    @property
    def ratio(self) -> float: ...
    @property
    def multipliers(self) -> NDArray[np.float64] | None: ...
    @property
    def ipvt(self) -> NDArray[np.int32]: ...
    @property
    def qtf(self) -> NDArray[np.float64]: ...
    def tell_norm(self, fnorm: float | ArrayLike, evaluations: int = 1) -> None: ...
    def tell_model(
        self,
        model: ArrayLike | RowAccumulator,
        f: ArrayLike | None = None,
        *,
        evaluations: int = 0,
        change: ArrayLike | None = None,
    ) -> None: ...
    def tell_change(self, change: ArrayLike | None, evaluations: int | None = None) -> None: ...
    @staticmethod
    def change(J: ArrayLike, f: ArrayLike, other: ArrayLike) -> NDArray[np.float64]: ...    # (n,)
    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...   # (n, n), (n,)

@final
class Curve:                             # curve_fit's residuals and derivatives
    def __new__(
        cls,
        f: Callable[..., ArrayLike],
        xdata: object,
        ydata: NDArray[Any] | None,      # None: f returns derivatives
        weights: float | NDArray[Any] | None,
        /,
    ) -> Self: ...
    def __call__(self, params: ArrayLike, /) -> Any: ...

def chkder(
    x: NDArray[np.float64],
    fvec: NDArray[np.float64] = ...,     # with these: MINPACK's measure of each row;
    fjac: NDArray[np.float64] = ...,     # without: the neighbour of x
    fvecp: NDArray[np.float64] = ...,
    /,
) -> NDArray[np.float64]: ...
# The moved coordinates and the steps for differences, by the rule of fdjac2.
def difference_steps(
    x: NDArray[np.float64],                  # (n,) or (k, n), like the results
    relative: float | NDArray[np.float64],   # steps relative to |x|: a number, or (n,)
    largest: NDArray[np.float64] | None,     # largest |x| so far: (n,) or (k, n), like low and high
    low: NDArray[np.float64] | None,
    high: NDArray[np.float64] | None,
    /,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def compiled(function: int, m: int, data: int, lanes: int, owner: object, /) -> object: ...
def solve(
    func: Callable[..., ArrayLike] | object,  # or the result of `compiled`
    x0: ArrayLike,
    args: tuple[Any, ...],
    Dfun: Callable[..., ArrayLike] | object | None,
    full_output: bool | int,
    col_deriv: bool | int,
    ftol: float,
    xtol: float,
    gtol: float,
    maxfev: int,
    precision: float | None,
    factor: float,
    diag: ArrayLike | None,
    qr: int,                             # 0 by size, 1 minpack, 2 blocked, 3 the reference engine
    threads: int,
    extras: (                            # bounds, loss and its scale, watcher (see watch.c), strategy
        tuple[
            NDArray[np.float64] | None,
            NDArray[np.float64] | None,
            int | Callable[..., ArrayLike] | None,
            float,
            Callable[..., object] | None,
            int,
        ]
        | None
    ),
    /,
) -> (
    tuple[NDArray[np.float64], int]
    | tuple[NDArray[np.float64], int, float, float, float, float]    # ier 2 or 4 at x0: |f|, largest cosine, |D*x|, R[0, 0]
    | tuple[
        NDArray[np.float64],             # x
        int,                             # ier
        NDArray[np.float64] | float,     # fvec
        int,                             # nfev
        int,                             # njev
        NDArray[np.float64],             # fjac, (n, m)
        NDArray[np.int32],               # ipvt, one-based
        NDArray[np.float64],             # qtf
        NDArray[np.float64] | None,      # cov_x
        tuple[int, int, float] | None,   # ier 9: row, column and value of the number that is not finite
        tuple[str, int] | None,          # ier 10: "func" or "Dfun", and its return value
        NDArray[np.float64] | None,      # with bounds: multipliers; 0: not held; nan: f does not depend on the parameter
        tuple[int, ...] | None,          # parameters close to zero whose differences vanish
    ]
    | None                               # x0 is empty, with full_output and without extras
): ...

# Residuals whose squares are the loss; with `model`, the model's residuals and the weights of the rows of J.
def weigh(
    loss: int | Callable[..., ArrayLike] | NDArray[np.float64],      # loss.c's number, or counts
    scale: float,
    f: NDArray[np.float64],                  # (m,)
    model: bool,
    /,
) -> NDArray[np.float64]: ...                # (2, m)

# Many problems in lock-step: the events of lm_core for the slots of a slab, which is
# (state, w, r, ipvt, fvec) with a row for each slot.
_Slab = (
    tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
    | tuple[
        NDArray[Any], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64],
        NDArray[np.float64],                 # with a strategy: residuals at the x before, (size, m),
        NDArray[np.float64],                 # and Jacobians as factored with weights of their rows, (size, n + 1, m)
    ]
)

# A loss's number in loss.c, or rho, rho' and rho'' at the slots' residuals, (3, k, m), or counts, (k, m); f_scale.
_Loss = tuple[int | NDArray[np.float64], float]

def batch_wanting(slab: _Slab, requests: tuple[int, ...], /) -> NDArray[np.int64]: ...
def batch_points(slab: _Slab, slots: NDArray[np.int64], column: int, /) -> NDArray[np.float64]: ...
def batch_start(slab: _Slab, slots: NDArray[np.int64], /) -> None: ...
def batch_tell_norm(
    slab: _Slab,
    slots: NDArray[np.int64],
    f: NDArray[np.float64],                  # (k, m), at the trials
    weights: NDArray[np.float64] | None,     # (k, m)
    loss: _Loss | None,
    /,
) -> None: ...
def batch_difference(
    slab: _Slab,
    slots: NDArray[np.int64],
    f: NDArray[np.float64],                  # (k, m), with parameter j moved by step
    weights: NDArray[np.float64] | None,
    step: NDArray[np.float64],               # (k,); where it is 0 so is the derivative
    jac: NDArray[np.float64],                # (k, n, m): [:, j] is written
    j: int,
    /,
) -> None: ...
def batch_tell_model(
    slab: _Slab,
    slots: NDArray[np.int64],
    jac: NDArray[Any],                       # (k, n, m), any strides
    weights: NDArray[np.float64] | None,
    loss: _Loss | None,
    cost: NDArray[np.int64],                 # (k,): residuals evaluated
    /,
) -> None: ...
def batch_collect(
    slab: _Slab,
    slots: NDArray[np.int64],
    problems: NDArray[np.int64],             # the rows of the others that are written
    x: NDArray[np.float64],
    ier: NDArray[np.int64],
    nfev: NDArray[np.int64],
    njev: NDArray[np.int64],
    fnorm: NDArray[np.float64],
    cov: NDArray[np.float64] | None,
    fvec: NDArray[np.float64] | None,
    multipliers: NDArray[np.float64] | None,
    /,
) -> None: ...

# Whole fits of compiled functions, every row of x in place.
def batch_compiled(
    func: object,                            # the result of `compiled`
    dfun: object | None,
    data: int,                               # address; 0: the functions' own data
    stride: int,
    x: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
    diag: NDArray[np.float64] | None,        # (n,) or (B, n), as are both bounds
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    loss: tuple[int | NDArray[np.float64], float] | None,        # its number in loss.c or counts, (B, m); f_scale
    settings: tuple[float, float, float, int, float, float, float, int],  # ftol, xtol, gtol, maxfev, precision, factor, that
                                             # of problems with bounds, strategy
    ier: NDArray[np.int64],
    nfev: NDArray[np.int64],
    njev: NDArray[np.int64],
    fnorm: NDArray[np.float64],
    cov: NDArray[np.float64] | None,
    fvec: NDArray[np.float64] | None,
    multipliers: NDArray[np.float64] | None,
    code: NDArray[np.int32],                 # the return value of a function that ended the fit
    threads: int,
    progress: Callable[[int], object] | None,
    /,
) -> None: ...
