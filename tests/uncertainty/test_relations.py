"""Relations that must hold between fits, and between the tools that describe one fit.

Each draw takes a model of `fields`, data, and one of the 96 combinations of sigma, absolute_sigma, loss, bounds
and covariance.  Each test checks one relation for all draws, so that no certified values are needed.  100 draws
cover every combination; the slow tests take 1000.

`curve_fit` without bounds, loss and covariance= promises MINPACK's numbers: its pcov must agree only as well as
forward differences allow (`OWN`), and is exempt by name where they cannot give the right value.
"""
from __future__ import annotations

import functools
import itertools
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
from fields import FIELDS

import leastsq
from leastsq import confidence_band, confidence_intervals, covariance, curve_fit, leastsq_blocks, least_squares, report

SIGMAS, LOSSES, BOUNDS = ("none", "vector", "matrix"), ("linear", "soft_l1"), ("none", "far", "active", "fixed")
COMBINATIONS = list(itertools.product(SIGMAS, (False, True), LOSSES, BOUNDS, (None, "accurate")))
JACOBIANS = (None, "3-point", "cs")
FINE = 1e-6             # tolerance for two covariances from accurate derivatives
OWN = 1e-3              # if one is from the fit's forward differences, or from one central difference
UNIT = 7.3              # factor on sigma, where only its ratios count


@dataclass(frozen=True)
class Case:
    """A call of curve_fit."""

    number: int
    field: object
    model: object
    x: np.ndarray
    y: np.ndarray
    p0: np.ndarray
    sigma: np.ndarray | None
    absolute: bool
    loss: str
    f_scale: float
    bounds: tuple | None
    kind: str                   # of bounds
    covariance: str | None
    jac: str | None
    scale: np.ndarray           # standard errors, roughly

    def __str__(self):
        sigma = "none" if self.sigma is None else ("vector", "matrix")[np.ndim(self.sigma) - 1]
        return (f"draw {self.number}: {self.field.name}, sigma {sigma}, absolute_sigma={self.absolute}, {self.loss}, "
                f"bounds {self.kind}, covariance={self.covariance}, jac={self.jac}")

    @property
    def promises_minpack(self):
        return self.loss == "linear" and self.bounds is None and self.covariance is None

    @property
    def admitted(self):
        return not (self.loss != "linear" and self.absolute and self.covariance)

    @property
    def has_huber(self):
        """Do the tools accept this fit?  Not with a loss and absolute_sigma together."""
        return self.loss == "linear" or not self.absolute

    def fit(self, **changes):
        options = {"ftol": 1e-10, "xtol": 1e-10, "maxfev": 10000, "full_output": True, "jac": self.jac,
                   "covariance": self.covariance, "sigma": self.sigma, "absolute_sigma": self.absolute} | changes
        if self.bounds is not None:
            options["bounds"] = self.bounds
        if self.loss != "linear":
            options |= {"loss": self.loss, "f_scale": self.f_scale}
        return curve_fit(self.model, self.x, self.y, self.p0, **options)

    def weigh(self, rows):
        if self.sigma is None:
            return rows
        if np.ndim(self.sigma) == 2:
            return np.linalg.solve(np.linalg.cholesky(self.sigma), rows)
        return (rows.T/self.sigma).T

    def residual(self, p):
        return self.weigh(self.model(self.x, *p) - self.y)


def _jacobian(model, x, p):
    columns = []
    for j in range(p.size):
        moved = p.astype(complex)
        moved[j] += 1e-100j
        columns.append(model(x, *moved).imag/1e-100)
    return np.column_stack(columns)


