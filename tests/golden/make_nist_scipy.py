"""Write nist_scipy.json: the digits that SciPy's leastsq reaches on NIST's regressions.

Made with SciPy 1.18.1, the reference of the tests:

    python3.12 -m venv /tmp/reference
    /tmp/reference/bin/pip install scipy==1.18.1 numpy
    python tests/golden/make_nist_scipy.py

The digits that lmdif reaches depend on the last bits of the model, in particular of exp:
on NumPy's version and on the processor's vector unit.  So every fit is also repeated
with random changes of the model's last bit, and the fewest digits of these runs are
kept too.  A fingerprint of the residuals tells the test whether it runs with the same
last bits, and so which of the two numbers it may demand.
"""
from __future__ import annotations

import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "examples"))
import strd  # noqa: E402

NOISY_RUNS = 100


def fingerprint(dataset: strd.Dataset) -> str:
    """A hash of the residuals and Jacobians at both starts and at the solution."""
    bits = hashlib.sha256()
    for b in (*dataset.starts, dataset.certified):
        bits.update(np.ascontiguousarray(dataset.residual(b)).tobytes())
        bits.update(np.ascontiguousarray(dataset.jacobian(b)).tobytes())
    return bits.hexdigest()[:16]


def digits(x, dataset) -> int:
    """The correct digits of the worst parameter, rounded down."""
    return int(strd.correct_digits(x, dataset.certified).min())


def golden(dataset, start, with_jacobian, leastsq, rng) -> dict:
    jacobian = dataset.jacobian if with_jacobian else None

    def noisy(b):
        last_bit = rng.integers(-1, 2, size=dataset.m) * np.finfo(float).eps
        return dataset.model(b) * (1 + last_bit) - dataset.y

    x, _, info, _, ier = leastsq(dataset.residual, dataset.starts[start], Dfun=jacobian, full_output=True)
    reached = digits(x, dataset)
    fewest = min(digits(leastsq(noisy, dataset.starts[start], Dfun=jacobian, full_output=True)[0], dataset)
                 for _ in range(NOISY_RUNS))
    return {"data set": dataset.name, "start": start + 1, "jacobian": with_jacobian,
            "ier": int(ier), "nfev": int(info["nfev"]),
            "digits": reached, "digits under noise": min(reached, fewest)}


def main() -> None:
    import scipy
    from scipy.optimize import leastsq

    rng = np.random.default_rng(20260101)
    datasets = strd.load_all()
    with np.errstate(all="ignore"):
        record = {
            "made by": "tests/golden/make_nist_scipy.py",
            "versions": {"scipy": scipy.__version__, "numpy": np.__version__,
                         "python": platform.python_version(), "machine": platform.machine()},
            "fingerprints": {d.name: fingerprint(d) for d in datasets},
            "fits": [golden(d, start, with_jacobian, leastsq, rng)
                     for d in datasets for start in (0, 1) for with_jacobian in (False, True)],
        }
    # One fit on each line, so that a changed number is one changed line.
    fits = ",\n".join("  " + json.dumps(fit) for fit in record.pop("fits"))
    text = json.dumps(record, indent=1)[:-2] + ',\n "fits": [\n' + fits + "\n ]\n}\n"
    json.loads(text)
    (HERE / "nist_scipy.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
