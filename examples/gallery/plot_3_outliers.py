"""
Outliers and robust losses
==========================

One point in five is spoiled, always upwards. Least squares follows them; the robust losses
follow the others. ``f_scale`` is the size of residual from which on a point is suspect.
"""
import matplotlib.pyplot as plt
import numpy as np

from leastsq import leastsq

random = np.random.default_rng(4)
t = np.linspace(0, 10, 120)
truth = np.array([3.0, 0.8, 0.5])
y = truth[0] * np.exp(-truth[1] * t) + truth[2] + 0.1 * random.standard_normal(t.size)
bad = random.random(t.size) < 0.2
y[bad] += random.uniform(1, 4, bad.sum())


def decay(x, t=t):
    return x[0] * np.exp(-x[1] * t) + x[2]


def residual(x):
    return decay(x) - y


figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(t[~bad], y[~bad], ".", color="0.4", label="data")
ax.plot(t[bad], y[bad], "x", color="0.6", label="spoiled")
fine = np.linspace(0, 10, 600)
ax.plot(fine, decay(truth, fine), "k:", label="truth")

x = [1.0, 1.0, 0.0]
for loss, colour in (("linear", "C3"), ("soft_l1", "C0"), ("cauchy", "C2")):
    # The last two start from the result before them: "cauchy" has many minima.
    x, ier = leastsq(residual, x, loss=loss, f_scale=0.2)
    print(f"{loss:8} {x.round(3)}  worst error {np.abs(x - truth).max():.3f}")
    ax.plot(fine, decay(x, fine), colour, label=loss)
ax.set_xlabel("time")
ax.legend(frameon=False, ncols=3)
