"""Whole fits have the bits of the original MINPACK.

Not only the answer is compared, but also R, the Householder vectors, Q'f, the permutation, the
scale factors, the counts, and the sequence of points at which the user's function was called.
lmder is compared with the unchanged library.  lmdif is compared with the same library bound to
IEEE constants (its own machine epsilon has too few digits), and with the unchanged library where
epsfcn is large enough to hide that.

None of the 113 runs comes upon our deliberate differences: residuals at x0 and Jacobians are all
finite (`test_no_run_ends_as_not_finite`).
"""
import functools
import json
from pathlib import Path

import numpy as np
import pytest

import oracle
import problems
from kernels import CODES, assert_same_bits

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "runs.json").read_text())

RUNS = problems.runs()

LEASTSQ = dict(ftol=1.49012e-8, xtol=1.49012e-8)
MINPACK1 = dict(ftol=oracle.SQRT_EPS, xtol=oracle.SQRT_EPS)
# solver, which library, settings
SETTINGS = {
    "lmdif": ("lmdif", "fortran-ieee", LEASTSQ),
    "lmdif-minpack1": ("lmdif", "fortran-ieee", MINPACK1),
    "lmdif-epsfcn1e-15": ("lmdif", "fortran", LEASTSQ | dict(epsfcn=1e-15)),
    "lmdif-epsfcn1e-8": ("lmdif", "fortran", LEASTSQ | dict(epsfcn=1e-8)),
    "lmder": ("lmder", "fortran", LEASTSQ),
    "lmder-minpack1": ("lmder", "fortran", MINPACK1),
}
# Runs in which the plain library differs even with a large epsfcn: its epsilon, which has too few
# digits, decides a branch of qrfac differently (whether a column norm is recomputed), and another
# column becomes the pivot.  They are compared with the IEEE library.
TURNED_BRANCHES = {("extended_powell_singular-12-12-x100", "lmdif-epsfcn1e-15")}

runs = pytest.mark.parametrize("run", RUNS)


@pytest.fixture(autouse=True)
def quiet():
    """Trial points far out make the problems overflow."""
    with np.errstate(all="ignore"):
        yield


def test_there_are_53_classic_and_60_extra_runs():
    assert len(RUNS) == 53 + 60


def fit(where, solver, p, x0, residual=None, jacobian=None, **settings):
    """One fit by `where`: the oracle module or a compiled core."""
    residual = residual or p.residual
    if solver == "lmdif":
        return where.lmdif(residual, x0, m=p.m, **settings)
    return where.lmder(residual, jacobian or p.jacobian, x0, m=p.m, **settings)


@functools.cache
def reference(run, setting):
    solver, lib, settings = SETTINGS[setting]
    if (run, setting) in TURNED_BRANCHES:
        lib = "fortran-ieee"
    p, factor = RUNS[run]
    return fit(oracle, solver, p, p.start(factor), lib=lib, **settings)


def assert_same_calls(got, want, kinds):
    """Every call: the point, and with `kinds` what was evaluated there."""
    assert len(got) == len(want), f"{len(got)} calls, wanted {len(want)}"
    if kinds:
        assert [k for k, _ in got] == [k for k, _ in want]
    assert_same_bits([x for _, x in got], [x for _, x in want], "points")


def assert_same_fit(got, want, kinds):
    assert (got.info, got.nfev, got.njev) == (want.info, want.nfev, want.njev)
    assert_same_calls(got.trace, want.trace, kinds)
    assert_same_bits(got.x, want.x, "x")
    assert_same_bits(got.fvec, want.fvec, "fvec")
    if want.njev:
        assert_same_bits(got.fjac, want.fjac, "fjac")
        assert_same_bits(got.qtf, want.qtf, "qtf")
        assert_same_bits(got.diag, want.diag, "diag")
        assert got.ipvt.tolist() == want.ipvt.tolist()


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s != "lmdif-epsfcn1e-8"])
@runs
def test_the_core_repeats_minpack(run, setting, core, minpack):
    solver, _, settings = SETTINGS[setting]
    p, factor = RUNS[run]
    got = fit(core, solver, p, p.start(factor), **settings)
    assert_same_fit(got, reference(run, setting), kinds=solver == "lmder")


