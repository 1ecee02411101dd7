"""Measurements of benchmarks/overhead.py and benchmarks/batch.py that asv follows over the history.

They are ratios to SciPy in the same run, because the speed of machines differs, and varies.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import batch  # noqa: E402
import overhead  # noqa: E402

PROBLEMS = {problem.name: problem for problem in (overhead.decay_with_level(), overhead.decay())}
ROUNDS = 20


class SmallFit:
    """One fit of a Python function, with full_output."""

    params = (list(PROBLEMS), list(overhead.METHODS))
    param_names = ("problem", "method")

    def time_fit(self, problem, method):
        problem = PROBLEMS[problem]
        overhead.our_leastsq(problem.residual, problem.start, full_output=True, **overhead.METHODS[method](problem))

    def track_own_time_of_scipy(self, problem, method):
        return overhead.measure(PROBLEMS[problem], method, True, ROUNDS).ratio

    track_own_time_of_scipy.unit = "times ours"


class ManyFits:
    """leastsq_batch of NumPy functions."""

    params = ([False, True],)
    param_names = ("derivatives",)

    def track_fits_of_a_loop_over_scipy(self, derivatives):
        solvers = batch.decay_solvers(derivatives)
        rates = batch.measure({name: solvers[name] for name in ("leastsq_batch", "loop over SciPy")}, *batch.decays(1000), 3)
        return rates["leastsq_batch"]/rates["loop over SciPy"]

    track_fits_of_a_loop_over_scipy.unit = "times theirs"
