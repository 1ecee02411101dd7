"""Nonlinear least-squares test problems of Moré, Garbow & Hillstrom.

J. J. Moré, B. S. Garbow and K. E. Hillstrom, "Testing unconstrained
optimization software", ACM Trans. Math. Softw. 7(1), 1981, 17-41 (problem
numbers "MGH n" below), with the choice of dimensions and starting points of
MINPACK's test programs (problem numbers "nprob").

``problem(name, n=..., m=...)`` builds one problem; ``minpack_cases()`` yields
the 53 runs of MINPACK's least-squares drivers in their order.

Residuals accept complex ``x`` where the formula is analytic
(``Problem.analytic``), so that Jacobians can be checked by complex steps.
Sums run left to right and no BLAS is used.  Problems with ``elementary=True``
use only + - * / and sqrt, so their residuals have the same bits on every IEEE
machine; the others also use exp/sin/cos/arctan, whose last bit depends on the
numpy build *and on the CPU* (numpy picks AVX-512 versions at run time).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from collections.abc import Callable

import numpy as np

inf, nan = np.inf, np.nan


@dataclass(frozen=True)
class Minimum:
    """A (local) minimum: sum of squares, and where it is attained, if stated."""
    ssq: float
    x: tuple | None = None
    rtol: float = 1e-5


@dataclass(frozen=True)
class Problem:
    name: str
    n: int
    m: int
    residual: Callable = field(repr=False)
    jacobian: Callable = field(repr=False)
    x0: np.ndarray = field(repr=False)
    minima: tuple = ()
    mgh: int = 0                # number in the MGH paper
    nprob: int = 0              # number in MINPACK's drivers, 0 if not there
    analytic: bool = True       # complex step applies
    elementary: bool = True     # only + - * / sqrt

    def start(self, factor=1.0):
        """Starting point of the drivers: factor * x0, or factor * ones where
        the standard start is the origin."""
        if factor == 1.0:
            return self.x0.copy()
        if not self.x0.any():
            return np.full(self.n, float(factor))
        return factor * self.x0

    def ssq(self, x):
        f = self.residual(np.asarray(x, float))
        return float(np.sum(f * f))


def _vec(*parts):
    """1-d array from scalars; complex if any of them is."""
    return np.array(parts)


def _dtype(x):
    return np.result_type(x, float)


def _sum(terms, start=0.0):
    """Left-to-right sum (np.sum's order depends on length and build)."""
    for v in terms:
        start = start + v
    return start


REGISTRY: dict[str, Callable] = {}


def _register(fn):
    REGISTRY[fn.__name__] = fn
    return fn


def problem(name, **dims):
    return REGISTRY[name](**dims)


# ---------------------------------------------------------------------------
# linear problems (MGH 32, 33, 34; nprob 1, 2, 3)


@_register
def linear_full_rank(n=5, m=10):
    """f_i = x_i [i <= n] - (2/m) sum(x) - 1"""
    def res(x):
        f = np.full(m, -(2 * _sum(x) / m + 1), dtype=_dtype(x))
        f[:n] += x
        return f

    jmat = np.full((m, n), -2 / m)
    jmat[np.arange(n), np.arange(n)] += 1
    return Problem("linear_full_rank", n, m, res, lambda x: jmat.copy(), np.ones(n),
                   (Minimum(m - n, (-1.0,) * n),), 32, 1)


@_register
def linear_rank1(n=5, m=10):
    """f_i = i * sum(j x_j) - 1"""
    i, j = np.arange(1.0, m + 1), np.arange(1.0, n + 1)
    jmat = np.outer(i, j)
    return Problem("linear_rank1", n, m, lambda x: i * _sum(j * x) - 1,
                   lambda x: jmat.copy(), np.ones(n),
                   (Minimum(m * (m - 1) / (2 * (2 * m + 1))),), 33, 2)


@_register
def linear_rank1_zero(n=5, m=10):
    """As linear_rank1, first and last column and row of the Jacobian zero."""
    i, j = np.arange(0.0, m), np.arange(1.0, n + 1)
    i[-1] = 0
    j[[0, -1]] = 0
    jmat = np.outer(i, j)
    return Problem("linear_rank1_zero", n, m, lambda x: i * _sum(j * x) - 1,
                   lambda x: jmat.copy(), np.ones(n),
                   (Minimum((m * m + 3 * m - 6) / (2 * (2 * m - 3))),), 34, 3)


# ---------------------------------------------------------------------------
# small classics


@_register
def rosenbrock(n=2, m=2):
    """f = (10 (x2 - x1^2), 1 - x1)"""
    def res(x):
        return _vec(10 * (x[1] - x[0] * x[0]), 1 - x[0])

    def jac(x):
        return np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])

    return Problem("rosenbrock", 2, 2, res, jac, np.array([-1.2, 1.0]),
                   (Minimum(0.0, (1.0, 1.0)),), 1, 4)


