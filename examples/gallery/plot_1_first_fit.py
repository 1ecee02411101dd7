"""
A fit, its band, its residuals
==============================

One exponential decay over a level: the fitted curve, how well it is known, and whether
anything is left in the residuals.
"""
import numpy as np

import leastsq

t = np.linspace(0, 4, 50)
y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.random.default_rng(1).standard_normal(t.size)


def decay(t, x):
    height, rate, level = x
    return height * np.exp(-rate * t) + level


def residual(x):
    return decay(t, x) - y


x, ier = leastsq.leastsq(residual, [1, 1, 0])
found = leastsq.covariance(residual, x, names=["height", "rate", "level"])
print(found)

# %%
# The dark band holds the curve with 95 % confidence, the light one a new measurement.

figure = leastsq.plot.fit(t, y, decay, x, found, prediction=True, xlabel="time", ylabel="signal")

# %%
# Residuals of a good fit have no shape, and a bell for a histogram.

figure = leastsq.plot.residuals(t, -residual(x), xlabel="time")

# %%
# Rate and level are correlated: a faster decay to a higher level fits nearly as well.

figure = leastsq.plot.correlation(found)
