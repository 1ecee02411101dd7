"""Functions that watch a fit: the callback, the history, the table, the progress bar."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

__all__ = ["State", "Watcher"]

_MOST_VERBOSE = 3
_FIELDS = ("x", "fnorm", "actual", "predicted", "ratio", "radius", "par", "gnorm", "accepted",
           "nfev")


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """The state of a fit at a point whose Jacobian has just been computed.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The best point so far; a copy.
    fnorm : float
        Norm of the residuals at `x`; with a loss, the square root of twice the cost.
    cost : float
        ``0.5*fnorm**2``.
    gnorm : float
        Largest cosine between the residuals and a column of the Jacobian, for the
        parameters that no bound holds.
    radius : float
        Radius of the trust region for the next step.
    nfev, njev : int
        Number of evaluations, and of Jacobians, so far.
    iteration : int
        Counted from 1.
    """

    x: np.ndarray
    fnorm: float
    cost: float
    gnorm: float
    radius: float
    nfev: int
    njev: int
    iteration: int


class Watcher:
    """Called by the core at every event: see watch.c for the arguments.

    The state after an event holds the next trial and its radius. So the facts about
    a trial come with two events, of which `last` is the earlier.
    """

    def __init__(self, watching, maxfev, extra_nfev):
        callback, verbose = watching.callback, watching.verbose
        if callback is not None and not callable(callback):
            raise TypeError(f"leastsq: callback must be callable or None, got "
                            f"{type(callback).__name__}")
        if isinstance(verbose, bool):
            verbose = int(verbose)
        if verbose not in range(_MOST_VERBOSE + 1):
            raise ValueError(f"`verbose` must be in [0, 1, 2, 3], got {verbose!r}.")
        self.callback = callback
        self.records = [] if watching.history else None
        self.verbose = verbose
        self.maxfev = maxfev            # checked here, because the core does not count all evaluations
        self.extra_nfev = extra_nfev
        self.reached_maxfev = False
        self.first = self.last = None
        self.shown = None
        self.bar = _progress_bar() if verbose == 3 else None

    @property
    def is_wanted(self):
        """Is there anything to do at events?"""
        return self.callback is not None or self.records is not None or self.verbose > 0 or self.maxfev is not None

    def __call__(self, *event):
        """Take an event, with the arguments of watch.c; a true result ends the fit."""
        (kind, accepted, x, trial, fnorm, gnorm, radius, par, actual, predicted, ratio, nfev, njev, iteration) = event
        nfev += self.extra_nfev()
        last, now = self.last, SimpleNamespace(x=x, trial=trial, fnorm=fnorm, gnorm=gnorm,
                                               radius=radius, par=par)
        self.last = now
        if self.first is None:
            self.first = now
        if self.bar is not None:
            self.bar.update(nfev - self.bar.n)
            self.bar.set_postfix(cost=f"{0.5*fnorm**2:.4e}", refresh=False)
        if kind == 1:
            return self._at_model(now, nfev, njev, iteration)
        if self.records is not None and kind == 0:
            self._record(last, now, bool(accepted), actual, predicted, ratio, nfev)
        if self.maxfev is not None and nfev >= self.maxfev and last is not None:
            self.reached_maxfev = True
            return True
        return False

    def _at_model(self, now, nfev, njev, iteration):
        if self.records:
            for record in reversed(self.records):
                if record["accepted"]:
                    record["gnorm"] = now.gnorm
                    break
        if self.verbose == 2:
            self._print_row(now, nfev, iteration)
        if self.callback is None:
            return False
        state = State(now.x.copy(), now.fnorm, 0.5*now.fnorm**2, now.gnorm, now.radius, nfev,
                      njev, iteration)
        try:
            answer = self.callback(state)
        except StopIteration:
            return True
        return answer is not None and bool(answer)

    def _record(self, last, now, accepted, actual, predicted, ratio, nfev):
        """Record a trial; the start counts as a trial without a step."""
        if last is None:
            nan = np.nan
            values = (now.x, now.fnorm, nan, nan, nan, nan, nan, nan, True, nfev)
        else:
            if accepted:
                fnorm = now.fnorm
            elif actual == -1:          # hopeless: the core did not keep its norm
                fnorm = np.nan
            else:
                fnorm = last.fnorm*np.sqrt(1 - actual)
            gnorm = np.nan if accepted else last.gnorm
            values = (last.trial, fnorm, actual, predicted, ratio, last.radius, last.par, gnorm,
                      accepted, nfev)
        self.records.append(dict(zip(_FIELDS, values)))

    def history(self):
        """One array for each field, a row or an entry for each trial."""
        return {name: np.array([record[name] for record in self.records]) for name in _FIELDS}

    def _print_row(self, now, nfev, iteration):
        cost, before = 0.5*now.fnorm**2, self.shown
        if before is None:
            print(f"{'Iteration':^11}{'Evaluations':^13}{'Cost':^14}{'Cost reduction':^16}"
                  f"{'Step norm':^12}{'Gradient':^12}{'Radius':^12}")
            changes = f"{'':^16}{'':^12}"
        else:
            step = np.linalg.norm(now.x - before.x)
            changes = f"{0.5*before.fnorm**2 - cost:^16.2e}{step:^12.2e}"
        self.shown = now
        print(f"{iteration:^11}{nfev:^13}{cost:^14.4e}{changes}{now.gnorm:^12.2e}"
              f"{now.radius:^12.2e}", flush=True)

    def close(self):
        if self.bar is not None:
            self.bar.close()

    def finish(self, nfev, message):
        """Print the last lines: how the fit ended, and the costs."""
        if self.verbose and self.first is not None:
            print(f"{' '.join(message.split())}\nEvaluations {nfev}, initial cost "
                  f"{0.5*self.first.fnorm**2:.4e}, final cost {0.5*self.last.fnorm**2:.4e}, "
                  f"gradient {self.last.gnorm:.2e}.", flush=True)


def _progress_bar():
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(desc="leastsq", unit=" evaluations")
