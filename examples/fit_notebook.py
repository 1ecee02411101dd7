"""A first fit in a notebook: tools/notebook.py makes docs/fit.ipynb from this script."""
# %% [markdown]
# # A fit, from data to a half-life
#
# Decays of two samples of one substance, over the same background. `leastsq.fit` takes parameters by name.

# %%
import numpy as np

import leastsq as lsq

random = np.random.default_rng(20)
t = np.linspace(0, 10, 50)


def decay(t, height, rate, level):
    return height * np.exp(-rate * t) + level


y = random.poisson(decay(t, 900, 0.45, 40))
result = lsq.fit(decay, t, y, {"height": 500, "rate": 1, "level": 0},
                 sigma=np.sqrt(y), absolute_sigma=True,
                 bounds={"rate": (0, None), "level": (0, None)})
result

# %% [markdown]
# A parameter is a number with a standard error. Standard errors are computed on first use, here by the table.

# %%
print(f"{result['rate'].value:.5f}, {result['rate'].stderr:.5f}")
result["rate"]

# %%
result.plot(xlabel="time", ylabel="counts")

# %% [markdown]
# The half-life follows from the rate; its interval from the likelihood profile is not symmetric.

# %%
halflife = result.derive(halflife=lambda p: np.log(2) / p["rate"])["halflife"]
print("{:.3f} to {:.3f}".format(*halflife.interval(0.95, method="profile")))
halflife

# %% [markdown]
# A second, weaker sample: rate and background are shared, and each sample has its own height.

# %%
weak = random.poisson(decay(t, 200, 0.45, 40))
both = lsq.fit([decay, decay], t, [y, weak], result, own=["height"],
               sigma=[np.sqrt(y), np.sqrt(weak)], absolute_sigma=True)
both

# %%
both.contour("rate", "level").plot()
