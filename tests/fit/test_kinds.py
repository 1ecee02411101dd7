"""Data with masks or units, and dates."""
import numpy as np
import pytest

from leastsq import curve_fit, least_squares, leastsq, leastsq_batch, leastsq_blocks

T = np.linspace(0, 4, 40)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*np.cos(20*T)
KEEP = np.arange(40) % 7 != 3
SPOILED = np.where(KEEP, Y, np.nan)
START = [1.0, 1.0, 0.0]


def decay(t, a, b, c):
    return a*np.exp(-b*t) + c


def masked(values, fill=np.nan):
    return np.ma.masked_array(np.where(KEEP, values, fill), mask=~KEEP)


class Quantity(np.ndarray):
    """A stand-in for astropy's Quantity: an array with a unit."""

    def __new__(cls, values, unit):
        made = np.asarray(values, float).view(cls)
        made.unit = unit
        return made

    def __array_finalize__(self, other):
        self.unit = getattr(other, "unit", "")

    def to_value(self, unit):
        if unit != self.unit:
            raise ValueError("no such conversion")
        return np.asarray(self)


class Measured:
    """A stand-in for pint's Quantity: a magnitude and units."""

    def __init__(self, values, units):
        self.magnitude, self.units = np.asarray(values, float), units

    def m_as(self, units):
        if units != self.units:
            raise ValueError("no such conversion")
        return self.magnitude


@pytest.mark.parametrize("fill", [np.nan, 1e6, np.inf])
@pytest.mark.parametrize("sigma", [None, "vector", "matrix"])
@pytest.mark.parametrize("where", ["y", "x", "both", "sigma"])
@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 9)], ids=["free", "bounds"])
def test_curve_fit_leaves_masked_points_out(where, sigma, bounds, fill):
    given = {None: None, "vector": 0.1 + 0.01*T, "matrix": np.diag(0.1 + 0.01*T) + 0.01}[sigma]
    kept = {None: None, "vector": given if given is None or given.ndim == 2 else given[KEEP],
            "matrix": given[np.ix_(KEEP, KEEP)] if sigma == "matrix" else None}[sigma]
    if where == "sigma":
        if sigma != "vector":
            pytest.skip("there is no vector to mask")
        given = masked(given, fill)
    x = masked(T, fill) if where in ("x", "both") else T
    y = masked(Y, fill) if where in ("y", "both") else Y
    got = curve_fit(decay, x, y, START, sigma=given, bounds=bounds)
    want = curve_fit(decay, T[KEEP], Y[KEEP], START, sigma=kept, bounds=bounds)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


def test_a_point_with_one_masked_predictor_is_left_out():
    x = np.ma.masked_array(np.stack([T, T**2]), mask=np.zeros((2, 40), bool))
    x[1, 5] = np.ma.masked
    keep = np.arange(40) != 5
    got = curve_fit(lambda x, a, b: a*x[0] + b*x[1], x, Y)
    want = curve_fit(lambda x, a, b: a*x[0] + b*x[1], np.stack([T, T**2])[:, keep], Y[keep])
    np.testing.assert_array_equal(got[0], want[0])


def test_a_mask_of_another_length_is_refused():
    with pytest.raises(ValueError, match="masks must have an entry for each of the 40 values"):
        curve_fit(decay, np.ma.masked_array(T[:7], mask=T[:7] > 0.5), Y)


def test_batch_gives_masked_data_no_weight():
    rows = np.ma.masked_array(np.tile(SPOILED, (3, 1)), mask=np.tile(~KEEP, (3, 1)))
    rows[2] = np.ma.masked

    def func(x, y):
        return decay(T, *(x[:, [j]] for j in range(3))) - y
    result = leastsq_batch(func, np.tile(START, (3, 1)), rows)
    want = leastsq(lambda p: decay(T[KEEP], *p) - Y[KEEP], START)[0]
    assert result.ier[2] == 12 and np.isnan(result.x[2]).all() and result.success[:2].all()
    np.testing.assert_allclose(result.x[:2], [want, want], rtol=1e-7)
    with pytest.raises(ValueError, match="data is masked.* give weights with 0"):
        leastsq_batch(func, np.tile(START, (3, 1)), rows[..., None])


def test_blocks_leave_masked_residuals_out():
    def func(p, part):
        return np.ma.masked_array(decay(T[part], *p) - SPOILED[part], mask=~KEEP[part])

    def jacobian(p, part):
        e = np.exp(-p[1]*T[part])
        return np.stack([e, -p[0]*T[part]*e, np.ones(e.size)], axis=1)
    want = leastsq(lambda p: decay(T[KEEP], *p) - Y[KEEP], START)[0]
    for Dfun in (None, "3-point", jacobian):
        x, ier = leastsq_blocks(func, START, [slice(0, 13), slice(13, 40)], Dfun=Dfun)
        np.testing.assert_allclose(x, want, rtol=1e-6)
        assert ier in (1, 2, 3, 4)


@pytest.mark.parametrize("make", [lambda v: Quantity(v, "m"), lambda v: Measured(v, "m")], ids=["astropy", "pint"])
def test_units_are_refused_with_advice(make):
    for call, name in ((lambda: curve_fit(decay, make(T), Y), "xdata"), (lambda: curve_fit(decay, T, make(Y)), "ydata"),
                       (lambda: curve_fit(decay, T, Y, sigma=make(T + 1)), "sigma"),
                       (lambda: curve_fit(decay, T, Y, make(START)), "p0"),
                       (lambda: leastsq(lambda p: decay(T, *p) - Y, make(START)), "x0"),
                       (lambda: least_squares(lambda p: decay(T, *p) - Y, make(START)), "x0")):
        with pytest.raises(TypeError, match=rf"{name} must have no units, got m: give .*\.(value|magnitude)"):
            call()


@pytest.mark.parametrize("make", [lambda v: Quantity(v, ""), lambda v: Measured(v, "")], ids=["astropy", "pint"])
def test_units_without_dimension_pass(make):
    got = curve_fit(decay, make(T), make(Y), make(START))
    np.testing.assert_array_equal(got[0], curve_fit(decay, T, Y, START)[0])


@pytest.mark.parametrize("dates", [np.datetime64("2026-01-01") + np.arange(40), np.arange(40).astype("m8[s]")],
                         ids=["dates", "spans"])
def test_dates_are_refused_with_advice(dates):
    with pytest.raises(TypeError, match=r"xdata must be numbers, got (dates|time spans).*timedelta64\(1, 's'\)"):
        curve_fit(decay, dates, Y)
    with pytest.raises(TypeError, match="ydata must be numbers, got"):
        curve_fit(decay, T, dates)
