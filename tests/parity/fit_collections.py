"""Collections of fits on which strategies are compared, in two halves.

TUNING is the half that may be looked at while constants are chosen: the 14 NIST sets of examples/strd, the
113 runs of Moré, Garbow and Hillstrom (problems.py), and the families marked "tuning" below.  JUDGING is used
only afterwards: NIST's other 13 sets (golden/strd_judging/), and the families marked "judging".  All data and
starts of a family are in the same half.

Besides NIST's and Moré's problems there are three kinds: published data sets, each with its source; CUTEst's
PALMER problems; and "made" data: models from several fields, without the bounds that their parameters
would have in practice, with noise from NumPy's frozen RandomState, from inaccurate starts.

Residuals are model − data and take complex parameters, so that Jacobians are exact to rounding.
`all_runs()` is {name: Run}.  Only NumPy is needed.
"""
from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import problems
import strd

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
TUNING, JUDGING = "tuning", "judging"


@dataclass(frozen=True)
class Run:
    """One fit: residual(x) from x0.

    `best` is the lowest known sum of squares, of any solver from any start.
    """
    name: str
    collection: str             # "NIST", "MGH", "published", "PALMER" or "made"
    half: str
    residual: Callable = field(repr=False)
    jacobian: Callable = field(repr=False)
    x0: np.ndarray = field(repr=False)
    best: float = np.nan

    def solved(self, cost):
        """Is the sum of squares `cost` as good as the best known one?"""
        with np.errstate(all="ignore"):
            start = float(np.sum(self.residual(self.x0) ** 2))
        return cost <= (1 + 1e-3)*self.best + 1e-12*start


def complex_steps(residual):
    """The Jacobian of an analytic residual, to rounding."""
    def jacobian(x):
        columns = []
        for j in range(x.size):
            step = 1e-30*max(abs(x[j]), 1e-10)
            moved = x.astype(complex)
            moved[j] += 1j*step
            columns.append(residual(moved).imag/step)
        return np.array(columns).T
    return jacobian


# ---------------------------------------------------------------- NIST's other thirteen

def _eckerle(b, x):
    return b[0]/b[1]*np.exp(-0.5*((x - b[2])/b[1])**2)


OTHER_STRD = {
    "Misra1c": lambda b, x: b[0]*(1 - (1 + 2*b[1]*x)**-0.5),
    "Misra1d": lambda b, x: b[0]*b[1]*x/(1 + b[1]*x),
    "Chwirut1": strd._decay_over_line,
    "Gauss2": strd._two_peaks_on_decay,
    "Gauss3": strd._two_peaks_on_decay,
    "Lanczos1": strd._three_exponentials,
    "Lanczos2": strd._three_exponentials,
    "MGH10": lambda b, x: b[0]*np.exp(b[1]/(x + b[2])),
    "Eckerle4": _eckerle,
    "Rat42": lambda b, x: b[0]/(1 + np.exp(b[1] - b[2]*x)),
    "Rat43": lambda b, x: b[0]/(1 + np.exp(b[1] - b[2]*x))**(1/b[3]),
    "Bennett5": lambda b, x: b[0]*(b[1] + x)**(-1/b[2]),
    "BoxBOD": strd._saturation,
}


@dataclass(frozen=True)
class Certified:
    """One of NIST's data sets, with attributes named as those of strd.Dataset."""
    name: str
    x: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    starts: tuple[np.ndarray, np.ndarray]
    certified: np.ndarray
    rss: float

    def residual(self, b):
        return OTHER_STRD[self.name](b, self.x) - self.y

    def jacobian(self, b):
        return complex_steps(self.residual)(np.asarray(b, float))


def other_strd():
    """NIST's thirteen data sets that are not in examples/strd.

    strd.parse would refuse Rat43.dat, which says that 15 points less 4 parameters leave 9 degrees of freedom.
    """
    found = []
    for name in OTHER_STRD:
        text = (GOLDEN / "strd_judging" / f"{name}.dat").read_text(encoding="ascii")
        table = np.array([[float(value) for value in row[1:]] for row in strd._PARAMETER.findall(text)])
        rows = strd._DATA_HEADING.split(text)[1].splitlines()
        y, x = np.array([line.split() for line in rows if line.strip()], float).T
        rss = float(re.search(rf"Residual Sum of Squares:\s*({strd._NUMBER})", text).group(1))
        found.append(Certified(name, x.copy(), y.copy(), (table[:, 0].copy(), table[:, 1].copy()), table[:, 2].copy(), rss))
    return found


