"""The public names and their types, for readers and type checkers; `make lint` compares them with the code."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from os import PathLike
from typing import Any, Literal, Protocol, Self, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import plot as plot
from ._core import Machine as _Machine, RowAccumulator as RowAccumulator

__version__: str

def __dir__() -> list[str]: ...
__all__ = [
    "BandResult", "BatchResult", "CFunction", "ConfidenceResult", "CovarianceResult", "CurveFitBatchResult",
    "FitParameter", "FitResult", "GradientCheck", "LevenbergMarquardt", "OptimizeResult", "OptimizeWarning",
    "Report", "RowAccumulator", "Status", "StrictError", "StrictWarning", "__version__", "check_gradient",
    "confidence_band", "confidence_intervals", "covariance", "curve_fit", "curve_fit_batch", "fit", "format_value",
    "get_include", "in_scipy", "least_squares", "leastsq", "leastsq_batch", "leastsq_blocks", "load", "plot", "profile_time",
    "report", "show_config",
]

# ------------------------------------------------------------- arguments

_Array: TypeAlias = NDArray[np.float64]
_Function: TypeAlias = Callable[..., ArrayLike] | CFunction
_Differences: TypeAlias = Literal["2-point", "3-point", "cs"]
_Loss: TypeAlias = Literal["linear", "soft_l1", "huber", "cauchy", "arctan"] | Callable[[_Array], ArrayLike]
_CountLoss: TypeAlias = _Loss | Literal["poisson"]
_Map: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
_Method: TypeAlias = Literal["lm", "trf", "dogbox"]
_Engine: TypeAlias = Literal["leastsq", "reference"] | None

class _HasBounds(Protocol):
    @property
    def lb(self) -> ArrayLike: ...
    @property
    def ub(self) -> ArrayLike: ...

_Bounds: TypeAlias = tuple[ArrayLike, ArrayLike] | Sequence[ArrayLike] | _HasBounds

class _Info(dict[str, Any]):        # infodict; njev, active_mask, multipliers, history and covariance only if requested
    @property
    def problem(self) -> Any: ...
    @overload
    def __getitem__(self, key: Literal["fvec", "fjac", "qtf", "multipliers"], /) -> _Array: ...
    @overload
    def __getitem__(self, key: Literal["nfev", "njev"], /) -> int: ...
    @overload
    def __getitem__(self, key: Literal["fnorm"], /) -> float: ...
    @overload
    def __getitem__(self, key: Literal["ipvt"], /) -> NDArray[np.int32]: ...
    @overload
    def __getitem__(self, key: Literal["active_mask"], /) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, key: Literal["history"], /) -> dict[str, NDArray[Any]]: ...
    @overload
    def __getitem__(self, key: Literal["covariance"], /) -> CovarianceResult: ...
    @overload
    def __getitem__(self, key: str, /) -> Any: ...

_Full: TypeAlias = tuple[_Array, _Array | None, _Info, str, int]
_Strategy: TypeAlias = Literal["minpack", "fast", "robust"]

# -------------------------------------------------------- the fits that tools accept

class _HasSolution(Protocol):       # a result of least_squares, SciPy's too
    @property
    def x(self) -> Any: ...
    @property
    def fun(self) -> Any: ...
    @property
    def jac(self) -> Any: ...

_Output: TypeAlias = tuple[ArrayLike, ArrayLike | None, Mapping[str, Any], str, int]
_Result: TypeAlias = _Output | _HasSolution | CovarianceResult | FitResult
_Fit: TypeAlias = _Result | _Function

# ------------------------------------------------------------------------ fits

class Status(IntEnum):
    IMPROPER = 0
    FTOL = 1
    XTOL = 2
    FTOL_XTOL = 3
    GTOL = 4
    MAXFEV = 5
    FTOL_TOO_SMALL = 6
    XTOL_TOO_SMALL = 7
    GTOL_TOO_SMALL = 8
    NOT_FINITE = 9
    STOPPED = 10
    WATCHER = 11

class OptimizeWarning(UserWarning):
    def __new__(cls, *args: object) -> Self: ...
class StrictWarning(UserWarning): ...
class StrictError(ValueError): ...

class CFunction:
    def __init__(self, func: object, m: int, data: object = None, *, lanes: int | None = None) -> None: ...
    @classmethod
    def from_numba(
        cls,
        function: Callable[..., object],
        m: int,
        data: ArrayLike | None = None,
        *,
        jacobian: bool = False,
        lanes: int | None = None,
    ) -> Self: ...
    @property
    def func(self) -> Any: ...
    @property
    def m(self) -> int: ...
    @property
    def data(self) -> Any: ...
    @property
    def lanes(self) -> int | None: ...

@overload
def leastsq(
    func: _Function,
    x0: ArrayLike,
    args: Any = (),
    Dfun: _Function | _Differences | None = None,
    full_output: Literal[False, 0] = False,
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    separable: Callable[..., ArrayLike] | None = None,
) -> tuple[_Array, int]: ...
@overload
def leastsq(
    func: _Function,
    x0: ArrayLike,
    args: Any = (),
    Dfun: _Function | _Differences | None = None,
    *,
    full_output: Literal[True, 1],
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    separable: Callable[..., ArrayLike] | None = None,
) -> _Full: ...
@overload
def leastsq(
    func: _Function,
    x0: ArrayLike,
    args: Any,
    Dfun: _Function | _Differences | None,
    full_output: Literal[True, 1],
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    separable: Callable[..., ArrayLike] | None = None,
) -> _Full: ...
@overload
def leastsq(
    func: _Function,
    x0: ArrayLike,
    args: Any = (),
    Dfun: _Function | _Differences | None = None,
    full_output: bool | int = False,
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    separable: Callable[..., ArrayLike] | None = None,
) -> tuple[_Array, int] | _Full: ...
@overload
def curve_fit(
    f: Callable[..., ArrayLike],
    xdata: Any,
    ydata: ArrayLike,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: _Bounds = ...,
    method: _Method | None = None,
    jac: Callable[..., ArrayLike] | _Differences | Literal["jax"] | None = None,
    *,
    full_output: Literal[False] = False,
    nan_policy: Literal["raise", "omit"] | None = None,
    covariance: str | None = None,
    separable: bool | str | Sequence[str] | None = None,
    ftol: float | None = 1.49012e-8,
    xtol: float | None = 1.49012e-8,
    gtol: float | None = 0.0,
    maxfev: float | None = 0,
    epsfcn: float | None = None,
    factor: float = ...,
    diag: ArrayLike | None = None,
    col_deriv: bool | int = False,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    loss: _CountLoss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    # these only with bounds, or "trf" or "dogbox"
    x_scale: ArrayLike | Literal["jac"] | None = None,
    max_nfev: float | None = None,
    diff_step: ArrayLike | None = None,
    tr_solver: Literal["exact", "lsmr"] | None = None,
    tr_options: Mapping[str, Any] | None = None,
    jac_sparsity: None = None,
) -> tuple[_Array, _Array]: ...
@overload
def curve_fit(
    f: Callable[..., ArrayLike],
    xdata: Any,
    ydata: ArrayLike,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: _Bounds = ...,
    method: _Method | None = None,
    jac: Callable[..., ArrayLike] | _Differences | Literal["jax"] | None = None,
    *,
    full_output: Literal[True],
    nan_policy: Literal["raise", "omit"] | None = None,
    covariance: str | None = None,
    separable: bool | str | Sequence[str] | None = None,
    ftol: float | None = 1.49012e-8,
    xtol: float | None = 1.49012e-8,
    gtol: float | None = 0.0,
    maxfev: float | None = 0,
    epsfcn: float | None = None,
    factor: float = ...,
    diag: ArrayLike | None = None,
    col_deriv: bool | int = False,
    qr: Literal["minpack", "blocked"] | None = None,
    threads: int | None = None,
    loss: _CountLoss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
    strict: bool = False,
    engine: _Engine = None,
    strategy: _Strategy = "minpack",
    groups: Sequence[Any] | NDArray[Any] | None = None,
    # these only with bounds, or "trf" or "dogbox"
    x_scale: ArrayLike | Literal["jac"] | None = None,
    max_nfev: float | None = None,
    diff_step: ArrayLike | None = None,
    tr_solver: Literal["exact", "lsmr"] | None = None,
    tr_options: Mapping[str, Any] | None = None,
    jac_sparsity: None = None,
) -> tuple[_Array, _Array, _Info, str, int]: ...

class OptimizeResult(dict[str, Any]):
    x: _Array
    cost: float
    fun: _Array
    jac: _Array
    grad: _Array
    optimality: float
    active_mask: NDArray[np.int64]
    multipliers: _Array
    nfev: int
    njev: int | None
    status: int
    message: str
    success: bool
    covariance: CovarianceResult        # only if it was requested
    problem: Any                        # an attribute, not a key
    def copy(self) -> OptimizeResult: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
    def __delattr__(self, name: str, /) -> None: ...

def least_squares(
    fun: Callable[..., ArrayLike],
    x0: ArrayLike,
    jac: Callable[..., ArrayLike] | _Differences = "2-point",
    bounds: _Bounds = ...,
    method: _Method = "lm",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: ArrayLike | Literal["jac"] | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    diff_step: ArrayLike | None = None,
    tr_solver: Literal["exact", "lsmr"] | None = None,
    tr_options: Mapping[str, Any] | None = None,
    jac_sparsity: None = None,
    max_nfev: float | None = None,
    verbose: Literal[0, 1, 2, 3] = 0,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., object] | None = None,
    workers: int | _Map | None = None,
    *,
    covariance: str | None = None,
    absolute_sigma: bool = False,
    strategy: _Strategy = "minpack",
) -> OptimizeResult: ...

class in_scipy:
    calls: Counter[str]
    passed_on: Counter[str]
    def __init__(self) -> None: ...
    def restore(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

class BatchResult:
    x: _Array
    ier: NDArray[np.int64]
    nfev: NDArray[np.int64]
    njev: NDArray[np.int64]
    fnorm: _Array
    cov_x: _Array | None
    fvec: _Array | None
    active_mask: NDArray[np.int8] | None
    multipliers: _Array | None
    @property
    def success(self) -> NDArray[np.bool_]: ...
    def message(self, i: int) -> str: ...

def leastsq_batch(
    func: _Function,
    x0: ArrayLike,
    data: NDArray[Any] | tuple[NDArray[Any], ...] = (),
    args: Any = (),
    Dfun: _Function | None = None,
    col_deriv: bool = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    weights: ArrayLike | None = None,
    counts: ArrayLike | None = None,
    bounds: _Bounds | None = None,
    loss: _CountLoss = "linear",
    f_scale: float = 1.0,
    threads: int | None = 1,
    slab: int | None = None,
    return_cov: bool = True,
    return_fvec: bool = False,
    progress: bool | Callable[[int, int], object] = False,
    strategy: _Strategy = "minpack",
) -> BatchResult: ...
class CurveFitBatchResult:
    @property
    def popt(self) -> _Array: ...
    @property
    def pcov(self) -> _Array: ...
    @property
    def stderr(self) -> _Array: ...
    @property
    def success(self) -> NDArray[np.bool_]: ...
    @property
    def ier(self) -> NDArray[np.int64]: ...
    @property
    def nfev(self) -> NDArray[np.int64]: ...
    @property
    def njev(self) -> NDArray[np.int64]: ...
    @property
    def fnorm(self) -> _Array: ...
    @property
    def reduced_chi2(self) -> _Array: ...
    @property
    def fvec(self) -> _Array | None: ...
    @property
    def active_mask(self) -> NDArray[np.int8] | None: ...
    @property
    def multipliers(self) -> _Array | None: ...
    def __iter__(self) -> Iterator[_Array]: ...
    def message(self, i: int | tuple[int, ...]) -> str: ...
    def fit(self, i: int | tuple[int, ...]) -> _Full: ...

def curve_fit_batch(
    f: Callable[..., ArrayLike],
    xdata: Any,
    ydata: ArrayLike | Sequence[ArrayLike],
    p0: ArrayLike | None = None,
    sigma: ArrayLike | Sequence[ArrayLike] | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: _Bounds | None = None,
    jac: Callable[..., ArrayLike | Sequence[ArrayLike]] | None = None,
    *,
    shared_x: bool | None = None,
    nan_policy: Literal["raise", "omit"] | None = None,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float | None = None,
    diag: ArrayLike | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    slab: int | None = None,
    return_fvec: bool = False,
    progress: bool | Callable[[int, int], object] = False,
) -> CurveFitBatchResult: ...
@overload
def leastsq_blocks(
    func: Callable[..., ArrayLike],
    x0: ArrayLike,
    blocks: Iterable[Any],
    args: Any = (),
    Dfun: Callable[..., ArrayLike] | _Differences | None = None,
    full_output: Literal[False, 0] = False,
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    map: _Map = ...,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    strategy: _Strategy = "minpack",
) -> tuple[_Array, int]: ...
@overload
def leastsq_blocks(
    func: Callable[..., ArrayLike],
    x0: ArrayLike,
    blocks: Iterable[Any],
    args: Any = (),
    Dfun: Callable[..., ArrayLike] | _Differences | None = None,
    *,
    full_output: Literal[True, 1],
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    map: _Map = ...,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    strategy: _Strategy = "minpack",
) -> _Full: ...
@overload
def leastsq_blocks(
    func: Callable[..., ArrayLike],
    x0: ArrayLike,
    blocks: Iterable[Any],
    args: Any = (),
    Dfun: Callable[..., ArrayLike] | _Differences | None = None,
    full_output: bool | int = False,
    col_deriv: bool | int = False,
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int = 0,
    epsfcn: float | None = None,
    factor: float = 100,
    diag: ArrayLike | None = None,
    *,
    map: _Map = ...,
    bounds: _Bounds | None = None,
    loss: _Loss = "linear",
    f_scale: float = 1.0,
    callback: Callable[[Any], object] | None = None,
    history: bool = False,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    strategy: _Strategy = "minpack",
) -> tuple[_Array, int] | _Full: ...

class LevenbergMarquardt(_Machine):
    def __new__(
        cls,
        x0: ArrayLike,
        *,
        ftol: float = 1.49012e-8,
        xtol: float = 1.49012e-8,
        gtol: float = 0.0,
        maxfev: int = 0,
        factor: float = 100,
        diag: ArrayLike | None = None,
        bounds: _Bounds | None = None,
        epsfcn: float | None = None,
        strategy: _Strategy = "minpack",
    ) -> Self: ...
    @property
    def success(self) -> bool: ...
    @property
    def message(self) -> str | None: ...
    @property
    def active_mask(self) -> NDArray[np.int64]: ...
    @property
    def multipliers(self) -> _Array | None: ...

# ------------------------------------------------------------- a model and data

_Pairs: TypeAlias = Mapping[str, Sequence[float | None] | None] | Sequence[Sequence[float | None] | None] | _HasBounds
_Starts: TypeAlias = Mapping[str, float | Sequence[float] | _Array] | Sequence[float | Sequence[float]] | NDArray[Any]
_Model: TypeAlias = Callable[..., Any]

def fit(
    model: _Model | Sequence[_Model],
    x: Any,
    y: Any,
    start: _Starts | None = None,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: _Pairs | None = None,
    fixed: str | Iterable[str] | Sequence[bool | None] | Mapping[str, float | bool | None] | NDArray[np.bool_] | None = None,
    prior: Mapping[str, Sequence[float] | None] | Sequence[Sequence[float] | None] | None = None,
    own: str | Sequence[str] | None = None,
    separable: bool | str | Sequence[str] | None = None,
    starts: int | None = None,
    jac: _Model | Sequence[_Model] | _Differences | Literal["jax"] | None = None,
    loss: _CountLoss = "linear",
    f_scale: float = 1.0,
    nan_policy: Literal["raise", "omit"] = "raise",
    strategy: Literal["fast", "minpack", "robust"] = "fast",
    ftol: float = 1.49012e-8,
    xtol: float = 1.49012e-8,
    gtol: float = 0.0,
    maxfev: int | None = None,
    callback: Callable[[Any], object] | None = None,
    verbose: Literal[0, 1, 2, 3] | bool = 0,
    workers: int | _Map | None = None,
) -> FitResult: ...
def load(
    path: str | PathLike[str],
    model: _Model | Sequence[_Model] | None = None,
    *,
    x: Any = None,
    loss: Callable[[_Array], ArrayLike] | None = None,
) -> FitResult: ...
def format_value(
    value: float, stderr: float | None = None, digits: int = 2, style: Literal["plain", "short", "latex"] = "plain"
) -> str: ...

class FitParameter(float):
    def __new__(cls, result: FitResult, place: int) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def stderr(self) -> float: ...
    @property
    def start(self) -> float: ...
    @property
    def bounds(self) -> tuple[float, float]: ...
    @property
    def fixed(self) -> bool: ...
    @property
    def prior(self) -> tuple[float, float] | None: ...
    @property
    def ufloat(self) -> Any: ...
    def interval(self, level: float = 0.95, method: Literal["t", "profile"] = "t") -> tuple[float, float]: ...

class _DerivedValue(float):
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def stderr(self) -> float: ...
    def interval(self, level: float = 0.95, method: Literal["t", "profile"] = "t") -> tuple[float, float]: ...

class _DerivedResult(_Exports, Mapping[str, _DerivedValue]):
    names: tuple[str, ...]
    x: _Array
    cov: _Array
    @property
    def stderr(self) -> _Array: ...
    @property
    def correlation(self) -> _Array: ...
    def __getitem__(self, name: str) -> _DerivedValue: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...

class _ContourResult:
    names: tuple[str, str]
    level: float
    x: _Array
    y: _Array
    center: tuple[float, float]
    ellipse: _Array
    nfev: int
    bounded: bool
    def plot(self, ax: Any = None) -> Any: ...

class FitResult(_Exports, Mapping[str, FitParameter]):
    x: _Array
    nfev: int
    njev: int | None
    status: int
    strategy: str
    search: str
    problem: Any
    def __getitem__(self, name: str) -> FitParameter: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def params(self) -> dict[str, FitParameter]: ...
    @property
    def start(self) -> _Array: ...
    @property
    def stderr(self) -> _Array: ...
    @property
    def cov(self) -> _Array: ...
    @property
    def correlation(self) -> _Array: ...
    @property
    def covariance(self) -> CovarianceResult: ...
    @property
    def chi2(self) -> float: ...
    @property
    def reduced_chi2(self) -> float: ...
    @property
    def dof(self) -> int: ...
    @property
    def aic(self) -> float: ...
    @property
    def bic(self) -> float: ...
    @property
    def r_squared(self) -> float: ...
    @property
    def residuals(self) -> Any: ...         # an array, a pandas Series, or a list of them
    @property
    def success(self) -> bool: ...
    @property
    def message(self) -> str: ...
    @property
    def extra_nfev(self) -> int: ...
    def report(self, correlation_limit: float = 0.5) -> Report: ...
    def intervals(
        self,
        parameters: str | Iterable[int | str] | None = None,
        *,
        level: float = 0.95,
        method: Literal["t", "profile"] = "t",
        points: int = 0,
        timeout: float | None = None,
        progress: bool = False,
    ) -> ConfidenceResult: ...
    def profile(
        self,
        parameters: str | Iterable[int | str] | None = None,
        *,
        level: float = 0.95,
        points: int = 8,
        timeout: float | None = None,
        progress: bool = False,
    ) -> ConfidenceResult: ...
    def predict(self, x: Any = None, *, dataset: int | None = None) -> Any: ...
    def band(
        self,
        x: Any = None,
        *,
        level: float = 0.95,
        noise: ArrayLike | Callable[[Any], ArrayLike] | Literal[True] | None = None,
        simultaneous: bool = False,
        dataset: int | None = None,
    ) -> BandResult: ...
    def derive(self, **functions: Callable[[dict[str, float]], float]) -> _DerivedResult: ...
    def contour(self, a: str, b: str, *, level: float = 0.95, points: int = 40) -> _ContourResult: ...
    def ufloats(self) -> dict[str, Any]: ...
    def plot(self, **options: Any) -> Any: ...
    def plot_residuals(self, **options: Any) -> Any: ...
    def plot_profile(
        self,
        parameters: str | Iterable[int | str] | None = None,
        *,
        level: float = 0.95,
        points: int = 8,
        title: str | None = None,
    ) -> Any: ...
    def plot_correlation(self, **options: Any) -> Any: ...
    def save(self, path: str | PathLike[str]) -> None: ...

# ---------------------------------------------------------------- uncertainties

class _Exports:                     # shared by FitResult, Report, CovarianceResult and the result of derive
    def to_dict(self) -> dict[str, Any]: ...
    @overload
    def to_csv(self, path: None = None) -> str: ...
    @overload
    def to_csv(self, path: str | PathLike[str]) -> None: ...
    @overload
    def to_latex(self, path: None = None, *, digits: int = 2) -> str: ...
    @overload
    def to_latex(self, path: str | PathLike[str], *, digits: int = 2) -> None: ...
    def to_dataframe(self) -> Any: ...      # a pandas.DataFrame

@dataclass(frozen=True, eq=False)
class CovarianceResult(_Exports):
    x: _Array
    cov: _Array
    stderr: _Array
    correlation: _Array
    rank: int
    condition: float
    dof: int
    chi2: float
    reduced_chi2: float
    absolute_sigma: bool
    optimality: float
    null_space: _Array
    names: tuple[str, ...] | None
    fixed: NDArray[np.bool_]
    method: str
    derivative_error: float
    nfev: int
    bounds: tuple[_Array, _Array] | None = None
    loss: Any = "linear"
    f_scale: float = 1.0
    held: NDArray[np.bool_] | None = None
    problem: Any = None
    def label(self, j: int) -> str: ...
    def t(self, level: float = 0.95) -> float: ...
    def explain(self) -> str: ...

def covariance(
    fit: _Fit,
    x: ArrayLike | None = None,
    args: Any = (),
    Dfun: _Function | None = None,
    *,
    method: str | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool | None = None,
    names: Iterable[str] | None = None,
    fixed: ArrayLike | None = None,
    rcond: float | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss | None = None,
    f_scale: float | None = None,
) -> CovarianceResult: ...

@dataclass(frozen=True, eq=False)
class ConfidenceResult:
    x: _Array
    lower: _Array
    upper: _Array
    level: float
    method: str
    t: float
    covariance: CovarianceResult
    profiles: dict[int, Any]
    reasons: list[str]
    nfev: int
    seconds: float

@dataclass(frozen=True, eq=False)
class BandResult:
    fit: _Array
    stderr: _Array
    lower: _Array
    upper: _Array

class GradientCheck(dict[str, Any]):
    def __getattr__(self, name: str) -> Any: ...

def check_gradient(
    func: Callable[..., ArrayLike],
    x: ArrayLike,
    Dfun: Callable[..., ArrayLike],
    args: Any = (),
    *,
    col_deriv: bool = False,
    rtol: float = 1e-4,
    method: Literal["differences", "chkder"] = "differences",
) -> GradientCheck: ...
def confidence_band(
    fit: _Result | tuple[ArrayLike, ArrayLike],
    x: Any = None,
    *,
    model: Callable[..., ArrayLike] | None = None,
    level: float = 0.95,
    dof: float | None = None,
    noise: ArrayLike | Callable[[Any], ArrayLike] | Literal[True] | None = None,
    method: str | None = None,
    simultaneous: bool = False,
) -> BandResult: ...
def confidence_intervals(
    fit: _Fit,
    x: ArrayLike | None = None,
    args: Any = (),
    Dfun: _Function | None = None,
    *,
    level: float = 0.95,
    method: Literal["t", "profile"] = "t",
    parameters: Iterable[int | str] | None = None,
    names: Iterable[str] | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss | None = None,
    f_scale: float | None = None,
    points: int = 0,
    timeout: float | None = None,
    progress: bool = False,
) -> ConfidenceResult: ...
def profile_time(
    fit: _Fit,
    x: ArrayLike | None = None,
    args: Any = (),
    Dfun: _Function | None = None,
    *,
    parameters: Iterable[int | str] | None = None,
    sigma: ArrayLike | None = None,
    bounds: _Bounds | None = None,
    loss: _Loss | None = None,
    f_scale: float | None = None,
) -> float: ...

class _CountStatistics:
    deviance: float
    expectation: float
    variance: float
    dispersion: float
    p_value: float

class Report(_Exports):
    x: _Array
    stderr: _Array
    names: list[str]
    correlation: _Array
    covariance: CovarianceResult | None
    chi2: float
    reduced_chi2: float
    m: int
    n: int
    dof: int
    p_value: float
    r2: float
    aic: float
    bic: float
    reason: str
    ier: int | None
    nfev: int | None
    njev: int | None
    correlation_limit: float
    search: str
    warnings: list[str]
    chi2_data: float
    chi2_priors: float
    pulls: list[tuple[str, float, float, float]]
    sets: list[tuple[str, int, float]]
    counts: _CountStatistics | None
    def __init__(self, **fields: Any) -> None: ...
    def correlations(self, limit: float | None = None) -> list[tuple[str, str, float]]: ...

def report(
    fit: _Fit | tuple[ArrayLike, int],
    x: ArrayLike | None = None,
    args: Any = (),
    Dfun: _Function | None = None,
    *,
    func: _Function | None = None,
    names: Iterable[str] | None = None,
    y: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool | None = None,
    bounds: _Bounds | None = None,
    fixed: ArrayLike | None = None,
    correlation_limit: float = 0.5,
    method: str | None = None,
) -> Report: ...

# ------------------------------------------------------------------- the build

def get_include() -> str: ...
@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, str]: ...
