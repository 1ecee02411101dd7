"""
Two spectra with a shared width
===============================

One instrument, two samples: both share the width, and each has its own height and position.
"""
import numpy as np

import leastsq as lsq

random = np.random.default_rng(4)
e = np.linspace(0, 10, 120)


def peak(e, height, centre, width):
    return height * np.exp(-0.5 * ((e - centre) / width)**2)


first = peak(e, 5, 4, 0.8) + 0.3 * random.standard_normal(e.size)
second = peak(e, 1, 6, 0.8) + 0.3 * random.standard_normal(e.size)
both = lsq.fit([peak, peak], e, [first, second],
               {"height": 1, "centre": [4, 6], "width": 1},
               own=["height", "centre"])
alone = lsq.fit(peak, e, second, {"height": 1, "centre": 6, "width": 1})
print("the weak line alone:", alone["height"], alone["width"])
print("with the strong one:", both["height[1]"], both["width"])

# %%

figure = both.plot(xlabel="energy", ylabel="signal")

# %%
# A fit of the weak line alone determines its width poorly, and therefore its height too, as
# the joint region of the two shows.

region = alone.contour("height", "width")
print(region)
figure = region.plot()
