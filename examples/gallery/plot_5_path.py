"""
The path to the minimum
=======================

Rosenbrock's valley as a least-squares problem: the iterates follow the valley, and the trust
region grows and shrinks. ``history=True`` records every trial point, rejected ones too.
"""
import matplotlib.pyplot as plt
import numpy as np

import leastsq as lsq


def residual(x):
    return np.array([10 * (x[1] - x[0]**2), 1 - x[0]])


fit = lsq.leastsq(residual, [-1.2, 1.0], full_output=True, history=True,
                  factor=1)
history = fit[2]["history"]
taken = history["accepted"]
path = np.vstack([[-1.2, 1.0], history["x"][taken]])

a, b = np.meshgrid(np.linspace(-1.6, 1.4, 300), np.linspace(-0.6, 1.9, 300))
height = 100 * (b - a**2)**2 + (1 - a)**2
figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
ax.contour(a, b, height, np.geomspace(0.03, 600, 14),
           colors="0.75", linewidths=0.8)
ax.plot(*path.T, "o-", color="C0", label="taken")
ax.plot(*history["x"][~taken].T, "x", color="C3", label="refused")
ax.plot(1, 1, "k*", markersize=12, label="minimum")
ax.set(xlim=(-1.6, 1.4), ylim=(-0.6, 1.9), xlabel="$x_1$", ylabel="$x_2$")
ax.legend(frameon=False)

# %%
# Norm, gradient and radius at each trial point:

figure = lsq.plot.convergence(fit)
