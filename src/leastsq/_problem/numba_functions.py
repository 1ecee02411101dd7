"""C functions made with numba from Python functions of one problem, or of one point of a problem."""

from __future__ import annotations

import functools
import inspect

import numpy as np

__all__ = ["lanes_cfunc", "numba_cfunc"]


@functools.lru_cache(maxsize=128)
def numba_cfunc(function, shape, dtype, jacobian):
    """`function` compiled, with the C signature of a residual or Jacobian."""
    numba, status_of = _numba()
    types, array, matrix = numba.types, numba.carray, numba.farray
    inner = function if isinstance(function, numba.core.registry.CPUDispatcher) \
        else numba.njit(function)
    _check_parameters(inner.py_func, ("x", "out") if shape is None else ("x", "out", "data"))

    # An exception must not leave this function: numba would print and ignore it.
    # numba cannot compile calls with a variable number of arguments, so each form of call has its own function.
    if shape is None and not jacobian:
        def door(m, n, x, out, data):
            try:
                return status_of(inner(array(x, n), array(out, m)))
            except Exception:
                return -1
    elif shape is None:
        def door(m, n, x, out, data):
            try:
                return status_of(inner(array(x, n), matrix(out, (m, n))))
            except Exception:
                return -1
    elif not jacobian:
        def door(m, n, x, out, data):
            try:
                return status_of(inner(array(x, n), array(out, m), array(data, shape, dtype)))
            except Exception:
                return -1
    else:
        def door(m, n, x, out, data):
            try:
                return status_of(inner(array(x, n), matrix(out, (m, n)),
                                       array(data, shape, dtype)))
            except Exception:
                return -1

    doubles = types.CPointer(types.float64)
    signature = types.int32(types.int64, types.int64, doubles, doubles, types.voidptr)
    try:
        return numba.cfunc(signature)(door)
    except numba.errors.NumbaError as error:
        raise TypeError(f"CFunction.from_numba: {inner.py_func.__name__} does not compile in "
                        f"numba's nopython mode with {_given(shape, dtype, jacobian)}, or returns "
                        "something other than None or an integer: see above") from error


@functools.lru_cache(maxsize=128)
def lanes_cfunc(function, shape, dtype, jacobian, wide):
    """`function` of one point, compiled in a loop over points and lanes, with the C signature for lanes."""
    numba, _ = _numba()
    types, array = numba.types, numba.carray
    inner = function if isinstance(function, numba.core.registry.CPUDispatcher) \
        else numba.njit(error_model="numpy")(function)
    _check_parameters(inner.py_func, ("i", "x", *(("row",) if jacobian else ()), *(() if shape is None else ("data",))), "lanes")

    # The strides use `wide`, a constant, but the loops run to `lanes`, a variable: with a constant bound LLVM
    # would unroll the loop over lanes and then find no loop to vectorise.
    if shape is None and not jacobian:
        def door(m, n, lanes, x, out, data, status):
            try:
                points, values = array(x, (n, wide)), array(out, (m, wide))
                for i in range(m):
                    for k in range(lanes):
                        values[i, k] = inner(i, points[:, k])
                return 0
            except Exception:
                return -1
    elif shape is None:
        def door(m, n, lanes, x, out, data, status):
            try:
                points, values = array(x, (n, wide)), array(out, (n, m, wide))
                for i in range(m):
                    for k in range(lanes):
                        inner(i, points[:, k], values[:, i, k])
                return 0
            except Exception:
                return -1
    elif not jacobian:
        def door(m, n, lanes, x, out, data, status):
            try:
                points, values = array(x, (n, wide)), array(out, (m, wide))
                rows = np.empty(shape + (wide,), dtype)
                for k in range(wide):
                    rows[..., k] = array(data[k], shape, dtype)
                for i in range(m):
                    for k in range(lanes):
                        values[i, k] = inner(i, points[:, k], rows[..., k])
                return 0
            except Exception:
                return -1
    else:
        def door(m, n, lanes, x, out, data, status):
            try:
                points, values = array(x, (n, wide)), array(out, (n, m, wide))
                rows = np.empty(shape + (wide,), dtype)
                for k in range(wide):
                    rows[..., k] = array(data[k], shape, dtype)
                for i in range(m):
                    for k in range(lanes):
                        inner(i, points[:, k], values[:, i, k], rows[..., k])
                return 0
            except Exception:
                return -1

    doubles = types.CPointer(types.float64)
    signature = types.int32(types.int64, types.int64, types.int64, doubles, doubles, types.CPointer(types.voidptr),
                            types.CPointer(types.int32))
    try:
        return numba.cfunc(signature, error_model="numpy")(door)
    except numba.errors.NumbaError as error:
        raise TypeError(f"CFunction.from_numba: {inner.py_func.__name__} does not compile in numba's nopython mode as a "
                        f"function of one point, {'which fills its row' if jacobian else 'which returns its residual'}: "
                        "see above") from error


def _given(shape, dtype, jacobian):
    """The arguments of the compiled function, for messages."""
    given = f"x of shape (n,), out of shape {'(m, n)' if jacobian else '(m,)'}"
    return given if shape is None else f"{given}, data of shape {shape} and dtype {dtype}"


def _check_parameters(function, wanted, with_lanes=""):
    parameters = inspect.signature(function)
    try:
        parameters.bind(*wanted)
    except TypeError:
        given = f" {'with' if 'data' in wanted else 'without'} data{with_lanes and ' and with ' + with_lanes}"
        raise TypeError(f"CFunction.from_numba: {function.__name__} must take ({', '.join(wanted)}){given}, "
                        f"got {parameters}") from None


@functools.cache
def _numba():
    """numba, and a compiled function that converts the result of a user's function to a status."""
    try:
        import numba
        import numba.extending
    except ImportError as error:
        raise ImportError("CFunction.from_numba needs numba (pip install numba)") from error

    def status_of(result):
        return 0 if result is None else int(result)

    def narrowed(result):
        return result if -2147483648 <= result < 2147483648 else -1

    def optional(result):
        return 0 if result is None else status_of(int(result))

    @numba.extending.overload(status_of)
    def typed_status_of(result):
        types = numba.types
        if isinstance(result, types.NoneType):
            return lambda result: 0
        if isinstance(result, types.Integer):
            return narrowed
        if isinstance(result, types.Optional) and isinstance(result.type, types.Integer):
            return optional
        return None                     # numba then reports that no status_of accepts this type

    return numba, status_of
