"""jac="jax": derivatives by JAX, exact and in double precision; code that cannot be traced; JAX is imported only on request."""
import math
import subprocess
import sys

import nist27
import numpy as np
import pytest

import leastsq as lsq
from leastsq._fit.automatic import by_jax

T = np.linspace(0, 4, 50)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*np.random.default_rng(1).standard_normal(50)


def test_jax_is_not_imported_until_it_is_asked_for():
    code = ("import sys, numpy as np, leastsq; t = np.arange(9.0); leastsq.fit(lambda t, a: a*t, t, 2*t, [1]); "
            "print('jax' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_missing_jax_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    for function in (lsq.fit, lsq.curve_fit):
        with pytest.raises(ImportError, match=f"{function.__name__}: jac='jax' needs JAX, which is not installed: pip "):
            function(lambda t, a: a*t, T, Y, [1], jac="jax")


@pytest.fixture
def jnp():
    return pytest.importorskip("jax.numpy")


@pytest.mark.parametrize("name", [name if name in ("Misra1a", "Roszman1", "Rat43") else pytest.param(name, marks=pytest.mark.slow)
                                  for name in nist27.NAMES])
def test_derivatives_are_exact_on_nists_models(name, jnp, monkeypatch):
    d = nist27.load(name)
    exact = d.jacobian(d.starts[1])
    monkeypatch.setattr(nist27, "np", jnp)
    monkeypatch.setattr(nist27.strd, "np", jnp)
    values, derivatives = by_jax(lambda x, *b: d.function(b, x), "fit")
    found = derivatives(d.x, *d.starts[1])
    assert found.dtype == np.float64
    assert np.abs(found - exact).max(axis=0) == pytest.approx(np.zeros(exact.shape[1]), abs=1e-12*np.abs(exact).max())
    assert (np.abs(found - exact).max(axis=0) <= 1e-12*np.abs(exact).max(axis=0)).all()


@pytest.fixture
def decay(jnp):
    def model(t, height, rate, level):
        model.traces += 1
        return height*jnp.exp(-rate*t) + level
    model.traces = 0
    return model


def test_fits_in_double_precision_and_leaves_jax_as_it_was(decay, jnp):
    result = lsq.fit(decay, T, Y, [1, 1, 0], jac="jax")
    plain = lsq.fit(lambda t, height, rate, level: height*np.exp(-rate*t) + level, T, Y, [1, 1, 0], xtol=1e-13, ftol=1e-14)
    assert result.x == pytest.approx(plain.x, rel=1e-7)
    assert result.stderr == pytest.approx(plain.stderr, rel=1e-7)
    assert jnp.zeros(1).dtype == np.float32
    assert decay.traces == 2            # once for the values, once for the derivatives
    assert list(result) == ["height", "rate", "level"] and result.njev
    assert result.predict(np.array([0.0])) == pytest.approx([result.x[0] + result.x[2]], rel=1e-12)


def test_it_works_with_curve_fit_separable_and_without_a_start(decay):
    whole = lsq.fit(decay, T, Y, [1, 1, 0], jac="jax").x
    assert lsq.curve_fit(decay, T, Y, jac="jax")[0] == pytest.approx(whole, rel=1e-6)
    assert lsq.fit(decay, T, Y, {"rate": 1}, jac="jax", separable=True).x == pytest.approx(whole, rel=1e-6)
    assert lsq.fit(decay, T, Y, jac="jax").x == pytest.approx(whole, rel=1e-6)


def test_x_may_be_a_dict_and_y_complex(jnp):
    w = np.geomspace(0.1, 100, 30)
    assert lsq.fit(lambda x, R, C: R/(1 + 1j*x["w"]*C), {"w": w}, 3/(1 + 0.6j*w), [1, 1], jac="jax").x == pytest.approx([3, 0.6])


def test_code_that_cannot_be_traced_is_reported(jnp):
    def of_numpy(t, a, b):
        return a*np.exp(-b*t)

    def with_if(t, a, b):
        return a*t if b > 0 else t

    def of_math(t, a, b):
        return a*math.exp(b)*t
    for model, what in ((of_numpy, "__array__"), (with_if, "boolean conversion"), (of_math, "concrete value")):
        with pytest.raises(TypeError, match=f"jac='jax': JAX cannot trace {model.__name__}: .*{what}.*in line .*test_jax.py"):
            lsq.fit(model, T, Y, [1, 1], jac="jax")
    with pytest.raises(TypeError, match="x must be an array, or a tuple or dict of arrays"):
        lsq.fit(lambda x, a: a*x["t"], {"t": T, "name": "one"}, Y, [1], jac="jax")


def test_exceptions_of_the_model_arrive_unchanged(jnp):
    class Mine(Exception):
        pass

    def model(t, a):
        raise Mine
    with pytest.raises(Mine):
        lsq.fit(model, T, Y, [1], jac="jax")


def test_an_unknown_name_of_a_method_is_refused():
    with pytest.raises(ValueError, match="did you mean 'jax'"):
        lsq.fit(lambda t, a: a*t, T, Y, [1], jac="jaxx")
