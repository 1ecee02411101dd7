"""Strategies by script: what the core asks for and when, where the trials are, which are accepted.

There is no problem behind these scripts: x = 16, ‖f‖ = 2, R = 1, Q'f = 1, so that the step p is −1. Most numbers are
powers of two, so that the arithmetic is exact except for the factor 1/10 of a feeler.
"""
import math

import numpy as np
import pytest

from kernels import CODES

NAN, INF = math.nan, math.inf
NORM, MODEL, DONE = CODES["LSQ_ASK_NORM"], CODES["LSQ_ASK_MODEL"], CODES["LSQ_ASK_DONE"]
CHANGE, FEELER = CODES["LSQ_ASK_CHANGE"], CODES["LSQ_ASK_FEELER"]
FAST, ROBUST = CODES["LSQ_STRATEGY_FAST"], CODES["LSQ_STRATEGY_ROBUST"]
PAST_WANTED, PAST_TOLD = CODES["LSQ_PAST_WANTED"], CODES["LSQ_PAST_TOLD"]
PROPER = dict(maxfev=1000, scaling=CODES["LSQ_SCALE_COLUMNS"], ftol=0.0, xtol=0.0, gtol=0.0, factor=100.0)


def tell_model(made, slope=1.0, qtf=1.0, cost=0):
    made.triangle[0, 0], made.ipvt[0] = slope, 1
    made.vector("QTF")[0], made.vector("COLNORM")[0] = qtf, abs(slope)
    made.tell_model(cost)


def line(core, strategy=FAST, changes=1, **settings):
    """A machine after its first model."""
    made = core.machine(1, strategy=strategy, changes=changes)
    for name, value in (PROPER | settings).items():
        setattr(made.state, name, value)
    made.vector("X")[0] = 16.0
    made.start()
    made.tell_norm(2.0)
    tell_model(made)
    return made


def rejected(core, norm=4.0, **settings):
    """The machine after it was told the norm of the first trial; the norm at x is 2."""
    made = line(core, **settings)
    if made.state.request == FEELER:
        made.tell_change([NAN], cost=1)
    made.tell_norm(norm)
    return made


def trial(made):
    return made.vector("TRIAL")[0]


def accelerated(made, curvature, along):
    """The change to tell for f″dd = curvature·d², with J = 1 and d = along."""
    return [along + 0.5*curvature*along**2]


# ---------------------------------------------------------------------------
# feelers


def test_a_feeler_is_asked_for_before_the_first_step(core):
    made = line(core)
    assert made.state.request == FEELER
    assert trial(made) == 16.0 + 0.1*-1.0
    assert made.vector("STEP")[0] == -1.0


@pytest.mark.parametrize("curvature, bent", [(0.0, 15.0), (1.0, 14.5), (-1.0, 15.5), (1.49, 14.255), (1.51, 15.0), (-1.51, 15.0),
                                             (NAN, 15.0), (INF, 15.0), (1e300, 15.0)])
def test_a_feeler_bends_the_step_unless_the_acceleration_is_too_large(curvature, bent, core):
    """a = −f″pp; the trial is x + p + a/2 if 2|a| <= 3|p|."""
    made = line(core)
    made.tell_change(accelerated(made, curvature, -0.1), cost=1)
    assert made.state.request == NORM
    assert made.state.nfev == 2 and made.state.accepted == 0
    assert trial(made) == pytest.approx(bent, rel=1e-12)
    assert made.vector("STEP")[0] == -1.0


def test_no_feeler_where_changes_cannot_be_made(core):
    made = line(core, changes=0)
    assert made.state.request == NORM and trial(made) == 15.0


def test_after_a_declined_feeler_no_other_is_asked_for(core):
    made = line(core)
    made.tell_change(None)
    assert (made.state.request, made.state.changes, made.state.nfev) == (NORM, 0, 1)
    assert trial(made) == 15.0
    made.tell_norm(4.0)
    assert made.state.request == NORM        # nor is there a second try


def test_feelers_end_with_the_third_iteration_unless_the_strategy_is_robust(core):
    for strategy, iterations in ((FAST, 3), (ROBUST, 8)):
        made, asked = line(core, strategy), []
        for k in range(8):
            if made.state.request == FEELER:
                asked.append(k + 1)
                made.tell_change([NAN], cost=1)
            made.tell_norm(math.sqrt(3)*0.9**k)
            assert made.state.request == MODEL
            tell_model(made, qtf=0.5*0.9**k)
        assert asked == list(range(1, iterations + 1))


@pytest.mark.parametrize("left, felt", [(0, False), (1, False), (2, True)])
def test_no_feeler_that_leaves_no_evaluation_for_the_step(left, felt, core):
    """One evaluation was made, for the norm at the start."""
    made = line(core, maxfev=1 + left)
    assert made.state.request == (FEELER if felt else NORM)


