"""What must stay true of the sources and of the built module, whatever else
changes (ARCHITECTURE.md lists the invariants)."""
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kernels import CODES, FORTRAN, HEADER, ROOT, State

SOURCES = {p.name: p for p in sorted([*FORTRAN.glob("*.f90"), *FORTRAN.glob("*.F90")])}
N_SIZED = ["lm_state.f90", "lm_core.f90", "bounds.f90", "probes.f90", "products.f90", "lmpar.f90", "qrsolv.f90", "covar.f90"]

# ---------------------------------------------------------------------------
# a small reader of Fortran


def statements(text):
    """The statements of free-form Fortran: lower case, joined over continuation
    lines, without comments, labels, preprocessor lines and what strings hold."""
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
    """What in a Fortran source breaks the rules."""
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
def test_the_m_sized_half_does(name):
    """The test above would see it."""
    assert any(re.search(r"\bm\b", s) for s in statements(SOURCES[name].read_text()))


@pytest.mark.parametrize("name", SOURCES)
def test_fortran_has_no_output_stop_allocation_or_state(name):
    assert complaints(SOURCES[name].read_text()) == []


def _fortran_parameters(text):
    pairs = [re.search(r"\bparameter\b.*::\s*(\w+)\s*=\s*(.+)$", s) for s in statements(text)]
    return {p.group(1).upper(): p.group(2).strip() for p in pairs if p}


def test_codes_are_equal_in_fortran_c_and_python():
    from leastsq import Status
    fortran = {name: int(value) for name, value
               in _fortran_parameters(SOURCES["kinds.f90"].read_text()).items()
               if re.match("(INFO|ASK|SCALE)_", name)}
    assert len(fortran) == 12 + 3 + 2
    header = {re.sub("^LSQ_", "", name): value for name, value in CODES.items()}
    in_c = {name: header[re.sub("^INFO_", "", name)] for name in fortran}
    assert in_c == fortran
    assert {f"INFO_{s.name}": s.value for s in Status} == \
        {name: value for name, value in fortran.items() if name.startswith("INFO_")}
    assert [s.name for s in Status] == [
        "IMPROPER", "FTOL", "XTOL", "FTOL_XTOL", "GTOL", "MAXFEV", "FTOL_TOO_SMALL",
        "XTOL_TOO_SMALL", "GTOL_TOO_SMALL", "NOT_FINITE", "STOPPED", "WATCHER"]


def test_the_machines_vectors_are_the_same_columns_in_fortran_and_c():
    fortran = _fortran_parameters(SOURCES["lm_state.f90"].read_text())
    known = {}
    for name, value in fortran.items():
        if name.startswith("V_") or name == "VECTORS":
            known[name.lower()] = eval(value, {"__builtins__": {}}, known)
    assert known.pop("vectors") == CODES["LSQ_VECTORS"]
    columns = {name[2:].upper(): value - 1 for name, value in known.items()}
    assert set(columns) == {"X", "TRIAL", "STEP", "DIAG", "COLNORM", "QTF", "SCRATCH",
                            "LO", "HI", "SIDE", "SLOPE", "LARGEST", "FELT", "LEFT", "BEST",
                            "NEAR_LO", "NEAR_HI", "RHS", "TRIANGLE"}
    assert columns == {name: CODES[f"LSQ_{name}"] for name in columns}


def test_probes_are_the_same_in_fortran_and_c():
    fortran = {name: int(value) for name, value in _fortran_parameters(SOURCES["lm_state.f90"].read_text()).items()
               if name.startswith("PROBE_")}
    assert len(fortran) == 6
    assert {f"LSQ_{name}": value for name, value in fortran.items()} == \
        {name: value for name, value in CODES.items() if name.startswith("LSQ_PROBE_")}


def test_as_many_lanes_in_fortran_as_in_c():
    for name in ("qrfac_lanes.f90", "lanes.F90"):
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


# ---------------------------------------------------------------------------
# the built module


@pytest.fixture(scope="module")
def inspect(need_program):
    """inspect("nm", "-D", path) is the program's output, as lists of words."""
    if not sys.platform.startswith("linux"):
        pytest.skip("looks at an ELF file")

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
    """gfortran makes a trampoline on the stack of an internal procedure that is
    passed as an argument; the linker then asks for an executable stack."""
    assert _stack_flags(inspect, extension) == "RW"


def test_the_cores_stack_is_not_executable_at_any_level(inspect, core):
    assert _stack_flags(inspect, core.path) == "RW"


# ---------------------------------------------------------------------------
# the wheel

IN_PACKAGE = {"_accurate_jacobian.py", "_confidence.py", "_covariance.py", "_format.py", "_profile.py", "_report.py",
              "_strict.py", "_student.py", "plot.py", "plot.pyi",
              "__init__.py", "__init__.pyi", "__main__.py", "_ask_tell.py", "_batch.py", "_batch_result.py", "_block_fit.py",
              "_blocks.py", "_build.py", "_checks.py",
              "_dask.py", "dask.py", "_compiled.py", "_config.py", "_core.pyi", "_curve_fit.py", "_curve_fit_data.py",
              "_derivatives.py",
              "_door.py", "_gradient_check.py",
              "_least_squares.py", "_leastsq.py", "_lock_step.py", "_losses.py", "_progress.py",
              "_status.py", "_watch.py", "py.typed", "include/leastsq.h"}
IN_DIST_INFO = {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}


def test_the_wheel_holds_exactly_the_listed_files(tmp_path, need_program):
    need_program("gfortran")
    made = Path(sys.prefix) / "build"       # by tools/setup.sh: what is up to date need not be compiled again
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
    assert package - {extension} == IN_PACKAGE
    info = {n.split(".dist-info/")[1] for n in names if ".dist-info/" in n}
    assert info == IN_DIST_INFO
    assert len(names) == len(package) + len(info)