@_register
def helical_valley(n=3, m=3):
    """f = (10 (x3 - 10 theta), 10 (r - 1), x3); theta in turns, -1/4..3/4"""
    def turns(x):
        a, b = x[0], x[1]
        if a.real == 0:
            return np.copysign(0.25, b.real)
        t = np.arctan(b / a) / (2 * np.pi)
        return t if a.real > 0 else t + 0.5

    def res(x):
        r = np.sqrt(x[0] * x[0] + x[1] * x[1])
        return _vec(10 * (x[2] - 10 * turns(x)), 10 * (r - 1), x[2])

    def jac(x):
        r2 = x[0] * x[0] + x[1] * x[1]
        r = np.sqrt(r2)
        k = 100 / (2 * np.pi * r2)
        return np.array([[k * x[1], -k * x[0], 10.0],
                         [10 * x[0] / r, 10 * x[1] / r, 0.0],
                         [0.0, 0.0, 1.0]])

    return Problem("helical_valley", 3, 3, res, jac, np.array([-1.0, 0.0, 0.0]),
                   (Minimum(0.0, (1.0, 0.0, 0.0)),), 7, 5, elementary=False)


@_register
def powell_singular(n=4, m=4):
    """f = (x1 + 10 x2, sqrt5 (x3 - x4), (x2 - 2 x3)^2, sqrt10 (x1 - x4)^2)"""
    s5, s10 = np.sqrt(5.0), np.sqrt(10.0)

    def res(x):
        u, v = x[1] - 2 * x[2], x[0] - x[3]
        return _vec(x[0] + 10 * x[1], s5 * (x[2] - x[3]), u * u, s10 * (v * v))

    def jac(x):
        u, v = x[1] - 2 * x[2], x[0] - x[3]
        return np.array([[1.0, 10.0, 0.0, 0.0],
                         [0.0, 0.0, s5, -s5],
                         [0.0, 2 * u, -4 * u, 0.0],
                         [2 * s10 * v, 0.0, 0.0, -2 * s10 * v]])

    return Problem("powell_singular", 4, 4, res, jac, np.array([3.0, -1.0, 0.0, 1.0]),
                   (Minimum(0.0, (0.0,) * 4),), 13, 6)


@_register
def freudenstein_roth(n=2, m=2):
    """f1 = -13 + x1 + ((5 - x2) x2 - 2) x2, f2 = -29 + x1 + ((x2 + 1) x2 - 14) x2"""
    def res(x):
        a, b = x
        return _vec(-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b)

    def jac(x):
        b = x[1]
        return np.array([[1.0, (10 - 3 * b) * b - 2], [1.0, (3 * b + 2) * b - 14]])

    return Problem("freudenstein_roth", 2, 2, res, jac, np.array([0.5, -2.0]),
                   (Minimum(0.0, (5.0, 4.0)),
                    Minimum(48.98425367924, (11.41277899, -0.89680525), 1e-7)), 2, 7)


BARD_Y = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39,
                   0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])


@_register
def bard(n=3, m=15):
    """f_i = y_i - (x1 + u_i / (v_i x2 + w_i x3)), u = i, v = 16 - i, w = min(u, v)"""
    u = np.arange(1.0, 16)
    v = 16 - u
    w = np.minimum(u, v)

    def res(x):
        return BARD_Y - (x[0] + u / (v * x[1] + w * x[2]))

    def jac(x):
        d = (v * x[1] + w * x[2])
        g = u / (d * d)
        return np.stack([-np.ones(15), g * v, g * w], axis=1)

    return Problem("bard", 3, 15, res, jac, np.ones(3),
                   (Minimum(8.21487730657e-3, (0.08241056, 1.133036, 2.343695), 1e-8),
                    Minimum(17.4286933, (0.840667, -inf, -inf), 1e-7)), 8, 8)


KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456,
                      0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714,
                      0.0625])


