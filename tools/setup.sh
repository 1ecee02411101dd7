#!/bin/sh
# Make .venv with leastsq built into it: tools/setup.sh demo|test|bench|clients|wheels|lint|docs|cookbook
#
# Finds Python, the C and Fortran compilers and Python's headers.  What is missing is
# installed through the system's package manager if that is permitted (root, or sudo
# without a password); otherwise this prints what to type.  Then it makes a virtual
# environment and installs the build requirements, what the target needs, and leastsq.
# Steps that are up to date are skipped, so a second run takes a second.
#
# Settings (environment, or `make test NAME=value`):
#   PYTHON           interpreter to build for       (default: the first >= 3.11 found)
#   VENV             directory of the environment   (default: .venv)
#   SYSTEM_PACKAGES  `no`: never install any        (default: yes)
#   CC, FC           compilers                      (default: cc or gcc, gfortran)
set -eu

cd "$(dirname "$0")/.."
target=${1:?usage: tools/setup.sh demo|test|bench|clients|wheels|lint|docs|cookbook}
case $target in demo | test | bench | clients | wheels | docs | lint | cookbook) ;; *) echo "setup: unknown target '$target'" >&2; exit 2 ;; esac
VENV=${VENV:-.venv}
SYSTEM_PACKAGES=${SYSTEM_PACKAGES:-yes}

say() { echo "setup: $*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# ------------------------------------------------- the system's package manager

manager=none
for candidate in apt-get dnf apk pacman brew; do
    if have "$candidate"; then manager=$candidate; break; fi
done

# How to become root: nothing to do, sudo without a password, or impossible.
as_root=
may_install=no
if [ "$SYSTEM_PACKAGES" != no ] && [ "$manager" != none ]; then
    if [ "$manager" = brew ] || [ "$(id -u)" = 0 ]; then
        may_install=yes
    elif have sudo && sudo -n true 2>/dev/null; then
        may_install=yes
        as_root="sudo -n"
    fi
fi

why=
if [ "$SYSTEM_PACKAGES" = no ]; then
    why=" (SYSTEM_PACKAGES=no)"
elif [ "$manager" = none ]; then
    why=" (no apt-get, dnf, apk, pacman or brew)"
elif [ "$may_install" = no ]; then
    why=" (not root, and sudo asks for a password or is not there)"
fi

# The name of a package in this system.
# $1: fortran, c, python, venv, headers, oracle, reference, browser
package() {
    case $manager:$1 in
        apt-get:fortran) echo gfortran ;;
        apt-get:c) echo gcc libc6-dev ;;
        apt-get:python) echo python3 python3-venv python3-dev ;;
        apt-get:venv) echo "python$python_version-venv" ;;
        apt-get:headers) echo "python$python_version-dev" ;;
        apt-get:oracle) echo libminpack1 ;;
        apt-get:reference) echo minpack-dev ;;
        apt-get:browser | dnf:browser | apk:browser | pacman:browser) echo chromium ;;
        dnf:fortran) echo gcc-gfortran libgfortran-static ;;
        dnf:c) echo gcc ;;
        dnf:python) echo python3 python3-devel ;;
        dnf:headers) echo python3-devel ;;
        dnf:oracle) echo minpack ;;
        apk:fortran) echo gfortran ;;
        apk:c) echo gcc musl-dev ;;
        apk:python) echo python3 python3-dev ;;
        apk:headers) echo python3-dev ;;
        pacman:fortran) echo gcc-fortran ;;
        pacman:c) echo gcc ;;
        pacman:python) echo python ;;
        brew:fortran | brew:c) echo gcc ;;
        brew:python) echo python3 ;;
    esac
}

# Install packages; prints nothing, or if it fails the last lines of the manager's output.
install_packages() {
    say "installing $* with $manager ..."
    log=$(mktemp)
    if run_manager "$@" >"$log" 2>&1 </dev/null; then rm -f "$log"; return 0; fi
    tail -n 5 "$log" >&2
    rm -f "$log"
    return 1
}

run_manager() {
    case $manager in
        apt-get)
            # On a fresh machine the package lists are empty or old: try, refresh them, try again.
            apt_install "$@" || { $as_root apt-get update && apt_install "$@"; } ;;
        dnf) $as_root dnf install -y "$@" ;;
        apk) $as_root apk add --no-cache "$@" ;;
        pacman) $as_root pacman -Sy --needed --noconfirm "$@" ;;
        brew) brew install "$@" ;;
    esac
}

apt_install() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }

