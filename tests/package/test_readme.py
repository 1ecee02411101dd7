"""The README is true: its examples run, its commands exist, its table is complete.

Also tested: what `make demo` prints on a machine without a compiler.
"""
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
DIFFERENCES = (ROOT / "docs" / "coming_from_scipy.md").read_text(encoding="utf-8")
HERE = "https://github.com/leastsq/leastsq/blob/main/"          # links are absolute: the README is PyPI's page too


# ------------------------------------------------------------------ the page

def run(source):
    names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "README.md", "exec"), names)
    return names, printed.getvalue()


@pytest.mark.parametrize("source", EXAMPLES, ids=[f"example{k}" for k in range(len(EXAMPLES))])
def test_example_runs(source, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    run(source)


def test_first_example_is_short_and_finds_the_parameters(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    monkeypatch.chdir(tmp_path)
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 12
    names, printed = run(EXAMPLES[0])
    for name, true in {"height": 2.5, "rate": 1.3, "level": 0.5}.items():
        assert abs(names["fit"][name] - true) < 3*names["fit"][name].stderr
    assert names["fit"].success
    assert printed == re.search(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)[1]
    assert (tmp_path / "first_fit.png").is_file()


def test_the_two_commands_are_on_the_first_screen():
    first_screen = "\n".join(README.splitlines()[:60])
    assert "    make demo" in first_screen
    assert "    make test" in first_screen


def test_every_make_command_that_is_documented_is_a_target():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for paper in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        text = (ROOT / paper).read_text(encoding="utf-8")
        named = set(re.findall(r"^    make ([a-z]+)", text, re.MULTILINE)) | set(re.findall(r"`make ([a-z]+)`", text))
        assert named <= targets, paper


@pytest.mark.parametrize("paper", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGES.md"])
def test_links_and_named_files_exist(paper):
    text = (ROOT / paper).read_text(encoding="utf-8")
    links = [link.removeprefix(HERE) for link in re.findall(r"\]\(([^)#]+)", text)]
    links = [link for link in links if not link.startswith("http")]
    paths = re.findall(r"`((?:fortran|src|tests|examples|benchmarks|tools|docs)/[\w./-]*)`", text)
    assert links or paths or paper == "CHANGES.md"
    missing = [path for path in links + paths if not (ROOT / path).exists()]
    assert missing == []


def test_links_into_pages_lead_to_a_heading():
    links = re.findall(rf"\]\({HERE}(docs/[\w/]+\.md)#([\w-]+)\)", README)
    assert links
    for page, anchor in links:
        headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, (page, anchor)


def test_links_and_pictures_of_the_readme_are_absolute():
    assert [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures
    assert [link for link in pictures
            if not (ROOT / link.removeprefix("https://raw.githubusercontent.com/leastsq/leastsq/main/")).is_file()] == []


@pytest.mark.parametrize("row", [           # for each deliberate difference, the words that its row must contain
    ["ipvt", "one-based", "zero-based since 1.15", "ipvt - 1"],
    ["not finite", "`ier` 9", "`ier` 4"],
    ["exactly nfev and njev", "nfev + 2"],
    ["fresh float64 array", "views of solver memory"],
    ["read and copied", "reuses one output buffer"],
    ["complex, longdouble, object or 2-D", "TypeError or ValueError"],
    ["improper input", "uninitialised memory", "TypeError"],
    ["`diag` of the wrong length", "ValueError"],
], ids=lambda row: row[0])
def test_table_of_differences_has_every_difference(row):
    table = [line for line in DIFFERENCES.splitlines() if line.startswith("| ")]
    assert any(all(words in line for words in row) for line in table)


def test_the_readme_has_the_first_six_differences_and_ipvt_is_the_loudest():
    table = [line for line in README.partition("## Differences from SciPy")[2].splitlines() if line.startswith("| ")]
    whole = [line for line in DIFFERENCES.partition("## The whole table")[2].partition("\n## ")[0].splitlines()
             if line.startswith("| ")]
    assert table == whole[:8] and len(whole) > 20
    assert "ipvt" in table[2] and table[2].count("**") == 6


# ------------------------------------------- the first command, where tools are missing

SYSTEM_TOOLS = ["sh", "dirname", "cat", "cksum", "env", "find", "mktemp", "rm", "sort", "tail", "tr", "pwd", "make"]


@pytest.fixture
def machine(tmp_path):
    """A machine that has only Python and a C compiler: its PATH, and a way to add programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in SYSTEM_TOOLS:
        if found := shutil.which(name):
            (programs / name).symlink_to(found)

    class Machine:
        log = tmp_path / "log"

        def add(self, name, script):
            program = programs / name
            program.unlink(missing_ok=True)
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)

        def setup(self, target="demo", **environment):
            done = subprocess.run(
                ["sh", str(ROOT / "tools" / "setup.sh"), target], capture_output=True, text=True, timeout=60,
                stdin=subprocess.DEVNULL,
                env={"PATH": str(programs), "HOME": os.environ.get("HOME", "/"), "VENV": str(tmp_path / "venv"),
                     "TMPDIR": str(tmp_path)} | environment)
            assert not (tmp_path / "venv").exists()
            return done

        def calls(self):
            return self.log.read_text().splitlines() if self.log.exists() else []

    machine = Machine()
    python = Path(sys.executable)
    machine.add("python3", f'exec "{python}" "$@"')
    machine.add("cc", "exit 0")
    machine.add("id", "echo 1000")
    return machine


def assert_says_what_to_type(done, missing, why=""):
    assert done.returncode == 1
    assert why in done.stderr
    assert f"{missing} is missing" in done.stderr
    for advice in ("sudo apt-get update && sudo apt-get install gfortran", "sudo dnf install gcc gcc-gfortran",
                   "brew install gcc", "conda install -c conda-forge"):
        assert advice in done.stderr
    assert "Traceback" not in done.stderr


def test_without_gfortran_or_a_package_manager_it_says_what_to_type(machine):
    assert_says_what_to_type(machine.setup(), "gfortran", "(no apt-get, ")


def test_without_permission_it_installs_nothing(machine):
    machine.add("apt-get", f'echo "$@" >>"{machine.log}"')
    machine.add("sudo", "exit 1")
    assert_says_what_to_type(machine.setup(), "gfortran", "(not root, ")
    assert machine.calls() == []


def test_it_installs_nothing_when_told_so(machine):
    machine.add("apt-get", f'echo "$@" >>"{machine.log}"')
    machine.add("id", "echo 0")
    assert_says_what_to_type(machine.setup(SYSTEM_PACKAGES="no"), "gfortran", "(SYSTEM_PACKAGES=no)")
    assert machine.calls() == []


@pytest.mark.parametrize("sudo", [False, True], ids=["root", "sudo"])
def test_apt_refreshes_its_lists_when_the_first_try_fails(machine, sudo):
    machine.add("apt-get", f'echo "$@" >>"{machine.log}"; echo apt says no >&2; test "$1" = update')
    if sudo:
        machine.add("sudo", 'shift; "$@"')
    else:
        machine.add("id", "echo 0")
    done = machine.setup()
    install = "install -y --no-install-recommends gfortran"
    assert machine.calls() == [install, "update", install]
    assert "apt says no" in done.stderr
    assert_says_what_to_type(done, "gfortran")


@pytest.mark.parametrize("manager, call", [
    ("dnf", "install -y gcc-gfortran libgfortran-static"),
    ("apk", "add --no-cache gfortran"),
    ("pacman", "-Sy --needed --noconfirm gcc-fortran"),
    ("brew", "install gcc"),
])
def test_other_package_managers_get_their_own_commands(machine, manager, call):
    machine.add(manager, f'echo "$@" >>"{machine.log}"; exit 1')
    machine.add("id", "echo 0")
    assert_says_what_to_type(machine.setup(), "gfortran")
    assert machine.calls() == [call]


def test_a_compiler_that_compiles_nothing_does_not_count(machine):
    machine.add("gfortran", "exit 1")
    assert_says_what_to_type(machine.setup(), "gfortran")


def test_an_old_python_is_named(machine):
    machine.add("python3", 'test "$1" = --version && echo Python 3.9.2; exit 1')
    done = machine.setup()
    assert done.returncode == 1
    assert "needs Python 3.11 or newer; python3 here is Python 3.9.2" in done.stderr


def test_a_chosen_python_that_is_too_old_is_not_replaced(machine):
    machine.add("python3.9", 'test "$1" = --version && echo Python 3.9.2; exit 1')
    done = machine.setup(PYTHON="python3.9")
    assert done.returncode == 1
    assert "PYTHON=python3.9 is not a Python 3.11 or newer: Python 3.9.2" in done.stderr


def test_a_python_without_venv_is_named(machine):
    machine.add("python3", f'case "$2" in *ensurepip*) exit 1 ;; esac; exec "{sys.executable}" "$@"')
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert_says_what_to_type(machine.setup(), f"the venv module of python3 ({version})")