@pytest.mark.parametrize("run, setting", TURNED_BRANCHES)
def test_the_libraries_differ_at_a_qr_where_we_follow_the_ieee_one(run, setting, minpack):
    p, factor = RUNS[run]
    plain, ieee = (fit(minpack, "lmdif", p, p.start(factor), lib=lib, **SETTINGS[setting][2])
                   for lib in ("fortran", "fortran-ieee"))
    part = next(k for k, (a, b) in enumerate(zip(plain.trace, ieee.trace))
                if a[1].tobytes() != b[1].tobytes())
    before = plain.trace[:part]
    last_step = max(k for k in range(1, part) if before[k][0] == 2 and before[k - 1][0] == 1)
    x = before[last_step - 1][1]
    jac, _ = minpack.fdjac2(p.residual, x, epsfcn=1e-15)
    factors = [minpack.qrfac(jac, lib=lib) for lib in ("fortran", "fortran-ieee")]
    assert factors[0][1].tolist() != factors[1][1].tolist()


@runs
def test_no_run_ends_as_not_finite(run, minpack):
    """So the comparison needs no list of exceptions."""
    p, factor = RUNS[run]
    assert np.all(np.isfinite(p.residual(p.start(factor))))
    for kind, x in reference(run, "lmder").trace:
        if kind == 2:
            assert np.all(np.isfinite(np.linalg.norm(p.jacobian(x), axis=0)))


# ---------------------------------------------------------------------------
# settings that MINPACK treats otherwise

SMALL = ["rosenbrock-2-2-x10", "helical_valley-3-3-x1", "powell_singular-4-4-x1",
         "bard-3-15-x10", "kowalik_osborne-4-11-x1", "watson-6-31-x1", "brown_dennis-4-20-x1",
         "chebyquad-8-8-x1", "linear_rank1_zero-5-10-x1", "osborne1-5-33-x1"]
CORNERS = {
    "maxfev 1": dict(maxfev=1, **LEASTSQ),
    "maxfev 7": dict(maxfev=7, **LEASTSQ),
    "maxfev 20": dict(maxfev=20, **LEASTSQ),
    "no tolerance": dict(ftol=0.0, xtol=0.0, maxfev=300),
    "ftol alone": dict(ftol=1e-4, xtol=0.0),
    "xtol alone": dict(ftol=0.0, xtol=1e-4),
    "gtol alone": dict(ftol=0.0, xtol=0.0, gtol=1e-3),
    "huge gtol": dict(gtol=2.0, **LEASTSQ),
    "small radius": dict(factor=0.1, **LEASTSQ),
    "tiny radius": dict(factor=1e-6, **LEASTSQ),
    "large radius": dict(factor=1e6, **LEASTSQ),
}


@pytest.mark.parametrize("solver", ["lmdif", "lmder"])
@pytest.mark.parametrize("corner", CORNERS)
def test_corner_settings_repeat_minpack(corner, solver, core, minpack):
    infos = set()
    for run in SMALL:
        p, factor = RUNS[run]
        want = fit(minpack, solver, p, p.start(factor), lib="fortran-ieee", **CORNERS[corner])
        got = fit(core, solver, p, p.start(factor), **CORNERS[corner])
        assert_same_fit(got, want, kinds=solver == "lmder")
        infos.add(want.info)
    assert infos - {1, 2, 3} or corner in ("ftol alone", "xtol alone", "small radius",
                                           "tiny radius", "large radius")


@pytest.mark.parametrize("solver", ["lmdif", "lmder"])
@pytest.mark.parametrize("scale", ["ones", "random", "graded"])
def test_the_users_scale_factors_repeat_minpack(scale, solver, core, minpack):
    for run in SMALL:
        p, factor = RUNS[run]
        diag = {"ones": np.ones(p.n), "random": np.random.default_rng(p.n).random(p.n) + 0.01,
                "graded": 10.0 ** np.arange(p.n)}[scale]
        want = fit(minpack, solver, p, p.start(factor), lib="fortran-ieee", diag=diag, **LEASTSQ)
        got = fit(core, solver, p, p.start(factor), diag=diag, **LEASTSQ)
        assert_same_fit(got, want, kinds=solver == "lmder")
        assert_same_bits(got.diag, diag, "diag")


