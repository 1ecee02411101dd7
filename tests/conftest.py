"""What all tests share: the one rule for tests that need
something a machine may lack.  (Markers are declared in pyproject.toml.)"""
import os
import shutil

import pytest

# Tests run side by side; a BLAS that starts threads in each makes them minutes long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _unavailable(reason):
    """THE rule: without the original MINPACK, gfortran or binutils a test that
    needs them is skipped, unless LEASTSQ_REQUIRE_ORACLE=1 says that they must
    be there (continuous integration does)."""
    if os.environ.get("LEASTSQ_REQUIRE_ORACLE", "0") not in ("", "0"):
        pytest.fail(f"LEASTSQ_REQUIRE_ORACLE is set, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def unavailable():
    return _unavailable


@pytest.fixture(scope="session")
def need_program(unavailable):
    """need_program("nm") is its path."""
    def find(name):
        path = shutil.which(name)
        if path is None:
            unavailable(f"the program {name} is not installed")
        return path
    return find


@pytest.fixture(scope="session")
def minpack(unavailable):
    """The `oracle` module, its libraries loaded."""
    import oracle
    reason = oracle.why_missing()
    if reason:
        unavailable(reason)
    return oracle


@pytest.fixture(scope="session")
def build_core(tmp_path_factory, need_program):
    """build_core("-O2 -march=x86-64-v3") is our Fortran, compiled so, through ctypes."""
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
