"""Every script that a user may call runs: those of benchmarks/, examples/ and tools/.

QUICK has arguments with which a script takes seconds, and words that it then prints.  test_examples.py
tests some scripts more closely, and runs those of the gallery.
"""
import os
import subprocess
import sys
from pathlib import Path

import guards
import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "benchmarks/batch.py": (["--sizes", "300", "--rounds", "1"], "fits/s"),
    "benchmarks/bounded.py": (["--quick", "--family", "decay_time", "variogram"], "JUDGING"),
    "benchmarks/groups.py": ([], "the same bits: True"),
    "benchmarks/large.py": (["--quick", "--shapes", "2000x20", "--seconds", "0.05"], "2 000 x 20"),
    "benchmarks/separable.py": (["--strategy", "minpack"], "solved 49, 53, 53 of 54"),
    "benchmarks/strategies.py": (["--collection", "published"], "judging published, 12 runs"),
    "benchmarks/tsqr_kernel.py": (["--isa", "baseline", "--shapes", "2000x10", "--rounds", "1"], "baseline C"),
    "benchmarks/waiting.py": (["--quick"], "profiles of 3 parameters"),
    "benchmarks/without_start.py": (["--seeds", "0", "--families", "none"], "of 27"),
    "examples/count_coverage.py": (["--fits", "10", "--peaks", "40", "--levels", "1"], "poisson"),
    "examples/error_coverage.py": (["--quick"], "correlated"),
    "examples/interval_coverage.py": (["--fits", "20"], "profile"),
    "examples/curves_of_clients.py": (["--size", "4"], "difference, stderr"),
    "examples/pixels.py": (["--size", "64", "--no-plot"], "Cramér-Rao"),
    "examples/uncertainty.py": ([], "certified"),
    "tools/clients.py": (["--list"], "lmfit"),
    "tools/cookbook.py": (["--list"], "peaks"),
    "tools/lint.py": (["--list"], "ruff"),
    "tools/portable.py": (["--list"], "NumPy without AVX2"),
    "tools/measured.py": (["--check"], "all pages say what docs/bench.json says"),
    "tools/pythons.py": (["3.11"], "python3"),
    "tools/wheels.py": (["--list", "--python", sys.executable], "cp3"),
}
IN_TEST_EXAMPLES = ["benchmarks/compiled.py", "benchmarks/overhead.py", "benchmarks/run.py", "benchmarks/scale.py",
                    "examples/compiled.py", "examples/lmfit_on_leastsq.py", "examples/nist.py", "examples/on_dask.py",
                    "examples/out_of_core.py", "tools/notebook.py"]
SLOW = {
    "benchmarks/strategy_constants.py": (["--quick"], "most acceleration 3"),
    "tools/sanitize.sh": (["threads"], "clean"),
    "tools/coverage.sh": (["tests/parity/test_nist.py"], "TOTAL"),
}
# Packages without which a script is not run.
NEEDS = {f"benchmarks/{name}.py": ["scipy"] for name in ("batch", "groups", "large", "waiting")}
NOT_CALLED_BY_PEOPLE = {
    "benchmarks/accelerated.py": "geodesic acceleration, a peer that benchmarks/strategies.py imports",
    "examples/fit_notebook.py": "the cells of docs/fit.ipynb, which tools/notebook.py runs",
    "examples/strd.py": "the reader of NIST's files, which other scripts import",
    "tools/in_place.py": "a plugin of pytest that tools/clients.py loads",
    "tools/setup.sh": "the first step of every make target; test_readme.py runs it",
    "tools/clean_machine.sh": "installs on new Debian systems, as root and from a mirror (CONTRIBUTING.md)",
    "tools/check_site.py": "the last step of `make docs`, on the site that it has built",
}


def test_every_script_is_listed():
    scripts = {str(path.relative_to(ROOT)) for folder in ("benchmarks", "examples", "tools")
               for pattern in ("*.py", "*.sh") for path in (ROOT / folder).glob(pattern)}
    assert scripts == {*QUICK, *SLOW, *NOT_CALLED_BY_PEOPLE, *IN_TEST_EXAMPLES}
    examples = (ROOT / "tests" / "package" / "test_examples.py").read_text(encoding="utf-8")
    assert [script for script in IN_TEST_EXAMPLES
            if f'run("{script}"' not in examples and script != "benchmarks/run.py"] == []       # that one is imported


def check(script, arguments, words, folder):
    for package in NEEDS.get(script, []):
        pytest.importorskip(package)
    runner = [sys.executable] if script.endswith(".py") else ["sh"]
    done = subprocess.run([*runner, str(ROOT / script), *arguments], cwd=folder, check=False, capture_output=True, text=True,
                          encoding="utf-8", env=os.environ | {"PYTHONIOENCODING": "utf-8", "MPLBACKEND": "Agg"}, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("script", QUICK)
def test_script_runs(script, tmp_path, need_program):
    if script == "benchmarks/tsqr_kernel.py":
        need_program("gfortran")
    check(script, *QUICK[script], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("script", SLOW)
def test_script_that_builds_runs(script, tmp_path):
    guards.need_elf()
    check(script, *SLOW[script], tmp_path)
