"""history and verbose record and print what happened."""
import sys

import numpy as np
import pytest

import problems
from leastsq import leastsq

FIELDS = ["x", "fnorm", "actual", "predicted", "ratio", "radius", "par", "gnorm", "accepted", "nfev"]


class Recorded:
    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, x):
        self.points.append(x.copy())
        return self.function(x)


@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("name", ["rosenbrock", "bard", "kowalik_osborne", "freudenstein_roth",
                                  "helical_valley"])
def test_every_trial_is_recorded(name, qr):
    p = problems.problem(name)
    func = Recorded(p.residual)
    x, _, info, _, ier = leastsq(func, p.x0, Dfun=p.jacobian, full_output=True, history=True, qr=qr)
    h = info["history"]
    assert list(h) == FIELDS and h["accepted"].dtype == bool
    np.testing.assert_array_equal(h["x"], func.points)      # Dfun: every call is a trial
    np.testing.assert_array_equal(h["nfev"], np.arange(1, info["nfev"] + 1))
    np.testing.assert_array_equal(h["x"][h["accepted"]][-1], x)
    norms = np.array([np.linalg.norm(p.residual(v)) for v in func.points])
    known = np.isfinite(h["fnorm"])
    np.testing.assert_allclose(h["fnorm"][known], norms[known], rtol=1e-6, atol=1e-14)
    assert known[h["accepted"]].all()
    best = np.minimum.accumulate(norms)
    before, after = best[:-1], norms[1:]
    assert np.all(after[~known[1:]] > 9.9 * before[~known[1:]])
    kept = known[1:] & (before > 1e-8)
    np.testing.assert_allclose(h["actual"][1:][kept], (1 - (after / before) ** 2)[kept], atol=1e-7)
    np.testing.assert_allclose(h["ratio"][1:], h["actual"][1:] / h["predicted"][1:])
    assert np.all(h["accepted"][1:] == (h["ratio"][1:] >= 1e-4))
    assert np.isnan(h["ratio"][0]) and np.all(h["radius"][1:] > 0) and np.all(h["par"][1:] >= 0)


def test_rejected_trials_are_recorded():
    p = problems.problem("rosenbrock")
    h = leastsq(p.residual, p.x0, full_output=True, history=True)[2]["history"]
    rejected = ~h["accepted"]
    assert rejected.any() and np.all(h["radius"][1:][rejected[:-1]] <= h["radius"][:-1][rejected[:-1]])
    assert np.all(np.diff(h["nfev"])[h["accepted"][:-1]] == 3)      # one Jacobian and one trial
    assert np.all(np.diff(h["nfev"])[rejected[:-1]] == 1)


def test_gradient_belongs_to_the_accepted_point():
    p = problems.problem("bard")
    states = []
    h = leastsq(p.residual, p.x0, full_output=True, history=True, callback=states.append)[2]["history"]
    for s in states:
        (row,) = np.flatnonzero((h["x"] == s.x).all(axis=1) & h["accepted"])
        assert h["gnorm"][row] == s.gnorm and h["fnorm"][row] == s.fnorm


def test_history_of_a_robust_bounded_fit():
    p = problems.problem("osborne1")
    lo = np.minimum(p.x0, .01)
    out = leastsq(p.residual, p.x0, full_output=True, history=True, bounds=(lo, np.inf),
                  loss="soft_l1", f_scale=.1)
    h = out[2]["history"]
    assert np.all(h["x"] >= lo) and h["fnorm"][h["accepted"]][-1] == h["fnorm"][h["accepted"]].min()


def test_history_needs_full_output():
    with pytest.raises(ValueError, match="history=True needs full_output=True"):
        leastsq(lambda x: x, [1.0], history=True)


def test_trials_that_are_not_finite():
    def func(x):
        return np.array([np.nan if x[0] < 0 else np.sqrt(x[0]) - .1, .1])
    h = leastsq(func, [4.0], full_output=True, history=True)[2]["history"]
    assert np.isnan(h["fnorm"][(h["x"] < 0).any(axis=1)]).all() and (h["x"] < 0).any()


# ---------------------------------------------------------------------------


def run(capsys, **options):
    p = problems.problem("bard")
    out = leastsq(p.residual, p.x0, **options)
    return out, capsys.readouterr()


def test_silent_by_default(capsys):
    assert run(capsys)[1] == ("", "")


def test_verbose_1_says_how_it_ended(capsys):
    out, (text, _) = run(capsys, verbose=1)
    last = text.splitlines()[-1]
    assert len(text.splitlines()) == 2 and len(out) == 2
    assert "final cost 4.1074e-03" in last and "initial cost 2.0841e+01" in last
    assert text.startswith("Both actual and predicted")


def test_verbose_2_is_a_table(capsys):
    states = []
    _, (text, _) = run(capsys, verbose=2, callback=states.append)
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["Iteration", "Evaluations", "Cost"]
    assert len(lines) == 1 + len(states) + 2
    assert len({len(line) for line in lines[:-2]}) == 1     # columns align
    for line, state in zip(lines[1:], states):
        values = line.split()
        assert int(values[0]) == state.iteration and int(values[1]) == state.nfev
        assert float(values[2]) == pytest.approx(state.cost, rel=1e-4)


def test_verbose_3_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    _, (text, errors) = run(capsys, verbose=3)
    assert len(text.splitlines()) == 2 and errors == ""


def test_verbose_3_with_tqdm(capsys, monkeypatch):
    class Tqdm:
        bars = []

        def __init__(self, **options):
            self.n, self.closed = 0, False
            self.bars.append(self)

        def update(self, more):
            self.n += more

        def set_postfix(self, **options):
            assert "cost" in options

        def close(self):
            self.closed = True
    monkeypatch.setitem(sys.modules, "tqdm", type(sys)("tqdm"))
    sys.modules["tqdm"].tqdm = Tqdm
    out, _ = run(capsys, verbose=3, full_output=True)
    (bar,) = Tqdm.bars
    assert bar.n == out[2]["nfev"] and bar.closed
    with pytest.raises(ZeroDivisionError):
        leastsq(lambda x: 1 / 0, [1.0], verbose=3)
    assert Tqdm.bars[-1].closed


@pytest.mark.parametrize("verbose", [-1, 4, "a", 1.5, None])
def test_bad_verbose(verbose):
    if verbose is None:
        leastsq(lambda x: x - 1, [0.0], verbose=verbose)       # as good as 0
        return
    with pytest.raises(ValueError, match="`verbose` must be in"):
        leastsq(lambda x: x - 1, [0.0], verbose=verbose)


def test_a_verbose_fit_that_fails_says_so_once(capsys):
    with pytest.warns(RuntimeWarning, match="maxfev"):
        run(capsys, verbose=1, maxfev=2)