@functools.lru_cache(maxsize=2000)
def draw(k):
    """Draw number k: every combination in turn, each time with another model."""
    rng = np.random.default_rng([2718, k])
    sigma_kind, absolute, loss, kind, how = COMBINATIONS[k % len(COMBINATIONS)]
    field = FIELDS[rng.integers(len(FIELDS))]
    truth = field.truth(rng)
    near_zero = field.near_zero is not None and rng.random() < 0.5
    if near_zero:
        truth[field.near_zero] = rng.choice([0.0, 1e-9, -1e-12])
    m = field.points + int(rng.integers(10))
    x = field.x(m)
    exact = field.model(x, *truth)
    noise = field.noise*max(np.ptp(exact), 0.1*np.abs(exact).max())
    errors, sigma = np.full(m, noise), None
    if sigma_kind != "none":
        errors = noise*rng.uniform(0.5, 2, m)
        sigma = errors.copy()
    if sigma_kind == "matrix":
        sigma = np.outer(errors, errors)*0.5**np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
        root = np.linalg.cholesky(sigma)
    else:
        root = np.diag(errors)
    z = rng.standard_normal(m)
    J = np.linalg.solve(root, _jacobian(field.model, x, truth))
    if loss == "linear" and (near_zero or rng.random() < 0.3):          # the minimum is the truth, to rounding
        Q = np.linalg.qr(J/np.linalg.norm(J, axis=0))[0]
        z -= Q @ (Q.T @ z)
    if loss != "linear":
        z[rng.choice(m, 3, replace=False)] += rng.choice([-8, 8], 3)
    y = exact + root @ z
    cov = np.linalg.inv(J.T @ J)
    scale = np.sqrt(np.diag(cov))
    start = truth + np.linalg.cholesky((cov + cov.T)/2/np.outer(scale, scale)) @ rng.standard_normal(truth.size)*scale
    bounds = None
    if kind != "none":
        low, high = truth - 40*scale, truth + 40*scale
        sure = np.abs(truth) > 50*scale         # models are defined for one sign only
        low = np.where(sure & (truth > 0), np.maximum(low, 0.3*truth), low)
        high = np.where(sure & (truth < 0), np.minimum(high, 0.3*truth), high)
        j = int(rng.integers(truth.size))
        if kind == "active":
            if rng.random() < 0.5:
                low[j], high[j] = truth[j] + 3*scale[j], np.inf
            else:
                low[j], high[j] = -np.inf, truth[j] - 3*scale[j]
        elif kind == "fixed":
            low[j] = high[j] = truth[j]
        start = np.clip(start, low, high)
        bounds = low, high
    unit = 1.0 if absolute else UNIT
    size = noise
    if sigma is not None:
        sigma = sigma*(unit if sigma.ndim == 1 else unit**2)
        size = 1/unit
    return Case(k, field, field.model, x, y, start, sigma, absolute, loss, 1.345*size, bounds, kind, how,
                JACOBIANS[int(rng.integers(3))], scale)


@functools.lru_cache(maxsize=2000)
def fitted(k):
    return draw(k).fit()


# ------------------------------------------------------------------ comparisons

def standard(cov):
    """Standard errors; 0 for fixed and held parameters."""
    variances = np.diag(cov)
    return np.sqrt(np.where(np.isnan(variances), 0.0, variances))


def off(a, b):
    """The difference of two covariances in units of the standard errors."""
    a, b = (np.nan_to_num(np.asarray(c), nan=0.0, posinf=np.inf) for c in (a, b))
    sizes = np.sqrt(np.abs(np.diag(b)))
    if np.isinf(sizes).any() or np.isinf(a).any():
        return 0.0 if np.array_equal(np.isinf(a), np.isinf(b)) else np.inf
    sizes = np.where(sizes > 0, sizes, 1.0)
    return float(np.abs((a - b)/np.outer(sizes, sizes)).max())


def pcov_tolerance(case):
    return FINE if case.covariance else OWN


def spreads(case, fit):
    """The covariances that the tools give for a fit: (name, covariance matrix, tolerance)."""
    yield "pcov", fit[1], pcov_tolerance(case)
    if case.has_huber:
        yield "covariance(fit)", covariance(fit).cov, FINE


def is_lost(case, fit):
    """Cannot be right: a forward difference relative to a parameter near zero, in a fit that promises MINPACK's bits."""
    return case.jac is None and case.loss == "linear" and case.bounds is None and bool((np.abs(fit[0]) < 0.1*case.scale).any())


