"""A fit in words and numbers: what came out, how well it is known, what to worry about."""

from __future__ import annotations

import textwrap

import numpy as np

from .._problem.accurate_jacobian import AccurateJacobian, evaluator
from .._problem.problem import Problem
from .._problem.weights import Weighted
from .covariance import CovarianceResult, covariance, from_jacobian
from .format import value_and_error
from .names import _mask, _names, _parameters
from .student import chi2_sf

__all__ = ["Report", "report"]

_MANY = 25              # parameters whose correlations are all looked at in the text
_CLOSE_TO_BOUND = 1e-8
_EPS = np.finfo(float).eps
_WIDTH = 92
_REASONS = {            # in a few words; the fit's own message quotes tolerances
    1: "the sum of squares no longer decreases",
    2: "the parameters no longer change",
    3: "neither the sum of squares nor the parameters change any more",
    4: "the residuals are orthogonal to every derivative",
    5: "the limit on calls was reached",
}


class Report:
    """
    What `report` returns; ``print`` it, or let a notebook show it.

    Attributes
    ----------
    x, stderr : ndarray, shape (n,)
        Parameters and their standard errors.
    names : list of str
    correlation : ndarray, shape (n, n)
    covariance : CovarianceResult
    chi2, reduced_chi2 : float
        Sum of the squares of the (weighted) residuals, and that over `dof`.
    m, n, dof : int
        Numbers of residuals, of parameters, and of degrees of freedom.
    p_value : float
        Probability of a larger chi2; nan unless the errors of the data are known
        (``absolute_sigma``).
    r2 : float
        Share of the variance of `y` that the model explains; nan without `y`.
    aic, bic : float
        Akaike's and Schwarz's criteria, up to a constant of the data.
    reason : str
        Why the fit stopped.
    ier, nfev, njev : int or None
    warnings : list of str
    """

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def _rows(self):
        rows = []
        for j, name in enumerate(self.names):
            value, error = value_and_error(self.x[j], self.stderr[j])
            relative = abs(self.stderr[j]/self.x[j]) if self.x[j] else np.inf
            if self.covariance is not None and self.covariance.fixed[j]:
                value, error, relative = f"{self.x[j]:.6g}", "fixed", np.nan
            rows.append((name, value, error, _percent(relative)))
        return rows

    def correlations(self, limit=None):
        """
        Pairs of correlated parameters, the strongest first.

        Parameters
        ----------
        limit : float, optional
            None: that of the report.

        Returns
        -------
        list of (str, str, float)
        """
        limit = self.correlation_limit if limit is None else limit
        rows, columns = np.triu_indices(self.n, 1)
        values = self.correlation[rows, columns]
        order = np.argsort(-np.abs(values), kind="stable")
        return [(self.names[rows[k]], self.names[columns[k]], float(values[k])) for k in order
                if abs(values[k]) >= limit]

    def _statistics(self):
        known = self.covariance is not None and self.covariance.absolute_sigma
        lines = [("residuals, parameters", f"{self.m}, {self.n}"),
                 ("degrees of freedom", f"{self.dof}"),
                 ("chi-squared", f"{self.chi2:.8g}"),
                 ("reduced chi-squared", f"{self.reduced_chi2:.6g}")]
        if known:
            lines.append(("probability of a larger one", f"{self.p_value:.3g}"))
        else:
            lines.append(("residual standard deviation", f"{np.sqrt(self.reduced_chi2):.6g}"))
        if np.isfinite(self.r2):
            lines.append(("R squared", f"{self.r2:.8g}"))
        lines += [("AIC", f"{self.aic:.6g}"), ("BIC", f"{self.bic:.6g}")]
        if self.nfev is not None:
            calls = f"{self.nfev}" + (f", and {self.njev} Jacobians" if self.njev is not None else "")
            lines.append(("calls of the function", calls))
        if self.reason:
            lines.append(("stopped because", self.reason + ("" if self.ier is None else f" (ier {self.ier})")))
        return lines

    def __str__(self):
        rows = [("parameter", "value", "std. error", "relative"), *self._rows()]
        width = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = [f"{r[0]:<{width[0]}}  {r[1]:>{width[1]}}  {'± ' if k else '  '}{r[2]:<{width[2]}}  "
                 f"{r[3]:>{width[3]}}".rstrip() for k, r in enumerate(rows)]
        lines.insert(1, "-"*max(map(len, lines)))
        statistics = self._statistics()
        label = max(len(name) for name, _ in statistics)
        lines += ["", *(f"{name:<{label}}  {value}" for name, value in statistics)]
        pairs = self.correlations()
        if pairs:
            lines += ["", f"correlations of {self.correlation_limit:g} and more"]
            a, b = (max(len(pair[k]) for pair in pairs) for k in (0, 1))
            shown = pairs[:_MANY]
            lines += [f"  {p:<{a}}  {q:<{b}}  {value:+.4f}" for p, q, value in shown]
            if len(pairs) > len(shown):
                lines.append(f"  and {len(pairs) - len(shown)} more")
        if self.warnings:
            lines += ["", "worth reading"]
            for text in self.warnings:
                for k, sentence in enumerate(text.splitlines()):
                    lines += textwrap.wrap(sentence, _WIDTH, initial_indent="    " if k else "  * ",
                                           subsequent_indent="    ")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self):
        import html                             # not at the top: it takes milliseconds

        def table(rows, heading=None):
            head = ("<tr>" + "".join(f"<th style='text-align:left'>{cell}</th>" for cell in heading) + "</tr>"
                    if heading else "")
            body = "".join("<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in row)
                           + "</tr>" for row in rows)
            return f"<table>{head}{body}</table>"

        parts = [table([(name, value, f"± {error}", relative) for name, value, error, relative in self._rows()],
                       ("parameter", "value", "std. error", "relative")),
                 table(self._statistics())]
        pairs = [(p, q, f"{value:+.4f}") for p, q, value in self.correlations()[:_MANY]]
        if pairs:
            parts.append(f"<details><summary>correlations of {self.correlation_limit:g} and more</summary>"
                         f"{table(pairs)}</details>")
        if self.warnings:
            items = "".join(f"<li>{html.escape(text).replace(chr(10), '<br>')}</li>" for text in self.warnings)
            parts.append(f"<p><b>worth reading</b></p><ul>{items}</ul>")
        return "<div>" + "".join(parts) + "</div>"