def nist_runs():
    for half, datasets in ((TUNING, strd.load_all()), (JUDGING, other_strd())):
        for data in datasets:
            for k, start in enumerate(data.starts, 1):
                yield Run(f"{data.name}-{k}", "NIST", half, data.residual, data.jacobian, start, data.rss)


def mgh_runs():
    for name, (p, factor) in problems.runs().items():
        best = min((minimum.ssq for minimum in p.minima), default=np.nan)
        yield Run(name, "MGH", TUNING, p.residual, p.jacobian, p.start(factor), best)


# ---------------------------------------------------------------- published data
# (half, model, x, y, starts, source)

# D. M. Bates and D. G. Watts, Nonlinear Regression Analysis and Its Applications, Wiley, 1988,
# A1.3, after M. A. Treloar's thesis, Toronto, 1974: reaction velocity by substrate concentration.
PUROMYCIN_TREATED = (np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2),
                     np.array([76.0, 47, 97, 107, 123, 139, 159, 152, 191, 201, 207, 200]))
PUROMYCIN_UNTREATED = (np.repeat([0.02, 0.06, 0.11, 0.22, 0.56, 1.10], 2)[:11],
                       np.array([67.0, 51, 84, 86, 98, 115, 131, 124, 144, 158, 160]))
# The same, A1.4, after D. Marske's thesis, Wisconsin, 1967: biochemical oxygen demand by days.
BOD = (np.array([1.0, 2, 3, 4, 5, 7]), np.array([8.3, 10.3, 19, 16, 15.6, 19.8]))
# W. N. Venables and B. D. Ripley, Modern Applied Statistics with S, Springer, "wtloss": weight in kg
# of an obese patient by days.
WEIGHT_LOSS = (
    np.array([0.0, 4, 7, 7, 11, 18, 24, 30, 32, 43, 46, 60, 64, 70, 71, 71, 73, 74, 84, 88, 95, 102, 106, 109, 115, 122,
              133, 137, 140, 143, 147, 148, 149, 150, 153, 156, 161, 164, 165, 165, 170, 176, 179, 198, 214, 218,
              221, 225, 233, 238, 241, 246]),
    np.array([184.35, 182.51, 180.45, 179.91, 177.91, 175.81, 173.11, 170.06, 169.31, 165.1, 163.11, 158.3, 155.8,
              154.31, 153.86, 154.2, 152.2, 152.8, 150.3, 147.8, 146.1, 145.6, 142.5, 142.3, 139.4, 137.9, 133.7,
              133.7, 133.3, 131.2, 133, 132.2, 130.8, 131.3, 129, 127.9, 126.9, 127.7, 129.5, 128.4, 125.4, 124.9,
              124.9, 118.2, 118.2, 115.3, 115.7, 116, 115.5, 112.6, 114, 112.6]))
# The same, "steam", after N. R. Draper and H. Smith, Applied Regression Analysis: pressure of
# saturated steam by temperature in degrees Celsius.
STEAM = (np.array([0.0, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 100, 105]),
         np.array([4.14, 8.52, 16.31, 32.18, 64.62, 98.76, 151.13, 224.74, 341.35, 423.36, 522.78, 674.32, 782.04, 920.01]))
# The same, "stormer", after E. J. Williams, Regression Analysis, Wiley, 1959: time of 100
# revolutions of a rotating viscometer by viscosity and weight.
STORMER = (
    np.array([[14.7, 27.5, 42, 75.7, 89.7, 146.6, 158.3, 14.7, 27.5, 42, 75.7, 89.7, 146.6, 158.3, 161.1, 298.3, 75.7,
               89.7, 146.6, 158.3, 161.1, 298.3, 298.3], [20.0]*7 + [50]*9 + [100]*7]),
    np.array([35.6, 54.3, 75.6, 121.2, 150.8, 229, 270, 17.6, 24.3, 31.4, 47.2, 58.3, 85.6, 101.1, 92.2, 187.2, 24.6,
              30, 41.7, 50.3, 45.1, 89, 86.5]))
