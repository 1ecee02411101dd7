"""Realistic bounded fits: 30 families of 200 problems each, in two halves.

A family is a model, its bounds, and rules for drawing truths, noise and starts; fixed seeds make the
problems.  Families come in pairs of the same kind, one in each half: the step between bounds was chosen on
the half "tuning" alone, and "judging" shows how good it is.  golden/families_scipy.json holds the best
minimum known of every problem, and the points at which SciPy's trf and dogbox end.

Of five problems, three have a rough start (each parameter off by a factor of up to 3.3, or by up to its
`shift`), one has such a start with one variable on a bound, and in one all variables with bounds are on one
of them (or most of them: starts at which residuals are not finite are drawn again).
"""
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

COUNT = 200
OFF = 3.3
ROUGH, ON_BOUND, CORNER = "rough", "on a bound", "corner"
STARTS = [ROUGH, ON_BOUND, ROUGH, CORNER, ROUGH]


@dataclass(frozen=True)
class Family:
    """`model(t, *p)` takes t of shape (..., m) or (..., 2, m), and parameters that broadcast with it.

    truth : the least and largest value of each parameter, which is drawn evenly in its logarithm, or
        evenly if it has a `shift`.
    bounds : a pair of n-tuples, or a function of t and y that returns a pair of arrays (count, n).
    noise : standard deviation of the errors, in units of the data's range.
    shift : for parameters that are positions or phases, the largest distance of the start from the truth.
    zero : parameters whose true value is 0 in three of ten problems.
    """

    name: str
    half: str
    model: object
    abscissa: object            # a function of rng and count
    truth: dict
    bounds: object
    noise: float = .02
    shift: dict = None
    zero: tuple = ()
    weigh: bool = False         # are noise and residuals relative to the data?

    @property
    def names(self):
        return tuple(self.truth)

    @property
    def n(self):
        return len(self.truth)

    def values(self, t, x):
        """The model at x of shape (k, n) and t of shape (k, ..., m)."""
        with np.errstate(all="ignore"):
            return self.model(t, *x.T[:, :, None])

    @cached_property
    def problems(self):
        return _draw(self)


@dataclass(frozen=True)
class Problems:
    """Arrays with a row for each problem."""

    family: Family
    t: np.ndarray
    y: np.ndarray               # (count, m)
    weight: np.ndarray          # (count, 1 or m), factor on the residuals
    low: np.ndarray             # (count, n)
    high: np.ndarray
    truth: np.ndarray
    x0: np.ndarray
    starts: np.ndarray          # one of STARTS for each problem

    def residual(self, x, t, y, weight):
        return (self.family.values(t, x) - y)*weight

    @property
    def data(self):
        return self.t, self.y, np.broadcast_to(self.weight, self.y.shape)

    def one(self, i):
        """Residuals of problem number i at x of shape (n,)."""
        model, t, y, weight = self.family.model, self.t[i], self.y[i], self.weight[i]

        def residual(x):
            with np.errstate(all="ignore"):
                return (model(t, *x) - y)*weight
        return residual


