"""The same bits from every build of the dense path, on every x86-64 processor.

golden/bits.json holds what MINPACK computes on the elementary problems
(golden/make_bits.py says how it was made), so that MINPACK is not needed here.
"""
import json
import sys
from pathlib import Path

import guards
import numpy as np
import pytest

GOLDEN_FOLDER = Path(__file__).resolve().parents[1] / "golden"
sys.path.insert(0, str(GOLDEN_FOLDER))
import problems  # noqa: E402
from make_bits import TOLERANCES, bits, digest, fit  # noqa: E402
from leastsq import leastsq  # noqa: E402

RUNS = problems.runs()
GOLDEN = json.loads((GOLDEN_FOLDER / "bits.json").read_text())
SOLVERS = ("lmdif", "lmder")

# Flags that the levels of the psABI add; every processor has the first level.
NEEDED = {"x86-64": set(), "x86-64-v2": {"ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"},
          "x86-64-v3": {"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "movbe", "abm"},
          "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}
# In addition to those of test_parity.py: -O0, -O2 and -O3 for the first level.
QUICK = ["-O2 -march=x86-64-v2", "-O3 -march=x86-64-v3"]
SLOW = [f"{optimise} -march={level}" for optimise in ("-O0", "-O1", "-O2", "-O3", "-Os")
        for level in NEEDED if f"{optimise} -march={level}" not in QUICK]


@pytest.fixture
def build(build_core):
    """build(flags) returns our Fortran compiled with these flags, if this processor can run it."""
    def make(flags, contraction="off"):
        guards.need_processor(NEEDED[flags.split("-march=")[1]])
        return build_core(flags, contraction)
    return make


def every_fit(core, step=1):
    return {(name, solver): bits(fit(core, solver, *RUNS[name]))
            for name in list(RUNS)[::step] for solver in SOLVERS}


@pytest.fixture(scope="module")
def unoptimised(build_core):
    return every_fit(build_core("-O0"))


def test_the_golden_file_has_all_elementary_problems():
    assert set(GOLDEN) == {name for name, (p, _) in RUNS.items() if p.elementary}
    assert len(GOLDEN) == 77 and len(RUNS) == 113


@pytest.mark.parametrize("flags", [*QUICK, *(pytest.param(f, marks=pytest.mark.slow) for f in SLOW)])
def test_every_build_has_the_same_bits(flags, build, unoptimised):
    """All 226 fits: every point, result and factor."""
    got = every_fit(build(flags))
    assert got == unoptimised
    assert {name: {solver: got[name, solver] for solver in SOLVERS} for name in GOLDEN} == GOLDEN


def test_contraction_would_change_them(build, unoptimised):
    """So -ffp-contract=off is needed, and the test above can fail."""
    contracted = every_fit(build("-O2 -march=x86-64-v3", contraction="fast"), step=8)
    assert sum(contracted[key] != unoptimised[key] for key in contracted) > len(contracted) // 2


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", GOLDEN)
def test_the_installed_module_has_minpacks_bits(name, solver):
    p, factor = RUNS[name]
    want, points = GOLDEN[name][solver], []

    def noting(function):
        return lambda x: points.append(x.copy()) or function(x)

    with np.errstate(all="ignore"):
        x, _, info, _, ier = leastsq(noting(p.residual), p.start(factor), full_output=True, **TOLERANCES,
                                     Dfun=noting(p.jacobian) if solver == "lmder" else None)
    assert (ier, info["nfev"], info.get("njev", want["njev"])) == (want["info"], want["nfev"], want["njev"])
    assert x.tolist() == want["x"] and info["ipvt"].tolist() == want["ipvt"]
    assert digest(points) == want["points"]
    assert {key: digest(info[key].T) for key in ("fvec", "fjac", "qtf")} == \
        {key: want[key] for key in ("fvec", "fjac", "qtf")}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_bits_are_minpacks(name, minpack):
    for solver in SOLVERS:
        assert bits(fit(minpack, solver, *RUNS[name])) == GOLDEN[name][solver]
