"""The extension's contract.  Arguments are those of `leastsq`, checked here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

def compiled(function: int, m: int, data: int, /) -> object: ...
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
        int,                             # what a compiled function returned, if not 0
        str | None,                      # which one did: "func" or "Dfun"
    ]
): ...
