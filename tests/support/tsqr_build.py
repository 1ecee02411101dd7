"""Build the row accumulator alone, once for each instruction set, and call it through ctypes.

test_tsqr.py and benchmarks/tsqr_kernel.py test and measure the kernels with it, without the
extension module.
"""
from __future__ import annotations

import ctypes
import fcntl
import pathlib
import platform
import shutil
import subprocess
import threading

import numpy as np

from kernels import MORE_FLAGS

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "fortran" / "kernels"
#: Each file comes after those whose modules it uses.
SOURCES = [f"{name}.F90" for name in (KERNELS / "order.txt").read_text(encoding="utf-8").split()]
#: Contraction to FMA is allowed: these kernels do not promise MINPACK's bits.
FLAGS = ["-std=f2018", "-Wall", "-Wextra", "-Werror", "-O3", "-ffp-contract=fast",
         "-fopenmp-simd", "-fPIC"]
#: As in fortran/meson.build.
ISA_FLAGS = {
    "baseline": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
#: Flags that /proc/cpuinfo must list, in addition to those of the level below.
ISA_NEEDS = {
    "baseline": set(),
    "v3": {"avx2", "fma", "bmi2"},
    "v4": {"avx2", "fma", "bmi2", "avx512f", "avx512vl", "avx512dq", "avx512bw", "avx512cd"},
}

LINE = 64                   # bytes of a cache line
#: What finish is told about the order of the columns, as in kernels.h.
UNKNOWN, LIKELY, PUSHED = range(3)
TYPES = {np.dtype(np.float64): 0, np.dtype(np.float32): 1}


def compiler() -> str | None:
    """The Fortran compiler, if there is one."""
    return shutil.which("gfortran")


def supported() -> list[str]:
    """The instruction sets this machine can run."""
    flags: set[str] = set()
    if platform.machine() == "x86_64":
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                flags = set(line.split(":")[1].split())
                break
    return [isa for isa, needs in ISA_NEEDS.items() if needs <= flags]


def build(isa: str, where: pathlib.Path, extra: tuple[str, ...] = ()) -> pathlib.Path:
    """Compile the shared library of one instruction set into `where`, once for all processes
    that share it."""
    where = pathlib.Path(where) / isa
    where.mkdir(parents=True, exist_ok=True)
    library = where / f"libtsqr_{isa}.so"
    with open(where / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _compile(isa, where, extra, library)
    return library


def _compile(isa: str, where: pathlib.Path, extra: tuple[str, ...], library: pathlib.Path) -> None:
    objects = []
    for name in SOURCES:
        target = where / (name + ".o")
        subprocess.run([compiler(), *FLAGS, *ISA_FLAGS[isa], *extra, *MORE_FLAGS, f"-DISA={isa}", f"-J{where}",
                        "-c", str(KERNELS / name), "-o", str(target)], check=True, cwd=where)
        objects.append(str(target))
    # gcc, not gfortran: the kernels need no Fortran run-time library (except unoptimised, with counters)
    linker = [compiler(), *MORE_FLAGS] if MORE_FLAGS else ["gcc"]
    subprocess.run([*linker, "-shared", "-Wl,--no-undefined", *objects, "-o", str(library), "-lc"], check=True)


def aligned(length: int, fill: float = np.nan) -> np.ndarray:
    """An array of doubles that starts on a cache line."""
    room = np.full(length + LINE // 8, fill)
    start = (-room.ctypes.data % LINE) // 8
    return room[start:start + length]


class Library:
    """The functions of one instruction set."""

    def __init__(self, path: pathlib.Path, isa: str) -> None:
        size, address = ctypes.c_int64, ctypes.c_void_p
        shared = ctypes.CDLL(str(path))

        def bind(name: str, result, *arguments):
            function = getattr(shared, f"{name}_{isa}")
            function.restype, function.argtypes = result, arguments
            return function

        self.isa = isa
        self.path = path
        self.work_size = bind("lsq_tsqr_work_size", size, size)
        self.empty = bind("lsq_tsqr_empty", None, size, address)
        self.push = bind("lsq_tsqr_push", None, size, size, address, size, size, size,
                         address, size, size, address, address)
        self.room_size = bind("lsq_tsqr_room_size", size, size)
        self.push_by = bind("lsq_tsqr_push_by", None, size, size, address, size, size, size,
                            address, size, size, address, address, address)
        self.merge = bind("lsq_tsqr_merge", None, size, address, address)
        self.finish = bind("lsq_tsqr_finish", None, size, address, address, size, address,
                           address, address, address, address, size)
        self.qrsolv = bind("lsq_tsqr_qrsolv", None, size, address, size, address, address,
                           address, address, address, address, address, address)
        self.covar = bind("lsq_tsqr_covar", size, size, address, size, address, ctypes.c_double,
                          address, address, address)
        self.norm = bind("lsq_norm", ctypes.c_double, size, address)


BODY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_void_p)
RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
COUNT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, *3 * [ctypes.c_int64])


class Team(ctypes.Structure):
    """lsq_team of kernels.h, made of Python threads; cancelled at check number `last`, if it gets there."""

    _fields_ = [("size", ctypes.c_int64), ("room_size", ctypes.c_int64), ("room", ctypes.c_void_p),
                ("run", RUN), ("await", COUNT), ("reach", COUNT)]

    def __init__(self, library: Library, n: int, size: int, last: int | None = None) -> None:
        length = (library.room_size(n) + LINE // 8 - 1) // (LINE // 8) * (LINE // 8)
        self.rooms = aligned(length * size)
        self.looks, self.last, self.cancelled = 0, last, False
        self.counters, self.changed = [0] * size, threading.Condition()
        super().__init__(size, length, self.rooms.ctypes.data, RUN(self.start), COUNT(self.wait),
                         COUNT(self.say))

    def look(self) -> bool:
        self.looks += 1
        if self.looks == self.last:
            self.cancelled = True
            self.changed.notify_all()
        return self.cancelled

    def start(self, team, body, data) -> None:
        self.counters[:] = [0] * self.size
        others = [threading.Thread(target=BODY(body), args=(k, data)) for k in range(1, self.size)]
        for other in others:
            other.start()
        BODY(body)(0, data)
        for other in others:
            other.join()

    def wait(self, team, number, whose, value) -> int:
        with self.changed:
            self.look()
            while not self.cancelled and self.counters[whose] < value:
                assert self.changed.wait(60), "the counter never reached the value waited for"
            return self.cancelled

    def say(self, team, number, whose, value) -> int:
        with self.changed:
            self.counters[whose] = value
            self.changed.notify_all()
            return self.look()


def places(order: np.ndarray) -> np.ndarray:
    """The inverse of a column order, both from 1."""
    return np.ascontiguousarray(np.argsort(order) + 1)


class Model:
    """What finish returns."""

    def __init__(self, n: int) -> None:
        self.r = np.full((n, n), np.nan, order="F")
        self.ipvt = np.zeros(n, np.int64)
        self.qtf = np.full(n, np.nan)
        self.column_norms = np.full(n, np.nan)
        self.rest = np.full(1, np.nan)

    @property
    def order(self) -> np.ndarray:
        return self.ipvt - 1


class Accumulator:
    """An accumulator with its workspace."""

    def __init__(self, library: Library, n: int) -> None:
        self.library, self.n = library, n
        self.work = aligned(library.work_size(n))
        library.empty(n, self.work.ctypes.data)

    def push(self, a: np.ndarray, f: np.ndarray | None = None, order: np.ndarray | None = None) -> Accumulator:
        """Append rows; with f None, the last column of `a` is f.  `order`: an ipvt, in which columns are pushed."""
        assert a.shape[1] == self.n + (f is None)
        where = None if order is None else places(order)        # (kept until the call returns)
        f_at = (None, 0, 0) if f is None else (f.ctypes.data, TYPES[f.dtype], f.strides[0])
        self.library.push(self.n, a.shape[0], a.ctypes.data, TYPES[a.dtype], *a.strides,
                          *f_at, self.work.ctypes.data, None if order is None else where.ctypes.data)
        return self

    def merge(self, other: Accumulator) -> Accumulator:
        self.library.merge(self.n, self.work.ctypes.data, other.work.ctypes.data)
        return self

    def finish(self, expected=None, known: int = LIKELY) -> Model:
        """`expected`: a column order (ipvt) that is tried first, or in which the columns were pushed."""
        model = Model(self.n)
        if expected is not None:
            model.ipvt[:] = expected
        used_up = aligned(len(self.work))
        used_up[:] = self.work
        self.library.finish(self.n, used_up.ctypes.data, model.r.ctypes.data, self.n,
                            model.ipvt.ctypes.data, model.qtf.ctypes.data,
                            model.column_norms.ctypes.data, model.rest.ctypes.data, None,
                            UNKNOWN if expected is None else known)
        return model
