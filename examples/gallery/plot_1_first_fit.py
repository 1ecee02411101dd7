"""
A fit, its band, its residuals
==============================

One exponential decay over a constant background: the fitted curve, its uncertainty, and the
residuals.
"""
import numpy as np

import leastsq as lsq

t = np.linspace(0, 4, 50)
noise = 0.05 * np.random.default_rng(1).standard_normal(t.size)
y = 2.5 * np.exp(-1.3 * t) + 0.5 + noise


def decay(t, height, rate, level):
    return height * np.exp(-rate * t) + level


fit = lsq.curve_fit(decay, t, y, full_output=True)
print(lsq.report(fit))

# %%
# The fit knows its model and its data. The dark band covers the curve with 95 % confidence,
# the light one a new measurement.

figure = lsq.plot.fit(fit, prediction=True,
                      xlabel="time", ylabel="signal")

# %%
# Residuals of a good fit show no pattern, and their histogram is bell-shaped.

figure = lsq.plot.residuals(fit, xlabel="time")

# %%
# Rate and level are correlated: a faster decay to a higher level fits nearly as well.

figure = lsq.plot.correlation(fit)
