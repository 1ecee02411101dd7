"""Our Fortran core without the extension module: compiled at a chosen optimisation level and called
through ctypes.

Codes, the state record and the columns of the machine's vectors are read from fortran/api/core.h.
Workspaces and outputs are filled with NaN and longer than they need to be, and the extra elements are checked
afterwards: this finds routines that read what they have not written, or write past the end.
"""
from __future__ import annotations

import ctypes as ct
import fcntl
import os
import re
import subprocess
from pathlib import Path

import numpy as np

from oracle import Result, read, write

ROOT = Path(__file__).resolve().parents[2]
#: Further flags for our Fortran: tools/coverage.sh adds counters.
MORE_FLAGS = os.environ.get("LEASTSQ_TEST_FFLAGS", "").split()
FORTRAN = ROOT / "fortran"
HEADER = FORTRAN / "api" / "core.h"

_i64, _dbl = ct.c_int64, ct.c_double
_pdbl, _pi64 = ct.POINTER(_dbl), ct.POINTER(_i64)
# (m, n, x, out, data) -> status, for residuals and Jacobians alike
CALLBACK = ct.CFUNCTYPE(ct.c_int, _i64, _i64, ct.c_void_p, ct.c_void_p, ct.c_void_p)


# ---------------------------------------------------------------------------
# the header


def _without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def header_codes():
    """{name: value} of every enumerator in core.h."""
    codes = {}
    for body in re.findall(r"enum\s*{(.*?)}", _without_comments(HEADER.read_text()), re.S):
        value = -1
        for item in filter(None, (part.strip() for part in body.split(","))):
            name, _, text = (part.strip() for part in item.partition("="))
            value = eval(text, {"__builtins__": {}}, codes) if text else value + 1
            codes[name] = value
    return codes


def _state_fields():
    text = _without_comments(HEADER.read_text())
    body = re.search(r"typedef struct\s*{(.*?)}\s*lsq_state\s*;", text, re.S).group(1)
    types = {"int64_t": _i64, "double": _dbl}
    fields = []
    for ctype, names in re.findall(r"\b(int64_t|double)\s+([^;]+);", body):
        fields += [(name.strip(), types[ctype]) for name in names.split(",")]
    return fields


CODES = header_codes()


class Differences(ct.Structure):
    """lsq_differences of core.h."""
    _fields_ = [("precision", ct.c_double), ("grows", ct.c_int64), ("lo", ct.c_void_p), ("hi", ct.c_void_p),
                ("largest", ct.c_void_p)]


class State(ct.Structure):
    """lsq_state."""
    _fields_ = _state_fields()


# ---------------------------------------------------------------------------
# building


def compile_order(files):
    """The sources, sorted so that each module comes before the files that use it."""
    provides, uses = {}, {}
    for path in files:
        text = path.read_text().lower()
        for name in re.findall(r"^\s*module\s+(?!procedure\b)(\w+)\s*(?:!.*)?$", text, re.M):
            provides[name] = path
        uses[path] = set(re.findall(r"^\s*use\s*(?:,\s*non_intrinsic\s*)?(?:::)?\s*(\w+)",
                                    text, re.M))
    order = []

    def visit(path):
        if path not in order:
            for name in sorted(uses[path] & provides.keys()):
                if provides[name] != path:
                    visit(provides[name])
            order.append(path)

    for path in sorted(files):
        visit(path)
    return order


