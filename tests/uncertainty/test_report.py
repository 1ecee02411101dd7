"""Reports: the numbers, the rounding, every kind of fit, and the warnings."""
import html.parser
import re

import numpy as np
import pytest
import strd
import uncertainty

import leastsq
from leastsq import report
from leastsq._uncertainty.format import value_and_error

T = np.linspace(0, 4, 40)
X = np.array([2.5, 1.3, 0.5])
Y = X[0]*np.exp(-X[1]*T) + X[2] + 0.05*np.random.default_rng(3).standard_normal(T.size)
NAMES = ["height", "rate", "level"]


def residual(x):
    return x[0]*np.exp(-x[1]*T) + x[2] - Y


def curve(t, a, b, c):
    return a*np.exp(-b*t) + c


@pytest.fixture(scope="module")
def fit():
    return leastsq.leastsq(residual, [1.0, 1.0, 0.0], full_output=True, ftol=1e-14, xtol=1e-14)


# ---------------------------------------------------------------------- numbers

@pytest.mark.parametrize("value, error, text", [
    (238.94212918, 2.7070075241, ("238.9", "2.7")),
    (5.5015643181e-4, 7.2668688436e-6, ("5.502e-04", "7.3e-06")),
    (1e-9, 1e-3, ("0.0000", "0.0010")),
    (0.123, 0.0996, ("0.12", "0.10")),              # rounds up to the next digit
    (99.96, 0.52, ("99.96", "0.52")),
    (1234567.0, 3456.0, ("1234600", "3500")),
    (1.5e9, 2e3, ("1.5000000e+09", "2.0e+03")),
    (-3.0, 0.0, ("-3", "0")),
    (1.25, np.inf, ("1.25", "inf")),
    (np.nan, 1.0, ("nan", "1")),
])
def test_uncertainties_are_rounded_to_two_digits_and_values_to_the_same_place(value, error, text):
    assert value_and_error(value, error) == text


@pytest.mark.parametrize("name", ["Misra1a", "Thurber", "MGH09", "ENSO"])
def test_report_of_a_nist_fit_has_the_certified_values(name):
    dataset = strd.load(name)
    found = report(dataset.residual, dataset.certified, y=dataset.y)
    assert strd.correct_digits(found.stderr, dataset.stderr).min() >= 9
    assert found.chi2 == pytest.approx(dataset.rss, rel=1e-6)
    assert np.sqrt(found.reduced_chi2) == pytest.approx(np.sqrt(dataset.rss/(dataset.m - dataset.n)), rel=1e-6)
    text = str(found)
    for j in range(dataset.n):
        value, error = value_and_error(dataset.certified[j], dataset.stderr[j])
        assert f" {value} " in text and f"± {error}" in text


def test_statistics_agree_with_their_definitions(fit):
    found = report(fit, func=residual, y=Y, sigma=1)
    f = residual(fit[0])
    m, n, chi2 = T.size, 3, f @ f
    assert (found.m, found.n, found.dof) == (m, n, m - n)
    assert found.chi2 == pytest.approx(chi2) and found.reduced_chi2 == pytest.approx(chi2/(m - n))
    assert found.r2 == pytest.approx(1 - chi2/np.sum((Y - Y.mean())**2))
    assert found.aic == pytest.approx(m*np.log(chi2/m) + 2*n)
    assert found.bic == pytest.approx(m*np.log(chi2/m) + n*np.log(m))
    assert np.isnan(found.p_value)
    known = report(residual, fit[0], sigma=0.05, absolute_sigma=True, y=Y)
    assert known.chi2 == pytest.approx(chi2/0.0025) and known.aic == pytest.approx(known.chi2 + 6)
    assert known.p_value == pytest.approx(0.5, abs=0.499) and "probability of a larger one" in str(known)
    assert known.r2 == pytest.approx(found.r2)


