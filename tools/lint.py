"""`make lint`: run every check, then list those that failed.

    python tools/lint.py [ruff | compilers | clang-tidy | stubs | types | workflows ...]

The compilers' check uses a build directory of its own (build/lint), with more warnings than the
package's build, all of them errors; clang-tidy reads that build's compile commands.
"""
import argparse
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "lint"
C_WARNINGS = "-Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wpointer-arith -Wundef"
FORTRAN_WARNINGS = "-Wimplicit-interface -Wimplicit-procedure -Wuse-without-only -Wunderflow -Wrealloc-lhs"


def call(*command):
    """Run a command, with its output shown; returns whether it succeeded."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, check=False).returncode == 0


def tool(name):
    """The path of a program of this environment."""
    return Path(sysconfig.get_path("scripts")) / name


def ruff():
    """Python: errors and habits (pyproject.toml says which)."""
    return call(tool("ruff"), "check", "--quiet", ".")


def set_up():
    """The build directory of the two checks below."""
    return (BUILD / "build.ninja").exists() or call(
        tool("meson"), "setup", BUILD, "-Dbuildtype=release", "-Db_ndebug=true", "-Dwerror=true", "-Dwarning_level=2",
        f"-Dc_args={C_WARNINGS}", f"-Dfortran_args={FORTRAN_WARNINGS}")


def compilers():
    """C and Fortran: the compilers' warnings."""
    return set_up() and call(tool("ninja"), "-C", BUILD, "--quiet")


def clang_tidy():
    """C: clang's analysis (.clang-tidy says which)."""
    sources = sorted((ROOT / "src" / "shim").rglob("*.c"))
    if not (ROOT / "build" / "lint" / "build.ninja").exists() and not set_up():
        return False
    compiled = (BUILD / "compile_commands.json").read_text(encoding="utf-8")
    return call(tool("clang-tidy"), "--quiet", "-p", BUILD,
                *(path for path in sources if path.relative_to(ROOT).as_posix() in compiled))


def stubs():
    """The stubs compared with the installed package: names, arguments, defaults."""
    return call(sys.executable, "-m", "mypy.stubtest", "leastsq", "--concise", "--ignore-missing-stub",
                "--mypy-config-file", ROOT / "pyproject.toml", "--allowlist", ROOT / "tests" / "typed" / "stubtest.txt",
                "--ignore-unused-allowlist")


def types():
    """User code, checked by mypy --strict and pyright."""
    return call(sys.executable, "-m", "mypy") & call(tool("pyright"), "--pythonpath", sys.executable)


def workflows():
    """The GitHub workflows, checked against their schema."""
    return call(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", "-q",
                *sorted((ROOT / ".github" / "workflows").glob("*.yml")))


CHECKS = {check.__name__.replace("_", "-"): check for check in (ruff, compilers, clang_tidy, stubs, types, workflows)}


def main():
    parser = argparse.ArgumentParser(description="Run the checks of style and of types.")
    parser.add_argument("checks", nargs="*", choices=[*CHECKS, []], metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    parser.add_argument("--list", action="store_true", help="print what the checks are")
    options = parser.parse_args()
    if options.list:
        print(*(f"{name}: {check.__doc__}" for name, check in CHECKS.items()), sep="\n")
        return
    wanted = options.checks or list(CHECKS)
    os.environ["PATH"] = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"     # meson looks for ninja
    failed = []
    for name in wanted:
        print(f"lint: {name}: {CHECKS[name].__doc__}", flush=True)
        if not CHECKS[name]():
            failed.append(name)
    if failed:
        sys.exit(f"lint: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
