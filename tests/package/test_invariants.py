"""The invariants of the sources and of the built module, as ARCHITECTURE.md lists them."""
import graphlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import guards
import pytest

from kernels import CODES, FORTRAN, HEADER, ROOT, State

sys.path.insert(0, str(ROOT / "tools"))

import wheels

SOURCES = {p.name: p for p in sorted([*FORTRAN.rglob("*.f90"), *FORTRAN.rglob("*.F90")])}
N_SIZED = sorted(p.name for p in (FORTRAN / "core").glob("*.f90") if p.name not in ("enorm.f90", "kinds.f90"))

# ---------------------------------------------------------------------------
# a small reader of Fortran


def statements(text):
    """The statements of free-form Fortran, in lower case, with continuation lines joined and
    without comments, labels, preprocessor lines and the contents of strings."""
    out, pending = [], ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        line = re.sub(r"'[^']*'|\"[^\"]*\"", "''", line).split("!", 1)[0].strip().lower()
        if not line:
            continue
        if pending and line.startswith("&"):
            line = line[1:].lstrip()
        line = pending + line
        if line.endswith("&"):
            pending = line[:-1].rstrip() + " "
            continue
        pending = ""
        out += [re.sub(r"^\d+\s+", "", part.strip()) for part in line.split(";") if part.strip()]
    return out


_ACTION = r"(?:^|^if\s*\(.*\)\s*)"
FORBIDDEN = {
    "input or output": _ACTION + r"(?:(?:open|close|read|write|inquire|flush|rewind|backspace|"
                                 r"endfile)\s*\(|print\s*[*'(\w])(?!.*^print\s*=)",
    "stop": _ACTION + r"(?:error\s+)?stop\b",
    "allocate": r"\b(?:de)?allocate\s*\(|\ballocatable\b",
    "save": r"^save\b|,\s*save\b",
    "static storage": r"^(?:common|equivalence|block\s*data)\b|^data\s+\w[^=]*/",
}
_PROCEDURE = re.compile(
    r"^(?!end\b)(?:[\w()*,=\s]*?\s)?(?:subroutine|function)\s+(\w+|\w+\(\w+\))\s*(?:\(|$)")
_DECLARATION = re.compile(
    r"^(?:integer|real|complex|logical|character|double\s*precision|type\s*\(|class\s*\("
    r"|procedure\s*\()")


def _outside_parentheses(text):
    while True:
        shorter = re.sub(r"\([^()]*\)", "", text)
        if shorter == text:
            return text
        text = shorter


def complaints(text):
    """Descriptions of what breaks the rules in a Fortran source."""
    found = []
    code = statements(text)
    scopes = []                     # of "module", "procedure"; "type" and "interface" blocks
    internal = set()
    for s in code:
        for what, pattern in FORBIDDEN.items():
            if re.search(pattern, s):
                found.append(f"{what}: {s}")
        if re.match(r"^end\s*(?:module|submodule|subroutine|function|procedure|type|interface|"
                    r"program)\b", s) or s == "end":
            scopes.pop()
        elif re.match(r"^(?:module|submodule)\b(?!\s+(?:procedure|subroutine|function)\b)", s):
            scopes.append("module")
        elif re.match(r"^(?:abstract\s+)?interface\b", s):
            scopes.append("interface")
        elif re.match(r"^type\b(?!\s*\()(?!\s+is\b)", s):
            scopes.append("type")
        elif _PROCEDURE.match(s) or re.match(r"^module\s+procedure\b", s):
            if "procedure" in scopes and "interface" not in scopes:
                internal.add(_PROCEDURE.match(s).group(1))
            scopes.append("procedure")
        elif _DECLARATION.match(s) and "::" in s and scopes:
            attributes, entities = s.split("::", 1)
            if "parameter" in attributes:
                continue
            if scopes[-1] == "module":
                found.append(f"module variable: {s}")
            if scopes[-1] == "procedure" and "=" in _outside_parentheses(entities):
                found.append(f"initialised, hence saved: {s}")
    for name in internal:
        for s in code:
            if re.search(rf"[(,]\s*(?:\w+\s*=\s*)?{name}\s*[,)]|=>\s*{name}\b", s) \
                    and not _PROCEDURE.match(s):
                found.append(f"internal procedure handed on: {s}")
    assert not scopes, f"unbalanced: {scopes}"
    return found


def in_procedure(lines):
    return f"module a\ncontains\nsubroutine s(x)\n{lines}\nend subroutine s\nend module a\n"