def test_correlations_are_sorted_and_limited(fit):
    pairs = report(fit, names=NAMES).correlations(0.0)
    assert len(pairs) == 3 and [abs(v) for *_, v in pairs] == sorted((abs(v) for *_, v in pairs), reverse=True)
    assert "correlations" not in str(report(fit, correlation_limit=0.999))


# ------------------------------------------------------------- every kind of fit

def test_every_kind_of_fit_gives_the_same_standard_errors(fit):
    optimize = pytest.importorskip("scipy.optimize")
    right = report(residual, fit[0]).stderr
    start = [1.0, 1.0, 0.0]
    kinds = [
        fit,
        optimize.leastsq(residual, start, full_output=True),
        optimize.curve_fit(curve, T, Y, p0=start, full_output=True),
        optimize.least_squares(residual, start, method="lm"),
    ]
    for kind in kinds:
        assert report(kind).stderr == pytest.approx(right, rel=1e-4)
        assert report(kind, func=residual).stderr == pytest.approx(right, rel=1e-4)
    popt_pcov = optimize.curve_fit(curve, T, Y, p0=start)
    assert report(popt_pcov, func=residual).stderr == pytest.approx(right, rel=1e-4)
    assert report(leastsq.leastsq(residual, start), func=residual).stderr == pytest.approx(right, rel=1e-4)


def test_absolute_covariances_are_not_scaled(fit):
    optimize = pytest.importorskip("scipy.optimize")
    sigma = np.full(T.size, 0.05)
    kind = optimize.curve_fit(curve, T, Y, p0=[1, 1, 0], sigma=sigma, absolute_sigma=True, full_output=True)
    assert report(kind, absolute_sigma=True).stderr == pytest.approx(np.sqrt(np.diag(kind[1])), rel=1e-12)
    assert report(residual, kind[0], sigma=sigma, absolute_sigma=True).stderr == pytest.approx(
        np.sqrt(np.diag(kind[1])), rel=1e-4)


def test_parameters_held_at_a_bound_are_taken_from_the_fit(fit):
    bounds = ([0, 0, 0.6], [9, 9, 9])
    held = leastsq.leastsq(residual, [1.0, 1.0, 0.6], full_output=True, bounds=bounds)
    right = leastsq.covariance(residual, held[0], fixed=[2]).stderr
    for found in (report(held), report(held, func=residual), report(residual, held[0], bounds=bounds)):
        assert found.stderr[:2] == pytest.approx(right[:2], rel=1e-3) and np.isnan(found.stderr[2])
        assert "± fixed" in str(found) and any("x[2] is held at its bound" in text for text in found.warnings)
    solved = leastsq.least_squares(residual, [1.0, 1.0, 0.6], bounds=bounds)
    assert report(solved).stderr[:2] == pytest.approx(right[:2], rel=1e-3)


def test_the_fits_own_covariance_is_named_as_such(fit):
    copied = (*fit[:2], dict(fit[2]), *fit[3:])             # a copy knows no function
    assert any("last Jacobian" in text for text in report(copied).warnings)
    assert not any("last Jacobian" in text for text in report(copied, func=residual).warnings)
    assert not any("last Jacobian" in text for text in report(fit).warnings)


@pytest.mark.parametrize("kind, words", [
    (([1.0], 1), "no residuals"), (([1.0], np.eye(1)), "no residuals"), (3.0, "got float"), ((1, 2, 3), "got tuple"),
])
def test_what_cannot_be_read_is_named(kind, words):
    with pytest.raises(TypeError, match=words):
        report(kind)


def test_bad_arguments_are_named(fit):
    with pytest.raises(TypeError, match="x must be given"):
        report(residual)
    with pytest.raises(TypeError, match="sigma needs the function"):
        report((*fit[:2], dict(fit[2]), *fit[3:]), sigma=1.0)
    with pytest.raises(ValueError, match="y must have 40 values, got 3"):
        report(fit, y=[1, 2, 3], sigma=1)


# ------------------------------------------------------------------------ output

