"""
A parameter that must not be negative
=====================================

Two lines of a spectrum overlap. Without bounds the fit makes the weak one negative, which
no line can be; with them, it ends at zero and says so.
"""
import matplotlib.pyplot as plt
import numpy as np

from leastsq import leastsq

e = np.linspace(-4, 4, 60)
noise = 0.1 * np.random.default_rng(3).standard_normal(e.size)
y = np.exp(-0.5 * e**2) + noise


def lines(x):
    strong, weak, shift = x
    return strong * np.exp(-0.5 * e**2) + weak * np.exp(-0.5 * (e - shift)**2)


def residual(x):
    return lines(x) - y


start = [1.0, 0.1, 1.0]
free, ier = leastsq(residual, start)
held, cov, info, message, ier = leastsq(residual, start, full_output=True,
                                        bounds=([0, 0, 0.5], [np.inf, np.inf, 2.0]))
print("free ", free.round(3))
print("held ", held.round(3), "active:", info["active_mask"])
print(message)

# %%
# The two curves are hardly to be told apart; their parts are.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, x, title in zip(axes, (free, held), ("without bounds", "weak ≥ 0, 0.5 ≤ shift ≤ 2"), strict=True):
    ax.plot(e, y, ".", color="0.5", label="data")
    ax.plot(e, lines(x), "C0", label="fit")
    ax.plot(e, x[0] * np.exp(-0.5 * e**2), "C1--", label="strong line")
    ax.plot(e, x[1] * np.exp(-0.5 * (e - x[2])**2), "C2--", label="weak line")
    ax.set_title(title)
    ax.set_xlabel("energy")
axes[0].legend(frameon=False)
