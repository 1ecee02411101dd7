"""Exports: dicts, CSV, LaTeX, pandas, uncertainties, files, pickles; and the display in a notebook."""
import copy
import csv
import io
import json
import pickle

import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 30)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*np.random.default_rng(19).standard_normal(T.size)
U, V = np.meshgrid(np.arange(5.0), np.arange(4.0))


def decay(t, height, rate_1, level):
    return height*np.exp(-rate_1*t) + level


def plane(uv, a, b):
    u, v = uv
    return a*u + b*v


def resonance(f, gain, width):
    return gain/(1 + 1j*f/width)


START = {"height": 1, "rate_1": 1, "level": 0}
RESULT = lsq.fit(decay, T, Y, START, sigma=0.02, fixed={"level": 0.5})
EVERYTHING = {
    "plain": lambda: lsq.fit(decay, T, Y, START),
    "fixed": lambda: RESULT,
    "bounds": lambda: lsq.fit(decay, T, Y, START, bounds={"level": (None, 0.45), "rate_1": (0, None)}),
    "prior": lambda: lsq.fit(decay, T, Y, START, sigma=np.linspace(0.01, 0.03, 30), prior={"rate_1": (1.3, 0.1)}),
    "loss": lambda: lsq.fit(decay, T, Y, START, sigma=0.02, loss="huber", prior={"rate_1": (1.3, 0.1)}),
    "matrix": lambda: lsq.fit(decay, T, Y, START, sigma=0.02**2*(np.eye(30) + 0.1), absolute_sigma=True),
    "missing": lambda: lsq.fit(decay, T, np.where(T == T[3], np.nan, Y), START, nan_policy="omit",
                               sigma=np.linspace(0.01, 0.03, 30)),
    "image": lambda: lsq.fit(plane, (U, V), np.ma.array(2*U + V + 0.1*np.cos(9*U), mask=U == V), [1, 1]),
    "complex": lambda: lsq.fit(resonance, T, resonance(T, 2, 0.7) + 0.01*np.cos(9*T), [1, 1], sigma=0.01 + 0.02j),
    "sets": lambda: lsq.fit([decay, decay], T, [Y, 2*Y], START, own=["height", "level"], sigma=[0.02, 0.04]),
    "unknown": lambda: lsq.fit(lambda t, height, rate_1, level: height*rate_1*np.exp(-t) + level, T, Y, START),
}
MODELS = {"image": plane, "complex": resonance, "sets": [decay, decay],
          "unknown": lambda t, height, rate_1, level: height*rate_1*np.exp(-t) + level}


# ------------------------------------------------------------------ tables

@pytest.mark.parametrize("of", ["result", "report", "covariance"])
def test_results_reports_and_covariances_have_the_same_exports(of):
    thing = {"result": RESULT, "report": RESULT.report(), "covariance": RESULT.covariance}[of]
    told = thing.to_dict()
    assert told["parameters"]["rate_1"] == {"value": RESULT["rate_1"].value, "stderr": RESULT["rate_1"].stderr, "status": "free"}
    assert told["parameters"]["level"] == {"value": 0.5, "stderr": None, "status": "fixed"}
    assert told["chi2"] == pytest.approx(RESULT.chi2) and told["covariance"][0][0] == RESULT.cov[0, 0]
    assert told["covariance"][2][2] is None
    json.dumps(told)
    rows = list(csv.DictReader(io.StringIO(thing.to_csv())))
    assert [row["parameter"] for row in rows] == list(RESULT)
    assert [float(row["value"]) for row in rows] == list(RESULT.x)
    assert float(rows[0]["stderr"]) == RESULT.stderr[0] and rows[2]["stderr"] == ""
    latex = thing.to_latex()
    assert rf"rate\_1 & ${lsq.format_value(RESULT['rate_1'], style='latex')}$ \\" in latex
    assert r"level & $0.5$ (fixed) \\" in latex


def test_tables_go_to_files(tmp_path):
    for name, write in (("a.csv", RESULT.to_csv), ("a.tex", RESULT.to_latex)):
        assert write(tmp_path/name) is None
        assert (tmp_path/name).read_text(encoding="utf-8") == write()


