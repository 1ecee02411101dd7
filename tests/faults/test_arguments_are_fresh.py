"""The user's functions own their arguments: they may write into them and keep them."""
import inspect
import warnings

import entries
import numpy as np
import pytest
from enzyme import T, Y

import leastsq as package
from leastsq import curve_fit, leastsq, leastsq_batch, leastsq_blocks

ENTRIES = entries.ENTRIES | entries.IN_PYTHON
CALLERS = [T, Y, entries.STARTS, entries._T, entries._Y, *(a for block in entries.BLOCKS for a in block)]
SENTENCE = ("The arrays that functions are called with are their own, fresh at each call; `args`, blocks and other data of the "
            "caller's are handed on as they are.")


def arrays_of(args):
    """The arrays among a function's arguments, except those that belong to the caller."""
    found = []
    for value in args:
        if isinstance(value, (tuple, list)):
            found += arrays_of(value)
        elif type(value).__name__ == "State":
            found.append(value.x)
        elif isinstance(value, np.ndarray) and not any(np.shares_memory(value, own) for own in CALLERS):
            found.append(value)
    return found


def quietly(entry, wrap):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return entries.values(ENTRIES[entry](wrap))


@pytest.mark.parametrize("garbage", [np.nan, 1e300, 0.0])
@pytest.mark.parametrize("entry", ENTRIES)
def test_functions_may_write_into_every_argument(entry, garbage):
    clean, before, written = quietly(entry, entries.same), [array.tobytes() for array in CALLERS], 0

    def wrap(function, name):
        def call(*args):
            nonlocal written
            result = function(*args)
            for array in arrays_of(args):
                array[...] = garbage
                written += 1
            return result
        call.__signature__ = inspect.signature(function)
        return call
    assert quietly(entry, wrap) == clean
    assert written > 0 or entry.startswith("curve_fit")         # its arguments are numbers and the caller's xdata
    assert before == [array.tobytes() for array in CALLERS]


@pytest.mark.parametrize("entry", ENTRIES)
def test_functions_may_keep_every_argument(entry):
    clean, kept = quietly(entry, entries.same), []

    def wrap(function, name):
        def call(*args):
            for array, copy in kept:
                assert array.tobytes() == copy
            new = arrays_of(args)
            assert not any(np.shares_memory(a, b) for a in new for b, _ in kept)
            kept.extend((array, array.tobytes()) for array in new)
            assert all(array.flags.owndata or array.base is not None for array in new)
            return function(*args)
        call.__signature__ = inspect.signature(function)
        return call
    assert quietly(entry, wrap) == clean
    assert kept or entry.startswith("curve_fit")
    assert all(array.tobytes() == copy for array, copy in kept)


def in_place(x, *data):
    """A model that computes in place, in all of its arrays, and returns one of them."""
    x -= 3.0
    for array in data:
        array *= 2.0
        x += array
    return x


def test_functions_that_work_in_place_are_fitted_right():
    for options in ({}, {"bounds": (-9, 9)}, {"loss": "huber"}, {"qr": "blocked"}, {"Dfun": "3-point"}, {"workers": 1}):
        np.testing.assert_allclose(leastsq(in_place, [1.0, 1.0], **options)[0], 3, rtol=1e-6)
    y = np.arange(600.0).reshape(300, 2)/600
    before = y.copy()
    for options in ({}, {"bounds": (-9, 9)}, {"loss": "soft_l1"}, {"weights": np.full((300, 2), 2.0)}, {"slab": 7}):
        result = leastsq_batch(in_place, np.ones((300, 2)), y, **options)
        np.testing.assert_allclose(result.x, 3 - 2*before, rtol=1e-6)
        np.testing.assert_array_equal(y, before)
    assert leastsq_blocks(lambda x, block: in_place(x), [1.0, 1.0], [0, 1])[0] == pytest.approx(3.0)


@pytest.mark.parametrize("given", ["list", "tuple", "float32", "int", "omit", "mask"])
@pytest.mark.parametrize("predictors", [1, 2])
@pytest.mark.parametrize("options", [{}, {"bounds": (-9, 9)}, {"jac": "3-point"}], ids=str)
def test_no_model_spoils_the_xdata_that_curve_fit_made(given, predictors, options):
    """Such a model would be fitted to what its first call left in xdata; there is an error instead."""
    x = np.arange(1.0, 13.0)
    y = 2*x + 1
    policy = {}
    if given == "omit":
        y[3], policy = np.nan, {"nan_policy": "omit"}
    elif given == "mask":
        y = np.ma.masked_array(y, mask=x == 4)
    if predictors == 2:
        x = np.stack([x, 0*x])
    data = {"list": list(x), "tuple": tuple(x), "float32": x.astype("f4"), "int": x.astype(int)}.get(given, x)
    before = np.array(data)

    def spoiling(x, a, b):
        x *= 2
        return a*(x if predictors == 1 else x[0])/2 + b
    with pytest.raises(ValueError, match="read-only"):
        curve_fit(spoiling, data, y, **policy, **options)
    np.testing.assert_array_equal(np.array(data), before)
    clean = curve_fit(lambda x, a, b: a*(x if predictors == 1 else x[0]) + b, data, y, **policy, **options)
    np.testing.assert_allclose(clean[0], [2, 1], rtol=1e-6)


def test_the_callers_own_xdata_is_passed_on():
    x, seen = np.arange(1.0, 13.0), []
    curve_fit(lambda x, a, b: seen.append(x) or a*x + b, x, 2*x + 1)
    assert all(array is x for array in seen) and x.flags.writeable
    for given in (x, list(x)):
        marker = object()
        leastsq(lambda p, a, b: (a is given and b is marker) and p - 1.0, [0.0], args=(given, marker))


@pytest.mark.parametrize("name", ["leastsq", "least_squares", "curve_fit", "fit", "leastsq_batch", "leastsq_blocks", "covariance",
                                  "confidence_intervals", "report", "check_gradient"])
def test_docstrings_say_so_in_the_same_words(name):
    assert SENTENCE in " ".join(getattr(package, name).__doc__.split())
