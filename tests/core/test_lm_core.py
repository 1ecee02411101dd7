"""The n-sized half by script: norms and models are told, and the machine's
request, verdict, radius and parameter are those of the formulas.

There is no problem behind these scripts.  The numbers are worked out in the
tests, mostly with one parameter, R = 1, D = 1 and powers of two, so that the
arithmetic is exact.
"""
import math

import numpy as np
import pytest

from kernels import CODES

NAN, INF = math.nan, math.inf
EPS = 2.0 ** -52
NORM, MODEL, DONE = CODES["LSQ_ASK_NORM"], CODES["LSQ_ASK_MODEL"], CODES["LSQ_ASK_DONE"]
PROPER = dict(maxfev=1000, scaling=CODES["LSQ_SCALE_COLUMNS"], ftol=0.0, xtol=0.0, gtol=0.0,
              factor=100.0)


def machine(core, x, diag=None, **settings):
    """A machine at the start x."""
    made = core.machine(len(x))
    for name, value in (PROPER | settings).items():
        setattr(made.state, name, value)
    made.vector("X")[:] = x
    if diag is not None:
        made.state.scaling = CODES["LSQ_SCALE_USER"]
        made.vector("DIAG")[:] = diag
    made.start()
    return made


def tell_model(made, r, qtf, colnorm=None, ipvt=None, cost=0):
    """Tell R (and its column norms, unless given), Q'f and the permutation."""
    r = np.atleast_2d(np.asarray(r, float))
    ipvt = np.arange(1, made.n + 1) if ipvt is None else np.asarray(ipvt)
    if colnorm is None:
        colnorm = np.empty(made.n)
        colnorm[ipvt - 1] = np.linalg.norm(r, axis=0)
    upper = np.triu_indices(made.n)
    made.triangle[upper] = r[upper]
    made.ipvt[:] = ipvt
    made.vector("QTF")[:] = qtf
    made.vector("COLNORM")[:] = colnorm
    made.tell_model(cost)


def line(core, x=16.0, fnorm=2.0, slope=1.0, qtf=1.0, **settings):
    """One parameter, past its first model: f is `fnorm` long, J is `slope`
    and Q'f is `qtf`, so the Gauss-Newton step is -qtf/slope."""
    made = machine(core, [x], **settings)
    made.tell_norm(fnorm)
    tell_model(made, [[slope]], [qtf])
    return made


# ---------------------------------------------------------------------------
# start


def test_it_asks_for_the_norm_at_the_start(core):
    made = machine(core, [3.0, -4.0])
    assert made.state.request == NORM
    assert made.vector("TRIAL").tolist() == [3.0, -4.0]
    assert (made.state.nfev, made.state.njev) == (0, 0)


def test_it_asks_for_a_model_after_the_first_norm(core):
    made = machine(core, [3.0, -4.0])
    made.tell_norm(5.0)
    assert made.state.request == MODEL
    assert made.state.accepted == 1
    assert made.state.fnorm == 5.0
    assert made.vector("X").tolist() == [3.0, -4.0]


@pytest.mark.parametrize("setting, bad", [
    *[(name, value) for name in ("ftol", "xtol", "gtol") for value in (-1e-300, -1.0, -INF, NAN)],
    *[("factor", value) for value in (0.0, -1.0, -INF, NAN)],
    *[("maxfev", value) for value in (0, -1)],
    *[("scaling", value) for value in (0, 3, -1)],
])
def test_improper_settings_end_it_at_once(setting, bad, core):
    made = machine(core, [1.0], **{setting: bad})
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_IMPROPER"])
    assert (made.state.nfev, made.state.njev) == (0, 0)


@pytest.mark.parametrize("n", [0, -1])
def test_no_parameters_are_improper(n, core):
    made = core.machine(n)
    for name, value in PROPER.items():
        setattr(made.state, name, value)
    made.start()
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_IMPROPER"])


@pytest.mark.parametrize("bad", [0.0, -0.0, -1.0, NAN, -INF])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_scale_factor_that_is_not_positive_is_improper(at, bad, core):
    diag = [1.0, 2.0, 3.0]
    diag[at] = bad
    made = machine(core, [1.0, 1.0, 1.0], diag=diag)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_IMPROPER"])