def _draw(family):
    rng = np.random.default_rng([sum(map(ord, family.name)), family.n])
    shift = family.shift or {}
    t = family.abscissa(rng, COUNT)
    truth = np.empty((COUNT, family.n))
    for j, (name, (least, most)) in enumerate(family.truth.items()):
        u = rng.random(COUNT)
        truth[:, j] = least + u*(most - least) if name in shift else least*(most/least)**u
    usual = truth.copy()
    for name in family.zero:
        truth[rng.random(COUNT) < .3, family.names.index(name)] = 0
    clean = family.values(t, truth)
    errors = rng.standard_normal(clean.shape)
    if family.weigh:
        y = clean*(1 + family.noise*errors)
        weight = 1/np.abs(clean)
    else:
        size = np.ptp(clean, axis=1, keepdims=True)
        y = clean + family.noise*size*errors
        weight = 1/size
    if callable(family.bounds):
        low, high = family.bounds(t, y)
    else:
        low, high = (np.tile(np.array(side, float), (COUNT, 1)) for side in family.bounds)
    starts = np.array(STARTS*(COUNT//len(STARTS)))
    x0 = np.empty_like(truth)
    for i in range(COUNT):
        for attempt in range(100):
            x0[i] = start_of(rng, family, shift, usual[i], low[i], high[i], starts[i], attempt)
            if np.isfinite(family.values(t[i:i + 1], x0[i:i + 1])).all():
                break
    return Problems(family, t, y, weight, low, high, truth, x0, starts)


def start_of(rng, family, shift, usual, low, high, kind, attempt=0):
    n = usual.size
    x = usual*OFF**rng.uniform(-1, 1, n)
    for name, reach in shift.items():
        j = family.names.index(name)
        x[j] = usual[j] + reach*rng.uniform(-1, 1)
    x = np.clip(x, low, high)           # a start beyond a bound is moved inside, near it
    inside = np.where(np.isfinite(high - low), .02*(high - low), 0)
    x = np.clip(x, low + inside, high - inside)
    sides = [[b for b in (low[j], high[j]) if np.isfinite(b)] for j in range(n)]
    some = [j for j in range(n) if sides[j]]
    if kind == CORNER and attempt > 20:
        some = [j for j in some if rng.random() < .7]
    chosen = [] if kind == ROUGH else some if kind == CORNER else [rng.choice(some)]
    for j in chosen:
        x[j] = rng.choice(sides[j])
    return x


# ---------------------------------------------------------------------------
# abscissae and models

INF = np.inf


def _even(least, most, m):
    def abscissa(rng, count):
        return np.tile(np.linspace(least, most, m), (count, 1))
    return abscissa


def _geometric(least, most, m):
    def abscissa(rng, count):
        return np.tile(np.geomspace(least, most, m), (count, 1))
    return abscissa


def _with_zeros(values, repeats):
    def abscissa(rng, count):
        return np.tile(np.repeat(np.array(values, float), repeats), (count, 1))
    return abscissa


def _gauss(t, c, w):
    return np.exp(-.5*((t - c)/w)**2)


def _lorentz(t, c, w):
    return 1/(1 + ((t - c)/w)**2)


def _sorption(t, rate):
    """Uptake of a plane sheet (Crank), by its series."""
    k = (2*np.arange(12) + 1.0)**2
    terms = [np.exp(-rate*t*v*np.pi**2/4)*8/(np.pi**2*v) for v in k]
    return 1 - sum(terms)


def _birch(v, e0, v0, b0, b1):
    u = (v0/v)**(2/3)
    return e0 + 9*v0*b0/16*((u - 1)**3*b1 + (u - 1)**2*(6 - 4*u))


def _isotherms(rng, count):
    """Volumes at three temperatures."""
    v, temperature = np.meshgrid(np.geomspace(.08, 1, 12), [280.0, 320.0, 400.0])
    return np.tile(np.stack([v.ravel(), temperature.ravel()]), (count, 1, 1))


def _lags(rng, count):
    return np.tile(np.linspace(2, 60, 15), (count, 1))


def _variogram_bounds(t, y):
    top = np.stack([t.max(1), 1.2*y.max(1)], axis=1)
    return np.zeros_like(top), top


def _grow(t, rate, lag, size):
    return np.exp(-np.exp(rate*np.e/size*(lag - t) + 1))


VOLT = .02585               # kT/e
T, J = "tuning", "judging"
ALL = [
    # peaks over a level
    Family("gauss_level", T, lambda t, h, c, w, b: h*_gauss(t, c, w) + b, _even(.1, 10, 60),
           dict(h=(1, 8), c=(2.5, 7.5), w=(.3, 1.5), b=(.2, 2)), ((0, 0, 0, 0), (INF, 10, INF, INF)),
           shift=dict(c=1.5), zero=("b",)),
    Family("lorentz_level", J, lambda t, h, c, w, b: h*_lorentz(t, c, w) + b, _even(.1, 10, 60),
           dict(h=(1, 8), c=(2.5, 7.5), w=(.3, 1.5), b=(.2, 2)), ((0, 0, 0, 0), (INF, INF, INF, INF)),
           shift=dict(c=1.5), zero=("b",)),
    # shapes with a fraction, peaks in an order
    Family("pseudo_voigt", T, lambda t, h, c, w, eta: h*(eta*_lorentz(t, c, w) + (1 - eta)*_gauss(t, c, w/1.17741)),
           _even(0, 10, 60), dict(h=(1, 8), c=(3, 7), w=(.4, 1.2), eta=(.1, .9)),
           ((0, 0, .05, 0), (INF, 10, 5, 1)), shift=dict(c=1.0, eta=.5), zero=("eta",)),
    Family("two_peaks", J, lambda t, h, c, w, k, d, v: h*_gauss(t, c, w) + k*_gauss(t, d, v), _even(0, 10, 80),
           dict(h=(1, 8), c=(2, 4), w=(.4, 1), k=(1, 8), d=(6, 8), v=(.4, 1)),
           ((0, 0, .05, 0, 5, .05), (INF, 5, 5, INF, 10, 5)), shift=dict(c=.8, d=.8)),
    # decays
    Family("decay_time", T, lambda t, h, tau, c: h*np.exp(-t/tau) + c, _even(.05, 5, 40),
           dict(h=(1, 5), tau=(.3, 3), c=(.1, 1)), ((0, 0, 0), (INF, INF, INF)), zero=("c",)),
    Family("decay_rate", J, lambda t, h, rate, c: h*np.exp(-rate*t) + c, _even(0, 5, 40),
           dict(h=(1, 5), rate=(.3, 3), c=(.1, 1)), ((0, 0, 0), (INF, INF, INF)), zero=("c",)),
    # sums of exponentials
    Family("two_decays", T, lambda t, h, part, fast, slow: h*(part*np.exp(-t*fast) + (1 - part)*np.exp(-t*slow)),
           _even(0, 10, 60), dict(h=(1, 5), part=(.2, .8), fast=(1, 5), slow=(.05, .4)),
           ((0, 0, 0, 0), (INF, 1, INF, INF)), noise=.01, shift=dict(part=.4)),
    Family("three_decays", J, lambda t, a, u, b, v, c, w: a*np.exp(-t/u) + b*np.exp(-t/v) + c*np.exp(-t/w),
           _geometric(.01, 100, 80), dict(a=(1, 5), u=(.1, .4), b=(1, 5), v=(1, 4), c=(1, 5), w=(10, 40)),
           ((0, .01, 0, .5, 0, 5), (INF, .5, INF, 5, INF, 200)), noise=.005),
    # saturation
    Family("saturation", T, lambda t, a, b, c: a*(1 - np.exp(-t/b)) + c, _even(0, 10, 40),
           dict(a=(1, 10), b=(.5, 5), c=(.1, 2)), ((0, 0, 0), (INF, INF, INF)), noise=.03, zero=("c",)),
    Family("variogram", J, lambda t, r, c: c*(1 - np.exp(-3*t/r)), _lags,
           dict(r=(8, 50), c=(1, 10)), _variogram_bounds, noise=.05),
    # enzymes
    Family("inhibited_by_substrate", T, lambda s, v, k, i: v*s/(k + s + s*s/i), _geometric(.05, 50, 24),
           dict(v=(1, 10), k=(.2, 3), i=(2, 30)), ((0, 0, 0), (INF, INF, INF)), noise=.03),
    Family("michaelis_menten", J, lambda s, v, k, b: v*s/(k + s) + b, _with_zeros([0, .1, .2, .5, 1, 2, 5, 10], 3),
           dict(v=(1, 10), k=(.2, 5), b=(.05, .5)), ((0, 0, 0), (INF, INF, INF)), noise=.04, zero=("b",)),
    # dose and response
    Family("hill", T, lambda s, v, k, h: v*s**h/(k**h + s**h), _geometric(.05, 50, 24),
           dict(v=(1, 10), k=(.5, 8), h=(.7, 4)), ((0, 0, 0), (INF, INF, INF)), noise=.03),
    Family("dose_response", J, lambda t, low, top, ec, slope: low + (top - low)/(1 + 10**((ec - t)*slope)),
           _even(-9, -4, 24), dict(low=(2, 15), top=(60, 110), ec=(-7.5, -5.5), slope=(.5, 2.5)),
           ((0, 20, -10, .1), (50, 150, -3, 10)), noise=.04, shift=dict(ec=1.5), zero=("low",)),
    # growth
    Family("logistic", T, lambda t, k, r, mid, low: low + k/(1 + np.exp(-r*(t - mid))), _even(0, 24, 30),
           dict(k=(1, 10), r=(.3, 1.5), mid=(6, 14), low=(.05, .5)), ((0, 0, 0, 0), (INF, 5, 24, INF)),
           noise=.03, shift=dict(mid=4.0), zero=("low",)),
    Family("gompertz", J, lambda t, size, rate, lag: size*_grow(t, rate, lag, size), _even(0, 24, 30),
           dict(size=(1, 10), rate=(.2, 2), lag=(1, 8)), ((.01, 0, 0), (INF, INF, 24)), noise=.03),
    # oscillations with limits of the phase
    Family("ringing", T, lambda t, a, tau, f, p, c: a*np.exp(-t/tau)*np.cos(2*np.pi*f*t + p) + c, _even(0, 6, 90),
           dict(a=(1, 5), tau=(1, 5), f=(.4, 1), p=(-1.5, 1.5), c=(-1, 1)),
           ((0, 0, .1, -np.pi, -INF), (INF, INF, 2, np.pi, INF)), noise=.03, shift=dict(f=.08, p=1.0, c=1.0)),
    Family("sinusoid", J, lambda t, a, f, p, c: a*np.sin(2*np.pi*f*t + p) + c, _even(0, 5, 60),
           dict(a=(1, 5), f=(.3, .8), p=(1, 5), c=(-1, 1)), ((0, .05, 0, -5), (20, 2, 2*np.pi, 5)),
           noise=.05, shift=dict(f=.08, p=1.0, c=1.0)),
    # diffusion
    Family("sorption", T, lambda t, full, rate, start: full*(start + (1 - start)*_sorption(t, rate)),
           _even(.1, 10, 40), dict(full=(1, 10), rate=(.03, .6), start=(.05, .4)),
           ((0, 0, 0), (INF, INF, 1)), shift=dict(start=.3), zero=("start",)),
    Family("displacement", J, lambda t, d, alpha, error: 4*d*t**alpha + error, _geometric(.05, 10, 30),
           dict(d=(.1, 5), alpha=(.5, 1.6), error=(.05, 1)), ((0, 0, 0), (INF, 2, INF)), zero=("error",)),
    # diode and solar cell
    Family("diode", T, lambda v, i0, ideal, leak: i0*np.expm1(v/(ideal*VOLT)) + leak*v, _even(.05, .7, 30),
           dict(i0=(1e-10, 1e-7), ideal=(1.1, 2), leak=(1e-6, 1e-4)), ((0, .5, 0), (INF, 5, INF)), noise=.02, weigh=True),
    Family("solar_cell", J, lambda v, light, i0, ideal, leak: light - i0*np.expm1(v/(ideal*VOLT)) - leak*v,
           _even(0, .6, 40), dict(light=(.5, 5), i0=(1e-9, 1e-7), ideal=(1.1, 1.6), leak=(.01, .3)),
           ((0, 0, 1, 0), (INF, 1e-3, 5, INF)), noise=.01, zero=("leak",)),
    # equations of state
    Family("birch", T, _birch, _even(80, 130, 16), dict(e0=(-20, -5), v0=(90, 115), b0=(.3, 1.5), b1=(3, 6)),
           ((-100, 50, 0, 0), (0, 200, 10, 15)), noise=.01, shift=dict(e0=3.0)),
    Family("van_der_waals", J, lambda t, a, b: .08314*t[..., 1, :]/(t[..., 0, :] - b) - a/t[..., 0, :]**2, _isotherms,
           dict(a=(.5, 6), b=(.02, .05)), ((0, 0), (INF, .075)), noise=.01),
    # an exponent as a shape
    Family("stretched", T, lambda t, a, tau, beta, c: a*np.exp(-(t/tau)**beta) + c, _geometric(.01, 100, 50),
           dict(a=(1, 5), tau=(.3, 10), beta=(.4, .9), c=(.05, .5)), ((0, 0, 0, 0), (INF, INF, 1, INF)), zero=("c",)),
    Family("grey_body", J, lambda v, a, beta, temperature: a*v**(3 + beta)/np.expm1(v/temperature), _even(.2, 12, 40),
           dict(a=(.5, 5), beta=(.5, 2.2), temperature=(.6, 1.8)), ((0, 0, .1), (INF, 3, INF)), noise=.03,
           shift=dict(beta=1.0)),
    # adsorption
    Family("sips", T, lambda p, q, k, h: q*(k*p)**h/(1 + (k*p)**h), _geometric(.02, 20, 25),
           dict(q=(1, 10), k=(.2, 3), h=(.4, .95)), ((0, 0, 0), (INF, INF, 1)), noise=.02),
    Family("two_sites", J, lambda p, q, k, r, l: q*k*p/(1 + k*p) + r*l*p/(1 + l*p), _geometric(.01, 100, 40),
           dict(q=(1, 5), k=(2, 20), r=(1, 5), l=(.02, .3)), ((0, 0, 0, 0), (INF, INF, INF, INF)), noise=.01),
    # pharmacokinetics
    Family("gamma_variate", T, lambda t, a, rise, fall, c: a*t**rise*np.exp(-t/fall) + c, _even(.2, 30, 40),
           dict(a=(.5, 5), rise=(.8, 3), fall=(1, 4), c=(.05, .5)), ((0, 0, 0, 0), (INF, 10, INF, INF)), noise=.03, zero=("c",)),
    Family("one_compartment", J, lambda t, a, gain, loss: a*gain/(gain - loss)*(np.exp(-loss*t) - np.exp(-gain*t)),
           _geometric(.2, 30, 24), dict(a=(1, 10), gain=(.7, 4), loss=(.05, .4)), ((0, 0, 0), (INF, 10, 10)), noise=.04),
]
FAMILIES = {family.name: family for family in ALL}


@lru_cache(None)
def half(name):
    return tuple(family for family in ALL if family.half == name)


def missed(cost, best):
    """Is this the cost of another minimum, or of none: more than 1 % above the best known?  (Data are of size 1.)"""
    return ~(cost <= 1.01*best + 1e-12)
