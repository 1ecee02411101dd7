"""
Asymmetric error bars
=====================

Six measurements of the oxygen demand of water hardly show where the curve levels off. The
likelihood profile (solid) shows this; Student's t (dashed) cannot.

Data: D. M. Bates and D. G. Watts, *Nonlinear Regression Analysis and Its Applications*,
Wiley, 1988.
"""
import numpy as np

import leastsq as lsq

day = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
demand = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])


def oxygen(day, plateau, rate):
    return plateau * (1 - np.exp(-rate * day))


fit = lsq.curve_fit(oxygen, day, demand, [20.0, 0.5], full_output=True)
print(lsq.confidence_intervals(fit))
profiles = lsq.confidence_intervals(fit, method="profile", points=10)
print(profiles)

figure = lsq.plot.profile(profiles)

# %%
# The band of the curve, from the same linear theory, is too narrow above:

figure = lsq.plot.fit(fit, grid=np.linspace(0, 8, 200),
                      xlabel="days", ylabel="oxygen demand")
