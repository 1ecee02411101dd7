"""
Pictures of fits, with matplotlib (an optional extra: ``pip install leastsq[plot]``).

Every function draws into a new figure, or into the `ax` it is given, and returns the
matplotlib `Figure`.

>>> import leastsq, matplotlib
>>> matplotlib.use("Agg")
>>> figure = leastsq.plot.correlation([[1.0, 0.4], [0.4, 2.0]], names=["a", "b"])
>>> figure.savefig("correlation.png")  # doctest: +SKIP
"""

from __future__ import annotations

import numpy as np

from ._uncertainty.confidence import ConfidenceResult, confidence_band
from ._uncertainty.covariance import CovarianceResult
from ._uncertainty.format import label
from ._uncertainty.names import _names
from ._uncertainty.student import t_quantile

__all__ = ["convergence", "correlation", "fit", "profile", "residuals"]

INK, MUTED, PALE = "#222222", "#8a8a8a", "#eef1f5"
DATA, CURVE, BAND = "#3f6a97", "#c8553d", "#f0c9be"


def _pyplot():
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("leastsq.plot needs matplotlib: pip install matplotlib") from error
    return plt


def _axes(ax, **size):
    """A figure and its axes, new if there is no `ax`."""
    if ax is not None:
        return ax.figure, ax
    return _pyplot().subplots(layout="constrained", **size)


def _quiet(*axes):
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(MUTED)
        ax.tick_params(color=MUTED, labelcolor=INK, labelsize=9)


def _dots(m):
    return {"linestyle": "none", "marker": "o", "color": DATA, "markeredgecolor": "white", "markeredgewidth": 0.5,
            "markersize": float(np.interp(np.log10(m), [1, 3], [6.5, 3.0]))}


def fit(t, y, model, x, cov=None, *, sigma=None, level=0.95, prediction=False, grid=None, xlabel=None,
        ylabel=None, title=None, label="fit", ax=None):
    """
    Data, fitted curve and its confidence band, with the residuals below.

    Parameters
    ----------
    t, y : array_like, shape (m,)
        The data.
    model : callable
        ``model(t, x)``: the curve's values at any t for parameters x.
    x : array_like, shape (n,)
        The fitted parameters.
    cov : CovarianceResult or array_like, shape (n, n), optional
        Their covariance; without it there is no band.  A matrix gets Student's t
        with m - n degrees of freedom.
    sigma : float or array_like, shape (m,), optional
        Standard deviations of the data, drawn as bars.
    level : float, optional
        Confidence level of the band.
    prediction : bool, optional
        Draw the band of new observations too (needs a `CovarianceResult`).
    grid : array_like, optional
        Where to evaluate the curve; None: 400 points over the data and a little more.
    xlabel, ylabel, title, label : str, optional
    ax : matplotlib Axes, optional
        Draw there, without the residuals.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def model(t, x):
    ...     return x[0]*np.exp(-x[1]*t)
    >>> def residual(x):
    ...     return model(t, x) - y
    >>> x, ier = leastsq.leastsq(residual, [1.0, 1.0])
    >>> figure = leastsq.plot.fit(t, y, model, x, leastsq.covariance(residual, x))
    >>> len(figure.axes)
    2
    """
    t, y, x = (np.asarray(a, dtype=float).reshape(-1) for a in (t, y, x))
    below = None
    if ax is None:
        figure, (ax, below) = _pyplot().subplots(2, 1, sharex=True, layout="constrained", figsize=(6.4, 5.2),
                                                 height_ratios=[3.2, 1])
    else:
        figure = ax.figure
    if grid is None:
        margin = 0.02*(t.max() - t.min())
        grid = np.linspace(t.min() - (margin if t.min() < 0 or t.min() > margin else 0.0), t.max() + margin, 400)
    grid = np.asarray(grid, dtype=float)

    curve = np.asarray(model(grid, x), dtype=float)
    if cov is not None:
        extra = {} if isinstance(cov, CovarianceResult) else {"dof": max(t.size - x.size, 1)}

        def at(x):
            return model(grid, x)

        if prediction:
            wide = confidence_band(at, x, cov, level=level, noise=True, **extra)
            ax.fill_between(grid, wide.lower, wide.upper, color=PALE, linewidth=0, zorder=0,
                            label=f"{100*level:g} % of new data")
        band = confidence_band(at, x, cov, level=level, **extra)
        ax.fill_between(grid, band.lower, band.upper, color=BAND, linewidth=0, zorder=1,
                        label=f"{100*level:g} % confidence")
    if sigma is None:
        ax.plot(t, y, zorder=3, label="data", **_dots(t.size))
    else:
        ax.errorbar(t, y, yerr=np.broadcast_to(sigma, y.shape), zorder=3, label="data", ecolor=DATA, elinewidth=0.9,
                    **_dots(t.size))
    ax.plot(grid, curve, color=CURVE, linewidth=1.6, zorder=2, label=label)
    ax.set_ylabel("y" if ylabel is None else ylabel)
    ax.legend(frameon=False, fontsize=9)
    if title:
        ax.set_title(title, loc="left", fontweight="bold", fontsize=11)
    _quiet(ax)
    if below is None:
        ax.set_xlabel("x" if xlabel is None else xlabel)
        return figure

    off = y - np.asarray(model(t, x), dtype=float)
    below.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
    if sigma is None:
        below.plot(t, off, zorder=2, **_dots(t.size))
    else:
        below.errorbar(t, off, yerr=np.broadcast_to(sigma, y.shape), zorder=2, ecolor=DATA, elinewidth=0.9,
                       **_dots(t.size))
    reach = 1.2*(np.abs(off).max() + (0 if sigma is None else np.max(sigma)) or 1.0)
    below.set_ylim(-reach, reach)
    below.set_ylabel("residual")
    below.set_xlabel("x" if xlabel is None else xlabel)
    _quiet(below)
    figure.align_ylabels([ax, below])
    return figure


