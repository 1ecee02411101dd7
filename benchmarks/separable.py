"""NIST's 54 fits with linear parameters solved for in each evaluation: fits solved, evaluations, uncertainties.

    python benchmarks/separable.py [--strategy minpack]

Evaluations are counted in two ways: all calls of the model; and evaluations of the projected residuals, plus one for
each nonlinear parameter in a Jacobian, as is usual for variable projection.
*Solved*: at most a thousandth above NIST's sum of squares.  The last column is the largest relative difference of a
standard error from that of the whole model's exact Jacobian at the same point.
"""
import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

import leastsq as lsq
from leastsq._projection import separable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))
import nist27  # noqa: E402


def exact_stderr(d, x):
    J, f = d.jacobian(x), d.residual(x)
    size = np.linalg.norm(J, axis=0)
    return np.linalg.norm(np.linalg.inv(np.linalg.qr(J/size)[1]), axis=1)/size*np.sqrt(f @ f/(f.size - x.size))


def one(d, start, how, strategy):
    """(solved, calls, projected evaluations, error of the uncertainties)."""
    made = []

    class Remembered(separable.SeparableFit):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)
    lsq._model.fit.SeparableFit = Remembered
    before = d.count[0]
    result = lsq.fit(d.model, d.x, d.y, start, separable=how, strategy=strategy)
    calls = d.count[0] - before
    projected = made[0]._projected if made else None
    inner = calls if projected is None else projected.evaluations + made[0].jacobians*projected.rest.size
    off = np.max(np.abs(result.stderr/exact_stderr(d, result.x) - 1)) if result.success else np.nan
    return d.is_solved(result.chi2, start), calls, inner, off, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", choices=["fast", "minpack", "robust"], default="fast")
    strategy = parser.parse_args().strategy
    warnings.simplefilter("ignore")
    totals = np.zeros(7)
    print(f"{'':10} {'whole model':>18} {'named':>26} {'found by probing':>26}   stderr")
    for name in nist27.NAMES:
        d = nist27.load(name)
        for number, start in enumerate(d.starts, 1):
            whole = lsq.fit(d.model, d.x, d.y, start, strategy=strategy)
            ok = d.is_solved(whole.chi2, start)
            named = one(d, start, d.linear or None, strategy)
            found = one(d, start, True, strategy)
            row = [ok, whole.nfev, *named[:3], *found[:2]]
            totals += row
            print(f"{name:8} {number} {'' if ok else 'missed':>8} {whole.nfev:9} {'' if named[0] else 'missed':>8} "
                  f"{named[1]:7} calls {named[2]:5} {'' if found[0] else 'missed':>8} {found[1]:7} calls   {named[3]:.1e}")
    solved, calls, named, of_named, inner, found, of_found = totals.astype(int)
    print(f"solved {solved}, {named}, {found} of 54; calls {calls}, {of_named}, {of_found}; projected evaluations {inner}")


if __name__ == "__main__":
    main()
