"""leastsq_blocks: wrong arguments, functions that fail, values that are not finite."""
import numpy as np
import pytest

import enzyme
from leastsq import Status, leastsq, leastsq_blocks
from leastsq._many.block_fit import Norm, merge_norms
from test_blocks import in_blocks, quiet  # noqa: F401

# -------------------------------------------------------- bad input and faults

EPS = np.finfo(float).eps
ENZYME = [slice(0, 5), slice(5, 6), slice(6, 12)]


def enzyme_residual(x, rows):
    return enzyme.residual(x, enzyme.T[rows], enzyme.Y[rows])


def enzyme_jacobian(x, rows):
    return enzyme.jacobian(x, enzyme.T[rows], enzyme.Y[rows])


def refuses(error, match, *, func=enzyme_residual, x0=enzyme.X0, blocks=ENZYME, **options):
    with pytest.raises(error, match=match) as caught:
        leastsq_blocks(func, x0, blocks, **options)
    return caught.value


def never(x, block):
    raise AssertionError("called")


@pytest.mark.parametrize("blocks, error, match", [
    ((slice(0, 12) for _ in range(1)), TypeError, "iterable more than once, got the iterator generator"),
    (iter(ENZYME), TypeError, "iterable more than once, got the iterator list_iterator"),
    (map(slice, ENZYME), TypeError, "iterable more than once, got the iterator map"),
    ([], ValueError, "at least one block, got none"),
    (np.zeros((0, 3)), ValueError, "at least one block, got none"),
    ("data.f64", TypeError, r"for one file give \[name\]"),
    (b"data.f64", TypeError, r"for one file give \[name\]"),
    (None, TypeError, "NoneType"), (3, TypeError, "int"),
])
def test_objects_that_are_not_blocks_are_refused(blocks, error, match):
    refuses(error, match, func=never, blocks=blocks)


@pytest.mark.parametrize("options, error, match", [
    (dict(func=3), TypeError, "func must be callable, got int"),
    (dict(Dfun=3), TypeError, "Dfun must be callable"),
    (dict(Dfun="4-point"), TypeError, "Dfun must be callable"),
    (dict(map=3), TypeError, "map must be callable, got int"),
    (dict(full_output=None), TypeError, "full_output must be an integer"),
    (dict(col_deriv="no"), TypeError, "col_deriv must be an integer"),
    (dict(history=True), ValueError, "history=True needs full_output=True"),
    (dict(ftol=-1.0), TypeError, "ftol must be zero or positive"),
    (dict(xtol=None), TypeError, "xtol must be a real number"),
    (dict(factor=0), TypeError, "factor must be positive"),
    (dict(epsfcn=np.nan), TypeError, "epsfcn must be a number or None, got nan"),
    (dict(epsfcn="a"), TypeError, "epsfcn must be a real number"),
    (dict(maxfev=1.5), TypeError, "integer"),
    (dict(diag=[1]), ValueError, "diag"), (dict(diag=[1, 0]), TypeError, "diag"),
    (dict(bounds=(3, 4)), ValueError, "infeasible"), (dict(bounds=3), ValueError, "bounds"),
    (dict(loss="l2"), ValueError, "loss"), (dict(f_scale=0), ValueError, "f_scale"),
    (dict(callback=3), TypeError, "callback"), (dict(verbose=9), ValueError, "verbose"),
    (dict(x0=[1j, 2]), TypeError, "x0"), (dict(x0=[]), TypeError, "x0"), (dict(x0="ab"), TypeError, "x0"),
    (dict(x0=[[1], [1, 2]]), ValueError, "x0 must be an array of real numbers, got an unusable list"),
    (dict(x0=[[1], [1, 2]], bounds=(0, 9)), ValueError, "x0 must be an array of real numbers"),
    (dict(map=lambda f, blocks: None), TypeError, "map must return an iterable of results, got NoneType"),
    (dict(map=lambda f, blocks: [None]), TypeError,
     "map must return the results of the function with which it is called, got NoneType"),
])
def test_arguments_out_of_range_are_refused_before_func_is_called(options, error, match):
    refuses(error, match, **{"func": never} | options)