@pytest.mark.parametrize("slope, qtf", [(0.0, 0.0), (0.0, 1.0)])
def test_no_feeler_where_the_triangle_is_singular(slope, qtf, core):
    made = core.machine(1, strategy=ROBUST, changes=1)
    for name, value in PROPER.items():
        setattr(made.state, name, value)
    made.vector("X")[0] = 16.0
    made.start()
    made.tell_norm(2.0)
    tell_model(made, slope, qtf)
    assert made.state.request in (NORM, DONE)


# ---------------------------------------------------------------------------
# the second try


@pytest.mark.parametrize("norm, asked", [(4.0, True), (2.0, True), (30.0, True), (1.9, False), (NAN, False), (INF, False)])
def test_a_change_is_asked_for_where_a_finite_trial_is_rejected(norm, asked, core):
    made = rejected(core, norm)
    assert made.state.accepted == (norm == 1.9)
    assert made.state.request == (CHANGE if asked else MODEL if norm == 1.9 else FEELER)
    if asked:
        assert trial(made) == 15.0 and made.state.radius == 1.0 and made.state.nfev == 3


def test_nothing_is_asked_for_once_the_fit_has_converged(core):
    made = rejected(core, 2.0, ftol=1.0)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_FTOL"])


def test_the_second_try_is_bent_by_the_first(core):
    made = rejected(core)
    made.tell_change(accelerated(made, 1.0, -1.0))
    assert (made.state.request, trial(made), made.state.nfev) == (NORM, 14.5, 3)
    made.tell_norm(1.75)
    assert (made.state.request, made.state.accepted, made.state.fnorm) == (MODEL, 1, 1.75)
    assert made.vector("X")[0] == 14.5
    # predicted is p's: (‖J p‖/‖f‖)² = 1/4
    assert made.state.predicted == 0.25 and made.state.actual == 1 - (1.75/2)**2


@pytest.mark.parametrize("second", [4.0, 5.0, 50.0, NAN, INF])
def test_a_second_try_that_is_no_better_leaves_the_firsts_verdict(second, core):
    plain = rejected(core, changes=0)
    made = rejected(core)
    made.tell_change(accelerated(made, 1.0, -1.0))
    made.tell_norm(second)
    assert made.state.accepted == 0 and made.vector("X")[0] == 16.0
    assert made.state.radius == plain.state.radius and made.state.par == plain.state.par
    assert made.vector("STEP")[0] == plain.vector("STEP")[0]
    # the state shows the numbers of the second try
    assert made.state.actual == (1 - (second/2)**2 if second < 20 else -1)


def test_a_second_try_that_is_better_but_poor_shrinks_by_its_own_ratio(core):
    made, plain = rejected(core, 8.0), rejected(core, 3.0, changes=0)
    made.tell_change(accelerated(made, 1.0, -1.0))
    made.tell_norm(3.0)
    assert made.state.accepted == 0 and made.state.radius == plain.state.radius


@pytest.mark.parametrize("curvature", [1.51, -1.51, NAN, INF, 0.0])
def test_no_second_try_where_the_acceleration_says_nothing(curvature, core):
    """It is too large, not finite, or zero: the trial would be the same."""
    made, plain = rejected(core), rejected(core, changes=0)
    made.tell_change(accelerated(made, curvature, -1.0))
    assert made.state.nfev == 3 and made.state.accepted == 0
    assert made.state.radius == plain.state.radius
    assert made.state.request == FEELER         # for the shorter step


def test_after_a_declined_change_no_other_is_asked_for(core):
    made, plain = rejected(core), rejected(core, changes=0)
    made.tell_change(None)
    assert (made.state.request, made.state.changes, made.state.nfev) == (NORM, 0, 3)
    assert trial(made) == trial(plain) and made.state.radius == plain.state.radius


def test_the_limit_of_evaluations_applies_between_the_two_tries(core):
    made = rejected(core, maxfev=3)         # start, feeler, first try
    assert made.state.request == CHANGE
    made.tell_change(accelerated(made, 1.0, -1.0))
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_MAXFEV"])
    made = rejected(core, maxfev=4)
    made.tell_change(accelerated(made, 1.0, -1.0))
    assert made.state.request == NORM
    made.tell_norm(5.0)
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_MAXFEV"])


# ---------------------------------------------------------------------------
# past


def accepted(core, strategy=FAST):
    """At x = 15, where a model is wanted; ‖f‖ = √3."""
    made = line(core, strategy, changes=0)
    made.tell_norm(math.sqrt(3))
    assert (made.state.request, made.state.past) == (MODEL, PAST_WANTED)
    return made


