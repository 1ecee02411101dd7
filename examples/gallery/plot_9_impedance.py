"""
A complex impedance
===================

Real and imaginary parts of complex data are both fitted. A capacitance of 1e-6 needs no scaling.
"""
import numpy as np

import leastsq as lsq

random = np.random.default_rng(6)
frequency = np.logspace(0, 5, 50)


def impedance(f, series, parallel, capacity):
    return series + parallel / (1 + 2j * np.pi * f * parallel * capacity)


noise = random.standard_normal(50) + 1j * random.standard_normal(50)
z = impedance(frequency, 10, 100, 1e-6) + 0.5 * noise
result = lsq.fit(impedance, frequency, z, [5, 50, 2e-6], sigma=0.5,
                 absolute_sigma=True,
                 bounds={"series": (0, None), "parallel": (0, None),
                         "capacity": (0, None)})
print(result)
print(result.derive(corner=lambda p: 1 / (2 * np.pi * p["parallel"]
                                          * p["capacity"])))

# %%

figure = result.plot(xlabel="frequency")
for ax in figure.axes:
    ax.set_xscale("log")
