"""Linear parameters of `fit`, solved for in each evaluation: found, refused, bounded, with the whole model's uncertainties."""
import itertools

import nist27
import numpy as np
import pytest

import leastsq as lsq
from leastsq import covariance

T = np.linspace(0, 4, 50)


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


Y = decay(T, 2.5, 1.3, 0.5) + 0.02*np.random.default_rng(1).standard_normal(50)


# ---------------------------------------------------------------- NIST

@pytest.mark.parametrize("found", [False, True], ids=["named", "found"])
def test_nist_is_solved_from_nearly_all_starts_in_few_evaluations(found):
    missed, evaluations = [], 0
    for name in nist27.NAMES:
        d = nist27.load(name)
        for number, start in enumerate(d.starts, 1):
            before = d.count[0]
            result = lsq.fit(d.model, d.x, d.y, start, separable=True if found else d.linear or None)
            assert result.nfev in (d.count[0] - before, d.count[0] - before + 1)    # one call checks the model's precision
            evaluations += result.nfev
            if not d.is_solved(result.chi2, start):
                missed.append((name, number))
            if d.linear:
                assert f"which were solved for: {', '.join(d.linear)}." in result.message
    assert missed == [("MGH17", 1)]
    assert evaluations < (3400 if found else 3000)       # fits of the whole models: 8068, and five of them miss


@pytest.mark.parametrize("name", nist27.NAMES)
def test_uncertainties_are_those_of_the_whole_model(name):
    d = nist27.load(name)
    result = lsq.fit(d.model, d.x, d.y, d.starts[1], separable=True)
    J, f = d.jacobian(result.x), d.residual(result.x)
    size = np.linalg.norm(J, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(J/size)[1])/size[:, None]
    exact = inverse @ inverse.T*(f @ f)/(f.size - result.x.size)
    assert result.cov == pytest.approx(exact, rel=1e-6, abs=0)


# ---------------------------------------------------------------- which parameters are linear

def test_linear_parameters_need_no_start():
    named = lsq.fit(decay, T, Y, {"rate": 1}, separable=["level", "height"])
    found = lsq.fit(decay, T, Y, {"rate": 1}, separable=True)
    whole = lsq.fit(decay, T, Y, [1, 1, 0], ftol=1e-14, xtol=1e-14)
    for result in (named, found):
        assert result.x == pytest.approx(whole.x, rel=1e-7)
        assert result.message.endswith("Linear parameters, which were solved for: height, level.")


def test_false_solves_for_no_parameter():
    assert np.array_equal(lsq.fit(decay, T, Y, [1, 1, 0], separable=False).x, lsq.fit(decay, T, Y, [1, 1, 0]).x)


def test_only_the_first_factor_of_a_product_is_taken_as_linear():
    result = lsq.fit(lambda t, a, b: a*(t + b), T, 2*(T + 3) + 0.1*np.cos(9*T), [1, 1], separable=True)
    assert result.message.endswith("solved for: a.")
    again = lsq.fit(lambda t, a, b: a*(t + b), T, 2*(T + 3) + 0.1*np.cos(9*T), {"a": 1}, separable=["b"])
    assert again.x == pytest.approx(result.x, rel=1e-6)


def test_a_model_that_is_linear_in_all_parameters_is_solved_at_once():
    def cubic(t, a, b, c, d):
        return a + b*t + c*t**2 + d*t**3
    result = lsq.fit(cubic, T, Y, {}, separable=True)
    assert result.x == pytest.approx(np.polyfit(T, Y, 3)[::-1], rel=1e-10)
    assert result.success and result.nfev <= 15
    assert result.stderr == pytest.approx(np.sqrt(np.diag(np.polyfit(T, Y, 3, cov=True)[1]))[::-1], rel=1e-6)


def test_without_linear_parameters_it_is_an_ordinary_fit():
    def model(t, a, b):
        return np.exp(-a*t)/(1 + b*t)
    plain, tried = (lsq.fit(model, T, model(T, 1, 2), [2, 1], separable=how) for how in (None, True))
    assert tried.x == pytest.approx(plain.x, rel=1e-9)
    assert "Linear" not in tried.message


