"""Fixtures of all tests, and the one rule for tests that need something which a machine may lack.

Markers are declared in pyproject.toml.
"""
import os
import shutil

import pytest

# pytest-xdist runs tests in parallel: a BLAS that starts threads in each of them makes the suite minutes longer.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _unavailable(reason):
    """The rule: a test that needs the original MINPACK, gfortran or binutils is skipped where they
    are missing; with LEASTSQ_REQUIRE_ORACLE=1, as in continuous integration, it fails."""
    if os.environ.get("LEASTSQ_REQUIRE_ORACLE", "0") not in ("", "0"):
        pytest.fail(f"LEASTSQ_REQUIRE_ORACLE is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def unavailable():
    return _unavailable


@pytest.fixture(scope="session")
def need_program(unavailable):
    """need_program("nm") returns the path of nm."""
    def find(name):
        path = shutil.which(name)
        if path is None:
            unavailable(f"the program {name} is not installed")
        return path
    return find


@pytest.fixture(scope="session")
def minpack(unavailable):
    """The `oracle` module with its libraries loaded."""
    import oracle
    reason = oracle.why_missing()
    if reason:
        unavailable(reason)
    return oracle


@pytest.fixture(scope="session")
def build_core(tmp_path_factory, need_program):
    """build_core("-O2 -march=x86-64-v3") returns our Fortran, compiled with these flags, through ctypes."""
    import kernels
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent

    def build(level, contraction="off"):
        return kernels.Core(kernels.build(need_program("gfortran"), level, shared, contraction))
    return build


@pytest.fixture(scope="session", params=["-O0", "-O2", "-O3"])
def core(request, build_core):
    """Our Fortran, compiled at one optimisation level, through ctypes."""
    return build_core(request.param)