def build(gfortran, level, folder, contraction="off"):
    """Compile fortran/**/*.f90 at `level`, flags in a string, into `folder`, once for all
    processes that share it; return the shared library's path."""
    target = Path(folder) / f"leastsq{level.replace(' ', '')}-{contraction}"
    target.mkdir(parents=True, exist_ok=True)
    library = target / "libcore.so"
    with open(target / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            sources = [*compile_order(list(FORTRAN.rglob("*.f90"))), FORTRAN / "kernels" / "lanes.F90"]
            partial = target / "partial.so"
            done = subprocess.run(
                [gfortran, *level.split(), f"-ffp-contract={contraction}", "-fPIC", "-std=f2018", "-shared",
                 "-DISA=core", "-fopenmp-simd", *MORE_FLAGS, f"-J{target}", "-o", partial, *sources],
                capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"gfortran {level} failed:\n{done.stderr}")
            partial.rename(library)
    return library


# ---------------------------------------------------------------------------
# comparison


def same_bits(a, b):
    """Assert equal bit patterns: -0.0 and 0.0 differ.  NaN equals NaN, because IEEE 754 leaves open
    which operand's payload and sign an operation propagates."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        return False
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return bool(np.all((a.view(np.int64) == b.view(np.int64)) | (np.isnan(a) & np.isnan(b))))


def assert_same_bits(got, want, what):
    if not same_bits(got, want):
        got, want = np.asarray(got, float), np.asarray(want, float)
        assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
        differ = np.argwhere(~((got == want) & (np.signbit(got) == np.signbit(want))
                               | np.isnan(got) & np.isnan(want)))
        at = tuple(int(k) for k in differ[0])
        raise AssertionError(f"{what}: {len(differ)} of {got.size} differ, first at {at}: "
                             f"{float(got[at]).hex()} wanted {float(want[at]).hex()}")


# ---------------------------------------------------------------------------
# arrays handed over

_TAIL = 7
_CANARY = -1.2345e-67


class _Room:
    """Arrays passed to the core; `check` verifies that nothing was written past their ends."""

    def __init__(self):
        self._lent = []

    def out(self, *shape):
        """A column-major array of NaN."""
        return self.inout(np.full(shape, np.nan))

    def inout(self, values):
        values = np.asarray(values, np.float64)
        whole = np.full(values.size + _TAIL, _CANARY)
        whole[:values.size] = values.ravel(order="F")
        self._lent.append((whole, values.size))
        return whole[:values.size].reshape(values.shape, order="F")

    def integers(self, values):
        values = np.asarray(values, np.int64)
        whole = np.full(values.size + _TAIL, -77, np.int64)
        whole[:values.size] = values
        self._lent.append((whole, values.size))
        return whole[:values.size]

    def check(self):
        for whole, size in self._lent:
            filler = _CANARY if whole.dtype == np.float64 else -77
            assert np.all(whole[size:] == filler), "written past the end of an array"


def _p(a):
    return a.ctypes.data_as(_pi64 if a.dtype == np.int64 else _pdbl)


class _User:
    """A Python function as a callback.  It records every x in `trace`, may return an int to
    stop the fit, and its exceptions are raised after the Fortran returns."""

    def __init__(self, m, n):
        self.m, self.n = m, n
        self.trace = []
        self.exception = None

    def wrap(self, function, kind):
        def call(m, n, x, out, data):
            try:
                assert (m, n) == (self.m, self.n)
                point = read(x, n)
                self.trace.append((kind, point))
                value = function(point.copy())
                if isinstance(value, (int, np.integer)):
                    return int(value)
                write(out, value, m if kind == 1 else m * n)
                return 0
            except BaseException as error:   # must not cross the Fortran frames
                self.exception = error
                return -999
        return CALLBACK(call)

    def finish(self):
        if self.exception is not None:
            raise self.exception


class Core:
    """The functions of core.h, with the signatures of the `oracle` module."""

    def __init__(self, path):
        self.path = Path(path)
        self.lib = lib = ct.CDLL(str(path))
        signatures = {
            "lsq_work_size": (_i64, [_i64, _i64]),
            "lsq_lmdif": (None, [
                CALLBACK, ct.c_void_p, _i64, _i64, _pdbl, _pdbl, _dbl, _dbl, _dbl, _i64, _dbl,
                _pdbl, _i64, _dbl, _pi64, _pi64, _pi64, _pdbl, _pi64, _pdbl, _pdbl]),
            "lsq_lmder": (None, [
                CALLBACK, CALLBACK, ct.c_void_p, _i64, _i64, _pdbl, _pdbl, _pdbl, _dbl, _dbl,
                _dbl, _i64, _pdbl, _i64, _dbl, _pi64, _pi64, _pi64, _pi64, _pdbl, _pdbl]),
            "lsq_start": (None, [ct.POINTER(State), _pdbl]),
            "lsq_tell_norm": (None, [
                ct.POINTER(State), _pdbl, _pdbl, _i64, _pi64, _dbl, _i64]),
            "lsq_tell_model": (None, [
                ct.POINTER(State), _pdbl, _pdbl, _i64, _pi64, _i64]),
            "lsq_enorm": (_dbl, [_i64, _pdbl]),
            "lsq_fdjac2": (None, [
                CALLBACK, ct.c_void_p, _i64, _i64, _pdbl, _pdbl, _pdbl, ct.POINTER(Differences), _pdbl,
                ct.POINTER(ct.c_int)]),
            "lsq_qrfac": (None, [
                _i64, _i64, _pdbl, _i64, _i64, _pi64, _pdbl, _pdbl, _pdbl, _pdbl]),
            "lsq_lanes_factor_core": (None, [
                _i64, _i64, _pdbl, _pdbl, _pi64, _pdbl, _pdbl, _pi64, _pdbl, _pi64]),
            "lsq_qrsolv": (None, [
                _i64, _pdbl, _i64, _pi64, _pdbl, _pdbl, _pdbl, _pdbl, _pdbl]),
            "lsq_lmpar": (None, [
                _i64, _pdbl, _i64, _pi64, _pdbl, _pdbl, _dbl, _pdbl, _pdbl, _pdbl, _pdbl,
                _pdbl]),
            "lsq_covar": (_i64, [_i64, _pdbl, _i64, _pi64, _dbl, _pdbl, _pdbl]),
            "lsq_chkder": (None, [
                _i64, _i64, _pdbl, _pdbl, _pdbl, _i64, _pdbl, _pdbl, _i64, _pdbl]),
            "lsq_tell_change": (None, [
                ct.POINTER(State), _pdbl, _pdbl, _i64, _pi64, _i64, ct.c_int, ct.c_void_p, ct.c_void_p]),
            "lsq_core_columns": (_i64, [_i64, _i64, _i64]),
            "lsq_free_covar": (_i64, [_i64, _pdbl, _i64, _pi64] + 6 * [_pdbl]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments

    # -- kernels

    def enorm(self, x):
        room = _Room()
        x = room.inout(np.ravel(x))
        value = self.lib.lsq_enorm(x.size, _p(x))
        room.check()
        return value

    def fdjac2(self, fun, x, fvec=None, epsfcn=0.0, lo=None, hi=None, largest=None, grows=False):
        """(fjac, trace, status)."""
        x = np.array(x, float)
        fvec = np.array(fun(x.copy()) if fvec is None else fvec, float)
        m, n = fvec.size, x.size
        if lo is not None and largest is None:
            largest = np.abs(x)
        user, room = _User(m, n), _Room()
        xs, fs = room.inout(x), room.inout(fvec)
        fjac, xwork = room.out(m, n), room.out(n)
        status = ct.c_int(-12345)
        limits = [None if b is None else room.inout(b) for b in (lo, hi, largest)]
        how = Differences(epsfcn, grows, *(None if b is None else b.ctypes.data for b in limits))
        self.lib.lsq_fdjac2(user.wrap(fun, 1), None, m, n, _p(xs), _p(fs), _p(fjac),
                            ct.byref(how), _p(xwork), ct.byref(status))
        user.finish()
        room.check()
        assert_same_bits(xs, x, "fdjac2 must leave x alone")
        assert_same_bits(fs, fvec, "fdjac2 must leave fvec alone")
        return fjac, user.trace, status.value

    def qrfac(self, a, pivot=True, b=None, lda=None):
        """(a, ipvt, rdiag, acnorm), followed by Q'b if b is given."""
        a = np.asarray(a, float)
        m, n = a.shape
        lda = m if lda is None else lda
        room = _Room()
        tall = np.full((lda, n), _CANARY)
        tall[:m] = a
        tall = room.inout(tall)
        rdiag, acnorm, wa = room.out(n), room.out(n), room.out(n)
        ipvt = room.integers(np.full(n, -1))
        rhs = None if b is None else room.inout(b)
        self.lib.lsq_qrfac(m, n, _p(tall), lda, int(pivot), _p(ipvt), _p(rdiag), _p(acnorm),
                           _p(wa), None if rhs is None else _p(rhs))
        room.check()
        assert np.all(tall[m:] == _CANARY), "qrfac wrote below the matrix"
        out = tall[:m].copy(order="F"), ipvt, rdiag, acnorm
        return out if b is None else (*out, rhs)

    def qrfac_lanes(self, matrices, rhs, order):
        """For each of LSQ_LANES matrices whose columns come in its `order`, from 0: (R
        above the diagonal, ipvt, rdiag, acnorm, Q'b), or None if it was not done."""
        m, n = matrices[0].shape
        room = _Room()
        lanes = CODES["LSQ_LANES"]
        a = room.inout(np.stack([matrix[:, k] for matrix, k in zip(matrices, order)]))
        b, ipvt = room.inout(rhs), room.integers(np.ravel(order, order="F") + 1)
        rdiag, acnorm, work = room.out(lanes, n), room.out(lanes, n), room.out(3 * lanes * n)
        plain, places = room.integers(np.full(lanes, -1)), room.integers(np.full(n, -1))
        self.lib.lsq_lanes_factor_core(m, n, _p(a), _p(b), _p(ipvt), _p(rdiag), _p(acnorm), _p(plain), _p(work),
                                       _p(places))
        room.check()
        ipvt = ipvt.reshape(n, lanes).T
        norms = np.empty_like(acnorm)
        np.put_along_axis(norms, np.asarray(order), acnorm, axis=1)
        return [(np.triu(a[q, :n], 1), ipvt[q], rdiag[q], norms[q], b[q]) if plain[q] else None
                for q in range(lanes)]

    def qrsolv(self, r, ipvt, diag, qtb):
        """(r, x, sdiag)."""
        n = len(ipvt)
        room = _Room()
        r, ipvt = room.inout(r), room.integers(ipvt)
        diag, qtb = room.inout(diag), room.inout(qtb)
        x, sdiag, wa = room.out(n), room.out(n), room.out(n)
        self.lib.lsq_qrsolv(n, _p(r), r.shape[0], _p(ipvt), _p(diag), _p(qtb), _p(x),
                            _p(sdiag), _p(wa))
        room.check()
        return r, x, sdiag

    def lmpar(self, r, ipvt, diag, qtb, delta, par=0.0):
        """(r, par, x, sdiag)."""
        n = len(ipvt)
        room = _Room()
        r, ipvt = room.inout(r), room.integers(ipvt)
        diag, qtb = room.inout(diag), room.inout(qtb)
        x, sdiag, wa1, wa2 = (room.out(n) for _ in range(4))
        par = ct.c_double(par)
        self.lib.lsq_lmpar(n, _p(r), r.shape[0], _p(ipvt), _p(diag), _p(qtb), delta,
                           ct.byref(par), _p(x), _p(sdiag), _p(wa1), _p(wa2))
        room.check()
        return r, par.value, x, sdiag

    def chkder(self, x, fvec, fjac, fvecp):
        room = _Room()
        x, fvec, fjac, fvecp = (room.inout(a) for a in (x, fvec, np.atleast_2d(fjac), fvecp))
        err = room.out(fvec.size)
        self.lib.lsq_chkder(fvec.size, x.size, _p(x), _p(fvec), _p(fjac), fvec.size, None, _p(fvecp),
                            2, _p(err))
        room.check()
        return err

    def chkder_point(self, x):
        room = _Room()
        x = room.inout(x)
        xp = room.out(x.size)
        self.lib.lsq_chkder(1, x.size, _p(x), None, None, 1, _p(xp), None, 1, None)
        room.check()
        return xp

    def covar(self, r, ipvt, tol=0.0):
        """(covariance, rank)."""
        n = len(ipvt)
        room = _Room()
        given = np.array(r, float)
        r, ipvt = room.inout(given), room.integers(ipvt)
        cov, work = room.out(n, n), room.out(n, n)
        rank = self.lib.lsq_covar(n, _p(r), r.shape[0], _p(ipvt), tol, _p(cov), _p(work))
        room.check()
        assert_same_bits(r, given, "covar must leave r alone")
        return cov, rank

    # -- whole fits

    def lmdif(self, fun, x0, *, m, ftol, xtol, gtol=0.0, maxfev=None, epsfcn=0.0, diag=None,
              factor=100.0):
        return self._fit(fun, None, x0, m, ftol, xtol, gtol, maxfev, epsfcn, diag, factor)

    def lmder(self, fun, jac, x0, *, m, ftol, xtol, gtol=0.0, maxfev=None, diag=None,
              factor=100.0):
        return self._fit(fun, jac, x0, m, ftol, xtol, gtol, maxfev, 0.0, diag, factor)

    def _fit(self, fun, jac, x0, m, ftol, xtol, gtol, maxfev, epsfcn, diag, factor):
        room = _Room()
        x = room.inout(np.ravel(x0))
        n = x.size
        if maxfev is None:
            maxfev = (200 if jac is None else 100) * (n + 1)
        mode = CODES["LSQ_SCALE_COLUMNS" if diag is None else "LSQ_SCALE_USER"]
        diag = room.out(n) if diag is None else room.inout(diag)
        fvec, fjac, qtf = room.out(m), room.out(m, n), room.out(n)
        ipvt = room.integers(np.full(n, -1))
        work = room.out(self.lib.lsq_work_size(m, n))
        info, nfev, njev = (_i64(-12345) for _ in range(3))
        counts = ct.byref(info), ct.byref(nfev), ct.byref(njev)
        user = _User(m, n)
        residual = user.wrap(fun, 1)
        if jac is None:
            self.lib.lsq_lmdif(
                residual, None, m, n, _p(x), _p(fvec), ftol, xtol, gtol, maxfev, epsfcn,
                _p(diag), mode, factor, *counts, _p(fjac), _p(ipvt), _p(qtf), _p(work))
        else:
            self.lib.lsq_lmder(
                residual, user.wrap(jac, 2), None, m, n, _p(x), _p(fvec), _p(fjac), ftol,
                xtol, gtol, maxfev, _p(diag), mode, factor, *counts, _p(ipvt), _p(qtf),
                _p(work))
        user.finish()
        room.check()
        return Result(x, fvec, info.value, nfev.value, njev.value, fjac, ipvt, ipvt - 1, qtf,
                      diag, user.trace)

    # -- the machine

    def machine(self, n, **state):
        """`state`: bounded, strategy, changes."""
        return Machine(self, n, **state)


class Machine:
    """The ask/tell machine and the arrays that its caller owns.  `state` is the record;
    `vector("QTF")` and `triangle` are views for reading and filling."""

    def __init__(self, core, n, bounded=0, strategy=0, changes=0):
        self.lib, self.n = core.lib, n
        self.state = State(n=n, bounded=bounded, strategy=strategy, changes=changes)
        self._room = _Room()
        rows = max(n, 0)
        self._base = core.lib.lsq_core_columns(rows, bounded, 0)
        self._w = self._room.out(rows, core.lib.lsq_core_columns(rows, bounded, strategy))
        self.triangle = self._room.out(rows, rows)
        self.ipvt = self._room.integers(np.arange(1, rows + 1))

    def vector(self, name):
        return self._w[:, (self._base if name.startswith("C_") else 0) + CODES["LSQ_" + name]]

    def start(self):
        self.lib.lsq_start(ct.byref(self.state), _p(self._w))
        self._room.check()

    def tell_norm(self, fnorm, cost=1):
        self.lib.lsq_tell_norm(ct.byref(self.state), _p(self._w), _p(self.triangle),
                               max(self.n, 1), _p(self.ipvt), fnorm, cost)
        self._room.check()

    def tell_model(self, cost=0):
        self.lib.lsq_tell_model(ct.byref(self.state), _p(self._w), _p(self.triangle),
                                max(self.n, 1), _p(self.ipvt), cost)
        self._room.check()

    def tell_change(self, change, cost=0):
        """n numbers, or None."""
        if change is not None:
            self.vector("C_CHANGE")[:] = change
        self.lib.lsq_tell_change(ct.byref(self.state), _p(self._w), _p(self.triangle), max(self.n, 1), _p(self.ipvt),
                                 cost, int(change is not None), None, None)
        self._room.check()
