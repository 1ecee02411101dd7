"""Tests of the references: the bindings to the original MINPACK do what its
guide says, and the problem collection is correct."""
import json
from pathlib import Path

import numpy as np
import pytest

import problems

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "runs.json").read_text())
SHAPES = [(5, 3), (20, 6), (7, 7), (1, 1)]
SAMPLE = [("bard", {}), ("osborne2", {}), ("watson", {"n": 9})]
ALL_PROBLEMS = {(p.name, p.n, p.m): p for p in
                [p for _, p, _ in problems.minpack_cases()] + problems.extra_problems()}


def sample(name, dims):
    return problems.problem(name, **dims)


@pytest.fixture(params=SHAPES, ids=str)
def factored(request, minpack):
    """A random matrix of columns of several magnitudes, and its pivoted QR."""
    m, n = request.param
    rng = np.random.default_rng(m + n)
    a = rng.standard_normal((m, n)) * 10.0 ** rng.integers(-3, 4, n)
    q, ipvt, rdiag, acnorm = minpack.qrfac(a)
    r = np.triu(q[:n], 1) + np.diag(rdiag)
    b, d = rng.standard_normal(n), np.abs(rng.standard_normal(n)) + 0.1
    return a, r, ipvt, acnorm, b, d


def damped_step(r, ipvt, d, b):
    """The least-squares solution of (R P' x, D x) = (b, 0)."""
    n = b.size
    p = np.eye(n)[:, ipvt - 1]
    return np.linalg.lstsq(np.vstack([r @ p.T, np.diag(d)]), np.r_[b, np.zeros(n)],
                           rcond=None)[0]


def test_qrfac_is_a_pivoted_qr(factored):
    a, r, ipvt, acnorm, _, _ = factored
    assert sorted(ipvt) == list(range(1, a.shape[1] + 1))
    np.testing.assert_allclose(acnorm, np.linalg.norm(a, axis=0), rtol=1e-14)
    reference = np.linalg.qr(a[:, ipvt - 1])[1]
    np.testing.assert_allclose(np.abs(r), np.abs(reference), rtol=1e-10,
                               atol=1e-12 * abs(r).max())
    diagonal = np.abs(np.diag(r))
    assert np.all(np.diff(diagonal) <= 1e-12 * diagonal[0])


def test_qrsolv_solves_the_damped_problem(factored, minpack):
    _, r, ipvt, _, b, d = factored
    _, x, _ = minpack.qrsolv(r, ipvt, d, b)
    np.testing.assert_allclose(x, damped_step(r, ipvt, d, b), rtol=1e-8,
                               atol=1e-10 * abs(x).max())


def test_lmpar_takes_the_full_step_where_it_fits(factored, minpack):
    _, r, ipvt, _, b, d = factored
    full = damped_step(r, ipvt, 0 * d, b)
    _, par, x, _ = minpack.lmpar(r, ipvt, d, b, 2 * np.linalg.norm(d * full))
    assert par == 0
    np.testing.assert_allclose(x, full, rtol=1e-6)


def test_lmpar_meets_the_radius_within_a_tenth(factored, minpack):
    _, r, ipvt, _, b, d = factored
    radius = 0.1 * np.linalg.norm(d * damped_step(r, ipvt, 0 * d, b))
    _, par, x, _ = minpack.lmpar(r, ipvt, d, b, radius)
    assert par > 0
    assert abs(np.linalg.norm(d * x) - radius) <= 0.1 * radius * (1 + 1e-12)
    np.testing.assert_allclose(x, damped_step(r, ipvt, np.sqrt(par) * d, b), rtol=1e-7)


def test_enorm_neither_overflows_nor_underflows(minpack):
    assert minpack.enorm(np.full(4, 1e300)) == 2e300
    assert minpack.enorm(np.full(4, 1e-300)) == 2e-300


def test_fdjac2_approximates_the_jacobian(minpack):
    p = problems.problem("bard")
    jac, trace = minpack.fdjac2(p.residual, p.x0)
    np.testing.assert_allclose(jac, p.jacobian(p.x0), rtol=1e-6)
    assert len(trace) == p.n


def test_only_the_second_library_has_ieee_constants(minpack):
    p = problems.problem("rosenbrock")
    steps = []
    for lib in ("fortran", "fortran-ieee"):
        _, trace = minpack.fdjac2(p.residual, np.zeros(2), lib=lib)
        steps.append(trace[0][1][0])
    assert steps[1] == 2.0 ** -26 != steps[0]