@_register
def kowalik_osborne(n=4, m=11):
    """f_i = y_i - x1 u (u + x2) / (u (u + x3) + x4)"""
    u = KOWALIK_U

    def res(x):
        return KOWALIK_Y - x[0] * (u * (u + x[1])) / (u * (u + x[2]) + x[3])

    def jac(x):
        top, bot = u * (u + x[1]), u * (u + x[2]) + x[3]
        g = x[0] * top / (bot * bot)
        return np.stack([-top / bot, -x[0] * u / bot, g * u, g], axis=1)

    return Problem("kowalik_osborne", 4, 11, res, jac, np.array([0.25, 0.39, 0.415, 0.39]),
                   (Minimum(3.0750560385e-4, (0.192807, 0.191282, 0.123056, 0.136062), 1e-8),
                    Minimum(1.02734e-3, (inf, -14.07, -inf, -inf), 1e-5)), 15, 9)


MEYER_Y = np.array([34780.0, 28610, 23650, 19630, 16370, 13720, 11540, 9744,
                    8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872])


@_register
def meyer(n=3, m=16):
    """f_i = x1 exp(x2 / (t_i + x3)) - y_i, t_i = 45 + 5 i"""
    t = 45 + 5 * np.arange(1.0, 17)

    def res(x):
        return x[0] * np.exp(x[1] / (t + x[2])) - MEYER_Y

    def jac(x):
        d = t + x[2]
        e = np.exp(x[1] / d)
        g = x[0] * e / d
        return np.stack([e, g, -g * x[1] / d], axis=1)

    return Problem("meyer", 3, 16, res, jac, np.array([0.02, 4000.0, 250.0]),
                   (Minimum(87.9458551709, (5.6096365e-3, 6181.34635, 345.223635), 1e-7),),
                   10, 10, elementary=False)


@_register
def watson(n=6, m=31):
    """f_i = s'(t_i) - s(t_i)^2 - 1, t_i = i/29, s(t) = sum x_j t^(j-1), i <= 29;
    f_30 = x1, f_31 = x2 - x1^2 - 1"""
    t = np.arange(1.0, 30) / 29
    powers = np.ones((29, n))                           # t^(j-1)
    for k in range(1, n):
        powers[:, k] = t * powers[:, k - 1]
    slopes = np.zeros((29, n))
    slopes[:, 1:] = np.arange(1.0, n) * powers[:, :-1]  # (j-1) t^(j-2)

    def res(x):
        s = _sum((powers * x).T)
        f = np.empty(31, dtype=_dtype(x))
        f[:29] = _sum((slopes * x).T) - s * s - 1
        f[29] = x[0]
        f[30] = x[1] - x[0] * x[0] - 1
        return f

    def jac(x):
        s = _sum((powers * x).T)
        j = np.zeros((31, n))
        j[:29] = slopes - 2 * s[:, None] * powers
        j[29, 0] = 1
        j[30, 0] = -2 * x[0]
        j[30, 1] = 1
        return j

    known = {6: 2.28767005355e-3, 9: 1.399760138e-6, 12: 4.72238e-10}
    return Problem("watson", n, 31, res, jac, np.zeros(n),
                   (Minimum(known[n], None, 1e-5),) if n in known else (), 20, 11)


@_register
def box3d(n=3, m=10):
    """f_i = exp(-t x1) - exp(-t x2) - x3 (exp(-t) - exp(-10 t)), t = i/10"""
    i = np.arange(1.0, m + 1)
    t = i / 10
    c = np.exp(-i) - np.exp(-t)

    def res(x):
        return np.exp(-t * x[0]) - np.exp(-t * x[1]) + c * x[2]

    def jac(x):
        return np.stack([-t * np.exp(-t * x[0]), t * np.exp(-t * x[1]), c], axis=1)

    return Problem("box3d", 3, m, res, jac, np.array([0.0, 10.0, 20.0]),
                   (Minimum(0.0, (1.0, 10.0, 1.0)), Minimum(0.0, (10.0, 1.0, -1.0)),
                    Minimum(0.0, None)), 12, 12, elementary=False)


@_register
def jennrich_sampson(n=2, m=10):
    """f_i = 2 + 2 i - (exp(i x1) + exp(i x2))"""
    i = np.arange(1.0, m + 1)

    def res(x):
        return 2 + 2 * i - np.exp(i * x[0]) - np.exp(i * x[1])

    def jac(x):
        return np.stack([-i * np.exp(i * x[0]), -i * np.exp(i * x[1])], axis=1)

    return Problem("jennrich_sampson", 2, m, res, jac, np.array([0.3, 0.4]),
                   (Minimum(124.36218235561, (0.2578252, 0.2578252), 1e-9),) if m == 10 else (),
                   6, 13, elementary=False)


