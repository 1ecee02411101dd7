"""Covariance of fitted parameters, from a Jacobian made afresh at the solution."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._problem.accurate_jacobian import METHODS, accurate_jacobian
from .._problem.losses import LINEAR
from .format import label, value_and_error
from .names import _mask, _parameters, loose_problem
from .student import t_quantile

__all__ = ["CovarianceResult", "covariance"]

ACCURATE = "accurate"
_EPS = np.finfo(float).eps
_NEARLY = 1e7           # condition number from which a combination is nearly undetermined


@dataclass(frozen=True, eq=False, repr=False)
class CovarianceResult:
    """
    What `covariance` returns.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The parameters.
    cov : ndarray, shape (n, n)
        Their covariance.  A parameter that the data do not determine has an
        infinite variance and nan covariances, a fixed one nan.
    stderr : ndarray, shape (n,)
        Standard errors, the square roots of its diagonal.
    correlation : ndarray, shape (n, n)
    rank : int
        Numerical rank of the Jacobian of the free parameters.
    condition : float
        Its condition number, with columns scaled to length one; inf if `rank` is less
        than the number of free parameters.
    dof : int
        Degrees of freedom, m - rank.
    chi2 : float
        Sum of the squares of the (weighted) residuals; with a loss, of their losses.
    reduced_chi2 : float
        ``chi2/dof``; with a loss, Huber's variance.  nan without degrees of freedom.
    absolute_sigma : bool
        If False, ``cov`` was multiplied by `reduced_chi2`.
    optimality : float
        Largest cosine between the residuals and a column of the Jacobian: zero
        at a minimum.
    null_space : ndarray, shape (n, k)
        Directions in which the parameters can move without changing the
        residuals; k = 0 if the rank is full.
    names : tuple of str or None
    fixed : ndarray of bool, shape (n,)
    method : str
        How derivatives were made.
    derivative_error : float
        Estimated relative error of the worst column of the Jacobian.
    nfev : int
        Number of calls to `func`.
    bounds : tuple of ndarray or None
        Lower and upper bounds.
    loss, f_scale : str or callable, float
    """

    x: np.ndarray
    cov: np.ndarray
    stderr: np.ndarray
    correlation: np.ndarray
    rank: int
    condition: float
    dof: int
    chi2: float
    reduced_chi2: float
    absolute_sigma: bool
    optimality: float
    null_space: np.ndarray
    names: tuple | None
    fixed: np.ndarray
    method: str
    derivative_error: float
    nfev: int
    bounds: tuple | None = None
    loss: object = LINEAR
    f_scale: float = 1.0
    _bend: float = 1.0
    _weakest: np.ndarray | None = field(default=None)

    def label(self, j):
        """Name of parameter j: its own, or ``x[j]``."""
        return label(j, self.names)

    def t(self, level=0.95):
        """Student's t for two-sided intervals; the normal quantile with absolute sigma."""
        if self.absolute_sigma:
            return t_quantile(level, np.inf)
        return t_quantile(level, self.dof) if self.dof > 0 else np.inf

    def explain(self):
        """
        Which combinations of parameters the data do not determine, in words.

        Returns
        -------
        str

        Examples
        --------
        >>> import numpy as np
        >>> from leastsq import covariance
        >>> t = np.linspace(0, 1, 9)
        >>> def residual(x):
        ...     return x[0]*x[1]*t + x[2] - np.exp(t)
        >>> print(covariance(residual, [2.0, 0.85, 0.87], names=["gain", "slope", "level"]).explain())
        The data determine only 2 combinations of the 3 parameters.
        Changing gain by +1 and slope by -0.425 together leaves the residuals as they are.
        The data determine only the product of gain and slope.
        Fix one of gain and slope, or write the model with one parameter in place of them.
        """
        free = int((~self.fixed).sum())
        lines = []
        if self.null_space.shape[1]:
            lines.append(f"The data determine only {self.rank} combination{'s' if self.rank != 1 else ''} "
                         f"of the {free} parameters.")
            for direction in self.null_space.T:
                lines += self._one(direction, "leaves the residuals as they are", "determine only")
        else:
            lines.append("The data determine every parameter." if free > 1 else
                         "The data determine the parameter.")
            if self._weakest is not None:
                lines.append(f"But only just: the condition number is {self.condition:.1e}.")
                lines += self._one(self._weakest, "hardly changes the residuals", "determine well only")
        return "\n".join(lines)

    def _one(self, direction, effect, determine):
        """Sentences about one direction that matters little or not at all."""
        large = np.abs(direction) > 1e-4*np.abs(direction).max()
        parts = np.flatnonzero(large)
        if parts.size == 1:
            name = self.label(parts[0])
            return [f"Changing {name} {effect}.", f"Fix {name}, or take it out of the model."]
        first = direction[parts[0]]
        steps = [f"{self.label(j)} by {direction[j]/first:+.4g}" for j in parts]
        names = [self.label(j) for j in parts]
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        text = f"Changing {', '.join(steps[:-1])} and {steps[-1]} together {effect}"
        only = _combination(self.x[parts], direction[parts], names)
        return [f"{text}.", *([f"The data {determine} {only}."] if only else []),
                f"Fix one of {listed}, or write the model with one parameter "
                f"{'in place of them' if parts.size == 2 else 'less'}."]

    def __repr__(self):
        rows = [(self.label(j), *value_and_error(self.x[j], self.stderr[j])) for j in range(self.x.size)]
        if self.fixed.any():
            rows = [(name, f"{self.x[j]:.6g}", "fixed") if self.fixed[j] else (name, value, error)
                    for j, (name, value, error) in enumerate(rows)]
        width = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = [f"  {name:<{width[0]}}  {value:>{width[1]}} ± {error:<{width[2]}}".rstrip()
                 for name, value, error in rows]
        kind = ("absolute sigma" if self.absolute_sigma else f"reduced chi2 {self.reduced_chi2:.4g}"
                if self.loss == LINEAR else f"robust variance {self.reduced_chi2:.4g}")
        lines.append(f"rank {self.rank} of {int((~self.fixed).sum())}, condition {self.condition:.1e}, "
                     f"{self.dof} degrees of freedom, {kind}")
        return "\n".join(lines)