def test_the_users_scale_factors_are_not_read_in_the_other_mode(core):
    made = machine(core, [1.0])
    made.vector("DIAG")[:] = -1.0
    made.start()
    assert made.state.request == NORM


def test_a_machine_can_be_started_again(core):
    made = line(core)
    made.tell_norm(NAN)
    used = made.state.nfev
    made.vector("X")[:] = 16.0
    made.start()
    assert used == 2 and (made.state.request, made.state.nfev, made.state.njev) == (NORM, 0, 0)
    made.tell_norm(2.0)
    tell_model(made, [[1.0]], [1.0])
    again = line(core)
    for name, _ in made.state._fields_:
        assert getattr(made.state, name) == getattr(again.state, name), name


# ---------------------------------------------------------------------------
# not finite


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_first_norm_not_finite_ends_it(bad, core):
    made = machine(core, [1.0])
    made.tell_norm(bad)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_NOT_FINITE"])
    assert made.state.nfev == 1


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("at", [0, 1])
def test_a_column_norm_not_finite_ends_it(at, bad, core):
    made = machine(core, [1.0, 1.0])
    made.tell_norm(1.0)
    colnorm = [1.0, 1.0]
    colnorm[at] = bad
    tell_model(made, np.eye(2), [0.5, 0.5], colnorm, cost=2)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_NOT_FINITE"])
    assert (made.state.nfev, made.state.njev) == (3, 1)


def test_a_later_model_not_finite_ends_it_at_the_accepted_point(core):
    made = line(core)
    made.tell_norm(math.sqrt(3))
    assert made.state.request == MODEL
    tell_model(made, [[1.0]], [1.0], [NAN])
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_NOT_FINITE"])
    assert made.vector("X")[0] == 15.0


@pytest.mark.parametrize("bad, shrink", [
    # blown up: 0.1 ‖f₊‖ >= ‖f‖, so the least factor
    (INF, 0.1),
    # NaN compares as not blown up: by the parabola, actual = -1, slope = -1/4:
    # 0.5*(-1/4)/(-1/4 - 0.5) = 1/6
    (NAN, 0.5 * -0.25 / (-0.25 + 0.5 * -1.0)),
])
def test_a_trial_norm_not_finite_is_a_rejected_step(bad, shrink, core):
    made = line(core)
    made.tell_norm(bad)
    state = made.state
    assert (state.request, state.accepted, state.actual) == (NORM, 0, -1.0)
    assert (state.nfev, state.njev, state.fnorm) == (2, 1, 2.0)
    assert made.vector("X")[0] == 16.0
    # min(radius, 10‖D p‖) = 1, and the first iteration cuts it to the new step
    assert state.radius == min(shrink, state.pnorm)
    assert made.vector("TRIAL")[0] == 16.0 + made.vector("STEP")[0]


# ---------------------------------------------------------------------------
# scaling and the first radius


def test_scale_factors_start_as_column_norms_and_one_where_zero(core):
    made = machine(core, [1.0, 1.0, 1.0])
    made.tell_norm(1.0)
    r = np.zeros((3, 3))
    r[0, 0], r[1, 1] = 4.0, 2.0
    tell_model(made, r, [0.5, 0.25, 0.0], [4.0, 2.0, 0.0])
    assert made.vector("DIAG").tolist() == [4.0, 2.0, 1.0]


def test_scale_factors_only_grow(core):
    made = machine(core, [16.0, 16.0])
    made.tell_norm(2.0)
    tell_model(made, np.diag([4.0, 2.0]), [1.0, 1.0])
    made.tell_norm(1.5)
    assert made.state.request == MODEL
    tell_model(made, np.diag([1.0, 8.0]), [1.0, 1.0])
    assert made.vector("DIAG").tolist() == [4.0, 8.0]


def test_the_users_scale_factors_stay(core):
    made = machine(core, [16.0, 16.0], diag=[0.5, 64.0])
    made.tell_norm(2.0)
    tell_model(made, np.diag([4.0, 2.0]), [1.0, 1.0])
    made.tell_norm(1.5)
    tell_model(made, np.diag([32.0, 256.0]), [1.0, 1.0])
    assert made.vector("DIAG").tolist() == [0.5, 64.0]


