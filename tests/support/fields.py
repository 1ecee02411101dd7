"""Models from many fields of science, from which tests draw fits: vectorised, and analytic in their parameters.

Each model takes float64 and complex parameters, and object arrays of mpmath numbers.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["FIELDS", "Field"]


def _either(name):
    """A function that takes NumPy numbers and arrays of mpmath numbers."""
    plain = getattr(np, name)

    def function(z):
        z = np.asarray(z)
        if z.dtype != object:
            return plain(z)
        import mpmath
        return np.frompyfunc(getattr(mpmath, name), 1, 1)(z)
    return function


exp, log, sqrt, sin, cos, tanh = map(_either, ("exp", "log", "sqrt", "sin", "cos", "tanh"))


@dataclass(frozen=True)
class Field:
    """
    A model and the ranges of its parameters and data.

    Attributes
    ----------
    model : callable
        ``model(x, *parameters)``.
    ranges : tuple of (float, float)
        One for each parameter. Positive ranges that span more than a factor of two are drawn evenly in the logarithm.
    design : (float, float)
        First and last x.
    spacing : {"even", "log"}
    location : int or None
        Index of a parameter that shifts with the origin of x.
    near_zero : int or None
        Index of a parameter that may be zero.
    points : int
        The least number of points.
    """

    model: Callable
    ranges: tuple
    design: tuple
    spacing: str = "even"
    location: int | None = None
    near_zero: int | None = None
    points: int = 24
    noise: float = 0.02             # as a fraction of the model's range

    @property
    def name(self):
        return self.model.__name__

    def truth(self, rng):
        return np.array([np.exp(rng.uniform(*np.log((low, high)))) if low > 0 and high > 2*low else rng.uniform(low, high)
                         for low, high in self.ranges])

    def x(self, m):
        return np.geomspace(*self.design, m) if self.spacing == "log" else np.linspace(*self.design, m)


# nuclear, atomic and molecular physics

def decay(t, height, rate, level):
    return height*exp(-rate*t) + level


def two_decays(t, fast, fast_rate, slow, slow_rate):
    return fast*exp(-fast_rate*t) + slow*exp(-slow_rate*t)


def morse(r, depth, stiffness, distance):
    return depth*(1 - exp(-stiffness*(r - distance)))**2


def rabi(t, amplitude, frequency, decoherence, level):
    return level + amplitude*exp(-decoherence*t)*(1 - cos(frequency*t))/2


def angular(cosine, yield_, anisotropy):
    return yield_*(1 + anisotropy*(3*cosine**2 - 1)/2)


def nearly_flat(x, level, curvature):
    return level + curvature*x**2


# spectroscopy

def gaussian(x, height, centre, width, level):
    return height*exp(-((x - centre)/width)**2/2) + level


def lorentzian(x, height, centre, width, level, tilt):
    return height/(1 + ((x - centre)/width)**2) + level + tilt*x


def fano(x, height, centre, width, asymmetry):
    reduced = (x - centre)/width
    return height*(asymmetry + reduced)**2/(1 + reduced**2)


def planck(wavelength, scale, temperature):
    return scale*1e3/wavelength**5/(exp(14387.77/(wavelength*temperature)) - 1)


def stern_volmer(concentration, bright, quenching):
    return bright/(1 + quenching*concentration)


# chemistry and biochemistry

def michaelis_menten(s, fastest, half):
    return fastest*s/(half + s)


def haldane(s, fastest, half, inhibition):
    return fastest*s/(half + s + s**2/inhibition)


def hill(dose, top, half, steepness):
    return top/(1 + (half/dose)**steepness)


def arrhenius(temperature, rate, energy):
    return rate*exp(-energy/8.314462618*(1/temperature - 1/320.0))


def langmuir(pressure, capacity, affinity):
    return capacity*affinity*pressure/(1 + affinity*pressure)


def freundlich(pressure, capacity, order):
    return capacity*(pressure/1e5)**(1/order)


def antoine(temperature, a, b, c):
    return a - b/(c + temperature)


def bateman(t, dose, uptake, loss):
    return dose*uptake/(uptake - loss)*(exp(-loss*t) - exp(-uptake*t))


# biology and earth sciences

def logistic(t, capacity, rate, middle):
    return capacity/(1 + exp(-rate*(t - middle)))


def gompertz(t, capacity, delay, rate):
    return capacity*exp(-delay*exp(-rate*t))


def weibull(t, size, scale, shape):
    return size*(1 - exp(-(t/scale)**shape))


def van_genuchten(suction, residual, saturated, inverse, shape):
    return residual + (saturated - residual)*(1 + (inverse*suction)**shape)**(1/shape - 1)


def tide(hours, mean, cosine, sine):
    phase = 2*np.pi*hours/12.42
    return mean + cosine*cos(phase) + sine*sin(phase)


def interface(depth, density, jump, middle, width):
    return density + jump*tanh((depth - middle)/width)


# astronomy

def microlensing(day, flux, impact, peak, duration):
    square = impact**2 + ((day - peak)/duration)**2
    return flux*(square + 2)/sqrt(square*(square + 4))


def sersic(radius, intensity, size, index):
    return intensity*exp(-(2*index - 1/3)*((radius/size)**(1/index) - 1))


def beta_model(radius, centre, core, slope):
    return centre*(1 + (radius/core)**2)**(0.5 - 3*slope)


def power_law(energy, norm, index, background):
    return norm*energy**(-index) + background


# engineering and materials

def charging(t, final, time, start):
    return final + (start - final)*exp(-t/time)


def ringing(t, amplitude, damping, frequency, phase):
    return amplitude*exp(-damping*t)*cos(frequency*t + phase)


def debye(frequency, fast, strength, time):
    return fast + strength/(1 + (frequency*time)**2)


def birch_murnaghan(volume, energy, volume0, modulus, derivative):
    ratio = (volume0/volume)**2
    third = exp(log(ratio)/3)
    strain = third - 1
    return energy + 9*volume0*modulus/16*(strain**3*derivative + strain**2*(6 - 4*third))


FIELDS = (
    Field(decay, ((10, 100), (0.4, 1.2), (-5, 5)), (0, 5), near_zero=2),
    Field(two_decays, ((20, 40), (2, 4), (20, 40), (0.2, 0.4)), (0, 8), points=40, noise=0.005),
    Field(morse, ((4, 5), (1.5, 2.5), (0.9, 1.2)), (0.7, 3), location=2),
    Field(rabi, ((0.7, 1), (2, 3), (0.05, 0.2), (-0.05, 0.05)), (0, 10), points=40, near_zero=3),
    Field(angular, ((1e3, 1e4), (-0.3, 0.3)), (-1, 1), near_zero=1),
    Field(nearly_flat, ((1, 3), (-0.1, 0.1)), (-1, 1), near_zero=1),
    Field(gaussian, ((1, 10), (-1, 1), (0.5, 1), (0.5, 1)), (-4, 4), location=1, points=30),
    Field(lorentzian, ((1e3, 1e4), (2, 3), (0.3, 0.6), (10, 50), (-3, 3)), (0, 5), points=50, near_zero=4),
    Field(fano, ((5, 10), (-0.5, 0.5), (0.5, 1), (0.8, 2)), (-4, 4), location=1, points=40),
    Field(planck, ((1, 10), (4000, 7000)), (0.3, 2.5)),
    Field(stern_volmer, ((1e4, 1e5), (0.2, 2)), (0, 5)),
    Field(michaelis_menten, ((100, 300), (0.05, 0.2)), (0.02, 1.2)),
    Field(haldane, ((1, 2), (0.5, 1), (4, 8)), (0.1, 20), spacing="log", points=30),
    Field(hill, ((50, 150), (1e-7, 1e-6), (0.8, 2)), (1e-9, 1e-4), spacing="log"),
    Field(arrhenius, ((1e-5, 1e-3), (3e4, 9e4)), (280, 370)),
    Field(langmuir, ((1, 5), (3e-6, 3e-5)), (1e3, 1e6), spacing="log"),
    Field(freundlich, ((1, 5), (1.5, 4)), (1e3, 1e6), spacing="log"),
    Field(antoine, ((20, 24), (3e3, 5e3), (-60, -30)), (260, 420), noise=0.003, points=30),
    Field(bateman, ((5, 20), (1.5, 3), (0.15, 0.4)), (0.1, 12)),
    Field(logistic, ((100, 1000), (0.5, 1.5), (4, 6)), (0, 12), location=2),
    Field(gompertz, ((100, 200), (3, 6), (0.4, 0.8)), (0, 12)),
    Field(weibull, ((1, 2), (2, 4), (1, 3)), (0.1, 12)),
    Field(van_genuchten, ((0.05, 0.1), (0.4, 0.5), (0.02, 0.06), (1.8, 3)), (1, 1e4), spacing="log", points=40, noise=0.01),
    Field(tide, ((2, 3), (-1, 1), (-1, 1)), (0, 48), near_zero=1),
    Field(interface, ((20, 30), (2, 5), (40, 60), (5, 15)), (0, 100), location=2),
    Field(microlensing, ((1, 5), (0.2, 0.5), (-5, 5), (15, 25)), (-60, 60), location=2, points=50),
    Field(sersic, ((10, 100), (3, 6), (1, 2.5)), (1, 20), spacing="log", points=30),
    Field(beta_model, ((1, 10), (1, 2), (0.5, 0.8)), (0.05, 15), spacing="log"),
    Field(power_law, ((1e2, 1e3), (1.5, 2.5), (1, 5)), (0.5, 20), spacing="log", near_zero=2),
    Field(charging, ((3, 5), (1e-6, 3e-6), (-0.5, 0.5)), (0, 1e-5), near_zero=2),
    Field(ringing, ((1, 5), (0.1, 0.3), (2, 3), (-0.5, 0.5)), (0, 10), points=40, near_zero=3),
    Field(debye, ((3, 5), (20, 80), (1e-9, 1e-8)), (1e6, 1e10), spacing="log"),
    Field(birch_murnaghan, ((-10, -5), (40, 50), (0.5, 1.2), (3.5, 5)), (34, 56), points=30, noise=0.005),
)