@pytest.mark.parametrize("name, dims", SAMPLE, ids=str)
def test_counts_agree_with_the_trace(name, dims, minpack):
    p = sample(name, dims)
    der = minpack.lmder(p.residual, p.jacobian, p.x0)
    dif = minpack.lmdif(p.residual, p.x0)
    assert abs(der.fnorm - dif.fnorm) < 1e-3 * der.fnorm
    assert len(dif.trace) == dif.nfev == len(dif.trials()) + dif.njev * p.n
    assert len(der.trace) == der.nfev + der.njev
    assert np.array_equal(der.accepted()[0], p.x0)


@pytest.mark.parametrize("name, dims", SAMPLE, ids=str)
def test_r_belongs_to_the_last_jacobian(name, dims, minpack):
    p = sample(name, dims)
    fit = minpack.lmder(p.residual, p.jacobian, p.x0)
    jac = p.jacobian([x for k, x in fit.trace if k == 2][-1])[:, fit.perm]
    normal = jac.T @ jac
    np.testing.assert_allclose(fit.r.T @ fit.r, normal, rtol=1e-8, atol=1e-8 * abs(normal).max())


def test_a_user_stop_and_an_exception_come_out(minpack):
    bard = problems.problem("bard")
    fit = minpack.lmdif(lambda x: -7 if x[0] != 1 else bard.residual(x), np.ones(3), m=15)
    assert fit.info == -7

    def raises(x):
        raise KeyError("x")

    with pytest.raises(KeyError):
        minpack.lmdif(raises, np.ones(3), m=15)


@pytest.mark.parametrize("required, outcome", [
    (None, pytest.skip.Exception), ("0", pytest.skip.Exception), ("", pytest.skip.Exception),
    ("1", pytest.fail.Exception)])
def test_a_missing_yardstick_fails_where_it_is_required(required, outcome, unavailable,
                                                        monkeypatch):
    monkeypatch.delenv("LEASTSQ_REQUIRE_ORACLE", raising=False)
    if required is not None:
        monkeypatch.setenv("LEASTSQ_REQUIRE_ORACLE", required)
    with pytest.raises(outcome, match="no library"):
        unavailable("no library")


# ---------------------------------------------------------------------------
# the problem collection


def test_the_collection_has_53_and_60_runs():
    assert len(problems.minpack_cases()) == 53
    assert 3 * len(problems.extra_problems()) == 60


@pytest.mark.parametrize("key", ALL_PROBLEMS, ids=str)
def test_jacobians_are_right(key):
    p = ALL_PROBLEMS[key]
    rng = np.random.default_rng(0)
    for k in range(6):
        x = p.x0.astype(float)
        if k:
            x = x * (1 + 0.2 * rng.standard_normal(p.n)) \
                + 0.05 * rng.standard_normal(p.n) * (p.x0 == 0)
        residual = p.residual(x)
        assert residual.shape == (p.m,) and residual.dtype == float
        error, how = problems.jacobian_error(p, x)
        assert error < (1e-12 if how == "complex" else 1e-6), (k, how)


@pytest.mark.parametrize("key", ALL_PROBLEMS, ids=str)
def test_stated_minima_are_attained(key):
    p = ALL_PROBLEMS[key]
    for minimum in p.minima:
        if minimum.x is not None and np.all(np.isfinite(minimum.x)):
            assert p.ssq(minimum.x) == pytest.approx(minimum.ssq, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("run", GOLDEN, ids=lambda g: f"{g['problem']}-{g['n']}-{g['factor']:g}")
def test_golden_numbers_are_minpacks(run, minpack):
    p = problems.problem(run["problem"], n=run["n"], m=run["m"])
    assert p.elementary == run["elementary"]
    settings = dict(m=p.m, ftol=1.49012e-8, xtol=1.49012e-8)
    x0 = p.start(run["factor"])
    fits = {"lmdif": lambda: minpack.lmdif(p.residual, x0, lib="fortran-ieee", **settings),
            "lmder": lambda: minpack.lmder(p.residual, p.jacobian, x0, **settings)}
    with np.errstate(all="ignore"):
        for name in fits.keys() & run.keys():
            fit, golden = fits[name](), run[name]
            if p.elementary:
                assert list(fit.x) == golden["x"]
                assert [fit.info, fit.nfev, fit.njev] == \
                    [golden["info"], golden["nfev"], golden["njev"]]
            else:
                assert fit.fnorm == pytest.approx(golden["fnorm"], rel=1e-6, abs=1e-9)
