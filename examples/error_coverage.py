"""Do 95 % intervals and bands cover the truth in 95 % of the cases, whatever is known about the data's uncertainties?

    python examples/error_coverage.py [--quick] [--sets N]

Simulates data with known parameters for each kind of knowledge about their uncertainties, fits them
with `curve_fit`, and computes Student's intervals of the parameters, the confidence band of the curve and
the prediction band of new observations.  Each should cover the truth (or a new observation) in 95 % of
the cases: with 2000 sets, between 93.5 and 96.5 %.

The last row is a common mistake with counts: square roots of the counts themselves as sigma.
"""
from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from leastsq import confidence_band, confidence_intervals, curve_fit

LEVEL = 0.95
RIGHT = (0.935, 0.965)
SETS, QUICK = 2000, 100
T = np.linspace(0, 4, 30)
TRUTH = np.array([2.5, 1.3, 0.5])
COUNTS = np.array([80.0, 1.3, 20.0])
NOISE = 0.03


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


@dataclass(frozen=True, eq=False)
class Study:
    """What is known about the data, and how they are fitted."""

    name: str
    draw: Callable              # a function of a random generator: the data
    options: Callable           # a function of the data: keywords of curve_fit
    t: np.ndarray = field(default_factory=lambda: T)
    truth: np.ndarray = field(default_factory=lambda: TRUTH)
    noise: object = True        # confidence_band's argument, for new observations
    new: Callable | None = None         # a function of a random generator: new observations, if they are of another kind
    refit: bool = False         # fit again with sigma from the model
    right: bool = True


ERRORS = NOISE*np.where(T < 1.5, 2.0, 0.7)
SCALES = ERRORS/NOISE
MATRIX = NOISE**2*0.6**np.abs(np.subtract.outer(np.arange(T.size), np.arange(T.size)))
ROOT = np.linalg.cholesky(MATRIX)
MANY = np.linspace(0, 4, 100)


def _normal(errors):
    return lambda rng: decay(T, *TRUTH) + errors*rng.standard_normal(T.size)


def _spoiled(rng):
    """A tenth of the data has errors ten times as large as the others."""
    errors = np.where(rng.random(MANY.size) < 0.1, 10*NOISE, NOISE)
    return decay(MANY, *TRUTH) + errors*rng.standard_normal(MANY.size)


def _poisson(rng):
    return rng.poisson(decay(T, *COUNTS)).astype(float)


STUDIES = (
    Study("unweighted", _normal(NOISE), lambda y: {}),
    Study("weighted", _normal(ERRORS), lambda y: {"sigma": SCALES}),
    Study("absolute", _normal(ERRORS), lambda y: {"sigma": ERRORS, "absolute_sigma": True}),
    Study("correlated", lambda rng: decay(T, *TRUTH) + ROOT @ rng.standard_normal(T.size),
          lambda y: {"sigma": MATRIX, "absolute_sigma": True}),
    Study("inactive bounds", _normal(NOISE), lambda y: {"bounds": ([0, 0, -1], [9, 9, 9])}),
    Study("robust", _spoiled, lambda y: {"loss": "soft_l1", "f_scale": NOISE}, t=MANY, noise=NOISE,
          new=lambda rng: decay(MANY, *TRUTH) + NOISE*rng.standard_normal(MANY.size)),      # without outliers
    Study("counts, by model", _poisson, lambda y: {"sigma": np.sqrt(np.maximum(y, 1)), "absolute_sigma": True}, truth=COUNTS,
          refit=True),
    Study("counts, by data", _poisson, lambda y: {"sigma": np.sqrt(np.maximum(y, 1)), "absolute_sigma": True}, truth=COUNTS,
          right=False),
)


@dataclass(frozen=True)
class Coverage:
    """Shares of the cases in which the truth was covered, for each parameter and for the two bands."""

    study: Study
    parameters: np.ndarray
    curve: float
    observations: float

    @property
    def shares(self):
        return [*self.parameters, self.curve, self.observations]

    @property
    def is_right(self):
        return all(RIGHT[0] <= share <= RIGHT[1] for share in self.shares)


def fit(study: Study, y: np.ndarray):
    """The result of curve_fit."""
    options = study.options(y)
    result = curve_fit(decay, study.t, y, study.truth, covariance="accurate", full_output=True, **options)
    if study.refit:             # the standard deviation of a count is the root of its expected value
        for _ in range(2):
            sigma = np.sqrt(decay(study.t, *result[0]))
            result = curve_fit(decay, study.t, y, result[0], sigma=sigma, absolute_sigma=True, covariance="accurate",
                               full_output=True)
    return result


def run(study: Study, sets: int, seed: int = 20240601) -> Coverage:
    rng = np.random.default_rng([seed, STUDIES.index(study)])
    exact = decay(study.t, *study.truth)
    held, curve, observed = np.zeros(study.truth.size), 0.0, 0.0
    for _ in range(sets):
        y, other = study.draw(rng), (study.new or study.draw)(rng)
        result = fit(study, y)
        found = confidence_intervals(result, level=LEVEL)
        held += (found.lower <= study.truth) & (study.truth <= found.upper)
        band = confidence_band(result, level=LEVEL)
        curve += np.mean((band.lower <= exact) & (exact <= band.upper))
        band = confidence_band(result, level=LEVEL, noise=study.noise)
        observed += np.mean((band.lower <= other) & (other <= band.upper))
    return Coverage(study, held/sets, curve/sets, observed/sets)


HEADING = "the data are       " + "".join(f"{name:>9}" for name in ("height", "rate", "level", "curve", "new data"))


def row(found: Coverage) -> str:
    return f"{found.study.name:<17}  " + "".join(f"{100*share:>7.1f} %" for share in found.shares)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Coverage of intervals and bands.")
    parser.add_argument("--sets", type=int, default=SETS, help=f"data sets of each kind (default: {SETS})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} data sets of each kind")
    options = parser.parse_args(arguments)
    sets = QUICK if options.quick else options.sets
    print(f"How often 95 % intervals and bands covered the truth, of {sets} data sets each\n\n{HEADING}")
    warnings.simplefilter("error")
    for study in STUDIES:
        print(row(run(study, sets)), flush=True)
    print("\nWith sigma = sqrt(count), a count that is low by chance gets too small a sigma and so the largest\n"
          "weight.  Instead fit, take sigma = sqrt(model), and fit again, as in the row above.")


if __name__ == "__main__":
    main()
