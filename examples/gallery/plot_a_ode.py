"""
A differential equation and a derived half-life
===============================================

The model integrates a differential equation; each of its two outputs is a row of y. The half-life
of the second species is derived from the parameters, with an interval from its profile.
"""
import numpy as np

import leastsq as lsq

random = np.random.default_rng(8)
t = np.linspace(0, 10, 41)


def chain(t, amount, first, second, *, steps=20):
    """A decays to B, and B decays; `steps` is keyword-only, and so not a parameter."""
    k = np.array([[-first, 0], [first, -second]])
    n, out = np.array([amount, 0.0]), []
    h = (t[1] - t[0]) / steps
    for _ in t:
        out.append(n)
        for _ in range(steps):
            k1 = k @ n
            k2 = k @ (n + h / 2 * k1)
            k3 = k @ (n + h / 2 * k2)
            k4 = k @ (n + h * k3)
            n = n + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.array(out).T


y = chain(t, 10, 0.8, 0.3) + 0.2 * random.standard_normal((2, t.size))
y[1, 5:8] = np.nan                          # a detector that was off
result = lsq.fit(chain, t, y, {"amount": 8, "first": 1, "second": 0.5},
                 nan_policy="omit")
print(result)
derived = result.derive(halflife=lambda p: np.log(2) / p["second"])
print(derived)
print("95 %: {:.3f} to {:.3f}".format(*derived["halflife"].interval(
    0.95, method="profile")))

# %%
# Residuals have the shape of the data. The joint region of the two rates is not an ellipse.

print(result.residuals.shape, np.isnan(result.residuals).sum(), "left out")
figure = result.contour("first", "second", points=24).plot()
