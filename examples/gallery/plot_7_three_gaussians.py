"""
Three lines over a background, with limits by name
==================================================

Nine parameters, four of them with limits by name. Displaying the result shows its report.
"""
import numpy as np

import leastsq as lsq

e = np.linspace(0, 10, 200)


def peak(e, height, centre, width):
    return height * np.exp(-0.5 * ((e - centre) / width)**2)


def spectrum(e, a, b, c, a_at, b_at, c_at, width, slope, level):
    return (peak(e, a, a_at, width) + peak(e, b, b_at, width)
            + peak(e, c, c_at, width) + slope * e + level)


truth = [5, 3, 4, 2.5, 4.0, 7.2, 0.6, 0.1, 1]
counts = np.random.default_rng(3).poisson(100 * spectrum(e, *truth))
start = dict(a=300, b=300, c=300, a_at=2.3, b_at=4.2, c_at=7, width=0.5,
             slope=0, level=50)
result = lsq.fit(spectrum, e, counts, start, sigma=np.sqrt(counts),
                 absolute_sigma=True,
                 bounds={"a": (0, None), "b": (0, None), "c": (0, None),
                         "width": (0.1, 2)})
print(result)

# %%

figure = result.plot(xlabel="energy", ylabel="counts")

# %%
# Quantities derived from the parameters have standard errors too, with all correlations: the
# area of the first line, and the distance between the first two.

print(result.derive(
    area=lambda p: p["a"] * p["width"] * np.sqrt(2 * np.pi),
    apart=lambda p: p["b_at"] - p["a_at"]))
