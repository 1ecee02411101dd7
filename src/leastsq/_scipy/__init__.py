"""SciPy's doors: `curve_fit` and `least_squares`."""
