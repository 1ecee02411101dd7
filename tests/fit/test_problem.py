"""A result knows the problem that was fitted; a copy of it does not."""
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from enzyme import T, X0, Y, jacobian, residual
from leastsq import curve_fit, leastsq, leastsq_blocks


def model(t, a, b):
    return a*t/(b + t)


def test_infodict_knows_the_problem():
    info = leastsq(residual, X0, (), jacobian, True)[2]
    assert info.problem.func is residual and info.problem.Dfun is jacobian and info.problem.bounds is None
    info = leastsq(residual, X0, Dfun="3-point", full_output=True, bounds=(0, [9, np.inf]), loss="huber",
                   f_scale=0.5)[2]
    assert info.problem.Dfun is None and info.problem.differences.scheme == "3-point"
    assert info.problem.bounds.high.tolist() == [9, np.inf]
    assert (info.problem.loss.rho, info.problem.loss.scale) == ("huber", 0.5)


def test_infodict_of_curve_fit_knows_the_data():
    sigma = np.full(T.size, 0.1)
    t, y = np.array(T, float), np.array(Y, float)
    info = curve_fit(model, t, y, X0, sigma=sigma, absolute_sigma=True, full_output=True)[2]
    problem = info.problem
    assert problem.model is model and problem.xdata is t and problem.ydata is y and problem.sigma is sigma
    assert problem.absolute_sigma is True and problem.names == ("a", "b")
    np.testing.assert_allclose(problem.func(np.array(X0, float)), (model(t, *X0) - y)/0.1, rtol=1e-14)
    assert info.problem is problem                      # made once


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, dict.copy, lambda d: d.copy(),
                                       lambda d: pickle.loads(pickle.dumps(d))])
def test_copies_and_pickles_are_plain_dicts(duplicate):
    info = leastsq(lambda p: residual(p), X0, full_output=True)[2]           # lambdas do not pickle
    other = duplicate(info)
    assert type(other) is dict and list(other) == list(info)
    assert all(np.array_equal(other[key], info[key]) for key in info)


def test_equality_and_display_are_those_of_a_dict():
    info = leastsq_blocks(lambda x, block: residual(x), X0, [0], full_output=True)[2]
    assert info == info.copy() and repr(info) == repr(info.copy()) and info.problem.func is not None


@pytest.mark.parametrize("options", [{}, {"bounds": (0, 9)}], ids=["quick", "bounds"])
def test_a_result_makes_no_cycle(options):
    def func(p):
        return residual(p)

    gc.disable()
    try:
        fit = leastsq(func, X0, full_output=True, **options)
        assert fit[2].problem.func is func
        gone = weakref.ref(func)
        del func, fit
        assert gone() is None
    finally:
        gc.enable()


def test_without_full_output_nothing_is_kept():
    def func(p):
        return residual(p)

    fit = leastsq(func, X0)
    gone = weakref.ref(func)
    del func
    assert gone() is None and len(fit) == 2