def test_column_norms_are_in_the_order_of_the_parameters(core):
    """The model of J = diag(2, 8), whose second column came first."""
    made = machine(core, [16.0, 16.0])
    made.tell_norm(2.0)
    tell_model(made, np.diag([8.0, 2.0]), [1.0, 1.0], ipvt=[2, 1])
    assert made.vector("DIAG").tolist() == [2.0, 8.0]
    assert made.vector("STEP").tolist() == [-1 / 2, -1 / 8]


def test_the_first_radius_is_factor_times_scaled_x_cut_to_the_first_step(core):
    # ‖D x‖ = 2*16, radius 0.25*32 = 8; the full step -24/2 is ‖D p‖ = 24 > 8
    made = machine(core, [16.0], factor=0.25)
    made.tell_norm(32.0)
    tell_model(made, [[2.0]], [24.0])
    state = made.state
    assert state.xnorm == 32.0
    assert state.par > 0
    assert 0.9 * 8 <= state.pnorm <= 1.1 * 8
    assert state.radius == min(8.0, state.pnorm)
    # a full step inside the radius pulls the radius to it
    made = machine(core, [16.0], factor=100.0)
    made.tell_norm(32.0)
    tell_model(made, [[2.0]], [24.0])
    assert (made.state.par, made.state.pnorm, made.state.radius) == (0.0, 24.0, 24.0)


def test_the_first_radius_is_the_factor_at_the_origin(core):
    made = machine(core, [0.0], factor=0.5)
    made.tell_norm(32.0)
    tell_model(made, [[2.0]], [24.0])
    assert 0.45 <= made.state.pnorm <= 0.55
    assert made.state.radius == min(0.5, made.state.pnorm)


def test_a_later_step_does_not_cut_the_radius(core):
    """After an accepted step the radius is 2‖D p‖, and stays so however short
    the next step."""
    made = line(core)
    made.tell_norm(math.sqrt(3.0))          # ratio 1
    assert made.state.radius == 2.0
    tell_model(made, [[1.0]], [0.25])
    assert (made.state.pnorm, made.state.radius) == (0.25, 2.0)


