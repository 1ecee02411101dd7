"""Compiled residuals and Jacobians: pointers in place of Python functions."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

import numpy as np

from . import _core

__all__ = ["CFunction", "get_include", "handles"]

# LEASTSQ_SIGNATURE of include/leastsq.h
_SIGNATURE = "int (int64_t, int64_t, const double *, double *, void *)"
_ACCEPTED = ("a ctypes function pointer, a cffi function pointer, a numba cfunc, a PyCapsule "
             "named by its signature or a scipy.LowLevelCallable")


def get_include():
    """
    Directory of the header ``leastsq.h``, for the C compiler's ``-I``.

    Returns
    -------
    str

    Examples
    --------
    >>> import os, leastsq
    >>> os.path.exists(os.path.join(leastsq.get_include(), "leastsq.h"))
    True
    """
    return str(Path(__file__).parent / "include")


class CFunction:
    """
    A compiled residual or Jacobian, for `leastsq` to call without Python.

    The C function has the signature ::

        int f(int64_t m, int64_t n, const double *x, double *out, void *data)

    (``leastsq_residual`` and ``leastsq_jacobian`` of the header in
    `get_include`).  A residual writes m numbers to ``out``; a Jacobian m*n,
    column by column: ``out[i + j*m]`` is the derivative of residual i with
    respect to ``x[j]``.  It returns 0; anything else ends the fit with ``ier``
    10.  It is called without the GIL, so it must not call Python unless it takes
    the GIL, and it may run in several threads at once.

    Parameters
    ----------
    func : ctypes, cffi, numba, PyCapsule or scipy.LowLevelCallable object
        The function: a ctypes function pointer (its ``argtypes``, if set, are
        checked), a cffi function pointer, a numba ``@cfunc``, a PyCapsule whose
        name is the signature, or a `scipy.LowLevelCallable`.  Kept alive.
    m : int
        Number of residuals, > 0.
    data : None, ndarray, buffer, ctypes object or int, optional
        What the function gets as its last argument: the address of an array's
        or a buffer's first byte (it must be contiguous, and is kept alive and
        not copied), what a ctypes pointer points to, or an address.  None is
        NULL, or the user data of a `scipy.LowLevelCallable`.

    Attributes
    ----------
    func, data : object
        As given.
    m : int
        Number of residuals.

    Raises
    ------
    TypeError
        `func` is none of these, or is known to have another signature; `m` is
        not an integer; `data` has no address.
    ValueError
        `func` is a null pointer; `m` is not positive; `data` is not contiguous.

    Examples
    --------
    Any library's function will do; here the C library's are too simple, so a
    Python function stands in for one made by a C compiler:

    >>> import ctypes, numpy as np, leastsq
    >>> double_p = ctypes.POINTER(ctypes.c_double)
    >>> signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64,
    ...                              double_p, double_p, ctypes.c_void_p)
    >>> @signature
    ... def rosenbrock(m, n, x, f, data):
    ...     f[0], f[1] = 10*(x[1] - x[0]**2), 1 - x[0]
    ...     return 0
    >>> x, ier = leastsq.leastsq(leastsq.CFunction(rosenbrock, 2), [-1.2, 1.0])
    >>> x.round(6)
    array([1., 1.])
    """

    __slots__ = ("_data", "_func", "_handle", "_kept", "_m")

    def __init__(self, func, m, data=None):
        if isinstance(m, bool) or not hasattr(m, "__index__"):
            raise TypeError(f"CFunction: m must be an integer, got {type(m).__name__}")
        m = m.__index__()
        if m <= 0:
            raise ValueError(f"CFunction: m must be positive, got {m}")
        address, own_data = _function_address(func)
        if not address:
            raise ValueError("CFunction: func must point to a function, got a null pointer")
        if data is None:
            data_address, kept = own_data, None
        else:
            data_address, kept = _data_address(data)
        self._func, self._m, self._data, self._kept = func, m, data, kept
        self._handle = _core.compiled(address, m, data_address)

    @classmethod
    def from_numba(cls, function, m, data=None, *, jacobian=False):
        """
        Compile a Python function with numba.

        Parameters
        ----------
        function : callable
            ``function(x, out, data)``, or ``function(x, out)`` without `data`:
            fills ``out``, a float64 array of shape (m,), or of shape (m, n) for
            a Jacobian, where n is ``x.size``.  It may return an integer;
            anything but 0 ends the fit.  It must compile in numba's nopython
            mode.
        m : int
            Number of residuals.
        data : array_like, optional
            An array of numbers, which the function gets as it is (dtype and
            shape are compiled in).
        jacobian : bool, optional
            ``out`` is a Jacobian.

        Returns
        -------
        CFunction

        Raises
        ------
        ImportError
            numba is not installed.

        Examples
        --------
        >>> import numpy as np, leastsq  # doctest: +SKIP
        >>> def decay(x, out, data):
        ...     for i in range(out.size):
        ...         out[i] = x[0]*np.exp(-x[1]*data[0, i]) - data[1, i]
        >>> data = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.5]])
        >>> f = leastsq.CFunction.from_numba(decay, 3, data)  # doctest: +SKIP
        >>> leastsq.leastsq(f, [1.0, 1.0])[0].round(6)  # doctest: +SKIP
        array([2.      , 0.693147])
        """
        data = None if data is None else np.ascontiguousarray(data)
        return cls(_numba_cfunc(function, data, jacobian), m, data)

    @property
    def func(self):
        return self._func

    @property
    def m(self):
        return self._m

    @property
    def data(self):
        return self._data

    def __repr__(self):
        return f"CFunction({self._func!r}, m={self._m}, data={type(self._data).__name__})"

    def __reduce__(self):
        raise TypeError("CFunction: an address means nothing in another process; "
                        "make the CFunction there")


def handles(func, Dfun, args):
    """What `_core.solve` takes in place of `func` and `Dfun`."""
    if args:
        raise TypeError("leastsq: args must be empty with a CFunction, which gets its data "
                        f"through CFunction(..., data=), got {len(args)} arguments")
    if isinstance(func, CFunction):
        func = func._handle
    if isinstance(Dfun, CFunction):
        Dfun = Dfun._handle
    return func, Dfun


def _function_address(func):
    """Addresses of the function and of the data that comes with it."""
    if hasattr(func, "ctypes") and hasattr(func, "address"):            # numba
        return _function_address(func.ctypes)
    if isinstance(func, ctypes._CFuncPtr):
        return _ctypes_address(func), 0
    if type(func).__name__ == "LowLevelCallable" and isinstance(func, tuple):
        return _capsule_address(func[0], "the scipy.LowLevelCallable")
    if type(func).__name__ == "PyCapsule":
        return _capsule_address(func, "the capsule")
    if type(func).__module__ == "_cffi_backend":
        return _cffi_address(func), 0
    raise TypeError(f"CFunction: func must be {_ACCEPTED}, got {type(func).__name__}")


def _wrong_signature(what, got):
    return TypeError(f"CFunction: {what} must have the signature '{_SIGNATURE}', got '{got}'")


def _ctypes_address(func):
    argtypes = getattr(func, "argtypes", None)
    if argtypes is None:
        argtypes = getattr(func, "_argtypes_", None)
    if argtypes is not None:
        names = [t.__name__ for t in argtypes]
        integers, doubles = (ctypes.c_int64,)*2, (ctypes.POINTER(ctypes.c_double), ctypes.c_void_p)
        right = (len(argtypes) == 5 and tuple(argtypes[:2]) == integers
                 and argtypes[2] in doubles and argtypes[3] in doubles
                 and (argtypes[4] is ctypes.c_void_p or issubclass(argtypes[4], ctypes._Pointer))
                 and func.restype is ctypes.c_int)
        if not right:
            result = getattr(func.restype, "__name__", func.restype)
            raise _wrong_signature("the ctypes function", f"{result} ({', '.join(names)})")
    return ctypes.cast(func, ctypes.c_void_p).value


def _normalized(signature):
    """A C signature without const, blanks and other names of the same types."""
    signature = re.sub(r"\bconst\b", "", signature)
    signature = re.sub(r"\b(?:long\s+long|long|npy_int64|ssize_t|Py_ssize_t|npy_intp|intptr_t)\b",
                       "int64_t", signature)
    return re.sub(r"\s+", "", signature)


def _capsule_address(capsule, what):
    api = ctypes.pythonapi
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api))
    context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", api))
    name = name_of(capsule)
    signature = "" if name is None else name.decode()
    if _normalized(signature) != _normalized(_SIGNATURE):
        raise _wrong_signature(what, signature)
    return pointer(capsule, name), context(capsule) or 0


def _cffi_address(func):
    ffi = sys.modules["_cffi_backend"].FFI()
    try:
        ctype = ffi.typeof(func)
    except TypeError:
        ctype = None
    if ctype is None or ctype.kind != "function":
        got = type(func).__name__ if ctype is None else ctype.cname
        raise _wrong_signature("the cffi pointer", got)
    signature = f"{ctype.result.cname} ({', '.join(a.cname for a in ctype.args)})"
    if _normalized(signature) != _normalized(_SIGNATURE):
        raise _wrong_signature("the cffi function", signature)
    return int(ffi.cast("intptr_t", func))


def _data_address(data):
    """The address of `data`, and what else must stay alive with it."""
    if isinstance(data, np.ndarray):
        if not data.flags.c_contiguous:
            raise ValueError("CFunction: data must be C-contiguous, got an array of shape "
                             f"{data.shape} with strides {data.strides}")
        if data.dtype.hasobject:
            raise TypeError(f"CFunction: data must be plain numbers, got dtype {data.dtype}")
        return data.ctypes.data, None
    if isinstance(data, (bool, float, str)):
        raise TypeError("CFunction: data must be an array, a buffer, a ctypes object or an "
                        f"address, got {type(data).__name__}")
    if hasattr(data, "__index__"):
        return data.__index__(), None
    if isinstance(data, (ctypes._Pointer, ctypes.c_void_p, ctypes._CFuncPtr)):
        return ctypes.cast(data, ctypes.c_void_p).value or 0, None
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError("CFunction: data must be an array, a buffer, a ctypes object or an "
                        f"address, got {type(data).__name__}") from None
    if not view.c_contiguous:
        raise ValueError("CFunction: data must be C-contiguous, got a strided buffer")
    return np.frombuffer(view, np.uint8).ctypes.data if view.nbytes else 0, view


def _numba_cfunc(function, data, jacobian):
    """`function` with the C signature around it, compiled."""
    try:
        import numba
        from numba import types
    except ImportError as error:
        raise ImportError("CFunction.from_numba needs numba (pip install numba)") from error

    if isinstance(function, numba.core.registry.CPUDispatcher):
        inner = function
    else:
        inner = numba.njit(function)
    array, matrix = numba.carray, numba.farray
    vector = types.CPointer(types.float64)
    signature = types.int32(types.int64, types.int64, vector, vector, types.voidptr)
    if data is not None:
        shape, dtype = data.shape, data.dtype

    # numba compiles what is reachable, so each shape of call is spelled out
    if data is None and not jacobian:
        def door(m, n, x, out, _data):
            return _status(inner(array(x, n), array(out, m)))
    elif data is None:
        def door(m, n, x, out, _data):
            return _status(inner(array(x, n), matrix(out, (m, n))))
    elif not jacobian:
        def door(m, n, x, out, _data):
            return _status(inner(array(x, n), array(out, m), array(_data, shape, dtype)))
    else:
        def door(m, n, x, out, _data):
            return _status(inner(array(x, n), matrix(out, (m, n)), array(_data, shape, dtype)))

    @numba.njit
    def _status(result):
        return 0 if result is None else result

    return numba.cfunc(signature)(door)