def test_a_parameter_that_only_looks_linear_at_the_start_is_fitted():
    def model(t, a, b):
        return a*np.exp(-b*t) + 0.1*max(b - 0.6, 0)*a**2
    y = model(T, 1.5, 1.0)
    result = lsq.fit(model, T, y, [1.0, 0.5], separable=True)
    assert result.x == pytest.approx([1.5, 1.0], rel=1e-6)
    assert "Linear" not in result.message
    with pytest.raises(ValueError, match="the model is not linear in 'a': it is off by 0.0"):
        lsq.fit(model, T, y, {"b": 0.5}, separable="a")


@pytest.mark.parametrize("separable, said", [
    (["rate"], "separable: the model is not linear in 'rate': it is off by 0.2"),
    (["height", "rate"], "separable: the model is not linear in 'height', 'rate' together: it is off by 0.1"),
    (["hieght"], "separable: there is no parameter 'hieght'; did you mean 'height'?"),
    ([], "separable must name at least one parameter"),
])
def test_names_that_are_not_linear_are_refused(separable, said):
    with pytest.raises(ValueError, match="fit: ") as caught:
        lsq.fit(decay, T, Y, [1, 1, 0], separable=separable)
    assert said in str(caught.value)


def test_impossible_uses_of_separable_are_refused_by_name():
    with pytest.raises(ValueError, match="separable needs loss='linear', got 'huber'"):
        lsq.fit(decay, T, Y, [1, 1, 0], separable=True, loss="huber")
    for separable in (True, "level"):
        with pytest.raises(ValueError, match="fit: separable needs loss='linear', got 'poisson'.*Poisson's deviance"):
            lsq.fit(decay, T, np.round(9*Y), [1, 1, 1], separable=separable, loss="poisson")
    with pytest.raises(ValueError, match="curve_fit: separable needs loss='linear', got 'poisson'"):
        lsq.curve_fit(decay, T, np.round(9*Y), [1, 1, 1], separable=True, loss="poisson")
    with pytest.raises(ValueError, match="'level' is fixed"):
        lsq.fit(decay, T, Y, [1, 1, 0], separable="level", fixed="level")
    with pytest.raises(TypeError, match="separable must be True, None or names of parameters, got 3"):
        lsq.fit(decay, T, Y, [1, 1, 0], separable=3)
    with pytest.raises(ValueError, match="in which the model is not linear, 'rate' has none"):
        lsq.fit(decay, T, Y, {"height": 1}, separable=True)
    with pytest.raises(ValueError, match="not finite at the point where linear parameters were searched for"):
        lsq.fit(decay, T, Y, {"rate": -1e4}, separable=True)


def test_a_start_that_is_not_finite_is_reported():
    def model(t, a, b):
        return a*np.log(b*t + 1e-3)
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning, match="The residual of y.* is nan at the start"):
        result = lsq.fit(model, T, Y, {"b": -1}, separable="a")
    assert not result.success and result.status == 9


# ---------------------------------------------------------------- together with other options

@pytest.mark.parametrize("low, high", [(0.6, 2), (-1, 0.45), (0, 5), (0.5, 0.5)])
@pytest.mark.parametrize("top", [2.3, 2.5, np.inf])
def test_bounds_of_linear_parameters_hold(low, high, top):
    seen = []

    def model(t, height, rate, level):
        seen.append((height, rate, level))
        return decay(t, height, rate, level)
    bounds = {"height": (0, top), "level": (low, high), "rate": (0.1, 10)}
    result = lsq.fit(model, T, Y, {"rate": 1, "height": 1, "level": low}, bounds=bounds, separable=True)
    whole = lsq.fit(decay, T, Y, {"rate": 1, "height": 1, "level": low}, bounds=bounds, xtol=1e-12, ftol=1e-14)
    assert result.chi2 <= whole.chi2*(1 + 1e-8)
    assert result.x == pytest.approx(whole.x, rel=1e-4)
    assert np.isnan(result.stderr).tolist() == np.isnan(whole.stderr).tolist()
    seen = np.array(seen)
    assert (seen >= [0, 0.1, low]).all() and (seen <= [top, 10, high]).all()


