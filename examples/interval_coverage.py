"""How often do 95 % confidence intervals cover the true parameter?

    python examples/interval_coverage.py [--fits N] [--plot FILE]

Simulates data from three models with known parameters, fits them, and counts how often
Student's interval and the one from the likelihood profile cover the truth.  A correct interval
does so in 95 % of the fits, within the binomial standard deviation of the count.  The table
also says how often the truth lies below and above the interval (2.5 % each if both ends
are right).
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leastsq import confidence_intervals, leastsq

LEVEL = 0.95


@dataclass(frozen=True)
class Study:
    name: str
    model: Callable
    t: np.ndarray
    truth: np.ndarray
    names: tuple
    noise: float
    bent: bool                  # so nonlinear that Student's t cannot be right


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def enzyme(t, vmax, k):
    return vmax*t/(k + t)


def oxygen(t, plateau, rate):
    return plateau*(1 - np.exp(-rate*t))


STUDIES = [
    Study("decay", decay, np.linspace(0, 4, 25), np.array([2.5, 1.3, 0.5]), ("height", "rate", "level"), 0.05, False),
    Study("enzyme", enzyme, np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.1], 2), np.array([212.7, 0.0641]),
          ("vmax", "k"), 6.0, False),
    Study("oxygen demand", oxygen, np.array([1.0, 2, 3, 4, 5, 7]), np.array([19.14, 0.2]), ("plateau", "rate"), 1.2,
          True),
]


@dataclass(frozen=True)
class Count:
    study: Study
    method: str
    fits: int
    failed: int                 # fits or intervals that failed
    below: np.ndarray           # the truth lay below the interval
    above: np.ndarray
    seconds: float

    @property
    def covered(self):
        return self.fits - self.below - self.above

    @property
    def sigmas(self):
        """Distance from the level, in binomial standard deviations."""
        return (self.covered/self.fits - LEVEL)/np.sqrt(LEVEL*(1 - LEVEL)/self.fits)


def run(study: Study, fits: int, seed: int = 20240601) -> list[Count]:
    """Counts for Student's t and for profiles, on the same simulated data."""
    rng = np.random.default_rng(seed)
    exact = study.model(study.t, *study.truth)
    n = study.truth.size
    tally = {method: [0, np.zeros(n, int), np.zeros(n, int), 0.0] for method in ("t", "profile")}
    for _ in range(fits):
        y = exact + study.noise*rng.standard_normal(exact.size)

        def residual(x, y=y):
            return study.model(study.t, *x) - y

        with np.errstate(all="ignore"):
            fit = leastsq(residual, study.truth, full_output=True)
            for method, counted in tally.items():
                began = time.perf_counter()
                found = confidence_intervals(fit, level=LEVEL, method=method)
                counted[3] += time.perf_counter() - began
                counted[0] += bool(np.isnan(found.lower).any() or np.isnan(found.upper).any())
                counted[1] += ~(found.lower <= study.truth)
                counted[2] += (found.lower <= study.truth) & ~(study.truth <= found.upper)
    return [Count(study, method, fits, *counted) for method, counted in tally.items()]


HEADING = "model          parameter  method   contains truth    off by   below   above   per fit\n"


def rows(count: Count) -> str:
    lines = []
    for j, name in enumerate(count.study.names):
        covered = 100*count.covered[j]/count.fits
        lines.append(f"{count.study.name:<14} {name:<10} {count.method:<8} {covered:>11.1f} % {count.sigmas[j]:>+9.1f} s "
                     f"{100*count.below[j]/count.fits:>5.1f} % {100*count.above[j]/count.fits:>5.1f} % "
                     f"{1e3*count.seconds/count.fits:>6.1f} ms")
    return "\n".join(lines)


def draw(counts: list[Count], path: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    fits, tail = counts[0].fits, 100*(1 - LEVEL)/2
    error = 100*1.96*np.sqrt(tail/100*(1 - tail/100)/fits)
    for side in (-1, 1):
        ax.axvspan(side*(tail - error), side*(tail + error), color="#e6ebf1", linewidth=0, zorder=0,
                   label=f"{tail:g} % ± binomial error" if side > 0 else None)
    ax.axvline(0, color="#8a8a8a", linewidth=0.8)
    labels = [f"{c.study.name}: {name}" for c in counts[::2] for name in c.study.names]
    for k, (name, colour, marker) in enumerate([("Student's t", "#3f6a97", "o"), ("likelihood profile", "#c8553d", "D")]):
        below, above = (np.concatenate([100*getattr(c, side)/fits for c in counts[k::2]]) for side in ("below", "above"))
        rows = np.arange(below.size) + (0.14 if k else -0.14)
        ax.hlines(rows, -below, above, color=colour, linewidth=1.2, alpha=0.5, zorder=1)
        ax.plot(np.concatenate([-below, above]), np.tile(rows, 2), marker, color=colour, markersize=6.5,
                markeredgecolor="white", label=name, zorder=2)
    reach = 1.12*max(abs(limit) for limit in ax.get_xlim())
    ax.set_xlim(-reach, reach)
    ticks = np.arange(-2*int(reach/2), reach, 2, dtype=int)
    ax.set_xticks(ticks, [f"{abs(tick)}" for tick in ticks])
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel(f"← true value below the 95 % interval,   % of {fits} fits,   above it →")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*ax.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside upper center", ncols=3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Coverage of confidence intervals.")
    parser.add_argument("--fits", type=int, default=1000, help="simulated fits of each model (default: 1000)")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw the coverage there")
    options = parser.parse_args(arguments)
    print(f"{options.fits} simulated fits of each model; one binomial standard deviation s is "
          f"{100*np.sqrt(LEVEL*(1 - LEVEL)/options.fits):.2f} %\n")
    print(HEADING, end="")
    counts = []
    for study in STUDIES:
        for count in run(study, options.fits):
            counts.append(count)
            print(rows(count))
            if count.failed:
                print(f"               ({count.failed} fits without an interval, counted as misses)")
    if options.plot:
        draw(counts, options.plot)
        print(f"Picture: {options.plot}")


if __name__ == "__main__":
    main()
