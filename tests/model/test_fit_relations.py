"""Relations that must hold between fits, whatever the numbers: other units, other orders, repeated data."""
import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 40)
SIGMA = np.linspace(0.015, 0.03, 40)
Y = 2.5*np.exp(-1.3*T) + 0.5 + SIGMA*np.random.default_rng(13).standard_normal(T.size)
START = {"height": 2, "rate": 1, "level": 0.3}
TIGHT = {"ftol": 1e-14, "xtol": 1e-14}
OPTIONS = {
    "plain": {}, "sigma": {"sigma": SIGMA}, "absolute": {"sigma": SIGMA, "absolute_sigma": True},
    "prior": {"sigma": SIGMA, "prior": {"rate": (1.25, 0.03)}},
    "absolute prior": {"sigma": SIGMA, "absolute_sigma": True, "prior": {"rate": (1.25, 0.03), "level": (0.5, 0.01)}},
    "bounds": {"bounds": {"rate": (0.5, 2), "level": (0, None)}}, "held": {"bounds": {"level": (None, 0.45)}},
    "fixed": {"sigma": SIGMA, "fixed": {"level": 0.5}},
    "loss": {"sigma": SIGMA, "loss": "huber", "f_scale": 1.5},
    "loss and prior": {"sigma": SIGMA, "loss": "soft_l1", "prior": {"rate": (1.25, 0.02)}},
}


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def fitted(options, model=decay, x=T, y=Y, start=START):
    return lsq.fit(model, x, y, start, **{**TIGHT, **OPTIONS[options]} if isinstance(options, str) else options)


def scaled(options, factors, of_y):
    """The same options in other units: parameters, y and sigma multiplied by their factors."""
    out = dict(OPTIONS[options])
    if "sigma" in out:
        out["sigma"] = out["sigma"]*of_y
    for name in ("bounds", "prior", "fixed"):
        if name in out:
            out[name] = {key: tuple(None if one is None else one*factors[key] for one in value) if isinstance(value, tuple)
                         else value*factors[key] for key, value in out[name].items()}
    return out | TIGHT


def summary(result, factors=None, order=("height", "rate", "level")):
    unit = np.array([1.0 if factors is None else factors[name] for name in order])
    place = [result.names.index(name) for name in order]
    intervals = result.intervals()
    derived = result.derive(area=lambda p: p["height"]/p["rate"])["area"]
    area = 1.0 if factors is None else factors["height"]/factors["rate"]
    return {"x": result.x[place]/unit, "stderr": result.stderr[place]/unit, "lower": intervals.lower[place]/unit,
            "correlation": result.correlation[np.ix_(place, place)], "derived": [derived.value/area, derived.stderr/area]}


def agree(a, b, rtol=2e-5):
    for name in a:
        assert np.allclose(a[name], b[name], rtol=rtol, atol=1e-6 if name == "correlation" else 0, equal_nan=True), name


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("of_y, of_t", [(1e-12, 1.0), (1e9, 1e-15), (1.0, 1e6), (1e-30, 1e30)])
def test_units(options, of_y, of_t):
    factors = {"height": of_y, "rate": 1/of_t, "level": of_y}
    start = {name: value*factors[name] for name, value in START.items()}
    other = lsq.fit(decay, T*of_t, Y*of_y, start, **scaled(options, factors, of_y))
    agree(summary(fitted(options)), summary(other, factors))


@pytest.mark.parametrize("options", OPTIONS)
def test_permuted_parameters(options):
    def turned(t, level, height, rate):
        return decay(t, height, rate, level)
    agree(summary(fitted(options)), summary(fitted(options, turned)))


@pytest.mark.parametrize("options", OPTIONS)
def test_permuted_points(options):
    order = np.random.default_rng(3).permutation(T.size)
    turned = {**OPTIONS[options], **TIGHT}
    if "sigma" in turned:
        turned["sigma"] = turned["sigma"][order]
    agree(summary(fitted(options)), summary(lsq.fit(decay, T[order], Y[order], START, **turned)))


@pytest.mark.parametrize("options", OPTIONS)
def test_data_of_other_forms(options):
    """A column of an image, one more point that is masked or nan, pandas: the fit has the same bits."""
    wanted = fitted(options)
    sigma = OPTIONS[options].get("sigma")

    def with_sigma(make):
        return {**OPTIONS[options], **TIGHT, **({} if sigma is None else {"sigma": make(sigma)})}

    image = lsq.fit(decay, T.reshape(5, 8), Y.reshape(5, 8), START, **with_sigma(lambda s: s.reshape(5, 8)))
    t, y = np.append(T, 9.0), np.append(Y, 1e6)
    masked = lsq.fit(decay, t, np.ma.array(y, mask=t > 8), START, **with_sigma(lambda s: np.append(s, 1)))
    missing = lsq.fit(decay, t, np.append(Y, np.nan), START, nan_policy="omit", **with_sigma(lambda s: np.append(s, 1)))
    for other in (image, masked, missing):
        assert np.array_equal(other.x, wanted.x)
        assert np.array_equal(other.cov, wanted.cov, equal_nan=True)


@pytest.mark.parametrize("options", ["absolute", "absolute prior"])
def test_a_parameter_for_each_of_two_equal_sets(options):
    """With the same data twice, standard errors of shared parameters shrink by sqrt(2), those of `own` parameters do not."""
    given = {name: value for name, value in OPTIONS[options].items() if name != "prior"}
    one = fitted({**given, **TIGHT})
    shared = lsq.fit([decay, decay], T, [Y, Y], START, **{**given, **TIGHT, "sigma": [SIGMA, SIGMA]})
    own = lsq.fit([decay, decay], T, [Y, Y], START, own=list(START), **{**given, **TIGHT, "sigma": [SIGMA, SIGMA]})
    assert np.allclose(shared.x, one.x, rtol=1e-7) and np.allclose(shared.stderr*np.sqrt(2), one.stderr, rtol=1e-6)
    assert np.allclose(own.x[::2], one.x, rtol=1e-7) and np.allclose(own.stderr[1::2], one.stderr, rtol=1e-6)


@pytest.mark.parametrize("options", ["plain", "sigma", "absolute", "loss"])
def test_a_parameter_replaced_by_a_function_of_it(options):
    """A half-life as a parameter, and derived from the rate."""
    given = {**OPTIONS[options], **TIGHT}

    def by_halflife(t, height, halflife, level):
        return decay(t, height, np.log(2)/halflife, level)
    derived = fitted(options).derive(halflife=lambda p: np.log(2)/p["rate"])["halflife"]
    direct = lsq.fit(by_halflife, T, Y, {"height": 2, "halflife": 0.7, "level": 0.3}, **given)["halflife"]
    assert derived.value == pytest.approx(direct.value, rel=1e-6)
    assert derived.stderr == pytest.approx(direct.stderr, rel=1e-5)
    assert derived.interval() == pytest.approx(direct.interval(), rel=1e-5)
    assert derived.interval(method="profile") == pytest.approx(direct.interval(method="profile"), rel=2e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_derived_quantity_that_is_a_parameter(options):
    result = fitted(options)
    derived = result.derive(rate=lambda p: p["rate"], twice=lambda p: 2*p["rate"])
    assert derived["rate"].stderr == pytest.approx(result["rate"].stderr, rel=1e-9)
    assert derived["twice"].interval() == pytest.approx([2*one for one in result["rate"].interval()], rel=1e-8)
    assert derived.correlation[0, 1] == pytest.approx(1)
    if options != "held":
        assert derived["rate"].interval(method="profile") == pytest.approx(result["rate"].interval(method="profile"), rel=2e-4)
