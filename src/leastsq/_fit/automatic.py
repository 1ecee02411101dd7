"""Derivatives of models by JAX, for who has it: in double precision, compiled once.  JAX is imported where it is asked for."""

from __future__ import annotations

from functools import wraps

import numpy as np

__all__ = ["AUTOMATIC", "by_jax"]

AUTOMATIC = "jax"


def by_jax(model, door):
    """
    A model and its derivatives, compiled by JAX.

    Both compute in double precision, by JAX's context: its global setting stays as it is.

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
        There is no JAX.
    TypeError
        JAX cannot trace the model; from the functions.
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
            raise TypeError(f"{cannot}{_cause(error)}. In a model for JAX functions are those of jax.numpy, not of numpy or "
                            "math, and jnp.where takes the place of if") from error
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
    """The first sentence of what JAX says, and the line of the model that it speaks of."""
    said = " ".join(str(error).split())
    for more in (". ", " The error occurred", " The problem arose", " This typically"):
        said = said.partition(more)[0]
    first = said.rstrip(".")
    trace, line = error.__traceback__, ""
    while trace is not None:            # the last line that is neither ours nor JAX's
        name = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if name not in ("jax", "jaxlib", __name__.partition(".")[0], "numpy"):
            line = f", in line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename}"
        trace = trace.tb_next
    return first + line