def residuals(t, f, *, sigma=None, xlabel=None, title=None):
    """
    Residuals in units of their standard deviation, and their histogram.

    Parameters
    ----------
    t : array_like, shape (m,)
        What to draw them against.
    f : array_like, shape (m,)
        Residuals, data minus model (or the solver's, with the sign turned).
    sigma : float or array_like, optional
        Their standard deviations.  None: their root mean square.
    xlabel, title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> figure = leastsq.plot.residuals(np.arange(50), np.random.default_rng(0).normal(size=50))
    """
    t, f = (np.asarray(a, dtype=float).reshape(-1) for a in (t, f))
    z = f/(np.sqrt(np.mean(f*f)) or 1.0) if sigma is None else f/np.asarray(sigma, dtype=float)
    figure, (left, right) = _pyplot().subplots(1, 2, sharey=True, layout="constrained", figsize=(7.2, 3.4),
                                               width_ratios=[3, 1])
    left.axhspan(-2, 2, color=PALE, zorder=0)
    right.axhspan(-2, 2, color=PALE, zorder=0)
    left.axhline(0, color=MUTED, linewidth=0.8, zorder=1)
    left.plot(t, z, zorder=2, **_dots(t.size))
    reach = 1.1*max(3.2, np.abs(z).max())
    left.set_ylim(-reach, reach)
    left.set_xlabel("x" if xlabel is None else xlabel)
    left.set_ylabel("residual / standard deviation")
    edges = np.arange(-np.ceil(2*reach)/2, np.ceil(2*reach)/2 + 0.25, 0.5)
    right.hist(z, bins=edges, orientation="horizontal", color=DATA, edgecolor="white", linewidth=0.6, zorder=2)
    fine = np.linspace(-reach, reach, 200)
    right.plot(0.5*z.size*np.exp(-fine**2/2)/np.sqrt(2*np.pi), fine, color=CURVE, linewidth=1.5, zorder=3,
               label="normal")
    right.set_xlabel("number")
    right.legend(frameon=False, fontsize=9, loc="upper right", borderaxespad=0.1)
    if title:
        left.set_title(title, loc="left", fontweight="bold", fontsize=11)
    _quiet(left, right)
    return figure


def convergence(history, *, title=None):
    """
    How a fit went: norm of the residuals, gradient measure and radius, step by step.

    Parameters
    ----------
    history : mapping or object
        ``infodict["history"]`` of a fit with ``history=True``, or anything with any of
        ``fnorm`` (norm of the residuals), ``gnorm`` (largest cosine between the
        residuals and a column of the Jacobian) and ``radius`` (of the trust region),
        arrays with one value for each step, and optionally ``accepted``, booleans.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> def rosenbrock(x):
    ...     return np.array([10*(x[1] - x[0]**2), 1 - x[0]])
    >>> *_, info, mesg, ier = leastsq.leastsq(rosenbrock, [-1.2, 1.0], full_output=True, history=True)
    >>> figure = leastsq.plot.convergence(info["history"])
    """
    def get(key):
        value = history.get(key) if hasattr(history, "get") else getattr(history, key, None)
        return None if value is None else np.asarray(value)

    names = {"fnorm": "‖f‖", "gnorm": "gradient cosine", "radius": "radius"}
    shown = [(key, name, get(key)) for key, name in names.items()]
    shown = [row for row in shown if row[2] is not None]
    if not shown:
        raise ValueError("history must have at least one of fnorm, gnorm and radius")
    figure, axes = _pyplot().subplots(len(shown), 1, sharex=True, squeeze=False, layout="constrained",
                                      figsize=(6.4, 1.2 + 1.6*len(shown)))
    steps = np.arange(shown[0][2].size)
    accepted = get("accepted")
    accepted = np.ones(steps.size, dtype=bool) if accepted is None else accepted.astype(bool)
    for ax, (_, name, values) in zip(axes[:, 0], shown, strict=True):
        ax.plot(steps[accepted], values[accepted], "-", color=DATA, linewidth=1.2, zorder=1)
        ax.plot(steps[accepted], values[accepted], zorder=2, label="accepted", **_dots(steps.size))
        if not accepted.all():
            ax.plot(steps[~accepted], values[~accepted], "x", color=CURVE, markersize=6, zorder=3, label="rejected")
        if (values > 0).any():
            ax.set_yscale("log")
        ax.set_ylabel(name)
        _quiet(ax)
    if not accepted.all():
        axes[0, 0].legend(frameon=False, fontsize=9)
    axes[-1, 0].set_xlabel("step")
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    if title:
        axes[0, 0].set_title(title, loc="left", fontweight="bold", fontsize=11)
    figure.align_ylabels(axes[:, 0])
    return figure