def check_mapped(case, other, back, *, factor=lambda case, spread: 1.0, y_unit=1.0):
    """
    Assert that the other case's fit, converted back to the parameters of the first, agrees with it.

    Parameters
    ----------
    back : callable
        ``back(p)``: (the parameters of the first case, their derivatives).
    factor : callable
        Divisor for the covariances of the other fit.
    y_unit : float
        The unit of the other's data.
    """
    fit, second = fitted(case.number), other.fit()
    p, A = back(second[0])
    lost = is_lost(case, fit) or is_lost(other, second)
    distance = distance_of(p, fit[0], case, 0.1 if lost else 1e-2)
    for (name, cov, tolerance), (_, theirs, _) in zip(spreads(case, fit), spreads(other, second)):
        if lost:
            if name == "pcov" and not case.covariance:
                continue
        theirs = np.where(np.isnan(theirs), 0.0, theirs)
        assert off(A @ theirs @ A.T/factor(fit, name), cov) <= tolerance + 3*distance, name
    if case.has_huber:
        assert (covariance(fit).held == (A.T @ covariance(second).held != 0 if A.ndim == 3 else
                                         np.abs(A) @ covariance(second).held > 0)).all()


def distance_of(p, q, case, most):
    """The distance between two answers in standard errors, at most `most`; covariances may differ by as much."""
    distance = float((np.abs(p - q)/case.scale).max())
    assert distance <= most, f"minima {distance:.2g} standard errors apart"
    return distance


def for_all_draws(relation):
    """Make a test that checks the relation for each draw, and names the draws that violate it."""
    def test(draws):
        broken, asked = [], 0
        for k in [k for k in range(draws) if draw(k).admitted]:
            with warnings.catch_warnings(), np.errstate(all="ignore"):      # trial steps may leave a model's domain
                warnings.simplefilter("ignore", leastsq.OptimizeWarning)
                try:
                    asked += relation(draw(k), np.random.default_rng(k)) is not False
                except (AssertionError, ValueError, RuntimeError, ArithmeticError, IndexError, KeyError) as error:
                    broken.append(f"{draw(k)}: {type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}")
        assert not broken, f"{len(broken)} of {asked + len(broken)} draws:\n" + "\n".join(broken)
        assert asked
    test.__doc__, test.relation = relation.__doc__, relation
    return pytest.mark.parametrize("draws", [100, pytest.param(1000, marks=pytest.mark.slow)])(test)


# ------------------------------------------------------------------ relations of two fits

@for_all_draws
def test_units_of_parameters_and_data_scale_standard_errors(case, rng):
    units = 10.0**rng.integers(-12, 13, case.p0.size)
    of_x, of_y = 10.0**rng.integers(-12, 13, 2)
    model = case.model
    other = replace(
        case, model=lambda x, *p: of_y*model(x/of_x, *(np.array(p)/units)), x=case.x*of_x, y=case.y*of_y, p0=case.p0*units,
        scale=case.scale*units, f_scale=case.f_scale*(of_y if case.sigma is None else 1.0),
        sigma=None if case.sigma is None else case.sigma*of_y**np.ndim(case.sigma),
        bounds=None if case.bounds is None else tuple(side*units for side in case.bounds))
    known = case.absolute and case.sigma is None
    check_mapped(case, other, lambda p: (p/units, np.diag(1/units)), factor=lambda fit, name: 1/of_y**2 if known else 1.0)


@for_all_draws
def test_permuted_parameters_permute_standard_errors(case, rng):
    order = rng.permutation(case.p0.size)
    back, model = np.argsort(order), case.model
    other = replace(case, model=lambda x, *p: model(x, *np.array(p)[back]), p0=case.p0[order], scale=case.scale[order],
                    bounds=None if case.bounds is None else tuple(side[order] for side in case.bounds))
    check_mapped(case, other, lambda p: (p[back], np.eye(p.size)[back]))


