"""Michaelis-Menten kinetics: a small problem that tests of the interface share.

Residuals and Jacobian use only + - * /, so that they have the same bits on every machine.
"""
import numpy as np

T = np.arange(1.0, 13.0)
Y = 3 * T / (2 + T) + np.array([1, -2, 3, -1, 0, 2, -3, 1, 1, -2, 0, 1]) / 64
X0 = (1.0, 1.0)


def residual(p, t=T, y=Y):
    return p[0] * t / (p[1] + t) - y


def jacobian(p, t=T, y=Y):
    return np.stack([t / (p[1] + t), -p[0] * t / (p[1] + t) ** 2], axis=1)


def by_columns(p, t=T, y=Y):
    return jacobian(p, t, y).T


class At:
    """`function`, with its result changed by `change` at call number k only."""

    def __init__(self, function, change, k):
        self.function, self.change, self.k, self.calls = function, change, k, 0

    def __call__(self, x, *args):
        self.calls += 1
        result = self.function(x, *args)
        return self.change(result) if self.calls == self.k else result
