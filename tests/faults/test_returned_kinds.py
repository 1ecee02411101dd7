"""Results of the user's functions that are not plain arrays of numbers, through every public entry point."""
import functools
import importlib

import entries
import numpy as np
import pytest

import leastsq
from leastsq import curve_fit

ENTRIES = entries.ENTRIES | entries.IN_PYTHON
HAVE_ARRAYS = ("func", "Dfun", "jac", "loss")


class Quantity(np.ndarray):
    """A stand-in for astropy's Quantity: an array with a unit."""

    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", "")

    def to_value(self, unit):
        if unit != self.unit:
            raise ValueError("no such conversion")
        return np.array(self)


class Measured:
    """A stand-in for pint's Quantity: a magnitude and units, but not an array."""

    def __init__(self, values, units):
        self.magnitude, self.units = values, units

    def m_as(self, units):
        if units != self.units:
            raise ValueError("no such conversion")
        return self.magnitude


class Wrapped:
    """Like pandas' objects: becomes an array when NumPy asks."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


def with_unit(value, unit):
    made = np.asarray(value).view(Quantity)
    made.unit = unit
    return made


def some_masked(value):
    made = np.ma.masked_array(np.array(value), mask=np.zeros(np.shape(value), bool))
    made[(0,)*made.ndim] = np.ma.masked
    return made


PASS = {"empty mask": lambda v: np.ma.masked_array(v, mask=np.zeros(np.shape(v), bool)), "no mask": np.ma.masked_array,
        "no unit": lambda v: with_unit(v, ""), "no units": lambda v: Measured(np.asarray(v), ""), "wrapped": Wrapped,
        "matrix of its own class": lambda v: np.asarray(v).view(type("Own", (np.ndarray,), {}))}
REFUSED = {"masked": (some_masked, r"must not be masked, got 1 masked of \d+ values: "),
           "unit": (lambda v: with_unit(v, "m"), r"must have no units, got m: give (its |J)\.value"),
           "units": (lambda v: Measured(np.asarray(v), "m"), r"must have no units, got m: give (its |J)\.magnitude"),
           "dates": (lambda v: np.zeros(np.shape(v), "M8[s]"), r"must be numbers, got dates .*timedelta64\(1, 's'\)"),
           "time spans": (lambda v: np.zeros(np.shape(v), "m8[s]"), r"must be numbers, got time spans")}


def returning(make, only, at=1):
    """From call number `at` on, convert what the function named `only` returns."""
    count = 0

    def wrap(function, name):
        @functools.wraps(function)
        def call(*args):
            nonlocal count
            value = function(*args)
            if name != only:
                return value
            count += 1
            return make(value) if count >= at else value
        return call
    return wrap


def functions_of(entry):
    """The functions that return arrays, among those that the entry calls."""
    seen = []

    def wrap(function, name):
        seen.append(name)
        return function
    ENTRIES[entry](wrap)
    return [name for name in dict.fromkeys(seen) if name in HAVE_ARRAYS]


CASES = [(entry, name) for entry in ENTRIES for name in functions_of(entry)
         # the user's own loop converts func's results; strict is tested in test_strict.py
         if not (entry == "ask/tell" and name == "func" or entry == "strict")]
IDS = [f"{entry}, {name}" for entry, name in CASES]


@pytest.mark.parametrize("how", PASS)
@pytest.mark.parametrize(("entry", "name"), CASES, ids=IDS)
def test_objects_that_hold_only_numbers_pass(entry, name, how):
    if how == "wrapped" and name == "func" and "curve_fit" in entry:
        pytest.skip("the object itself decides what it gives minus an array")
    clean = entries.values(ENTRIES[entry]())
    assert entries.values(ENTRIES[entry](returning(PASS[how], name))) == clean


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("how", REFUSED)
@pytest.mark.parametrize(("entry", "name"), CASES, ids=IDS)
def test_masks_units_and_dates_are_refused(entry, name, how, at):
    make, words = REFUSED[how]
    if how == "masked" and name == "func" and entry.startswith("blocks"):
        pytest.skip("blocks leave out masked residuals: test_kinds.py")
    counting = []
    ENTRIES[entry](returning(lambda v: counting.append(1) or v, name))
    if len(counting) < at:
        pytest.skip("the function is called once")
    with pytest.raises(TypeError, match=words) as caught:
        ENTRIES[entry](returning(make, name, at))
    said = str(caught.value)
    names = {"func": ("f",) if said.startswith("curve_fit") else ("func", "fun")}.get(name, (name,))
    assert entry == "ask/tell" or any(f"the array that {called} returns" in said for called in names)


def test_an_error_about_a_masked_model_advises_to_mask_the_data():
    mask = np.arange(entries.T.size) == 3

    def f(t, a, b):
        return np.ma.masked_array(entries.model(t, a, b), mask=mask)
    for sigma in (None, 0.1, np.diag(np.ones(entries.T.size))):
        with pytest.raises(TypeError, match="curve_fit: the array that f returns must not be masked, .*: mask ydata there"):
            curve_fit(f, entries.T, entries.Y, entries.X0, sigma=sigma)
    want = curve_fit(entries.model, entries.T[~mask], entries.Y[~mask], entries.X0)
    got = curve_fit(entries.model, entries.T, np.ma.masked_array(entries.Y, mask), entries.X0)
    np.testing.assert_array_equal(got[0], want[0])


@pytest.mark.parametrize("tool", ["covariance", "check_gradient", "report", "confidence_intervals"])
def test_the_tools_refuse_them_too(tool):
    f, x = entries.residual, entries.ENTRIES["lmdif"]()[0]
    given = (lambda p: some_masked(f(p)), x) + ((entries.jacobian,) if tool == "check_gradient" else ())
    with pytest.raises(TypeError, match="must not be masked"):
        getattr(leastsq, tool)(*given)


@pytest.mark.parametrize("library", ["astropy.units", "pint"])
def test_quantities_of_the_libraries_themselves(library):
    units = pytest.importorskip(library)
    if library == "pint":
        make = lambda v, unit: units.UnitRegistry().Quantity(np.asarray(v), unit)       # noqa: E731
    else:
        make = lambda v, unit: np.asarray(v)*units.Unit(unit)                           # noqa: E731
    want = entries.values(entries.ENTRIES["lmdif, full"]())
    assert entries.values(entries.ENTRIES["lmdif, full"](returning(lambda v: make(v, ""), "func"))) == want
    with pytest.raises(TypeError, match="must have no units, got (m|meter)"):
        entries.ENTRIES["lmdif"](returning(lambda v: make(v, "m"), "func"))


def test_plain_results_are_not_examined_further(monkeypatch):
    """The check costs nothing for plain arrays."""
    def never(*args):
        raise AssertionError("looked at")
    monkeypatch.setattr("leastsq._problem.kinds.plain", never)
    for result in (lambda p: entries.residual(p), lambda p: list(entries.residual(p)), lambda p: tuple(entries.residual(p)),
                   lambda p: entries.residual(p).astype("f4"), lambda p: np.float64(p[0] - 1), lambda p: float(p[0] - 1)):
        leastsq.leastsq(result, [1.0, 1.0][:np.size(result(np.ones(2)))], Dfun=None)
    curve_fit(entries.model, entries.T, entries.Y, entries.X0, jac=entries.slopes)


def test_a_failing_import_is_an_error_of_its_own(monkeypatch):
    monkeypatch.setitem(importlib.sys.modules, "leastsq._problem.kinds", None)
    with pytest.raises(ImportError):
        leastsq.leastsq(lambda p: np.ma.masked_array(entries.residual(p)), entries.X0)
