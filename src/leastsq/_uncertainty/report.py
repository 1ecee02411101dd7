"""Describe a fit in words and numbers: the results, their uncertainties, and warnings.

(The file is long because it reads the results of all public functions, and SciPy's.)
"""

from __future__ import annotations

import textwrap
from dataclasses import replace

import numpy as np

from .._fit.status import Status
from .._problem.accurate_jacobian import AccurateJacobian
from .._problem.losses import POISSON
from .._problem.problem import Problem
from .._problem.weights import Weighted
from .count_statistics import about_counts, of_counts
from .covariance import from_jacobian, not_a_minimum, own_covariance, shown_covariance
from .export import Exports
from .format import format_value, value_and_error
from .student import chi2_sf
from .told import fit_of, mask_of

__all__ = ["Report", "report"]

_MANY = 25              # with at most this many parameters, the text looks at all correlations
_NUMBERS = ("correlation", "chi2", "reduced_chi2", "m", "n", "dof", "p_value", "r2", "aic", "bic", "reason", "ier", "nfev",
            "njev", "warnings")         # the further values of to_dict
_EPS = np.finfo(float).eps
_WIDTH = 92
_REASONS = {            # shorter than the message of the fit, which quotes tolerances
    1: "the sum of squares no longer decreases",
    2: "the parameters no longer change",
    3: "neither the sum of squares nor the parameters change any more",
    4: "the residuals are orthogonal to every derivative",
    5: "the limit on calls was reached",
}