def test_the_step_solves_the_damped_problem(core):
    """p = -(RᵀR + par D²)⁻¹ Rᵀ Q'f, within a tenth of the radius."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 9):
        for factor in (1e-3, 0.1, 1.0, 100.0):
            x = rng.standard_normal(n)
            r = np.triu(rng.standard_normal((n, n))) + 2 * np.eye(n)
            qtf, ipvt = rng.standard_normal(n), rng.permutation(n) + 1
            made = machine(core, x, factor=factor)
            made.tell_norm(2 * np.linalg.norm(qtf))
            tell_model(made, r, qtf, ipvt=ipvt)
            state, d = made.state, made.vector("DIAG")
            jac = np.empty((n, n))
            jac[:, ipvt - 1] = r
            want = -np.linalg.solve(jac.T @ jac + state.par * np.diag(d ** 2), jac.T @ qtf)
            np.testing.assert_allclose(made.vector("STEP"), want, rtol=1e-9, atol=1e-12)
            assert state.pnorm == pytest.approx(np.linalg.norm(d * want), rel=1e-9)
            first_radius = factor * np.linalg.norm(d * x)
            assert state.pnorm <= 1.1 * first_radius * (1 + 1e-12)
            if state.par > 0:
                assert state.pnorm >= 0.9 * first_radius * (1 - 1e-12)
            np.testing.assert_array_equal(made.vector("TRIAL"), x + made.vector("STEP"))


# ---------------------------------------------------------------------------
# reductions, acceptance, radius
#
# line(): x = 16, ‖f‖ = 2, J = 1, Q'f = 1.  The step is -1, par 0, ‖D p‖ = 1 and
# the radius 1; predicted = (‖J p‖/‖f‖)² = 1/4, slope -1/4.  Told ‖f₊‖² = 4(1 - a),
# the actual reduction is a and the ratio 4a.


def trial_norm(actual):
    return 2.0 * math.sqrt(1 - actual)


def test_the_predicted_reduction_of_an_undamped_step(core):
    made = line(core)
    assert (made.vector("STEP")[0], made.state.par, made.state.pnorm) == (-1.0, 0.0, 1.0)
    made.tell_norm(1.0)
    assert (made.state.actual, made.state.predicted) == (0.75, 0.25)
    assert (made.state.ratio, made.state.slope) == (3.0, -0.25)


def test_the_predicted_reduction_of_a_damped_step(core):
    made = line(core, factor=0.03125)       # radius 0.5 against a full step of 1
    par, p = made.state.par, made.vector("STEP")[0]
    assert par > 0
    assert p == pytest.approx(-1 / (1 + par), rel=1e-12)
    made.tell_norm(1.0)
    linear, damping = p ** 2 / 4, par * p ** 2 / 4
    assert made.state.predicted == pytest.approx(linear + 2 * damping, rel=1e-12)
    assert made.state.slope == pytest.approx(-(linear + damping), rel=1e-12)
    assert made.state.ratio == pytest.approx(0.75 / (linear + 2 * damping), rel=1e-12)


@pytest.mark.parametrize("norm, actual", [
    (1.0, 0.75), (2.0, 0.0), (4.0, -3.0), (19.0, 1 - 9.5 ** 2), (20.0, -1.0), (21.0, -1.0),
    (1e300, -1.0), (0.0, 1.0)])
def test_the_actual_reduction_is_capped_where_the_trial_is_hopeless(norm, actual, core):
    made = line(core)
    made.tell_norm(norm)
    assert made.state.actual == actual


@pytest.mark.parametrize("actual, accepted", [
    (0.25, True), (2.6e-5, True), (2.4e-5, False), (0.0, False), (-0.5, False)])
def test_a_step_is_accepted_from_a_ratio_of_1e_4(actual, accepted, core):
    made = line(core)
    made.tell_norm(trial_norm(actual))
    state = made.state
    assert state.ratio == pytest.approx(4 * actual, abs=1e-14)
    assert bool(state.accepted) == accepted
    assert state.request == (MODEL if accepted else NORM)
    assert made.vector("X")[0] == (15.0 if accepted else 16.0)
    assert state.fnorm == (trial_norm(actual) if accepted else 2.0)
    assert state.xnorm == (15.0 if accepted else 16.0)


def test_acceptance_is_at_the_threshold_itself(core):
    """ratio = actual/predicted = 1e-4 exactly: a step that is exactly as good."""
    for k in range(-40, 41):
        made = line(core)
        made.tell_norm(trial_norm(2.5e-5) * (1 + k * EPS))
        assert bool(made.state.accepted) == (made.state.ratio >= 1e-4)


@pytest.mark.parametrize("ratio, factor", [
    (3.0, 2.0), (1.0, 2.0), (0.76, 2.0),        # good: 2‖D p‖
    (0.5, 2.0), (0.26, 2.0),                    # par = 0: the same
    (0.24, 0.5), (0.01, 0.5),                   # poor, but a reduction: half
])
def test_the_radius_after_an_accepted_undamped_step(ratio, factor, core):
    made = line(core)
    made.tell_norm(trial_norm(ratio / 4))
    assert made.state.accepted == 1
    assert made.state.radius == factor          # times ‖D p‖ = 1
    assert made.state.par == 0.0


def damped(core):
    """A damped second step: radius 2 after a good step of length 1, and a full
    step of 8 (‖f‖ about 32, R = 1, Q'f = 8)."""
    made = line(core, fnorm=32.0)
    tell_ratio(made, 1.0)
    tell_model(made, [[1.0]], [8.0])
    assert made.state.par > 0 and made.state.radius == 2.0
    assert 1.8 <= made.state.pnorm <= 2.2
    return made


def tell_ratio(made, ratio):
    """Tell the norm for which actual/predicted is `ratio`."""
    state = made.state
    linear = made.triangle[0, 0] * made.vector("STEP")[0] / state.fnorm
    damping = state.par * (state.pnorm / state.fnorm) ** 2
    made.tell_norm(state.fnorm * math.sqrt(1 - ratio * (linear ** 2 + 2 * damping)))
    assert state.ratio == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7])
def test_the_radius_stays_after_a_fair_damped_step(ratio, core):
    made = damped(core)
    par, radius = made.state.par, made.state.radius
    tell_ratio(made, ratio)
    assert (made.state.accepted, made.state.request) == (1, MODEL)
    assert (made.state.radius, made.state.par) == (radius, par)


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.2])
def test_radius_and_parameter_after_a_poor_damped_step(ratio, core):
    made = damped(core)
    par = made.state.par
    tell_ratio(made, ratio)
    assert made.state.accepted == 1
    assert (made.state.radius, made.state.par) == (1.0, par / 0.5)


