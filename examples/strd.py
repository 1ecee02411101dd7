"""NIST's certified nonlinear regressions: data, models and certified answers.

The Statistical Reference Datasets (StRD) of the US National Institute of
Standards and Technology give real regression data together with parameters
and standard errors that were computed in extended precision.  Fourteen of
them are in ``strd/``, as NIST publishes them.  ``load("Thurber")`` parses one
file into a `Dataset`; ``load_all()`` gives all of them in NIST's order of
difficulty.

Residuals are model - data.  The models accept complex parameters, which makes
``Dataset.jacobian`` exact to rounding: for an analytic f and a tiny h, the
imaginary part of f(b + ih) / h is f'(b).

This module needs only NumPy.  The examples and the tests use it, and so can anyone
who wants to try another solver on the same problems.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parent / "strd"
MAX_DIGITS = 11                 # the certified values are printed with 11 digits


# ---------------------------------------------------------------- the models
# b[0] is b1 in NIST's files; x is the predictor, of shape (m,), or (2, m) for Nelson.

def _polynomial(coefficients, x):
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def _saturation(b, x):
    return b[0] * (1 - np.exp(-b[1] * x))


def _saturation_rational(b, x):
    return b[0] * (1 - (1 + b[1] * x / 2) ** -2)


def _decay_over_line(b, x):
    return np.exp(-b[0] * x) / (b[1] + b[2] * x)


def _three_exponentials(b, x):
    return sum(b[k] * np.exp(-b[k + 1] * x) for k in (0, 2, 4))


def _two_peaks_on_decay(b, x):
    return (b[0] * np.exp(-b[1] * x)
            + b[2] * np.exp(-((x - b[3]) / b[4]) ** 2)
            + b[5] * np.exp(-((x - b[6]) / b[7]) ** 2))


def _power(b, x):
    return b[0] * x ** b[1]


def _quadratic_ratio(b, x):
    return _polynomial(b[:3], x) / (1 + x * _polynomial(b[3:], x))


def _cubic_ratio(b, x):
    return _polynomial(b[:4], x) / (1 + x * _polynomial(b[4:], x))


def _degradation(b, x):
    time, temperature = x
    return b[0] - b[1] * time * np.exp(-b[2] * temperature)


def _two_exponentials_and_level(b, x):
    return b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4])


def _quantum_defect(b, x):
    return b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi


def _linear_over_quadratic(b, x):
    return b[0] * x * (x + b[1]) / (x * (x + b[2]) + b[3])


def _three_cycles(b, x):
    value = b[0]
    for period, c, s in ((12.0, b[1], b[2]), (b[3], b[4], b[5]), (b[6], b[7], b[8])):
        phase = 2 * np.pi * x / period
        value = value + c * np.cos(phase) + s * np.sin(phase)
    return value


@dataclass(frozen=True)
class Model:
    function: Callable
    subject: str                # what was measured, for a plot's title
    xlabel: str
    ylabel: str
    of_log_response: bool = False


MODELS = {                      # in NIST's order of difficulty
    # Lower
    "Misra1a": Model(_saturation, "monomolecular adsorption", "pressure", "volume"),
    "Chwirut2": Model(_decay_over_line, "ultrasonic calibration", "metal distance", "response"),
    "Lanczos3": Model(_three_exponentials, "three exponentials", "x", "y"),
    "Gauss1": Model(_two_peaks_on_decay, "two peaks on a decay", "x", "y"),
    "DanWood": Model(_power, "carbon filament lamp", "temperature (1000 K)", "energy"),
    "Misra1b": Model(_saturation_rational, "monomolecular adsorption", "pressure", "volume"),
    # Average
    "Kirby2": Model(_quadratic_ratio, "electron microscope widths", "x", "y"),
    "Hahn1": Model(_cubic_ratio, "thermal expansion of copper", "temperature (K)", "coefficient"),
    "Nelson": Model(_degradation, "dielectric breakdown", "time (weeks)", "log strength",
                    of_log_response=True),
    "MGH17": Model(_two_exponentials_and_level, "two exponentials", "x", "y"),
    "Roszman1": Model(_quantum_defect, "quantum defects of an atom", "excited state energy", "defect"),
    "ENSO": Model(_three_cycles, "El Niño air pressure", "month", "pressure difference"),
    # Higher
    "MGH09": Model(_linear_over_quadratic, "linear over quadratic", "x", "y"),
    "Thurber": Model(_cubic_ratio, "electron mobility", "log density", "mobility"),
}
NAMES = list(MODELS)


# -------------------------------------------------------------- one data set

@dataclass(frozen=True)
class Dataset:
    """One certified regression problem.

    Attributes
    ----------
    name, level : str
        NIST's name and level of difficulty (Lower, Average, Higher).
    x : (m,) or (2, m) array
        Predictor, or two of them (Nelson).
    y : (m,) array
        Response that is fitted; for Nelson the logarithm of the recorded one.
    starts : two (n,) arrays
        The far start and the near one.
    certified, stderr : (n,) arrays
        Certified parameters and their standard errors.
    rss : float
        Certified residual sum of squares.
    """

    name: str
    level: str
    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    starts: tuple[np.ndarray, np.ndarray]
    certified: np.ndarray
    stderr: np.ndarray
    rss: float

    @property
    def n(self) -> int:
        return self.certified.size

    @property
    def m(self) -> int:
        return self.y.size

    @property
    def info(self) -> Model:
        return MODELS[self.name]

    def model(self, b, x=None):
        """The model at parameters `b`, at the data's own x or at another."""
        return self.info.function(b, self.x if x is None else x)

    def residual(self, b):
        """Model minus data, shape (m,)."""
        return self.info.function(b, self.x) - self.y

    def jacobian(self, b):
        """d residual / d b, shape (m, n), exact to rounding (complex steps)."""
        b = np.asarray(b, dtype=float)
        columns = np.empty((self.m, self.n), order="F")
        for j in range(self.n):
            step = 1e-30 * max(abs(b[j]), 1e-10)
            shifted = b.astype(complex)
            shifted[j] += 1j * step
            columns[:, j] = self.residual(shifted).imag / step
        return columns


