"""Derivatives of models by JAX, an optional package: in double precision, compiled once.  JAX is imported on first use."""

from __future__ import annotations

from functools import wraps

import numpy as np

__all__ = ["AUTOMATIC", "by_jax"]

AUTOMATIC = "jax"


def by_jax(model, door):
    """
    A model and its derivatives, compiled by JAX.

    Both compute in double precision, through JAX's context manager; its global setting is not changed.

    Parameters
    ----------
    model : callable
        ``model(x, *parameters)``, written with `jax.numpy`.
    door : str
        The function that the user called.

    Returns
    -------
    values, derivatives : callable
        Both ``f(x, *parameters)``, with NumPy's arrays; the derivatives have a last axis over the parameters.

    Raises
    ------
    ImportError
        JAX is not installed.
    TypeError
        Raised by the functions if JAX cannot trace the model.
    """
    try:
        import jax
    except ImportError as error:
        raise ImportError(f"{door}: jac='jax' needs JAX, which is not installed: pip install jax") from error
    double = getattr(jax, "enable_x64", None)
    if double is None:
        from jax.experimental import enable_x64 as double

    def of_vector(p, x):
        return jax.numpy.asarray(model(x, *p))
    compiled = {"values": jax.jit(of_vector), "derivatives": jax.jit(jax.jacfwd(of_vector))}

    cannot = f"{door}: jac='jax': JAX cannot trace {getattr(model, '__name__', 'the model')}: "

    def called(which, x, p):
        try:
            with double(True):
                return np.asarray(compiled[which](np.array(p, float), x))
        except (jax.errors.JAXTypeError, jax.errors.JAXIndexError, jax.errors.UnexpectedTracerError) as error:
            raise TypeError(f"{cannot}{_cause(error)}. A model for JAX must use the functions of jax.numpy, not of numpy or "
                            "math, and jnp.where instead of if") from error
        except TypeError as error:
            if not any(words in str(error) for words in ("JAX type", "JAX array", "abstract array")):
                raise
            raise TypeError(f"{cannot}{_cause(error)}. x must be an array, or a tuple or dict of arrays") from error

    @wraps(model)
    def values(x, *p):
        return called("values", x, p)

    @wraps(model)
    def derivatives(x, *p):
        return called("derivatives", x, p)
    return values, derivatives


def _cause(error):
    """The first sentence of JAX's message, and the line of the model that it is about."""
    said = " ".join(str(error).split())
    for more in (". ", " The error occurred", " The problem arose", " This typically"):
        said = said.partition(more)[0]
    first = said.rstrip(".")
    trace, line = error.__traceback__, ""
    while trace is not None:            # find the last line that is in neither this package nor JAX
        name = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if name not in ("jax", "jaxlib", __name__.partition(".")[0], "numpy"):
            line = f", in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}"
        trace = trace.tb_next
    return first + line
