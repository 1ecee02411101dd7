"""The collections on which strategies are compared are what they say."""
import fit_collections
import numpy as np
import problems
import pytest
import strd
from fit_collections import JUDGING, TUNING

RUNS = fit_collections.all_runs()


@pytest.mark.parametrize("data", fit_collections.other_strd(), ids=lambda data: data.name)
def test_certified_parameters_give_the_certified_sum_of_squares(data):
    f = data.residual(data.certified)
    rounding = 1e-19*data.y.size if data.name.startswith("Lanczos1") else 0.0     # 1.4e-25, of data near 1
    assert abs(f @ f - data.rss) <= 1e-9*data.rss + rounding


def test_halves_have_the_runs_that_were_agreed():
    count = {}
    for run in RUNS.values():
        count[run.collection, run.half] = count.get((run.collection, run.half), 0) + 1
    assert count["NIST", TUNING] == 28 and count["NIST", JUDGING] == 26
    assert count["MGH", TUNING] == len(problems.runs()) == 113
    assert sum(n for (kind, half), n in count.items() if half == JUDGING and kind != "NIST") >= 60


def test_no_family_is_in_both_halves():
    families = {}
    for run in RUNS.values():
        families.setdefault((run.collection, run.name.rsplit("-", 1)[0]), set()).add(run.half)
    assert all(len(halves) == 1 for halves in families.values())
    assert not set(strd.NAMES) & set(fit_collections.OTHER_STRD)


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if run.collection in ("published", "PALMER", "made")])
def test_jacobians_are_derivatives(name):
    run = RUNS[name]
    direction = np.cos(np.arange(run.x0.size))*np.abs(run.x0)
    h = 1e-6
    with np.errstate(all="ignore"):
        difference = (run.residual(run.x0 + h*direction) - run.residual(run.x0 - h*direction))/(2*h)
        exact = run.jacobian(run.x0) @ direction
        size = np.linalg.norm(exact) + np.linalg.norm(run.residual(run.x0))
    if np.isfinite(size):
        assert np.linalg.norm(difference - exact) <= 1e-3*size


def test_best_is_known_and_not_above_the_start():
    for run in RUNS.values():
        with np.errstate(all="ignore"):
            start = float(np.sum(run.residual(run.x0)**2))
        assert run.best >= 0, run.name
        assert run.best <= (1 + 1e-6)*start or run.solved(start), run.name
