"""All 27 of NIST's certified nonlinear regressions, as `fit` takes them: model(x, b1, b2, ...) and data.

Fourteen are in examples/strd, the other thirteen in tests/golden/strd_judging.
"""
import inspect
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parent.parent
sys.path.append(str(TESTS.parent / "examples"))
import strd  # noqa: E402

OTHERS = {
    "Misra1c": lambda b, x: b[0]*(1 - (1 + 2*b[1]*x)**-0.5),
    "Misra1d": lambda b, x: b[0]*b[1]*x/(1 + b[1]*x),
    "Chwirut1": strd.MODELS["Chwirut2"].function,
    "Gauss2": strd.MODELS["Gauss1"].function,
    "Gauss3": strd.MODELS["Gauss1"].function,
    "Lanczos1": strd.MODELS["Lanczos3"].function,
    "Lanczos2": strd.MODELS["Lanczos3"].function,
    "MGH10": lambda b, x: b[0]*np.exp(b[1]/(x + b[2])),
    "Eckerle4": lambda b, x: b[0]/b[1]*np.exp(-0.5*((x - b[2])/b[1])**2),
    "Rat42": lambda b, x: b[0]/(1 + np.exp(b[1] - b[2]*x)),
    "Rat43": lambda b, x: b[0]/(1 + np.exp(b[1] - b[2]*x))**(1/b[3]),
    "Bennett5": lambda b, x: b[0]*(b[1] + x)**(-1/b[2]),
    "BoxBOD": strd.MODELS["Misra1a"].function,
}
# The parameters in which each model is linear together, in the order of the arguments; from 0.
LINEAR = {
    "Misra1a": [0], "Chwirut2": [], "Lanczos3": [0, 2, 4], "Gauss1": [0, 2, 5], "DanWood": [0], "Misra1b": [0],
    "Kirby2": [0, 1, 2], "Hahn1": [0, 1, 2, 3], "Nelson": [0, 1], "MGH17": [0, 1, 2], "Roszman1": [0, 1],
    "ENSO": [0, 1, 2, 4, 5, 7, 8], "MGH09": [0],
    "Thurber": [0, 1, 2, 3], "Misra1c": [0], "Misra1d": [0], "Chwirut1": [], "Gauss2": [0, 2, 5], "Gauss3": [0, 2, 5],
    "Lanczos1": [0, 2, 4], "Lanczos2": [0, 2, 4], "MGH10": [0], "Eckerle4": [0], "Rat42": [0], "Rat43": [0], "Bennett5": [0],
    "BoxBOD": [0]}


@dataclass(frozen=True, eq=False)
class Set:
    """One data set; `model(x, b1, b2, ...)` counts its calls in `count[0]`."""
    name: str
    function: object = field(repr=False)
    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    starts: tuple
    certified: np.ndarray
    stderr: np.ndarray
    rss: float
    count: list = field(default_factory=lambda: [0])

    @property
    def names(self):
        return tuple(f"b{j + 1}" for j in range(self.certified.size))

    @property
    def linear(self):
        return [self.names[j] for j in LINEAR[self.name]]

    @property
    def model(self):
        def model(x, *b):
            self.count[0] += 1
            with np.errstate(all="ignore"):
                return self.function(b, x)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        model.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in ("x", *self.names)])
        return model

    def residual(self, b):
        with np.errstate(all="ignore"):
            return self.function(b, self.x) - self.y

    def jacobian(self, b):
        """Exact to rounding, by complex steps."""
        columns = []
        for j, value in enumerate(b):
            moved = np.array(b, complex)
            moved[j] += 1j*(step := 1e-30*max(abs(value), 1e-10))
            columns.append(self.residual(moved).imag/step)
        return np.array(columns).T

    def is_solved(self, cost, start):
        """Is a sum of squares within a thousandth of the certified one, or within rounding of that at the start?"""
        return bool(cost <= (1 + 1e-3)*self.rss + 1e-12*np.sum(self.residual(start)**2))


def _other(name):
    text = (TESTS / "golden/strd_judging" / f"{name}.dat").read_text(encoding="ascii")
    table = np.array([[float(value) for value in row[1:]] for row in strd._PARAMETER.findall(text)])
    rows = strd._DATA_HEADING.split(text)[1].splitlines()
    y, x = np.array([line.split() for line in rows if line.strip()], float).T
    rss = float(re.search(rf"Residual Sum of Squares:\s*({strd._NUMBER})", text).group(1))
    return Set(name, OTHERS[name], x.copy(), y.copy(), (table[:, 0], table[:, 1]), table[:, 2], table[:, 3], rss)


@lru_cache(None)
def load(name):
    if name in OTHERS:
        return _other(name)
    d = strd.load(name)
    return Set(name, d.info.function, d.x, d.y, d.starts, d.certified, d.stderr, d.rss)


NAMES = (*strd.NAMES, *OTHERS)
