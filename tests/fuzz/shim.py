"""Coverage-guided fuzz of the C shim's arguments: bytes become shapes, types and odd objects.

    tests/fuzz/shim.sh -max_total_time=600

builds the shim with clang's coverage and address sanitizer and runs this file under atheris
(from PyPI).  A fit may end in a result or in an ordinary exception; anything else (a
SystemError, a crash, a report of the sanitizer, a changed argument) is a finding.
"""
from __future__ import annotations

import array
import ctypes
import pickle
import sys
import warnings

import atheris
import numpy as np

import leastsq
from leastsq import _core

ALLOWED = (TypeError, ValueError, OverflowError, MemoryError, BufferError, RuntimeError, ZeroDivisionError,
           IndexError, np.exceptions.ComplexWarning)
TYPES = ["f8", "f4", "f2", ">f8", "i1", "i8", "u8", "?", "c16", "g", "O", "U3", "S2", "M8[s]", "f8,i4", "V3"]


class Subclass(np.ndarray):
    def __array_finalize__(self, parent):
        self.kept = parent


class ArrayRaises:
    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("mine")


class ArrayLies:
    def __array__(self, dtype=None, copy=None):
        return [1, 2]


class LengthLies(list):
    def __len__(self):
        return 99


class ItemRaises(list):
    def __getitem__(self, k):
        raise IndexError("mine")

    __iter__ = None


class FloatOnly:
    def __float__(self):
        return 1.0


class IndexRaises:
    def __index__(self):
        raise ZeroDivisionError("mine")


class Interface:
    """An object with an __array_interface__ to its own memory."""
    def __init__(self, size, typestr):
        self.memory = (ctypes.c_double*8)(1.0, 2.0, 3.0)
        self.__array_interface__ = {"shape": (size,), "typestr": typestr, "version": 3,
                                    "data": (ctypes.addressof(self.memory), False)}


def thing(data, depth=0):
    """An object to pass, or to return."""
    kind = data.ConsumeIntInRange(0, 19)
    if kind <= 7:
        shape = [data.ConsumeIntInRange(0, 4) for _ in range(data.ConsumeIntInRange(0, 3))]
        try:
            made = np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(data.PickValueInList(TYPES))
        except (TypeError, ValueError):
            made = np.ones(shape)
        how = data.ConsumeIntInRange(0, 7)
        if how == 1:
            made = made.T
        elif how == 2:
            made = made[..., ::-1] if made.ndim else made
        elif how == 3:
            made = made.view(Subclass)
        elif how == 4:
            made = np.ma.array(made)
        elif how == 5:
            made = np.broadcast_to(made, (2, *made.shape))
        elif how == 6:
            made.flags.writeable = False
        elif how == 7 and made.ndim == 1 and made.dtype == float:
            made = np.frombuffer(b"\0" + made.tobytes(), np.uint8)[1:].view(float)      # not aligned
        return made
    if kind == 8 and depth < 3:
        return [thing(data, depth + 1) for _ in range(data.ConsumeIntInRange(0, 4))]
    if kind == 9:
        return data.ConsumeRegularFloat()
    if kind == 10:
        return data.ConsumeInt(8)
    return data.PickValueInList([
        None, True, "text", b"bytes", 1j, 2**80, float("nan"), float("inf"), (1.0, 2.0), array.array("d", [1, 2, 3]),
        memoryview(np.arange(3.0)), {}, ArrayRaises(), ArrayLies(), LengthLies([1.0, 2.0]), ItemRaises([1.0]),
        FloatOnly(), IndexRaises(), Interface(2, "<f8"), Interface(3, "<f4"), object(), np.float32(2), np.array(3.0),
        np.True_, [1.0, "x"], [[1.0], [1.0, 2.0]], range(3)])


def functions(data):
    """func and Dfun: correct, odd, or odd now and then."""
    m, at = data.ConsumeIntInRange(1, 6), data.ConsumeIntInRange(0, 12)
    odd, nest = thing(data), data.ConsumeIntInRange(0, 9) == 0
    kind, odd_jacobian = data.ConsumeIntInRange(0, 5), thing(data)
    calls = [0]

    def func(x, *args):
        calls[0] += 1
        if calls[0] == at:
            if nest:
                leastsq.leastsq(lambda y: y - 1, [3.0])
            return odd
        values = np.ravel(x)
        return np.resize(values*values - 2, m) + 0.1*np.arange(m)

    def Dfun(x, *args):
        if kind == 0 or calls[0] == at:
            return odd_jacobian
        jacobian = np.zeros((m, x.size), order="CF"[kind % 2])
        jacobian[np.arange(m), np.arange(m) % x.size] = 2*np.ravel(x)[np.arange(m) % x.size]
        return jacobian if kind < 4 else jacobian.astype(np.float32)

    return (odd if at == 12 else func), (None if kind == 5 else odd if at == 11 else Dfun)


