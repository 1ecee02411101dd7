"""docs/fit_and_lmfit.md: ten tasks with `fit` and with lmfit; the numbers agree, and no version with `fit` is longer."""
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import leastsq as lsq

pytest.importorskip("lmfit")
pytest.importorskip("scipy")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fit_and_lmfit.md"
ROBUST = "4. Outliers"          # with `fit`, standard errors are Huber's


@pytest.fixture(scope="module")
def tasks():
    """{heading: (code with fit, its result, code with lmfit, its result)}; the code before the headings is set-up."""
    names, found = {}, {}
    for section in re.split("^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        blocks = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        pair = []
        for code in blocks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")         # by lmfit and uncertainties
                exec(compile(code, PAGE.name, "exec"), names)
            if "lsq.fit(" in code:
                pair += [code, (names["result"], names.get("derived"))]
                names.pop("derived", None)
            elif pair:
                pair += [code, names["best"]]
        if pair:
            found[section.splitlines()[0]] = pair
    return found


def test_there_are_ten(tasks):
    assert len(tasks) == 10 and all(len(pair) == 4 for pair in tasks.values())


def test_no_version_with_fit_is_longer(tasks):
    def size(code):
        return len([line for line in code.splitlines() if line.strip()]), len(re.sub(r"\s", "", code))
    longer = {name: (size(ours), size(theirs)) for name, (ours, _, theirs, _) in tasks.items()
              if size(ours)[0] > size(theirs)[0] or size(ours)[1] > size(theirs)[1]}
    assert longer == {}


def test_numbers_agree_with_lmfit(tasks):
    for name, (_, (result, derived), _, best) in tasks.items():
        numbers = dict(result) | dict(derived or {})
        theirs = {one: best.params[re.sub(r"\[(\d)\]", r"_\1", one)] for one in numbers}
        for one, ours in numbers.items():
            assert ours == pytest.approx(theirs[one].value, rel=1e-6), (name, one)
            if theirs[one].stderr and name != ROBUST:
                assert ours.stderr == pytest.approx(theirs[one].stderr, rel=0.01), (name, one)
        if name != ROBUST:
            assert result.chi2 == pytest.approx(best.chisqr, rel=1e-9), name
            assert result.reduced_chi2 == pytest.approx(best.redchi, rel=1e-9), name
            assert (result.aic, result.bic) == pytest.approx((best.aic, best.bic), rel=1e-9), name


def test_uncertainties_agree_with_iminuit_where_residuals_are_small():
    iminuit, cost = pytest.importorskip("iminuit"), pytest.importorskip("iminuit.cost")
    t = np.linspace(0, 4, 60)

    def decay(t, height, rate, level):
        return height*np.exp(-rate*t) + level
    y = decay(t, 2.5, 1.3, 0.5) + 1e-3*np.cos(40*t)
    result = lsq.fit(decay, t, y, [1, 1, 0], sigma=1e-3, absolute_sigma=True)
    minuit = iminuit.Minuit(cost.LeastSquares(t, y, 1e-3, decay), height=1, rate=1, level=0)
    minuit.migrad()
    minuit.hesse()
    minuit.minos()
    assert np.allclose(result.x, list(minuit.values), rtol=1e-5)
    assert np.allclose(result.stderr, list(minuit.errors), rtol=0.01)
    profiles = result.intervals(level=0.6826894921370859, method="profile")
    for name, low, high in zip(result, profiles.lower, profiles.upper):
        assert low - result[name] == pytest.approx(minuit.merrors[name].lower, rel=0.01)
        assert high - result[name] == pytest.approx(minuit.merrors[name].upper, rel=0.01)
    outline = np.array(minuit.mncontour("rate", "level", cl=0.95, size=40))
    region = result.contour("rate", "level")
    for ours, theirs in zip((region.x, region.y), outline.T):
        assert np.allclose([ours.min(), ours.max()], [theirs.min(), theirs.max()], rtol=1e-4)
