"""``python -m leastsq``: how this copy was built."""

from ._config import show_config

show_config()