def test_more_parameters_than_residuals():
    with pytest.raises(TypeError, match="Improper input: func input vector length N=3 must not exceed "
                                        "func output vector length M=2"):
        leastsq_blocks(lambda x, rows: x[:1], [1, 2, 3], [0, 1])


class Changed:
    """enzyme's function, with the result of call number k for a block changed."""

    def __init__(self, function, change, k=0, block=1):
        self.function, self.change, self.k, self.block, self.calls = function, change, k, ENZYME[block], 0

    def __call__(self, x, rows):
        value = self.function(x, rows)
        if rows != self.block:
            return value
        self.calls += 1
        return self.change(value) if self.calls == self.k + 1 else value


BAD_RESIDUALS = {
    "2-D": (lambda f: f[:, None], ValueError, r"func returns must be 0-d or 1-D, got shape \(1, 1\)"),
    "complex": (lambda f: f + 1j, TypeError, "func returns must be real numbers"),
    "text": (lambda f: "no", TypeError, "func returns must be real numbers"),
    "None": (lambda f: None, TypeError, "func returns must be real numbers"),
    "ragged": (lambda f: [[1], [1, 2]], ValueError, "func returns must be an array of real numbers, got an unusable list"),
}


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("bad", BAD_RESIDUALS)
def test_errors_about_residuals_name_the_block(bad, k):
    change, error, match = BAD_RESIDUALS[bad]
    caught = refuses(error, match, func=Changed(enzyme_residual, change, k), Dfun=enzyme_jacobian)
    assert caught.__notes__ == ["leastsq_blocks: in block 1"]


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("change", [lambda f: f[:0], lambda f: np.ones(2)])
def test_a_block_that_changes_size(change, k):
    caught = refuses(ValueError, None, func=Changed(enzyme_residual, change, k), Dfun=None)
    assert "block 1" in str(caught) + str(getattr(caught, "__notes__", ""))
    assert "before" in str(caught) or "changed size between calls" in str(caught)


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (1,), (0, 2), (1, 1, 1)])
def test_a_jacobian_of_another_shape_names_the_block(shape):
    caught = refuses(ValueError, r"must have shape \(1, 2\) for the 1 residuals of this block, got ",
                     Dfun=Changed(enzyme_jacobian, lambda J: np.ones(shape)))
    assert str(shape) in str(caught) and caught.__notes__ == ["leastsq_blocks: in block 1"]


def test_a_transposed_jacobian_is_refused():
    refuses(ValueError, r"must have shape \(5, 2\) .* got \(2, 5\)",
            Dfun=lambda x, rows: enzyme_jacobian(x, rows).T)
    refuses(ValueError, r"must have shape \(2, 5\) .* got \(5, 2\)", Dfun=enzyme_jacobian, col_deriv=True)


def test_a_jacobian_of_one_row_may_be_a_vector():
    blocks = [slice(i, i + 1) for i in range(12)]
    want = leastsq_blocks(enzyme_residual, enzyme.X0, blocks, Dfun=enzyme_jacobian)
    got = leastsq_blocks(enzyme_residual, enzyme.X0, blocks,
                         Dfun=lambda x, rows: enzyme_jacobian(x, rows).ravel())
    np.testing.assert_array_equal(got[0], want[0])


class Mine(BaseException):
    pass


@pytest.mark.parametrize("which", ["func", "Dfun"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyboardInterrupt(), SystemExit(3), Mine(1, 2)],
                         ids=lambda error: type(error).__name__)
def test_an_exception_arrives_as_it_is_from_any_call(error, which):
    functions = {"func": enzyme_residual, "Dfun": enzyme_jacobian}

    def throw(value):
        raise error
    k = 0
    while True:
        faulty = Changed(functions[which], throw, k)
        error.__notes__ = []
        try:
            leastsq_blocks(**functions | {which: faulty}, x0=enzyme.X0, blocks=ENZYME)
        except BaseException as caught:
            assert caught is error and caught.__notes__ == ["leastsq_blocks: in block 1"]
        else:
            assert faulty.calls == k > 3
            return
        k += 1


