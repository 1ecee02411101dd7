"""Fit a fluorescence decay in every pixel of an image; compare the deviations from the truth with the Cramér-Rao bound.

    python examples/pixels.py [--size N] [--plot FILE | --no-plot]

After a laser pulse a camera counts the photons of each pixel in 40 gates of 0.25 ns.
The expected counts are a exp(-t/tau) + b, with brightness a, background b, and the lifetime
tau of the dye, which depends on its position in the cell.  The images are simulated, so that the
true parameters are known, and with them the Cramér-Rao bound: the smallest standard deviation
that an unbiased estimate can have.

All pixels are fitted at once, twice: first without weights, then with weights from the counts that
the first fits predict; this makes the estimates as accurate as possible.  Gates in which the camera
was saturated get the weight 0.  A dead column and dead pixels are included too: their fits fail with a
message and do not stop the others.

Exit status: 0, or 1 if a fit of a live pixel failed or the deviations do not agree with the bound.
"""
from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import leastsq as package
from leastsq import BatchResult, leastsq_batch

PICTURE = Path("out/pixels.png")
GATE = 0.25                     # ns
T = GATE * (np.arange(40) + 0.5)
SATURATION = 600                # photons in a gate
NAMES = ("a", "tau", "b")


# ------------------------------------------------------------------ the model
# Rows are pixels: x has shape (k, 3), t all gates.

def expected(x: np.ndarray) -> np.ndarray:
    return x[:, :1] * np.exp(-T / x[:, 1:2]) + x[:, 2:]


