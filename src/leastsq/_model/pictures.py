"""Plots that `plot.fit` does not make: of several data sets, complex data, images, joint regions of two parameters."""

from __future__ import annotations

import numpy as np

from .. import plot
from .._problem.counts import count_residuals
from .._drawing import axes_of, points_of, pyplot, quiet, style_in_force, titled

__all__ = ["draw", "draw_contour"]

_GRID = 400


def draw(result, title=None, xlabel=None, ylabel=None, **options):
    """The plot of a `FitResult` that suits its data."""
    sets = result._models.sets
    if len(sets) == 1 and sets[0].draws and not sets[0].is_complex:
        return plot.fit(result, title=title, xlabel=xlabel, ylabel=ylabel, **options)
    if options:
        raise TypeError(f"plot: {', '.join(options)} can only be given for one data set of real numbers, with an x of the same "
                        "length")
    if len(sets) == 1 and sets[0].y.ndim == 2 and not sets[0].is_complex:
        return _images(result, title, xlabel, ylabel)
    panels = [panel for i, data in enumerate(sets) for panel in _panels(result, i, data)]
    style = style_in_force()
    figure, grid = pyplot().subplots(2, len(panels), sharex="col", squeeze=False, layout="constrained",
                                      height_ratios=[3.2, 1], figsize=(1.2 + 3.6*len(panels), 4.6))
    for (above, below), (name, t, y, sigma, curve, off) in zip(grid.T, panels):
        points_of(above, t, y, sigma, style, label="data")
        above.plot(*curve, color=style.curve, zorder=2, label="fit")
        above.set_title(name, loc="left", fontsize=style.size)
        below.axhline(0, color=style.muted, linewidth=0.8, zorder=1)
        points_of(below, t, off, None, style)
        below.set_xlabel("x" if xlabel is None else xlabel)
        quiet(style, above, below)
    grid[0, 0].set_ylabel("y" if ylabel is None else ylabel)
    sigmas = [panel[3] for panel in panels]
    grid[1, 0].set_ylabel(_residual_named(result, sigmas[0]))
    grid[0, 0].legend(frameon=False, fontsize=0.9*style.size)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=1.1*style.size)
    return figure


def _panels(result, i, data):
    """(name, t, data, sigma, curve, residuals) for each part of a data set, such as real and imaginary."""
    t = grid = np.arange(data.y.size)
    at = line = np.asarray(result.predict(dataset=i)).ravel()
    if data.draws:
        t = np.asarray(data.x, float)
        known = np.sort(t[np.isfinite(t)])
        grid = np.interp(np.linspace(0, known.size - 1, _GRID), np.arange(known.size), known)       # as dense as the data
        line = np.broadcast_to(np.asarray(result.predict(grid, dataset=i)), grid.shape)
    y = data.natural(data.values).ravel()
    sigma = data.natural_sigma()
    sigma = None if sigma is None else np.broadcast_to(sigma, data.y.shape).ravel()
    name = f"data set {i}" if len(result._models.sets) > 1 else ""
    for part in ("real", "imag") if data.is_complex else (None,):
        def of(values, part=part):
            return values if part is None or values is None else getattr(values, part)
        spread = sigma if sigma is None or sigma.dtype.kind != "c" else of(sigma)
        off = of(y - at)/(1.0 if spread is None else spread)
        if result.problem.loss.is_poisson:
            off = -count_residuals(at, y)
        yield " ".join(filter(None, (name, part))), t, of(y), spread, (grid, of(line)), off


def _residual_named(result, sigma):
    """The label of residuals in a plot."""
    if result.problem.loss.is_poisson:
        return "deviance residual"
    return "residual" if sigma is None else "residual / σ"


def _images(result, title, xlabel, ylabel):
    data, style = result._models.sets[0], style_in_force()
    y = data.natural(data.values)
    shown = {"data": y, "fit": np.asarray(result.predict()),
             _residual_named(result, data.sigma): -np.asarray(result.residuals)}
    figure, axes = pyplot().subplots(1, 3, sharex=True, sharey=True, layout="constrained",
                                      figsize=(10.5, 1.0 + 3.2*min(2.0, y.shape[0]/y.shape[1])))
    low, high = np.nanmin(y), np.nanmax(y)
    for k, (ax, (name, values)) in enumerate(zip(axes, shown.items())):
        if k < 2:
            mesh = ax.imshow(values, vmin=low, vmax=high, origin="lower", aspect="auto")
        else:
            reach = np.nanmax(np.abs(values)) or 1.0
            mesh = ax.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, origin="lower", aspect="auto")
        ax.set_title(name, loc="left", fontsize=style.size)
        figure.colorbar(mesh, ax=ax, shrink=0.85).outline.set_visible(False)
        ax.set_xlabel("column" if xlabel is None else xlabel)
    axes[0].set_ylabel("row" if ylabel is None else ylabel)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=1.1*style.size)
    return figure


def draw_contour(region, ax=None):
    """The outline of a `ContourResult`, and the ellipse of a linear model."""
    style = style_in_force()
    figure, ax = axes_of(ax, figsize=(4.8, 4.4))
    ax.plot(*region.ellipse, "--", color=style.muted, linewidth=1.2, zorder=2, label="linear model")
    ax.fill(region.x, region.y, color=style.band, linewidth=0, zorder=1)
    ax.plot(region.x, region.y, color=style.curve, linewidth=1.8, zorder=3, label=f"{100*region.level:g} %")
    ax.plot(*region.center, "o", color=style.data, markersize=5, zorder=4)
    ax.set_xlabel(region.names[0])
    ax.set_ylabel(region.names[1])
    ax.legend(frameon=False, fontsize=0.9*style.size)
    titled(ax, None, style)
    quiet(style, ax)
    return figure
