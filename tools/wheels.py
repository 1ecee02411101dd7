"""Build, check and test the source distribution and a wheel for each Python: `make wheels`.

The sdist is made from git's HEAD, and its files are compared with git's.  Each wheel is built from the
sdist without access to a package index, gets its manylinux name from auditwheel, and is inspected
(see `complaints`).  It is then installed into two empty environments, with the oldest NumPy that it allows
and with the newest, where tests/package/test_smoke.py must pass.

    python tools/wheels.py [--dist dist] [--python python3.12 ...] [--list] | --check WHEEL ...
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

from pythons import candidates, find_pythons, identity

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 600_000                    # of a wheel: kernels for three or four instruction sets, and 90 modules
MADE_BY_SDIST = {"PKG-INFO"}
# The libraries that an extension may need: parts of libc.
SYSTEM_LIBRARIES = re.compile(r"(libc|libm|libpthread|libdl|ld-linux-[\w-]+|libc\.musl-\w+)\.so(\.\d+)?$")


def say(*words):
    print("wheels:", *words, flush=True)


def run(*command, **options):
    """Run a command and return its output; if it fails, print that and exit."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, encoding="utf-8", errors="replace", check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nwheels: failed, see above: {' '.join(map(str, command))}")
    return done.stdout


# ------------------------------------------------------------- environments


def environment(folder, python, requirements):
    """A virtual environment with exactly these packages; made again when they change."""
    stamp = folder / "made-of"
    facts = json.dumps([identity(python), sorted(requirements)])
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != facts:
        shutil.rmtree(folder, ignore_errors=True)
        run(python, "-m", "venv", folder)
        run(program(folder), "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--disable-pip-version-check",
            *requirements)
        stamp.write_text(facts, encoding="utf-8")
    return folder


def program(folder, name="python"):
    return folder / ("Scripts" if os.name == "nt" else "bin") / name


