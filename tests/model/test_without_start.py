"""`fit` without a start: what the search finds, reports and counts, and where it gives up."""
import inspect
import json
from pathlib import Path

import families
import nist27
import numpy as np
import pytest

import leastsq as lsq
from leastsq._model import search

T = np.linspace(0, 4, 50)


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


Y = decay(T, 2.5, 1.3, 0.5) + 0.02*np.random.default_rng(1).standard_normal(50)
BEST = lsq.fit(decay, T, Y, [1, 1, 0]).x


def test_the_result_says_how_often_the_answer_was_found_and_counts_everything():
    calls = []

    def counted(t, height, rate, level):
        calls.append(rate)
        return decay(t, height, rate, level)
    result = lsq.fit(counted, T, Y)
    assert result.x == pytest.approx(BEST, rel=1e-6)
    assert result.nfev == len(calls) < 200
    assert result.search == ("Without a start: the best of 33 places, found 3 times from the best 3; "
                             "no other minimum was seen.")
    assert result.message.endswith(f"solved for: height, level. {result.search}")
    assert "without a start" in str(result.report())
    assert np.isnan(result.start).tolist() == [True, False, True]
    assert "global" not in result.message


def test_fits_with_a_start_do_not_mention_a_search():
    result = lsq.fit(decay, T, Y, [1, 1, 0])
    assert result.search == "" and "without a start" not in str(result.report())


def test_the_same_call_has_the_same_answer_to_the_bit():
    one, two = lsq.fit(decay, T, Y), lsq.fit(decay, T, Y)
    assert np.array_equal(one.x, two.x) and one.nfev == two.nfev


def test_another_minimum_is_named():
    t = np.linspace(0, 10, 80)

    def wave(t, a, f):
        return a*np.sin(2*np.pi*f*t)
    result = lsq.fit(wave, t, wave(t, 2, 0.53) + 0.1*np.random.default_rng(0).standard_normal(80), bounds={"f": (0, 2)})
    assert result["f"] == pytest.approx(0.53, rel=1e-2)
    assert "; next minimum at chi2 " in result.message
    next_one = float(result.search.split("chi2 ")[1].rstrip("."))
    assert next_one > 1.01*result.chi2


def test_defaults_are_starts_and_only_the_rest_is_searched():
    def model(t, height, rate=1.0, level=0.5):
        return decay(t, height, rate, level)
    result = lsq.fit(model, T, Y)
    assert result.x == pytest.approx(BEST, rel=1e-6)

    def all_known(t, height=1.0, rate=1.0, level=0.5):
        return decay(t, height, rate, level)
    plain = lsq.fit(all_known, T, Y)
    assert plain.search == "" and "Linear" not in plain.message
    assert np.array_equal(plain.x, lsq.fit(all_known, T, Y, [1, 1, 0.5]).x)


def test_starts_is_the_number_of_points_tried():
    result = lsq.fit(decay, T, Y, starts=7)
    assert "the best of 7 places" in result.message


def test_maxfev_limits_the_search():
    result = lsq.fit(decay, T, Y, maxfev=60)
    assert result.nfev < 60 + 150       # refinements and the fit are counted too, and have separate limits
    assert int(result.search.split("best of ")[1].split()[0]) <= 15


def test_a_linear_model_needs_no_search():
    result = lsq.fit(lambda t, a, b: a + b*t, T, Y)
    assert result.search == ""
    assert result.x == pytest.approx(np.polyfit(T, Y, 1)[::-1], rel=1e-9)


@pytest.mark.parametrize("options", [
    {"separable": False}, {"separable": ["height"]}, {"loss": "huber", "f_scale": 0.1}, {"fixed": {"level": 0.5}},
    {"bounds": {"rate": (0.5, 5), "height": (0, None)}}, {"bounds": {"level": (None, 0.45)}}, {"jac": "3-point"},
    {"sigma": 0.02, "prior": {"rate": (1.2, 0.1)}}, {"sigma": np.linspace(1, 2, 50)}], ids=str)
def test_every_option_works_without_a_start(options):
    result = lsq.fit(decay, T, Y, **options)
    start = dict(zip(("height", "rate", "level"), BEST))
    if "bounds" in options:
        start["level"] = min(start["level"], 0.4)
    known = {k: v for k, v in options.items() if k != "separable"}
    assert result.x == pytest.approx(lsq.fit(decay, T, Y, start, **known).x, rel=1e-4)


def test_several_sets():
    ys = [Y, 2*Y - 1]
    result = lsq.fit([decay]*2, T, ys, own=["height", "level"])
    assert result["rate"] == pytest.approx(BEST[1], rel=1e-6)


