"""Pickles name the package and the extension only: the folders inside the package may be renamed."""
import pickle
import pickletools

import numpy as np
import pytest
from enzyme import T, X0, Y, jacobian, residual

import leastsq


def _states():
    seen = []
    leastsq.leastsq(residual, X0, callback=seen.append)
    return seen


def _model(t, a, b):
    return a * t / (b + t)


_KNOWN = {
    "Status": lambda: leastsq.leastsq(residual, X0)[1],
    "State": lambda: _states()[0],
    "leastsq": lambda: leastsq.leastsq(residual, X0, full_output=True),
    "curve_fit": lambda: leastsq.curve_fit(_model, T, Y, X0, full_output=True),
    "OptimizeResult": lambda: leastsq.least_squares(residual, X0),
    "BatchResult": lambda: leastsq.leastsq_batch(lambda x: x - 1, np.zeros((3, 2))),
    "CurveFitBatchResult": lambda: leastsq.curve_fit_batch(_model, T, np.tile(Y, (3, 1)), X0),
    "CovarianceResult": lambda: leastsq.covariance(residual, X0),
    "ConfidenceResult": lambda: leastsq.confidence_intervals(residual, leastsq.leastsq(residual, X0)[0], method="profile"),
    "BandResult": lambda: leastsq.confidence_band((X0, np.eye(2)), T, model=_model),
    "GradientCheck": lambda: leastsq.check_gradient(residual, X0, jacobian),
    "Report": lambda: leastsq.report(residual, X0),
    "LevenbergMarquardt": lambda: leastsq.LevenbergMarquardt(X0),
    "RowAccumulator": lambda: leastsq.RowAccumulator(2),
    "OptimizeWarning": lambda: leastsq.OptimizeWarning("text"),
    "StrictWarning": lambda: leastsq.StrictWarning("text"),
    "StrictError": lambda: leastsq.StrictError("text"),
    "functions": lambda: [getattr(leastsq, name) for name in leastsq.__all__ if callable(getattr(leastsq, name))],
}


def _modules(data):
    """Names of the modules in which a pickle of protocol 2 looks up classes and functions."""
    return {argument.split()[0] for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}


@pytest.mark.parametrize("name", ["LevenbergMarquardt", "RowAccumulator"])
@pytest.mark.parametrize("protocol", range(6))
def test_any_numpy_reads_what_the_extension_pickles(name, protocol):
    """numpy._core does not exist in NumPy 1."""
    made = _KNOWN[name]()
    data = pickle.dumps(made, protocol=protocol)
    assert b"numpy" not in data
    again = pickle.loads(data)
    assert again.__reduce__() == made.__reduce__()


@pytest.mark.parametrize("name", _KNOWN)
def test_pickles_name_the_package_and_not_its_folders(name):
    made = _KNOWN[name]()
    data = pickle.dumps(made, protocol=2)
    modules = {module for module in _modules(data) if module.startswith("leastsq")}
    assert modules <= {"leastsq", "leastsq._core"}
    assert type(pickle.loads(data)) is type(made)
