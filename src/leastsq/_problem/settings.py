"""How to fit, and who watches: records that travel whole from the public functions to the core."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Settings", "Watching", "most_evaluations"]


def most_evaluations(n, by_differences):
    """MINPACK's limit for n parameters, where the user sets none."""
    return (200 if by_differences else 100)*(n + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """When to stop, how to scale, how to factor; as `leastsq` takes them.

    The core checks them: the tolerances, `factor` and `diag` may be anything that a user gives.
    """

    ftol: Any = 1.49012e-8
    xtol: Any = 1.49012e-8
    gtol: Any = 0.0
    maxfev: Any = 0
    factor: Any = 100
    diag: Any = None
    qr: int = 0                     # the core's number
    threads: int = 1

    def limit(self, n, by_differences):
        """The largest number of evaluations for n parameters."""
        try:
            limit = operator.index(self.maxfev)
        except TypeError:
            raise TypeError(f"leastsq: maxfev must be an integer, got {type(self.maxfev).__name__}") from None
        return limit if limit > 0 else most_evaluations(n, by_differences)

    def tolerances(self):
        """The three, by name."""
        return {"ftol": self.ftol, "xtol": self.xtol, "gtol": self.gtol}


@dataclass(frozen=True, slots=True, eq=False)
class Watching:
    """Who is told of a fit's events: as `leastsq` takes them."""

    callback: Callable | None = None
    history: bool = False
    verbose: int = 0
