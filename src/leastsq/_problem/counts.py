"""Counts and their expectation: residuals whose squares sum to Poisson's deviance, and the moments of the deviance."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .._core import weigh
from .losses import LEAST_SQUARES, POISSON, Loss

__all__ = ["COUNTS_FTOL", "CountResiduals", "around", "check_counts", "count_residuals", "deviance_moments", "impossible",
           "of_means", "refuse_beside", "score"]

COUNTS_FTOL = 1e-11     # the default: most of the deviance of low counts is noise, which no fit can reduce
_SUMMED = 64.0          # up to this mean the moments are sums, above it series
_TAIL = 14.0            # the sums extend this number of standard deviations, and as many counts more, beyond the mean


class CountResiduals:
    """
    Deviance residuals of counts, ``sign(mu - y)*sqrt(2*(y*log(y/mu) - y + mu))``, followed by the residuals of priors.

    Not finite where the mean is impossible: negative, or zero although the observed count is not zero.

    Parameters
    ----------
    mean : callable
        ``mean(x, *args)``: expected counts, shape (m,), followed by `others` further residuals, those of priors.
    counts : ndarray of float64, shape (m,)
    others : int
    """

    def __init__(self, mean, counts, others=0):
        self.mean, self.counts, self.others = mean, counts, others

    def __call__(self, x, *args):
        return self.residuals(self.mean(x, *args))

    def residuals(self, mean):
        """The residuals for given expected counts."""
        mean = np.atleast_1d(np.asarray(mean, dtype=float))
        if mean.shape != (self.counts.size + self.others,):
            raise ValueError(f"loss='poisson': the model must return an expectation for each of the {self.counts.size} counts, "
                             f"got shape {mean.shape}")
        return weigh(self.counts, 1.0, mean, False)[0]

    def around(self, wrap):
        """The same residuals, with `wrap` applied to the mean."""
        return CountResiduals(wrap(self.mean), self.counts, self.others)


def count_residuals(mean, counts):
    """Deviance residuals, ``sign(mu - y)*sqrt(2*(y*log(y/mu) - y + mu))``, of arrays of one shape; nan where y is nan."""
    mean, counts = np.asarray(mean, float), np.asarray(counts, float)
    known = np.where(np.isnan(counts), 0.0, counts)
    found = weigh(np.ascontiguousarray(known.ravel()), 1.0, mean.ravel(), False)[0].reshape(mean.shape)
    return np.where(np.isnan(counts), np.nan, found)


def around(func, wrap):
    """`wrap` applied to a function; for deviance residuals, to the mean, which is what the user's model computes."""
    return func.around(wrap) if isinstance(func, CountResiduals) else wrap(func)


def of_means(problem):
    """The problem with the function that the solver calls: the expected counts if there are counts, else unchanged."""
    return replace(problem, func=problem.func.mean, loss=LEAST_SQUARES) if isinstance(problem.func, CountResiduals) else problem


def score(func, mean, jacobian):
    """
    The residuals and rows of scoring, from expected counts and their derivatives.

    Returns
    -------
    f : ndarray, shape (m,)
        ``(mu - y)/sqrt(mu)``.
    J : ndarray, shape (m, n)
        Rows of derivatives over ``sqrt(mu)``: ``J.T @ J`` is Fisher's information, ``J.T @ f`` half the deviance's gradient.
    """
    func.residuals(mean)                    # checks the size
    f, factors = weigh(func.counts, 1.0, mean, True)
    return f, jacobian*factors[:, None]


def refuse_beside(door, sigma, f_scale, strategy="minpack"):
    """Refuse sigma and f_scale, because Poisson's distribution fixes the variance; and strategies, which scoring replaces."""
    if strategy != "minpack":
        raise ValueError(f"{door}: strategy must not be given with loss='poisson', got {strategy!r}: counts are fitted by "
                         "scoring, whose steps already use second derivatives")
    for name, given in (("sigma", sigma is not None), ("f_scale", f_scale is not None)):
        if given:
            raise ValueError(f"{door}: {name} must not be given with loss='poisson': the variance of counts is their expectation,"
                             " which the model gives. Factors of the counts (exposure, efficiency) belong in the model")


def check_counts(counts, door, name, where=None):
    """
    The `Loss` for these counts, shape (m,), none of which may be negative.

    Parameters
    ----------
    where : callable, optional
        ``where(k)``: the index of count number k in words; None: ``[k]``.
    """
    bad = np.flatnonzero(~(counts >= 0) | np.isinf(counts))
    if bad.size:
        k = int(bad[0])
        at = f"[{k}]" if where is None else where(k)
        raise ValueError(f"{door}: {name} must be counts with loss='poisson', zero or more, got {counts[k]:.6g} at "
                         f"{name}{at}, the first of {bad.size}. Counts minus a background are not counts: give the observed "
                         "counts, and add the background to the model")
    return Loss(POISSON, 1.0, np.ascontiguousarray(counts, np.float64))


def impossible(func, mean):
    """(row, count, expectation) of the first finite mean that no counts can have, or None."""
    mean = np.atleast_1d(np.asarray(mean, float))[:func.counts.size]
    if not np.isfinite(mean).all():
        return None                         # reported elsewhere
    bad = np.flatnonzero((mean < 0) | (mean == 0) & (func.counts > 0))
    return (int(bad[0]), float(func.counts[bad[0]]), float(mean[bad[0]])) if bad.size else None


def deviance_moments(mean):
    """
    Expectation and variance of each count's part of the deviance, ``2*(y*log(y/mu) - y + mu)`` for Poisson's y.

    Sums over the distribution up to a mean of 64; above it series in 1/mu, whose errors are below 1e-6 there.

    Parameters
    ----------
    mean : ndarray, shape (m,)

    Returns
    -------
    expectation, variance : ndarray, shape (m,)
        1 and 2 for large means, like those of chi squared; both zero for a mean of zero.
    """
    mean = np.asarray(mean, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1/mean
        first = 1 + inverse*(1/6 + inverse*(1/6 + inverse*(19/60 + inverse*(9/10))))
        second = 2 + inverse*(2/3 + inverse*(4/3 + inverse*(701/180 + inverse*15)))
    small = np.flatnonzero(mean <= _SUMMED)
    last = math.ceil(_SUMMED + _TAIL*math.sqrt(_SUMMED) + _TAIL)
    k = np.arange(last + 1.0)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    for rows in np.array_split(small, max(1, small.size//256)):
        mu = np.maximum(mean[rows, None], np.finfo(float).tiny)
        logs = np.log(mu)
        chance = np.exp(k*logs - mu - log_factorials)
        part = weigh(np.broadcast_to(k, chance.shape).ravel(), 1.0, np.broadcast_to(mu, chance.shape).ravel(), False)[0]
        part = part.reshape(chance.shape)**2
        first[rows] = (chance*part).sum(axis=1)
        second[rows] = (chance*(part - first[rows, None])**2).sum(axis=1)
    first[mean == 0] = second[mean == 0] = 0.0
    return first, second
