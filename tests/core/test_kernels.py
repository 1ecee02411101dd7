"""Each kernel has the bits of the original MINPACK, at every optimisation level.

The reference is the library bound to IEEE constants: the plain one compares
with a machine epsilon cut short, which can turn a branch.
"""
import numpy as np
import pytest

import problems
from kernels import CODES, assert_same_bits, same_bits

IEEE = "fortran-ieee"

# ---------------------------------------------------------------------------
# input


def _signs(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def _rank_deficient(rng, m, n):
    rank = max(1, min(m, n) // 2)
    return rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))


def _repeated_columns(rng, m, n):
    a = rng.integers(-3, 4, (m, n)).astype(float)
    a[:, n // 2:] = a[:, :n - n // 2]
    return a


def _zero_columns(rng, m, n):
    a = rng.standard_normal((m, n))
    a[:, rng.random(n) < 0.4] = rng.choice([0.0, -0.0])
    return a


def _zero_rows(rng, m, n):
    a = rng.standard_normal((m, n))
    a[rng.random(m) < 0.5] = -0.0
    return a


def _cancelling(rng, m, n):
    """Columns that differ in their last bits: column norms must be recomputed."""
    return np.outer(rng.standard_normal(m), np.ones(n)) * (1 + 1e-12 * rng.random((m, n)))


def _shifts(rng, m, n):
    """Columns that are shifts of one another: the last bits decide which column is the pivot."""
    v = rng.standard_normal(m)
    return np.stack([np.roll(v, k) for k in range(n)], axis=1)


MATRICES = {
    "random": lambda rng, m, n: rng.standard_normal((m, n)),
    "integers": lambda rng, m, n: rng.integers(-2, 3, (m, n)).astype(float),
    "signs": lambda rng, m, n: _signs(rng, (m, n)),
    "shifts": _shifts,
    "graded columns": lambda rng, m, n: rng.standard_normal((m, n))
    * 10.0 ** -np.linspace(0, 18, n),
    "growing columns": lambda rng, m, n: rng.standard_normal((m, n))
    * 10.0 ** np.linspace(0, 18, n),
    "graded rows": lambda rng, m, n: rng.standard_normal((m, n))
    * 10.0 ** -np.linspace(0, 30, m)[:, None],
    "rank deficient": _rank_deficient,
    "repeated columns": _repeated_columns,
    "nearly equal columns": _cancelling,
    "zero columns": _zero_columns,
    "zero rows": _zero_rows,
    "zeros": lambda rng, m, n: np.zeros((m, n)),
    "negative zeros": lambda rng, m, n: np.full((m, n), -0.0),
    "identity": lambda rng, m, n: np.eye(m, n),
    "huge": lambda rng, m, n: 1e300 * rng.standard_normal((m, n)),
    "tiny": lambda rng, m, n: 1e-300 * rng.standard_normal((m, n)),
    "denormal": lambda rng, m, n: 5e-324 * rng.integers(-9, 10, (m, n)),
    "at the guards": lambda rng, m, n: _signs(rng, (m, n))
    * rng.choice([3.8e-20, 3.9e-20, 1.3e19 / m, 1.31e19 / m, 1.0], (m, n)),
    "mixed": lambda rng, m, n: _signs(rng, (m, n)) * 10.0 ** rng.uniform(-300, 300, (m, n)),
    "moderately mixed": lambda rng, m, n: _signs(rng, (m, n))
    * 10.0 ** rng.uniform(-25, 25, (m, n)),
}

TALL = [(n, n) for n in range(1, 21)] + [(n + 1, n) for n in (1, 2, 3, 4, 7, 12)] \
    + [(17, 4), (33, 7), (50, 3), (64, 5), (65, 9), (100, 2), (101, 16), (128, 8), (255, 19),
       (300, 1), (300, 6), (300, 20)]
WIDE = [(1, 2), (1, 9), (2, 5), (3, 4), (5, 6), (7, 19), (12, 20)]
SIZES = [*range(1, 13), 15, 16, 20]

families = pytest.mark.parametrize("family", MATRICES)


def matrix(family, m, n, *seed):
    return MATRICES[family](np.random.default_rng([m, n, len(family), *seed]), m, n)


def vectors(family):
    for size in [*range(1, 41), 64, 100, 300, 1000]:
        yield matrix(family, size, 1).ravel()


# ---------------------------------------------------------------------------
# enorm


@families
def test_enorm_has_minpacks_bits(family, core, minpack):
    for x in vectors(family):
        assert_same_bits(core.enorm(x), minpack.enorm(x, lib=IEEE), x.size)


@pytest.mark.parametrize("odd", [5e-324, 1e-310, 1e-200, 3.834e-20, 1e10, 1.304e19, 1e160, 1e308])
def test_enorm_guards_against_one_odd_element(odd, core, minpack):
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 4, 5, 8, 30, 31):
        for at in {0, size // 2, size - 1}:
            for others in (rng.standard_normal(size), np.zeros(size), np.full(size, odd / 3)):
                x = others.copy()
                x[at] = odd
                assert_same_bits(core.enorm(x), minpack.enorm(x, lib=IEEE), (size, at))


@pytest.mark.parametrize("low, high", [
    (-24, -8), (-21, -19), (-21, -10), (-20, -18), (-42, -18), (-310, -15), (14, 21), (17, 20),
    (-20, 20), (150, 160)])
def test_enorm_weighs_elements_on_both_sides_of_a_guard_as_minpack(low, high, core, minpack):
    """Small elements first and last: whether their squares reach the sum hangs
    on the order, where sums are merged."""
    rng = np.random.default_rng([low + 400, high + 400])
    for trial in range(250):
        size = int(rng.integers(1, 60))
        x = 10.0 ** rng.uniform(low, rng.uniform(low, high), size)
        x[rng.random(size) < rng.choice([0.0, 0.1])] = 0.0
        x[rng.integers(size)] = 10.0 ** rng.uniform(low, high)
        for ordered in (x, np.sort(x), -np.sort(x)[::-1]):
            assert_same_bits(core.enorm(ordered), minpack.enorm(ordered, lib=IEEE),
                             ordered.tolist())


def test_enorm_of_nothing_is_zero(core):
    assert core.enorm(np.empty(0)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_enorm_of_the_non_finite_is_as_minpacks(bad, core, minpack):
    """Infinite for one infinity, NaN for two or a NaN: a trial's NaN norm
    shrinks the radius otherwise than an infinite one."""
    for size in (1, 2, 5, 9):
        for count in {1, 2, size} - set(range(size + 1, 9)):
            x = np.linspace(-1, 1, size)
            x[-count:] = bad
            norm = core.enorm(x)
            assert not np.isfinite(norm)
            assert_same_bits(norm, minpack.enorm(x, lib=IEEE), (size, count))


# ---------------------------------------------------------------------------
# qrfac


def assert_same_factors(got, want, what):
    for name, g, w in zip(("a", "ipvt", "rdiag", "acnorm"), got, want):
        assert_same_bits(g, w, f"{what} {name}")


def apply_reflectors(a, b):
    """Q'b as MINPACK's drivers make it from qrfac's output: every sum from
    first to last, each product rounded."""
    a = a.tolist()
    b = list(map(float, b))
    m, n = len(a), len(a[0])
    for j in range(min(m, n)):
        if a[j][j] != 0:
            total = 0.0
            for i in range(j, m):
                total = total + a[i][j] * b[i]
            factor = -total / a[j][j]
            for i in range(j, m):
                b[i] = b[i] + a[i][j] * factor
    return np.array(b)


@pytest.mark.parametrize("pivot", [True, False])
@families
def test_qrfac_has_minpacks_bits(family, pivot, core, minpack):
    for m, n in TALL + WIDE:
        a = matrix(family, m, n)
        want = list(minpack.qrfac(a, pivot, lib=IEEE))
        if not pivot:       # MINPACK leaves ipvt as it was
            want[1] = np.arange(1, n + 1)
        assert_same_factors(core.qrfac(a, pivot), want, (m, n))


@families
def test_qrfac_makes_qtb_of_a_riding_right_hand_side(family, core, minpack):
    rng = np.random.default_rng(7)
    for m, n in TALL[::2] + [(33, 7), (65, 9), (300, 6)] + WIDE:
        a = matrix(family, m, n)
        b = rng.choice([rng.standard_normal(m), a[:, 0], np.zeros(m), -np.zeros(m)])
        want = minpack.qrfac(a, lib=IEEE)
        *factors, qtb = core.qrfac(a, b=b)
        assert_same_factors(factors, want, (m, n))
        assert_same_bits(qtb, apply_reflectors(want[0], b), f"{(m, n)} Q'b")


def test_qrfac_keeps_to_its_rows(core, minpack):
    for m, n in [(1, 1), (5, 3), (9, 9), (3, 5)]:
        a = matrix("random", m, n)
        assert_same_factors(core.qrfac(a, lda=m + 3), minpack.qrfac(a, lib=IEEE), (m, n))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_qrfac_leaves_a_matrix_that_is_not_finite_untouched(bad, core):
    """Unlike MINPACK's: the caller can then say where it is at fault."""
    for m, n in [(1, 1), (5, 3), (9, 8), (3, 5)]:
        for column in range(n):
            a = matrix("random", m, n)
            a[m // 2, column] = bad
            b = np.arange(1.0, m + 1)
            after, ipvt, _, acnorm, rhs = core.qrfac(a, b=b)
            assert_same_bits(after, a, "a")
            assert_same_bits(rhs, b, "b")
            assert list(ipvt) == list(range(1, n + 1))
            assert [j for j in range(n) if not np.isfinite(acnorm[j])] == [column]


# ---------------------------------------------------------------------------
# qrfac_lanes

LANES = CODES["LSQ_LANES"]


def compare_lanes(core, matrices, rng):
    """The number of matrices that were factored, after asserting that these have qrfac's bits."""
    m, n = matrices[0].shape
    rhs = rng.standard_normal((LANES, m))
    order = [rng.permutation(n) for _ in matrices]
    done = 0
    for a, b, got in zip(matrices, rhs, core.qrfac_lanes(matrices, rhs, order)):
        if got is None:
            continue
        factors, *want = core.qrfac(a, b=b)
        for name, g, w in zip(("R", "ipvt", "rdiag", "acnorm", "Q'b"), got, [np.triu(factors[:n], 1), *want]):
            assert_same_bits(g, w, f"{(m, n)} {name}")
        done += 1
    return done


@families
def test_qrfac_lanes_has_the_bits_of_qrfac(family, core):
    """Ties between columns, too, are broken as if they had come in their own order."""
    rng = np.random.default_rng(11)
    for m, n in [*TALL, (25, 5), (40, 12), (9, 2)]:
        compare_lanes(core, [matrix(family, m, n, k) for k in range(LANES)], rng)


def test_qrfac_lanes_does_all_ordinary_matrices(core):
    rng = np.random.default_rng(12)
    for family in ("random", "signs", "shifts"):
        for m, n in [(25, 5), (100, 3), (40, 12), (9, 2), (8, 1), (7, 7)]:
            same = matrix(family, m, n)
            others = [matrix(family, m, n, k) for k in (1, 2, 3, 4)]
            done = compare_lanes(core, [same, -same, same[::-1], 2 * same, *others], rng)
            assert done == LANES or family != "random"
            assert done > 0 or m == n


def test_qrfac_lanes_leaves_what_is_not_ordinary(core):
    """The neighbouring lanes are not affected."""
    rng = np.random.default_rng(13)
    for bad in (np.nan, np.inf, 0.0):
        matrices = [matrix("random", 25, 5, k) for k in range(LANES)]
        matrices[2][:, 3] = bad
        assert compare_lanes(core, matrices, rng) == LANES - 1
        assert core.qrfac_lanes(matrices, np.ones((LANES, 25)), [np.arange(5)] * LANES)[2] is None


# ---------------------------------------------------------------------------
# qrsolv and lmpar


def triangles(family, minpack):
    """(n, R with rubbish below its diagonal, ipvt, column norms, generator)."""
    for n in SIZES:
        rng = np.random.default_rng([n, 5])
        a, ipvt, rdiag, acnorm = minpack.qrfac(matrix(family, n + n // 3, n), lib=IEEE)
        r = np.asfortranarray(a[:n] if n % 3 else a)
        r[range(n), range(n)] = rdiag
        yield n, r, ipvt, acnorm, rng
        if n > 1:       # not from qrfac: small in the middle, any permutation
            r = np.asfortranarray(matrix(family, n, n))
            if n % 4 == 0:
                r[n // 2, n // 2] = 0.0
            yield n, r, rng.permutation(n) + 1, np.linalg.norm(r / 1e200, axis=0) * 1e200, rng


@families
def test_qrsolv_has_minpacks_bits(family, core, minpack):
    with np.errstate(all="ignore"):
        for n, r, ipvt, acnorm, rng in triangles(family, minpack):
            qtb = rng.standard_normal(n) * rng.choice([1.0, 1e200, 1e-200])
            for diag in (np.where(acnorm > 0, acnorm, 1.0), rng.random(n), np.zeros(n),
                         rng.choice([0.0, 1.0], n), 10.0 ** rng.uniform(-200, 200, n)):
                want = minpack.qrsolv(r, ipvt, diag, qtb, lib=IEEE)
                got = core.qrsolv(r, ipvt, diag, qtb)
                for name, g, w in zip(("r", "x", "sdiag"), got, want):
                    assert_same_bits(g, w, f"n={n} {name}")


def guides(r, ipvt, diag, qtb, delta, minpack):
    """The quantities that bound the parameter: ‖D x‖ undamped, the least
    parameter and the gradient's norm (only whether they are numbers counts)."""
    n = ipvt.size
    _, _, x, _ = minpack.lmpar(r, ipvt, diag, qtb, np.finfo(float).max, lib=IEEE)
    length = minpack.enorm(diag * x, lib=IEEE)
    triangle = np.triu(r[:n])
    gradient = minpack.enorm((triangle.T @ qtb) / diag[ipvt - 1], lib=IEEE)
    lower = 0.0
    if np.all(np.diag(triangle) != 0):
        z = (diag * (diag * x / length))[ipvt - 1]
        for j in range(n):
            z[j] = (z[j] - triangle[:j, j] @ z[:j]) / triangle[j, j]
        norm = minpack.enorm(z, lib=IEEE)
        lower = (length - delta) / delta / norm / norm
    return length, lower, gradient


@families
def test_lmpar_has_minpacks_bits(family, core, minpack):
    """Not compared where a bound of the parameter is NaN: Fortran leaves open
    which argument max and min return then, and MINPACK's answer is its
    compiler's."""
    compared = 0
    with np.errstate(all="ignore"):
        for n, r, ipvt, acnorm, rng in triangles(family, minpack):
            for qtb, diag in [(rng.standard_normal(n), np.where(acnorm > 0, acnorm, 1.0)),
                              (r[0].copy(), rng.random(n) + 1e-3),
                              (np.zeros(n), np.ones(n))]:
                length = guides(r, ipvt, diag, qtb, 1.0, minpack)[0]
                radii = [length * share for share in (2.0, 1.05, 0.5, 1e-3, 1e-12)]
                for delta in [d for d in radii if 0 < d < np.inf] + [1.0, 1e-290]:
                    if np.isnan(guides(r, ipvt, diag, qtb, delta, minpack)).any():
                        continue
                    compared += 1
                    par = rng.choice([0.0, 1e-8, 3.0])
                    want = minpack.lmpar(r, ipvt, diag, qtb, delta, par, lib=IEEE)
                    got = core.lmpar(r, ipvt, diag, qtb, delta, par)
                    what = f"n={n} delta={delta} par={par}"
                    assert_same_bits(got[0], want[0], what + " r")
                    assert_same_bits(got[1], want[1], what + " par")
                    assert_same_bits(got[2], want[2], what + " x")
                    if not same_bits(got[0], r) and want[1] > 0:
                        assert_same_bits(got[3], want[3], what + " sdiag")
    assert compared > 100


# ---------------------------------------------------------------------------
# fdjac2

DIFFERENTIABLE = {(p.name, p.n, p.m): p for p in
                  [p for _, p, _ in problems.minpack_cases()] + problems.extra_problems()}


@pytest.mark.parametrize("epsfcn", [0.0, 2.0 ** -52, 1e-15, 1e-8, 1e-3, 1.0])
def test_fdjac2_has_minpacks_bits_and_points(epsfcn, core, minpack):
    rng = np.random.default_rng(3)
    with np.errstate(all="ignore"):
        for key, p in DIFFERENTIABLE.items():
            start = np.asarray(p.x0, float)
            for x in (start, 0 * start, -start, start * 10.0 ** rng.uniform(-20, 5, p.n),
                      rng.standard_normal(p.n)):
                want, want_trace = minpack.fdjac2(p.residual, x, epsfcn=epsfcn, lib=IEEE)
                got, trace, status = core.fdjac2(p.residual, x, epsfcn=epsfcn)
                assert status == 0
                assert_same_bits([q for _, q in trace], [q for _, q in want_trace], key)
                assert_same_bits(got, want, key)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-300, 1e-20, 1e20, 1e300])
def test_fdjac2_steps_at_any_scale(scale, core, minpack):
    def residual(x):
        return np.array([x[0] / 3, x[1] - x[0], x[2] * 0.5, x[0] * 0.25 + x[2]])

    with np.errstate(all="ignore"):
        for x in (scale * np.array([1.0, -2.0, 3.0]), scale * np.array([0.0, -0.0, 1.0])):
            want, want_trace = minpack.fdjac2(residual, x, lib=IEEE)
            got, trace, _ = core.fdjac2(residual, x)
            assert_same_bits([q for _, q in trace], [q for _, q in want_trace], "points")
            assert_same_bits(got, want, "fjac")


@pytest.mark.parametrize("stop_at", [0, 1, 2])
def test_fdjac2_stops_at_a_status(stop_at, core):
    calls = []

    def residual(x):
        calls.append(x)
        return 42 if len(calls) == stop_at + 1 else np.ones(4)

    _, _, status = core.fdjac2(residual, np.ones(3), fvec=np.ones(4))
    assert status == 42
    assert len(calls) == stop_at + 1


# ---------------------------------------------------------------------------
# covar


@pytest.mark.parametrize("shape", [(1, 1), (4, 2), (9, 3), (20, 7), (40, 20)], ids=str)
def test_covar_inverts_the_normal_matrix(shape, core):
    m, n = shape
    rng = np.random.default_rng(n)
    jac = rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 5, n)
    a, ipvt, rdiag, acnorm = core.qrfac(jac)
    a[range(n), range(n)] = rdiag
    cov, rank = core.covar(a, ipvt)         # rows below n are Householder's: not read
    assert rank == n
    assert np.array_equal(cov, cov.T)
    scaled = np.linalg.inv((jac / acnorm).T @ (jac / acnorm))
    np.testing.assert_allclose(cov * np.outer(acnorm, acnorm), scaled, rtol=1e-9,
                               atol=1e-10 * abs(scaled).max())


def test_covar_tells_the_rank(core):
    rng = np.random.default_rng(0)
    for n, rank in [(1, 0), (2, 1), (5, 3), (8, 1), (8, 7)]:
        for tiny, tol in [(0.0, 0.0), (1e-14, 1e-10), (-1e-14, 1e-10)]:
            r = np.triu(rng.standard_normal((n, n)) + 5 * np.eye(n))
            r[range(rank, n), range(rank, n)] = tiny if rank else 0.0
            ipvt = rng.permutation(n) + 1
            cov, got = core.covar(r, ipvt, tol)
            assert got == rank
            assert np.array_equal(cov, cov.T)
            determined = ipvt[:rank] - 1
            reference = np.linalg.inv(r[:rank, :rank].T @ r[:rank, :rank])
            np.testing.assert_allclose(cov[np.ix_(determined, determined)], reference,
                                       rtol=1e-9, atol=1e-12)
            rest = ipvt[rank:] - 1
            assert not cov[rest].any()


def test_covar_counts_a_small_diagonal_when_the_tolerance_is_zero(core):
    r = np.diag([1.0, 1e-160, 1e-300])
    _, rank = core.covar(r, [1, 2, 3], 0.0)
    assert rank == 3
    _, rank = core.covar(r, [1, 2, 3], 1e-200)
    assert rank == 2


# ---------------------------------------------------------------------------
# chkder


@pytest.mark.parametrize("name", sorted({p.name for _, p, _ in problems.minpack_cases()}))
def test_chkder_has_minpacks_bits(core, minpack, name):
    """Right Jacobians, wrong ones, residuals that are zero or do not move, coordinates that are zero."""
    p = problems.problem(name)
    rng = np.random.default_rng(1)
    for x in (p.x0, p.x0 + rng.standard_normal(p.n), np.where(rng.random(p.n) < .5, 0.0, p.x0 * 1e3)):
        point = minpack.chkder_point(x, lib=IEEE)
        assert_same_bits(core.chkder_point(x), point, "xp")
        with np.errstate(all="ignore"):
            f, moved, jac = p.residual(x), p.residual(point), p.jacobian(x)
            still = np.where(rng.random(p.m) < .3, f, moved)
            jacobians = jac, jac * (1 + 1e-9 * rng.standard_normal(jac.shape)), -jac, 0 * jac
            others = moved, still, 0 * moved, moved * np.inf
        for given in jacobians:
            for other in others:
                want = minpack.chkder(x, f, given, other, lib=IEEE)
                assert_same_bits(core.chkder(x, f, given, other), want, "err")


def test_chkder_tells_the_wrong_row(core):
    p = problems.problem("bard")
    x = p.x0 + .3
    jac = p.jacobian(x)
    jac[4] *= 1.5
    err = core.chkder(x, p.residual(x), jac, p.residual(core.chkder_point(x)))
    assert err[4] < .3 and np.all(np.delete(err, 4) > .5)
