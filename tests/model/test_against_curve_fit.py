"""`fit` compared with `curve_fit` on bounded problems and NIST's: no minimum is worse, and evaluations are fewer in total."""
import warnings

import numpy as np
import pytest

import bounded
import leastsq as lsq
import problems
import strd

def of_vector(residual):
    """A problem's residuals as a model without x: (model, y)."""
    return lambda _, *p: residual(np.array(p))


def model_of(data):
    return lambda x, *b: data.info.function(b, x)


def tried(call):
    """(cost, evaluations) of a fit; both are infinite if it fails."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except RuntimeError:
            return np.inf, 0


def by_fit(*args, **options):
    result = lsq.fit(*args, **options)
    return result.chi2, result.nfev


def by_curve_fit(*args, **options):
    _, _, info, _, _ = lsq.curve_fit(*args, full_output=True, **options)
    return float(info["fvec"] @ info["fvec"]), info["nfev"]


def test_bounded_problems():
    worse, calls = [], np.zeros(2)
    for case in bounded.CASES[::3]:         # some of every family; all 471 take 20 seconds
        p = problems.problem(case["problem"], n=case["n"], m=case["m"])
        model, y = of_vector(p.residual), np.zeros(p.m)
        low, high = (np.array(case[side], float) for side in ("lo", "hi"))
        ours = tried(lambda: by_fit(model, None, y, {f"p{j}": v for j, v in enumerate(case["x0"])}, bounds=list(zip(low, high))))
        theirs = tried(lambda: by_curve_fit(model, None, y, case["x0"], bounds=(low, high)))
        if np.isfinite(theirs[0]):
            calls += ours[1], theirs[1]
            if ours[0] > theirs[0]*1.01 + 1e-12*p.ssq(np.array(case["x0"])):
                worse.append(case["problem"])
    assert worse == []
    assert calls[0] < calls[1]


def test_nists_data():
    calls = np.zeros(2)
    for name in strd.NAMES:
        data = strd.load(name)
        for start in data.starts:
            ours = tried(lambda: by_fit(model_of(data), data.x, data.y, list(start)))
            theirs = tried(lambda: by_curve_fit(model_of(data), data.x, data.y, start))
            assert ours[0] <= 1.01*theirs[0] + 1e-20, name
            if theirs[0] <= 1.01*ours[0] + 1e-20:       # both are at the minimum
                calls += ours[1], theirs[1]
    assert calls[0] <= calls[1] + 1             # one more call where the model's values look rounded


@pytest.mark.parametrize("name", ["Misra1a", "Thurber", "MGH17", "Gauss1"])
def test_nists_uncertainties(name):
    data = strd.load(name)
    result = lsq.fit(model_of(data), data.x, data.y, list(data.starts[1]), ftol=1e-14, xtol=1e-14)
    assert np.allclose(result.x, data.certified, rtol=1e-6)
    assert np.allclose(result.stderr, data.stderr, rtol=1e-5)
    assert result.dof == data.y.size - data.n
