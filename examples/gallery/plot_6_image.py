"""
A fit in every pixel
====================

A decay in each of 64 × 64 pixels, fitted in one call of ``leastsq_batch``: the map of the
lifetime, its standard error, and the pixels that could not be fitted.
"""
import matplotlib.pyplot as plt
import numpy as np

import leastsq as lsq

size = 64
random = np.random.default_rng(5)
t = np.linspace(0.1, 10, 40)
u, v = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
tau = (2 + np.exp(-4 * ((u - 0.3)**2 + v**2))
       - 0.7 * np.exp(-6 * ((u + 0.4)**2 + (v - 0.2)**2)))
noise = 3 * random.standard_normal((size * size, t.size))
y = 100 * np.exp(-t / tau.reshape(-1, 1)) + noise
y[5 * size + 10:5 * size + 14] = np.nan             # four dead pixels


def residual(x, y):
    return x[:, :1] * np.exp(-t / x[:, 1:]) - y


start = np.tile([80.0, 1.5], (size * size, 1))
result = lsq.leastsq_batch(residual, start, y)
print(result)
sigma = result.fnorm / np.sqrt(t.size - 2)
stderr = sigma * np.sqrt(result.cov_x[:, 1, 1])
fitted = np.where(result.success, result.x[:, 1], np.nan)
pull = (fitted - tau.ravel()) / stderr
print("(fitted - true)/(standard error) has the standard deviation "
      f"{np.nanstd(pull):.2f}")

# %%

figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
panels = {"true lifetime": tau, "fitted": fitted, "standard error": stderr}
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    image = ax.imshow(np.reshape(values, (size, size)), cmap="viridis")
    ax.set(title=title, xticks=[], yticks=[])
    figure.colorbar(image, ax=ax, shrink=0.8)
