"""Run the tests that contain numbers under other processors, libraries and Pythons: `make portable`.

A number that a test prints or compares may depend on the last bits of NumPy's exponentials (which
differ between instruction sets), on OpenBLAS's kernels, on the kernels of this package, and on the
versions of Python, NumPy and SciPy.  Each environment below runs the tests of NUMBERS once, after a
check that the environment is what its name says.

    python tools/portable.py [--only "NumPy without AVX-512,..."] [--tests test_docs.py ...] [--list]

Environments that this processor does not allow are named and left out.  All of them take about 12
minutes on two cores; those that have not started after --budget minutes are not run, and count as failures.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from pythons import candidates, find_pythons
from wheels import environment, numpys, program, run, with_programs

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "portable"
NUMBERS = ["test_docs.py", "test_readme.py", "test_nist.py", "test_covariance.py", "test_confidence.py",
           "test_report.py", "test_bounded_problems.py", "test_batch.py", "test_batch_options.py", "test_blocked.py"]
NEEDED = ["pytest>=8", "pytest-xdist>=3"]           # besides NumPy and SciPy; no optional packages

# A script that prints the facts of an environment.
QUESTIONS = """
import ctypes, glob, json, os, sys
import numpy, scipy
from leastsq import _core
try:
    from numpy._core import _multiarray_umath as umath
except ImportError:                                 # NumPy 1
    from numpy.core import _multiarray_umath as umath
openblas = None
for path in glob.glob(os.path.join(os.path.dirname(numpy.__file__), "..", "numpy.libs", "*openblas*")):
    library = ctypes.CDLL(path)
    for name in ("scipy_openblas_get_corename64_", "openblas_get_corename64_", "openblas_get_corename"):
        if hasattr(library, name):
            getattr(library, name).restype = ctypes.c_char_p
            openblas = getattr(library, name)().decode()
            break
print(json.dumps({
    "python": sys.version.split()[0], "numpy": numpy.__version__, "scipy": scipy.__version__,
    "dispatched": list(umath.__cpu_dispatch__), "on": [f for f, on in umath.__cpu_features__.items() if on],
    "kernels": _core.isa, "openblas": openblas}))
"""


def say(*words):
    print("portable:", *words, flush=True)


class Refused(Exception):
    """This machine does not allow the environment; the message says why."""


def facts(python, **variables):
    """Facts about a Python with these environment variables: NumPy's features, kernels of OpenBLAS and of this package."""
    return json.loads(run(python, "-c", QUESTIONS, env=os.environ | variables))


# ---------------------------------------------------------------- environments
#
# Each is a function that returns (python, environment variables, what must hold of its facts).


def numpy_without(*words):
    """Switch off NumPy's code for later instruction sets; their names differ between versions of NumPy."""
    def make():
        here = facts(sys.executable)
        disable = [name for name in here["dispatched"] if name in here["on"] and any(word in name for word in words)]
        if not disable:
            raise Refused(f"neither this processor nor NumPy {here['numpy']} has {' or '.join(words)}")
        return (sys.executable, {"NPY_DISABLE_CPU_FEATURES": " ".join(disable)},
                lambda found: not set(disable) & set(found["on"]))
    return make


def kernels_for(isa):
    """The kernels of this package for an instruction set, whichever is chosen without LEASTSQ_ISA."""
    def make():
        chosen = {"LEASTSQ_ISA": isa}
        done = subprocess.run([sys.executable, "-c", "import leastsq"], env=os.environ | chosen, text=True,
                              capture_output=True, check=False)
        if done.returncode:
            raise Refused(done.stderr.strip().rpartition("\n")[2])
        return sys.executable, chosen, lambda found: found["kernels"] == isa
    return make


def openblas(names, needs):
    """OpenBLAS with the kernels of another processor, by OpenBLAS's name for it."""
    def make():
        here = facts(sys.executable)
        if here["openblas"] is None:
            raise Refused("NumPy has no OpenBLAS of its own here")
        if not needs <= set(here["on"]):
            raise Refused(f"this processor has no {' or '.join(sorted(needs - set(here['on'])))}")
        return sys.executable, {"OPENBLAS_CORETYPE": names[0]}, lambda found: found["openblas"] in names
    return make


