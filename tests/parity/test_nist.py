"""NIST's certified regressions: as many correct digits as SciPy 1.18.1, from both starts.

The reference is golden/nist_scipy.json (golden/make_nist_scipy.py says how it was made).
"""
import json
import sys
from pathlib import Path

import guards
import numpy as np
import pytest

from leastsq import leastsq

GOLDEN_FOLDER = Path(__file__).resolve().parents[1] / "golden"
sys.path.insert(0, str(GOLDEN_FOLDER))
import strd  # noqa: E402
from make_nist_scipy import digits, fingerprint  # noqa: E402

GOLDEN = json.loads((GOLDEN_FOLDER / "nist_scipy.json").read_text(encoding="utf-8"))
FITS = GOLDEN["fits"]


def fit_id(fit):
    return f"{fit['data set']}-start{fit['start']}-{'lmder' if fit['jacobian'] else 'lmdif'}"


def fit_by_us(fit):
    dataset = strd.load(fit["data set"])
    with np.errstate(all="ignore"):
        return dataset, leastsq(dataset.residual, dataset.starts[fit["start"] - 1],
                                Dfun=dataset.jacobian if fit["jacobian"] else None, full_output=True)


def fit_by_scipy(fit, dataset):
    from scipy.optimize import leastsq as scipy_leastsq
    with np.errstate(all="ignore"):
        _, _, info, _, ier = scipy_leastsq(dataset.residual, dataset.starts[fit["start"] - 1],
                                           Dfun=dataset.jacobian if fit["jacobian"] else None, full_output=True)
    return ier, info["nfev"]


def same_last_bits(dataset):
    """Do NumPy's exp, cos, ... give the same bits here as when the reference was made?"""
    with np.errstate(all="ignore"):
        return fingerprint(dataset) == GOLDEN["fingerprints"][dataset.name]


def test_reference_is_complete_and_from_the_named_scipy():
    assert GOLDEN["versions"]["scipy"] == "1.18.1"
    assert [(f["data set"], f["start"], f["jacobian"]) for f in FITS] == [
        (name, start, jacobian) for name in strd.NAMES for start in (1, 2) for jacobian in (False, True)]


@pytest.mark.parametrize("fit", FITS, ids=fit_id)
def test_as_many_correct_digits_as_scipy(fit):
    dataset, (x, *_) = fit_by_us(fit)
    wanted = fit["digits"] if same_last_bits(dataset) else fit["digits under noise"]
    assert digits(x, dataset) >= wanted


@pytest.mark.parametrize("fit", [f for f in FITS if f["digits"] > 0], ids=fit_id)
def test_same_evaluations_and_reason_as_scipy(fit):
    dataset, (_, _, info, _, ier) = fit_by_us(fit)
    wanted = fit["ier"], fit["nfev"]
    if not same_last_bits(dataset):                         # the reference was made on another processor
        guards.need_scipys_bits()
        wanted = fit_by_scipy(fit, dataset)
    assert (ier, info["nfev"]) == wanted


@pytest.mark.parametrize("fit", [f for f in FITS if f["digits"] > 0], ids=fit_id)
def test_sum_of_squares_is_the_certified_one(fit):
    dataset, (x, _, info, *_) = fit_by_us(fit)
    assert info["fvec"] @ info["fvec"] == pytest.approx(dataset.rss, rel=1e-6)
    assert np.array_equal(info["fvec"], dataset.residual(x))


@pytest.mark.parametrize("name", strd.NAMES)
def test_certified_values_belong_to_the_model(name):
    """The data, the model and the certified values agree, so the files were read correctly."""
    dataset = strd.load(name)
    f = dataset.residual(dataset.certified)
    J = dataset.jacobian(dataset.certified)
    scale = np.linalg.norm(J, axis=0)
    R_inverse = np.linalg.inv(np.linalg.qr(J / scale)[1])
    stderr = np.linalg.norm(R_inverse, axis=1) / scale * np.sqrt(dataset.rss / (dataset.m - dataset.n))
    assert f @ f == pytest.approx(dataset.rss, rel=1e-6)
    assert stderr == pytest.approx(dataset.stderr, rel=1e-6)


def test_correct_digits_counts_the_digits_that_agree():
    got = strd.correct_digits([1.001, 2.0, 4.0, np.nan, np.inf], [1.0, 2.0, 2.0, 1.0, 1.0])
    assert got == pytest.approx([3.0, strd.MAX_DIGITS, 0.0, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize("old, new, complaint", [
    ("Number of Observations:                            14", "Number of Observations: 15", "number of observations"),
    ("Degrees of Freedom:                                12", "Degrees of Freedom: 11", "degrees of freedom"),
    ("  b2 =", "  b3 =", "in order"),
    ("Data:   y               x", "", "heading"),
])
def test_a_file_that_contradicts_itself_is_refused(tmp_path, old, new, complaint):
    text = (strd.DATA / "Misra1a.dat").read_text(encoding="ascii")
    assert old in text
    (tmp_path / "Misra1a.dat").write_text(text.replace(old, new), encoding="ascii")
    with pytest.raises(ValueError, match=complaint):
        strd.parse(tmp_path / "Misra1a.dat")