def test_a_data_frame():
    pytest.importorskip("pandas")
    frame = RESULT.to_dataframe()
    assert list(frame.index) == list(RESULT) and list(frame.columns) == ["value", "stderr", "status"]
    assert frame.loc["rate_1", "stderr"] == RESULT["rate_1"].stderr and np.isnan(frame.loc["level", "stderr"])
    assert frame.equals(RESULT.report().to_dataframe()) and frame.equals(RESULT.covariance.to_dataframe())


def test_ufloats_are_correlated():
    uncertainties = pytest.importorskip("uncertainties")
    numbers = RESULT.ufloats()
    area = numbers["height"]/numbers["rate_1"]
    derived = RESULT.derive(area=lambda p: p["height"]/p["rate_1"])["area"]
    assert area.std_dev == pytest.approx(derived.stderr, rel=1e-6)
    assert RESULT["rate_1"].ufloat.std_dev == pytest.approx(RESULT["rate_1"].stderr)
    assert numbers["level"].std_dev == 0 and isinstance(numbers["level"], uncertainties.UFloat)


@pytest.mark.parametrize("package, ask", [("pandas", RESULT.to_dataframe), ("uncertainties", RESULT.ufloats)])
def test_a_package_that_is_not_installed_is_named(package, ask, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=f"needs .*{package}"):
        ask()


@pytest.mark.parametrize("args, strings", [
    ((1.3036, 0.0121), ("1.304 ± 0.012", "1.304(12)", r"1.304 \pm 0.012")),
    ((-2.5e-7, 3e-9), ("(-2.500 ± 0.030)e-07", "-2.500(30)e-07", r"(-2.500 \pm 0.030) \times 10^{-7}")),
    ((5.0, np.inf), ("5 ± inf", "5 ± inf", r"5 \pm \infty")), ((5.0, np.nan), ("5", "5", "5")), ((5.0,), ("5", "5", "5")),
    ((12.0, 3.4, 1), ("12 ± 3", "12(3)", r"12 \pm 3")), ((0, 0.5), ("0.00 ± 0.50", "0.00(50)", r"0.00 \pm 0.50"))])
def test_values_are_rounded_to_their_uncertainties(args, strings):
    assert tuple(lsq.format_value(*args, style=style) for style in ("plain", "short", "latex")) == strings


def test_values_of_results_know_their_uncertainties():
    assert lsq.format_value(RESULT["rate_1"]) == lsq.format_value(RESULT["rate_1"].value, RESULT["rate_1"].stderr)
    for bad in ({"style": "html"}, {"digits": 0}, {"digits": True}, {"digits": 2.0}):
        with pytest.raises(ValueError, match="format_value: "):
            lsq.format_value(1.0, 0.1, **bad)


# ------------------------------------------------------------------ files

@pytest.mark.parametrize("of", EVERYTHING)
def test_a_file_has_everything_except_functions(of, tmp_path):
    result, path = EVERYTHING[of](), tmp_path/"fit.json"
    result.save(path)
    json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    bare, whole = lsq.load(path), lsq.load(path, MODELS.get(of, decay))
    for other in (bare, whole):
        assert (str(other), other._repr_html_()) == (str(result), result._repr_html_())
        assert other.to_dict() == result.to_dict()
        assert np.array_equal(other.cov, result.cov, equal_nan=True) and np.array_equal(other.start, result.start)
        assert repr(other.intervals()) == repr(result.intervals())
        assert [(p.bounds, p.fixed, p.prior) for p in other.params.values()] == [(p.bounds, p.fixed, p.prior)
                                                                                for p in result.params.values()]
        for a, b in zip(np.atleast_1d(other.residuals), np.atleast_1d(result.residuals)):
            assert np.array_equal(a, b, equal_nan=True)
        assert (other.nfev, other.message, other.strategy) == (result.nfev, result.message, result.strategy)
    for a, b in zip(np.atleast_1d(whole.predict()), np.atleast_1d(result.predict())):
        assert np.array_equal(a, b)
    assert np.array_equal(whole.band().lower, result.band().lower, equal_nan=True)
    if of != "unknown":
        name = next(iter(result))
        assert whole[name].interval(method="profile") == pytest.approx(result[name].interval(method="profile"), rel=1e-6)
    for ask in (bare.predict, bare.band, bare.plot, lambda: bare.derive(a=lambda p: 1.0)["a"].interval(method="profile"),
                lambda: bare.intervals(method="profile"), lambda: bare.contour(*list(bare)[:2])):
        with pytest.raises(ValueError, match=r"load\(path, model=...\)"):
            ask()
    name = next(iter(result))
    assert bare.derive(a=lambda p: 2*p[name])["a"].stderr == pytest.approx(2*result[name].stderr, nan_ok=True)