# R. C. Weast (ed.), Handbook of Chemistry and Physics, CRC, 1973, as R's "pressure": vapour pressure
# of mercury in mm by degrees Celsius.
MERCURY = (np.arange(0.0, 361, 20),
           np.array([2e-4, 1.2e-3, 6e-3, 0.03, 0.09, 0.27, 0.75, 1.85, 4.2, 8.8, 17.3, 32.1, 57, 96, 157, 247, 376, 558, 806]))
# D. R. McNeil, Interactive Data Analysis, Wiley, 1977, as R's "uspop": population of the United
# States in millions, 1790 to 1970.
USPOP = (np.arange(0.0, 19),
         np.array([3.93, 5.31, 7.24, 9.64, 12.9, 17.1, 23.2, 31.4, 39.8, 50.2, 62.9, 76, 92, 105.7, 122.8, 131.7, 151.3,
                   179.3, 203.2]))


def _hyperbola(b, x):
    return b[0]*x/(b[1] + x)


def _logistic(b, x):
    return b[0]/(1 + np.exp((b[1] - x)/b[2]))


def _antoine(b, t):
    return np.exp(b[0] - b[1]/(t + b[2]))


PUBLISHED = {
    "puromycin-treated": (TUNING, _hyperbola, PUROMYCIN_TREATED, [(205, 0.08), (100, 1.0), (1, 1)]),
    "puromycin-untreated": (TUNING, _hyperbola, PUROMYCIN_UNTREATED, [(160, 0.05), (400, 2.0), (1, 1)]),
    "bod": (TUNING, lambda b, x: b[0]*(1 - np.exp(-b[1]*x)), BOD, [(20, 0.24), (100, 0.05), (1, 1)]),
    "weight-loss": (TUNING, lambda b, x: b[0] + b[1]*2**(-x/b[2]), WEIGHT_LOSS,
                    [(90, 95, 120), (0, 200, 30), (150, 10, 500)]),
    "steam": (TUNING, lambda b, t: b[0]*10**(b[1]*t/(b[2] + t)), STEAM, [(5, 8, 230), (1, 5, 100), (50, 3, 400)]),
    "stormer": (JUDGING, lambda b, x: b[0]*x[0]/(x[1] - b[1]), STORMER, [(29, 2.2), (10, 10), (100, -50)]),
    "mercury": (JUDGING, _antoine, MERCURY, [(18, 6000, 240), (10, 3000, 200), (20, 10000, 400)]),
    "us-logistic": (JUDGING, _logistic, USPOP, [(440, 20, 4.4), (200, 10, 1), (1000, 30, 10)]),
    "us-gompertz": (JUDGING, lambda b, x: b[0]*np.exp(-b[1]*np.exp(-b[2]*x)), USPOP,
                    [(1000, 5, 0.1), (200, 10, 0.5), (300, 2, 0.01)]),
}


def _from_data(model, x, y):
    return lambda b: model(b, x) - y


def published_runs():
    for name, (half, model, (x, y), starts) in PUBLISHED.items():
        residual = _from_data(model, x, y)
        for k, start in enumerate(starts, 1):
            yield Run(f"{name}-{k}", "published", half, residual, complex_steps(residual), np.array(start, float))


# ---------------------------------------------------------------- PALMER
# M. Palmer, Edinburgh, private communication; N. Gould in CUTEst's PALMER1NE to PALMER8ENE:
# energies of molecules (kJ/mol) by an angle (radians), from starts of ones.

def _mirrored(x, y, at_zero=True):
    """The data, repeated at −x; CUTEst has the point at zero only once."""
    x, y = np.array(x), np.array(y)
    keep = x != 0
    return np.concatenate([x, -x[keep]]), np.concatenate([y, y[keep]])