def test_stop_iteration_does_not_end_a_map_silently():
    def throw(value):
        raise StopIteration
    caught = refuses(RuntimeError, "StopIteration was raised in block 1",
                     func=Changed(enzyme_residual, throw, 3))
    assert type(caught.__cause__) is StopIteration


def test_an_exception_of_the_blocks_arrives_as_it_is():
    error = OSError("gone")

    class Gone:
        times = 0

        def __iter__(self):
            self.times += 1
            yield from ENZYME[:2]
            if self.times == 3:
                raise error
            yield ENZYME[2]
    assert refuses(OSError, "gone", blocks=Gone()) is error


def test_a_changed_number_of_blocks_is_an_error():
    class Fickle:
        def __init__(self, *counts):
            self.counts = list(counts)

        def __iter__(self):
            return iter(ENZYME[:self.counts.pop(0)])
    refuses(ValueError, "the same in each iteration, got 3 blocks, then 2", blocks=Fickle(3, 2))
    refuses(ValueError, "for block 2 it had no elements, now 6", blocks=Fickle(2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_residuals_at_x0_that_are_not_finite(value):
    def func(x, rows):
        f = enzyme_residual(x, rows)
        if rows.start == 6:
            f[[2, 4]] = value
        return f
    x, cov, info, mesg, ier = in_blocks(func, enzyme.X0, ENZYME)
    assert ier == Status.NOT_FINITE and cov is None and info["nfev"] == 1
    assert mesg.startswith(f"Residuals are not finite at x0: func(x)[2] in block 2 is {value} at x = [1. 1.]")
    with pytest.warns(RuntimeWarning, match="in block 2"):
        leastsq_blocks(func, enzyme.X0, ENZYME)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_jacobian_that_is_not_finite(value):
    def Dfun(x, rows):
        J = enzyme_jacobian(x, rows)
        if rows.start >= 5:
            J[-1, 1] = value
        return J
    x, cov, info, mesg, ier = in_blocks(enzyme_residual, enzyme.X0, ENZYME, Dfun=Dfun)
    assert ier == Status.NOT_FINITE and cov is None and info["njev"] == 1
    assert (f"the derivative of residual 0 with respect to x[1] (row 0, column 1) in block 1 is {value} at "
            "x = [1. 1.]") in mesg


def test_a_difference_that_is_not_finite():
    def func(x, rows):
        f = enzyme_residual(x, rows)
        if x[1] > 1 and rows.start == 6:
            f[3] = np.inf
        return f
    _, _, _, mesg, ier = in_blocks(func, enzyme.X0, ENZYME)
    assert ier == Status.NOT_FINITE and "(row 3, column 1) in block 2 is inf" in mesg


def test_a_trial_that_is_not_finite_is_a_rejected_step():
    def func(x, rows=slice(None)):
        f = enzyme_residual(x, rows)
        if abs(x[0] - 1.0) > 0.5 and rows.start in (None, 6) and x[0] < 2.0:
            f[:] = np.nan
        return f
    want = leastsq(func, enzyme.X0, full_output=True)
    got = in_blocks(func, enzyme.X0, ENZYME)
    assert (got[4], got[2]["nfev"]) == (want[4], want[2]["nfev"])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


def test_a_norm_that_overflows():
    _, _, _, mesg, ier = in_blocks(lambda x, rows: x + 1.5e308, [0.0], ENZYME)
    assert ier == Status.NOT_FINITE and mesg == "The norm of the residuals overflows at x = [0.]."


def test_an_empty_norm_is_neutral():
    empty = Norm(0, 0.0, EPS, None)
    assert merge_norms([empty, Norm(3, 2.0, EPS, None)]) == Norm(3, 2.0, EPS, None)