@pytest.mark.parametrize("source", [
    in_procedure("print *, x"),
    in_procedure("if (x > 0) print *, x"),
    in_procedure("WRITE (*, *) x"),
    in_procedure("if (x > 0) write (unit, '(a)') x"),
    in_procedure("open (newunit=u, file='x')"),
    in_procedure("read (u, *) x"),
    in_procedure("stop"),
    in_procedure("if (x) error stop 'no'"),
    in_procedure("error stop 1"),
    in_procedure("allocate (x(3))"),
    in_procedure("real, allocatable :: x(:)"),
    in_procedure("deallocate (x)"),
    in_procedure("save"),
    in_procedure("integer, save :: i"),
    in_procedure("integer :: i = 0"),
    in_procedure("real, pointer :: p => null()"),
    in_procedure("real :: a(2) = &\n   [1.0, 2.0]"),
    in_procedure("data i /3/"),
    in_procedure("common /c/ i"),
    in_procedure("call quad(f, x)\ncontains\nfunction f(t)\nend function f"),
    in_procedure("call quad(x, g=f)\ncontains\npure function f(t) result(y)\nend function f"),
    in_procedure("p => f\ncontains\nreal(wp) function f(t)\nend function f"),
    "module a\nimplicit none\ninteger :: i\nend module a",
    "module a\nreal(wp), public :: table(3) = 0\ncontains\nend module a",
    "module a\ntype(t), target :: x\nend module a",
], ids=range(25))
def test_the_reader_sees_what_is_forbidden(source):
    assert complaints(source)


@pytest.mark.parametrize("source", [
    in_procedure("! print *, stop, allocate (x), save\nx = 'write (*,*) stop'"),
    in_procedure("integer, parameter :: i = 3\nreal(kind=wp) :: x(size(a, dim=1))"),
    in_procedure("type(t) :: a\nstopped = .true.\ndata = saved + printed"),
    in_procedure("x = f(x)\ncontains\nfunction f(t)\nreal, intent(in) :: t\nend function f"),
    in_procedure("select type (a)\ntype is (integer)\nx = 1\nend select"),
    "module a\ninteger, parameter :: k = 1\ntype, bind(c) :: t\ninteger :: n = 3\nend type t\n"
    "abstract interface\nfunction f(x) bind(c)\nreal :: x\nend function f\nend interface\n"
    "contains\nend module a",
], ids=range(6))
def test_the_reader_lets_the_rest_pass(source):
    assert complaints(source) == []


# ---------------------------------------------------------------------------
# the sources


@pytest.mark.parametrize("name", N_SIZED)
def test_the_n_sized_half_never_mentions_m(name):
    mentions = [s for s in statements(SOURCES[name].read_text()) if re.search(r"\bm\b", s)]
    assert mentions == []


@pytest.mark.parametrize("name", ["qrfac.f90", "lm_drive.f90"])
def test_the_m_sized_half_does_mention_m(name):
    """This shows that the test above can fail."""
    assert any(re.search(r"\bm\b", s) for s in statements(SOURCES[name].read_text()))


@pytest.mark.parametrize("name", SOURCES)
def test_fortran_has_no_output_stop_allocation_or_state(name):
    assert complaints(SOURCES[name].read_text()) == []


# ------------------------------------------------------------------- the folders


SHIM = ROOT / "src" / "shim"


def _calls():
    """For each C file of the shim, the other files whose functions, tables and strings it uses."""
    text = {path.relative_to(SHIM).as_posix(): re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", path.read_text(), flags=re.S)
            for path in SHIM.rglob("*.c")}
    home = {}
    for name, code in text.items():
        for found in re.finditer(r"^(?!static)[a-z][\w *]*\n(\w+)\(|^(?:const char|PyType_Spec|PyGetSetDef) (\w+)[\[ =]",
                                 code, re.M):
            home[found[1] or found[2]] = name
    return {name: {home[word] for word in set(re.findall(r"\w+", code)) if word in home} - {name}
            for name, code in text.items()}


def test_c_files_do_not_depend_on_each_other_in_a_circle():
    calls = _calls()
    assert {"fit/solve.c", "machine/type.c"} <= calls["module.c"]
    for name in calls:                  # a type may ask its module for its state
        calls[name].discard("module.c")
    list(graphlib.TopologicalSorter(calls).static_order())


def test_the_users_functions_know_nothing_of_fits():
    assert all(name.startswith("user/") for file, used in _calls().items() if file.startswith("user/") for name in used)
    for path in (SHIM / "user").iterdir():
        assert set(re.findall(r'#include "(.*)"', path.read_text())) <= {"user.h", "python.h"}


def test_folders_are_small_and_long_files_say_why():
    folders = [FORTRAN, *FORTRAN.iterdir(), SHIM, *SHIM.iterdir()]
    for folder in (folder for folder in folders if folder.is_dir()):
        files = [path for path in folder.iterdir() if path.is_file()]
        assert len(files) <= 15, folder
        for path in files:
            lines = path.read_text().splitlines()
            assert len(lines) <= 500 or "500 lines" in "\n".join(lines[:20]), path


