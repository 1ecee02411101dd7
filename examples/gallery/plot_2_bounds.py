"""
A parameter that must not be negative
=====================================

Two lines of a spectrum overlap. Without bounds the fit makes the weak line negative, which is
impossible; with bounds its height ends at zero, and the message says so.
"""
import matplotlib.pyplot as plt
import numpy as np

import leastsq as lsq

e = np.linspace(-4, 4, 60)
noise = 0.1 * np.random.default_rng(3).standard_normal(e.size)
y = np.exp(-0.5 * e**2) + noise


def lines(strong, weak, shift):
    first = strong * np.exp(-0.5 * e**2)
    return first + weak * np.exp(-0.5 * (e - shift)**2)


def residual(x):
    return lines(*x) - y


start = [1.0, 0.1, 1.0]
free = lsq.leastsq(residual, start, full_output=True)
held = lsq.leastsq(residual, start, full_output=True,
                   bounds=([0, 0, 0.5], [np.inf, np.inf, 2.0]))
print("free ", free[0].round(3))
print("held ", held[0].round(3), "active:", held[2]["active_mask"])
print(held[3])

# %%
# The slope of the sum of squares shows that the bound holds ``weak``: without it the minimum
# would be at a negative height. ``covariance`` treats such a parameter as known. The weak line is
# then absent, and its position cannot be determined.

found = lsq.covariance(held, names=["strong", "weak", "shift"])
print("held by its bound:", found.held)
print(found)
print(found.explain())

# %%
# The two curves can hardly be distinguished, but their components can.

titles = "without bounds", "weak ≥ 0, 0.5 ≤ shift ≤ 2"
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True,
                            layout="constrained")
for ax, fit, title in zip(axes, (free, held), titles, strict=True):
    strong, weak, shift = fit[0]
    ax.plot(e, y, ".", color="0.5", label="data")
    ax.plot(e, lines(*fit[0]), "C0", label="fit")
    ax.plot(e, lines(strong, 0, shift), "C1--", label="strong line")
    ax.plot(e, lines(0, weak, shift), "C2--", label="weak line")
    ax.set_title(title)
    ax.set_xlabel("energy")
axes[0].legend(frameon=False)