# ---------------------------------------------------------------------------
# not finite

POISONS = {
    "one nan": lambda f: np.r_[np.nan, f[1:]],
    "all nan": lambda f: np.full_like(f, np.nan),
    "one inf": lambda f: np.r_[f[:-1], np.inf],
    "minus inf": lambda f: np.r_[f[:-1], -np.inf],
    "two inf": lambda f: np.r_[np.inf, f[1:-1], np.inf],
    "huge": lambda f: np.full_like(f, 1e300),
}


def poisoned(function, trace, which, poison):
    """`function`, which returns a bad value at the trial points number `which` of `trace`, whenever
    it is called there."""
    trials = [x.tobytes() for k, x in trace if k == 1]
    bad = {trials[k] for k in which if k < len(trials)} - {trials[0]}

    def residual(x):
        f = function(x)
        return POISONS[poison](f) if x.tobytes() in bad else f
    return residual, bad


@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("solver", ["lmdif", "lmder"])
def test_a_trial_that_is_not_finite_is_a_rejected_step(solver, poison, core, minpack):
    settings = LEASTSQ | dict(maxfev=120)
    for run in SMALL:
        p, factor = RUNS[run]
        x0 = p.start(factor)
        plain = fit(minpack, solver, p, x0, lib="fortran-ieee", **settings)
        for which in ([1], [2], [1, 3], [4, 5], [len(plain.trials()) - 1]):
            residual, bad = poisoned(p.residual, plain.trace, which, poison)
            if not bad:
                continue
            want = fit(minpack, solver, p, x0, residual, lib="fortran-ieee", **settings)
            got = fit(core, solver, p, x0, residual, **settings)
            assert_same_fit(got, want, kinds=solver == "lmder")
            assert got.x.tobytes() not in bad
            assert np.all(np.isfinite(got.fvec))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("solver", ["lmdif", "lmder"])
def test_residuals_not_finite_at_the_start_end_the_fit(solver, bad, core):
    p = problems.problem("bard")

    def residual(x):
        f = p.residual(x)
        f[4] = bad
        return f

    got = fit(core, solver, p, p.x0, residual, **LEASTSQ)
    assert (got.info, got.nfev, got.njev) == (CODES["LSQ_NOT_FINITE"], 1, 0)
    assert len(got.trace) == 1
    assert_same_bits(got.x, p.x0, "x")
    assert_same_bits(got.fvec, residual(p.x0), "fvec")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_jacobian_not_finite_ends_the_fit(bad, core):
    """At any Jacobian; fjac stays as the user returned it, so that the message can say where."""
    p = problems.problem("bard")
    plain = fit(core, "lmder", p, p.x0, **LEASTSQ)
    assert plain.njev > 3
    for at in range(plain.njev):
        made = []

        def jacobian(x):
            j = p.jacobian(x)
            if len(made) == at:
                j[7, 1] = bad
            made.append(j)
            return j

        got = fit(core, "lmder", p, p.x0, jacobian=jacobian, **LEASTSQ)
        assert (got.info, got.njev) == (CODES["LSQ_NOT_FINITE"], at + 1)
        assert_same_calls(got.trace, plain.trace[:len(got.trace)], kinds=True)
        assert_same_bits(got.fjac, made[-1], "fjac")
        assert_same_bits(got.x, got.trace[-1][1], "x")
        assert_same_bits(got.fvec, p.residual(got.x), "fvec")


# ---------------------------------------------------------------------------
# stopped by a callback


