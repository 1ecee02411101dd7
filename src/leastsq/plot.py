"""
Plots of fits, with matplotlib (an optional extra, ``plot``).

Every function draws into a new figure, or into a given `ax`, and returns the matplotlib
`Figure`.

>>> import leastsq, matplotlib
>>> matplotlib.use("Agg")
>>> figure = leastsq.plot.correlation([[1.0, 0.4], [0.4, 2.0]], names=["a", "b"])
>>> figure.savefig("correlation.png")  # doctest: +SKIP
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ._drawing import axes_of, dots, points_of, pyplot, quiet, style_in_force, titled
from ._problem.counts import count_residuals
from ._uncertainty.confidence import ConfidenceResult, confidence_band, confidence_intervals
from ._uncertainty.covariance import CovarianceResult, correlation_of, shown_covariance
from ._uncertainty.format import label
from ._uncertainty.student import t_quantile
from ._uncertainty.told import fit_of, names_of, parameters_of

__all__ = ["convergence", "correlation", "fit", "profile", "residuals"]


def fit(result, *, x=None, y=None, model=None, sigma=None, level=0.95, prediction=False, grid=None, xlabel=None,
        ylabel=None, title=None, label="fit", ax=None):
    """
    Data, fitted curve and its confidence band, with the residuals below; for counts, the deviance residuals.

    Parameters
    ----------
    result : result, CovarianceResult or tuple (popt, pcov)
        The result of `curve_fit` with ``full_output=True``, which needs nothing else; or another result, or parameters
        and their covariance matrix, with `x`, `y` and `model`.  With a matrix, Student's t has m - n degrees of freedom.
    x, y : array_like, shape (m,), optional
        The data, if `result` does not know them.
    model : callable, optional
        ``model(x, *parameters)``, the values of the curve at any x, if `result` does not know it.
    sigma : float or array_like, shape (m,), optional
        Standard deviations of the data, if `result` does not know them.  They are drawn as error bars, and
        residuals in units of them.
    level : float, optional
        Confidence level of the band.
    prediction : bool, float, array_like or callable, optional
        Also draw the band of new observations: True if the fit knows their standard deviation, otherwise the
        standard deviation, as for `noise` of `confidence_band`.
    grid : array_like, optional
        Points at which to evaluate the curve; None: 400 points over slightly more than the range of the data.
    xlabel, ylabel, title, label : str, optional
    ax : matplotlib Axes, optional
        Draw into these axes, without the residuals.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    TypeError
        Data or model are not known.
    ValueError
        x has more than one dimension; an argument does not agree with the fit; `prediction`, as for `noise`
        of `confidence_band`.

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def decay(t, height, rate):
    ...     return height*np.exp(-rate*t)
    >>> figure = leastsq.plot.fit(leastsq.curve_fit(decay, t, y, full_output=True))
    >>> len(figure.axes)
    2
    """
    spread, parameters, data = _facts("plot.fit", result, x, y, model, sigma)
    t, y, model, sigma = data.x, data.y, data.model, data.sigma
    style, below = style_in_force(), None
    if ax is None:
        figure, (ax, below) = pyplot().subplots(2, 1, sharex=True, layout="constrained", figsize=(6.4, 5.2),
                                                 height_ratios=[3.2, 1])
    else:
        figure = ax.figure
    if grid is None:
        margin = 0.02*(t.max() - t.min())
        grid = np.linspace(t.min() - (margin if t.min() < 0 or t.min() > margin else 0.0), t.max() + margin, 400)
    grid = np.asarray(grid, dtype=float)
    options = {"level": level, "model": model}
    if not isinstance(spread, CovarianceResult):
        options["dof"] = max(t.size - parameters.size, 1)
    if prediction is not False:
        wide = confidence_band(spread, grid, noise=prediction, **options)
        ax.fill_between(grid, wide.lower, wide.upper, color=style.pale, linewidth=0, zorder=0,
                        label=f"{100*level:g} % of new data")
    band = confidence_band(spread, grid, **options)
    ax.fill_between(grid, band.lower, band.upper, color=style.band, linewidth=0, zorder=1,
                    label=f"{100*level:g} % confidence")
    points_of(ax, t, y, sigma, style, label="data")
    ax.plot(grid, band.fit, color=style.curve, zorder=2, label=label)
    ax.set_ylabel("y" if ylabel is None else ylabel)
    ax.legend(frameon=False, fontsize=0.9*style.size)
    titled(ax, title, style)
    quiet(style, ax)
    if below is None:
        ax.set_xlabel("x" if xlabel is None else xlabel)
        return figure

    curve = np.asarray(model(t, *parameters), dtype=float).reshape(-1)
    off, name = (y - curve, "residual") if sigma is None else ((y - curve)/sigma, "residual / σ")
    if data.of_counts:
        off, name = -count_residuals(curve, y), "deviance residual"
    in_sigmas = sigma is not None or data.of_counts
    below.axhline(0, color=style.muted, linewidth=0.8, zorder=1)
    points_of(below, t, off, np.ones(t.size) if in_sigmas else None, style)
    shown = np.abs(off)
    reach = 1.2*(shown[np.isfinite(shown)].max(initial=0.0) + in_sigmas or 1.0)
    below.set_ylim(-reach, reach)
    below.set_ylabel(name)
    below.set_xlabel("x" if xlabel is None else xlabel)
    quiet(style, below)
    figure.align_ylabels([ax, below])
    return figure


def _facts(tool, result, x, y, model, sigma):
    """(the argument of confidence_band, parameters, data) from a fit and given facts."""
    if isinstance(result, tuple) and len(result) == 2 and np.ndim(result[1]) == 2:
        spread, parameters, problem = result, parameters_of(result[0]), None
    else:
        spread = result if isinstance(result, CovarianceResult) else shown_covariance(tool, result)
        parameters, problem = spread.x, spread.problem
    known = {name: getattr(problem, name, None) for name in ("xdata", "ydata", "model", "sigma")}
    if getattr(problem, "sets", ()):                    # a result of `fit`: data in their own shape, nan if they do not count
        if len(problem.sets) > 1 or problem.sets[0].is_complex:
            raise TypeError(f"{tool}: use result.plot() for several data sets, and for complex data")
        (data,) = problem.sets
        known |= {"ydata": data.natural(data.values), "sigma": data.natural_sigma()}
    found = {}
    for name, given in (("xdata", x), ("ydata", y), ("model", model), ("sigma", sigma)):
        of_fit = known[name]
        if given is not None and of_fit is not None and given is not of_fit and not (
                name != "model" and np.shape(given) == np.shape(of_fit) and np.array_equal(given, of_fit)):
            raise ValueError(f"{tool}: {name[0] if name.endswith('data') else name} must be that of the fit")
        found[name] = of_fit if given is None else given
    missing = [name for name, value in (("x", found["xdata"]), ("y", found["ydata"]), ("model", found["model"])) if value is None]
    if missing:
        raise TypeError(f"{tool}: {', '.join(missing)} must be given: this fit does not know "
                        f"{'them' if len(missing) > 1 else 'it'} (a result of curve_fit does)")
    t = np.asarray(found["xdata"], dtype=float)
    if t.ndim != 1:
        raise ValueError(f"{tool}: x must have one dimension to be drawn, got shape {t.shape}")
    y = np.asarray(found["ydata"], dtype=float).reshape(-1)
    if y.size != t.size:
        raise ValueError(f"{tool}: x and y must have the same number of values, got {t.size} and {y.size}")
    sigma = found["sigma"]
    if sigma is not None:
        sigma = np.asarray(sigma, dtype=float)
        sigma = np.sqrt(np.diag(sigma)) if sigma.ndim == 2 else np.array(np.broadcast_to(np.abs(sigma), t.shape))
    of_counts = problem is not None and problem.loss.is_poisson
    return spread, parameters, SimpleNamespace(x=t, y=y, model=found["model"], sigma=sigma, of_counts=of_counts)


def residuals(result, x=None, *, sigma=None, xlabel=None, title=None):
    """
    Residuals in units of their standard deviation, and their histogram.

    Parameters
    ----------
    result : result or array_like, shape (m,)
        A fit made with ``full_output=True``, or residuals, data minus model.
    x : array_like, shape (m,), optional
        The abscissa.  None: the x of the fit's data, or the number of the residual.
    sigma : float or array_like, optional
        Standard deviations for an array of residuals.  None: those of the fit if they are absolute, else the root
        mean square of the residuals.
    xlabel, title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, leastsq, matplotlib
    >>> matplotlib.use("Agg")
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> fit = leastsq.curve_fit(lambda t, a, b: a*np.exp(-b*t), t, y, full_output=True)
    >>> figure = leastsq.plot.residuals(fit)
    """
    f, known = _residuals_of(result, x)
    t = np.arange(f.size) if known is None else np.asarray(known, dtype=float).reshape(-1)
    if t.size != f.size:
        raise ValueError(f"plot.residuals: x must have {f.size} values, got {t.size}")
    if sigma is not None and not hasattr(result, "dtype") and not isinstance(result, list):
        raise TypeError("plot.residuals: sigma can only be given with an array of residuals; a fit knows its own sigma")
    problem = getattr(result, "problem", None) or getattr(result[2] if isinstance(result, tuple) else None, "problem", None)
    absolute, of_counts = getattr(problem, "absolute_sigma", False), problem is not None and problem.loss.is_poisson
    scale = np.sqrt(np.mean(f*f)) or 1.0 if sigma is None and not absolute else 1.0 if sigma is None else np.asarray(sigma, float)
    z, style = f/scale, style_in_force()
    figure, (left, right) = pyplot().subplots(1, 2, sharey=True, layout="constrained", figsize=(7.2, 3.4),
                                               width_ratios=[3, 1])
    left.axhspan(-2, 2, color=style.pale, zorder=0)
    right.axhspan(-2, 2, color=style.pale, zorder=0)
    left.axhline(0, color=style.muted, linewidth=0.8, zorder=1)
    left.plot(t, z, zorder=2, **dots(t.size, style))
    reach = 1.1*max(3.2, np.abs(z).max())
    left.set_ylim(-reach, reach)
    left.set_xlabel("x" if xlabel is None else xlabel)
    left.set_ylabel("deviance residual" if of_counts else "residual / standard deviation")
    edges = np.arange(-np.ceil(2*reach)/2, np.ceil(2*reach)/2 + 0.25, 0.5)
    right.hist(z, bins=edges, orientation="horizontal", color=style.data, edgecolor=style.paper, linewidth=0.6, zorder=2)
    fine = np.linspace(-reach, reach, 200)
    right.plot(0.5*z.size*np.exp(-fine**2/2)/np.sqrt(2*np.pi), fine, color=style.curve, zorder=3, label="normal")
    right.set_xlabel("number")
    right.legend(frameon=False, fontsize=0.9*style.size, loc="upper right", borderaxespad=0.1)
    titled(left, title, style)
    quiet(style, left, right)
    return figure


def _residuals_of(result, x):
    """A pair: the weighted residuals, data minus model, and the abscissa or None."""
    if isinstance(result, (tuple, dict)) or hasattr(result, "fun") or hasattr(type(result), "_as_fitted"):
        fitted = fit_of("plot.residuals", result)
        fitted.check("plot.residuals")
        if fitted.fvec is None:
            raise TypeError("plot.residuals: this result has no residuals")
        own = None if fitted.problem is None else fitted.problem.xdata
        if fitted.problem is not None and fitted.problem.sets:
            return _residuals_of_sets(fitted, x)
        own = own if own is not None and np.ndim(own) == 1 else None
        return (fitted.fvec if own is None else -fitted.fvec), (own if x is None else x)
    return np.asarray(result, dtype=float).reshape(-1), x


def _residuals_of_sets(fitted, x):
    """The same for a result of `fit`: only data that count, against x if x has one number for each."""
    data, f = fitted.problem.sets, -fitted.problem.data_part(fitted.fvec)
    if x is None and len(data) == 1 and data[0].draws and not data[0].is_complex:
        x = np.asarray(data[0].x)[... if data[0].keep is None else data[0].keep]
    return f, x


def convergence(history, *, title=None):
    """
    The course of a fit: norm of the residuals, gradient cosine and radius at each step.

    Parameters
    ----------
    history : tuple, mapping or object
        A fit with ``full_output=True`` and ``history=True``; or its ``infodict["history"]``, or an object with one or more of
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
    >>> fit = leastsq.leastsq(rosenbrock, [-1.2, 1.0], full_output=True, history=True)
    >>> figure = leastsq.plot.convergence(fit)
    """
    if isinstance(history, tuple) and len(history) == 5 and isinstance(history[2], dict):
        if "history" not in history[2]:
            raise ValueError("plot.convergence: this fit has no history: fit with history=True")
        history = history[2]["history"]
    style = style_in_force()

    def get(key):
        value = history.get(key) if hasattr(history, "get") else getattr(history, key, None)
        return None if value is None else np.asarray(value)

    names = {"fnorm": "‖f‖", "gnorm": "gradient cosine", "radius": "radius"}
    shown = [(key, name, get(key)) for key, name in names.items()]
    shown = [row for row in shown if row[2] is not None]
    if not shown:
        raise ValueError("history must have at least one of fnorm, gnorm and radius")
    figure, axes = pyplot().subplots(len(shown), 1, sharex=True, squeeze=False, layout="constrained",
                                      figsize=(6.4, 1.2 + 1.6*len(shown)))
    steps = np.arange(shown[0][2].size)
    accepted = get("accepted")
    accepted = np.ones(steps.size, dtype=bool) if accepted is None else accepted.astype(bool)
    for ax, (_, name, values) in zip(axes[:, 0], shown, strict=True):
        ax.plot(steps[accepted], values[accepted], "-", color=style.data, linewidth=1.2, zorder=1)
        ax.plot(steps[accepted], values[accepted], zorder=2, label="accepted", **dots(steps.size, style))
        if not accepted.all():
            ax.plot(steps[~accepted], values[~accepted], "x", color=style.curve, markersize=6, zorder=3, label="rejected")
        if (values > 0).any():
            ax.set_yscale("log")
        ax.set_ylabel(name)
        quiet(style, ax)
    if not accepted.all():
        axes[0, 0].legend(frameon=False, fontsize=0.9*style.size)
    axes[-1, 0].set_xlabel("step")
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    titled(axes[0, 0], title, style)
    figure.align_ylabels(axes[:, 0])
    return figure


def correlation(result, names=None, *, title=None, ax=None):
    """
    Matrix of correlations.

    Parameters
    ----------
    result : result, CovarianceResult or array_like, shape (n, n)
        A fit made with ``full_output=True``, or a covariance (or correlation) matrix.
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
    if isinstance(result, tuple) or hasattr(result, "jac") or hasattr(type(result), "_as_fitted"):
        result = shown_covariance("plot.correlation", result)
    if isinstance(result, CovarianceResult):
        names = result.names if names is None else names
        matrix = result.correlation
    else:
        matrix = np.asarray(result, dtype=float)
        matrix = correlation_of(matrix, np.sqrt(np.diag(matrix)))
    n, style = len(matrix), style_in_force()
    names = [label(j, names_of(names, n)) for j in range(n)]
    size = 1.6 + 0.55*n
    figure, ax = axes_of(ax, figsize=(size + 0.9, size))
    mesh = ax.imshow(np.where(np.isfinite(matrix), matrix, 0.0), cmap="RdBu_r", vmin=-1, vmax=1)
    for i in range(n):
        for j in range(n):
            value = matrix[i, j]
            text = "–" if not np.isfinite(value) else "1" if i == j else f"{value:.2f}".replace("-", "−")
            if text in ("1.00", "−1.00") and i != j:
                text = f"{value:.4f}".replace("-", "−")
            ax.text(j, i, text, ha="center", va="center", fontsize=8.5 if len(text) < 6 else 7,
                    color="white" if np.isfinite(value) and abs(value) > 0.6 else "black")
    ax.set_xticks(range(n), names, rotation=45 if max(map(len, names)) > 4 else 0,
                  ha="right" if max(map(len, names)) > 4 else "center", rotation_mode="anchor")
    ax.set_yticks(range(n), names)
    ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=style.paper, linewidth=1.5)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=ax, shrink=0.85, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.set_label("correlation")
    titled(ax, title, style)
    return figure