@pytest.mark.parametrize("norm, shrink", [
    # actual = 0: exactly a half
    (2.0, 0.5),
    # actual = 1 - t²/4 < 0: 0.5 s/(s + 0.5 actual) with s = -1/4
    (2.5, 0.5 * -0.25 / (-0.25 + 0.5 * (1 - 1.5625))),
    (3.0, 0.5 * -0.25 / (-0.25 + 0.5 * (1 - 2.25))),
    # the parabola would take less than a tenth
    (6.0, 0.1), (19.0, 0.1),
    # blown up (0.1‖f₊‖ >= ‖f‖): a tenth, though actual = -1 would give 1/6
    (20.0, 0.1), (1e10, 0.1),
])
def test_a_rejected_step_shrinks_the_radius_by_the_parabola(norm, shrink, core):
    # the second iteration, where the radius is not cut to the step: radius 2,
    # from ‖f‖ = 2, J = 1, Q'f = 1 again
    made = line(core, fnorm=math.sqrt(5.0))
    made.tell_norm(2.0)                         # ratio (1/5)/(1/5) = 1
    assert (made.state.accepted, made.state.radius) == (1, 2.0)
    tell_model(made, [[1.0]], [1.0])
    assert (made.state.pnorm, made.state.radius) == (1.0, 2.0)
    made.tell_norm(norm)
    assert (made.state.accepted, made.state.request) == (0, NORM)
    # shrink * min(radius, 10 ‖D p‖)
    assert made.state.radius == pytest.approx(shrink * 2.0, rel=1e-15)


def test_the_shrunk_radius_is_at_most_the_shrink_of_ten_steps(core):
    """A radius far beyond the step: min(Δ, 10‖D p‖)."""
    made = line(core)
    made.tell_norm(trial_norm(0.25))            # radius 2
    tell_model(made, [[1.0]], [0.015625])       # step 1/64: 10‖D p‖ < 2
    assert made.state.radius == 2.0
    made.tell_norm(math.sqrt(3.0))              # no reduction: a half
    assert made.state.radius == pytest.approx(0.5 * 10 / 64, rel=1e-15)


def test_rejections_in_a_row_shrink_until_one_is_accepted(core):
    made = line(core)
    radius = 1.0
    for k in range(5):
        made.tell_norm(1e9)
        assert (made.state.request, made.state.accepted) == (NORM, 0)
        assert made.state.radius <= 0.1 * radius * (1 + 1e-15)
        assert abs(made.vector("STEP")[0]) <= 1.1 * 0.1 * radius * (1 + 1e-12)
        radius = made.state.radius
    assert (made.state.nfev, made.state.njev) == (6, 1)
    made.tell_norm(trial_norm(0.25 * abs(made.vector("STEP")[0])))
    assert (made.state.request, made.state.accepted) == (MODEL, 1)
    assert made.vector("X")[0] == made.vector("TRIAL")[0] < 16.0


# ---------------------------------------------------------------------------
# verdicts


def verdict_of(core, norm, **settings):
    """The verdict on line()'s step when told `norm`; 0 if it goes on."""
    made = line(core, **settings)
    assert made.state.request == NORM
    made.tell_norm(norm)
    if made.state.request == DONE:
        assert made.state.info > 0
        return made.state.info
    assert made.state.info == 0
    return 0


# In line(): predicted 1/4; told 2·√(3/4), actual 1/4 and ratio 1; radius 2, ‖D x‖ 15.
GOOD = math.sqrt(3.0)


@pytest.mark.parametrize("settings, norm, info", [
    (dict(), GOOD, 0),
    # 1: |actual| and predicted at most ftol, ratio at most 2
    (dict(ftol=0.2500001), GOOD, 1),
    (dict(ftol=0.2499999), GOOD, 0),
    (dict(ftol=0.3), trial_norm(0.31), 0),              # actual too large
    (dict(ftol=0.3), trial_norm(-0.29), 1),             # a rise within ftol, too
    (dict(ftol=0.3), trial_norm(-0.31), 0),
    (dict(ftol=0.9), trial_norm(0.499), 1),             # ratio 1.996
    (dict(ftol=0.9), trial_norm(0.501), 0),             # ratio 2.004
    # 2: radius 2 at most xtol·15
    (dict(xtol=2.001 / 15), GOOD, 2),
    (dict(xtol=1.999 / 15), GOOD, 0),
    # 3: both
    (dict(ftol=0.26, xtol=0.2), GOOD, 3),
    # 5: nfev 2 reaches maxfev
    (dict(maxfev=2), GOOD, 5), (dict(maxfev=1), GOOD, 5), (dict(maxfev=3), GOOD, 0),
    (dict(maxfev=2), 1e9, 5),                           # also after a rejected step
    # 1 to 3 come before 5
    (dict(maxfev=2, ftol=0.26), GOOD, 1),
    (dict(maxfev=2, xtol=0.2), GOOD, 2),
    (dict(maxfev=2, ftol=0.26, xtol=0.2), GOOD, 3),
])
def test_verdicts_on_a_step(settings, norm, info, core):
    assert verdict_of(core, norm, **settings) == info


