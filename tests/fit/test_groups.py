"""Differences of parameters of different data sets, made in one evaluation: the dense fit to the bit, in fewer calls."""
import inspect
from dataclasses import replace

import numpy as np
import pytest

import leastsq as lsq
from leastsq import leastsq
from leastsq._fit.fit import Fit
from leastsq._problem.derivatives import Differences
from leastsq._problem.settings import Settings, Watching

S, T = 8, np.linspace(-5, 5, 40)
RNG = np.random.default_rng(0)
OWN = np.stack([RNG.uniform(1, 3, S), RNG.uniform(-2, 2, S), RNG.uniform(0, 1, S)], axis=1)


def peak(t, h, c, b, w):
    return h*np.exp(-0.5*((t - c)/w)**2) + b


Y = peak(T, OWN[:, :1], OWN[:, 1:2], OWN[:, 2:], 1.2) + 0.02*RNG.standard_normal((S, 40))
X0 = np.concatenate([[1.2], OWN.ravel()])*1.2 + 0.1
GROUPS = [None] + [i for i in range(S) for _ in range(3)]


def residual(x):
    own = x[1:].reshape(S, 3)
    return (peak(T, own[:, :1], own[:, 1:2], own[:, 2:], x[0]) - Y).ravel()


@pytest.mark.parametrize("options", [{}, {"Dfun": "3-point"}, {"Dfun": "cs"}, {"bounds": (-10, 10)}, {"workers": 2},
                                     {"qr": "blocked"}, {"loss": "huber"}, {"epsfcn": 1e-10}, {"strategy": "fast"},
                                     {"strategy": "robust"}], ids=str)
def test_iterates_are_those_of_the_dense_fit_to_the_bit(options):
    points = [], []

    def recorded(k):
        def func(x):
            points[k].append(x)
            return residual(x)
        return func
    dense = leastsq(recorded(0), X0, full_output=True, **options)
    grouped = leastsq(recorded(1), X0, full_output=True, groups=GROUPS, **options)
    assert np.array_equal(dense[0], grouped[0]) and dense[4] == grouped[4]
    for name in ("fjac", "ipvt", "qtf", "fvec"):
        assert np.array_equal(dense[2][name], grouped[2][name]), name
    assert grouped[2]["nfev"] == len(points[1]) < 0.5*dense[2]["nfev"]


@pytest.mark.parametrize("strategy", ["minpack", "fast", "robust"])
def test_steps_of_parameters_that_end_close_to_zero_are_the_dense_fits(strategy):
    t = np.linspace(0, 1, 9)

    def lines(x):
        return np.concatenate([np.exp(x[0]*t) - 1, np.exp(x[1]*t) - 1 - 1e-9*t])
    dense, grouped, pooled = (leastsq(lines, [2.0, -1.5], full_output=True, strategy=strategy, **how)
                              for how in ({}, {"groups": [0, 1]}, {"workers": 2}))
    for other in (grouped, pooled):
        assert np.array_equal(dense[0], other[0]) and np.array_equal(dense[2]["fjac"], other[2]["fjac"])


def test_a_jacobian_takes_as_many_calls_as_the_largest_group_and_the_shared_ones():
    grouped = leastsq(residual, X0, full_output=True, groups=GROUPS, history=True)[2]
    accepted = int(grouped["history"]["accepted"].sum())
    trials = len(grouped["history"]["nfev"])
    n = X0.size
    assert grouped["nfev"] == trials + n + 4*(accepted - 2)       # the first one by one; none after the last step


def test_labels_may_be_anything_in_any_order():
    order = np.random.default_rng(1).permutation(X0.size)
    back = np.argsort(order)

    def mixed(x):
        return residual(x[back])
    labels = [None if GROUPS[j] is None else f"spectrum {GROUPS[j]}" for j in order]
    dense, grouped = leastsq(mixed, X0[order]), leastsq(mixed, X0[order], groups=labels)
    assert np.array_equal(dense[0], grouped[0])


def test_wrong_groups_name_the_pair():
    with pytest.raises(ValueError, match=r"groups: x\[1\] and x\[3\] are in different groups, but both change residual 0"):
        leastsq(residual, X0, groups=[None] + [0, 0, 1]*S)


def test_rows_that_show_themselves_late_are_found_and_checked():
    t = np.linspace(0, 1, 20)

    def late(x):            # x[2] changes the third part only while x[0] is below 2.7
        return np.concatenate([x[0] - 2 - t, x[1]*t - 3*t, max(2.7 - x[0], 0)*(x[2] - 1) + t, 0.1*(x[2] - 1) + 0*t])
    dense = leastsq(late, [3.0, 1.0, 0.0], full_output=True)
    grouped = leastsq(late, [3.0, 1.0, 0.0], full_output=True, groups=[None, "a", "b"])
    assert np.array_equal(dense[0], grouped[0]) and np.array_equal(dense[2]["fjac"], grouped[2]["fjac"])

    def crossed(x):         # and here x[1] does, too
        return np.concatenate([x[0] - 2 - t, x[1]*t - 3*t, max(2.7 - x[0], 0)*(x[2] - x[1]) + t, 0.1*(x[2] - 1) + 0*t])
    with pytest.raises(ValueError, match=r"x\[1\] and x\[2\] are in different groups, but both change residual 40"):
        leastsq(crossed, [3.0, 1.0, 0.0], groups=[None, "a", "b"])


