"""A short part of each fuzz test of tests/fuzz, always the same; `make fuzz` runs the long ones."""
import sys
from pathlib import Path

import guards
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arguments  # noqa: E402
import differential  # noqa: E402
import drop_ins  # noqa: E402
from leastsq import leastsq  # noqa: E402

CASES = 20_000


@pytest.fixture(scope="module")
def fuzzer(need_program, unavailable, tmp_path_factory):
    need_program("gfortran")
    need_program("cc")
    if differential.archive() is None:
        unavailable("there is no libminpack.a")
    return differential.build(tmp_path_factory.mktemp("differential"))


def test_random_fits_have_minpacks_bits(fuzzer):
    outcomes, infos, calls, findings = differential.run(fuzzer, 0, CASES)
    assert not findings
    assert sum(outcomes.values()) == sum(infos.values()) == CASES and calls > CASES
    # the cases end in every possible way (one needs a compiled function), and most fits are the same
    assert set(infos) == set(range(10))
    assert outcomes["same"] > 0.75*CASES
    assert all(outcomes[name] > 0 for name in differential.OUTCOMES if name not in differential.FINDINGS)


@pytest.mark.slow
def test_a_changed_bit_is_a_finding(need_program, fuzzer, tmp_path):
    """With contraction into fused multiply-adds there are many findings."""
    guards.need_processor({"fma", "avx2", "bmi2"})
    contracted = differential.build(tmp_path, "-O2 -march=x86-64-v3", contraction="fast")
    assert differential.run(contracted, 0, 500)[3]


@pytest.mark.parametrize("public, cases", [(arguments.LEASTSQ, 12_000), (drop_ins.CURVE_FIT, 6000),
                                         (drop_ins.LEAST_SQUARES, 2500)],
                         ids=["leastsq", "curve_fit", "least_squares"])
def test_random_arguments_have_the_same_outcome_as_in_scipy(public, cases):
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    guards.need_scipys_bits()
    rows, findings = arguments.run(public, cases, 0, getattr(optimize, public.function.__name__))
    assert not findings
    assert rows["same"] > 0.5*cases
    if public is arguments.LEASTSQ:
        assert all(rows[name] > 0 for name, _, _ in public.rows)


@pytest.mark.parametrize("seed", range(8))
def test_blocked_fits_agree_with_minpacks(seed):
    """Random long problems: nonlinear, noisy, badly scaled, of all ranks."""
    rng = np.random.default_rng(seed)
    for _ in range(25):
        n, m = int(rng.integers(1, 12)), int(rng.integers(12, 600))
        a = rng.standard_normal((m, n))
        dependent = n > 1 and rng.random() < 0.2
        if dependent:
            a[:, -1] = a[:, 0]
        scale = 10.0**rng.integers(-4, 5, n)
        truth = rng.uniform(0.5, 1.5, n)
        curved = rng.random() < 0.7

        def func(x, a=a, scale=scale, curved=curved):
            z = a @ (x*scale)
            return (z + 0.1*np.sin(z) if curved else z) - y

        y = 0
        y = func(truth/scale) + 10.0**rng.integers(-8, 0)*rng.standard_normal(m)
        x0 = truth/scale*rng.uniform(0.8, 1.2, n)
        fits = [leastsq(func, x0, full_output=True, qr=qr,
                        ftol=1e-14, xtol=1e-14, threads=threads)
                for qr, threads in (("minpack", 1), ("blocked", 1), ("blocked", 2))]
        assert all(fit[4] in (1, 2, 3, 4, 6, 7) for fit in fits)
        norms = [np.linalg.norm(fit[2]["fvec"]) for fit in fits]
        assert norms[1] == pytest.approx(norms[0], rel=1e-7)
        assert norms[2] == norms[1] and fits[2][0].tolist() == fits[1][0].tolist()
        if not dependent:
            np.testing.assert_allclose(fits[1][0]*scale, fits[0][0]*scale, rtol=1e-4, atol=1e-6)