def _combination(x, direction, names):
    """Sum, difference, product or ratio of two parameters, if that is what stays."""
    if len(names) != 2:
        return None
    a, b = names
    ratio = direction[1]/direction[0]
    for same, what in ((-1.0, "sum"), (1.0, "difference")):
        if abs(ratio - same) < 1e-5:
            return f"the {what} of {a} and {b}"
    if np.all(x != 0):
        relative = ratio*x[0]/x[1]
        for same, what in ((-1.0, "product"), (1.0, "ratio")):
            if abs(relative - same) < 1e-5:
                return f"the {what} of {a} and {b}"
    return None


def covariance(func, x, args=(), Dfun=None, *, method=None, sigma=None, absolute_sigma=False,
               names=None, fixed=None, rcond=None, bounds=None, loss=LINEAR, f_scale=1.0):
    r"""
    Covariance and standard errors of fitted parameters.

    The Jacobian is made afresh at `x`, with many more correct digits than the
    solver's own, whose last one moreover belongs to an earlier point.

    Parameters
    ----------
    func : callable or CFunction
        Residuals ``func(x, *args)``, as in `leastsq`.
    x : array_like, shape (n,)
        The fitted parameters.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.
    Dfun : callable, optional
        Jacobian ``Dfun(x, *args)`` of shape (m, n).
    method : {None, "richardson", "3-point", "2-point", "cs"}, optional
        How to differentiate.  "richardson": central differences extrapolated to
        step zero, about 15 calls for each parameter and 9 to 13 digits;
        "3-point" and "2-point": central and forward differences, 6 to 9 calls,
        some 9 and 6 digits; "cs": complex steps, exact to rounding, for a `func`
        that takes complex `x` (checked).  Steps adapt to the effect that each
        parameter has, so that it may be near zero.  None: `Dfun` if given, else
        "richardson".
    sigma : float or array_like, shape (m,) or (m, m), optional
        Standard deviations of the data, or their covariance, if `func` does not
        divide by them.
    absolute_sigma : bool, optional
        The sizes of sigma (or of residuals divided by it) are known.  If not,
        only their ratios count, and the covariance is scaled with
        ``chi2/(m - rank)``.
    names : sequence of str, optional
        Names of the parameters, for `explain` and reports.
    fixed : sequence of int or of bool, optional
        Parameters that were held (at a bound, say): their indices, or a mask.
        They count as known.
    rcond : float, optional
        Singular values of the column-scaled Jacobian below ``rcond`` times the
        largest count as zero.  None: the rounding and differentiation error.
    bounds : 2-tuple or object with lb and ub, optional
        As in `leastsq`: `func` is not called outside, and parameters on a bound count as
        `fixed`.
    loss, f_scale : optional
        As in `leastsq`, if the fit had a loss: the covariance is then Huber's, from how
        the losses are spread and curved [2]_.

    Returns
    -------
    CovarianceResult
        Covariance, standard errors, correlations, rank, condition number, and
        ``explain()``, which says what the data do not determine.

    Raises
    ------
    ValueError
        Residuals or derivatives are not finite; `sigma`, `names` or `fixed` has
        the wrong size; `sigma` is not positive (definite); unknown `method`; "cs"
        with a function that drops the imaginary part; `x` outside of `bounds`; a loss
        that is unknown, not curved upwards, or comes with `absolute_sigma`, for how
        often residuals are large is not known beforehand.
    TypeError
        `func` is not callable or does not return real numbers.

    Notes
    -----
    With J the (weighted) Jacobian, its columns are scaled to length one before a
    QR factorization and the singular value decomposition of R, so that neither
    units nor J.T @ J spoil digits [1]_.  If the rank is short, a parameter that no null
    direction touches keeps its error, the others get infinity.

    References
    ----------
    .. [1] G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th ed. (2013),
       sections 5.3 and 5.5.
    .. [2] P. J. Huber, "Robust Statistics" (1981), section 7.6.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import covariance, leastsq
    >>> t = np.arange(6.0)
    >>> y = np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> x, ier = leastsq(residual, [1.0, 1.0])
    >>> covariance(residual, x, names=["height", "rate"])
      height  5.081 ± 0.066
      rate    0.504 ± 0.012
    rank 2 of 2, condition 1.8e+00, 4 degrees of freedom, reduced chi2 0.004902
    """
    x = _parameters(x)
    problem = loose_problem(func, args, Dfun, x, sigma=sigma, absolute_sigma=absolute_sigma, names=names, bounds=bounds,
                            loss=loss, f_scale=f_scale)
    return covariances(problem, x, fixed=fixed, method=method, rcond=rcond)[0]