@pytest.mark.parametrize("curvature, qtf, bent", [
    (1.0, 1.0, 13.5),           # d = 1, p = −1, β = −1: a = −f″pp
    (1.0, 0.5, 14.375),         # p = −1/2, β² = 1/4
    (1.0, -1.0, 15.5),          # uphill along d: β = 1
    (3.1, 1.0, 14.0), (NAN, 1.0, 14.0),
])
def test_the_point_before_bends_the_step(curvature, qtf, bent, core):
    made = accepted(core)
    made.vector("C_CHANGE")[0] = 1.0 + 0.5*curvature
    made.state.past = PAST_TOLD
    tell_model(made, qtf=qtf)
    assert (made.state.request, made.state.nfev) == (NORM, 2)
    assert trial(made) == pytest.approx(bent, rel=1e-15)


def test_a_previous_point_that_is_not_told_is_not_used(core):
    made = accepted(core)
    made.vector("C_CHANGE")[0] = 1.5
    tell_model(made)
    assert trial(made) == 14.0 and made.state.known == 0


def test_the_past_bends_the_shorter_steps_after_a_rejection_too(core):
    made = accepted(core)
    made.vector("C_CHANGE")[0] = 1.5
    made.state.past = PAST_TOLD
    tell_model(made)
    made.tell_norm(3.0)
    assert made.state.accepted == 0 and made.state.request == NORM
    p = made.vector("STEP")[0]
    a = -p**2/(1 + made.state.par)
    assert -1 < p < 0 and trial(made) == pytest.approx(15.0 + p + a/2, rel=1e-14)


def test_the_past_is_used_only_along_the_step(core):
    """D d and D p at an angle: the previous point is used if the cosine is at least 0.7."""
    for angle, used in ((0.0, True), (0.75, True), (0.83, False), (1.5, False), (math.pi, True), (math.pi - 0.83, False)):
        made = core.machine(2, strategy=FAST)
        for name, value in PROPER.items():
            setattr(made.state, name, value)
        made.vector("X")[:] = 16.0
        made.start()
        made.tell_norm(2.0)
        made.triangle[:] = np.eye(2)
        made.vector("QTF")[:], made.vector("COLNORM")[:] = [1.0, 0.0], 1.0
        made.tell_model()
        made.tell_norm(math.sqrt(3))
        assert made.vector("C_LAST_X").tolist() == [16.0, 16.0]
        made.vector("QTF")[:] = np.cos(angle), np.sin(angle)
        made.vector("C_CHANGE")[:] = 1.0, 0.5       # J d is (1, 0): f″dd = (0, 1)
        made.state.past = PAST_TOLD
        made.tell_model()
        straight = made.vector("X") + made.vector("STEP")
        bent = straight + [0, -0.5*math.cos(angle)**2] if used else straight
        np.testing.assert_allclose(made.vector("TRIAL"), bent, rtol=1e-14)


def test_largest_sizes_are_kept(core):
    made = accepted(core)
    assert made.vector("C_LARGEST")[0] == 16.0


# ---------------------------------------------------------------------------
# new starts of the robust strategy


def ended(core, gnorm=0.5, diagonal=1.0, norm=1.0, strategy=ROBUST, maxfev=1000, start=2.0):
    """At x = (15, 16), where both reductions are below ftol; R is diag(1, diagonal), its second column 1 long."""
    made = core.machine(2, strategy=strategy)
    for name, value in (PROPER | {"maxfev": maxfev}).items():
        setattr(made.state, name, value)
    made.vector("X")[:] = 16.0
    made.start()
    made.tell_norm(start)
    both(made, [1.0, 0.0], [1.0, 1.0])
    made.tell_norm(norm)
    assert made.state.request == MODEL
    made.state.ftol = 1e-3
    both(made, [gnorm*norm*1e-3, 0.0], [1.0, diagonal])
    return made


def both(made, qtf, diagonal):
    made.triangle[:] = np.diag(diagonal)
    made.ipvt[:], made.vector("QTF")[:], made.vector("COLNORM")[:] = [1, 2], qtf, 1.0
    made.tell_model(1)


def end(made):
    """A trial that is better than any other."""
    made.tell_norm(made.state.fnorm*(1 - 1e-9))


@pytest.mark.parametrize("how, again", [({}, False), ({"gnorm": 20.0}, True), ({"diagonal": 0.9e-4}, True),
                                        ({"diagonal": 1.1e-4}, False), ({"diagonal": 0.0}, True),
                                        ({"diagonal": 1e-5, "norm": 1.9e-5}, False), ({"diagonal": 1e-5, "norm": 2.1e-5}, True),
                                        ({"diagonal": 1e-5, "strategy": FAST}, False), ({"diagonal": 1e-5, "maxfev": 5}, False)],
                         ids=str)
