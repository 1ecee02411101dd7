"""Fits on a cluster to residuals that are Dask arrays."""
from functools import partial

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

import dask.array as da                                             # noqa: E402
from distributed import Client                                      # noqa: E402

from leastsq import leastsq_blocks                                  # noqa: E402
from leastsq.dask import leastsq as leastsq_array                   # noqa: E402
from test_dask import cluster, cut, data, jacobian, residual        # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def client():
    with cluster(processes=False) as local, Client(local, set_as_default=False) as client:
        yield client


def array_residual(x, t, y):
    return x[0]*da.exp(-x[1]*t) + x[2] - y


def array_jacobian(x, t, y):
    e = da.exp(-x[1]*t)
    return da.stack([e, -x[0]*t*e, da.ones_like(t)], axis=1)


@pytest.mark.parametrize(("where", "Dfun"), [
    pytest.param("client", None, id="2-point on a client"),
    pytest.param("threads", "3-point", id="3-point on threads"),
    pytest.param("client", array_jacobian, id="given on a client"),
    pytest.param("client", "3-point", id="3-point on a client", marks=pytest.mark.slow),
    pytest.param("threads", None, id="2-point on threads", marks=pytest.mark.slow),
    pytest.param("threads", array_jacobian, id="given on threads", marks=pytest.mark.slow)])
def test_arrays(client, where, Dfun):
    t, y = data(900)
    chunks = da.from_array(t, chunks=400), da.from_array(y, chunks=400)
    given = {None: None, "3-point": "3-point", array_jacobian: jacobian}[Dfun]
    expected = leastsq_blocks(residual, [1, 1, 0], cut(t, y, 400), Dfun=given, full_output=True)
    run = partial(leastsq_array, array_residual, [1, 1, 0], chunks, Dfun, full_output=True)
    if where == "client":
        x, cov, info, message, ier = run(client=client)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("leastsq.dask.the_client", lambda client, needed=True: None)
            x, cov, info, message, ier = run()
    assert np.array_equal(x, expected[0])
    assert (ier, info["nfev"], message) == (expected[4], expected[2]["nfev"], expected[3])
    np.testing.assert_allclose(cov, expected[1], rtol=1e-12)


def test_an_array_given_by_columns(client):
    t, y = data(900)
    chunks = da.from_array(t, chunks=400), da.from_array(y, chunks=400)
    once = {"client": client, "callback": lambda state: state.nfev > 2}
    by_rows = leastsq_array(array_residual, [1, 1, 0], chunks, array_jacobian, **once)
    by_columns = leastsq_array(array_residual, [1, 1, 0], chunks, lambda *a: array_jacobian(*a).T, col_deriv=True, **once)
    assert not np.array_equal(by_rows[0], [1, 1, 0])
    assert np.array_equal(by_rows[0], by_columns[0])


@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"func": lambda x: np.ones(5)}, TypeError, "func must return a dask.array.Array, got ndarray"),
    ({"func": lambda x: da.ones((5, 2))}, ValueError, "must have 1 dimension, got shape"),
    ({"Dfun": "cs"}, ValueError, "Dfun must be a function, None, '2-point' or '3-point', got 'cs'"),
    ({"Dfun": lambda x: da.ones((5, 3))}, ValueError, "must have 2 columns, got shape"),
])
def test_bad_arrays_are_refused(client, arguments, error, says):
    with pytest.raises(error, match=says):
        leastsq_array(**{"func": lambda x: da.ones(5) + x[0] + x[1], "x0": [1, 1], "client": client} | arguments)


def test_more_parameters_than_residuals(client):
    with pytest.raises(TypeError, match="Improper input: func input vector length N=2"):
        leastsq_array(lambda x: da.ones(1)*x[0], [1, 1], client=client)