def covariances(problem, x, *, fixed=None, method=None, rcond=None):
    """The covariance at x, and what it would be if no parameter were held but the fixed ones."""
    held = _mask(fixed, x.size)
    alone, bounds = held, problem.bounds
    if bounds is not None:
        held, alone = held | (x <= bounds.low) | (x >= bounds.high), held | ~bounds.free
    made = accurate_jacobian(problem.func, x, problem.args, problem.Dfun, method, bounds=bounds, col_deriv=problem.col_deriv)
    found = from_jacobian(problem, x, made, fixed=held, rcond=rcond)
    if np.array_equal(held, alone):
        return found, found
    return found, from_jacobian(problem, x, made, fixed=alone, rcond=rcond)


def check_option(choice):
    """Is `choice` what curve_fit and least_squares take as `covariance`?"""
    if choice is not None and choice not in (ACCURATE, *METHODS):
        raise ValueError(f"`covariance` must be None, {', '.join(map(repr, (ACCURATE, *METHODS)))}, got {choice!r}.")


def by_option(choice, problem, x):
    """What curve_fit and least_squares make of their `covariance`, after a fit."""
    if choice == ACCURATE:
        choice = "cs" if problem.by_differences and problem.differences.scheme == "cs" else None
    return covariances(problem, x, method=choice)[0]