def test_the_report_of_a_good_fit_is_complete_and_without_warnings(fit):
    found = report(fit, func=residual, names=NAMES, y=Y, sigma=1)
    assert found.warnings == []
    text = str(found)
    for words in (*NAMES, "±", "degrees of freedom", "reduced chi-squared", "R squared", "AIC", "BIC",
                  "calls of the function", "stopped because", f"(ier {fit[4]})"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100


def test_html_is_well_formed_and_escaped(fit):
    page = report(fit, func=residual, names=["<a>", "b&c", "d"])._repr_html_()
    assert "&lt;a&gt;" in page and "b&amp;c" in page and "<a>" not in page
    opened = []

    class Balance(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            opened.append(tag)

        def handle_endtag(self, tag):
            if tag != "br":
                assert opened.pop() == tag
    Balance().feed(page)
    assert [tag for tag in opened if tag != "br"] == []


def warned(*arguments, **options):
    return "\n".join(report(*arguments, **options).warnings)


def test_what_a_report_warns_of(fit):
    x = fit[0]
    with np.errstate(all="ignore"):
        stopped = leastsq.leastsq(residual, [1.0, 1.0, 0.0], full_output=True, maxfev=5)
        small = leastsq.leastsq(residual, [1.0, 1.0, 0.0], full_output=True, ftol=1e-17, xtol=1e-17)
    assert "maxfev" in warned(stopped)
    assert small[4] in (6, 7) and "smaller than rounding allows" in warned(small)
    assert "does not look like a minimum" in warned(residual, x + [0.1, 0, 0])
    at_level = warned(residual, x, names=NAMES, bounds=([0, 0, x[2]], [9, 9, 9]))
    assert re.search("level is (held )?at its bound", at_level)     # the last bits of x decide which one
    assert "residual 3 is nan" in warned(lambda z: np.where(np.arange(T.size) == 3, np.nan, residual(z)), x)
    assert "only the sum of x[0] and x[1]" in warned(lambda z: (z[0] + z[1])*T - Y, [1.0, 1.0])
    assert "no more residuals than parameters" in warned(lambda z: residual(z)[:3], x)
    assert "chi-squared is too large" in warned(residual, x, sigma=0.02, absolute_sigma=True)
    assert "chi-squared is too small" in warned(residual, x, sigma=0.5, absolute_sigma=True)
    assert "an outlier?" in warned(lambda z: residual(z) + 1.5*(np.arange(T.size) == 20), x)
    assert "as well be zero" in warned(lambda z: np.append(z[0]*T - T, z[0]*np.ones(9)*9 - [1, -1, 1]*3), [0.01])
    assert "not random in their order" in warned(lambda z: z[0]*T + np.sin(1.5*T), [0.0])
    assert "hardly tell them apart" in warned(lambda z: z[0] + z[1]*(T + 100) - T - np.cos(9*T), [-100.0, 1.0])
    assert "exactly zero" in warned(lambda z: z[0]*T - 2*T, [2.0])
    assert "noisy, or rounds" in warned(lambda z: np.round(residual(z), 4), x)


def test_a_report_of_a_failed_fit_still_prints(fit):
    with np.errstate(all="ignore"):
        failed = leastsq.leastsq(lambda z: residual(z)*np.nan, [1.0, 1.0, 0.0], full_output=True)
    text = str(report(failed))
    assert "not finite" in text and "(ier 9)" in text


def test_fixed_parameters_are_shown_as_such(fit):
    text = str(report(residual, fit[0], fixed=[1], names=NAMES))
    assert "± fixed" in text and f"degrees of freedom           {T.size - 2}" in text


def test_the_example_shows_the_certified_standard_errors_and_draws(capsys, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    uncertainty.main(["--plot", str(tmp_path / "pictures")])
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(k for k, line in enumerate(lines) if line.startswith("standard errors")) + 1:][:4]
    assert [line.split()[0] for line in table] == ["b1", "b2", "b3", "b4"]
    assert min(float(line.split()[-1]) for line in table) >= 7
    assert sorted(path.stem for path in (tmp_path / "pictures").iterdir()) == ["correlation", "fit", "profile", "residuals"]
