"""The extension's contract.  Arguments are those of `leastsq`, checked here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

isa: str  # of the kernels in use: baseline or v3

def compiled(function: int, m: int, data: int, owner: object, /) -> object: ...
def solve(
    func: Callable[..., ArrayLike] | object,  # or what `compiled` made
    x0: ArrayLike,
    args: tuple[Any, ...],
    Dfun: Callable[..., ArrayLike] | object | None,
    full_output: bool | int,
    col_deriv: bool | int,
    ftol: float,
    xtol: float,
    gtol: float,
    maxfev: int,
    epsfcn: float | None,
    factor: float,
    diag: ArrayLike | None,
    qr: int,                             # 0 by size, 1 minpack, 2 blocked
    threads: int,
    extras: (                            # bounds, loss and its scale, watcher: see watch.c
        tuple[
            NDArray[np.float64] | None,
            NDArray[np.float64] | None,
            int | Callable[..., ArrayLike] | None,
            float,
            Callable[..., object] | None,
        ]
        | None
    ),
    /,
) -> (
    tuple[NDArray[np.float64], int]
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
        tuple[int, int, float] | None,   # ier 9: row, column, value that is not finite
        tuple[str, int] | None,          # ier 10: "func" or "Dfun", and what it returned
        NDArray[np.int64] | None,        # with bounds: -1 at lower, 1 at upper, 0 between
    ]
): ...