# ‖f‖ = 1 and Q'f = q: predicted q², cosine q (J = 1), step q, so the radius after a
# good step is 2q and after a null step q/2.
HALF_EPS = EPS / 2


@pytest.mark.parametrize("x, qtf, settings, info", [
    # 6: the reductions below eps (q² <= eps), the cosine and the radius not
    (2.0 ** -30, 2.0 ** -30, dict(), 6),
    (2.0 ** -25, 2.0 ** -25, dict(), 0),
    # 7: the radius q/2 at most eps ‖D x‖; q² > eps
    (2.0 ** 40, 2.0 ** -20, dict(), 7),
    (2.0 ** 31, 2.0 ** -20, dict(), 7),
    (2.0 ** 30, 2.0 ** -20, dict(), 0),
    # 7 over 6
    (2.0 ** 40, 2.0 ** -30, dict(), 7),
    # 8: the cosine at most eps, over 6 and over 7
    (EPS, HALF_EPS, dict(), 8),
    (2.0 ** 40, HALF_EPS, dict(), 8),
    (EPS, EPS, dict(), 8),
    (EPS, 2 * EPS, dict(), 6),
    # 6, 7 and 8 over 5
    (2.0 ** -25, 2.0 ** -25, dict(maxfev=2), 5),
    (2.0 ** -30, 2.0 ** -30, dict(maxfev=2), 6),
    (2.0 ** 40, 2.0 ** -20, dict(maxfev=2), 7),
    (2.0 ** 40, HALF_EPS, dict(maxfev=2), 8),
    # 1, 2 and 3 over all of these
    (EPS, HALF_EPS, dict(ftol=1e-8), 1),
    (2.0 ** 40, HALF_EPS, dict(xtol=1e-8), 2),
    (2.0 ** 40, HALF_EPS, dict(ftol=1e-8, xtol=1e-8, maxfev=2), 3),
])
def test_verdicts_at_machine_precision(x, qtf, settings, info, core):
    """Told no change at all: actual 0, ratio 0, rejected."""
    made = line(core, x=x, fnorm=1.0, qtf=qtf, **settings)
    assert made.state.request == NORM
    made.tell_norm(1.0)
    assert made.state.accepted == 0
    assert made.state.info == info
    assert made.state.request == (DONE if info else NORM)


def test_the_cosine_is_tested_only_at_a_new_model(core):
    """gtol = 1: the first model passes it (cosine 1/2) at once; a trial does not
    look at it."""
    made = line(core, gtol=0.4999)              # cosine (1·1/2)/1 = 0.5
    assert made.state.gnorm == 0.5
    assert made.state.request == NORM
    made.tell_norm(1e9)
    assert made.state.request == NORM
    made.tell_norm(GOOD * 0.99)
    assert made.state.request == MODEL
    tell_model(made, [[1.0]], [0.4])
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_GTOL"])


@pytest.mark.parametrize("gtol, done", [(0.5, True), (0.4999999, False), (0.0, False)])
def test_the_cosine_ends_it_at_most_gtol(gtol, done, core):
    made = line(core, gtol=gtol)
    assert made.state.request == (DONE if done else NORM)
    assert made.state.info == (CODES["LSQ_GTOL"] if done else 0)


