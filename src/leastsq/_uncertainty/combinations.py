"""Name the combination of parameters that the data determine, where they do not determine each parameter."""

from __future__ import annotations

import numpy as np

__all__ = ["describe_direction"]

_PARTNER = 1e-3         # of the largest effect along a direction: parameters with smaller effects are not part of it
_TANGENT = 1e-3         # relative: how well a direction must agree with a combination before that is tried
_SAME = 1e-9            # of the change by one parameter alone: the most that residuals may change along a combination
_NEARLY_SAME = 1e-4
_MOVES = (0.1, -0.1, 0.01, -0.01)


def describe_direction(direction, effects, x, labels, evaluate, hardly=False, others=False):
    """
    Sentences about a direction along which residuals change little or not at all.

    Parameters
    ----------
    direction : ndarray, shape (n,)
        In the parameters' own units.
    effects : ndarray, shape (n,)
        Its components in units of the change of the residuals by each parameter alone, which makes partners alike.
    x : ndarray, shape (n,)
    labels : sequence of str
    evaluate : callable or None
        ``evaluate(x)`` returns the residuals, or None where they are not finite. A combination is named only
        after a finite move along it has changed nothing, or hardly anything.
    hardly : bool
        Residuals change a little along the direction; otherwise, not at all.
    others : bool
        The direction is one of several, which may share parameters.
    """
    effect, determine = (("hardly changes the residuals", "determine well only") if hardly else
                         ("leaves the residuals as they are", "determine only"))
    same = _NEARLY_SAME if hardly else _SAME
    parts = np.flatnonzero(np.abs(effects) > _PARTNER*np.abs(effects).max())
    names = [labels[j] for j in parts]
    if parts.size == 1:
        return [f"Changing {names[0]} {effect}.", f"Fix {names[0]}, or take it out of the model."]
    found = _combination(direction, x, parts, names, evaluate, same) if parts.size == 2 else None
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    lines = [f"Changing {_steps(direction, x, parts, names, found)} together {effect}"
             f"{'' if found else ', to first order'}."]
    if found:
        lines.append(f"{'With the others held, the' if others else 'The'} data {determine} {found[0]}.")
    less = "in place of them" if parts.size == 2 else "fewer"
    return [*lines, f"Fix one of {listed}, or write the model with one parameter {less}."]


def _steps(direction, x, parts, names, found):
    relative = not (found and found[1]) and (x[parts] != 0).all()
    steps = direction[parts]/x[parts] if relative else direction[parts]
    steps = steps/abs(steps[0])*np.sign(steps[0])
    said = [f"{name} by {step:+.4g}{' %' if relative else ''}" for name, step in zip(names, steps)]
    return f"{', '.join(said[:-1])} and {said[-1]}"


def _combination(direction, x, parts, names, evaluate, same):
    """(the combination of two parameters that the data determine, is it a sum?) if a move along it shows so; or None."""
    a, b = parts
    slope = direction[b]/direction[a]           # of b, as a grows by 1
    candidates = []
    if x[a] != 0 and x[b] != 0:
        relative = slope*x[a]/x[b]
        if abs(relative + 1) < _TANGENT:
            candidates.append((f"the product of {names[0]} and {names[1]}", False, lambda t: (x[a]*(1 + t), x[b]/(1 + t))))
        if abs(relative - 1) < _TANGENT:
            candidates.append((f"the ratio of {names[0]} and {names[1]}", False, lambda t: (x[a]*(1 + t), x[b]*(1 + t))))
    size = max(abs(x[a]), abs(x[b]/slope)) or 1.0
    for sign, word in ((-1.0, "sum"), (1.0, "difference")):
        if abs(slope - sign) < _TANGENT:
            candidates.append((f"the {word} of {names[0]} and {names[1]}", True,
                               lambda t, sign=sign: (x[a] + t*size, x[b] + sign*t*size)))
    if not 0.999 < abs(slope) < 1.001:
        sign = "-" if slope > 0 else "+"
        candidates.append((f"{names[0]} {sign} {abs(1/slope):.4g}*{names[1]}", True,
                           lambda t: (x[a] + t*size, x[b] + slope*t*size)))
    for words, straight, move in candidates:
        if _changes_nothing(move, x, parts, evaluate, same):
            return words, straight
    return None


def _changes_nothing(move, x, parts, evaluate, same):
    if evaluate is None:
        return False
    here = evaluate(x)
    for t in _MOVES:
        both, one = x.copy(), x.copy()
        both[parts] = move(t)
        one[parts[0]] = both[parts[0]]
        along, across = evaluate(both), evaluate(one)
        if along is None or across is None:
            continue
        change = np.linalg.norm(across - here)
        if change > 0:
            return bool(np.linalg.norm(along - here) <= same*change + 1e-13*np.linalg.norm(here))
    return False
