"""
A spot in an image
==================

Images need no ravel(): data, prediction and residuals are images, and masked pixels are ignored.
"""
import numpy as np

import leastsq as lsq

random = np.random.default_rng(9)
u, v = np.meshgrid(np.arange(40.0), np.arange(30.0))


def spot(uv, height, u0, v0, width, level):
    u, v = uv
    return height * np.exp(-0.5 * ((u - u0)**2 + (v - v0)**2) / width**2) + level


image = spot((u, v), 50, 18, 13, 4, 10) + 2 * random.standard_normal(u.shape)
image[10:13, 20] = 4000                     # pixels that are known to be hot
masked = np.ma.masked_greater(image, 1000)
result = lsq.fit(spot, (u, v), masked, [40, 15, 10, 3, 0], sigma=2,
                 absolute_sigma=True)
print(result)

# %%

figure = result.plot()