PALMER = {
    1: (JUDGING, _mirrored([0, 0.174533, 0.349066, 0.523599, 0.698132, 0.872665, 1.047198, 1.134464, 1.218612, 1.308997,
                            1.396263, 1.483530, 1.570796, 1.658063, 1.745329, 1.788963],
                           [88.3995, 83.4221, 70.1630, 52.3664, 33.6988, 16.9321, 4.6841, 1.188045, 0, 1.538330, 6.2614,
                            14.6126, 27.038816, 43.96947, 65.77963, 78.596218])),
    2: (TUNING, _mirrored([0, 0.174533, 0.349066, 0.523599, 0.698132, 0.872665, 0.937187, 1.047198, 1.221730, 1.396263,
                           1.570796, 1.745329],
                          [19.4529, 17.7149, 13.4291, 8.1080, 3.2053, 0.2730, 0, 0.8596, 6.4762, 18.8548, 40.149455,
                           72.676767])),
    3: (JUDGING, _mirrored([0, 0.174533, 0.349066, 0.523599, 0.698132, 0.766531, 0.872665, 1.047198, 1.221730, 1.396263,
                            1.570796, 1.658063],
                           [9.8919, 8.5519, 5.5191, 2.3029, 0.2177, 0, 0.59447, 4.6547, 13.4575, 28.2034, 50.46046,
                            64.87939])),
    4: (TUNING, _mirrored([0, 0.174533, 0.349066, 0.523599, 0.698132, 0.741119, 0.872665, 1.047198, 1.221730, 1.396263,
                           1.570796, 1.658063],
                          [9.8046208, 8.263520, 5.014768, 1.867422, 0.085108, 0, 0.92603, 5.5675, 14.9888, 30.2718, 52.8537,
                           67.27625])),
    5: (JUDGING, (np.array([0, 0.174533, 0.349066, 0.523599, 0.698132, 0.872665, 1.047198, 1.125835, 1.221730, 1.308997,
                            1.396263, 1.570796]),
                  np.array([83.57418, 77.719674, 62.822177, 44.126844, 25.785001, 10.479881, 1.170451, 0, 2.044762, 8.051067,
                            18.983286, 81.007654]))),
    7: (JUDGING, (np.array([0, 0.139626, 0.261799, 0.436332, 0.565245, 0.512942, 0.610865, 0.785398, 0.959931, 1.134464,
                            1.308997, 1.483530, 1.658063]),
                  np.array([4.419446, 3.564931, 2.139067, 0.404686, 0, 0.035152, 0.146813, 2.718058, 9.474417, 26.132221,
                            41.451561, 72.283164, 117.630959]))),
    8: (TUNING, (np.array([0, 0.174533, 0.314159, 0.436332, 0.514504, 0.610865, 0.785398, 0.959931, 1.134464, 1.308997,
                           1.483530, 1.570796]),
                 np.array([4.757534, 3.121416, 1.207606, 0.131916, 0, 0.258514, 3.380161, 10.762813, 23.745996, 44.471864,
                           76.541947, 97.874528]))),
}


def _even(coefficients, x):
    value = 0
    for c in coefficients[::-1]:
        value = value*x**2 + c
    return value


PALMER_MODELS = {
    "": (4, lambda b, x: b[0]*x**2 + b[1]/(b[2] + x**2/b[3])),
    "A": (6, lambda b, x: _even(b[:4], x) + b[4]/(b[5] + x**2)),
    "B": (4, lambda b, x: x**2*_even(b[:2], x) + b[2]/(b[3] + x**2)),
    "E": (8, lambda b, x: _even(b[:6], x) + b[7]*np.exp(-b[6]*x**2)),
}


def palmer_runs():
    for number, (half, (x, y)) in PALMER.items():
        for letter, (n, model) in PALMER_MODELS.items():
            residual = _from_data(model, x, y)
            yield Run(f"PALMER{number}{letter}", "PALMER", half, residual, complex_steps(residual), np.ones(n))


# ---------------------------------------------------------------- made data
# Each family: half, truth, spread of the starts, x and the model.  A start is the truth times
# exp(spread·z) if the parameter is positive by nature (spread > 0), otherwise the truth plus |spread|·z, with z
# normal; a second start has twice the spread.  Noise is given as a fraction of the curve's root mean square.