@pytest.mark.parametrize("groups, error, said", [
    ([1]*5, ValueError, "groups must be a label for each of the 25 parameters, got 5"),
    ("abc", TypeError, "got str"),
    (3, TypeError, "got int"),
    ([[1]]*25, TypeError, "labels such as numbers or strings, got a list"),
])
def test_wrong_labels_are_refused(groups, error, said):
    with pytest.raises(error, match=said):
        leastsq(residual, X0, groups=groups)


def test_a_dfun_makes_no_differences():
    with pytest.raises(ValueError, match="groups combine the differences of several parameters, but with Dfun there are none"):
        leastsq(residual, X0, Dfun=lambda x: np.ones((S*40, 25)), groups=GROUPS)
    with pytest.raises(ValueError, match="separable cannot be combined with groups"):
        leastsq(residual, X0, separable=lambda a: np.ones((S*40, 1)), groups=GROUPS)


def test_curve_fit_passes_groups_on():
    def model(t, a, b, c):
        return np.concatenate([a*t + c, b*t**2 + c])
    y = model(T, 1.0, 2.0, 3.0) + np.tile(np.sin(9*T), 2)
    dense = lsq.curve_fit(model, T, y, full_output=True)
    grouped = lsq.curve_fit(model, T, y, full_output=True, groups=["first", "second", None])
    assert np.array_equal(dense[0], grouped[0]) and np.array_equal(dense[1], grouped[1])
    assert grouped[2]["nfev"] < dense[2]["nfev"]


# ---------------------------------------------------------------- fit

def one_vector(own, prior):
    """The same fit by `leastsq`: names in fit's order."""
    result = lsq.fit([peak]*S, T, list(Y), {"h": 1.5, "c": 0.5, "b": 0.1, "w": 1}, own=own, sigma=0.02, prior=prior)
    dense = leastsq(result.problem.func, result.start, full_output=True, strategy="fast")
    return result, dense


@pytest.mark.parametrize("own", [["h", "c", "b"], ["h"], ["h", "c", "b", "w"]], ids=str)
@pytest.mark.parametrize("prior", [None, {"w": (1.2, 0.1), "h": (2, 1)}], ids=["", "priors"])
def test_fit_knows_which_parameters_are_of_one_set(own, prior):
    result, dense = one_vector(own, prior)
    assert np.array_equal(result.x, dense[0])
    assert result.nfev < 0.45*dense[2]["nfev"]


def test_a_parameter_that_one_model_alone_has_counts_as_its_own():
    def line(t, slope):
        return slope*t

    def curve(t, bend, top):
        return bend*t**2 + top
    calls = []

    def counted(t, slope):
        calls.append(slope)
        return line(t, slope)
    counted.__signature__ = inspect.signature(line)
    result = lsq.fit([counted, curve], T, [2*T, 3*T**2 + 1], {"slope": 1, "bend": 1, "top": 0})
    dense = leastsq(result.problem.func, [1.0, 1, 0], full_output=True, strategy="fast")
    assert np.array_equal(result.x, dense[0])
    assert result.nfev < dense[2]["nfev"]


def test_counts_are_fitted_in_groups():
    counts = [np.random.default_rng(i).poisson(40*np.abs(y)) for i, y in enumerate(Y)]
    start = {"h": 60, "c": [own[1] + 0.05 for own in OWN], "b": 10, "w": 1}
    result = lsq.fit([peak]*S, T, counts, start, own=["h", "c", "b"], loss="poisson")
    pooled = lsq.fit([peak]*S, T, counts, start, own=["h", "c", "b"], loss="poisson", workers=lambda f, points: map(f, points))
    problem = replace(result.problem, differences=Differences())
    dense = Fit(problem, result.start, Settings(ftol=1e-11), Watching()).solve(True)
    assert np.array_equal(result.x, dense[0]) and np.array_equal(pooled.x, dense[0])
    assert result.nfev < 0.45*dense[3]


def test_own_linear_parameters_are_probed_together():
    start = {"w": 1} | {f"c[{i}]": OWN[i, 1] + 0.2 for i in range(S)}
    result = lsq.fit([peak]*S, T, list(Y), start, own=["h", "c", "b"], separable=["h", "b"])
    whole = lsq.fit([peak]*S, T, list(Y), {"h": 2, "b": 0.5} | start, own=["h", "c", "b"], xtol=1e-12, ftol=1e-14)
    assert result.x == pytest.approx(whole.x, rel=1e-6)
    assert result.nfev < 60
