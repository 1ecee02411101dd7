"""Out of memory: whichever allocation of a fit fails, the caller gets a MemoryError, nothing is lost, and
the next fit is right.

Allocations in the user's functions never fail here: they are the user's concern (and NumPy crashes in some
places).
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import guards
import compiled_problems
import entries
import pytest

SUPPORT = Path(__file__).parents[1] / "support"

# Entries in which the module calls Python functions of ours, which call NumPy: see below.
PYTHON_WITHIN = ["3-point", "least_squares", "least_squares, jac"]
COMPILED = ["compiled lmdif", "compiled lmder", "compiled threads", "compiled batch",
            "compiled batch, Dfun", "compiled batch, loss", "compiled batch, lanes", "compiled batch, lanes, Dfun",
            "compiled batch, lanes, loss", "accumulator", "machine", "pickles", "checks", "load"]
IN_MODULE = [name for name in [*entries.ENTRIES, *COMPILED] if name not in [*PYTHON_WITHIN, "load"]]


@pytest.fixture(scope="module")
def starve(need_program, tmp_path_factory):
    """starve(where, *names) returns what starve.py found."""
    cc, folder = need_program("cc"), tmp_path_factory.mktemp("starve")
    shim, library = folder / "fail_malloc.so", compiled_problems.build(cc, folder)
    subprocess.run([cc, "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                    SUPPORT.with_name("programs") / "fail_malloc.c", "-o", shim], check=True)

    def run(where, *names):
        done = subprocess.run(
            [sys.executable, SUPPORT / "starve.py", shim, library, where, *names], text=True,
            # (so that glibc does not map and unmap each array, which would take most of the time)
            env=os.environ | {"LD_PRELOAD": str(shim), "PYTHONMALLOC": "malloc",
                              "MALLOC_MMAP_THRESHOLD_": "16000000", "MALLOC_TRIM_THRESHOLD_": "100000000"},
            timeout=600,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert list(said) == list(names)
        return said.values()
    return run


@guards.GLIBC
def test_the_list_of_compiled_entries_is_complete(starve, tmp_path, need_program):
    library = compiled_problems.build(need_program("cc"), tmp_path)
    assert list(entries.compiled_entries(library)) == COMPILED


@guards.GLIBC
@pytest.mark.parametrize("first", range(6))
def test_any_allocation_of_the_module_may_fail(starve, first):
    """One allocation alone, or it and the next hundred."""
    names = IN_MODULE[first::6]
    for said in starve("module", *names):
        assert said["others"] == said["wrong"] == said["next"] == []
        assert min(said["growth"]) <= 0     # in blocks
        assert said["points"] - said["errors"] <= 6 + said["points"] // 10
        assert said["errors"] > 20


@guards.GLIBC
def test_any_allocation_may_fail_while_an_error_is_made(starve):
    """The user's mistake is reported, or there is a MemoryError.  (NumPy's names of types and CPython's
    notes leak blocks.)"""
    for said in starve("module", *entries.REFUSED):
        assert said["others"] == said["wrong"] == said["next"] == []
        assert said["points"] - said["errors"] <= 6
        assert said["errors"] > 20


@guards.GLIBC
def test_any_allocation_of_loading_the_module_may_fail(starve):
    said, = starve("module", "load")
    assert said["wrong"] == said["next"] == []
    assert said["errors"] > 200
    # CPython sets no exception if it cannot allocate a type's name
    assert all("without setting an exception" in other for other in said["others"])


@guards.GLIBC
@pytest.mark.slow
@pytest.mark.parametrize("name", [*entries.ENTRIES, *COMPILED])
def test_any_allocation_of_a_fit_may_fail(starve, name):
    """Allocations by Python and NumPy included.  Some of their functions then return NULL without setting an
    exception, which Python turns into a SystemError."""
    said, = starve("fit", name)
    assert said["wrong"] == said["next"] == []
    assert said["errors"] > 50
    for other in said["others"]:
        assert other.startswith("SystemError") and "without" in other
        assert not any(f"built-in function {name}" in other for name in
                       ("solve", "compiled", "batch_"))


PYTHONS_OWN = """
import _testcapi, entries
for name in ("lmdif", "lmdif, full", "blocked lmdif", "diag"):
    fit, values = entries.ENTRIES[name], entries.values
    clean = values(fit())
    for all_from_there_on in (False, True):
        errors = 0
        for k in range(1, 50):
            try:
                _testcapi.set_nomemory(k, 0 if all_from_there_on else k + 1)
                outcome = fit()
            except MemoryError:
                outcome = None
            _testcapi.remove_mem_hooks()
            errors += outcome is None
            assert outcome is None or values(outcome) == clean
            assert values(fit()) == clean
        assert errors > 20
"""


def test_any_allocation_by_python_may_fail():
    """Tested with CPython's own tool and its own allocator."""
    pytest.importorskip("_testcapi")
    subprocess.run([sys.executable, "-W", "error", "-c", PYTHONS_OWN], check=True, cwd=SUPPORT)
