"""
Counts done right
=================

A decay is counted in 256 bins, with eight counts at its peak. Least squares with the usual
weights, one over the square root of each count, gives the largest weights to bins that are low
by chance: the level ends too low and the decay too fast. ``loss="poisson"`` fits by the
likelihood of the counts. The last panel shows the rates from 300 simulations.
"""
import matplotlib.pyplot as plt
import numpy as np

import leastsq as lsq

random = np.random.default_rng(12)
t = 10 * (np.arange(256) + 0.5) / 256
truth = {"height": 8, "rate": 1, "level": 1}
limits = {"height": (0, None), "rate": (0, None), "level": (0, None)}


def decay(t, height, rate, level):
    return height * np.exp(-rate * t) + level


def slopes(t, height, rate, level):
    e = np.exp(-rate * t)
    return np.column_stack([e, -height * t * e, np.ones_like(t)])


def both(counts):
    """The fit by the likelihood, and the fit by least squares."""
    roots = np.sqrt(np.maximum(counts, 1))
    return [lsq.fit(decay, t, counts, truth, bounds=limits, jac=slopes,
                    **options)
            for options in ({"loss": "poisson"},
                            {"sigma": roots, "absolute_sigma": True})]


counts = random.poisson(decay(t, **truth))
poisson, weighted = both(counts)
print(poisson)
print(poisson.intervals(method="profile"))

figure, (above, below, beside) = plt.subplots(1, 3, figsize=(11, 3.6),
                                              layout="constrained")
above.plot(t, counts, ".", color="0.6", label="counts")
above.plot(t, decay(t, **truth), "k:", label="truth")
above.plot(t, poisson.predict(), "C0", label='loss="poisson"')
above.plot(t, weighted.predict(), "C3", label="weights 1/√N")
above.set_xlabel("time")
above.legend(frameon=False)

below.axhline(0, color="0.5", linewidth=0.8)
below.plot(t, -poisson.residuals, ".", color="C0")
below.set_xlabel("time")
below.set_ylabel("deviance residual")

expected = decay(t, **truth)
rates = np.array([[float(fit["rate"])
                   for fit in both(random.poisson(expected))]
                  for _ in range(300)])
beside.hist(rates, bins=30, color=["C0", "C3"], histtype="stepfilled", alpha=0.6)
beside.axvline(1, color="k", linestyle=":")
beside.set_xlabel("rate, in 300 simulations")
print("mean rate: {:.3f} by the likelihood, {:.3f} with 1/sqrt(N)".format(
    *rates.mean(axis=0)))