def test_a_fit_starts_again_where_a_parameter_has_run_away(how, again, core):
    made = ended(core, **how)
    end(made)
    assert made.state.nfev == 5
    if again:
        assert (made.state.request, made.state.restarts) == (NORM, 1)
        assert made.vector("TRIAL").tolist() == [16.0, 16.0]
    else:
        assert made.state.request == DONE and made.state.restarts == 0


@pytest.mark.parametrize("second, third, best", [(0.5, 0.9, 0.5), (0.9, 0.4, 0.4), (1.5, 1.7, 1.0)])
def test_the_best_of_three_ends_counts(second, third, best, core):
    made = ended(core, diagonal=1e-5)
    end(made)
    first = made.vector("C_BEST").copy()
    for start, (norm, factor) in enumerate(((second, 0.1), (third, 0.01)), 1):
        assert made.vector("TRIAL").tolist() == [16.0, 16.0] and made.state.restarts == start
        made.tell_norm(2.0)
        assert (made.state.request, made.state.accepted, made.state.iteration, made.state.past) == (MODEL, 1, 1, 0)
        both(made, [1.0, 0.0], [1.0, 1e-5])
        assert made.state.pnorm <= 1.1*factor*math.hypot(16, 16)
        made.tell_norm(norm)
        both(made, [1e-4, 0.0], [1.0, 1e-5])
        end(made)
    if best == third:
        assert made.state.request == DONE
    else:
        assert made.state.request == NORM
        if best == 1.0:
            assert np.array_equal(made.vector("TRIAL"), first)
        made.tell_norm(best*(1 - 1e-9))
        assert made.state.request == MODEL          # what is told of the answer is the answer's
        both(made, [1e-4, 0.0], [1.0, 1e-5])
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_FTOL"])
    assert made.state.fnorm == best*(1 - 1e-9)


def test_a_new_start_that_fails_gives_way_to_the_best(core):
    made = ended(core, diagonal=1e-5)
    end(made)
    made.tell_norm(2.0)
    made.vector("COLNORM")[:] = NAN
    made.tell_model()
    assert made.state.request == NORM and np.array_equal(made.vector("TRIAL"), made.vector("C_BEST"))
    made.tell_norm(1.0)
    both(made, [1e-4, 0.0], [1.0, 1e-5])
    assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_FTOL"])


# ---------------------------------------------------------------------------
# what must not change


def test_an_unknown_strategy_is_improper(core):
    for strategy in (-1, 3):
        made = core.machine(1, strategy=strategy)
        for name, value in PROPER.items():
            setattr(made.state, name, value)
        made.vector("X")[0] = 16.0
        made.start()
        assert (made.state.request, made.state.info) == (DONE, CODES["LSQ_IMPROPER"])


def test_minpack_asks_for_nothing_and_has_no_vectors(core):
    for bounded in (0, 1):
        for n in (1, 7):
            assert core.lib.lsq_core_columns(n, bounded, 0) + CODES["LSQ_CURVATURE_VECTORS"] \
                == core.lib.lsq_core_columns(n, bounded, FAST)
    made = line(core, strategy=0, changes=1)
    for _ in range(8):
        assert made.state.request == NORM
        made.tell_norm(4.0)
    assert (made.state.past, made.state.known, made.state.sound, made.state.attempt) == (0, 0, 0, 0)


def test_a_step_that_bounds_cut_is_not_bent(core):
    made = core.machine(1, bounded=1, strategy=ROBUST, changes=1)
    for name, value in (PROPER | {"factor": 1.0}).items():
        setattr(made.state, name, value)
    made.vector("X")[0], made.vector("LO")[0], made.vector("HI")[0] = 16.0, 15.9, 20.0
    made.start()
    made.tell_norm(2.0)
    tell_model(made)
    assert made.state.hits == 1 and made.state.request == NORM
    assert made.vector("TRIAL")[0] == 15.9
    made.tell_norm(4.0)
    assert made.state.request == FEELER         # no second try, but the next step is not cut
    assert made.state.hits == 0 and 15.9 < trial(made) < 16.0


@pytest.mark.parametrize("curvature, low, bent", [(1.0, -100.0, 14.5), (1.0, 14.6, 15.0)])
def test_a_bent_step_that_leaves_the_box_is_taken_straight(curvature, low, bent, core):
    made = core.machine(1, bounded=1, strategy=ROBUST, changes=1)
    for name, value in (PROPER | {"factor": 1.0}).items():
        setattr(made.state, name, value)
    made.vector("X")[0], made.vector("LO")[0], made.vector("HI")[0] = 16.0, low, INF
    made.start()
    made.tell_norm(2.0)
    tell_model(made)
    assert made.state.request == FEELER
    made.tell_change(accelerated(made, curvature, -0.1), cost=1)
    assert trial(made) == pytest.approx(bent, rel=1e-12)