def _rk4(rates, state, times, substeps):
    """The states at `times`, from the first of them on, by Runge and Kutta's fourth-order rule."""
    out = [state]
    for a, b in zip(times[:-1], times[1:]):
        h = (b - a)/substeps
        for _ in range(substeps):
            k1 = rates(state)
            k2 = rates(state + h/2*k1)
            k3 = rates(state + h/2*k2)
            k4 = rates(state + h*k3)
            state = state + h/6*(k1 + 2*k2 + 2*k3 + k4)
        out.append(state)
    return np.array(out)


def _predator_prey(b, t):
    def rates(s):
        return np.array([s[0]*(b[0] - b[1]*s[1]), s[1]*(b[2]*s[0] - b[3])])
    return _rk4(rates, np.array([1.0 + 0*b[0], 0.5 + 0*b[0]]), t, 3).ravel()


def _epidemic(b, t):
    def rates(s):
        new = b[0]*s[0]*s[1]
        return np.array([-new, new - b[1]*s[1]])
    return 1000*_rk4(rates, np.array([1 - b[2], b[2]]), t, 3)[:, 1]


def _oral_dose(b, t):
    return b[0]*b[1]/(b[1] - b[2])*(np.exp(-b[2]*t) - np.exp(-b[1]*t))


def _network(b, x):
    value = b[0]
    for k in range(3):
        value = value + b[1 + 3*k]*np.tanh(b[2 + 3*k]*x + b[3 + 3*k])
    return value


BEACONS = np.array([[0, 0, 0], [10, 0, 1], [0, 12, 2], [9, 11, 0], [5, -6, 8], [-7, 4, 6.0]])


def _ranges(b, x):
    return np.sqrt(sum((b[k] - x[:, k])**2 for k in range(3))) + b[3]


CORNERS = np.array([[-1, -1, 0], [1, -1, 0.2], [1, 1, 0], [-1, 1, -0.3], [0, 0, 0.8], [0.5, -0.2, 0.4], [-0.6, 0.3, -0.5]])


def _camera(b, corners):
    """Where a camera of focal length 800 sees the corners, after three turns and a shift."""
    x, y, z = corners.T
    c, s = np.cos(b[0]), np.sin(b[0])
    x, y = c*x - s*y, s*x + c*y
    c, s = np.cos(b[1]), np.sin(b[1])
    x, z = c*x + s*z, c*z - s*x
    c, s = np.cos(b[2]), np.sin(b[2])
    y, z = c*y - s*z, s*y + c*z
    depth = z + b[5]
    return np.concatenate([800*(x + b[3])/depth, 800*(y + b[4])/depth])


def _kepler(b, t):
    """Radial velocity of a star with a planet: amplitude, period, phase, eccentricity, offset."""
    mean = 2*np.pi*t/b[1] + b[2]
    anomaly = mean + b[3]*np.sin(mean)
    for _ in range(8):
        anomaly = anomaly - (anomaly - b[3]*np.sin(anomaly) - mean)/(1 - b[3]*np.cos(anomaly))
    c = np.cos(anomaly)
    return b[0]*(c - b[3])/(1 - b[3]*c) + b[4]


def _relaxations(b, w):
    """Real and imaginary part of two Debye relaxations."""
    first, second = 1 + (w*b[2])**2, 1 + (w*b[4])**2
    return np.concatenate([b[0] + b[1]/first + b[3]/second, b[1]*w*b[2]/first + b[3]*w*b[4]/second])


def _sphere(b, q):
    u = q*b[1]
    return b[0]*(3*(np.sin(u) - u*np.cos(u))/u**3)**2 + b[2]


def _gaussians(b, x):
    return sum(b[k]*np.exp(-0.5*((x - b[k + 1])/b[k + 2])**2) for k in range(0, len(b), 3))


def _birch_murnaghan(b, v):
    eta = (b[2]/v)**(2/3)
    return b[0] + 9/16*b[2]*b[1]*((eta - 1)**3*b[3] + (eta - 1)**2*(6 - 4*eta))