# $1: what is missing, $2: its kind (see package).  Installs it, or exits with advice.
require() {
    names=$(package "$2")
    # shellcheck disable=SC2086  # several package names are several words
    if [ "$may_install" = yes ] && [ -n "$names" ] && install_packages $names; then return 0; fi
    advise "$1"
}

advise() {
    {
        echo "setup: $1 is missing, and could not be installed from here$why."
        echo "setup: install what leastsq is built with, then run make again:"
        echo "    Debian, Ubuntu:  sudo apt-get update && sudo apt-get install gfortran gcc libc6-dev python3-dev python3-venv"
        echo "    Fedora, RHEL:    sudo dnf install gcc gcc-gfortran libgfortran-static python3-devel"
        echo "    macOS:           brew install gcc python3"
        echo "    conda:           conda install -c conda-forge c-compiler fortran-compiler python"
    } >&2
    exit 1
}

# --------------------------------------------------------------------- Python

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        python=$PYTHON
        new_enough "$python"
        return
    fi
    for candidate in python3 python3.15 python3.14 python3.13 python3.12 python3.11; do
        if have "$candidate" && new_enough "$candidate"; then python=$candidate; return 0; fi
    done
    return 1
}

if ! find_python; then
    if [ -n "${PYTHON:-}" ]; then
        say "PYTHON=$PYTHON is not a Python 3.11 or newer: $("$PYTHON" --version 2>&1 || true)" >&2
        exit 1
    elif ! have python3; then
        require "Python" python
    fi
    if ! find_python; then
        say "leastsq needs Python 3.11 or newer; python3 here is $(python3 --version 2>&1)." >&2
        say "Install a newer one beside it (Ubuntu 22.04: sudo apt-get install python3.11 python3.11-venv python3.11-dev)" >&2
        say "and run make again, with PYTHON=/path/to/python if it is not on PATH." >&2
        exit 1
    fi
fi
python_version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

has_venv() { "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; }
has_headers() {
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}
has_venv || require "the venv module of $python ($python_version)" venv
has_venv || advise "the venv module of $python ($python_version)"

# ------------------------------------------------------------------ compilers

# A compiler counts only if it can build a program: one without libc's headers cannot.
builds_c() {
    for compiler in ${CC:-cc gcc}; do
        have "$compiler" && compiles "$compiler" c '#include <stdio.h>
int main(void) { return 0; }' && return 0
    done
    return 1
}
builds_fortran() { have "${FC:-gfortran}" && compiles "${FC:-gfortran}" f90 'end'; }
compiles() {
    scratch=$(mktemp -d)
    printf '%s\n' "$3" >"$scratch/probe.$2"
    result=0
    "$1" -o "$scratch/probe" "$scratch/probe.$2" >/dev/null 2>&1 || result=1
    rm -rf "$scratch"
    return $result
}

builds_c || require "a C compiler" c
builds_fortran || require "gfortran" fortran
has_headers || require "Python's C header (Python.h of $python, $python_version)" headers
builds_c || advise "a working C compiler"
builds_fortran || advise "a working gfortran"
has_headers || advise "Python's C header (Python.h of $python, $python_version)"

# ---------------------------------------------------- the virtual environment

# $1: name of a step, $2: what its result depends on.  A step writes this to a stamp, and is
# skipped if it has not changed.
done_before() { [ -f "$VENV/.done-$1" ] && [ "$(cat "$VENV/.done-$1")" = "$2" ]; }
remember() { printf '%s\n' "$2" >"$VENV/.done-$1"; }

identity=$("$python" -c 'import sys; print(sys.version, sys.base_prefix)' | tr '\n' ' ')
if ! done_before venv "$identity" || ! "$VENV/bin/python" -c '' 2>/dev/null; then
    say "making $VENV with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
    remember venv "$identity"
fi
PATH=$(cd "$VENV/bin" && pwd):$PATH         # meson-python looks for meson and ninja on PATH
export PATH
export PIP_DISABLE_PIP_VERSION_CHECK=1

# The requirements in pyproject.toml, one on each line.  $1: build, an extra or a group
requirements() {
    python - "$1" <<'PYTHON'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
if sys.argv[1] == "build":      # meson-python asks for ninja only while it builds
    wanted = project["build-system"]["requires"] + project["project"].get("dependencies", []) + ["ninja"]
else:
    wanted = (project["project"]["optional-dependencies"] | project["dependency-groups"])[sys.argv[1]]
print("\n".join(wanted))
PYTHON
}

# $1: build, an extra or a group
install_requirements() {
    wanted=$(requirements "$1") || return 1
    if ! done_before "requirements-$1" "$wanted"; then
        say "installing what pyproject.toml lists under $1"
        echo "$wanted" >"$VENV/requirements-$1.txt"
        python -m pip install --quiet -r "$VENV/requirements-$1.txt" </dev/null || return 1
        remember "requirements-$1" "$wanted"
    fi
}

install_requirements build
case $target in
    demo) install_requirements plot || say "no matplotlib: there will be no picture" ;;
    bench)
        install_requirements test && { install_requirements plot || say "no matplotlib: there will be no chart"; }
        install_requirements bench || say "no hyperspy or DIPY: they will not be measured" ;;
    docs)
        install_requirements docs
        if ! have chromium && ! have chromium-browser && ! have google-chrome && [ -z "${CHROMIUM:-}" ]; then
            names=$(package browser)
            { [ "$may_install" = yes ] && [ -n "$names" ] && install_packages "$names"; } ||
                say "no Chromium: the pages will be built, but not checked"
        fi ;;
    lint) install_requirements lint ;;
    cookbook) install_requirements cookbook ;;
    clients) exit ;;                                    # tools/clients.py builds, into an environment of its own
    wheels) install_requirements wheels; exit ;;        # tools/wheels.py builds
    test) install_requirements test && { install_requirements plot || say "no matplotlib: no test of the picture"; } ;;