def correct_digits(got, certified) -> np.ndarray:
    """Number of correct decimal digits of each value: -log10 of its relative error.

    Between 0 and `MAX_DIGITS`; 0 for a value that is not finite.
    """
    got = np.atleast_1d(np.asarray(got, dtype=float))
    certified = np.atleast_1d(np.asarray(certified, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = -np.log10(np.abs(got - certified) / np.abs(certified))
    return np.clip(np.where(np.isfinite(got), digits, 0.0), 0.0, MAX_DIGITS)


# --------------------------------------------------------- NIST's file format

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[Ee][-+]?\d+)?"
_PARAMETER = re.compile(r"^\s*b(\d+)\s*=" + rf"\s+({_NUMBER})" * 4 + r"\s*$", re.MULTILINE)
_DATA_HEADING = re.compile(r"^\s*Data:\s+y\s+x.*$", re.MULTILINE)


def parse(path: str | Path) -> Dataset:
    """Read one StRD file; ValueError if it contradicts itself."""
    text = Path(path).read_text(encoding="ascii")

    def stated(pattern):
        found = re.search(pattern, text)
        if found is None:
            raise ValueError(f"{path}: no line matches {pattern!r}")
        return found.group(1)

    rows = _PARAMETER.findall(text)
    table = np.array([[float(value) for value in row[1:]] for row in rows])
    sections = _DATA_HEADING.split(text)
    if len(sections) != 2:
        raise ValueError(f"{path}: expected one 'Data: y x' heading, found {len(sections) - 1}")
    data = np.array([line.split() for line in sections[1].splitlines() if line.strip()], dtype=float)

    name = stated(r"Dataset Name:\s*(\w+)")
    if [int(row[0]) for row in rows] != list(range(1, len(rows) + 1)):
        raise ValueError(f"{path}: parameters are not b1, b2, ... in order")
    if len(data) != int(stated(r"Number of Observations:\s*(\d+)")):
        raise ValueError(f"{path}: {len(data)} rows of data is not the stated number of observations")
    if len(data) - len(rows) != int(stated(r"Degrees of Freedom:\s*(\d+)")):
        raise ValueError(f"{path}: {len(rows)} parameters do not match the stated degrees of freedom")

    y, x = data[:, 0], data[:, 1:].T
    return Dataset(
        name=name,
        level=stated(r"(\w+) Level of Difficulty"),
        x=np.ascontiguousarray(x[0] if len(x) == 1 else x),
        y=np.log(y) if MODELS[name].of_log_response else y.copy(),
        starts=(table[:, 0].copy(), table[:, 1].copy()),
        certified=table[:, 2].copy(),
        stderr=table[:, 3].copy(),
        rss=float(stated(rf"Residual Sum of Squares:\s*({_NUMBER})")),
    )


def load(name: str) -> Dataset:
    """The data set of that name, e.g. ``load("Misra1a")``."""
    return parse(DATA / f"{name}.dat")


def load_all() -> list[Dataset]:
    """All data sets, in NIST's order of difficulty."""
    return [load(name) for name in NAMES]
