"""Defects at the edges that hostile use found, one test for each."""
import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from enzyme import X0, jacobian, residual

from leastsq import (
    check_gradient,
    confidence_intervals,
    covariance,
    least_squares,
    leastsq,
    leastsq_batch,
    leastsq_blocks,
    report,
)

BLOCKS = [slice(0, 5), slice(5, 6), slice(6, 12)]


def in_block(p, part):
    return residual(p)[part]


def test_a_block_that_a_map_returns_twice_is_an_error():
    """It was counted twice, in the norm and in the model, and gave wrong parameters without any message."""
    def hedged(function, blocks):
        for block in blocks:
            yield function(block)
            yield function(block)
    with pytest.raises(ValueError, match="must return the result of each block once, got the result of block 0 again"):
        leastsq_blocks(in_block, X0, BLOCKS, map=hedged)


def test_a_map_that_never_ends_ends():
    def endless(function, blocks):
        results = [function(block) for block in blocks]
        while True:
            yield from results
    with pytest.raises(ValueError, match="each block once"):
        leastsq_blocks(in_block, X0, BLOCKS, map=endless)


@pytest.mark.parametrize("returned", [slice(0, 5), None, (0, slice(0, 5)), (1, 2, 3)], ids=repr)
def test_a_map_that_returns_something_else_is_an_error(returned):
    with pytest.raises(TypeError, match=f"must return the results of the function .*, got {type(returned).__name__}"):
        leastsq_blocks(in_block, X0, BLOCKS, map=lambda function, blocks: [returned for _ in blocks])


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e-162, 1e155])
@pytest.mark.parametrize("call", [lambda **o: least_squares(residual, X0, **o), lambda **o: leastsq(residual, X0, **o),
                                  lambda **o: leastsq_blocks(in_block, X0, BLOCKS, **o),
                                  lambda **o: leastsq_batch(lambda x: x - 1, np.zeros((2, 2)), **o)],
                         ids=["least_squares", "leastsq", "leastsq_blocks", "leastsq_batch"])
def test_a_scale_whose_square_is_lost_is_refused_at_once(call, scale):
    with pytest.raises(ValueError, match="`f_scale` must be between about .*, so a float64 holds its square"):
        call(loss="huber", f_scale=scale)


def test_covariance_raises_no_private_error():
    for tool in (covariance, confidence_intervals):
        with pytest.raises(ValueError, match="must return a vector") as caught:
            tool(lambda p: residual(p)[None], X0)
        assert type(caught.value) is ValueError


def test_the_result_of_check_gradient_is_an_object_like_others():
    check = check_gradient(residual, X0, lambda p: -jacobian(p))
    assert not hasattr(check, "__array__") and not hasattr(check, "nothing")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        check.nothing           # noqa: B018
    assert copy.deepcopy(check).message == check.message and np.asarray(check).shape == ()
    assert len(repr(check).splitlines()) == 1


@pytest.mark.parametrize(("text", "threads"), [("", 1), ("2", 2)])
def test_an_empty_environment_variable_counts_as_unset(text, threads):
    code = "import leastsq, sys; print(sys.modules['leastsq._fit.leastsq']._THREADS)"
    given = os.environ | {"LEASTSQ_NUM_THREADS": text}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True)
    assert done.stdout.split() == [str(threads)], done.stderr


def test_names_cannot_send_commands_to_the_terminal():
    fit = leastsq(residual, X0, full_output=True)
    text = str(report(fit, names=["rate\x1b[31m\x07", "k\n\u202e"]))
    assert not any(ord(c) < 32 and c != "\n" or c == "\u202e" for c in text)
    assert r"rate\x1b[31m\x07" in text and r"k\n\u202e" in text


def test_weights_and_scales_of_a_batch_may_change_while_it_runs():
    y, weights, diag = np.ones((3, 2)), np.full((3, 2), 2.0), np.ones(2)
    clean = leastsq_batch(lambda x, y: np.exp(x) - y, np.full((3, 2), 2.0), y, weights=weights, diag=diag)

    def func(x, y):
        weights[...], diag[...] = 0.0, np.nan
        return np.exp(x) - y
    result = leastsq_batch(func, np.full((3, 2), 2.0), y, weights=weights, diag=diag)
    assert result.x.tobytes() == clean.x.tobytes() and result.nfev.tolist() == clean.nfev.tolist()


def test_a_problem_of_a_batch_without_data_is_not_a_success():
    weights = np.ones((4, 12))
    weights[1], weights[2, 1:], weights[3, 2:] = 0, 0, 0
    result = leastsq_batch(lambda x: np.tile(residual(X0), (len(x), 1))*x[:, :1] + x[:, 1:], np.ones((4, 2)), weights=weights)
    assert result.ier[1:3].tolist() == [12, 12] and result.success.tolist() == [True, False, False, True]
    assert np.isnan(result.x[1:3]).all() and np.isnan(result.cov_x[1:3]).all()