def test_predictors_of_every_form():
    def plane(x, a, b, rate):
        u, v = x
        return a*u + b*np.exp(-rate*v)
    u, v = np.random.default_rng(1).uniform(0, 5, (2, 60))
    y = plane((u, v), 1.0, 3.0, 0.7)
    for x in ((u, v), np.stack([u, v])):
        assert lsq.fit(plane, x, y).x == pytest.approx([1, 3, 0.7], rel=1e-6)
    by_name = lsq.fit(lambda x, a, b, rate: plane((x["u"], x["v"]), a, b, rate), {"u": u, "v": v}, y)
    assert by_name.x == pytest.approx([1, 3, 0.7], rel=1e-6)
    nothing = lsq.fit(lambda x, a, b, rate: plane((u, v), a, b, rate), None, y)         # x tells the search nothing
    assert nothing.x == pytest.approx([1, 3, 0.7], rel=1e-6)


# ---------------------------------------------------------------- models that fail

def test_a_model_that_fails_at_most_points_is_reported():
    def picky(t, a, b):
        if b > 20:
            raise OverflowError("out of my domain")
        return a*np.exp(-b*t) if 0.9 < b < 2 else t*np.nan
    result = lsq.fit(picky, T, picky(T, 2, 1.3), starts=400, bounds={"b": (0, 50)})
    assert result["b"] == pytest.approx(1.3)
    assert "places the model was not finite, or failed." in result.message


def test_a_model_that_is_finite_nowhere_is_an_error():
    with pytest.raises(ValueError, match="start must be given: the model was not finite at any of the .* places that were tried"):
        lsq.fit(lambda t, a, b: a*b*t*np.nan, T, Y)


def test_an_exception_that_the_model_raises_everywhere_arrives():
    def broken(t, a, b):
        return 1/0
    with pytest.raises(ZeroDivisionError):
        lsq.fit(broken, T, Y)

    class Mine(Exception):
        pass

    def other(t, a, b):
        raise Mine
    with pytest.raises(Mine):
        lsq.fit(other, T, Y)
    with pytest.raises(ValueError, match="the array that the model returned has the shape"):
        lsq.fit(lambda t, a, b: np.ones(3)*a, T, Y)


def test_counts_need_no_start():
    counts = np.random.default_rng(3).poisson(decay(T, 40, 1.3, 5))
    found, known = lsq.fit(decay, T, counts, loss="poisson"), lsq.fit(decay, T, counts, [30, 1, 4], loss="poisson")
    assert found.x == pytest.approx(known.x, rel=1e-5) and found.stderr == pytest.approx(known.stderr, rel=1e-5)
    assert found.search.startswith("Without a start: the best of 500 places")
    assert not np.isnan(found.start).any() and "solved for" not in found.message


# ---------------------------------------------------------------- how good it is

@pytest.mark.parametrize("seed, missed", [
    (0, {"Gauss1", "ENSO", "Gauss2", "Gauss3"}), pytest.param(1, {"Gauss1", "MGH17", "Gauss2", "Gauss3"}, marks=pytest.mark.slow),
    pytest.param(2, {"MGH17", "ENSO", "Gauss2", "Gauss3"}, marks=pytest.mark.slow)])
def test_nist(monkeypatch, seed, missed):
    monkeypatch.setattr(search, "SEED", seed)
    calls, lost = [], set()
    for name in nist27.NAMES:
        d = nist27.load(name)
        before = d.count[0]
        result = lsq.fit(d.model, d.x, d.y)
        calls.append(d.count[0] - before)
        if not d.is_solved(result.chi2, d.starts[0]):
            lost.add(name)
    assert lost <= missed
    assert np.median(calls) < 1000


HERE = Path(__file__).resolve().parent
GOLDEN = json.loads((HERE.parent / "golden" / "families_scipy.json").read_text(encoding="utf-8"))["families"]


@pytest.mark.parametrize("family", families.half("judging"), ids=lambda family: family.name)
@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.slow)], ids=["some", "all"])
def test_bounded_families_need_no_start(family, step):
    p, missed, tried = family.problems, 0, range(0, families.COUNT, step)
    best = next(row["best"] for row in GOLDEN if row["family"] == family.name)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for i in tried:
        def model(t, *x):
            with np.errstate(all="ignore"):
                return family.model(t, *x)
        model.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in ("t", *family.names)])
        result = lsq.fit(model, p.t[i], p.y[i], sigma=np.broadcast_to(1/p.weight[i], p.y[i].shape),
                         bounds=list(zip(p.low[i], p.high[i])))
        missed += bool(families.missed(np.array(result.chi2/2), np.array(np.inf if best[i] is None else best[i])))
    assert missed <= 0.05*len(tried)