@for_all_draws
def test_permuted_points_change_nothing(case, rng):
    if case.loss != "linear" and np.ndim(case.sigma) == 2:
        return False            # whitening makes correlated residuals depend on their order
    order = rng.permutation(case.x.size)
    sigma = case.sigma
    if sigma is not None:
        sigma = sigma[order] if sigma.ndim == 1 else sigma[np.ix_(order, order)]
    other = replace(case, x=case.x[order], y=case.y[order], sigma=sigma)
    check_mapped(case, other, lambda p: (p, np.eye(p.size)))


@for_all_draws
def test_doubled_points_halve_variances(case, rng):
    m, sigma = case.x.size, case.sigma
    if sigma is not None:
        sigma = np.tile(sigma, 2) if sigma.ndim == 1 else np.kron(np.eye(2), sigma)
    other = replace(case, x=np.tile(case.x, 2), y=np.tile(case.y, 2), sigma=sigma)

    def factor(fit, name):
        if case.absolute:
            return 0.5
        free = covariance(fit).rank if name != "pcov" or case.covariance else fit[2].problem.free_count(fit[0].size)
        value = (m - free)/(2*m - free)
        if case.loss != "linear" and (name != "pcov" or case.covariance):
            _, slope, curvature = fit[2].problem.loss.values(fit[2]["fvec"])
            bends = slope + 2*curvature*fit[2]["fvec"]**2
            spread = free*bends.var()/bends.mean()**2
            value *= ((1 + spread/(2*m))/(1 + spread/m))**2
        return value
    check_mapped(case, other, lambda p: (p, np.eye(p.size)), factor=factor)


@for_all_draws
def test_points_of_weight_zero_change_nothing(case, rng):
    """Where pcov promises SciPy's numbers it counts them as data, and the report says so."""
    if case.sigma is not None and case.sigma.ndim == 2:
        return False
    sigma = np.ones(case.x.size) if case.sigma is None else case.sigma
    x = np.append(case.x, case.x[[1, 5, 7]])
    y = np.append(case.y, case.y.max()*np.array([3.0, -2.0, 10.0]))
    other = replace(case, x=x, y=y, sigma=np.append(sigma, [np.inf]*3))
    if not case.promises_minpack:
        check_mapped(case, other, lambda p: (p, np.eye(p.size)))
        return True
    fit, second = fitted(case.number), other.fit()
    assert off(covariance(second).cov, covariance(fit).cov) <= FINE
    told = report(second)
    assert told.m == case.x.size
    assert case.absolute or any("infinite sigma" in text for text in told.warnings)


@for_all_draws
def test_far_bounds_change_nothing(case, rng):
    if case.kind not in ("none", "far"):
        return False
    wide = 1e4*(np.abs(case.p0) + case.scale)
    low = np.where((case.p0 > 0) & (np.abs(case.p0) > 20*case.scale), case.p0/5, -wide)     # so that models stay defined
    high = np.where((case.p0 < 0) & (np.abs(case.p0) > 20*case.scale), case.p0/5, wide)
    other = replace(case, bounds=None if case.kind == "far" else (low, high))
    if case.promises_minpack or other.promises_minpack:
        if is_lost(case, fitted(case.number)) or is_lost(other, fitted(case.number)):
            return False
        assert off(other.fit()[1], fitted(case.number)[1]) <= OWN
        assert off(covariance(other.fit()).cov, covariance(fitted(case.number)).cov) <= FINE
    else:
        check_mapped(case, other, lambda p: (p, np.eye(p.size)))
    return True


@for_all_draws
def test_the_logarithm_of_a_parameter_has_its_relative_standard_error(case, rng):
    low, high = (np.full(case.p0.size, -np.inf), np.full(case.p0.size, np.inf)) if case.bounds is None else case.bounds
    positive = np.flatnonzero((case.p0 > 20*case.scale) & ((low > 0) | (low == -np.inf)))
    if not positive.size:
        return False
    j, model = int(rng.choice(positive)), case.model

    def changed(p, function):
        p = np.array(p)
        p[j] = function(p[j])
        return p

    def of_bound(v):
        return np.log(v) if v > 0 else -np.inf
    other = replace(case, model=lambda x, *q: model(x, *changed(q, np.exp)), p0=changed(case.p0, np.log),
                    scale=changed(case.scale, lambda s: s/case.p0[j]),
                    bounds=None if case.bounds is None else (changed(low, of_bound), changed(high, of_bound)))

    def back(q):
        p = changed(q, np.exp)
        return p, np.diag(changed(np.ones(p.size), lambda _: p[j]))
    check_mapped(case, other, back)