def _fortran_parameters(text):
    pairs = [re.search(r"\bparameter\b.*::\s*(\w+)\s*=\s*(.+)$", s) for s in statements(text)]
    return {p.group(1).upper(): p.group(2).strip() for p in pairs if p}


def test_codes_are_equal_in_fortran_c_and_python():
    from leastsq import Status
    from leastsq._problem.settings import STRATEGIES
    fortran = {name: int(value) for name, value
               in _fortran_parameters(SOURCES["kinds.f90"].read_text()).items()
               if re.match("(INFO|ASK|SCALE|STRATEGY)_", name)}
    assert len(fortran) == 13 + 5 + 2 + 3
    header = {re.sub("^LSQ_", "", name): value for name, value in CODES.items()}
    in_c = {name: header[re.sub("^INFO_", "", name)] for name in fortran}
    assert in_c == fortran
    assert {f"STRATEGY_{name.upper()}": value for name, value in STRATEGIES.items()} == \
        {name: value for name, value in fortran.items() if name.startswith("STRATEGY_")}
    assert {f"INFO_{s.name}": s.value for s in Status} == \
        {name: value for name, value in fortran.items() if name.startswith("INFO_")}
    assert [s.name for s in Status] == [
        "IMPROPER", "FTOL", "XTOL", "FTOL_XTOL", "GTOL", "MAXFEV", "FTOL_TOO_SMALL",
        "XTOL_TOO_SMALL", "GTOL_TOO_SMALL", "NOT_FINITE", "STOPPED", "WATCHER", "NO_DATA"]


def test_the_machines_vectors_are_the_same_columns_in_fortran_and_c():
    fortran = _fortran_parameters(SOURCES["lm_state.f90"].read_text())
    known = {}
    for name, value in fortran.items():
        if name.startswith("V_") or name == "VECTORS":
            known[name.lower()] = eval(value, {"__builtins__": {}}, known)
    assert known.pop("vectors") == CODES["LSQ_VECTORS"]
    columns = {name[2:].upper(): value - 1 for name, value in known.items()}
    assert set(columns) == {"X", "TRIAL", "STEP", "DIAG", "COLNORM", "QTF", "SCRATCH",
                            "LO", "HI", "SIDE", "SLOPE", "LARGEST", "FELT", "LEFT", "BEST", "WARY",
                            "NEAR_LO", "NEAR_HI", "RHS", "TRIANGLE"}
    assert columns == {name: CODES[f"LSQ_{name}"] for name in columns}


def test_a_strategys_vectors_are_the_same_columns_in_fortran_and_c():
    fortran = _fortran_parameters(SOURCES["lm_state.f90"].read_text())
    known = {}
    for name, value in fortran.items():
        if name.startswith("C_") or name == "CURVATURE_VECTORS":
            known[name.lower()] = eval(value, {"__builtins__": {}}, known)
    assert known.pop("curvature_vectors") == CODES["LSQ_CURVATURE_VECTORS"]
    columns = {f"LSQ_{name.upper()}": value - 1 for name, value in known.items()}
    assert set(columns) == {name for name in CODES if name.startswith("LSQ_C_")}
    assert columns == {name: CODES[name] for name in columns}
    assert {f"LSQ_{name}": int(value) for name, value in fortran.items() if name.startswith("PAST_")} == \
        {name: value for name, value in CODES.items() if name.startswith("LSQ_PAST_")}


def test_probes_are_the_same_in_fortran_and_c():
    fortran = {name: int(value) for name, value in _fortran_parameters(SOURCES["lm_state.f90"].read_text()).items()
               if name.startswith("PROBE_")}
    assert len(fortran) == 7
    assert {f"LSQ_{name}": value for name, value in fortran.items()} == \
        {name: value for name, value in CODES.items() if name.startswith("LSQ_PROBE_")}


def test_as_many_lanes_in_fortran_as_in_c():
    for name in ("lane_steps.F90", "lanes.F90"):
        assert int(_fortran_parameters(SOURCES[name].read_text())["LANES"]) == CODES["LSQ_LANES"]


def test_the_state_record_is_the_same_in_fortran_and_c():
    code = statements(SOURCES["lm_state.f90"].read_text())
    begin = next(k for k, s in enumerate(code) if re.match(r"type\b.*::\s*lm_state_t$", s))
    fields = []
    for s in code[begin + 1:]:
        if s.startswith("end type"):
            break
        kind, names = s.split("::")
        size = {"integer(c_int64_t)": "c_long", "real(c_double)": "c_double"}[kind.strip()]
        fields += [(name.split("=")[0].strip(), size) for name in names.split(",")]
    assert "bind(c)" in code[begin]
    assert fields == [(name, kind.__name__.replace("c_longlong", "c_long"))
                      for name, kind in State._fields_]


