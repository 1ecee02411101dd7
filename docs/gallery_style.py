"""The gallery's pictures have the style of all others; Sphinx-Gallery calls this before each script."""
from pathlib import Path

STYLE = Path(__file__).resolve().parent / "_static" / "leastsq.mplstyle"


def one_style(_conf, _file):
    import matplotlib.pyplot as plt
    plt.style.use(["default", STYLE])
