"""tools/wheels.py finds the faults of a wheel, and the Pythons to build for."""
import subprocess
import sys
import zipfile
from pathlib import Path

import guards
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import pythons
import wheels

PACKAGE, INFO = wheels.expected_files()
GOOD = {f"leastsq/{name}": b"" for name in PACKAGE} | {f"leastsq-0.dist-info/{name}": b"" for name in INFO}
EXTENSION = "leastsq/_core.cpython-311-x86_64-linux-gnu.so"
INIT = "__attribute__((visibility(\"default\"))) void *PyInit__core(void) { return 0; }\n"


@pytest.fixture
def library(tmp_path, need_program):
    """library(source, *arguments) returns a shared library as bytes."""
    guards.need_elf()
    need_program("readelf"), need_program("nm")

    def make(source, *arguments):
        (tmp_path / "x.c").write_text(source)
        subprocess.run([need_program("gcc"), "-shared", "-fPIC", "-fvisibility=hidden", "-o", tmp_path / "x.so",
                        tmp_path / "x.c", *arguments], check=True)
        return (tmp_path / "x.so").read_bytes()
    return make


@pytest.fixture
def pack(tmp_path):
    def make(files):
        wheel = tmp_path / "leastsq-0-cp311-cp311-linux_x86_64.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return wheel
    return make


def test_a_good_wheel_has_no_complaints(pack, library):
    assert wheels.complaints(pack(GOOD | {EXTENSION: library(INIT)}), [Path("/nowhere/at/all")]) == []


def test_unexpected_and_missing_files_are_named(pack, library):
    files = GOOD | {EXTENSION: library(INIT), "leastsq/core.h": b"", "leastsq.libs/libgfortran.so": b""}
    del files["leastsq/py.typed"]
    assert wheels.complaints(pack(files)) == [
        "not expected: leastsq.libs/libgfortran.so", "not expected: leastsq/core.h", "missing: leastsq/py.typed"]


def test_a_wheel_without_the_extension_is_named(pack):
    assert "extensions: [], not one" in wheels.complaints(pack(GOOD))


def test_a_wheel_that_is_too_large_is_named(pack, library):
    files = GOOD | {EXTENSION: library(INIT), "leastsq/__init__.py": bytes(wheels.MOST_BYTES)}
    (found,) = wheels.complaints(pack(files))
    assert found.endswith("bytes, 600000 or more")


@pytest.mark.parametrize("source, arguments, complaint", [
    (INIT + "__attribute__((visibility(\"default\"))) int more;", [], "exports ['PyInit__core', 'more'], not PyInit__core alone"),
    (INIT, ["-Wl,-z,execstack"], "GNU_STACK is ['RWE'], not RW"),
    (INIT, ["-Wl,--no-as-needed", "-lgcc_s"], "needs libgcc_s.so.1"),
], ids=["exports", "stack", "needs"])
def test_what_is_wrong_with_the_extension_is_named(pack, library, source, arguments, complaint):
    assert wheels.complaints(pack(GOOD | {EXTENSION: library(source, *arguments)})) == [complaint]


def test_a_path_of_the_build_is_named(pack, library):
    content = library(INIT + 'const char *PyInit_path = "/build/here/x.c"; void *p(void) { return &PyInit_path; }')
    files = GOOD | {EXTENSION: content, "leastsq/_build.py": b"flags = '-I/build/here'"}
    assert wheels.complaints(pack(files), [Path("/build/here")]) == [
        f"{EXTENSION} mentions /build/here", "leastsq/_build.py mentions /build/here"]


def test_the_newest_patch_of_each_final_cpython_is_found(monkeypatch):
    def facts(version, final=True, implementation="cpython", threaded=False):
        return {"version": version, "final": final, "implementation": implementation, "threaded": threaded}
    known = {
        "/a/python3": facts([3, 12, 1]), "/b/python3.12": facts([3, 12, 7]), "/c/python3": facts([3, 10, 9]),
        "/d/python3": facts([3, 13, 0], threaded=True), "/e/python3": facts([3, 14, 0], final=False),
        "/f/python3": facts([3, 11, 9], implementation="pypy"), "/g/python3": None,
        "/i/python3.13": facts([3, 13, 2]),
    }
    monkeypatch.setattr(pythons, "identity", lambda path: known[str(path)] and known[str(path)] | {"executable": str(path)})
    assert pythons.find_pythons(map(Path, known), (3, 11)) == {
        "cp312": Path("/b/python3.12"), "cp313t": Path("/d/python3"), "cp313": Path("/i/python3.13")}


def test_programs_other_than_python_are_not_run(monkeypatch, tmp_path):
    for name in ("python3", "python3.13t", "python3-config", "python3.12-gdb.py", "pythonw"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {path.name for path in pythons.candidates() if path.parent == tmp_path} == {"python3", "python3.13t"}


def test_identity_describes_an_interpreter():
    facts = pythons.identity(sys.executable)
    assert tuple(facts["version"]) == sys.version_info[:3]
    assert pythons.identity("/nowhere/python3") is None


def test_a_python_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match=r"no CPython 3\.11 or newer among nowhere-python"):
        wheels.main(["--python", "nowhere-python"])