def _percent(relative):
    if not np.isfinite(relative):
        return "" if np.isnan(relative) else "inf"
    return f"{100*relative:.2g} %" if relative < 0.995 else f"{100*relative:.0f} %"


def report(fit, x=None, args=(), Dfun=None, *, func=None, names=None, y=None, sigma=None,
           absolute_sigma=False, bounds=None, fixed=None, correlation_limit=0.5, method=None):
    """
    Describe a fit: parameters and errors, goodness of fit, and what to worry about.

    Parameters
    ----------
    fit : tuple, result object or callable
        What `leastsq` returned with ``full_output=True``, what ``curve_fit``
        returned with it, a result object with ``x``, ``fun`` and ``jac`` (as
        `scipy.optimize.least_squares` makes), or the residual function itself.
    x : array_like, optional
        The fitted parameters, if `fit` is a function.
    args : tuple, optional
        Further arguments of the function.
    Dfun : callable, optional
        Its Jacobian.
    func : callable, optional
        The residual function of `fit`: the covariance is then made afresh (see
        `covariance`) rather than taken from the fit, whose last Jacobian
        belongs to an earlier point.
    names : sequence of str, optional
        Names of the parameters.
    y : array_like, optional
        The data, for R squared.
    sigma : float or array_like, optional
        Standard deviations of the data, if the function does not divide by them,
        as in `covariance`.  Only with a function.
    absolute_sigma : bool, optional
        As in `covariance`.
    bounds : pair of array_like, optional
        Lower and upper bounds: parameters at one are pointed out, and held fixed in
        the covariance.
    fixed : sequence of int or of bool, optional
        Further parameters that were held.
    correlation_limit : float, optional
        Show correlations of at least this size.
    method : optional
        How to differentiate, as in `covariance`.

    Returns
    -------
    Report
        Its text is ``str(...)``; its numbers are attributes.

    Raises
    ------
    TypeError
        `fit` is nothing of the above; a fit made without ``full_output``.
    ValueError
        Sizes do not agree.

    Notes
    -----
    With chi2 the sum of squares, AIC = m log(chi2/m) + 2n and BIC = m log(chi2/m) +
    n log(m); with `absolute_sigma`, chi2 takes the place of m log(chi2/m).

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import leastsq, report
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> fit = leastsq(residual, [1.0, 1.0], full_output=True)
    >>> print(report(fit, func=residual, names=["height", "rate"], y=y))
    parameter  value    std. error  relative
    ----------------------------------------
    height     5.081  ± 0.066          1.3 %
    rate       0.504  ± 0.012          2.4 %
    <BLANKLINE>
    residuals, parameters        6, 2
    degrees of freedom           4
    chi-squared                  0.019608687
    reduced chi-squared          0.00490217
    residual standard deviation  0.0700155
    R squared                    0.99875685
    AIC                          -30.3413
    BIC                          -30.7577
    calls of the function        23
    stopped because              the sum of squares no longer decreases (ier 1)
    <BLANKLINE>
    correlations of 0.5 and more
      height  rate  +0.5264
    """
    if callable(fit) or _is_compiled(fit):
        if x is None:
            raise TypeError("report: x must be given with a function")
        func, fit = fit, None
    state = _read(fit, x)
    x = _parameters(state["x"])
    names = _names(names, x.size)
    at_bound = _at_bound(bounds, x)
    if state["active"] is not None:
        at_bound |= np.asarray(state["active"]) != 0
    held = _mask(fixed, x.size) | at_bound
    notes = []

    if func is not None:
        f = evaluator(func, args)(x)
        if np.isfinite(f).all():
            spread = covariance(func, x, args, Dfun, method=method, sigma=sigma, absolute_sigma=absolute_sigma,
                                names=names, fixed=held)
            f = f if sigma is None else Weighted(None, sigma).weigh(f)
        else:
            spread = None
    else:
        if sigma is not None:
            raise TypeError("report: sigma needs the function: report(fit, func=...)")
        f = state["f"]
        if f is None:
            raise TypeError("report: there are no residuals in this fit; call curve_fit or leastsq with "
                            "full_output=True, or give the function: report(func, x)")
        spread = _given(state, x, f, names, held, absolute_sigma)
        if state["cov"] is not None:
            notes.append("The covariance is the fit's own: of its last Jacobian, which was made by the solver before "
                         "its last step. report(..., func=...) makes a better one.")

    n, m = x.size, f.size
    free = n - int(held.sum())
    chi2 = float(np.sum(f*f)) if np.isfinite(f).all() else np.nan
    dof = spread.dof if spread is not None else m - free
    deviance = chi2 if absolute_sigma else (m*np.log(chi2/m) if chi2 > 0 else -np.inf if chi2 == 0 else np.nan)
    out = Report(
        x=x, names=[spread.label(j) if spread else f"x[{j}]" for j in range(n)] if names is None else list(names),
        stderr=spread.stderr if spread else np.full(n, np.nan),
        correlation=spread.correlation if spread else np.full((n, n), np.nan), covariance=spread,
        chi2=chi2, reduced_chi2=chi2/dof if dof > 0 else np.nan, m=m, n=n, dof=dof,
        p_value=chi2_sf(chi2, dof) if absolute_sigma and dof > 0 and np.isfinite(chi2) else np.nan,
        r2=_r_squared(f, y, sigma), aic=float(deviance + 2*free), bic=float(deviance + free*np.log(m)),
        reason=state["reason"], ier=state["ier"], nfev=state["nfev"], njev=state["njev"],
        correlation_limit=correlation_limit, warnings=[])
    if state["failed"]:
        notes.insert(0, "The fit was stopped before it converged, or failed.")
    out.warnings = _warnings(out, f, at_bound) + notes
    return out


