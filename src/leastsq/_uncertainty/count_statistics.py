"""Compare the deviance of counts with its distribution for Poisson's counts of the fitted means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._problem.counts import deviance_moments
from .student import chi2_sf

__all__ = ["CountStatistics", "about_counts", "of_counts"]

_FAR = 1e-3             # warn if a deviance as large, or as small, has a smaller probability than this


@dataclass(frozen=True, eq=False)
class CountStatistics:
    """
    How far counts scatter about their fitted means.

    Attributes
    ----------
    deviance : float
        Deviance of the counts, without the terms of priors.
    expectation, variance : float
        Mean and variance of the deviance for Poisson's counts with the fitted means, as sums over the distribution of each
        count.  A fit of k parameters reduces the deviance by about k, and its variance by 2k.
    dispersion : float
        Pearson's ``sum((y - mu)**2/mu)`` over the degrees of freedom: 1 for Poisson's counts, however low they are.
    p_value : float
        Probability of a larger deviance, from a scaled chi squared with this expectation and variance, each reduced by
        the share of the parameters.
    """

    deviance: float
    expectation: float
    variance: float
    dispersion: float
    p_value: float

    def lines(self):
        """The lines of a report."""
        return [("  expected at these means", f"{self.expectation:.6g} ± {np.sqrt(self.variance):.3g}"),
                ("dispersion", f"{self.dispersion:.6g}")]


def of_counts(fitted, f):
    """
    The `CountStatistics` of a fit.

    Parameters
    ----------
    fitted : Fitted
        A fit of counts.  If its model cannot be called, None is returned.
    f : ndarray
        Its residuals.
    """
    problem = fitted.problem
    if not fitted.can_evaluate:
        return None
    func, counts = problem.func, problem.loss.counts
    mean = np.atleast_1d(np.asarray(func.mean(fitted.x.copy(), *problem.args), float))[:counts.size]
    there = problem.counted(f.size)[:counts.size]
    mean, counts = mean[there], counts[there]
    expectation, variance = (float(part.sum()) for part in deviance_moments(mean))
    deviance = float(np.sum(f[:there.size][there]**2))
    free = problem.free_count(fitted.x.size) - len(problem.priors)
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson = float(np.sum(np.where(mean > 0, (counts - mean)**2/mean, 0.0)))
    dof = counts.size - free
    left = expectation - free
    spread = variance - 2*free
    scale = spread/(2*left) if left > 0 else np.nan
    p_value = chi2_sf(deviance/scale, left/scale) if left > 0 and spread > 0 else np.nan
    return CountStatistics(deviance, expectation, variance, pearson/dof if dof > 0 else np.nan, p_value)


def about_counts(out):
    """Sentences about counts that scatter more, or less, than Poisson's."""
    found = out.counts
    if not np.isfinite(found.p_value):
        return []
    if found.p_value < _FAR:
        return [f"The counts are over-dispersed: a deviance of {found.deviance:.6g} or more has the probability "
                f"{found.p_value:.1e}, and their variance is about {found.dispersion:.3g} times that of Poisson's counts. The "
                "model does not fit, or the counts have other noise besides that of counting; in the second case these "
                f"uncertainties are too small by a factor of {np.sqrt(max(found.dispersion, 1.0)):.3g}."]
    if found.p_value > 1 - _FAR:
        return [f"The counts scatter less than Poisson's do (a deviance of {found.deviance:.6g} or less has the probability "
                f"{1 - found.p_value:.1e}, the dispersion is {found.dispersion:.3g}): were they smoothed, averaged or scaled? "
                "Then they are not counts, and these uncertainties are too large."]
    return []
