"""Build and run differential.c: random fits by our core and by MINPACK's library.

    python tests/fuzz/differential.py --cases 1000000

Prints the number of cases for each outcome, and describes the findings; the exit status is 1 if there
are any.  `--first` continues where another run ended, `--describe N` shows a case.
"""
from __future__ import annotations

import argparse
import ctypes as ct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
from kernels import FORTRAN, ROOT, compile_order  # noqa: E402

OUTCOMES = ("same", "nan in a setting", "start not finite", "Jacobian not finite", "step overflows",
            "parted", "wrong end", "wrong answer", "endless")
FINDINGS = OUTCOMES[5:]


def archive(gfortran="gfortran"):
    """The path of libminpack.a, or None."""
    path = Path(subprocess.run([gfortran, "-print-file-name=libminpack.a"], capture_output=True,
                               text=True, check=True).stdout.strip())
    return path if path.is_absolute() and path.exists() else None


def build(folder, level="-O3", contraction="off", gfortran="gfortran", cc="cc"):
    """Compile our Fortran and differential.c, and link them with the library, in `folder`."""
    library, folder = Path(folder) / "libdifferential.so", Path(folder)
    subprocess.run([cc, "-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fPIC",
                    f"-I{FORTRAN / 'api'}", f"-I{ROOT / 'src' / 'leastsq' / 'include'}",
                    "-c", HERE / "differential.c", "-o", folder / "differential.o"], check=True)
    subprocess.run([gfortran, *level.split(), f"-ffp-contract={contraction}", "-fPIC", "-std=f2018", "-shared",
                    f"-J{folder}", "-o", library, *compile_order(list(FORTRAN.rglob("*.f90"))),
                    folder / "differential.o", archive(gfortran), "-lm"], check=True)
    return ct.CDLL(str(library))


def run(library, first, count, room=20):
    """Returns ({outcome: cases}, {info: cases}, number of our calls, [numbers of the findings])."""
    outcomes, infos = (ct.c_int64 * len(OUTCOMES))(), (ct.c_int64 * 12)()
    findings, calls = (ct.c_uint64 * room)(), ct.c_int64()
    library.fuzz.restype = ct.c_int64
    found = library.fuzz(ct.c_uint64(first), ct.c_uint64(count), outcomes, infos, ct.byref(calls),
                         findings, ct.c_int64(room))
    return (dict(zip(OUTCOMES, outcomes)), {k: c for k, c in enumerate(infos) if c}, calls.value,
            list(findings)[:min(found, room)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--describe", type=int, metavar="N")
    parser.add_argument("--level", default="-O3", help="gfortran's flags for our core")
    options = parser.parse_args()
    if archive() is None:
        sys.exit("fuzz: no libminpack.a (Debian, Ubuntu: sudo apt-get install minpack-dev)")
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder, level=options.level)
        if options.describe is not None:
            library.describe(ct.c_uint64(options.describe))
            return
        begin = time.monotonic()
        outcomes, infos, calls, findings = run(library, options.first, options.cases)
        print(f"{options.cases} cases from {options.first} on, {calls} calls, "
              f"{time.monotonic() - begin:.0f} s")
        print("  outcomes:", ", ".join(f"{name} {count}" for name, count in outcomes.items()))
        print("  ier:", ", ".join(f"{info}: {count}" for info, count in infos.items()), flush=True)
        for number in findings:
            library.describe(ct.c_uint64(number))
        sys.exit(bool(findings))


if __name__ == "__main__":
    main()