@_register
def brown_dennis(n=4, m=20):
    """f_i = (x1 + t x2 - exp t)^2 + (x3 + x4 sin t - cos t)^2, t = i/5"""
    t = np.arange(1.0, m + 1) / 5
    e, s, c = np.exp(t), np.sin(t), np.cos(t)

    def parts(x):
        return x[0] + t * x[1] - e, x[2] + s * x[3] - c

    def res(x):
        a, b = parts(x)
        return a * a + b * b

    def jac(x):
        a, b = parts(x)
        return np.stack([2 * a, 2 * a * t, 2 * b, 2 * b * s], axis=1)

    return Problem("brown_dennis", 4, m, res, jac, np.array([25.0, 5.0, -5.0, -1.0]),
                   (Minimum(85822.2016263, (-11.594440, 13.203630, -0.4034395, 0.2367788), 1e-8),)
                   if m == 20 else (), 16, 14, elementary=False)


@_register
def chebyquad(n=8, m=8):
    """f_i = mean_j T_i(2 x_j - 1) - integral of T_i over (0, 1)"""
    i = np.arange(1, m + 1)
    target = np.zeros(m)
    even = i % 2 == 0
    target[even] = -1 / (i[even].astype(float) ** 2 - 1)

    def res(x):
        y = 2 * x - 1
        f = np.empty(m, dtype=_dtype(x))
        prev, cur = np.ones_like(y), y
        for k in range(m):
            f[k] = _sum(cur)
            prev, cur = cur, 2 * y * cur - prev
        return f * (1 / n) - target

    def jac(x):
        y = 2 * x - 1
        j = np.empty((m, n))
        tp, tc = np.ones_like(y), y               # T_{k}, T_{k+1}
        dp, dc = np.zeros_like(y), np.full_like(y, 2.0)   # d/dx
        for k in range(m):
            j[k] = dc / n
            tp, tc, dp, dc = (tc, 2 * y * tc - tp, dc, 4 * tc + 2 * y * dc - dp)
        return j

    known = {(1, 8): (3.55789367599, 3.55039129768), (8, 8): (3.51687372568e-3,), (9, 9): (0.0,),
             (10, 10): (4.77271369637e-3, 6.50395480e-3)}
    known.update({(k, k): (0.0,) for k in range(1, 8)})
    minima = tuple(Minimum(v) for v in known.get((n, m), ()))
    return Problem("chebyquad", n, m, res, jac, np.arange(1.0, n + 1) * (1 / (n + 1)),
                   minima, 35, 15)


@_register
def brown_almost_linear(n=10, m=None):
    """f_i = x_i + sum(x) - (n + 1), i < n; f_n = prod(x) - 1"""
    m = n if m is None else m
    if m != n:
        raise ValueError("m must equal n")

    def res(x):
        f = x + _sum(x, -(n + 1.0))
        prod = x[0]
        for v in x[1:]:
            prod = v * prod
        f[-1] = prod - 1
        return f

    def jac(x):
        j = np.ones((n, n)) + np.eye(n)
        left = np.concatenate(([1.0], np.cumprod(x[:-1])))
        right = np.concatenate((np.cumprod(x[:0:-1])[::-1], [1.0]))
        j[-1] = left * right               # product of all the other x
        return j

    return Problem("brown_almost_linear", n, n, res, jac, np.full(n, 0.5),
                   (Minimum(0.0, (1.0,) * n), Minimum(0.0, None),
                    Minimum(1.0, (0.0,) * (n - 1) + (n + 1.0,))), 27, 16)


OSBORNE1_Y = np.array([
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751,
    0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490,
    0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406])


@_register
def osborne1(n=5, m=33):
    """f_i = y_i - (x1 + x2 exp(-t x4) + x3 exp(-t x5)), t = 10 (i - 1)"""
    t = 10 * np.arange(33.0)

    def res(x):
        return OSBORNE1_Y - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))

    def jac(x):
        a, b = np.exp(-t * x[3]), np.exp(-t * x[4])
        return np.stack([-np.ones(33), -a, -b, x[1] * t * a, x[2] * t * b], axis=1)

    return Problem("osborne1", 5, 33, res, jac, np.array([0.5, 1.5, -1.0, 0.01, 0.02]),
                   (Minimum(5.46489469748e-5,
                            (0.3754100, 1.935847, -1.464687, 0.01286753, 0.02212270), 1e-7),),
                   17, 17, elementary=False)


OSBORNE2_Y = np.array([
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746,
    0.679, 0.608, 0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649,
    0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395,
    0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653,
    0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739,
    0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054])


