"""Drop-in replacements of SciPy's functions: `curve_fit`, `least_squares`, and `in_scipy`."""
