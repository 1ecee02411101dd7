"""Compiled residuals and Jacobians: pointers in place of Python functions."""

from __future__ import annotations

import ctypes
import functools
import inspect
import os
import re
import sys

import numpy as np

from .. import _core
from .numba_functions import lanes_cfunc, numba_cfunc

__all__ = ["CFunction", "call_compiled", "get_include", "handles", "in_python"]

# LEASTSQ_SIGNATURE and LEASTSQ_LANES_SIGNATURE of include/leastsq.h
_SIGNATURE = "int (int64_t, int64_t, const double *, double *, void *)"
_LANES_SIGNATURE = "int (int64_t, int64_t, int64_t, const double *, double *, void *const *, int32_t *)"
_LANES = (4, 8, 16)
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
    import leastsq                      # not at the top: it imports this module
    return os.path.join(os.path.dirname(leastsq.__file__), "include")


class CFunction:
    """
    A compiled residual or Jacobian, for `leastsq` to call without Python.

    The C function has the signature ::

        int f(int64_t m, int64_t n, const double *x, double *out, void *data)

    (``leastsq_residual`` and ``leastsq_jacobian`` of the header in
    `get_include`).  A residual writes m numbers to ``out``; a Jacobian m*n,
    column by column: ``out[i + j*m]`` is the derivative of residual i with
    respect to ``x[j]``.  It returns 0; any other value ends the fit with ``ier``
    10.  It is called without the GIL, so it must not call Python unless it takes
    the GIL, and it may run in several threads at once.

    With `lanes` it takes that many problems at once, one in each lane of a vector register. Such a function is for
    `leastsq_batch`::

        int f(int64_t m, int64_t n, int64_t lanes, const double *x, double *out,
              void *const *data, int32_t *status)

    (``leastsq_lanes_residual``, ``leastsq_lanes_jacobian``).  Arrays are 64-byte aligned and have the lanes
    innermost: ``x[j*lanes + l]``, residuals ``out[i*lanes + l]``, Jacobians ``out[(i + j*m)*lanes + l]``.
    ``data[l]`` is the data of the problem in lane l.  A value other than 0 in ``status[l]`` ends the fit of that
    problem; a return value other than 0 ends the fits of all lanes.  All lanes are always in use: if fewer
    problems are left, the last one is in several lanes.  The results of a lane must not depend on other lanes.

    Parameters
    ----------
    func : ctypes, cffi, numba, PyCapsule or scipy.LowLevelCallable object
        The function: a ctypes function pointer (its ``argtypes``, if set, are
        checked), a cffi function pointer, a numba ``@cfunc``, a PyCapsule whose
        name is the signature, or a `scipy.LowLevelCallable`.  Kept alive.
    m : int
        Number of residuals, > 0.
    data : None, ndarray, buffer, ctypes object or int, optional
        The function's last argument: the address of the first byte of an array
        or buffer (which must be contiguous, is kept alive and is not copied),
        the target of a ctypes pointer, or an address.  None is NULL, or the user
        data of a `scipy.LowLevelCallable`.
    lanes : {None, 4, 8, 16}, optional
        The number of problems that the function takes at once.  None: one problem, and the signature without
        lanes.  8 suits most processors.

    Attributes
    ----------
    func, data : object
        As given.
    m : int
        Number of residuals.
    lanes : int or None
        As given.

    Raises
    ------
    TypeError
        `func` is none of these objects, or has a different known signature; `m` is
        not an integer; `data` has no address.
    ValueError
        `func` is a null pointer; `m` is not positive; `data` is not contiguous; `lanes` is another number.

    Examples
    --------
    A function of any compiled library can be used; this example has no C compiler, so
    ctypes makes a C function of a Python one:

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

    __slots__ = ("_address", "_data", "_func", "_handle", "_lanes", "_m")

    def __init__(self, func, m, data=None, *, lanes=None):
        if isinstance(m, bool) or not hasattr(m, "__index__"):
            raise TypeError(f"CFunction: m must be an integer, got {type(m).__name__}")
        m = m.__index__()
        if m <= 0:
            raise ValueError(f"CFunction: m must be positive, got {m}")
        lanes = _checked_lanes(lanes)
        address, own_data = _function_address(func, _SIGNATURE if lanes is None else _LANES_SIGNATURE)
        if not address:
            raise ValueError("CFunction: func must point to a function, got a null pointer")
        if data is None:
            data_address, kept = own_data, None
        else:
            data_address, kept = _data_address(data)
        self._func, self._m, self._data, self._lanes = func, m, data, lanes
        self._address = address, data_address
        # a fit keeps only the handle alive
        self._handle = _core.compiled(address, m, data_address, lanes or 0, (func, data, kept))

    @classmethod
    def from_numba(cls, function, m, data=None, *, jacobian=False, lanes=None):
        """
        Compile a Python function with numba.

        Parameters
        ----------
        function : callable
            ``function(x, out, data)``, or ``function(x, out)`` without `data`:
            fills ``out``, a float64 array of shape (m,), or of shape (m, n) for
            a Jacobian, where n is ``x.size``.  A plain function that compiles in
            numba's nopython mode, or one already decorated with ``numba.njit``.
            It may return an integer; a value other than 0 ends the fit.  So does an
            exception, as if -1 had been returned.
        m : int
            Number of residuals.
        data : array_like, optional
            An array of numbers.  The function gets this array, or a C-contiguous
            copy if it is not C-contiguous.
        jacobian : bool, optional
            ``out`` is a Jacobian.
        lanes : {None, 4, 8, 16}, optional
            The number of problems to take at once, for `leastsq_batch`.  `function` is then for a single data
            point: ``function(i, x, data)`` returns residual i; with `jacobian`, ``function(i, x, row, data)``
            fills ``row[j]`` with the derivatives of residual i.  Without `data` that argument is left out.  The
            innermost loop calls it for all lanes. LLVM vectorises this loop if it has no branches, and calls of
            exp and other functions only if numba has SVML (see ``numba -s``; PyPI's llvmlite 0.50 has none).
            An exception ends the fits of all lanes.

        Returns
        -------
        CFunction

        Raises
        ------
        ImportError
            numba is not installed.
        TypeError
            `function` does not compile, takes other arguments, or returns
            something other than None or an integer; `data` is not an array of
            numbers.

        Notes
        -----
        Compilation takes about a second.  The compiled function is kept, and
        used again for the same function with data of the same dtype and shape.

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
        if not inspect.isfunction(getattr(function, "py_func", function)):
            raise TypeError("CFunction.from_numba: function must be a Python function, got "
                            f"{type(function).__name__}")
        shape = dtype = None
        if data is not None:
            data = np.ascontiguousarray(data)
            shape, dtype = data.shape, data.dtype
            if dtype.hasobject or not dtype.isnative:
                raise TypeError("CFunction.from_numba: data must be an array of numbers in native "
                                f"byte order, got dtype {dtype}")
        lanes = _checked_lanes(lanes)
        if lanes is None:
            return cls(numba_cfunc(function, shape, dtype, bool(jacobian)), m, data)
        return cls(lanes_cfunc(function, shape, dtype, bool(jacobian), lanes), m, data, lanes=lanes)

    @property
    def func(self):
        return self._func

    @property
    def m(self):
        return self._m

    @property
    def data(self):
        return self._data

    @property
    def lanes(self):
        return self._lanes

    def __repr__(self):
        lanes = "" if self._lanes is None else f", lanes={self._lanes}"
        return f"CFunction({self._func!r}, m={self._m}, data={type(self._data).__name__}{lanes})"

    def __reduce__(self):
        raise TypeError("CFunction: an address is not valid in another process; "
                        "make the CFunction in that process")


def _checked_lanes(lanes):
    if lanes is None:
        return None
    if isinstance(lanes, bool) or not hasattr(lanes, "__index__"):
        raise TypeError(f"CFunction: lanes must be an integer or None, got {type(lanes).__name__}")
    if lanes.__index__() not in _LANES:
        raise ValueError(f"CFunction: lanes must be one of {', '.join(map(str, _LANES))} or None, got {lanes}")
    return lanes.__index__()


def handles(func, Dfun, args):
    """The objects that `_core.solve` takes in place of `func` and `Dfun`."""
    for function, name in ((func, "func"), (Dfun, "Dfun")):
        if isinstance(function, CFunction) and function.lanes is not None:
            raise TypeError(f"leastsq: {name} must be a CFunction without lanes, which are for leastsq_batch, got one with "
                            f"{function.lanes}")
    if args:
        raise TypeError("leastsq: args must be empty with a CFunction, which gets its data "
                        f"through CFunction(..., data=), got {len(args)} arguments")
    if isinstance(func, CFunction):
        func = func._handle
    if isinstance(Dfun, CFunction):
        Dfun = Dfun._handle
    return func, Dfun


def call_compiled(function, x, columns=None):
    """Call a compiled function once from Python: residuals of shape (m,), or with `columns` a Jacobian, shape (m, columns).

    ArithmeticError if the function returns a value other than 0.
    """
    x = np.array(x, float).ravel()
    if function.lanes is not None:
        return _call_lanes(function, x, columns)
    out = np.full(function.m if columns is None else (columns, function.m), np.nan)
    address, data = function._address
    call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, *(ctypes.c_void_p,)*3)(address)
    code = call(function.m, x.size, x.ctypes.data, out.ctypes.data, data)
    if code:
        raise ArithmeticError(f"the compiled function returned {code} at x = {x}")
    return out.T


