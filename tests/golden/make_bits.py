"""Write bits.json: the bits of what MINPACK computes on the elementary problems.

Made with Debian's libminpack1 (the Fortran of 1980), bound to IEEE constants as
oracle.py describes:

    python tests/golden/make_bits.py

The residuals use only + - * / and sqrt, so they have the same bits on every machine.  The
same must hold for every point at which they are evaluated, for R, the Householder vectors,
Q'f and the scale factors.  Arrays are stored as hashes of their bits, except x.
"""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import problems  # noqa: E402

TOLERANCES = dict(ftol=1.49012e-8, xtol=1.49012e-8)


def digest(array) -> str:
    """A hash of float64 values in Fortran order."""
    values = np.asarray(array, np.float64).ravel(order="F")
    if np.isnan(values).any():
        values = np.where(np.isnan(values), np.nan, values)     # IEEE 754 leaves the bits of nan open
    return hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()[:16]


def bits(fit) -> dict:
    """The entry for a fit by oracle.py or kernels.py."""
    arrays = {"points": [x for _, x in fit.trace], "fvec": fit.fvec, "fjac": fit.fjac,
              "qtf": fit.qtf, "diag": fit.diag}
    return {"info": fit.info, "nfev": fit.nfev, "njev": fit.njev, "x": fit.x.tolist(),
            "ipvt": fit.ipvt.tolist(), **{name: digest(array) for name, array in arrays.items()}}


def fit(where, solver, p, factor):
    """A fit by `where`, the oracle or a compiled core."""
    library = {"lib": "fortran-ieee"} if getattr(where, "__name__", "") == "oracle" else {}
    with np.errstate(all="ignore"):
        if solver == "lmdif":
            return where.lmdif(p.residual, p.start(factor), m=p.m, **TOLERANCES, **library)
        return where.lmder(p.residual, p.jacobian, p.start(factor), m=p.m, **TOLERANCES, **library)


if __name__ == "__main__":
    import oracle
    golden = {name: {solver: bits(fit(oracle, solver, p, factor)) for solver in ("lmdif", "lmder")}
              for name, (p, factor) in problems.runs().items() if p.elementary}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in golden.items())
    (HERE / "bits.json").write_text(f"{{\n{lines}\n}}\n")