def correlation(cov, names=None, *, title=None, ax=None):
    """
    Matrix of correlations.

    Parameters
    ----------
    cov : CovarianceResult or array_like, shape (n, n)
        A covariance (or correlation) matrix.
    names : sequence of str, optional
    title : str, optional
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> figure = leastsq.plot.correlation([[1.0, 0.4], [0.4, 2.0]])
    """
    if isinstance(cov, CovarianceResult):
        names = cov.names if names is None else names
        matrix = cov.correlation
    else:
        cov = np.asarray(cov, dtype=float)
        with np.errstate(invalid="ignore", divide="ignore"):
            matrix = cov/np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
    n = len(matrix)
    names = [label(j, _names(names, n)) for j in range(n)]
    size = 1.6 + 0.55*n
    figure, ax = _axes(ax, figsize=(size + 0.9, size))
    mesh = ax.imshow(np.where(np.isfinite(matrix), matrix, 0.0), cmap="RdBu_r", vmin=-1, vmax=1)
    for i in range(n):
        for j in range(n):
            value = matrix[i, j]
            text = "–" if not np.isfinite(value) else "1" if i == j else f"{value:.2f}".replace("-", "−")
            if text in ("1.00", "−1.00") and i != j:
                text = f"{value:.4f}".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", fontsize=8.5 if len(text) < 6 else 7,
                    color="white" if np.isfinite(value) and abs(value) > 0.6 else INK)
    ax.set_xticks(range(n), names, rotation=45 if max(map(len, names)) > 4 else 0,
                  ha="right" if max(map(len, names)) > 4 else "center", rotation_mode="anchor")
    ax.set_yticks(range(n), names)
    ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=ax, shrink=0.85, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label("correlation")
    if title:
        ax.set_title(title, loc="left", fontweight="bold", fontsize=11)
    return figure


def profile(result, parameters=None, *, title=None):
    """
    Profile curves, beside the straight lines that Student's t supposes.

    Parameters
    ----------
    result : ConfidenceResult
        From ``confidence_intervals(..., method="profile")``; with ``points=8`` or so the
        curves are smooth.
    parameters : sequence of int, optional
        Which; None: all that were profiled.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> result = leastsq.confidence_intervals(residual, [5.081, 0.504], method="profile", points=4)
    >>> figure = leastsq.plot.profile(result)
    """
    if not isinstance(result, ConfidenceResult) or not result.profiles:
        raise TypeError("profile: result must come from confidence_intervals(..., method='profile')")
    chosen = list(result.profiles) if parameters is None else list(parameters)
    columns = 2 if len(chosen) == 4 else min(3, len(chosen))
    rows = -(-len(chosen)//columns)
    figure, grid = _pyplot().subplots(rows, columns, squeeze=False, sharey=True, layout="constrained",
                                      figsize=(1.0 + 3.1*columns, 0.5 + 2.7*rows))
    reach = 1.25*max(result.t, t_quantile(0.9, np.inf))
    for ax in grid.flat[len(chosen):]:
        ax.set_visible(False)
    for ax, j in zip(grid.flat, chosen, strict=False):
        curve, spread = result.profiles[j], result.covariance
        inside = np.abs(curve.tau) <= reach
        ax.axhspan(-result.t, result.t, color=PALE, zorder=0)
        ax.axhline(0, color=MUTED, linewidth=0.6, zorder=1)
        ends = curve.values[inside]
        straight = spread.x[j] + np.array([-1.1, 1.1])*result.t*spread.stderr[j]
        ax.plot(straight, [-1.1*result.t, 1.1*result.t], "--", color=MUTED, linewidth=1.2, zorder=2,
                label="Student's t")
        ax.plot(ends, curve.tau[inside], "-", color=CURVE, linewidth=1.8, zorder=3, label="profile")
        for limit, sign in ((curve.lower, -1), (curve.upper, 1)):
            if np.isfinite(limit):
                ax.plot([limit, limit], [-reach, sign*result.t], color=CURVE, linewidth=0.9, linestyle=":", zorder=2)
        ax.plot(spread.x[j], 0, "o", color=DATA, markersize=5, zorder=4)
        ax.set_ylim(-reach, reach)
        ax.set_xlabel(spread.label(j))
        ax.xaxis.get_major_locator().set_params(nbins=5)
        _quiet(ax)
    for ax in grid[:, 0]:
        ax.set_ylabel("τ")
    grid[0, 0].legend(frameon=False, fontsize=9, loc="upper left")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=11)
    return figure
