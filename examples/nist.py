"""Fit NIST's certified regressions and count the correct digits.

    python examples/nist.py [--plot FILE | --no-plot]

Every data set is fitted from both of NIST's starting points, with the defaults of
`leastsq`: no derivatives, no tuning.  For each fit the table says why it ended (ier; 1
to 4 are success), the number of residual evaluations, and how many decimal digits of the
worst parameter and of the worst standard error agree with NIST's certified values.  If
matplotlib is installed, the fits and their residuals are drawn.

Exit status: 0, or 1 if a fit failed that is known to succeed.
"""
from __future__ import annotations

import argparse
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import strd

import leastsq as package
from leastsq import leastsq

PICTURE = Path("out/nist.png")
ENOUGH_DIGITS = 2               # with fewer, the fit has ended at another minimum, or at none

# Fits that MINPACK's algorithm does not finish at the default settings, and why.
HARD = {
    ("MGH09", 1): "it takes some 2100 evaluations, the default limit is 200 (n + 1) = 1000 (see maxfev)",
    ("MGH17", 1): "every trial overflows exp, until the steps are shorter than xtol",
}


@dataclass(frozen=True, eq=False)
class Fit:
    dataset: strd.Dataset
    start: int                  # 1 or 2, as in NIST's files
    x: np.ndarray
    fvec: np.ndarray
    ier: int
    nfev: int
    digits: float               # of the worst parameter
    digits_stderr: float        # of the worst standard error; nan without a covariance
    seconds: float

    @property
    def succeeded(self) -> bool:
        return self.ier in (1, 2, 3, 4) and self.digits >= ENOUGH_DIGITS


def fit(dataset: strd.Dataset, start: int) -> Fit:
    """One fit as a user would do it, timed, and compared with the certified values."""
    with np.errstate(all="ignore"):         # the solver rejects trial points at which exp overflows
        began = time.perf_counter()
        x, cov_x, info, _, ier = leastsq(dataset.residual, dataset.starts[start - 1], full_output=True)
        seconds = time.perf_counter() - began

    digits_stderr = np.nan
    if cov_x is not None:
        variance = info["fvec"] @ info["fvec"] / (dataset.m - dataset.n)
        stderr = np.sqrt(np.diag(cov_x) * variance)
        digits_stderr = strd.correct_digits(stderr, dataset.stderr).min()
    return Fit(dataset, start, x, info["fvec"], ier, info["nfev"],
               strd.correct_digits(x, dataset.certified).min(), digits_stderr, seconds)


# ----------------------------------------------------------------- the table

HEADING = """\
                                                      correct digits
data set   level    start   n    m   ier   nfev   parameters  std. errors   time (ms)
"""


def row(f: Fit) -> str:
    d = f.dataset
    stderr = f"{f.digits_stderr:.1f}" if np.isfinite(f.digits_stderr) else "-"
    note = "" if f.succeeded else "   see below" if (d.name, f.start) in HARD else "   FAILED"
    return (f"{d.name:<10} {d.level:<8} {f.start:>5} {d.n:>3} {d.m:>4} {f.ier:>5} {f.nfev:>6} "
            f"{f.digits:>12.1f} {stderr:>12} {1e3 * f.seconds:>11.2f}{note}")


def failures(fits: list[Fit]) -> list[Fit]:
    """The fits that should have succeeded but did not."""
    return [f for f in fits if not f.succeeded and (f.dataset.name, f.start) not in HARD]


def summary(fits: list[Fit]) -> str:
    done = [f for f in fits if f.succeeded]
    text = f"{len(done)} of {len(fits)} fits reached the certified solution"
    if done:
        digits = [f.digits for f in done]
        text += (f", to {min(digits):.1f} digits or more (median {np.median(digits):.1f}), "
                 f"in {1e3 * sum(f.seconds for f in done):.0f} ms")
    return text + "."


def closing(fits: list[Fit]) -> str:
    """A summary: the fits that failed, and the number of those that succeeded."""
    lines = []
    for f in fits:
        fit_name = f"{f.dataset.name} from start {f.start}"
        if f in failures(fits):
            lines.append(f"FAILED: {fit_name}: ier {f.ier}, {f.digits:.1f} correct digits.")
        elif not f.succeeded:
            lines.append(f"{fit_name}: {HARD[f.dataset.name, f.start]}.")
    return "\n".join([*lines, summary(fits)])


# --------------------------------------------------------------- the picture

INK, DATA_COLOUR, MUTED = "#222222", "#5b7fa6", "#8a8a8a"
CURVES = ["#c8553d", "#d9953f", "#4f9d8f", "#6c5b95"]


def branches(dataset: strd.Dataset):
    """(label, rows, abscissa of the data, fine x for the curve, its abscissa) of each curve.

    Most data sets have one curve; Nelson has one against time for each temperature.
    """
    if dataset.x.ndim == 1:
        fine = np.linspace(dataset.x.min(), dataset.x.max(), 600)
        yield None, slice(None), dataset.x, fine, fine
        return
    time_, temperature = dataset.x
    for value in np.unique(temperature):
        rows = temperature == value
        fine = np.linspace(time_.min(), time_.max(), 100)
        yield f"{value:.0f} °C", rows, time_[rows], np.stack([fine, np.full_like(fine, value)]), fine