@pytest.mark.parametrize("solver", ["lmdif", "lmder"])
def test_a_nonzero_status_stops_the_fit_at_any_call(solver, core, minpack):
    p = problems.problem("rosenbrock")
    plain = fit(minpack, solver, p, p.x0, lib="fortran-ieee", **LEASTSQ)
    points = {x.tobytes() for x in plain.accepted()} | {p.x0.tobytes(), plain.x.tobytes()}
    for stop_at in range(len(plain.trace)):
        calls = []

        def stopping(function):
            def call(x):
                calls.append(x)
                return -3 if len(calls) == stop_at + 1 else function(x)
            return call

        got = fit(core, solver, p, p.x0, stopping(p.residual), stopping(p.jacobian), **LEASTSQ)
        assert got.info == CODES["LSQ_STOPPED"]
        assert_same_calls(got.trace, plain.trace[:stop_at + 1], kinds=solver == "lmder")
        assert got.x.tobytes() in points
        if stop_at:
            assert_same_bits(got.fvec, p.residual(got.x), "fvec")


# ---------------------------------------------------------------------------
# the public function


@pytest.fixture(scope="module")
def leastsq():
    from leastsq import leastsq
    return leastsq


class Recorder:
    """The functions of a problem, recording every call as the oracle does."""

    def __init__(self, p):
        self.p, self.trace = p, []

    def func(self, x):
        self.trace.append((1, x.copy()))
        return self.p.residual(x)

    def jac(self, x):
        self.trace.append((2, x.copy()))
        return self.p.jacobian(x)

    def jac_by_columns(self, x):
        return self.jac(x).T


def by_leastsq(leastsq, solver, p, x0, col_deriv=False, **settings):
    """(x, infodict, ier, trace)."""
    rec = Recorder(p)
    if solver == "lmder":
        settings["Dfun"] = rec.jac_by_columns if col_deriv else rec.jac
        settings["col_deriv"] = col_deriv
    x, _, info, _, ier = leastsq(rec.func, x0, full_output=True, **settings)
    return x, info, ier, rec.trace


@pytest.mark.parametrize("setting", SETTINGS)
@runs
def test_leastsq_repeats_minpack(run, setting, leastsq, minpack):
    solver, _, settings = SETTINGS[setting]
    p, factor = RUNS[run]
    want = reference(run, setting)
    x, info, ier, trace = by_leastsq(leastsq, solver, p, p.start(factor), **settings)
    assert ier == want.info
    assert info["nfev"] == want.nfev
    assert_same_calls(trace, want.trace, kinds=solver == "lmder")
    assert_same_bits(x, want.x, "x")
    assert_same_bits(info["fvec"], want.fvec, "fvec")
    assert_same_bits(info["fjac"], want.fjac.T, "fjac")
    assert_same_bits(info["qtf"], want.qtf, "qtf")
    assert info["ipvt"].tolist() == want.ipvt.tolist()
    if solver == "lmder":
        assert info["njev"] == want.njev


@runs
def test_leastsq_repeats_minpack_with_derivatives_down_the_columns(run, leastsq, minpack):
    p, factor = RUNS[run]
    want = reference(run, "lmder")
    x, info, ier, trace = by_leastsq(leastsq, "lmder", p, p.start(factor), col_deriv=True,
                                     **LEASTSQ)
    assert (ier, info["nfev"], info["njev"]) == (want.info, want.nfev, want.njev)
    assert_same_calls(trace, want.trace, kinds=True)
    assert_same_bits(x, want.x, "x")
    assert_same_bits(info["fjac"], want.fjac.T, "fjac")


@pytest.mark.parametrize("golden", GOLDEN,
                         ids=lambda g: f"{g['problem']}-{g['n']}-{g['m']}-x{g['factor']:g}")
def test_leastsq_repeats_the_golden_runs(golden, leastsq):
    """Needs no MINPACK.  Bits are compared where the residuals have the same bits everywhere, and
    otherwise the final norm, where it does not depend on the last bits."""
    p = problems.problem(golden["problem"], n=golden["n"], m=golden["m"])
    for solver in {"lmdif", "lmder"} & golden.keys():
        want = golden[solver]
        x, info, ier, _ = by_leastsq(leastsq, solver, p, p.start(golden["factor"]))
        if p.elementary:
            assert (ier, info["nfev"]) == (want["info"], want["nfev"])
            if solver == "lmder":
                assert info["njev"] == want["njev"]
            assert_same_bits(x, want["x"], "x")
        else:
            assert np.linalg.norm(info["fvec"]) == pytest.approx(want["fnorm"], rel=1e-6,
                                                                 abs=1e-9)