def _is_compiled(fit):
    from .._problem.compiled import CFunction
    return isinstance(fit, CFunction)


# --------------------------------------------------- what kinds of fit there are

def _read(fit, x):
    """The parts of a fit, by name; what is missing is None."""
    state = dict.fromkeys(("x", "cov", "f", "J", "inner", "reason", "ier", "nfev", "njev", "failed", "active"))
    if fit is None:
        return state | {"x": x}
    if isinstance(fit, tuple) and not hasattr(fit, "x"):
        if len(fit) == 5 and isinstance(fit[2], dict):
            info = fit[2]
            return state | {"x": fit[0], "cov": fit[1], "f": np.atleast_1d(np.asarray(info["fvec"], dtype=float)),
                            "inner": _unscaled(info), "active": info.get("active_mask"), "ier": int(fit[4]),
                            "reason": _REASONS.get(int(fit[4]), " ".join(str(fit[3]).split()).rstrip(".")),
                            "nfev": info.get("nfev"), "njev": info.get("njev")}
        if len(fit) == 2 and np.ndim(fit[1]) == 0:
            return state | {"x": fit[0], "ier": int(fit[1])}
        if len(fit) == 2:
            return state | {"x": fit[0], "cov": np.asarray(fit[1], dtype=float)}
    if all(hasattr(fit, name) for name in ("x", "fun", "jac")):
        return state | {"x": fit.x, "f": np.asarray(fit.fun, dtype=float), "J": np.asarray(fit.jac, dtype=float),
                        "reason": " ".join(str(getattr(fit, "message", "")).split()).rstrip("."),
                        "active": getattr(fit, "active_mask", None),
                        "failed": not getattr(fit, "success", True),
                        "nfev": getattr(fit, "nfev", None), "njev": getattr(fit, "njev", None)}
    raise TypeError("report: fit must be what leastsq or curve_fit returns with full_output=True, a result with x, fun "
                    f"and jac, or a function with its x; got {type(fit).__name__}")