@for_all_draws
def test_a_ratio_instead_of_a_parameter_changes_nothing_else(case, rng):
    low, high = (np.full(case.p0.size, -np.inf), np.full(case.p0.size, np.inf)) if case.bounds is None else case.bounds
    inside = (fitted(case.number)[0] > low) & (fitted(case.number)[0] < high)
    over = np.flatnonzero((np.abs(case.p0) > 20*case.scale) & inside)
    if over.size == 0 or not inside[np.arange(case.p0.size) != over[0]].any():
        return False
    b = int(over[0])
    a, model = int(rng.choice([j for j in np.flatnonzero(inside) if j != b])), case.model

    def product(q):
        q = np.array(q)
        q[a] = q[a]*q[b]
        return q
    start = case.p0.copy()
    start[a] /= start[b]
    scale = case.scale.copy()
    scale[a] = np.abs(scale[a]/start[b]) + np.abs(start[a]*scale[b]/start[b])
    bounds = case.bounds
    if bounds is not None:
        bounds = low.copy(), high.copy()
        bounds[0][a], bounds[1][a] = -np.inf, np.inf
        if case.kind == "far" and case.p0[a] > 20*case.scale[a]:
            bounds[0][a] = min(start[a]/5, start[a]*5)
    other = replace(case, model=lambda x, *q: model(x, *product(q)), p0=start, scale=scale, bounds=bounds)

    def back(q):
        A = np.eye(q.size)
        A[a, a], A[a, b] = q[b], q[a]
        return product(q), A
    check_mapped(case, other, back)


@for_all_draws
def test_an_offset_of_x_subtracted_in_the_model_or_by_its_location_changes_nothing(case, rng):
    """Such as a Julian date of 2457957 days; where forward differences promise MINPACK's numbers, only the tools are compared."""
    offset = 2457957.0*np.ptp(case.x)
    x = (case.x + offset) - offset                  # the digits that are left
    case = replace(case, x=x, number=-1)
    j, model = case.field.location, case.model
    if j is None or case.jac is None:
        other = replace(case, model=lambda x, *p: model(x - offset, *p), x=x + offset)

        def back(p):
            return p, np.eye(p.size)
    else:
        def moved(p, by):
            p = np.array(p)
            p[j] = p[j] + by
            return p
        other = replace(case, x=x + offset, p0=moved(case.p0, offset),
                        bounds=None if case.bounds is None else tuple(moved(side, offset) for side in case.bounds))
        if case.kind == "fixed" and (case.bounds[0] == case.bounds[1])[j]:
            return False                            # the offset parameter would be rounded

        def back(p):
            return moved(p, -offset), np.eye(p.size)
    fit, second = case.fit(), other.fit(xtol=1e-15)         # xtol is relative to the offset too
    p, A = back(second[0])
    tolerance = FINE if j is None else 1e-2 if case.jac == "3-point" else 1e-3      # steps may be too long; rounding
    if is_lost(case, fit):
        return False
    tolerance += 3*distance_of(p, fit[0], case, 2e-2)
    assert off(second[1], fit[1]) <= max(tolerance, pcov_tolerance(case)), "pcov"
    if case.has_huber:
        assert off(covariance(second).cov, covariance(fit).cov) <= tolerance, "covariance(fit)"
    return True