@_register
def osborne2(n=11, m=65):
    """Exponential plus three Gaussians: y - (x1 exp(-t x5)
    + sum_k x_{k+1} exp(-(t - x_{k+8})^2 x_{k+5})), t = (i - 1)/10"""
    t = np.arange(65.0) / 10

    def res(x):
        out = x[0] * np.exp(-x[4] * t)
        for k in range(3):
            d = t - x[8 + k]
            out = out + x[1 + k] * np.exp(-x[5 + k] * (d * d))
        return OSBORNE2_Y - out

    def jac(x):
        j = np.zeros((65, 11))
        e = np.exp(-x[4] * t)
        j[:, 0], j[:, 4] = -e, x[0] * t * e
        for k in range(3):
            d = t - x[8 + k]
            g = np.exp(-x[5 + k] * (d * d))
            j[:, 1 + k] = -g
            j[:, 5 + k] = x[1 + k] * (d * d) * g
            j[:, 8 + k] = -2 * x[1 + k] * x[5 + k] * d * g
        return j

    x0 = np.array([1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5])
    return Problem("osborne2", 11, 65, res, jac, x0,
                   (Minimum(4.01377362935e-2,
                            (1.309977, 0.4315524, 0.6336612, 0.5994303, 0.7541799, 0.9042898,
                             1.365812, 4.823699, 2.398685, 4.568875, 5.675342), 1e-7),),
                   19, 18, elementary=False)


# ---------------------------------------------------------------------------
# the rest of the MGH collection (not in MINPACK's least-squares drivers)


@_register
def powell_badly_scaled(n=2, m=2):
    """f = (1e4 x1 x2 - 1, exp(-x1) + exp(-x2) - 1.0001)"""
    def res(x):
        return _vec(1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001)

    def jac(x):
        return np.array([[1e4 * x[1], 1e4 * x[0]], [-np.exp(-x[0]), -np.exp(-x[1])]])

    return Problem("powell_badly_scaled", 2, 2, res, jac, np.array([0.0, 1.0]),
                   (Minimum(0.0, (1.0981593e-5, 9.1061467)),), 3, elementary=False)


@_register
def brown_badly_scaled(n=2, m=3):
    """f = (x1 - 1e6, x2 - 2e-6, x1 x2 - 2)"""
    def res(x):
        return _vec(x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2)

    def jac(x):
        return np.array([[1.0, 0.0], [0.0, 1.0], [x[1], x[0]]])

    return Problem("brown_badly_scaled", 2, 3, res, jac, np.ones(2),
                   (Minimum(0.0, (1e6, 2e-6)),), 4)


@_register
def beale(n=2, m=3):
    """f_i = y_i - x1 (1 - x2^i), y = (1.5, 2.25, 2.625)"""
    y = np.array([1.5, 2.25, 2.625])

    def res(x):
        b = x[1]
        return y - x[0] * (1 - _vec(b, b * b, b * b * b))

    def jac(x):
        b = x[1]
        return np.array([[-(1 - b), x[0]], [-(1 - b * b), 2 * x[0] * b],
                         [-(1 - b * b * b), 3 * x[0] * b * b]])

    return Problem("beale", 2, 3, res, jac, np.ones(2), (Minimum(0.0, (3.0, 0.5)),), 5)


GAUSSIAN_Y = np.array([0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989,
                       0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009])


@_register
def gaussian(n=3, m=15):
    """f_i = x1 exp(-x2 (t - x3)^2 / 2) - y_i, t = (8 - i)/2"""
    t = (8 - np.arange(1.0, 16)) / 2

    def res(x):
        d = t - x[2]
        return x[0] * np.exp(-x[1] * (d * d) / 2) - GAUSSIAN_Y

    def jac(x):
        d = t - x[2]
        e = np.exp(-x[1] * (d * d) / 2)
        return np.stack([e, -x[0] * e * (d * d) / 2, x[0] * x[1] * d * e], axis=1)

    return Problem("gaussian", 3, 15, res, jac, np.array([0.4, 1.0, 0.0]),
                   (Minimum(1.12793276962e-8, None, 1e-7),), 9, elementary=False)


@_register
def gulf(n=3, m=99):
    """f_i = exp(-|y_i - x2|^x3 / x1) - t, t = i/100, y = 25 + (-50 ln t)^(2/3)
    (the paper prints the minus in |y_i - x2| as a product; this is the form
    whose minimum is the stated (50, 25, 1.5))"""
    t = np.arange(1.0, m + 1) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)

    def res(x):
        return np.exp(-np.abs(y - x[1]) ** x[2] / x[0]) - t

    def jac(x):
        d = y - x[1]
        a = np.abs(d)
        p = a ** x[2]
        e = np.exp(-p / x[0])
        with np.errstate(divide="ignore", invalid="ignore"):
            loga = np.where(a > 0, np.log(a), 0.0)
            j1 = np.where(a > 0, e * x[2] * p / d / x[0], 0.0)
        return np.stack([e * p / x[0] ** 2, j1, -e * p * loga / x[0]], axis=1)

    return Problem("gulf", 3, m, res, jac, np.array([5.0, 2.5, 0.15]),
                   (Minimum(0.0, (50.0, 25.0, 1.5)),), 11,
                   analytic=False, elementary=False)


