"""
Outliers and robust losses
==========================

One point in five is an outlier, always upwards. Least squares follows the outliers; robust
losses follow the other points. ``f_scale`` is the size above which a residual is suspect.
"""
import matplotlib.pyplot as plt
import numpy as np

import leastsq as lsq

random = np.random.default_rng(4)
t = np.linspace(0, 10, 120)
truth = np.array([3.0, 0.8, 0.5])


def decay(t, height, rate, level):
    return height * np.exp(-rate * t) + level


y = decay(t, *truth) + 0.1 * random.standard_normal(t.size)
bad = random.random(t.size) < 0.2
y[bad] += random.uniform(1, 4, bad.sum())

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.plot(t[~bad], y[~bad], ".", color="0.4", label="data")
ax.plot(t[bad], y[bad], "x", color="0.6", label="spoiled")
fine = np.linspace(0, 10, 600)
ax.plot(fine, decay(fine, *truth), "k:", label="truth")

x = [1.0, 1.0, 0.0]
for loss, colour in (("linear", "C3"), ("soft_l1", "C0"), ("cauchy", "C2")):
    # The last two start from the previous result, because "cauchy" has many minima.
    fit = lsq.curve_fit(decay, t, y, x, loss=loss, f_scale=0.2,
                        full_output=True)
    x = fit[0]
    print(f"loss={loss!r}: farthest from the truth by "
          f"{np.abs(x - truth).max():.3f}")
    print(lsq.covariance(fit), "\n")
    ax.plot(fine, decay(fine, *x), colour, label=loss)
ax.set_xlabel("time")
ax.legend(frameon=False, ncols=3)
