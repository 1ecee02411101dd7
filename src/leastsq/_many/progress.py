"""The progress of a long computation: tqdm's bar if it is installed, else a line."""

from __future__ import annotations

import sys
import time

__all__ = ["progress_of"]

_SECONDS_BETWEEN = 0.1


class progress_of:
    """A context manager that gives a function of the number of fits done, or None if no progress is wanted.

    `wanted` is False or None, True for tqdm's bar or a plain line on standard
    error, or a function that takes the number done and the total.  (It is not a generator, because contextlib sets
    attributes of exceptions that pass through, which fails for frozen ones.)
    """

    def __init__(self, wanted, total):
        self.wanted, self.total, self.bar = wanted, total, None

    def __enter__(self):
        if not self.wanted:
            return None
        if callable(self.wanted):
            return lambda done: self.wanted(done, self.total)
        self.bar = _bar(self.total)
        return self.bar.show

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()


def _bar(total):
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _Line(total)
    return _Tqdm(tqdm(total=total, unit="fits", unit_scale=True))


class _Tqdm:
    def __init__(self, bar):
        self.bar = bar

    def show(self, done):
        self.bar.update(done - self.bar.n)

    def close(self):
        self.bar.close()


class _Line:
    def __init__(self, total):
        self.total = total
        self.shown = 0.0

    def show(self, done):
        now = time.monotonic()
        if now - self.shown >= _SECONDS_BETWEEN or done == self.total:
            self.shown = now
            print(f"\r{done} of {self.total} fits", end="", file=sys.stderr, flush=True)

    def close(self):
        print(file=sys.stderr, flush=True)