def _unscaled(info):
    """J.T @ J from a fit's R, or None; tells a covariance that was scaled from one that was not."""
    try:
        R = np.triu(np.asarray(info["fjac"]).T[:len(info["ipvt"])])
        order = np.asarray(info["ipvt"]) - np.min(info["ipvt"])       # from one here, from zero in SciPy
        J = np.empty_like(R)
        J[:, order] = R
    except (KeyError, ValueError, IndexError):
        return None
    return J.T @ J


def _inverse_of(cov, inner, free):
    product = cov[np.ix_(free, free)] @ inner[np.ix_(free, free)]
    return np.allclose(np.diag(product), 1.0, rtol=1e-4)


def _given(state, x, f, names, held, absolute_sigma):
    """A CovarianceResult of what the fit says itself, or None."""
    if state["J"] is not None:
        given = AccurateJacobian(state["J"], np.full(x.size, 4*_EPS), f, "given", 0)
        return from_jacobian(Problem(None, names=names, absolute_sigma=bool(absolute_sigma)), x, given, fixed=held)
    cov = state["cov"]
    if cov is None or not np.isfinite(cov).any():
        return None
    dof = f.size - int((~held).sum())
    reduced = float(f @ f)/dof if dof > 0 else np.nan
    inner = state["inner"]
    if not absolute_sigma and (inner is None or _inverse_of(cov, inner, ~held)):
        cov = cov*reduced
    stderr = np.sqrt(np.diag(cov))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = cov/np.outer(stderr, stderr)
    correlation[np.isfinite(stderr), np.isfinite(stderr)] = 1.0
    return CovarianceResult(
        x=x, cov=cov, stderr=stderr, correlation=correlation, rank=x.size - int(held.sum()), condition=np.nan,
        dof=dof, chi2=float(f @ f), reduced_chi2=reduced, absolute_sigma=bool(absolute_sigma), optimality=np.nan,
        null_space=np.zeros((x.size, 0)), names=names, fixed=held, method="the fit's own", derivative_error=np.nan,
        nfev=0)


def _r_squared(f, y, sigma):
    if y is None:
        return np.nan
    y = np.asarray(y, dtype=float).reshape(-1)
    if y.size != f.size:
        raise ValueError(f"report: y must have {f.size} values, got {y.size}")
    ones = np.ones(y.size)
    ones, weighted = (ones, y) if sigma is None else (Weighted(None, sigma).weigh(rows) for rows in (ones, y))
    centred = weighted - ones*(ones @ weighted)/(ones @ ones)
    total = centred @ centred
    return float(1 - (f @ f)/total) if total > 0 else np.nan


def _at_bound(bounds, x):
    at = np.zeros(x.size, dtype=bool)
    if bounds is None:
        return at
    low, high = (np.broadcast_to(np.asarray(b, dtype=float), x.shape) for b in bounds)
    for edge in (low, high):
        near = np.isfinite(edge)
        at[near] |= np.abs(x[near] - edge[near]) <= _CLOSE_TO_BOUND*np.maximum(1.0, np.abs(edge[near]))
    return at