@pytest.mark.parametrize("seed", range(30))
def test_bounded_linear_least_squares_have_the_signs_of_a_minimum(seed):
    from leastsq._projection.linear import solve_linear
    rng = np.random.default_rng(seed)
    m, p = 20, int(rng.integers(1, 7))
    A, b = rng.standard_normal((m, p))*10.0**rng.integers(-3, 4, p), rng.standard_normal(m)
    if p > 2:
        A[:, 1] = A[:, 0] + 1e-9*A[:, 2]*(seed % 2)         # dependent, or nearly
    low, high = np.sort(rng.standard_normal((2, p))/np.linalg.norm(A, axis=0), axis=0)
    found = solve_linear(A, b, low, high)
    assert ((low <= found.c) & (found.c <= high)).all()
    slopes = A.T @ found.residual/np.linalg.norm(A, axis=0)/np.linalg.norm(b)
    assert found.residual == pytest.approx(b + A @ found.c, abs=1e-9)
    assert (np.abs(slopes[(low < found.c) & (found.c < high)]) < 1e-7).all()
    assert (slopes[found.c == low] > -1e-7).all() and (slopes[found.c == high] < 1e-7).all()


def test_priors_of_linear_and_other_parameters_count():
    told = {"sigma": 0.02, "prior": {"level": (0.6, 0.01), "rate": (1.2, 0.01)}}
    result = lsq.fit(decay, T, Y, {"rate": 1}, separable=True, **told)
    whole = lsq.fit(decay, T, Y, [1, 1, 0], xtol=1e-12, ftol=1e-14, **told)
    assert result.x == pytest.approx(whole.x, rel=1e-6)
    assert result.stderr == pytest.approx(whole.stderr, rel=1e-5)


@pytest.mark.parametrize("jac", ["3-point", "cs", lambda t, h, r, b: np.stack([np.exp(-r*t), -h*t*np.exp(-r*t), 0*t + 1], 1)])
def test_derivatives_of_every_kind(jac):
    result = lsq.fit(decay, T, Y, {"rate": 1, "height": 1, "level": 0}, separable=True, jac=jac)
    assert result.x == pytest.approx(lsq.fit(decay, T, Y, [1, 1, 0], xtol=1e-12, ftol=1e-14).x, rel=1e-6)


def test_sets_with_own_linear_parameters():
    rng = np.random.default_rng(2)
    ys = [decay(T, a, 1.3, b) + 0.02*rng.standard_normal(50) for a, b in ((1, 0.5), (2, 0.1), (3, -1))]
    result = lsq.fit([decay]*3, T, ys, {"rate": 1}, own=["height", "level"], separable=["height", "level"])
    whole = lsq.fit([decay]*3, T, ys, [1, 1, 0], own=["height", "level"], xtol=1e-12, ftol=1e-14)
    assert result.x == pytest.approx(whole.x, rel=1e-6)
    assert result.message.count("height[") == 3


def test_complex_data_and_masks():
    omega = np.geomspace(0.1, 100, 30)

    def impedance(w, resistance, capacity, series):
        return series + resistance/(1 + 1j*w*capacity)
    z = np.ma.array(impedance(omega, 3, 0.2, 0.5), mask=np.arange(30) == 4)
    result = lsq.fit(impedance, omega, z, {"capacity": 1}, separable=True)
    assert result.x == pytest.approx([3, 0.2, 0.5], rel=1e-7)


@pytest.mark.parametrize("scale", [1e-100, 1e-18, 1.0, 1e18, 1e100])
def test_units_of_linear_parameters_do_not_matter(scale):
    def scaled(t, height, rate, level):
        return decay(t, height*scale, rate, level/scale)
    result = lsq.fit(scaled, T, Y, {"rate": 1}, separable=True)
    assert result.x*[scale, 1, 1/scale] == pytest.approx(lsq.fit(decay, T, Y, {"rate": 1}, separable=True).x, rel=1e-6)


