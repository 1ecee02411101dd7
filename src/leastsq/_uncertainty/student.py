"""Student's t, F, the normal and the chi-squared distribution, without SciPy.

Only the functions that intervals and reports need: the two-sided quantile of t, the upper quantile of F,
and the upper tail of chi squared.  The incomplete beta and gamma functions are evaluated by
series and by Lentz's continued fraction (Abramowitz and Stegun 26.5.8, 6.5.29,
6.5.31); the tests compare with SciPy.
"""

from __future__ import annotations

import math

__all__ = ["chi2_sf", "f_quantile", "t_quantile"]

_EPS = 2.0**-52
_TINY = 1e-300
_NEARLY_NORMAL = 1e6            # degrees of freedom above which two correction terms to the normal distribution suffice


def _continued_fraction(terms):
    """The value of 1/(b1 + a1/(b2 + a2/(b3 + ...))) for pairs (a, b), by Lentz's method."""
    _, b = next(terms)
    c, d = 1.0/_TINY, 1.0/(b or _TINY)
    value = d
    for a, b in terms:
        d = 1.0/((b + a*d) or _TINY)
        c = (b + a/c) or _TINY
        value *= c*d
        if abs(c*d - 1.0) < _EPS:
            return value
    return math.nan


def _log_gamma_ratio(a):
    """log(gamma(a + 1/2) / gamma(a)); the difference of two log-gammas cancels for large a."""
    if a < 25:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    z = 1.0/(a*a)
    return 0.5*math.log(a) - (1/8 - z*(1/192 - z*(1/640 - z*17/14336)))/a


def _beta_terms(a, b, x):
    yield 0.0, 1.0
    for k in range(1, 20000):
        n = k//2
        if k % 2:
            yield -(a + n)*(a + b + n)*x/((a + 2*n)*(a + 2*n + 1)), 1.0
        else:
            yield n*(b - n)*x/((a + 2*n - 1)*(a + 2*n)), 1.0


def _incomplete_beta(a, b, x, y, log_factor):
    """I_x(a, b) for y = 1 - x, where log_factor is log(gamma(a+b)/gamma(a)/gamma(b))."""
    if x <= 0.0:
        return 0.0
    if y <= 0.0:
        return 1.0
    log_x = math.log(x) if x < 0.5 else math.log1p(-y)
    log_y = math.log(y) if y < 0.5 else math.log1p(-x)
    front = math.exp(log_factor + a*log_x + b*log_y)
    if x < (a + 1)/(a + b + 2):
        return front*_continued_fraction(_beta_terms(a, b, x))/a
    return 1.0 - front*_continued_fraction(_beta_terms(b, a, y))/b


def t_two_sided(t, dof):
    """Probability that the absolute value of a Student variable with `dof` < 1e6 exceeds `t` >= 0."""
    a = dof/2
    total = dof + t*t
    log_factor = _log_gamma_ratio(a) - 0.5*math.log(math.pi)
    return _incomplete_beta(a, 0.5, dof/total, t*t/total, log_factor)


def _t_density(t, dof):
    log_factor = _log_gamma_ratio(dof/2) - 0.5*math.log(dof*math.pi)
    return math.exp(log_factor - 0.5*(dof + 1)*math.log1p(t*t/dof))


def t_quantile(level, dof):
    """
    The t that the absolute value of a Student variable exceeds with probability 1 - level.

    Parameters
    ----------
    level : float
        Between 0 and 1: 0.95 for a two-sided 95 % interval.
    dof : float
        Degrees of freedom, > 0; infinity for the normal distribution.

    Returns
    -------
    float

    Examples
    --------
    >>> round(t_quantile(0.95, 10), 6)
    2.228139
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    if not dof > 0:
        raise ValueError(f"dof must be positive, got {dof!r}")
    from statistics import NormalDist           # not at the top: importing it takes milliseconds

    z = -NormalDist().inv_cdf(0.5*(1.0 - level))
    if dof >= _NEARLY_NORMAL:
        return z + (z**3 + z)/(4*dof) + (5*z**5 + 16*z**3 + 3*z)/(96*dof*dof)

    def excess(t):
        return t_two_sided(t, dof) - (1.0 - level)

    low, high = 0.0, max(1.0, z)
    while excess(high) > 0.0:
        low, high = high, 2*high
    t = max(low, min(z, high))
    for _ in range(200):
        value = excess(t)
        if value > 0.0:
            low = t
        else:
            high = t
        step = t + value/(2*_t_density(t, dof))
        new = step if low < step < high else 0.5*(low + high)
        if abs(new - t) <= 4*_EPS*new:
            return new
        t = new
    return t


def _gamma_terms(a, x):
    yield 0.0, x + 1.0 - a
    for n in range(1, 100000):
        yield -n*(n - a), x + 2*n + 1.0 - a


def chi2_sf(chi2, dof):
    """
    Probability that chi squared with `dof` degrees of freedom exceeds `chi2`.

    Examples
    --------
    >>> round(chi2_sf(3.841459, 1), 6)
    0.05
    """
    a, x = dof/2, chi2/2
    if x <= 0.0:
        return 1.0
    front = math.exp(a*math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1.0/a
        n = a
        while abs(term) > _EPS*abs(total):
            n += 1
            term *= x/n
            total += term
        return 1.0 - front*total
    return front*_continued_fraction(_gamma_terms(a, x))


def f_sf(f, k, dof):
    """Probability that Fisher's F with `k` and `dof` degrees of freedom exceeds `f` >= 0."""
    if dof >= _NEARLY_NORMAL:
        return chi2_sf(k*f, k)
    a, b = dof/2, k/2
    total = dof + k*f
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return _incomplete_beta(a, b, dof/total, k*f/total, log_factor)


def f_quantile(level, k, dof):
    """
    The value that Fisher's F with `k` and `dof` degrees of freedom does not exceed with probability `level`.

    Parameters
    ----------
    level : float
        Between 0 and 1.
    k, dof : float
        Degrees of freedom, > 0; infinite `dof`: chi squared over `k`.

    Returns
    -------
    float

    Examples
    --------
    >>> round(f_quantile(0.95, 2, 10), 6)
    4.102821
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    if not (k > 0 and dof > 0):
        raise ValueError(f"degrees of freedom must be positive, got {k!r} and {dof!r}")
    low, high = 0.0, 1.0
    while f_sf(high, k, dof) > 1.0 - level:
        low, high = high, 2*high
    while high - low > 4*_EPS*high:
        middle = 0.5*(low + high)
        if middle in (low, high):
            break
        if f_sf(middle, k, dof) > 1.0 - level:
            low = middle
        else:
            high = middle
    return high