def fit(data):
    func, Dfun = functions(data)
    options = {"Dfun": Dfun, "full_output": data.ConsumeBool(), "maxfev": 40}
    x0 = thing(data) if data.ConsumeBool() else np.ones(data.ConsumeIntInRange(1, 4))
    for name in ("args", "col_deriv", "ftol", "xtol", "gtol", "maxfev", "epsfcn", "factor", "diag", "full_output",
                 "qr", "threads", "bounds", "loss", "f_scale"):
        if data.ConsumeIntInRange(0, 9) == 0:
            options[name] = thing(data)
    if data.ConsumeIntInRange(0, 3) == 0:
        options["qr"] = data.PickValueInList(["minpack", "blocked"])
    if type(options["maxfev"]) is int and options["maxfev"] > 1000:
        options["maxfev"] = 40                  # numbers may be odd, but no fit may take hours
    before = x0.tobytes() if type(x0) is np.ndarray and x0.dtype != object else None
    try:
        out = leastsq.leastsq(func, x0, **options)
    except ALLOWED:
        out = None
    if before is not None and x0.tobytes() != before:
        raise AssertionError("x0 was written to")
    if out is not None and not (out[0].dtype == float and out[0].ndim == 1
                                and out[-1] in range(out[0].size > 0, 11)):      # 0: no parameters
        raise AssertionError(f"odd result {out}")


def curve(data):
    """A model with its data, called by itself and by `curve_fit`."""
    func, Dfun = functions(data)
    model, jac = (lambda x, *p: func(np.array(p))), Dfun and (lambda x, *p: Dfun(np.array(p)))
    odd = [thing(data) if data.ConsumeIntInRange(0, 2) == 0 else np.ones(data.ConsumeIntInRange(1, 6)) for _ in range(4)]
    if data.ConsumeBool():
        made = _core.Curve(model, *(None if data.ConsumeIntInRange(0, 3) == 0 else value for value in odd[:3]))
        for _ in range(2):
            made(odd[3])
        leastsq.leastsq(made, odd[3], Dfun=_core.Curve(jac, odd[0], None, odd[2]) if jac else None, maxfev=40)
    else:
        leastsq.curve_fit(model, odd[0], odd[1], np.ones(2) if data.ConsumeBool() else odd[3],
                          odd[2] if data.ConsumeBool() else None, jac=jac, maxfev=40, full_output=data.ConsumeBool())


def affordable(value):
    """A number of parameters, but none with which a fit would be slow."""
    return value % 99 if type(value) is int and 1000 < value < 2**60 else value


def changed(data, made):
    """Restore an object from a pickle in which a byte or a part was changed."""
    make, parts, *rest = made.__reduce__()
    parts, at = list(parts), data.ConsumeIntInRange(0, 3)
    for values in (parts, rest):
        if at < len(values):
            if isinstance(values[at], bytes) and values[at] and data.ConsumeBool():
                spoiled, k = bytearray(values[at]), data.ConsumeIntInRange(0, len(values[at]) - 1)
                spoiled[k] ^= data.ConsumeIntInRange(0, 255)
                values[at] = bytes(spoiled)
            elif data.ConsumeBool():
                values[at] = affordable(thing(data))
    made = make(*parts)
    if rest and rest[0] is not None:
        made.__setstate__(rest[0])
    return made


def rows(data):
    """A `RowAccumulator`, pushed to, merged and pickled."""
    n = data.ConsumeIntInRange(1, 4)
    made = leastsq.RowAccumulator(affordable(thing(data)) if data.ConsumeIntInRange(0, 9) == 0 else n)
    for _ in range(data.ConsumeIntInRange(0, 4)):
        kind, k = data.ConsumeIntInRange(0, 5), data.ConsumeIntInRange(0, 6)
        if kind == 0:
            made.push(thing(data), thing(data))
        elif kind == 1:
            made.merge(thing(data))
        elif kind == 2:
            made = changed(data, made)
        elif kind == 3:
            made.merge(pickle.loads(pickle.dumps(made)))
        else:
            made.push(np.ones((k, n), "f8" if kind == 5 else "f4"), np.ones(k))
    repr((made, made.rows, made.n))


def machine(data):
    """An ask/tell fit that is told correct and odd values."""
    n = data.ConsumeIntInRange(1, 3)
    options = {name: thing(data) for name in ("ftol", "xtol", "gtol", "maxfev", "factor", "diag", "bounds", "epsfcn")
               if data.ConsumeIntInRange(0, 9) == 0}
    made = leastsq.LevenbergMarquardt(thing(data) if data.ConsumeIntInRange(0, 9) == 0 else np.ones(n), **options)
    for _ in range(data.ConsumeIntInRange(0, 12)):
        kind, x = data.ConsumeIntInRange(0, 9), made.x_eval
        if kind == 0:
            made.tell_norm(thing(data), data.ConsumeIntInRange(-1, 3))
        elif kind == 1:
            made.tell_model(thing(data), thing(data), evaluations=data.ConsumeIntInRange(-1, 3))
        elif kind == 2:
            made = changed(data, made)
        elif made.request == "norm":
            made.tell_norm(x*x - 2)
        elif made.request == "model":
            made.points()
            made.tell_model(np.diag(2*x), x*x - 2)
    repr((made, made.message, made.cov_x, made.fault, made.active_mask))


def one_input(data):
    data = atheris.FuzzedDataProvider(data)
    kind = data.ConsumeIntInRange(0, 7)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if kind < 3:
            fit(data)
            return
        try:
            (curve, curve, rows, machine, machine)[kind - 3](data)
        except (*ALLOWED, AttributeError):              # AttributeError comes from np.ma, if a model returns 1j
            pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