def _call_lanes(function, x, columns):
    """The same for a function with lanes, with one problem in all lanes."""
    lanes, (address, data) = function.lanes, function._address
    out = _in_lines((function.m if columns is None else columns*function.m)*lanes)
    out[:] = np.nan
    points = _in_lines(x.size*lanes)
    points.reshape(x.size, lanes)[:] = x[:, None]
    status, pointers = np.zeros(lanes, np.int32), (ctypes.c_void_p*lanes)(*(data or None,)*lanes)
    call = ctypes.CFUNCTYPE(ctypes.c_int, *(ctypes.c_int64,)*3, *(ctypes.c_void_p,)*4)(address)
    code = call(function.m, x.size, lanes, points.ctypes.data, out.ctypes.data, ctypes.addressof(pointers),
                status.ctypes.data) or int(status[0])
    if code:
        raise ArithmeticError(f"the compiled function returned {code} at x = {x}")
    out = out.reshape(-1, lanes)[:, 0].copy()
    return out if columns is None else out.reshape(columns, function.m).T


def _in_lines(count):
    """An array of `count` doubles, 64-byte aligned."""
    room = np.zeros(count + 8)
    first = -room.ctypes.data % 64//8
    return room[first:first + count]


def in_python(func, Dfun, args, n):
    """func and Dfun as Python functions of x; results of compiled ones are nan in elements that the call does not write."""
    handles(func, Dfun, args)           # checks the arguments
    if isinstance(func, CFunction):
        func = functools.partial(call_compiled, func)
    if isinstance(Dfun, CFunction):
        Dfun = functools.partial(call_compiled, Dfun, columns=n)
    return func, Dfun


