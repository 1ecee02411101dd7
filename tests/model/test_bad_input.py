"""Every wrong argument of `fit` is an error at once that gives its name, the value, what was wanted, and the nearest name."""
import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 20)
Y = 2.5*np.exp(-1.3*T) + 0.5
IMAGE = np.ones((4, 5))


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


GOOD = {"model": decay, "x": T, "y": Y, "start": {"height": 1, "rate": 1, "level": 0}}
TWO = {"model": [decay, decay], "x": T, "y": [Y, Y], "start": [1, 1, 0]}
BAD = [
    # model
    ({"model": 3}, TypeError, "model must be a function .* got 3"),
    ({"model": []}, ValueError, "model must be a function or a list of them, got an empty list"),
    ({"model": lambda: 0}, TypeError, "model must take x as its first argument"),
    ({"model": lambda t: t, "start": None}, TypeError, "model must have parameters after x"),
    ({"model": lambda t, a: None, "start": [1]}, TypeError, "returned None: is its return missing"),
    ({"model": lambda t, a: "text", "start": [1]}, TypeError, "must be real or complex numbers, got 'text'"),
    ({"model": lambda t, a: a*1j*t, "start": [1]}, TypeError, "(complex numbers, but y is real|real numbers)"),
    # shapes
    ({"x": T[1:]}, ValueError, r"the shape \(19,\), but y has \(20,\): axis 0 is 19 instead of 20. x has the shape \(19,\)"),
    ({"y": Y[:-2]}, ValueError, r"the shape \(20,\), but y has \(18,\): axis 0 is 20 instead of 18"),
    ({"model": lambda t, a: a*t[:, None], "start": [1]}, ValueError, r"\(20, 1\), but y has \(20,\): 2 axes instead of 1"),
    ({"model": lambda t, a: a*np.outer(t, t), "start": [1]}, ValueError, r"\(20, 20\), but y has \(20,\): 2 axes instead of 1"),
    ({"model": lambda t, a: a*IMAGE.T, "start": [1], "y": IMAGE}, ValueError,
     r"\(5, 4\), but y has \(4, 5\): axis 0 is 5 instead of 4"),
    ({"model": lambda t, a: np.array([a]), "start": [1], "x": None}, ValueError, r"\(1,\), but y has \(20,\)"),
    ({"model": lambda t, a: a*t[:3], "start": [1]}, ValueError, r"\(3,\), but y has \(20,\)"),
    # y and x
    ({"y": []}, ValueError, "y must not be empty"),
    ({"y": "data"}, TypeError, "y must be real or complex numbers, got 'data'"),
    ({"y": [1, [2, 3]]}, ValueError, "y must be an array of numbers"),
    ({"y": np.where(T == T[3], np.nan, Y)}, ValueError, r"y\[3\] is nan, the first of 1 .* nan_policy='omit' leaves nan out"),
    ({"y": np.where(T == T[3], np.inf, Y), "nan_policy": "omit"}, ValueError, r"y\[3\] is inf"),
    ({"y": np.full(20, np.nan), "nan_policy": "omit"}, ValueError, "y has no value that counts: all 20"),
    ({"y": Y.astype("datetime64[s]")}, TypeError, "y must be numbers, got dates"),
    ({"x": np.where(T == T[2], np.nan, T)}, ValueError, r"x\[2\] is nan: nan_policy='omit'"),
    ({"nan_policy": "drop"}, ValueError, "nan_policy must be 'raise' or 'omit', got 'drop'"),
    ({"nan_policy": "omitt"}, ValueError, "did you mean 'omit'"),
    ({"x": T[:2], "y": Y[:2]}, TypeError, "3 free parameters need at least as many data, got 2"),
    # start
    ({"start": {"rate": 1}}, ValueError, "start must have a value for each parameter, 'height', 'level' have none"),
    ({"start": None, "starts": 0}, ValueError, "starts must be a positive integer, got 0"),
    ({"start": None, "starts": 2.5}, TypeError, "starts must be a positive integer, got 2.5"),
    ({"start": [1, 1, 0], "starts": 5}, ValueError, "starts is the number of places to try without a start"),
    ({"start": {"height": 1, "level": 0}}, ValueError, "'rate' has none: start={'rate': ...}"),
    ({"start": {"height": 1, "rte": 1, "level": 0}}, ValueError, "start: there is no parameter 'rte'; did you mean 'rate'"),
    ({"start": [1, 1]}, ValueError, "start must have 3 values, for height, rate, level, got 2"),
    ({"start": 1}, TypeError, "start must be a dict of numbers or a sequence"),
    ({"start": "111"}, TypeError, "start must be a dict of numbers or a sequence .* got '111'"),
    ({"start": [1, "1", 0]}, TypeError, r"start\['rate'\] must be a real number, got '1'"),
    ({"start": [1, True, 0]}, TypeError, r"start\['rate'\] must be a real number, got True"),
    ({"start": [1, 1j, 0]}, TypeError, r"start\['rate'\] must be a real number"),
    ({"start": [1, np.nan, 0]}, ValueError, r"start\['rate'\] must be finite, got nan"),
    ({"start": [1, np.inf, 0]}, ValueError, r"start\['rate'\] must be finite, got inf"),
    # sigma
    ({"sigma": 0.0}, ValueError, "sigma must be positive, got 0"),
    ({"sigma": -0.1}, ValueError, "sigma must be positive, got -0.1"),
    ({"sigma": np.inf}, ValueError, "sigma must be finite, got inf"),
    ({"sigma": np.where(T == T[4], 0, 1.0)}, ValueError, r"sigma\[4\] must be positive, got 0; inf leaves a point out"),
    ({"sigma": np.where(T == T[4], -1, 1.0)}, ValueError, r"sigma\[4\] must be positive, got -1"),
    ({"sigma": np.where(T == T[4], np.nan, 1.0)}, ValueError, r"sigma\[4\] must be positive, got nan"),
    ({"sigma": np.ones(19)}, ValueError, r"sigma must be a number or have the shape of y, \(20,\) or \(20, 20\), got \(19,\)"),
    ({"sigma": "small"}, TypeError, "sigma must be real numbers, got 'small'"),
    ({"sigma": 1j}, TypeError, "sigma must be real numbers for a real y"),
    ({"sigma": np.ones((20, 20))}, ValueError, "sigma as a matrix must be positive definite"),
    ({"absolute_sigma": "yes"}, TypeError, "absolute_sigma must be True or False, got 'yes'"),
    ({"absolute_sigma": True, "loss": "huber"}, ValueError, "absolute_sigma must be False with a loss"),
    # bounds
    ({"bounds": {"rat": (0, 1)}}, ValueError, "bounds: there is no parameter 'rat'; did you mean 'rate'"),
    ({"bounds": {"rate": 1}}, ValueError, r"bounds\['rate'\] must be a pair \(lower, upper\), None for no bound, got 1"),
    ({"bounds": {"rate": (2, 1)}}, ValueError,
     r"bounds\['rate'\] must be \(lower, upper\), got \(2, 1\), whose lower bound is larger"),
    ({"bounds": {"rate": (np.nan, 1)}}, ValueError, "the lower bound of 'rate' must be a number, got nan"),
    ({"bounds": {"rate": ("0", 1)}}, TypeError, "the lower bound of 'rate' must be a real number, got '0'"),
    ({"bounds": {"rate": (2, 3)}}, ValueError, r"start\['rate'\] must be within the bounds 2 to 3, got 1"),
    ({"bounds": [(0, 1), (0, 1)]}, ValueError,
     r"bounds must be pairs \(lower, upper\), one for each of the 3 parameters .* got 2"),
    ({"bounds": "rate"}, TypeError, "bounds must be a dict or a sequence of pairs"),
    # fixed
    ({"fixed": "lvl"}, ValueError, "fixed: there is no parameter 'lvl'; did you mean 'level'"),
    ({"fixed": ["level", "rte"]}, ValueError, "fixed: there is no parameter 'rte'"),
    ({"fixed": {"rate": np.inf}}, ValueError, r"fixed\['rate'\] must be finite, got inf"),
    ({"fixed": {"rate": "1"}}, TypeError, r"fixed\['rate'\] must be a real number, got '1'"),
    ({"fixed": {"rate": 5}, "bounds": {"rate": (0, 2)}}, ValueError, r"fixed\['rate'\] must be within the bounds 0 to 2, got 5"),
    ({"fixed": [True]}, ValueError, "fixed must be names, or True or False, one for each of the 3 parameters"),
    # prior
    ({"prior": {"rate": (1, 0.1)}}, ValueError, "prior needs sigma"),
    ({"prior": {"rte": (1, 0.1)}, "sigma": 1.0}, ValueError, "prior: there is no parameter 'rte'; did you mean 'rate'"),
    ({"prior": {"rate": (1, 0)}, "sigma": 1.0}, ValueError, r"the width of prior\['rate'\] must be positive and finite, got 0"),
    ({"prior": {"rate": (1, -1)}, "sigma": 1.0}, ValueError, r"the width of prior\['rate'\] must be positive"),
    ({"prior": {"rate": (np.inf, 1)}, "sigma": 1.0}, ValueError, r"the mean of prior\['rate'\] must be finite"),
    ({"prior": {"rate": 1.3}, "sigma": 1.0}, ValueError, r"prior\['rate'\] must be a pair \(mean, width\), got 1.3"),
    ({"prior": {"rate": (1, 0.1)}, "sigma": 1.0, "fixed": "rate"}, ValueError, r"prior\['rate'\]: rate is fixed"),
    # the rest
    ({"own": ["height"]}, ValueError, "own needs several data sets"),
    ({"jac": "forward"}, ValueError, "jac must be a function or one of '2-point', '3-point', 'cs', 'jax', got 'forward'"),
    ({"jac": 3}, TypeError, "jac must be a function"),
    ({"jac": lambda t, *p: np.ones((20, 2))}, ValueError, r"jac returned must have the shape \(20, 3\), .* got \(20, 2\)"),
    ({"jac": "cs", "y": Y + 0j}, ValueError, "'cs' takes complex steps, which need a real y"),
    ({"loss": "hubr"}, ValueError, "`loss` must be one of .*'huber'"),
    ({"f_scale": 0}, ValueError, "`f_scale` must be positive"),
    ({"strategy": "fastest"}, ValueError, "strategy must be 'fast', 'minpack' or 'robust', got 'fastest'; did you mean 'fast'"),
    ({"maxfev": "many"}, TypeError, "maxfev must be an integer"),
    ({"ftol": -1}, TypeError, "ftol must be zero or positive, got -1"),
    ({"callback": 3}, TypeError, "callback must be callable"),
    ({"verbose": 9}, ValueError, "verbose"),
    ({"sigmas": 1}, TypeError, "unexpected keyword"),
]
BAD_SETS = [
    ({"y": Y}, ValueError, "y must be a list of 2 data sets, one for each model, got 20"),
    ({"y": 3.0}, ValueError, "y must be a list of 2 data sets, one for each model, got 3.0"),
    ({"x": [T]}, ValueError, "x must be a list of 2, one for each model, or one x for all, got a list of 1"),
    ({"sigma": [1.0]}, ValueError, "sigma must be a number or a list of 2, one for each model, got 1"),
    ({"sigma": [1.0, None]}, ValueError, "sigma must be given for all data sets or for none"),
    ({"sigma": [1.0, -1.0]}, ValueError, r"sigma\[1\] must be positive, got -1"),
    ({"y": [Y, np.where(T == T[3], np.nan, Y)]}, ValueError, r"y\[1\]\[3\] is nan"),
    ({"y": [Y, Y[1:]]}, ValueError, r"the array that model 1 returned has the shape \(20,\), but y has \(19,\)"),
    ({"own": ["hight"]}, ValueError, "own: there is no parameter 'hight'; did you mean 'height'"),
    ({"own": "height", "start": {"height": [1, 2, 3], "rate": 1, "level": 0}}, ValueError,
     r"start\['height'\] must be a number or 2 numbers, one for each data set that has it, got 3"),
    ({"own": "height", "bounds": {"height[2]": (0, 1)}}, ValueError, r"no parameter 'height\[2\]'; did you mean 'height\[\d\]'"),
    ({"jac": lambda *_: 0}, TypeError, "jac must be a function, or a list of 2"),
]


@pytest.mark.parametrize("given, kind, words", BAD + [({**TWO, **one[0]}, *one[1:]) for one in BAD_SETS])
def test_wrong_arguments_are_named_at_once(given, kind, words):
    with pytest.raises(kind, match=words):
        lsq.fit(**{**GOOD, **given})


def test_the_data_are_not_written_to():
    x, y, sigma = T.copy(), np.where(T == T[3], np.nan, Y), np.full(20, 0.1)
    kept = [one.copy() for one in (x, y, sigma)]
    for one in (x, y, sigma):
        one.setflags(write=False)
    lsq.fit(decay, x, y, GOOD["start"], sigma=sigma, nan_policy="omit").stderr
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip((x, y, sigma), kept))


def test_data_changed_after_the_fit_are_an_error():
    y = Y.copy()
    result = lsq.fit(decay, T, y, GOOD["start"])
    y += T
    with pytest.raises(ValueError, match="not what it was at the end of the fit"):
        result.stderr