t = np.linspace
MADE = {
    # spectroscopy: a peak on a slope
    "peak": (TUNING, (120, 5.2, 0.6, 10, -0.5), (0.7, -0.8, 0.7, -10, -2), t(0, 10, 60),
             lambda b, x: b[0]*np.exp(-0.5*((x - b[1])/b[2])**2) + b[3] + b[4]*x),
    # two lifetimes and a level
    "two-decays": (TUNING, (60, 0.9, 30, 0.12, 4), (0.7, 0.8, 0.7, 0.8, -4), t(0, 30, 70),
                   lambda b, x: b[0]*np.exp(-b[1]*x) + b[2]*np.exp(-b[3]*x) + b[4]),
    # dose and response, concentrations as logarithms
    "dose": (TUNING, (4, 96, -6.3, 1.4), (-10, -30, -1, 0.5), t(-10, -3, 15),
             lambda b, x: b[0] + (b[1] - b[0])/(1 + 10**(b[3]*(b[2] - x)))),
    "damped": (TUNING, (8, 0.15, 2.4, 0.6, 1), (0.7, 0.7, 0.05, -0.6, -1), t(0, 15, 80),
               lambda b, x: b[0]*np.exp(-b[1]*x)*np.cos(b[2]*x + b[3]) + b[4]),
    # rate constants by kelvin, in raw units
    "arrhenius": (TUNING, (3e9, 6.1e4), (4, 0.25), t(280, 360, 17), lambda b, x: b[0]*np.exp(-b[1]/(8.314*x))),
    "predator-prey": (TUNING, (1.1, 0.9, 0.7, 0.8), (0.2, 0.2, 0.2, 0.2), t(0, 12, 25), _predator_prey),
    "oral-dose": (TUNING, (40, 1.6, 0.2), (0.8, 0.8, 0.8), np.array([0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 24]),
                  _oral_dose),
    "power-with-origin": (TUNING, (2, 3, 1.7, 1.5), (-2, 0.8, 0.3, -1), t(4, 20, 30),
                          lambda b, x: b[0] + b[1]*((x - b[3])**2)**(b[2]/2)),
    "ranges": (TUNING, (4, 3, 7, 0.5), (-6, -6, -6, -2), BEACONS, _ranges),
    "network": (TUNING, (0.2, 1, 2, 0.5, -0.8, 1.5, -1, 0.6, 3, 2), (-0.7,)*10, t(-3, 3, 50), _network),

    # two Lorentzian lines on a level
    "doublet": (JUDGING, (40, 3.8, 0.5, 25, 5.1, 0.7, 3), (0.7, -0.5, 0.6, 0.7, -0.5, 0.6, -3), t(0, 10, 80),
                lambda b, x: b[0]/(1 + ((x - b[1])/b[2])**2) + b[3]/(1 + ((x - b[4])/b[5])**2) + b[6]),
    "stretched": (JUDGING, (10, 3, 0.6, 1), (0.8, 1, 0.3, -2), np.geomspace(0.02, 50, 40),
                  lambda b, x: b[0]*np.exp(-(x/b[1])**b[2]) + b[3]),
    "gompertz": (JUDGING, (80, 4.5, 0.35), (0.8, 0.6, 0.8), t(0, 20, 21), lambda b, x: b[0]*np.exp(-b[1]*np.exp(-b[2]*x))),
    # an enzyme that much substrate inhibits
    "haldane": (JUDGING, (12, 0.8, 6), (1, 1, 1), np.geomspace(0.05, 50, 20), lambda b, x: b[0]*x/(b[1] + x + x**2/b[2])),
    "muon": (JUDGING, (0.23, 0.3, 2.1, 0.3, 0.05, 0.08), (0.6, 0.7, 0.06, -0.5, -0.05, 0.8), t(0, 9, 120),
             lambda b, x: b[0]*np.exp(-0.5*(b[1]*x)**2)*np.cos(b[2]*x + b[3]) + b[4]*np.exp(-b[5]*x)),
    "epidemic": (JUDGING, (0.9, 0.3, 2e-3), (0.3, 0.3, 1.0), t(0, 40, 41), _epidemic),
    # a vapour's pressure in pascal by kelvin
    "antoine": (JUDGING, (23.2, 3800, -45), (0.05, 0.15, -20), t(280, 370, 19), lambda b, x: np.exp(b[0] - b[1]/(x + b[2]))),
    "sersic": (JUDGING, (30, 4, 2.5), (0.8, 0.6, 0.5), np.geomspace(0.3, 25, 35),
               lambda b, r: b[0]*np.exp(-(2*b[2] - 1/3)*((r/b[1])**(1/b[2]) - 1))),
    "relaxations": (JUDGING, (3, 12, 1.5, 5, 0.03), (0.6, 0.6, 1.0, 0.6, 1.0), np.geomspace(0.01, 1000, 30), _relaxations),
    # viscosity by shear rate
    "carreau": (JUDGING, (900, 3, 2.5, 0.35), (0.7, 1, 1, 0.4), np.geomspace(0.01, 1000, 26),
                lambda b, x: b[1] + (b[0] - b[1])*(1 + (b[2]*x)**2)**((b[3] - 1)/2)),
    "sphere": (JUDGING, (200, 2.4, 0.5), (0.8, 0.15, -1), t(0.05, 3, 60), _sphere),
    "orbit": (JUDGING, (55, 11.3, 0.8, 0.35, 4), (0.5, 0.02, -0.4, 0.3, -15), np.linspace(0, 40, 45) + 0.3*np.sin(np.arange(45)),
              _kepler),
    "camera": (JUDGING, (0.3, -0.4, 0.2, 0.1, -0.2, 5), (-0.5, -0.5, -0.5, -0.5, -0.5, 0.3), CORNERS, _camera),
    "three-peaks": (JUDGING, (30, 2.5, 0.5, 20, 5, 0.9, 35, 7.7, 0.4), (0.6, -0.3, 0.5)*3, t(0, 10, 100), _gaussians),
    "morse": (JUDGING, (4.5, 1.9, 0.75, -4), (0.6, 0.5, 0.15, -1), t(0.4, 3, 30),
              lambda b, r: b[0]*(1 - np.exp(-b[1]*(r - b[2])))**2 + b[3]),
    "equation-of-state": (JUDGING, (-3.7, 0.5, 16.4, 4.2), (-1, 0.7, 0.08, 0.4), t(14, 19, 12), _birch_murnaghan),
    "sips": (JUDGING, (6, 0.4, 0.7), (0.7, 1.2, 0.4), np.geomspace(0.02, 60, 18),
             lambda b, x: b[0]*(b[1]*x)**b[2]/(1 + (b[1]*x)**b[2])),
}
STARTS = 3
NOISE = 0.02