def with_programs(folder, **more):
    """Environment variables for a build with the environment's programs and without a package index."""
    return os.environ | {"PATH": f"{program(folder).parent}{os.pathsep}{os.environ['PATH']}",
                         "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | more


def numpys(wheel, folder, python):
    """Requirements for the oldest NumPy that the wheel allows on this Python, and for the newest."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        wanted = re.findall(r"^Requires-Dist: (numpy\S*.*)$", archive.read(metadata).decode(), re.MULTILINE)
    # evaluated by the Python that will run the wheel, because markers ask for its version
    reader = ("import json, sys\nfrom pip._vendor.packaging.requirements import Requirement\n"
              "for text in json.loads(sys.argv[1]):\n"
              "    r = Requirement(text)\n"
              "    if r.marker is None or r.marker.evaluate({'extra': ''}):\n"
              "        print(*[s.version for s in r.specifier if s.operator == '>='])\n")
    lowest = run(program(folder), "-c", reader, json.dumps(wanted)).split()
    if len(lowest) != 1:
        raise SystemExit(f"wheels: no single lower bound of NumPy for {python} in {wanted}")
    return {"oldest": f"numpy=={lowest[0]}", "newest": "numpy"}


# --------------------------------------------------------------- the checks


IN_DIST_INFO = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE", "entry_points.txt"}


def expected_files():
    """The files of a wheel without the extension (in the package, in .dist-info): those of src/leastsq in git."""
    package = ROOT / "src" / "leastsq"
    listed = subprocess.run(["git", "-C", package, "ls-files", "-z"], capture_output=True, text=True, check=False) \
        if (ROOT / ".git").exists() else None
    if listed is not None and listed.returncode == 0:
        files = set(listed.stdout.split("\0")) - {""}
    else:                               # an sdist holds exactly git's files
        files = {path.relative_to(package).as_posix() for path in package.rglob("*")
                 if path.is_file() and "__pycache__" not in path.parts}
    return {name.removesuffix(".in") for name in files if Path(name).name != "meson.build"}, IN_DIST_INFO


def complaints(wheel, folders=()):
    """The faults of a wheel; it must not mention `folders`, the paths of the build."""
    found = []
    size = wheel.stat().st_size
    if size >= MOST_BYTES:
        found.append(f"{size} bytes, {MOST_BYTES} or more")
    package, info = expected_files()
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as scratch:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        extensions = [n for n in names if re.fullmatch(r"leastsq/_core\.[\w.-]+\.(so|pyd)", n)]
        expected = {f"leastsq/{n}" for n in package} | set(extensions)
        rest = {n for n in names if ".dist-info/" not in n}
        found += [f"not expected: {n}" for n in sorted(rest - expected)]
        found += [f"missing: {n}" for n in sorted(expected - rest)]
        found += [f"not expected: {n}" for n in names if ".dist-info/" in n
                  and n.split(".dist-info/")[1] not in info | {"sboms/auditwheel.cdx.json"}]
        if len(extensions) != 1:
            return [*found, f"extensions: {extensions}, not one"]
        for name in [*extensions, "leastsq/_build.py"]:         # files that the build writes
            content = archive.read(name)
            found += [f"{name} mentions {folder}" for folder in folders if str(folder).encode() in content]
        if extensions[0].endswith(".so") and sys.platform.startswith("linux"):
            found += complaints_of_elf(Path(archive.extract(extensions[0], scratch)))
    return found


def complaints_of_elf(path):
    found = []
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-dW", path))
    found += [f"needs {name}" for name in needed if not SYSTEM_LIBRARIES.match(name)]
    stack = re.findall(r"GNU_STACK\s+(?:0x\w+\s+){5}(\w+)", run("readelf", "-lW", path))
    if stack != ["RW"]:
        found.append(f"GNU_STACK is {stack}, not RW")
    exported = {line.split()[-1] for line in run("nm", "-D", "--defined-only", path).splitlines()}
    exported -= {"_init", "_fini", "_edata", "_end", "__bss_start"}
    if exported != {"PyInit__core"}:
        found.append(f"exports {sorted(exported)}, not PyInit__core alone")
    return found


def insist(what, found):
    if found:
        raise SystemExit("\n".join([f"wheels: {what}:", *(f"    {line}" for line in found)]))


# -------------------------------------------------------------- building


def make_sdist(folder, dist):
    """Make the sdist from git's HEAD, and check that it has exactly git's files."""
    run(program(folder), "-m", "build", "--sdist", "--no-isolation", "--outdir", dist, ROOT,
        env=with_programs(folder))
    sdist = max(dist.glob("leastsq-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    with tarfile.open(sdist) as archive:
        inside = {member.name.split("/", 1)[1] for member in archive.getmembers() if not member.isdir()}
    tracked = set(run("git", "-C", ROOT, "ls-tree", "-r", "--name-only", "-z", "HEAD").strip("\0").split("\0"))
    insist(sdist.name, [f"not in git: {n}" for n in sorted(inside - tracked - MADE_BY_SDIST)]
           + [f"missing: {n}" for n in sorted((tracked | MADE_BY_SDIST) - inside)])
    if run("git", "-C", ROOT, "status", "--porcelain").strip():
        say("note: changes that are not committed are not in the sdist")
    return sdist


def build_wheel(sdist, work, folder):
    """The wheel that pip makes from the contents of the sdist, without a package index."""
    shutil.rmtree(work / "source", ignore_errors=True)
    shutil.unpack_archive(sdist, work / "source")
    (source,) = (work / "source").iterdir()
    shutil.rmtree(work / "raw", ignore_errors=True)
    run(program(folder), "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps",
        "--wheel-dir", work / "raw", source, env=with_programs(folder))
    (wheel,) = (work / "raw").glob("*.whl")
    return source, wheel


def repair(wheel, work):
    """Rename a wheel to the oldest manylinux or musllinux that it can run on; unchanged on other systems."""
    if not sys.platform.startswith("linux"):
        return wheel
    shutil.rmtree(work / "repaired", ignore_errors=True)
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", work / "repaired", wheel,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
    (repaired,) = (work / "repaired").glob("*.whl")
    return repaired


def try_wheel(wheel, source, work, python):
    """Run tests/package/test_smoke.py in empty environments."""
    tools = environment(work / "pip", python, ["pip>=23"])
    for age, numpy in numpys(wheel, tools, python).items():
        folder = environment(work / f"numpy-{age}", python, [numpy, "pytest"])
        run(program(folder), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", wheel)
        version = run(program(folder), "-c", "import numpy; print(numpy.__version__)").strip()
        # outside the checkout, whose conftest needs more than NumPy
        smoke = shutil.copy(source / "tests" / "package" / "test_smoke.py", work)
        words = run(program(folder), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
                    "--noconftest", "-c", source / "tests" / "package" / "smoke.ini", smoke, cwd=work)
        say(f"    NumPy {version}: {words.strip().splitlines()[-1]}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Build, check and test the sdist and a wheel for each Python.")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where they go (default: dist)")
    parser.add_argument("--python", action="append", metavar="PATH",
                        help="build only for this one; may be repeated (default: every CPython found)")
    parser.add_argument("--check", nargs="+", type=Path, metavar="WHEEL", help="only inspect these wheels, made elsewhere")
    parser.add_argument("--list", action="store_true", help="print for which Pythons wheels would be built")
    options = parser.parse_args(arguments)
    for wheel in options.check or []:
        insist(wheel.name, complaints(wheel))
        say(f"{wheel.name}: no faults found")
    if options.check:
        return
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    oldest = tuple(map(int, project["project"]["requires-python"].removeprefix(">=").split(".")))

    paths = [Path(shutil.which(name) or name) for name in options.python or []]
    pythons = find_pythons(paths or candidates(), oldest)
    if not pythons:
        raise SystemExit(f"wheels: no CPython {'.'.join(map(str, oldest))} or newer among "
                         f"{', '.join(options.python or ['those on PATH'])}")
    if options.list:
        print(*(f"{name}: {python}" for name, python in pythons.items()), sep="\n")
        return
    work = ROOT / "build" / "wheels"
    options.dist.mkdir(parents=True, exist_ok=True)
    build_requirements = [*project["build-system"]["requires"], "ninja", "build", "pip>=23"]

    made, sdist = [], None
    for name, python in pythons.items():
        say(f"{name}: {python}")
        (work / name).mkdir(parents=True, exist_ok=True)
        folder = environment(work / name / "build", python, build_requirements)
        if sdist is None:
            sdist = make_sdist(folder, options.dist)
            made.append(sdist)
        source, raw = build_wheel(sdist, work / name, folder)
        wheel = repair(raw, work / name)
        insist(wheel.name, complaints(wheel, (ROOT, work, source, Path.home(), tempfile.gettempdir())))
        try_wheel(wheel, source, work / name, python)
        made.append(Path(shutil.copy(wheel, options.dist)))
    for path in made:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        say(f"{path.stat().st_size:7d} bytes  sha256 {digest[:16]}...  {path}")


if __name__ == "__main__":
    main()