@_register
def wood(n=4, m=6):
    """f = (10 (x2 - x1^2), 1 - x1, sqrt90 (x4 - x3^2), 1 - x3,
    sqrt10 (x2 + x4 - 2), (x2 - x4)/sqrt10)"""
    s90, s10 = np.sqrt(90.0), np.sqrt(10.0)

    def res(x):
        return _vec(10 * (x[1] - x[0] * x[0]), 1 - x[0], s90 * (x[3] - x[2] * x[2]),
                    1 - x[2], s10 * (x[1] + x[3] - 2), (x[1] - x[3]) / s10)

    def jac(x):
        return np.array([[-20 * x[0], 10.0, 0, 0], [-1.0, 0, 0, 0],
                         [0, 0, -2 * s90 * x[2], s90], [0, 0, -1.0, 0],
                         [0, s10, 0, s10], [0, 1 / s10, 0, -1 / s10]])

    return Problem("wood", 4, 6, res, jac, np.array([-3.0, -1.0, -3.0, -1.0]),
                   (Minimum(0.0, (1.0,) * 4),), 14)


@_register
def biggs_exp6(n=6, m=13):
    """f_i = x3 exp(-t x1) - x4 exp(-t x2) + x6 exp(-t x5) - y_i, t = i/10,
    y = exp(-t) - 5 exp(-10 t) + 3 exp(-4 t)"""
    t = np.arange(1.0, m + 1) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)

    def res(x):
        return (x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1])
                + x[5] * np.exp(-t * x[4]) - y)

    def jac(x):
        a, b, c = (np.exp(-t * x[k]) for k in (0, 1, 4))
        return np.stack([-t * x[2] * a, t * x[3] * b, a, -b, -t * x[5] * c, c], axis=1)

    return Problem("biggs_exp6", 6, m, res, jac, np.array([1.0, 2, 1, 1, 1, 1]),
                   (Minimum(0.0, (1.0, 10.0, 1.0, 5.0, 4.0, 3.0)), Minimum(0.0, None),
                    Minimum(5.655649925e-3, None, 1e-5)), 18, elementary=False)