@for_all_draws
def test_a_fit_in_blocks_agrees_with_the_whole(case, rng):
    """With residuals divided by sigma.  Without the function, a fit in blocks has only its last Jacobian."""
    if np.ndim(case.sigma) == 2 or not case.has_huber or case.kind == "fixed" and case.p0.size == 1:
        return False
    m = case.x.size
    sigma = np.ones(m) if case.sigma is None else case.sigma
    places = np.array_split(np.arange(m), 3)

    def of_block(p, i):
        return (case.model(case.x[i], *p) - case.y[i])/sigma[i]
    options = {"Dfun": case.jac or "3-point", "ftol": 1e-10, "xtol": 1e-10, "full_output": True, "bounds": case.bounds}
    if case.loss != "linear":
        options |= {"loss": case.loss, "f_scale": case.f_scale}
    fit = leastsq_blocks(of_block, case.p0, places, **options)
    whole = leastsq.leastsq(case.residual, case.p0, **options)
    known = {"absolute_sigma": case.absolute or None}
    reference = covariance(whole, **known)
    tolerance = FINE + 3*distance_of(fit[0], whole[0], case, 1e-3)
    told = report(fit, func=case.residual, **known)
    assert off(told.covariance.cov, reference.cov) <= tolerance
    own = report(fit, **known)
    if case.loss == "linear":
        assert off(own.covariance.cov, reference.cov) <= OWN
        assert own.covariance.condition == pytest.approx(reference.condition, rel=0.05)
    else:
        assert any("loss" in text for text in own.warnings)
    for name in ("m", "dof", "chi2"):
        assert getattr(own, name) == pytest.approx(getattr(told, name), rel=1e-9), name
    return True


# ------------------------------------------------------------------ the tools, for one fit

@for_all_draws
def test_all_tools_agree(case, rng):
    fit = fitted(case.number)
    popt, pcov = fit[:2]
    told = report(fit)
    free = np.ones(popt.size, bool) if case.bounds is None else case.bounds[0] < case.bounds[1]
    if case.covariance is None:
        assert np.array_equal(told.covariance.cov, pcov), "pcov must have the same bits"
    if not case.has_huber:
        with pytest.raises(ValueError, match="absolute_sigma must be False with a loss"):
            covariance(fit)
        return True
    found = covariance(fit)
    loose = covariance(lambda p: case.model(case.x, *p) - case.y, popt, sigma=case.sigma, absolute_sigma=case.absolute,
                       bounds=case.bounds, loss=case.loss, f_scale=case.f_scale)
    assert off(loose.cov, found.cov) <= FINE and (loose.held == found.held).all()
    plain = {} if case.loss == "linear" else {"loss": case.loss, "f_scale": case.f_scale}
    same = leastsq.leastsq(case.residual, popt, Dfun=case.jac or "3-point", bounds=case.bounds, full_output=True, ftol=1e-10,
                           xtol=1e-10, **plain)
    own = covariance(same, absolute_sigma=case.absolute or None)
    lost = is_lost(case, fit)
    assert off(own.cov, found.cov) <= FINE + 3*distance_of(same[0], popt, case, 0.1 if lost else 1e-2), "leastsq"
    solved = least_squares(case.residual, popt, bounds=(-np.inf, np.inf) if case.bounds is None else case.bounds,
                           jac=case.jac or "2-point", covariance="accurate", ftol=1e-10, xtol=1e-10, gtol=1e-10, **plain)
    if not case.absolute:
        distance = distance_of(solved.x, popt, case, 0.1 if lost else 1e-2)
        assert off(solved.covariance.cov, found.cov) <= FINE + 3*distance, "least_squares"
    # an explicitly chosen method
    assert off(covariance(fit, method="cs").cov, found.cov) <= FINE, "cs"
    assert off(covariance(fit, method="3-point").cov, found.cov) <= 1e-5, "3-point"
    # intervals and bands
    ends = confidence_intervals(fit)
    width = found.t()*found.stderr
    low, high = (-np.inf, np.inf) if case.bounds is None else case.bounds
    with np.errstate(invalid="ignore"):
        certain = ~found.fixed
        assert ends.lower[certain] == pytest.approx(np.maximum(popt - width, low)[certain], abs=1e-6*np.nanmax(width))
        assert ends.upper[certain] == pytest.approx(np.minimum(popt + width, high)[certain], abs=1e-6*np.nanmax(width))
    band = confidence_band(fit)
    J = _jacobian(case.model, case.x, popt)
    matrix = np.nan_to_num(pcov if case.covariance is None else found.cov)
    assert band.stderr == pytest.approx(np.sqrt(np.einsum("ij,jk,ik->i", J, matrix, J)), rel=1e-6, abs=1e-9*band.stderr.max())
    # the report of the fit
    assert told.m == case.x.size and told.dof == (case.x.size - free.sum() if case.covariance is None else found.dof)
    if case.covariance:
        assert off(told.covariance.cov, found.cov) <= FINE and off(pcov, found.cov) <= FINE
    elif case.loss != "linear":
        assert any("Huber" in text for text in told.warnings)
    elif found.held.any():
        assert any("held at its bound" in text for text in told.warnings)
    elif lost:
        pass
    else:
        assert off(pcov, found.cov) <= pcov_tolerance(case), "pcov and covariance(fit)"
    assert not any("minimum" in text for text in told.warnings) or lost, "a minimum is one"
    return True