def versions(name, python, age):
    """The oldest or newest NumPy and SciPy that this package and its tests allow."""
    def make():
        with open(ROOT / "pyproject.toml", "rb") as file:
            project = tomllib.load(file)
        build = environment(WORK / name / "build", python, [*project["build-system"]["requires"], "ninja", "pip>=23"])
        raw = WORK / name / "wheel"
        shutil.rmtree(raw, ignore_errors=True)
        run(program(build), "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", raw,
            ROOT, env=with_programs(build))
        (wheel,) = raw.glob("*.whl")
        (scipy,) = [word for word in project["project"]["optional-dependencies"]["test"] if word.startswith("scipy")]
        pair = [numpys(wheel, build, python)[age], scipy.replace(">=", "==") if age == "oldest" else "scipy"]
        pair = [word + ".*" if "==" in word else word for word in pair]
        folder = environment(WORK / name / age, python, [*NEEDED, "matplotlib>=3.7", *pair])
        run(program(folder), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", wheel)
        return program(folder), {}, lambda found: all(
            found[word.split("==")[0]].startswith(word.split("==")[1].removesuffix("*")) for word in pair if "==" in word)
    return make


def environments():
    """{name: function that makes the environment}, the most different ones first."""
    found = {
        "NumPy without AVX-512": numpy_without("AVX512", "X86_V4"),
        "NumPy without AVX2": numpy_without("AVX2", "FMA3", "AVX512", "X86_V3", "X86_V4"),
        "baseline kernels": kernels_for("baseline"),
        "v4 kernels": kernels_for("v4"),
        "OpenBLAS for Prescott": openblas(["Prescott", "Katmai"], {"SSE3"}),
        "OpenBLAS for Haswell": openblas(["Haswell"], {"AVX2"}),
        "OpenBLAS for SkylakeX": openblas(["SkylakeX"], {"AVX512F", "AVX512DQ", "AVX512BW", "AVX512VL"}),
    }
    for name, python in find_pythons(candidates(), (3, 11)).items():
        if not name.endswith("t"):
            for age in ("oldest", "newest"):
                found[f"{name}, {age} NumPy and SciPy"] = versions(name, python, age)
    return found


def try_in(name, make, tests):
    """Do the tests pass there?"""
    try:
        python, variables, holds = make()
    except Refused as why:
        say(f"{name}: not on this machine, because {why}")
        return True
    found = facts(python, **variables)
    if not holds(found):
        say(f"{name}: FAILED, the environment is not what its name says: {found}")
        return False
    done = subprocess.run([python, "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", "-p", "no:cacheprovider", *tests],
                          cwd=ROOT, env=os.environ | variables, text=True, encoding="utf-8",
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no output"
    say(f"{name} (Python {found['python']}, NumPy {found['numpy']}, SciPy {found['scipy']}, kernels {found['kernels']}, "
        f"OpenBLAS {found['openblas']}): {last}")
    if done.returncode:
        print(done.stdout, flush=True)
    return done.returncode == 0


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="some of the environments, by words of their names, separated by commas")
    parser.add_argument("--tests", nargs="+", default=NUMBERS, help="names of test files anywhere in tests/")
    parser.add_argument("--budget", type=float, default=15, help="minutes")
    parser.add_argument("--list", action="store_true", help="print the names of the environments")
    options = parser.parse_args(arguments)
    started, wanted = time.monotonic(), environments()
    if options.only:
        words = [word.strip() for word in options.only.split(",")]
        if unknown := [word for word in words if not any(word in name for name in wanted)]:
            parser.error(f"--only: {', '.join(unknown)} is in none of the names: {'; '.join(wanted)}")
        wanted = {name: make for name, make in wanted.items() if any(word in name for word in words)}
    if options.list:
        print(*wanted, sep="\n")
        return 0
    if unknown := [name for name in options.tests if not list((ROOT / "tests").rglob(name))]:
        parser.error(f"--tests: no {', '.join(unknown)} below tests/")
    bad, tests = [], [str(path) for name in options.tests for path in (ROOT / "tests").rglob(name)]
    for name, make in wanted.items():
        if time.monotonic() - started > 60*options.budget:
            say(f"{name}: not run, {options.budget:g} minutes are over")
            bad.append(name)
        elif not try_in(name, make, tests):
            bad.append(name)
    say(f"{len(wanted) - len(bad)} of {len(wanted)} passed or are not possible on this machine, "
        f"after {(time.monotonic() - started)/60:.1f} minutes" + "".join(f"\n    not green: {name}" for name in bad))
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