def test_a_file_of_pandas(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"t": T, "y": Y}, index=T*2)
    result = lsq.fit(lambda x, *p: decay(x["t"], *p), frame[["t"]], frame["y"], [1, 1, 0])
    result.save(tmp_path/"a.json")
    other = lsq.load(tmp_path/"a.json", lambda x, *p: decay(x["t"], *p))
    assert other.residuals.equals(result.residuals)


def test_what_json_cannot_hold_is_given_again(tmp_path):
    class Times:
        t = T
    def scaled(z):
        return np.array([z, np.ones_like(z), np.zeros_like(z)])
    result = lsq.fit(lambda x, *p: decay(x.t, *p), Times(), Y, [1, 1, 0], sigma=0.02, loss=scaled)
    result.save(tmp_path/"a.json")
    model = lambda x, *p: decay(x.t, *p)        # noqa: E731
    for given, words in (({}, "loss must be given"), ({"loss": scaled}, "x must be given with model: .* x of the fit, Times")):
        with pytest.raises(ValueError, match=words):
            lsq.load(tmp_path/"a.json", model, **given)
    other = lsq.load(tmp_path/"a.json", model, x=Times(), loss=scaled)
    assert str(other) == str(result) == str(lsq.load(tmp_path/"a.json", loss=scaled))
    assert f"p1 = {lsq.format_value(result['p1'])}" in str(lsq.load(tmp_path/"a.json"))


@pytest.mark.parametrize("model, words", [
    (lambda t, height, rate, level: 0, "must have the parameters of the fit, height, rate_1, level, got height, rate, level"),
    (lambda t, height, rate_1, level: t, "not what it was at the end of the fit"), ([decay, decay], "a list of 1")])
def test_another_model_is_refused(model, words, tmp_path):
    RESULT.save(tmp_path/"a.json")
    with pytest.raises(ValueError, match=words):
        lsq.load(tmp_path/"a.json", model)
    with pytest.raises(ValueError, match="loss must be the loss of the fit, 'linear'"):
        lsq.load(tmp_path/"a.json", decay, loss="huber")


@pytest.mark.parametrize("text, words", [("{", "is not JSON"), ("[1]", "that FitResult.save wrote"),
                                         ("{}", "that FitResult.save wrote")])
def test_other_files_are_refused(text, words, tmp_path):
    (tmp_path/"a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        lsq.load(tmp_path/"a.json")


def test_a_failed_fit_is_kept_too(tmp_path):
    with np.errstate(all="ignore"):
        with pytest.warns(RuntimeWarning):
            failed = lsq.fit(lambda t, a: a*np.log(t), T, Y, [1])
        failed.save(tmp_path/"a.json")
    other = lsq.load(tmp_path/"a.json")
    assert other.message == failed.message and not other.success and np.isnan(other.stderr).all()


# ------------------------------------------------------------------ pickles, copies, notebooks

@pytest.mark.parametrize("of", EVERYTHING)
def test_pickles_and_copies(of):
    result = EVERYTHING[of]()
    assert str(pickle.loads(pickle.dumps(result))) == str(result)
    assert copy.copy(result) is result and str(copy.deepcopy(result)) == str(result)
    name = next(iter(result))
    assert pickle.loads(pickle.dumps(result[name])) == result[name] == copy.deepcopy(result[name])


def test_a_result_makes_no_reference_cycle():
    import gc
    import weakref
    gc.disable()
    try:
        result = lsq.fit(decay, T, Y, START)
        result.stderr, result.report(), result.band(), result.derive(a=lambda p: p["height"]), result["height"].interval()
        gone = weakref.ref(result)
        del result
        assert gone() is None
    finally:
        gc.enable()


def test_a_notebook_and_a_terminal_show_the_report():
    assert repr(RESULT) == str(lsq.report(RESULT)) and "<table>" in RESULT._repr_html_()
    assert repr(RESULT["rate_1"]) == f"rate_1 = {lsq.format_value(RESULT['rate_1'])}" == f"{RESULT['rate_1']}"
    assert f"{RESULT['rate_1']:.3f}" == f"{RESULT['rate_1'].value:.3f}"
    with pytest.raises(TypeError, match="only fit and load can make one"):
        lsq.FitResult()
