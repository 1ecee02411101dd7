"""How to fit, and which functions watch: records that are passed whole from the public functions to the core."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["STRATEGIES", "Settings", "Watching", "first_factor", "most_evaluations", "parse_strategy"]

STRATEGIES = {"minpack": 0, "fast": 1, "robust": 2}     # the core's numbers
_FACTOR = 100                   # MINPACK's default
_FIRST_FACTOR = 0.3             # the default of the other strategies without bounds
_BOUNDED_FACTOR = 1.0           # and with bounds


def most_evaluations(n, by_differences):
    """MINPACK's limit for n parameters, if the user gives none."""
    return (200 if by_differences else 100)*(n + 1)


def parse_strategy(strategy, caller="leastsq"):
    """The core's number of a strategy."""
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        raise ValueError(f"{caller}: strategy must be 'minpack', 'fast' or 'robust', got {strategy!r}")
    return STRATEGIES[strategy]


def first_factor(factor, strategy, bounded):
    """The core's factor: the user's, or the strategy's if the user left the default; `strategy` is the core's number."""
    if strategy == STRATEGIES["minpack"] or not isinstance(factor, (int, float)) or factor != _FACTOR:
        return factor
    return _BOUNDED_FACTOR if bounded else _FIRST_FACTOR


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """When to stop, how to scale and how to factor, as in the arguments of `leastsq`.

    The core checks the tolerances, `factor` and `diag`; here they may be anything that a user passes.
    """

    ftol: Any = 1.49012e-8
    xtol: Any = 1.49012e-8
    gtol: Any = 0.0
    maxfev: Any = 0
    factor: Any = 100
    diag: Any = None
    qr: int = 0                     # the core's number
    threads: int = 1
    strategy: str = "minpack"

    @property
    def number(self):
        """The strategy's number in the core."""
        return STRATEGIES[self.strategy]

    def first_factor(self, bounded):
        """The core's factor, with or without bounds."""
        return first_factor(self.factor, self.number, bounded)

    def limit(self, n, by_differences):
        """The largest number of evaluations for n parameters."""
        try:
            limit = operator.index(self.maxfev)
        except TypeError:
            raise TypeError(f"leastsq: maxfev must be an integer, got {type(self.maxfev).__name__}") from None
        return limit if limit > 0 else most_evaluations(n, by_differences)

    def tolerances(self):
        """The three tolerances by name."""
        return {"ftol": self.ftol, "xtol": self.xtol, "gtol": self.gtol}


@dataclass(frozen=True, slots=True, eq=False)
class Watching:
    """Who is told of the events of a fit, as in the arguments of `leastsq`."""

    callback: Callable | None = None
    history: bool = False
    verbose: int = 0