def draw_panel(axes, strip, f: Fit) -> None:
    d = f.dataset
    sd = np.sqrt(f.fvec @ f.fvec / (d.m - d.n))
    size = np.interp(np.log10(d.m), [1, 2.4], [6.5, 3.6])
    several = d.x.ndim > 1
    strip.axhspan(-2, 2, color="#eef1f5", zorder=0)
    strip.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    for (label, rows, abscissa, fine, fine_abscissa), colour in zip(branches(d), CURVES, strict=False):
        dots = dict(marker="o", markersize=size, linestyle="none", markeredgewidth=0.4,
                    markeredgecolor="white", color=colour if several else DATA_COLOUR)
        axes.plot(abscissa, d.y[rows], zorder=3 if d.m < 100 or several else 1, **dots)
        axes.plot(fine_abscissa, d.model(f.x, fine), color=colour, linewidth=1.6, zorder=2, label=label)
        strip.plot(abscissa, -f.fvec[rows] / sd, zorder=2, **dots)
    if several:
        axes.legend(fontsize=7, frameon=False, labelspacing=0.25, handlelength=1.2, loc="lower left")

    reach = 1.15 * max(3.0, np.abs(f.fvec / sd).max())
    strip.set_ylim(-reach, reach)
    strip.set_yticks([-2, 0, 2])
    strip.set_xlabel(d.info.xlabel, fontsize=8.5, labelpad=2)
    axes.set_ylabel(d.info.ylabel, fontsize=8.5, labelpad=3)
    axes.set_title(d.name, loc="left", fontsize=11, fontweight="bold", color=INK, pad=5)
    axes.set_title(d.info.subject, loc="right", fontsize=8.5, color=MUTED, pad=5)
    axes.margins(x=0.04, y=0.10)
    axes.tick_params(labelbottom=False)
    for side in (axes, strip):
        side.tick_params(labelsize=7.5, length=2.5, color=MUTED, labelcolor=INK)
        side.spines[["top", "right"]].set_visible(False)
        side.spines[["left", "bottom"]].set_color(MUTED)
    for formatter in (axes.yaxis.get_major_formatter(), strip.xaxis.get_major_formatter()):
        formatter.set_powerlimits((-3, 4))
    axes.yaxis.get_offset_text().set_fontsize(7)


def draw(fits: list[Fit], path: Path) -> None:
    """All data sets with their fitted curves, and the residuals under each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = {}                               # for each data set the last fit that reached the solution
    for f in fits:
        if f.succeeded or f.dataset.name not in best:
            best[f.dataset.name] = f

    columns, rows = 4, 4
    figure = Figure(figsize=(16, 15.2), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns, left=0.05, right=0.975, bottom=0.045, top=0.93,
                               wspace=0.25, hspace=0.32)
    by_column = [[] for _ in range(columns)]
    for index, (place, f) in enumerate(zip(grid, best.values(), strict=False)):
        pair = place.subgridspec(2, 1, height_ratios=[3, 1], hspace=0.08)
        axes = figure.add_subplot(pair[0])
        strip = figure.add_subplot(pair[1], sharex=axes)
        draw_panel(axes, strip, f)
        strip.set_ylabel("resid. / s", fontsize=7.5, labelpad=3)
        by_column[index % columns] += [axes, strip]
    for panels in by_column:                # align their y labels
        figure.align_ylabels(panels)

    legend = figure.add_subplot(grid[len(best):])
    legend.set_axis_off()
    legend.set_xlim(0, 1)
    legend.set_ylim(0, 1)
    legend.plot([0.10], [0.82], marker="o", markersize=6, color=DATA_COLOUR, linestyle="none")
    legend.plot([0.075, 0.125], [0.68, 0.68], color=CURVES[0], linewidth=2)
    legend.fill_between([0.075, 0.125], 0.49, 0.59, color="#e3e8ef")
    for height, text in ((0.82, "data, as NIST publishes them"),
                         (0.68, "model fitted by leastsq at its default settings"),
                         (0.54, "residuals, data minus model, within two\nresidual standard deviations s")):
        legend.text(0.16, height, text, va="center", fontsize=10.5, color=INK)
    legend.text(0.075, 0.32, textwrap.fill(summary(fits), 62), va="top", fontsize=10.5, color=INK,
                linespacing=1.5)

    figure.text(0.05, 0.968, "NIST's certified nonlinear regressions", fontsize=19, fontweight="bold", color=INK)
    figure.text(0.975, 0.968, f"leastsq {package.__version__}", fontsize=11, color=MUTED, ha="right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit NIST's certified regressions with leastsq.")
    parser.add_argument("--plot", metavar="FILE", type=Path, default=PICTURE,
                        help=f"where to draw the fits (default: {PICTURE})")
    parser.add_argument("--no-plot", action="store_true", help="draw nothing")
    options = parser.parse_args(arguments)

    print(f"NIST StRD nonlinear regression, leastsq {package.__version__} at default settings, "
          "derivatives by differences\n")
    print(HEADING, end="")
    fits = []
    fit(strd.load("Misra1a"), 2)            # not timed: the first fit of a process also loads code
    for dataset in strd.load_all():
        for start in (1, 2):
            fits.append(fit(dataset, start))
            print(row(fits[-1]))
    print()
    print(closing(fits))

    if not options.no_plot:
        try:
            draw(fits, options.plot)
            print(f"Picture: {options.plot}")
        except ImportError:
            print("No picture: matplotlib is not installed (pip install matplotlib).")
    return 1 if failures(fits) else 0


if __name__ == "__main__":
    sys.exit(main())