@for_all_draws
def test_standard_errors_agree_with_fifty_digits(case, rng):
    mpmath = pytest.importorskip("mpmath")
    fit = fitted(case.number)
    loss = fit[2].problem.loss
    free = np.ones(case.p0.size, bool) if case.bounds is None else case.bounds[0] < case.bounds[1]
    if case.covariance is None and not case.promises_minpack:       # with bounds or a loss: SciPy's formula
        assert off(fit[1], exact_covariance(mpmath, case, fit[0], free, loss, scipys=True)) <= OWN
    if case.has_huber:
        found = covariance(fit)
        assert off(found.cov, exact_covariance(mpmath, case, fit[0], ~found.fixed, loss)) <= FINE
    return True


def exact_covariance(mpmath, case, p, free, loss, scipys=False):
    """The standard errors in 50 digits, then rounded; zero for fixed parameters."""
    with mpmath.workdps(50):
        exact = np.frompyfunc(mpmath.mpf, 1, 1)
        x, y, p = exact(case.x), exact(case.y), exact(p)
        model = case.model(x, *p)
        columns = []
        for j in np.flatnonzero(free):
            h = (abs(p[j]) or mpmath.mpf(1))*mpmath.mpf(10)**-16
            up, down = p.copy(), p.copy()
            up[j], down[j] = p[j] + h, p[j] - h
            columns.append((case.model(x, *up) - case.model(x, *down))/(2*h))
        J, f = np.array(columns).T, model - y
        if case.sigma is not None and case.sigma.ndim == 2:
            lower = np.array(mpmath.cholesky(mpmath.matrix(case.sigma.tolist())).tolist(), dtype=object)
            rows = np.column_stack([J, f])
            for i in range(y.size):
                rows[i] = (rows[i] - lower[i, :i] @ rows[:i])/lower[i, i]
            J, f = rows[:, :-1], rows[:, -1]
        elif case.sigma is not None:
            J, f = J/exact(case.sigma)[:, None], f/exact(case.sigma)
        m, k = J.shape
        variance = f @ f/(m - k)
        if loss.rho == "soft_l1":
            z = (f/exact(loss.scale))**2
            root = np.frompyfunc(mpmath.sqrt, 1, 1)(1 + z)
            bends = 1/root**3                                       # rho' + 2 z rho''
            if scipys:
                J = J*np.frompyfunc(mpmath.sqrt, 1, 1)(bends)[:, None]
                variance = 2*exact(loss.scale)**2*(z/(1 + root)).sum()/(m - k)
            else:
                psi, bend = f/root, bends.sum()/m
                spread = ((bends - bend)**2).sum()/m/bend**2
                variance = (1 + mpmath.mpf(k)/m*spread)**2*(psi @ psi)/(m - k)/bend**2
        if case.absolute:
            variance = mpmath.mpf(1)
        cov = np.zeros((p.size, p.size))
        cov[np.ix_(free, free)] = np.array((variance*mpmath.matrix((J.T @ J).tolist())**-1).tolist(), dtype=float)
        return cov