def made_runs():
    for seed, (name, (half, truth, spread, x, model)) in enumerate(MADE.items()):
        draw = np.random.RandomState(seed)
        truth, spread = np.array(truth, float), np.array(spread, float)
        clean = model(truth, x)
        y = clean + NOISE*np.sqrt(np.mean(clean**2))*draw.standard_normal(clean.shape)
        residual = _from_data(model, x, y)
        for k in range(1, STARTS + 1):
            z = (1 + (k == STARTS))*draw.standard_normal(truth.shape)
            start = np.where(spread > 0, truth*np.exp(np.abs(spread)*z), truth + spread*z)
            yield Run(f"{name}-{k}", "made", half, residual, complex_steps(residual), start)


# ---------------------------------------------------------------- all

def _with_best(run, best):
    problem = run.name if run.collection == "PALMER" else run.name.rsplit("-", 1)[0]
    return replace(run, best=float(np.fmin(run.best, best.get(problem, np.nan))))


def all_runs():
    """{name: Run}, NIST first, with the best known sums of squares of golden/fit_collections.json."""
    best = json.loads((GOLDEN / "fit_collections.json").read_text())
    runs = [*nist_runs(), *mgh_runs(), *published_runs(), *palmer_runs(), *made_runs()]
    return {run.name: _with_best(run, best) for run in runs}