@_register
def extended_rosenbrock(n=10, m=None):
    def res(x):
        f = np.empty(n, dtype=_dtype(x))
        a, b = x[0::2], x[1::2]
        f[0::2] = 10 * (b - a * a)
        f[1::2] = 1 - a
        return f

    def jac(x):
        j = np.zeros((n, n))
        k = np.arange(0, n, 2)
        j[k, k] = -20 * x[k]
        j[k, k + 1] = 10
        j[k + 1, k] = -1
        return j

    return Problem("extended_rosenbrock", n, n, res, jac, np.tile([-1.2, 1.0], n // 2),
                   (Minimum(0.0, (1.0,) * n),), 21)


@_register
def extended_powell_singular(n=12, m=None):
    base = powell_singular()

    def res(x):
        return np.concatenate([base.residual(q) for q in x.reshape(-1, 4)])

    def jac(x):
        j = np.zeros((n, n))
        for k, q in enumerate(x.reshape(-1, 4)):
            j[4 * k:4 * k + 4, 4 * k:4 * k + 4] = base.jacobian(q)
        return j

    return Problem("extended_powell_singular", n, n, res, jac,
                   np.tile([3.0, -1.0, 0.0, 1.0], n // 4),
                   (Minimum(0.0, (0.0,) * n),), 22)


@_register
def penalty1(n=4, m=None):
    """f_i = sqrt(1e-5) (x_i - 1), f_{n+1} = sum(x^2) - 1/4"""
    a = np.sqrt(1e-5)

    def res(x):
        return np.concatenate((a * (x - 1), [_sum(x * x) - 0.25]))

    def jac(x):
        return np.vstack((a * np.eye(n), 2 * x))

    known = {4: 2.249977501e-5, 10: 7.087651467e-5}
    return Problem("penalty1", n, n + 1, res, jac, np.arange(1.0, n + 1),
                   (Minimum(known[n], None, 1e-5),) if n in known else (), 23)


@_register
def penalty2(n=4, m=None):
    """2n residuals; see the MGH paper, problem 24 (a = 1e-5)"""
    a = np.sqrt(1e-5)
    i = np.arange(1.0, n + 1)
    y = np.exp(i[1:] / 10) + np.exp(i[:-1] / 10)
    w = n - i + 1

    def res(x):
        e = np.exp(x / 10)
        return np.concatenate(([x[0] - 0.2], a * (e[1:] + e[:-1] - y),
                               a * (e[1:] - np.exp(-0.1)), [_sum(w * (x * x)) - 1]))

    def jac(x):
        j = np.zeros((2 * n, n))
        d = a * np.exp(x / 10) / 10
        j[0, 0] = 1
        k = np.arange(1, n)
        j[k, k], j[k, k - 1] = d[1:], d[:-1]
        j[k + n - 1, k] = d[1:]
        j[-1] = 2 * w * x
        return j

    known = {4: 9.37629324e-6, 10: 2.93660054e-4}
    return Problem("penalty2", n, 2 * n, res, jac, np.full(n, 0.5),
                   (Minimum(known[n], None, 1e-4),) if n in known else (), 24,
                   elementary=False)


@_register
def variably_dimensioned(n=10, m=None):
    """f_i = x_i - 1, f_{n+1} = s, f_{n+2} = s^2, s = sum j (x_j - 1)"""
    w = np.arange(1.0, n + 1)

    def res(x):
        s = _sum(w * (x - 1))
        return np.concatenate((x - 1, [s, s * s]))

    def jac(x):
        s = _sum(w * (x - 1))
        return np.vstack((np.eye(n), w, 2 * s * w))

    return Problem("variably_dimensioned", n, n + 2, res, jac, 1 - w / n,
                   (Minimum(0.0, (1.0,) * n),), 25)


@_register
def trigonometric(n=10, m=None):
    """f_i = n - sum(cos x) + i (1 - cos x_i) - sin x_i"""
    i = np.arange(1.0, n + 1)

    def res(x):
        c = np.cos(x)
        return n - _sum(c) + i * (1 - c) - np.sin(x)

    def jac(x):
        s = np.sin(x)
        return np.tile(s, (n, 1)) + np.diag(i * s - np.cos(x))

    return Problem("trigonometric", n, n, res, jac, np.full(n, 1 / n),
                   (Minimum(0.0, None), Minimum(2.79505612e-5, None, 1e-4)), 26,
                   elementary=False)


def _padded(x):
    return np.concatenate(([0.0], x, [0.0]))


@_register
def discrete_boundary_value(n=10, m=None):
    """f_i = 2 x_i - x_{i-1} - x_{i+1} + h^2 (x_i + t_i + 1)^3 / 2"""
    h = 1 / (n + 1)
    t = np.arange(1.0, n + 1) * h

    def res(x):
        p = _padded(x)
        c = x + t + 1
        return 2 * x - p[:-2] - p[2:] + h * h * (c * c * c) / 2

    def jac(x):
        c = x + t + 1
        j = np.diag(2 + 1.5 * h * h * (c * c))
        k = np.arange(n - 1)
        j[k, k + 1] = j[k + 1, k] = -1
        return j

    return Problem("discrete_boundary_value", n, n, res, jac, t * (t - 1),
                   (Minimum(0.0, None),), 28)


@_register
def discrete_integral(n=10, m=None):
    """x_i + h/2 sum_j G(t_i, t_j) (x_j + t_j + 1)^3"""
    h = 1 / (n + 1)
    t = np.arange(1.0, n + 1) * h
    kernel = np.where(t[None, :] <= t[:, None], (1 - t)[:, None] * t, t[:, None] * (1 - t))

    def res(x):
        c = x + t + 1
        return x + h * _sum((kernel * (c * c * c)).T) / 2

    def jac(x):
        c = x + t + 1
        return np.eye(n) + 1.5 * h * kernel * (c * c)

    return Problem("discrete_integral", n, n, res, jac, t * (t - 1),
                   (Minimum(0.0, None),), 29)


@_register
def broyden_tridiagonal(n=10, m=None):
    """f_i = (3 - 2 x_i) x_i - x_{i-1} - 2 x_{i+1} + 1"""
    def res(x):
        p = _padded(x)
        return (3 - 2 * x) * x - p[:-2] - 2 * p[2:] + 1

    def jac(x):
        j = np.diag(3 - 4 * x)
        k = np.arange(n - 1)
        j[k + 1, k] = -1
        j[k, k + 1] = -2
        return j

    return Problem("broyden_tridiagonal", n, n, res, jac, -np.ones(n),
                   (Minimum(0.0, None),), 30)


@_register
def broyden_banded(n=10, m=None):
    """f_i = x_i (2 + 5 x_i^2) + 1 - sum_{j in band} x_j (1 + x_j), 5 below, 1 above"""
    i = np.arange(n)
    d = i[:, None] - i[None, :]
    band = ((d <= 5) & (d >= -1) & (d != 0)).astype(float)

    def res(x):
        return x * (2 + 5 * (x * x)) + 1 - _sum((band * (x * (1 + x))).T)

    def jac(x):
        return np.diag(2 + 15 * (x * x)) - band * (1 + 2 * x)

    return Problem("broyden_banded", n, n, res, jac, -np.ones(n),
                   (Minimum(0.0, None),), 31)


# ---------------------------------------------------------------------------
# the runs of MINPACK's least-squares drivers

_BY_NPROB = ["linear_full_rank", "linear_rank1", "linear_rank1_zero", "rosenbrock",
             "helical_valley", "powell_singular", "freudenstein_roth", "bard",
             "kowalik_osborne", "meyer", "watson", "box3d", "jennrich_sampson",
             "brown_dennis", "chebyquad", "brown_almost_linear", "osborne1", "osborne2"]

# (nprob, n, m, number of starts: factors 1, 10, 100)
MINPACK_INPUT = [
    (1, 5, 10, 1), (1, 5, 50, 1), (2, 5, 10, 1), (2, 5, 50, 1), (3, 5, 10, 1),
    (3, 5, 50, 1), (4, 2, 2, 3), (5, 3, 3, 3), (6, 4, 4, 3), (7, 2, 2, 3), (8, 3, 15, 3),
    (9, 4, 11, 3), (10, 3, 16, 2), (11, 6, 31, 3), (11, 9, 31, 3), (11, 12, 31, 3),
    (12, 3, 10, 1), (13, 2, 10, 1), (14, 4, 20, 3), (15, 1, 8, 3), (15, 8, 8, 1),
    (15, 9, 9, 1), (15, 10, 10, 1), (16, 10, 10, 3), (16, 30, 30, 1), (16, 40, 40, 1),
    (17, 5, 33, 1), (18, 11, 65, 1),
]


def minpack_cases():
    """A list of 53 tuples (case number from 1, Problem, factor)."""
    out = []
    for nprob, n, m, tries in MINPACK_INPUT:
        p = problem(_BY_NPROB[nprob - 1], n=n, m=m)
        for k in range(tries):
            out.append((len(out) + 1, p, 10.0 ** k))
    return out


def extra_problems():
    """The MGH problems that are not in the drivers, with the paper's dimensions."""
    out = [problem(name) for name in REGISTRY if name not in _BY_NPROB]
    out += [problem("penalty1", n=10), problem("penalty2", n=10), problem("gulf", m=10)]
    return out


def runs():
    """{name: (Problem, factor)}: the 53 classic runs, and 60 of the extra problems."""
    pairs = [(p, factor) for _, p, factor in minpack_cases()]
    pairs += [(p, factor) for p in extra_problems() for factor in (1.0, 10.0, 100.0)]
    return {f"{p.name}-{p.n}-{p.m}-x{factor:g}": (p, factor) for p, factor in pairs}


# ---------------------------------------------------------------------------
# Jacobian checks


def complex_step(fun, x, h=1e-30):
    cols = []
    for k in range(x.size):
        z = x.astype(complex)
        z[k] += 1j * h
        cols.append(fun(z).imag / h)
    return np.stack(cols, axis=1)


def central_difference(fun, x, rel=None):
    rel = np.finfo(float).eps ** (1 / 3) if rel is None else rel
    cols = []
    for k in range(x.size):
        h = rel * max(abs(x[k]), 1e-2)
        a, b = x.copy(), x.copy()
        a[k] += h
        b[k] -= h
        cols.append((fun(a) - fun(b)) / (a[k] - b[k]))
    return np.stack(cols, axis=1)


def jacobian_error(p, x):
    """Largest error of p.jacobian(x) relative to the size of its column,
    and the method used."""
    x = np.asarray(x, float)
    if p.analytic:
        ref, how = complex_step(p.residual, x), "complex"
    else:
        ref, how = central_difference(p.residual, x), "central"
    got = p.jacobian(x)
    assert got.shape == (p.m, p.n), (p.name, got.shape)
    scale = np.abs(ref).max(axis=0)
    scale[scale == 0] = 1
    return float((np.abs(got - ref) / scale).max()), how
