"""How a fit ended, in the codes and sentences of SciPy's methods with bounds, and that Levenberg-Marquardt replaced them."""

from __future__ import annotations

from .classes import warn

__all__ = ["FULFILLED", "STATUS", "in_place_of", "known", "scipys_sentence", "too_few", "warn_in_place_of"]

STATUS = {1: 2, 2: 3, 3: 4, 4: 1, 5: 0, 6: 2, 7: 3, 8: 1, 9: -3, 11: -2}        # {our code: SciPy's}
FULFILLED = {6: 1, 7: 2, 8: 4}          # tolerances fulfilled to rounding, which tolerances of zero ask for
_SENTENCES = {
    -2: "`callback` ended the fit.",
    0: "The maximum number of function evaluations is exceeded.",
    1: "`gtol` termination condition is satisfied.",
    2: "`ftol` termination condition is satisfied.",
    3: "`xtol` termination condition is satisfied.",
    4: "Both `ftol` and `xtol` termination conditions are satisfied.",
}
_TO_ROUNDING = {6: "No further reduction of the cost is possible.",
                7: "No further improvement of `x` is possible.",
                8: "The residuals are orthogonal to the Jacobian to machine precision."}
known: list[str] = []           # methods that were replaced; not empty once the process has had the warning


def scipys_sentence(ier):
    """SciPy's sentence for one of our codes; not for 9 and 10, whose sentences name the point."""
    return _TO_ROUNDING.get(ier) or _SENTENCES[STATUS[ier]]


def in_place_of(method):
    """A line for the message of a fit for which another method was named."""
    return f"\n  Levenberg-Marquardt answered in place of method '{method}'."


def too_few(m, free):
    """A line for the message of a fit with fewer residuals, m, than free parameters; else an empty string."""
    return f"\n  Many answers are as good as this one: {m} residuals for {free} free parameters." if m < free else ""


def warn_in_place_of(method, stacklevel):
    """Warn, once in a process, that the algorithm is not the one that was named."""
    if not known:
        known.append(method)
        warn(f"method='{method}': this package has only one algorithm, Levenberg-Marquardt, which takes bounds and losses and "
             "answers in its place. Each result's message says so; this warning is given once.", stacklevel + 1)