def from_jacobian(problem, x, made, *, fixed=None, rcond=None):
    """A CovarianceResult from an `AccurateJacobian`, made or given."""
    n, f, J, loss = x.size, made.f, made.J, problem.loss
    absolute_sigma, errors, bounds = problem.absolute_sigma, made.error, problem.bounds
    if absolute_sigma and not loss.is_linear:
        raise ValueError("absolute_sigma must be False with a loss: a loss says that some residuals are larger than "
                         "the data's errors, and how many is estimated from the residuals")
    held = np.zeros(n, dtype=bool) if fixed is None else fixed
    free = np.flatnonzero(~held)
    J, error = J[:, free], float(errors[free].max(initial=0.0))
    m, k = J.shape

    norms = np.linalg.norm(J, axis=0)
    scale = np.where(norms > 0, norms, 1.0)
    scaled = J/scale
    R = np.linalg.qr(scaled, mode="r") if m >= k else scaled
    _, s, Vt = np.linalg.svd(R)
    s = np.concatenate([s, np.zeros(k - s.size)])
    if rcond is None:
        rcond = max(max(m, k)*_EPS, 10*error)
    rank = int((s > rcond*s[0]).sum()) if k and s[0] > 0 else 0

    factors = Vt[:rank].T/s[:rank]
    null = Vt[rank:].T
    unknown = np.linalg.norm(null, axis=1) > max(1e-6, 1e3*rcond)
    inner = factors @ factors.T/np.outer(scale, scale)
    inner[unknown, :] = np.nan
    inner[:, unknown] = np.nan
    inner[unknown, unknown] = np.inf

    dof = m - rank
    if loss.is_linear:
        chi2, bend = float(f @ f), 1.0
        reduced = chi2/dof if dof > 0 else np.nan
    else:
        f, chi2, bend, reduced = loss.variance(f, rank)
        if dof > 0 and np.isnan(reduced):
            raise ValueError(f"with this loss and f_scale={loss.scale:g} nearly all residuals count as outliers: the cost "
                             "is not curved upwards, and says nothing about errors; take a larger f_scale")
    if not absolute_sigma:
        known = ~unknown
        inner[np.ix_(known, known)] *= reduced
        if dof <= 0:
            inner[np.ix_(known, known)] = np.inf
    cov = np.full((n, n), np.nan)
    cov[np.ix_(free, free)] = inner
    variance = np.diag(cov).copy()
    stderr = np.sqrt(variance)
    size = np.linalg.norm(f)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = cov/np.outer(stderr, stderr)
    finite = np.isfinite(stderr)
    correlation[finite, finite] = 1.0
    cosines = np.abs(scaled.T @ f)/size if size > 0 else np.zeros(k)

    directions = np.zeros((n, k - rank))
    directions[free] = _legible(null, scale)
    weakest = None
    condition = s[0]/s[-1] if k and rank == k else np.inf        # of less rank: decided by roundings
    if rank == k and condition > _NEARLY:
        weakest = np.zeros(n)
        weakest[free] = Vt[-1]/scale
        weakest[free] = np.where(np.abs(Vt[-1]) > 0.03*np.abs(Vt[-1]).max(), weakest[free], 0.0)
    return CovarianceResult(
        x=x, cov=cov, stderr=stderr, correlation=correlation, rank=rank, condition=float(condition), dof=dof,
        chi2=chi2, reduced_chi2=reduced, absolute_sigma=bool(absolute_sigma),
        optimality=float(cosines.max(initial=0.0)), null_space=directions, names=problem.names,
        fixed=held, method=made.method, derivative_error=error, nfev=made.nfev,
        bounds=None if bounds is None else (bounds.low, bounds.high), loss=loss.rho, f_scale=loss.scale, _bend=bend,
        _weakest=weakest)


def _legible(null, scale):
    """A basis of the null space, in the parameters' own units, with as many zeros as may be."""
    basis = null.copy()
    k = basis.shape[1]
    used = []
    for c in range(k):                          # Gauss-Jordan with complete pivoting
        size = np.abs(basis[:, c:])
        size[used] = 0.0
        row, shift = np.unravel_index(np.argmax(size), size.shape)
        basis[:, [c, c + shift]] = basis[:, [c + shift, c]]
        basis[:, c] /= basis[row, c]
        for other in range(k):
            if other != c:
                basis[:, other] -= basis[row, other]*basis[:, c]
        used.append(row)
    basis[np.abs(basis) < 1e-6] = 0.0
    return basis/scale[:, None]