def residual(x: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return expected(x) - counts


def jacobian(x: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Derivatives by column, (k, 3, gates): for col_deriv=True."""
    a, tau = x[:, :1], x[:, 1:2]
    columns = np.empty((len(x), 3, T.size))
    columns[:, 0] = np.exp(-T / tau)
    columns[:, 1] = a * columns[:, 0] * T / tau**2
    columns[:, 2] = 1
    return columns


# ----------------------------------------------------------------- the images

def smooth_noise(rng, size: int, length: float) -> np.ndarray:
    """A random field with mean 0 and standard deviation 1, correlated over `length` pixels."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) * np.exp(-(np.pi * frequency * length)**2)
    field = np.fft.irfft2(spectrum, (size, size))
    return (field - field.mean()) / field.std()


def inside(distance: np.ndarray, sharpness: float) -> np.ndarray:
    """1 where distance < 1, 0 beyond, with a soft edge."""
    return 1 / (1 + np.exp(np.clip(sharpness * (distance - 1), -50, 50)))


def truth_of_cells(size: int, rng) -> np.ndarray:
    """a, tau and b of every pixel, shape (size, size, 3): cells with nuclei and granules."""
    row, column = np.mgrid[:size, :size] / size
    wobble = 0.12 * smooth_noise(rng, size, size / 12)
    a = np.full((size, size), 45.0)
    tau = np.full((size, size), 1.6)
    granules = smooth_noise(rng, size, size / 75) > 1.55
    for y, x, long, wide, angle in ((0.28, 0.26, 0.25, 0.19, 0.5), (0.30, 0.74, 0.22, 0.17, -0.4),
                                    (0.74, 0.36, 0.27, 0.18, 0.1), (0.77, 0.82, 0.18, 0.15, 1.0)):
        u = (column - x) * np.cos(angle) + (row - y) * np.sin(angle)
        v = (row - y) * np.cos(angle) - (column - x) * np.sin(angle)
        body = inside(np.hypot(u / long, v / wide) + wobble, 25)
        nucleus = inside(np.hypot((u + 0.04) / (0.38 * long), v / (0.45 * wide)) + 0.5 * wobble, 18)
        a += body * (230 + 25 * wobble / 0.12) - 130 * nucleus
        tau += 0.75 * body + 0.65 * nucleus
        tau -= 0.85 * granules * body * (1 - nucleus)
        a += 280 * granules * body * (1 - nucleus)
    return np.stack([np.maximum(a, 25), tau, np.full_like(a, 4.0)], axis=-1)


def photograph(truth: np.ndarray, rng) -> np.ndarray:
    """Photon counts, (size, size, gates); NaN where the camera is dead."""
    size = len(truth)
    counts = rng.poisson(expected(truth.reshape(-1, 3))).astype(float)
    counts = np.minimum(counts, SATURATION).reshape(size, size, T.size)
    counts[:, int(0.6 * size)] = np.nan
    dead = rng.integers(size, size=(max(size**2 // 2000, 1), 2))
    counts[dead[:, 0], dead[:, 1], 3] = np.nan
    return counts


# ------------------------------------------------------------------- the fits

@dataclass(frozen=True, eq=False)
class Fits:
    truth: np.ndarray           # (size, size, 3)
    result: BatchResult
    seconds: float
    bound: np.ndarray           # smallest standard deviations, (size, size, 3)
    dead: np.ndarray            # (size, size)

    @property
    def maps(self) -> np.ndarray:
        """Fitted parameters; NaN where the fit failed."""
        x = np.where(self.result.success[:, None], self.result.x, np.nan)
        return x.reshape(self.truth.shape)

    @property
    def errors(self) -> np.ndarray:
        """Deviations from the true parameters, in units of the bound."""
        return (self.maps - self.truth) / self.bound


def fit(counts: np.ndarray) -> tuple[BatchResult, float]:
    """Fit twice; returns the results of the second round, and the seconds that both took."""
    y = counts.reshape(-1, T.size)
    began = time.perf_counter()
    present = y < SATURATION
    present[np.isnan(y).any(axis=1)] = True     # a dead pixel must be reported, not hidden by weights of 0
    high, low = np.max(y, axis=1), np.min(y, axis=1)
    start = np.column_stack([high - low, np.full(len(y), 2.0), low])
    first = leastsq_batch(residual, start, y, Dfun=jacobian, col_deriv=True, weights=present)
    with np.errstate(invalid="ignore"):
        weights = present / np.sqrt(np.maximum(expected(first.x), 0.1))
    second = leastsq_batch(residual, first.x, y, Dfun=jacobian, col_deriv=True, weights=weights)
    return second, time.perf_counter() - began


def cramer_rao(truth: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Smallest standard deviations, from the Fisher information of Poisson counts."""
    x = truth.reshape(-1, 3)
    columns = jacobian(x)
    information = (columns * (present / expected(x))[:, None, :]) @ columns.swapaxes(1, 2)
    variances = np.linalg.inv(information).diagonal(axis1=1, axis2=2)
    return np.sqrt(variances).reshape(truth.shape)


def experiment(size: int, seed: int = 5) -> Fits:
    rng = np.random.default_rng(seed)
    truth = truth_of_cells(size, rng)
    counts = photograph(truth, rng)
    result, seconds = fit(counts)
    dead = np.isnan(counts).any(axis=2)
    bound = cramer_rao(truth, ~(counts == SATURATION).reshape(-1, T.size))
    return Fits(truth, result, seconds, bound, dead)


# ----------------------------------------------------------------- the report

def report(fits: Fits) -> str:
    size = len(fits.truth)
    lines = [f"{size} x {size} decays of {T.size} gates, leastsq {package.__version__}",
             repr(fits.result),
             f"{2 * size**2} fits in {fits.seconds:.2f} s, {2 * size**2 / fits.seconds:.0f} per second",
             f"{fits.dead.sum()} dead pixels; the first one's: "
             + fits.result.message(int(np.flatnonzero(fits.dead)[0])),
             "",
             "error / Cramér-Rao bound     mean   std. dev."]
    for k, name in enumerate(NAMES):
        z = fits.errors[~fits.dead][:, k]
        lines.append(f"    {name:<22} {np.nanmean(z):>7.3f} {np.nanstd(z):>11.3f}")
    return "\n".join(lines)


def as_good_as_can_be(fits: Fits) -> bool:
    """Did the fit of every live pixel succeed, with deviations that agree with the bound?"""
    z = fits.errors[~fits.dead]
    tolerance = 0.02 + 4 / np.sqrt(len(z))
    return (bool((fits.result.success.reshape(fits.dead.shape) == ~fits.dead).all())
            and bool((np.abs(z.mean(0)) < 0.1).all()) and bool((np.abs(z.std(0) - 1) < tolerance).all()))


INK, MUTED = "#222222", "#8a8a8a"
COLOURS = ("#c8553d", "#2f6690", "#4f9d8f")
LABELS = ("brightness a", "lifetime τ", "background b")


def draw(fits: Fits, path: Path) -> None:
    """Maps of the true parameters and of the fits, and the deviations compared with the bound."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = Figure(figsize=(14, 9.3), facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3, left=0.045, right=0.955, bottom=0.07, top=0.865, wspace=0.30,
                               hspace=0.22)
    figure.text(0.045, 0.95, "A lifetime in every pixel", fontsize=20, fontweight="bold", color=INK)
    size, live = len(fits.truth), ~fits.dead
    figure.text(0.045, 0.915, f"{size} × {size} fluorescence decays of {T.size} gates, fitted twice in "
                f"{fits.seconds:.1f} s by leastsq_batch in one thread; {fits.dead.sum()} dead pixels in grey",
                fontsize=11.5, color=INK)
    figure.text(0.955, 0.95, f"leastsq {package.__version__}", fontsize=11, color=MUTED, ha="right")

    def image(place, values, title, label, colours, low, high):
        axes = figure.add_subplot(place)
        palette = colormaps[colours].with_extremes(bad="#b9b9b9")
        shown = axes.imshow(values, cmap=palette, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=7)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.025)
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=9, length=2.5, color=MUTED, labelcolor=INK)
        bar.set_label(label, fontsize=9.5, color=INK)

    maps = fits.maps
    low, high = np.percentile(fits.truth[..., 1], [0.2, 99.8]) + [-0.1, 0.1]
    image(grid[0, 0], maps[..., 0], "Fitted brightness", "photons per gate at t = 0", "magma", 0,
          np.percentile(fits.truth[..., 0], 99.8))
    image(grid[0, 1], maps[..., 1], "Fitted lifetime", "ns", "viridis", low, high)
    image(grid[0, 2], fits.truth[..., 1], "True lifetime", "ns", "viridis", low, high)
    image(grid[1, 0], fits.errors[..., 1], "Errors of the lifetime", "error / Cramér–Rao bound",
          "RdBu_r", -4, 4)

    def plot(place, title, xlabel, ylabel):
        axes = figure.add_subplot(place)
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=7)
        axes.set_xlabel(xlabel, fontsize=10, color=INK)
        axes.set_ylabel(ylabel, fontsize=10, color=INK)
        axes.tick_params(labelsize=9, length=2.5, color=MUTED, labelcolor=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        return axes

    axes = plot(grid[1, 1], "Distribution of the errors", "error / Cramér–Rao bound", "density")
    edges = np.linspace(-4.5, 4.5, 73)
    for k, (label, colour) in enumerate(zip(LABELS, COLOURS, strict=True)):
        z = fits.errors[live][:, k]
        axes.stairs(np.histogram(z, edges, density=True)[0], edges, color=colour, linewidth=1.5,
                    label=f"{label}: {z.mean():+.2f} ± {z.std():.2f}")
    normal = np.exp(-edges**2 / 2) / np.sqrt(2 * np.pi)
    axes.plot(edges, normal, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="standard normal")
    axes.set_xlim(-4.5, 4.5)
    axes.set_ylim(0, 0.58)
    axes.legend(fontsize=9, frameon=False, loc="upper left", labelcolor=INK, handlelength=1.6)

    axes = plot(grid[1, 2], "Errors in weak and strong light", "Cramér–Rao bound of the lifetime (ns)",
                "observed r.m.s. error (ns)")
    bound, error = fits.bound[live][:, 1], (maps - fits.truth)[live][:, 1]
    order = np.argsort(bound)
    groups = np.array_split(order, max(len(order) // max(len(order) // 40, 50), 1))
    centre = [np.sqrt(np.mean(bound[g]**2)) for g in groups]
    observed = [np.sqrt(np.mean(error[g]**2)) for g in groups]
    ends = np.array([min(centre) / 1.3, max(centre) * 1.3])
    axes.loglog(ends, ends, color=INK, linewidth=1, linestyle=(0, (4, 3)), label="the bound")
    axes.loglog(centre, observed, color=COLOURS[1], marker="o", markersize=6, linestyle="none",
                markeredgecolor="white", markeredgewidth=0.6, label=f"groups of {len(groups[0])} pixels")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([0.02, 0.05, 0.1, 0.2, 0.5]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    axes.legend(fontsize=9, frameon=False, loc="upper left", labelcolor=INK)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fit a fluorescence decay in every pixel of an image.")
    parser.add_argument("--size", type=int, default=256, help="pixels along a side (default 256)")
    parser.add_argument("--plot", metavar="FILE", type=Path, default=PICTURE,
                        help=f"where to draw the maps (default: {PICTURE})")
    parser.add_argument("--no-plot", action="store_true", help="draw nothing")
    options = parser.parse_args(arguments)

    fits = experiment(options.size)
    print(report(fits))
    if not options.no_plot:
        try:
            draw(fits, options.plot)
            print(f"Picture: {options.plot}")
        except ImportError:
            print("No picture: matplotlib is not installed (pip install matplotlib).")
    return 0 if as_good_as_can_be(fits) else 1


if __name__ == "__main__":
    sys.exit(main())