class Report(Exports):
    """
    The result of `report`; ``print`` it, or let a notebook show it.

    Attributes
    ----------
    x, stderr : ndarray, shape (n,)
        Parameters and their standard errors.
    names : list of str
    correlation : ndarray, shape (n, n)
    covariance : CovarianceResult
    chi2, reduced_chi2 : float
        Sum of the squares of the (weighted) residuals, or with a loss sum of the losses; the same divided by `dof`.
    m, n, dof : int
        Numbers of residuals, of parameters, and of degrees of freedom.  Priors count as residuals in `dof`, not in m.
    chi2_data, chi2_priors : float
        The parts of chi2 from the data and from the priors of `fit`.
    pulls : list of (str, float, float, float)
        For each prior its parameter, mean and width, and the distance of the parameter from the mean in widths.
    sets : list of (str, int, float)
        For each of several data sets of `fit` its name, the number of its residuals, and its part of chi2.
    p_value : float
        Probability of a larger chi2; nan unless the standard deviations of the data are known
        (``absolute_sigma``).  For counts, that of a larger deviance, which at low counts is not distributed as chi squared.
    counts : CountStatistics or None
        For counts, the deviance predicted by Poisson's distribution, and the dispersion of the counts.
    r2 : float
        Share of the (weighted) variance of the data that the model explains; nan if data or sigma are not known.
    aic, bic : float
        Akaike's and Schwarz's criteria, up to a constant of the data.
    reason : str
        Why the fit stopped.
    ier, nfev, njev : int or None
    search : str
        For a `fit` without a start: the result of its search.
    warnings : list of str
    """

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def _exported(self):
        if self.covariance is not None:
            rows = self.covariance._exported()
            return [(name, *row[1:]) for name, row in zip(self.names, rows)]
        return [(name, float(value), float(error), "free") for name, value, error in zip(self.names, self.x, self.stderr)]

    def _numbers(self):
        numbers = {"covariance": None if self.covariance is None else self.covariance.cov}
        return numbers | {name: getattr(self, name) for name in _NUMBERS}

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
            Only correlations of at least this size.  None: the limit of the report.

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
        counts = self.covariance is not None and self.covariance.loss == POISSON
        lines = [("counts, parameters" if counts else "residuals, parameters", f"{self.m}, {self.n}"),
                 ("degrees of freedom", f"{self.dof}"),
                 ("deviance" if counts else "chi-squared", f"{self.chi2:.8g}")]
        lines += [(f"  of {name}, {m} residuals", f"{chi2:.8g}") for name, m, chi2 in self.sets]
        if self.pulls:
            lines += [("  of the data", f"{self.chi2_data:.8g}"), ("  of the priors", f"{self.chi2_priors:.8g}")]
        if self.counts is not None:
            lines += self.counts.lines()
        elif not counts:
            lines.append(("reduced chi-squared", f"{self.reduced_chi2:.6g}"))
        if known or counts:
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
        if self.search:
            lines.append(("without a start", self.search.partition(": ")[2].rstrip(".")))
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
        if self.pulls:
            lines += ["", "priors, and how many of their widths the parameters are off"]
            wide = max(len(name) for name, *_ in self.pulls)
            lines += [f"  {name:<{wide}}  {format_value(mean, width)}  {pull:+.2f}" for name, mean, width, pull in self.pulls]
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
        import html                             # not at the top: importing it takes milliseconds

        def table(rows, heading=None):
            head = ("<tr>" + "".join(f"<th style='text-align:left'>{cell}</th>" for cell in heading) + "</tr>"
                    if heading else "")
            body = "".join("<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in row)
                           + "</tr>" for row in rows)
            return f"<table>{head}{body}</table>"

        parts = [table([(name, value, f"± {error}", relative) for name, value, error, relative in self._rows()],
                       ("parameter", "value", "std. error", "relative")),
                 table(self._statistics())]
        if self.pulls:
            parts.append(table([(name, format_value(mean, width), f"{pull:+.2f}") for name, mean, width, pull in self.pulls],
                               ("prior of", "mean and width", "off, in widths")))
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
           absolute_sigma=None, bounds=None, fixed=None, correlation_limit=0.5, method=None):
    """
    Describe a fit: parameters and uncertainties, goodness of fit, and warnings.

    Parameters
    ----------
    fit : tuple, result object or callable
        The result of `leastsq`, `curve_fit` or `leastsq_blocks` with ``full_output=True``, that of
        `least_squares`, or problem i of a batch, ``result.fit(i)``: these know what was
        fitted, and need nothing else.  SciPy's results are accepted too.  Or the residual function itself.
    x : array_like, optional
        The fitted parameters, if `fit` is a function.
    args : tuple, optional
        Further arguments of the function.
    Dfun : callable, optional
        Its Jacobian.
    func : callable, optional
        The residual function, if `fit` does not know it.
    names : sequence of str, optional
        Names of the parameters.  None: the names of the model's arguments, if there is a model.
    y : array_like, optional
        The data, for R squared, if `fit` does not know them.  `sigma` must then be given too; 1 means that the function
        returns differences that are not divided by anything.
    sigma : float or array_like, optional
        Standard deviations of the data, if the function does not divide by them,
        as in `covariance`.  This and `absolute_sigma` must agree with a result that knows them.
    absolute_sigma : bool, optional
        As in `covariance`.
    bounds : pair of array_like, optional
        As in `covariance`.
    fixed : sequence of int or of bool, optional
        Further parameters that were held constant.
    correlation_limit : float, optional
        Show correlations of at least this size.
    method : optional
        How to differentiate, as in `covariance`.  For a result of `curve_fit`, replaces its pcov.

    Returns
    -------
    Report
        Its text is ``str(...)``; its numbers are attributes.

    Raises
    ------
    TypeError
        `fit` is none of the above, or was made without ``full_output``.
    ValueError
        Sizes do not agree; an argument does not agree with the result; ``func(x)`` is not what it was at the
        end of the fit.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    The uncertainties of a `curve_fit` result are exactly those of its pcov; those of other results are
    computed anew, as by `covariance`.

    With chi2 the sum of squares and k the number of parameters that were not held, AIC = m log(chi2/m) + 2k and
    BIC = m log(chi2/m) + k log(m); with `absolute_sigma`, chi2 replaces m log(chi2/m).

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import curve_fit, report
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def decay(t, height, rate):
    ...     return height*np.exp(-rate*t)
    >>> print(report(curve_fit(decay, t, y, full_output=True)))
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
    fitted = fit_of("report", fit, x, args, Dfun, func=func, names=names, sigma=sigma, absolute_sigma=absolute_sigma,
                    bounds=bounds)
    x, problem, notes = fitted.x, fitted.problem or Problem(None), []
    f = fitted.fvec
    if fitted.can_evaluate:
        fitted.check("report")
        f = fitted.evaluate()
    spread = _spread(fitted, f, mask_of(fixed, x.size) if fixed is not None else None, method, notes)
    n, free = x.size, x.size - (int(spread.fixed.sum()) if spread else 0)
    finite = f is None or np.isfinite(f).all()
    rows = None if f is None else problem.data_part(f)
    m = problem.rows if f is None else int(problem.counted(rows.size).sum())
    if f is None:
        chi2 = float(fitted.info["fnorm"]**2)
    else:
        chi2 = problem.loss.cost(f) if finite else np.nan
    dof = spread.dof if spread is not None else m + len(problem.priors) - free
    pulls = [(j, mean, width, (float(x[j]) - mean)/width) for j, mean, width in problem.priors]
    off = sum(pull**2 for *_, pull in pulls)
    known = bool(problem.absolute_sigma)
    deviance = chi2 if known else (m*np.log(chi2/m) if chi2 > 0 else -np.inf if chi2 == 0 else np.nan)
    expected = of_counts(fitted, f) if problem.loss.is_poisson and f is not None and finite else None
    out = Report(
        x=x, names=[f"x[{j}]" for j in range(n)] if problem.names is None else list(problem.names),
        stderr=spread.stderr if spread else np.full(n, np.nan),
        correlation=spread.correlation if spread else np.full((n, n), np.nan), covariance=spread,
        chi2=chi2, reduced_chi2=chi2/dof if dof > 0 else np.nan, m=m, n=n, dof=dof,
        p_value=_probability(problem, chi2, dof, expected),
        chi2_data=chi2 - off, chi2_priors=off, pulls=[], sets=_of_sets(problem, rows, finite),
        r2=_r_squared(problem, rows, y, notes), aic=float(deviance + 2*free), bic=float(deviance + free*np.log(m)),
        reason=_reason(fitted, problem), ier=fitted.ier, nfev=_count(fitted.info, "nfev"),
        njev=_count(fitted.info, "njev"), counts=expected, correlation_limit=correlation_limit, warnings=[],
        search=fitted.info.get("search", "") if isinstance(fitted.info, dict) else "")
    out.pulls = [(out.names[j], *pull) for j, *pull in pulls]
    if fitted.success is False and fitted.ier is None:
        notes.insert(0, "The fit was stopped before it converged, or failed.")
    out.warnings = _warnings(out, rows, problem) + notes
    return out


def _reason(fitted, problem):
    reason = _REASONS.get(fitted.ier, fitted.message)
    return reason.replace("the sum of squares", "the deviance") if reason and problem.loss.is_poisson else reason


def _probability(problem, chi2, dof, expected):
    """Probability of a larger chi2, or of a larger deviance of counts; nan if its distribution is not known."""
    if problem.loss.is_poisson:
        return np.nan if expected is None or dof <= 0 else expected.p_value
    known = problem.absolute_sigma and problem.loss.is_linear
    return chi2_sf(chi2, dof) if known and dof > 0 and np.isfinite(chi2) else np.nan


def _of_sets(problem, f, finite):
    """(name, number of residuals, part of chi2) of each of several data sets, or of both parts of complex data."""
    parts = list(problem.parts(0)) if f is not None and finite else []
    if len(parts) < 2:
        return []
    loss = problem.loss.of_data()
    return [(name, f[part].size, loss.cost(f[part])) for name, part in parts]


def _count(info, name):
    return info.get(name) if isinstance(info, dict) else getattr(info, name, None)


def _spread(fitted, f, fixed, method, notes):
    """The covariance to show, or None; remarks about it are appended to notes."""
    if f is not None and not np.isfinite(f).all():
        return None
    if fitted.can_evaluate or fitted.spreads is not None:
        return shown_covariance("report", fitted, method=method, fixed=fixed, notes=notes)
    J = getattr(fitted.info, "jac", None)
    problem = fitted.problem or Problem(None)
    if J is not None:
        J = np.asarray(J, dtype=float)
        given = AccurateJacobian(J, np.full(fitted.x.size, 4*_EPS), f, "given", 0)
        has_loss = abs(2*getattr(fitted.info, "cost", f @ f/2) - f @ f) > 1e-6*(f @ f)
        held = np.zeros(fitted.x.size, bool) if fixed is None else fixed
        active = getattr(fitted.info, "active_mask", None)
        spread = from_jacobian(problem, fitted.x, given, fixed=held if active is None else held | (np.asarray(active) != 0))
        if has_loss and problem.loss.is_linear:
            notes.append("The fit had a loss, as its cost says, which this result does not know: these uncertainties are "
                         "wrong. covariance(func, x, loss=..., f_scale=...) gives the right ones.")
            spread = replace(spread, optimality=np.nan)
        return spread
    try:
        spread = own_covariance(fitted, "report", fixed)
    except ValueError as error:
        if f is None:
            raise
        notes.append(str(error).removeprefix("report: "))
        return None
    notes.append("The covariance is that of the fit's last Jacobian, which the solver computed before its "
                 "last step. With the residual function, func=, there is a better one.")
    if fitted.problem is None and not np.array_equal(spread.cov, fitted.cov, equal_nan=True):
        notes.append("These uncertainties were scaled by the scatter of the residuals, as for a fit by leastsq. If this result "
                     "is that of curve_fit with absolute_sigma=True, give absolute_sigma=True here too: it is not stored.")
    if problem.loss.is_robust:
        notes.append("With a loss these uncertainties are usually too large, by up to a factor of two; func= gives Huber's.")
    return spread


def _r_squared(problem, f, y, notes):
    """R squared of the weighted data about their weighted mean; nan, with a note, if these are not known."""
    if y is None and problem.model is None:
        return np.nan
    if y is not None and problem.ydata is not None and not np.array_equal(np.ravel(y), np.ravel(problem.ydata)):
        raise ValueError("report: y must be that of the fit, got other data")
    sigma = problem.sigma
    if problem.model is None and sigma is None:
        notes.append("R squared is not known: give sigma=1 with y= if the function returns differences of data and model "
                     "that it does not divide by anything.")
        return np.nan
    if not problem.loss.is_linear or f is None or not np.isfinite(f).all():
        return np.nan
    y = np.asarray(problem.ydata if y is None else y, dtype=float).reshape(-1)
    if y.size != f.size:
        raise ValueError(f"report: y must have {f.size} values, got {y.size}")
    ones = np.ones(y.size)
    if sigma is None:
        weighted = y
    else:
        weights = Weighted(None, np.abs(sigma) if np.ndim(sigma) < 2 else sigma)
        ones, weighted = weights.weigh(ones), weights.weigh(y)
    centred = weighted - ones*(ones @ weighted)/(ones @ ones)
    total = centred @ centred
    return float(1 - (f @ f)/total) if total > 0 else np.nan


# ------------------------------------------------------------ warnings

def _warnings(out, f, problem):
    """The warnings, the most serious one first."""
    said, spread = [], out.covariance
    finite = f is None or np.isfinite(f).all()
    if not finite:
        bad = int(np.flatnonzero(~np.isfinite(f))[0])
        said.append(f"The residuals are not finite: {_named(problem, bad)} is {f[bad]}. The other numbers here mean little.")
    if out.ier == Status.MAXFEV:
        said.append("The fit was stopped by the limit on calls (maxfev), before it converged. Increase maxfev, or give a "
                    "better start.")
    elif out.ier in (Status.FTOL_TOO_SMALL, Status.XTOL_TOO_SMALL, Status.GTOL_TOO_SMALL):
        said.append(f"{('ftol', 'xtol', 'gtol')[out.ier - Status.FTOL_TOO_SMALL]} is smaller than rounding allows; the result "
                    "cannot get better. Use a larger one to end earlier.")
    elif out.ier in (Status.IMPROPER, Status.NOT_FINITE, Status.STOPPED):
        said.append("The fit failed.")
    if spread is None:
        if finite:
            said.append("There is no covariance: it is singular, or the fit failed. report(..., func=...) says which "
                        "parameters the data do not determine.")
        return said
    if spread.null_space.shape[1] or spread._words:
        said.append(spread.explain())
    if out.dof <= 0:
        said.append("There are no more residuals than parameters: " + (
            "nothing shows whether the model fits." if spread.absolute_sigma else "standard errors cannot be estimated."))
    elif out.chi2 == 0.0 and not problem.loss.is_poisson:
        said.append("The residuals are exactly zero, and so are standard errors estimated from them.")
    if problem.bounds is not None:
        said += _about_bounds(out, spread, problem.bounds)
    aside = not_a_minimum(spread)
    if aside is not None:
        said.append(aside)
    if spread.derivative_error > 1e-4:
        said.append(f"Derivatives are known only to {spread.derivative_error:.0e}: the function is noisy, or rounds its values.")
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
    if out.counts is not None:
        said += about_counts(out)
    elif np.isfinite(out.p_value) and out.p_value < 1e-3:
        said.append(f"chi-squared is too large for the given sigma (probability {out.p_value:.1e}): the model does not "
                    "fit, or sigma is too small.")
    elif np.isfinite(out.p_value) and out.p_value > 0.999:
        said.append(f"chi-squared is too small for the given sigma (probability {out.p_value:.6f}): sigma is too large.")
    if f is not None and not problem.loss.is_robust and out.dof > 0 and out.chi2 > 0:
        spread_of = 1.0 if spread.absolute_sigma else np.sqrt(out.reduced_chi2)
        worst = int(np.argmax(np.abs(f)))
        if abs(f[worst]) > 4.5*spread_of and f.size < 10000:
            what = _named(problem, worst)
            said.append(f"{what[0].upper() + what[1:]} is {abs(f[worst])/spread_of:.1f} standard deviations off: an outlier?")
    far = [(name, pull) for name, *_, pull in out.pulls if abs(pull) > 3]
    said += [f"{name} is {abs(pull):.1f} widths off the mean of its prior: data and prior contradict each other."
             for name, pull in far]
    return said if f is None or spread._is_exact else said + _runs_of(problem, f)


def _named(problem, row):
    return f"residual {row}" if problem.where(row) is None else f"the residual of {problem.where(row)}"


def _runs_of(problem, f):
    """Warnings about the order of residuals, for each data set."""
    parts = list(problem.parts(f.size))
    said = [(name, sentence) for name, part in parts for sentence in _runs(f[part])]
    return [f"{name}: {sentence}" if len(parts) > 1 else sentence for name, sentence in said]


def _about_bounds(out, spread, bounds):
    said = []
    for j in np.flatnonzero(spread.held & bounds.free):
        said.append(f"{out.names[j]} is held at its bound, {out.x[j]:.6g}: " + (
            "the uncertainties of the others take it as known." if spread.fixed[j] else
            "these uncertainties are as if there were no bound; covariance(fit) has those of the others with it known."))
    at = ((out.x <= bounds.low) | (out.x >= bounds.high)) & bounds.free & ~spread.held
    for j in np.flatnonzero(at):
        said.append(f"{out.names[j]} is at its bound, {out.x[j]:.6g}, but not held by it: the cost is level there.")
    return said


def _runs(f):
    """A warning if successive residuals have the same sign more often than by chance."""
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
                "model misses something, or the data are correlated: uncertainties may be too small."]
    return []