esac

# ------------------------------------- MINPACK itself, for engine="reference"

# The build includes the original where its library is available.  The tests compare with it;
# without it they skip, or fail if LEASTSQ_REQUIRE_ORACLE is set.
has_reference() { [ -f "$("${FC:-gfortran}" -print-file-name=libminpack.a)" ]; }
if [ "$target" = test ] && ! has_reference; then
    names=$(package reference)
    if [ "$may_install" = yes ] && [ -n "$names" ] &&
            { [ "${LEASTSQ_REQUIRE_ORACLE:-0}" != 0 ] || ! done_before reference "not to be had"; }; then
        # shellcheck disable=SC2086
        install_packages $names || remember reference "not to be had"
    fi
fi
reference=no
if has_reference; then reference=yes; fi

# ------------------------------------------------------------- leastsq itself

# A normal install, as users have it.  An editable install checks for a rebuild at import,
# and parallel test processes would all do so at once.
inputs=$(find fortran src -type f ! -path '*/__pycache__/*' ! -name '*.pyc' -exec cksum {} + | sort -k 3)
inputs="$inputs
$(cksum pyproject.toml meson.build meson.options README.md LICENSE 2>/dev/null || true)
CC=${CC:-} FC=${FC:-} CFLAGS=${CFLAGS:-} FFLAGS=${FFLAGS:-} LDFLAGS=${LDFLAGS:-} reference=$reference"
# In an old build directory Meson refuses options that have been added since.
options=$(cksum meson.options)
if ! done_before options "$options"; then
    rm -rf "$VENV/build"
    remember options "$options"
fi
if ! done_before build "$inputs"; then
    say "building leastsq"
    build_log=$(mktemp)
    if ! python -m pip install --no-build-isolation --no-deps --force-reinstall \
            --config-settings=build-dir="$VENV/build" \
            --config-settings=setup-args=-Dreference=auto . >"$build_log" 2>&1 </dev/null; then
        cat "$build_log" >&2
        rm -f "$build_log"
        say "leastsq did not build: the compiler's messages are above" >&2
        exit 1
    fi
    rm -f "$build_log"
    remember build "$inputs"
fi

# ------------------------------------------------- the reference, for the tests

# MINPACK itself, with which the parity tests compare.  It is not available everywhere: without
# it those tests skip, or fail if LEASTSQ_REQUIRE_ORACLE is set.
has_oracle() { python -c 'import ctypes; ctypes.CDLL("libminpack.so.1")' 2>/dev/null; }
if [ "$target" = test ] && ! has_oracle; then
    names=$(package oracle)
    if [ "$may_install" = yes ] && [ -n "$names" ] &&
            { [ "${LEASTSQ_REQUIRE_ORACLE:-0}" != 0 ] || ! done_before oracle "not to be had"; }; then
        # shellcheck disable=SC2086
        install_packages $names || remember oracle "not to be had"
    fi
    has_oracle || say "no libminpack.so.1: tests against the original MINPACK will be skipped" \
        "(Debian, Ubuntu: sudo apt-get install libminpack1)"
fi