def profile(result, parameters=None, *, title=None):
    """
    Profile curves, and the straight lines that Student's t assumes.

    Parameters
    ----------
    result : ConfidenceResult, or a result
        The result of ``confidence_intervals(..., method="profile")``, with about ``points=8`` for
        smooth curves; or a fit made with ``full_output=True``, whose profiles are then computed.
    parameters : sequence of int, optional
        The parameters to draw; None: all that were profiled.
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
    if isinstance(result, tuple) or hasattr(result, "jac") or hasattr(type(result), "_as_fitted"):
        result = confidence_intervals(result, method="profile", parameters=parameters, points=8)
    if not isinstance(result, ConfidenceResult) or not result.profiles:
        raise TypeError("profile: result must come from confidence_intervals(..., method='profile')")
    chosen = list(result.profiles) if parameters is None else list(parameters)
    columns = 2 if len(chosen) == 4 else min(3, len(chosen))
    rows = -(-len(chosen)//columns)
    figure, grid = pyplot().subplots(rows, columns, squeeze=False, sharey=True, layout="constrained",
                                      figsize=(1.0 + 3.1*columns, 0.5 + 2.7*rows))
    reach, style = 1.25*max(result.t, t_quantile(0.9, np.inf)), style_in_force()
    for ax in grid.flat[len(chosen):]:
        ax.set_visible(False)
    for ax, j in zip(grid.flat, chosen, strict=False):
        curve, spread = result.profiles[j], result.covariance
        inside = np.abs(curve.tau) <= reach
        ax.axhspan(-result.t, result.t, color=style.pale, zorder=0)
        ax.axhline(0, color=style.muted, linewidth=0.6, zorder=1)
        ends = curve.values[inside]
        straight = spread.x[j] + np.array([-1.1, 1.1])*result.t*spread.stderr[j]
        ax.plot(straight, [-1.1*result.t, 1.1*result.t], "--", color=style.muted, linewidth=1.2, zorder=2,
                label="Student's t")
        ax.plot(ends, curve.tau[inside], "-", color=style.curve, linewidth=1.8, zorder=3, label="profile")
        for limit, sign in ((curve.lower, -1), (curve.upper, 1)):
            if np.isfinite(limit):
                ax.plot([limit, limit], [-reach, sign*result.t], color=style.curve, linewidth=0.9, linestyle=":", zorder=2)
        ax.plot(spread.x[j], 0, "o", color=style.data, markersize=5, zorder=4)
        ax.set_ylim(-reach, reach)
        ax.set_xlabel(spread.label(j))
        ax.xaxis.get_major_locator().set_params(nbins=5)
        quiet(style, ax)
    for ax in grid[:, 0]:
        ax.set_ylabel("τ")
    grid[0, 0].legend(frameon=False, fontsize=0.9*style.size, loc="upper left")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontweight="bold", fontsize=1.1*style.size)
    return figure
