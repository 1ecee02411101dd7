"""The types of the plotting functions; matplotlib need not be installed."""

from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import ArrayLike

from . import ConfidenceResult, _HasSolution, _Output, _Result

__all__ = ["convergence", "correlation", "fit", "profile", "residuals"]

def fit(
    result: _Result | tuple[ArrayLike, ArrayLike],
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    model: Callable[..., ArrayLike] | None = None,
    sigma: ArrayLike | None = None,
    level: float = 0.95,
    prediction: bool | ArrayLike | Callable[[Any], ArrayLike] = False,
    grid: ArrayLike | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    label: str = "fit",
    ax: Any = None,
) -> Any: ...
def residuals(
    result: _Output | _HasSolution | ArrayLike,
    x: ArrayLike | None = None,
    *,
    sigma: ArrayLike | None = None,
    xlabel: str | None = None,
    title: str | None = None,
) -> Any: ...
def convergence(history: Any, *, title: str | None = None) -> Any: ...
def correlation(
    result: _Result | ArrayLike, names: Iterable[str] | None = None, *, title: str | None = None, ax: Any = None
) -> Any: ...
def profile(
    result: ConfidenceResult | _Result, parameters: Iterable[int | str] | None = None, *, title: str | None = None
) -> Any: ...
