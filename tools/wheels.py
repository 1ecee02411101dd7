"""Build, check and try the source distribution and a wheel for each Python: `make wheels`.

The sdist is made from git's HEAD and its files compared with git's.  Each wheel is built from what
the sdist holds, with the network's index switched off, then given its manylinux name by auditwheel,
looked into (`complaints` says for what), and installed into two empty environments, with the oldest
NumPy that it admits and with the newest, where tests/package/test_smoke.py has to pass.

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
MOST_BYTES = 500_000                    # of a wheel
MADE_BY_SDIST = {"PKG-INFO"}
# What an extension may need from outside: libc's parts; on the left of the version.
SYSTEM_LIBRARIES = re.compile(r"(libc|libm|libpthread|libdl|ld-linux-[\w-]+|libc\.musl-\w+)\.so(\.\d+)?$")


def say(*words):
    print("wheels:", *words, flush=True)


def run(*command, **options):
    """Its output; if it fails, its words and the end."""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, encoding="utf-8", errors="replace", check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{done.stdout}\nwheels: failed, see above: {' '.join(map(str, command))}")
    return done.stdout


# ------------------------------------------------------------- environments


def environment(folder, python, requirements):
    """A virtual environment with just these; made again when they changed."""
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
    """The surroundings of a build with the environment's programs, and no index of packages."""
    return os.environ | {"PATH": f"{program(folder).parent}{os.pathsep}{os.environ['PATH']}",
                         "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | more


def numpys(wheel, folder, python):
    """The requirements that give the oldest NumPy the wheel admits on this Python, and the newest."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        wanted = re.findall(r"^Requires-Dist: (numpy\S*.*)$", archive.read(metadata).decode(), re.MULTILINE)
    # by the Python that will run it: a marker asks for its version
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


IN_DIST_INFO = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}


def expected_files():
    """(in the package, in .dist-info), without the extension: what git has under src/leastsq."""
    package = ROOT / "src" / "leastsq"
    listed = subprocess.run(["git", "-C", package, "ls-files", "-z"], capture_output=True, text=True, check=False) \
        if (ROOT / ".git").exists() else None
    if listed is not None and listed.returncode == 0:
        files = set(listed.stdout.split("\0")) - {""}
    else:                               # an sdist: what is there is what git had
        files = {path.relative_to(package).as_posix() for path in package.rglob("*")
                 if path.is_file() and "__pycache__" not in path.parts}
    return {name.removesuffix(".in") for name in files if Path(name).name != "meson.build"}, IN_DIST_INFO


def complaints(wheel, folders=()):
    """What is wrong with a wheel; `folders` are paths of the build that it must not mention."""
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
        for name in [*extensions, "leastsq/_build.py"]:         # what the build writes
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


# -------------------------------------------------------------- the making


def make_sdist(folder, dist):
    """From git's HEAD, and with exactly git's files."""
    run(program(folder), "-m", "build", "--sdist", "--no-isolation", "--outdir", dist, ROOT,
        env=with_programs(folder))
    sdist = max(dist.glob("leastsq-*.tar.gz"), key=lambda path: path.stat().st_mtime)
    with tarfile.open(sdist) as archive:
        inside = {member.name.split("/", 1)[1] for member in archive.getmembers() if not member.isdir()}
    tracked = set(run("git", "-C", ROOT, "ls-tree", "-r", "--name-only", "-z", "HEAD").strip("\0").split("\0"))
    insist(sdist.name, [f"not in git: {n}" for n in sorted(inside - tracked - MADE_BY_SDIST)]
           + [f"missing: {n}" for n in sorted((tracked | MADE_BY_SDIST) - inside)])
    if run("git", "-C", ROOT, "status", "--porcelain").strip():
        say("note: what is not committed is not in the sdist")
    return sdist


def build_wheel(sdist, work, folder):
    """The wheel that pip makes from the sdist's own contents, without an index."""
    shutil.rmtree(work / "source", ignore_errors=True)
    shutil.unpack_archive(sdist, work / "source")
    (source,) = (work / "source").iterdir()
    shutil.rmtree(work / "raw", ignore_errors=True)
    run(program(folder), "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps",
        "--wheel-dir", work / "raw", source, env=with_programs(folder))
    (wheel,) = (work / "raw").glob("*.whl")
    return source, wheel


def repair(wheel, work):
    """Renamed to the oldest manylinux or musllinux it can run on; on other systems as it is."""
    if not sys.platform.startswith("linux"):
        return wheel
    shutil.rmtree(work / "repaired", ignore_errors=True)
    run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", work / "repaired", wheel,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"})
    (repaired,) = (work / "repaired").glob("*.whl")
    return repaired


def try_wheel(wheel, source, work, python):
    """tests/package/test_smoke.py in empty environments."""
    tools = environment(work / "pip", python, ["pip>=23"])
    for age, numpy in numpys(wheel, tools, python).items():
        folder = environment(work / f"numpy-{age}", python, [numpy, "pytest"])
        run(program(folder), "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", wheel)
        version = run(program(folder), "-c", "import numpy; print(numpy.__version__)").strip()
        # away from the checkout, whose conftest asks for more than NumPy
        smoke = shutil.copy(source / "tests" / "package" / "test_smoke.py", work)
        words = run(program(folder), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider",
                    "--noconftest", "-c", source / "tests" / "package" / "smoke.ini", smoke, cwd=work)
        say(f"    NumPy {version}: {words.strip().splitlines()[-1]}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Build, check and try the sdist and a wheel for each Python.")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where they go (default: dist)")
    parser.add_argument("--python", action="append", metavar="PATH",
                        help="build for this one only; may be repeated (default: every CPython found)")
    parser.add_argument("--check", nargs="+", type=Path, metavar="WHEEL", help="only look into these, made elsewhere")
    parser.add_argument("--list", action="store_true", help="print for which Pythons wheels would be built")
    options = parser.parse_args(arguments)
    for wheel in options.check or []:
        insist(wheel.name, complaints(wheel))
        say(f"{wheel.name} is as it should be")
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