# ------------------------------------------------------------ what to worry about

def _warnings(out, f, at_bound):
    """Sentences, the gravest first."""
    said, spread = [], out.covariance
    if not np.isfinite(f).all():
        bad = int(np.flatnonzero(~np.isfinite(f))[0])
        said.append(f"The residuals are not finite: residual {bad} is {f[bad]}. Nothing else here means much.")
    if out.ier == 5:
        said.append("The fit was stopped by the limit on calls (maxfev), before it converged. Give more, or a better "
                    "start.")
    elif out.ier in (6, 7, 8):
        said.append(f"{('ftol', 'xtol', 'gtol')[out.ier - 6]} is smaller than rounding allows; the result is as good as "
                    "it gets. Give a larger one to end earlier.")
    elif out.ier in (0, 9, 10):
        said.append("The fit failed.")
    if spread is None:
        if np.isfinite(f).all():
            said.append("There is no covariance: it is singular, or the fit failed. report(..., func=...) says which "
                        "parameters the data do not determine.")
        return said
    if spread.null_space.shape[1] or spread._weakest is not None:
        said.append(spread.explain())
    if out.dof <= 0:
        said.append("There are no more residuals than parameters: nothing is left to estimate errors from.")
    elif out.chi2 == 0.0:
        said.append("The residuals are exactly zero: errors estimated from them are too.")
    for j in np.flatnonzero(at_bound):
        said.append(f"{out.names[j]} is at its bound, {out.x[j]:.6g}; the errors of the others take it as known.")
    if spread.optimality > 1e-3 and out.chi2 > 0:
        said.append(f"This does not look like a minimum: the residuals make an angle with cosine {spread.optimality:.2g} "
                    "with the derivative of one parameter (it is 0 at a minimum). Fit on from here, or with a smaller "
                    "ftol.")
    if spread.derivative_error > 1e-4:
        said.append(f"Derivatives are known to {spread.derivative_error:.0e} only: the function is noisy, or rounds.")
    weak = [out.names[j] for j in range(out.n) if np.isfinite(out.stderr[j]) and out.stderr[j] > abs(out.x[j])]
    if weak:
        said.append(f"{', '.join(weak)}: the standard error is larger than the value, which may as well be zero; "
                    "confidence_intervals(..., method='profile') tells.")
    strong = [pair for pair in out.correlations(0.99) if np.isfinite(pair[2])]
    if strong:
        a, b, value = strong[0]
        more = f" ({len(strong)} such pairs)" if len(strong) > 1 else ""
        said.append(f"{a} and {b} are correlated to {value:+.4f}{more}: the data hardly tell them apart, and their own "
                    "errors say little without the correlation.")
    if np.isfinite(out.p_value) and out.p_value < 1e-3:
        said.append(f"chi-squared is too large for the errors given (probability {out.p_value:.1e}): the model does not "
                    "fit, or the errors are too small.")
    elif np.isfinite(out.p_value) and out.p_value > 0.999:
        said.append(f"chi-squared is too small for the errors given (probability {out.p_value:.6f}): they are too large.")
    if out.dof > 0 and out.chi2 > 0:
        spread_of = 1.0 if spread.absolute_sigma else np.sqrt(out.reduced_chi2)
        worst = int(np.argmax(np.abs(f)))
        if abs(f[worst]) > 4.5*spread_of and f.size < 10000:
            said.append(f"Residual {worst} is {abs(f[worst])/spread_of:.1f} standard deviations off: an outlier?")
    said += _runs(f)
    return said


def _runs(f):
    """Whether signs of successive residuals follow each other less by chance than they should."""
    signs = np.sign(f[f != 0])
    plus, minus = int((signs > 0).sum()), int((signs < 0).sum())
    if min(plus, minus) < 10:
        return []
    runs = 1 + int((signs[1:] != signs[:-1]).sum())
    total = plus + minus
    mean = 1 + 2*plus*minus/total
    variance = (mean - 1)*(mean - 2)/(total - 1)
    if (mean - runs)/np.sqrt(variance) > 4:
        return [f"Residuals are not random in their order: {runs} runs of equal sign, about {mean:.0f} expected. The "
                "model misses something, or the data are correlated: errors may be too small."]
    return []
