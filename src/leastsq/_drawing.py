"""Shared by all plots: the current style, axes, points with error bars."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

__all__ = ["axes_of", "dots", "points_of", "pyplot", "quiet", "style_in_force", "titled"]


def pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("leastsq.plot needs matplotlib: pip install matplotlib") from error
    return plt


def style_in_force():
    """Colours and sizes of the current style, from the user's rcParams; dark styles work too."""
    pyplot()                           # raises an error that names the package if matplotlib is not installed
    from matplotlib import colors, rcParams
    cycle = rcParams["axes.prop_cycle"].by_key().get("color", ["C0", "C1"])
    ink, paper = rcParams["text.color"], rcParams["axes.facecolor"]

    def mixed(colour, share):
        rgb, ground = (np.array(colors.to_rgb(c)) for c in (colour, paper if paper != "none" else "white"))
        return tuple(share*rgb + (1 - share)*ground)

    return SimpleNamespace(ink=ink, paper=paper, muted=mixed(ink, 0.5), pale=mixed(ink, 0.07), data=cycle[0],
                           curve=cycle[1 % len(cycle)], band=mixed(cycle[1 % len(cycle)], 0.3), size=rcParams["font.size"])


def axes_of(ax, **size):
    """A figure and its axes, new if there is no `ax`."""
    if ax is not None:
        return ax.figure, ax
    return pyplot().subplots(layout="constrained", **size)


def quiet(style, *axes):
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(style.muted)
        ax.tick_params(color=style.muted, labelsize=0.9*style.size)


def titled(ax, title, style):
    if title:
        ax.set_title(title, loc="left", fontweight="bold", fontsize=1.1*style.size)


def dots(m, style):
    return {"linestyle": "none", "marker": "o", "color": style.data, "markeredgecolor": style.paper, "markeredgewidth": 0.5,
            "markersize": float(np.interp(np.log10(m), [1, 3], [6.5, 3.0]))}


def points_of(ax, t, y, sigma, style, **more):
    if sigma is None:
        ax.plot(t, y, zorder=3, **more, **dots(t.size, style))
    else:
        ax.errorbar(t, y, yerr=np.where(np.isfinite(sigma), sigma, 0.0), zorder=3, ecolor=style.data, elinewidth=0.9, **more,
                    **dots(t.size, style))