def test_the_header_declares_what_fortran_binds():
    """Every bind(c) procedure of c_api.f90 is in core.h and the reverse."""
    bound = set(re.findall(r"(?:subroutine|function)\s+(lsq_\w+)\s*\([^)]*\)\s*bind\(c\)",
                           "\n".join(statements(SOURCES["c_api.f90"].read_text()))))
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    declared = set(re.findall(r"^(?:void|double|int64_t|int)\s+\*?(lsq_\w+)\(", text, re.M))
    assert "lsq_lmdif" in bound
    assert bound == declared


def test_only_guards_asks_for_processors_and_versions():
    asked = re.compile(r"sys\.version_info|(?:scipy|numpy|np)\.__version__|cpuinfo|platform\.(machine|libc_ver|python_version)|"
                       r"sys\.platform|__cpu_features__")
    # these print or compare versions
    known = {"guards.py", "tsqr_build.py", "test_invariants.py", "test_wheels.py", "test_readme.py",
             "make_nist_scipy.py", "make_bounded_scipy.py", "make_families_scipy.py", "arguments.py"}
    found = {f"{path.name}:{number}: {line.strip()}" for path in sorted((ROOT / "tests").rglob("*.py")) if path.name not in known
             for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if asked.search(line)}
    assert not found


# ---------------------------------------------------------------------------
# the built module


@pytest.fixture(scope="module")
def inspect(need_program):
    """inspect("nm", "-D", path) returns the program's output, each line as a list of words."""
    guards.need_elf()

    def run(program, *arguments):
        done = subprocess.run([need_program(program), *map(str, arguments)],
                              capture_output=True, text=True, check=True)
        return [line.split() for line in done.stdout.splitlines() if line.strip()]
    return run


@pytest.fixture(scope="module")
def extension():
    import leastsq._core
    return Path(leastsq._core.__file__)


def test_the_module_needs_no_fortran_run_time(inspect, extension):
    needed = [line[-1] for line in inspect("readelf", "-dW", extension) if "(NEEDED)" in line]
    assert "[libc.so.6]" in needed
    assert not [name for name in needed if re.search("gfortran|quadmath", name)]
    names = [line[-1] for line in inspect("nm", "-D", extension)]
    assert [n for n in names if n.startswith("Py")]
    assert [n for n in names if n.startswith("_gfortran_")] == []


def test_the_module_exports_its_init_function_only(inspect, extension):
    exported = {line[-1] for line in inspect("nm", "-D", "--defined-only", extension)}
    assert exported - {"_init", "_fini", "_edata", "_end", "__bss_start"} == {"PyInit__core"}


def _stack_flags(inspect, path):
    (line,) = [line for line in inspect("readelf", "-lW", path) if line[0] == "GNU_STACK"]
    return "".join(line[6:-1])


def test_the_modules_stack_is_not_executable(inspect, extension):
    """It would be if an internal procedure were passed as an argument: gfortran then makes a
    trampoline on the stack."""
    assert _stack_flags(inspect, extension) == "RW"


def test_the_cores_stack_is_not_executable_at_any_level(inspect, core):
    assert _stack_flags(inspect, core.path) == "RW"


# ---------------------------------------------------------------------------
# the wheel

def test_the_wheel_holds_exactly_what_git_has_of_the_package(tmp_path, need_program):
    need_program("gfortran")
    made = Path(sys.prefix) / "build"       # made by tools/setup.sh: files that are up to date are not compiled again
    build = made if made.is_dir() else tmp_path / "build"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps",
         "--no-index", f"--config-settings=build-dir={build}",
         f"--wheel-dir={tmp_path}", str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    package = {n.removeprefix("leastsq/") for n in names if n.startswith("leastsq/")}
    (extension,) = [n for n in package if re.fullmatch(r"_core\.[\w-]+\.so", n)]
    expected, expected_info = wheels.expected_files()
    assert package - {extension} == expected
    info = {n.split(".dist-info/")[1] for n in names if ".dist-info/" in n}
    assert info == expected_info
    assert len(names) == len(package) + len(info)


def test_the_drop_ins_do_not_import_the_other_folders():
    """Importing the package imports no folder that only some functions need, nor what such a folder imports."""
    code = """import sys, numpy
before = set(sys.modules)
import leastsq
new = set(sys.modules) - before
print(sorted({name.rpartition('leastsq.')[2].partition('.')[0] for name in new if name.startswith('leastsq.')}
             & {'_model', '_projection'}), sorted({'concurrent.futures', 'difflib', 'json', 'pathlib'} & new))
assert all(getattr(leastsq, name) is not None for name in leastsq.__all__)
assert leastsq.fit.__module__ == leastsq.FitResult.__module__ == leastsq.curve_fit_batch.__module__ == 'leastsq'
try:
    leastsq.no_such_name
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[] []", "module 'leastsq' has no attribute 'no_such_name'"]
