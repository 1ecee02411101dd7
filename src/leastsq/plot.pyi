"""The pictures' types; matplotlib need not be installed."""

from collections.abc import Callable, Iterable
from typing import Any

from numpy.typing import ArrayLike

from . import ConfidenceResult, CovarianceResult

__all__ = ["convergence", "correlation", "fit", "profile", "residuals"]

def fit(
    t: ArrayLike,
    y: ArrayLike,
    model: Callable[..., ArrayLike],
    x: ArrayLike,
    cov: ArrayLike | CovarianceResult | None = None,
    *,
    sigma: ArrayLike | None = None,
    level: float = 0.95,
    prediction: bool = False,
    grid: ArrayLike | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    title: str | None = None,
    label: str = "fit",
    ax: Any = None,
) -> Any: ...
def residuals(
    t: ArrayLike, f: ArrayLike, *, sigma: ArrayLike | None = None, xlabel: str | None = None, title: str | None = None
) -> Any: ...
def convergence(history: Any, *, title: str | None = None) -> Any: ...
def correlation(
    cov: ArrayLike | CovarianceResult, names: Iterable[str] | None = None, *, title: str | None = None, ax: Any = None
) -> Any: ...
def profile(result: ConfidenceResult, parameters: Iterable[int | str] | None = None, *, title: str | None = None) -> Any: ...
