"""Uncertainties that can be trusted: a fit, its report, its intervals, and their pictures.

    python examples/uncertainty.py [--plot DIRECTORY]

Fits NIST's MGH09, a rational function whose uncertainties are far from symmetric.  Prints the
report next to the certified values, compares Student's intervals with those from likelihood
profiles, and with --plot draws the pictures of leastsq.plot.
"""
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import strd

import leastsq


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Uncertainties of NIST's MGH09.")
    parser.add_argument("--plot", metavar="DIRECTORY", type=Path, help="draw pictures there")
    options = parser.parse_args(arguments)
    dataset = strd.load("MGH09")

    def model(x, b1, b2, b3, b4):
        return dataset.model([b1, b2, b3, b4], x)

    fit = leastsq.curve_fit(model, dataset.x, dataset.y, dataset.starts[1], full_output=True, covariance="accurate",
                            ftol=1e-15, xtol=1e-15, gtol=0.0, maxfev=2000)
    report = leastsq.report(fit)
    print(report)

    print("\nstandard errors       leastsq          certified        digits")
    digits = strd.correct_digits(report.stderr, dataset.stderr)
    for name, ours, theirs, correct in zip(report.names, report.stderr, dataset.stderr, digits, strict=True):
        print(f"{name:<18} {ours:.10e} {theirs:.10e} {correct:6.1f}")

    print()
    print(leastsq.confidence_intervals(fit))
    print()
    seconds = leastsq.profile_time(fit)
    profiles = leastsq.confidence_intervals(fit, method="profile", points=10)
    print(profiles)
    print("profiles took a fraction of a second, as estimated" if max(seconds, profiles.seconds) < 1
          else f"profiles took {profiles.seconds:.1f} s, the estimate was {seconds:.1f} s")

    if options.plot:
        draw(fit, profiles, options.plot)


def draw(fit, profiles, directory: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    directory.mkdir(parents=True, exist_ok=True)
    figures = {
        "fit": leastsq.plot.fit(fit, prediction=True, title="MGH09", grid=np.linspace(0, 4.2, 400)),
        "residuals": leastsq.plot.residuals(fit, title="MGH09"),
        "correlation": leastsq.plot.correlation(fit, title="MGH09"),
        "profile": leastsq.plot.profile(profiles, title="MGH09"),
    }
    for name, figure in figures.items():
        figure.savefig(directory / f"{name}.png", dpi=130)
    print(f"Pictures: {directory}")


if __name__ == "__main__":
    main()