def _function_address(func, signature=_SIGNATURE):
    """The addresses of the function and of its data (0: none)."""
    if hasattr(func, "ctypes") and hasattr(func, "address"):            # numba
        return _function_address(func.ctypes, signature)
    if isinstance(func, ctypes._CFuncPtr):
        return _ctypes_address(func, signature), 0
    if type(func).__name__ == "LowLevelCallable" and isinstance(func, tuple):
        capsule = tuple.__getitem__(func, 0)         # its own __getitem__ raises ValueError
        return _capsule_address(capsule, "the scipy.LowLevelCallable", signature)
    if type(func).__name__ == "PyCapsule":
        return _capsule_address(func, "the capsule", signature)
    if type(func).__module__ == "_cffi_backend":
        return _cffi_address(func, signature), 0
    raise TypeError(f"CFunction: func must be {_ACCEPTED}, got {type(func).__name__}")


def _wrong_signature(what, got, wanted):
    which = " for lanes" if wanted is _LANES_SIGNATURE else ""
    return TypeError(f"CFunction: {what} must have the signature{which} '{wanted}', got '{got}'")


def _ctypes_address(func, signature):
    argtypes = getattr(func, "argtypes", None)
    if argtypes is None:
        argtypes = getattr(func, "_argtypes_", None)
    right = func.restype is ctypes.c_int
    if argtypes is not None and right:
        sizes = 2 if signature is _SIGNATURE else 3
        right = (len(argtypes) == (5 if sizes == 2 else 7) and tuple(argtypes[:sizes]) == (ctypes.c_int64,)*sizes
                 and all(map(_is_double_pointer, argtypes[sizes:sizes + 2])) and all(map(_is_pointer, argtypes[sizes + 2:])))
    if not right:
        names = "..." if argtypes is None else ", ".join(t.__name__ for t in argtypes)
        result = getattr(func.restype, "__name__", func.restype)
        raise _wrong_signature("the ctypes function", f"{result} ({names})", signature)
    return ctypes.cast(func, ctypes.c_void_p).value


def _is_pointer(ctype):
    return isinstance(ctype, type) and issubclass(ctype, (ctypes.c_void_p, ctypes._Pointer))


def _is_double_pointer(ctype):
    """POINTER(c_double), c_void_p or NumPy's ndpointer to float64."""
    if ctype is ctypes.POINTER(ctypes.c_double):
        return True
    return (isinstance(ctype, type) and issubclass(ctype, ctypes.c_void_p)
            and getattr(ctype, "_dtype_", None) in (None, np.dtype(np.float64)))


def _normalized(signature):
    """A C signature without const and blanks, and with one name for each type."""
    signature = re.sub(r"\bconst\b", "", signature)
    signature = re.sub(r"\b(?:long\s+long|long|npy_int64|ssize_t|Py_ssize_t|npy_intp|intptr_t)\b",
                       "int64_t", signature)
    return re.sub(r"\s+", "", signature)


def _capsule_address(capsule, what, wanted):
    api = ctypes.pythonapi
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", api))
    context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", api))
    name = name_of(capsule)
    signature = "" if name is None else name.decode()
    if _normalized(signature) != _normalized(wanted):
        raise _wrong_signature(what, signature, wanted)
    return pointer(capsule, name), context(capsule) or 0


def _cffi_address(func, wanted):
    ffi = sys.modules["_cffi_backend"].FFI()
    try:
        ctype = ffi.typeof(func)
    except TypeError:
        ctype = None
    if ctype is None or ctype.kind != "function":
        got = type(func).__name__ if ctype is None else ctype.cname
        raise _wrong_signature("the cffi pointer", got, wanted)
    signature = f"{ctype.result.cname} ({', '.join(a.cname for a in ctype.args)})"
    if _normalized(signature) != _normalized(wanted):
        raise _wrong_signature("the cffi function", signature, wanted)
    return int(ffi.cast("intptr_t", func))


def _data_address(data):
    """The address of `data`, and another object that must stay alive (or None)."""
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
        address = data.__index__()
        if address < 0:
            raise ValueError(f"CFunction: data must be an address, got {address}")
        return address, None
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