def test_the_rank_may_change_during_the_fit():
    def two(t, a, u, b, v):
        return a*np.exp(-u*t) + b*np.exp(-v*t)
    y = two(T, 1.0, 0.5, 2.0, 3.0)
    equal = lsq.fit(two, T, y, {"u": 1.0, "v": 1.0}, separable=["a", "b"])          # at the start one column
    near = lsq.fit(two, T, y, {"u": 1.0, "v": 1.0 + 1e-9}, separable=["a", "b"])
    assert np.isfinite(equal.x).all() and np.isfinite(near.x).all()
    assert near.chi2 < 1e-12*(y @ y)


def test_maxfev_callback_and_verbose_cover_all_parameters(capsys):
    states = []
    result = lsq.fit(decay, T, Y, {"rate": 5}, separable=True, callback=lambda state: states.append(state), verbose=2)
    assert states[-1].x == pytest.approx(result.x, rel=1e-5)
    assert all(state.cost == pytest.approx(0.5*np.sum((decay(T, *state.x) - Y)**2)) for state in states)
    assert "Linear parameters" in capsys.readouterr().out
    with pytest.warns(RuntimeWarning, match="maxfev|calls to function"):
        stopped = lsq.fit(decay, T, Y, {"rate": 5}, separable=True, maxfev=12)
    assert stopped.status == 5 and stopped.nfev < 20


def test_a_callback_ends_the_fit():
    result = lsq.fit(decay, T, Y, {"rate": 5}, separable=True, callback=lambda state: state.iteration == 2)
    assert result.status == 11 and np.isfinite(result.x).all()


def test_exceptions_arrive_unchanged_from_every_call():
    class Mine(Exception):
        pass

    def failing(after):
        calls = itertools.count()

        def model(t, height, rate, level):
            if next(calls) == after:
                raise Mine
            return decay(t, height, rate, level)
        return model
    total = lsq.fit(decay, T, Y, {"rate": 1}, separable=True).nfev
    for k in range(total - 1):
        with pytest.raises(Mine):
            lsq.fit(failing(k), T, Y, {"rate": 1}, separable=True)


def test_results_know_the_whole_problem():
    result = lsq.fit(decay, T, Y, {"rate": 1}, separable=True)
    assert result.problem.func(result.x) == pytest.approx(result._fvec, abs=1e-15)
    assert covariance(result.problem.func, result.x).stderr == pytest.approx(result.stderr, rel=1e-8)
    assert result["height"].interval(0.95, method="profile")[0] < result["height"]
    assert "not a minimum" not in str(result.report())


def test_single_precision_models():
    def model(t, height, rate, level):
        return decay(t.astype(np.float32), np.float32(height), np.float32(rate), np.float32(level))
    result = lsq.fit(model, T, Y, {"rate": 1.0, "height": 1, "level": 0}, separable=["height", "level"])
    assert result.x == pytest.approx([2.5104, 1.3036, 0.4985], rel=1e-3)


@pytest.mark.parametrize("strategy", ["fast", "minpack"])
@pytest.mark.parametrize("start", [(5, 1), (3, 1), (5, 0.5), (1, 0.1)])
def test_a_trial_at_which_a_column_is_huge_spoils_nothing(start, strategy):
    """exp(150 t) at a rejected trial: the next columns are not found by a step that suits that one."""
    t = np.linspace(0, 10, 80)

    def two_decays(t, fast, slow, height1, height2, level):
        with np.errstate(all="ignore"):
            return height1*np.exp(-fast*t) + height2*np.exp(-slow*t) + level

    y = two_decays(t, 2.0, 0.4, 40, 25, 5) + 0.3*np.random.default_rng(22).standard_normal(t.size)
    found = lsq.fit(two_decays, t, y, dict(zip(("fast", "slow"), start)), sigma=0.3, separable=True, strategy=strategy)
    assert found.success and np.allclose(found.x, [1.9489, 0.39546, 39.814, 24.547, 5.0466], rtol=1e-4)
