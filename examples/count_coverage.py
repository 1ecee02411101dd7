"""Counts fitted by their likelihood, and with weights of 1/sqrt(N): bias, coverage, evaluations.

    python examples/count_coverage.py [--fits N] [--bins 256] [--peaks 8 40 400] [--levels 0.1 1 5]

Simulates Poisson counts of a decay to a level, and fits each simulation with loss="poisson" and by least
squares with sigma = sqrt(max(N, 1)).  For the rate it prints the bias of the mean, in per cent and in standard
deviations of the estimates; how often the 95 % intervals contain the true value (a correct interval does in 95 %
of the fits, within the binomial standard deviation); and the median number of evaluations of the model for a
fit, where a Jacobian counts as one.
"""
from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass

import numpy as np

import leastsq as lsq

LEVEL = 0.95
METHODS = ("t", "profile")
RATE = 1.0
SPAN = 10.0                             # of the times, in units of 1/RATE
LIMITS = {"height": (0, None), "rate": (0, None), "level": (0, None)}


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def slopes(t, height, rate, level):
    e = np.exp(-rate*t)
    return np.column_stack([e, -height*t*e, np.ones_like(t)])


@dataclass(frozen=True)
class Outcome:
    rates: np.ndarray
    held: dict              # {method of the interval: number of intervals that contain the true value}
    evaluations: float      # median
    failed: int             # fits or intervals that failed

    @property
    def bias(self):
        """The bias of the rate, relative to the true rate and to the standard deviation of the estimates."""
        off = self.rates.mean() - RATE
        return off/RATE, off/self.rates.std()


def times(bins):
    """The middles of the bins."""
    return SPAN*(np.arange(bins) + 0.5)/bins


def start_of(t, counts):
    """A start from the data alone: the level of the last third, and the sum and mean time of the counts above it."""
    level = counts[t > 0.7*SPAN].mean()
    above = counts - level
    total = max(above.sum(), np.sqrt(counts.sum()))
    mean_time = np.clip((t @ above)/total, 0.02*SPAN, 0.3*SPAN)
    return {"height": total*(t[1] - t[0])/mean_time, "rate": 1/mean_time, "level": max(level, 0.01*counts.mean())}


def run(peak, level, fits, bins, seed=20240601):
    """(outcome of the likelihood, outcome of least squares) for the same simulated counts."""
    random = np.random.default_rng([seed, int(peak), int(10*level), bins])
    t = times(bins)
    expected = decay(t, peak, RATE, level)
    tallies = [{"rates": [], "evaluations": [], "failed": 0, "t": 0, "profile": 0} for _ in range(2)]
    for _ in range(fits):
        counts = random.poisson(expected).astype(float)
        roots = np.sqrt(np.maximum(counts, 1))
        for tally, options in zip(tallies, ({"loss": "poisson"}, {"sigma": roots, "absolute_sigma": True})):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                fit = lsq.fit(decay, t, counts, start_of(t, counts), bounds=LIMITS, jac=slopes, **options)
                tally["rates"].append(float(fit["rate"]))
                tally["evaluations"].append(fit.nfev + fit.njev)
                bad = not fit.success
                for method in METHODS:
                    found = fit.intervals("rate", level=LEVEL, method=method)
                    bad |= bool(np.isnan(found.lower[1]) or np.isnan(found.upper[1]))
                    tally[method] += bool(found.lower[1] <= RATE <= found.upper[1])
            tally["failed"] += bad
    return [Outcome(np.array(tally["rates"]), {m: tally[m] for m in METHODS}, float(np.median(tally["evaluations"])),
                    tally["failed"]) for tally in tallies]


def row(peak, level, name, outcome):
    part, sigmas = outcome.bias
    fits = outcome.rates.size
    t, profile = (outcome.held[method]/fits for method in METHODS)
    return (f"{peak:>5g} {level:>6g}  {name:<8} {100*part:>+7.1f} % {sigmas:>+7.2f} {t:>9.3f} {profile:>9.3f} "
            f"{outcome.evaluations:>8g} {outcome.failed:>7}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Bias and coverage of fits to counts.")
    parser.add_argument("--fits", type=int, default=2000, help="simulations of each case (default: 2000)")
    parser.add_argument("--bins", type=int, default=256, help="number of bins (default: 256)")
    parser.add_argument("--peaks", type=float, nargs="+", default=[8, 40, 400])
    parser.add_argument("--levels", type=float, nargs="+", default=[0.1, 1, 5])
    options = parser.parse_args(arguments)
    print(f"{options.fits} simulations of each case; one binomial standard deviation of the coverage is "
          f"{np.sqrt(LEVEL*(1 - LEVEL)/options.fits):.3f}\n")
    print(" peak  level  fit       bias of the rate   contains truth       evalua-  failed\n"
          "                             %     / s.d.      t    profile    tions")
    for peak in options.peaks:
        for level in options.levels:
            for name, outcome in zip(("poisson", "sqrt(N)"), run(peak, level, options.fits, options.bins)):
                print(row(peak, level, name, outcome), flush=True)


if __name__ == "__main__":
    main()