def test_the_cosine_is_the_largest_over_the_columns(core):
    """cos(f, column l) = |(Rᵀ Q'f)_j|/(‖column‖‖f‖), zero columns left out."""
    r = np.array([[4.0, 3.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    qtf, ipvt, fnorm = np.array([1.0, 2.0, 3.0]), [3, 1, 2], 8.0
    made = machine(core, [1.0, 1.0, 1.0])
    made.tell_norm(fnorm)
    tell_model(made, r, qtf, ipvt=ipvt)
    cosines = [abs(r[:, j] @ qtf) / np.linalg.norm(r[:, j]) / fnorm for j in (0, 1)]
    assert made.state.gnorm == pytest.approx(max(cosines), rel=1e-15)
    assert max(cosines) != cosines[0]


@pytest.mark.parametrize("fnorm, qtf", [(0.0, 0.0), (1.0, 0.0)])
def test_a_zero_gradient_ends_it_even_with_no_tolerance(fnorm, qtf, core):
    """‖f‖ = 0, or f orthogonal to J: the cosine is 0 <= gtol = 0."""
    made = line(core, fnorm=fnorm, qtf=qtf)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_GTOL"])
    assert made.vector("X")[0] == 16.0


def test_the_cosine_comes_before_the_limit_of_evaluations(core):
    made = line(core, gtol=0.5, maxfev=1)
    assert made.state.info == CODES["LSQ_GTOL"]


def test_the_limit_of_evaluations_is_tested_only_after_a_trial(core):
    made = machine(core, [16.0], maxfev=1)
    made.tell_norm(2.0)
    assert made.state.request == MODEL
    tell_model(made, [[1.0]], [1.0], cost=50)
    assert made.state.request == NORM
    made.tell_norm(GOOD)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_MAXFEV"])
    assert made.vector("X")[0] == 15.0          # the step was taken


# ---------------------------------------------------------------------------
# counts and ownership


def test_costs_are_counted(core):
    made = machine(core, [16.0])
    made.tell_norm(2.0, cost=3)
    tell_model(made, [[1.0]], [1.0], cost=7)
    assert (made.state.nfev, made.state.njev) == (10, 1)
    made.tell_norm(1e9, cost=2)
    assert (made.state.nfev, made.state.njev) == (12, 1)
    made.tell_norm(GOOD, cost=0)
    tell_model(made, [[1.0]], [1.0], cost=1)
    assert (made.state.nfev, made.state.njev) == (13, 2)


def test_a_costly_model_counts_towards_the_limit(core):
    made = machine(core, [16.0], maxfev=10)
    made.tell_norm(2.0)
    tell_model(made, [[1.0]], [1.0], cost=8)
    made.tell_norm(GOOD)
    assert made.state.info == CODES["LSQ_MAXFEV"]


def test_iterations_count_accepted_steps(core):
    made = line(core)
    first = made.state.iteration
    made.tell_norm(1e9)
    assert made.state.iteration == first
    made.tell_norm(trial_norm(0.05))
    assert (made.state.accepted, made.state.iteration) == (1, first + 1)


def test_two_machines_do_not_affect_each_other(core):
    """All state is the caller's: two fits told in turns go as each alone."""
    script = [GOOD, 1e9, 1.6, NAN, 1.5]

    def told(made, norm):
        made.tell_norm(norm)
        if made.state.request == MODEL:
            tell_model(made, [[1.0]], [0.75])
        return [getattr(made.state, name) for name, _ in made.state._fields_]

    alone = line(core)
    want = [told(alone, norm) for norm in script]
    one, other = line(core), line(core, x=-3.0, slope=0.5, qtf=0.25)
    for norm, state in zip(script, want):
        told(other, norm / 2)
        assert told(one, norm) == state


# ---------------------------------------------------------------------------
# long scripts


def expected(before, norm, step_norm):
    """The policy, from the state before a trial's norm is told: what the
    machine must hold after (radius and par before a new step is proposed)."""
    fnorm, radius, par, pnorm = (before[k] for k in ("fnorm", "radius", "par", "pnorm"))
    linear, damping = step_norm / fnorm, math.sqrt(par) * pnorm / fnorm
    actual = 1 - (norm / fnorm) ** 2 if 0.1 * norm < fnorm else -1.0
    predicted = linear ** 2 + 2 * damping ** 2
    slope = -(linear ** 2 + damping ** 2)
    ratio = actual / predicted if predicted else 0.0
    if ratio <= 0.25:
        shrink = 0.5 if actual >= 0 else 0.5 * slope / (slope + 0.5 * actual)
        if 0.1 * norm >= fnorm or shrink < 0.1:
            shrink = 0.1
        radius, par = shrink * min(radius, 10 * pnorm), par / shrink
    elif par == 0 or ratio >= 0.75:
        radius, par = 2 * pnorm, par / 2
    return dict(actual=actual, predicted=predicted, slope=slope, ratio=ratio, radius=radius,
                par=par)


@pytest.mark.parametrize("seed", range(12))
def test_random_scripts_follow_the_policy(seed, core):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    made = machine(core, rng.standard_normal(n), factor=10.0 ** rng.uniform(-2, 2),
                   maxfev=10 ** 9)
    state = made.state
    made.tell_norm(10.0)
    shrinks = kept = grown = rejected = 0
    for event in range(150):
        assert state.request in (NORM, MODEL)
        if state.request == MODEL:
            r = np.triu(rng.standard_normal((n, n))) + np.diag(rng.choice([-2.0, 2.0], n))
            qtf = rng.standard_normal(n)
            qtf *= state.fnorm * rng.uniform(0.2, 0.9) / np.linalg.norm(qtf)
            r *= np.linalg.norm(qtf) * 10.0 ** rng.uniform(-1, 1)
            before = state.radius
            tell_model(made, r, qtf, ipvt=rng.permutation(n) + 1, cost=n)
            assert state.request == NORM
            if state.njev > 1:
                assert state.radius == before
            continue
        before = {k: getattr(state, k) for k, _ in state._fields_}
        x, trial = made.vector("X").copy(), made.vector("TRIAL").copy()
        step, d = made.vector("STEP").copy(), made.vector("DIAG").copy()
        assert before["pnorm"] == pytest.approx(np.linalg.norm(d * step), rel=1e-13)
        linear = np.linalg.norm(np.triu(made.triangle) @ step[made.ipvt - 1])
        damping = before["par"] * before["pnorm"] ** 2
        predicted = (linear ** 2 + 2 * damping) / before["fnorm"] ** 2
        # ask for a ratio, mostly between poor and good
        ratio = rng.choice([rng.uniform(0, 1.2), rng.uniform(-20, 0.3), 1e-5, 2e-4],
                           p=[0.7, 0.2, 0.05, 0.05])
        norm = before["fnorm"] * math.sqrt(max(1 - ratio * predicted, 1e-4))
        if rng.random() < 0.05:
            norm = rng.choice([INF, NAN, 11 * before["fnorm"]])
        made.tell_norm(norm)
        want = expected(before, norm, linear)
        for name in ("actual", "predicted", "slope", "ratio"):
            assert getattr(state, name) == pytest.approx(want[name], rel=1e-9, abs=1e-12), name
        assert bool(state.accepted) == (state.ratio >= 1e-4)
        stalled = abs(want["actual"]) <= EPS and want["predicted"] <= EPS and want["ratio"] <= 2
        spent = state.radius <= EPS * state.xnorm
        if stalled or spent:                        # a long way down: begin again
            assert state.request == DONE
            assert state.info == CODES["LSQ_XTOL_TOO_SMALL" if spent else "LSQ_FTOL_TOO_SMALL"]
            made.start()
            made.tell_norm(10.0)
            continue
        assert state.request == (MODEL if state.accepted else NORM)
        assert state.nfev == before["nfev"] + 1
        if state.accepted:
            assert state.radius == pytest.approx(want["radius"], rel=1e-9)
            assert state.par == pytest.approx(want["par"], rel=1e-9)
            np.testing.assert_array_equal(made.vector("X"), trial)
            assert state.fnorm == norm
            assert state.xnorm == pytest.approx(np.linalg.norm(d * trial), rel=1e-12)
            shrinks += state.ratio <= 0.25
            grown += state.ratio >= 0.75
            kept += 0.25 < state.ratio < 0.75 and before["par"] > 0
        else:
            rejected += 1
            cut = state.pnorm if state.iteration == 1 else INF
            assert state.radius == pytest.approx(min(want["radius"], cut), rel=1e-9)
            np.testing.assert_array_equal(made.vector("X"), x)
            assert state.fnorm == before["fnorm"]
            np.testing.assert_array_equal(made.vector("TRIAL"), x + made.vector("STEP"))
        np.testing.assert_array_equal(made.vector("DIAG"), d)
    assert min(shrinks, grown, rejected) > 0 and kept + grown > 0
