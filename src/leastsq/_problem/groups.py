"""Parameters of different groups, which share no residual, moved in one evaluation: fewer of these for the same differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["GroupedMoves", "Groups", "parse_groups"]

_SHARED = -1            # of a parameter on which any residual may depend; of a residual that no group's parameter changes


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which parameters and which residuals belong together.

    Attributes
    ----------
    of_parameters : ndarray of int, shape (n,)
        The number of each one's group; -1: of none.
    of_rows : ndarray of int, shape (m,), or None
        The same of the residuals; None: to be found out.
    names : sequence of str or None
        Of the parameters, for messages.
    """

    of_parameters: np.ndarray
    of_rows: np.ndarray | None = None
    names: tuple | None = None

    def part(self, which):
        """Those of some of the parameters."""
        names = None if self.names is None else tuple(self.names[j] for j in which)
        return Groups(self.of_parameters[which], self.of_rows, names)

    def name(self, j):
        return f"x[{j}]" if self.names is None else self.names[j]


class GroupedMoves:
    """
    What a function is where single parameters are moved, from points at which one of each group is.

    A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices", IMA Journal of Applied
    Mathematics 13 (1974), 117-119.

    Parameters
    ----------
    groups : Groups
        If it does not know the rows, the parameters are moved one by one the first time, and that tells; a residual which
        parameters of two groups change is an error.
    """

    def __init__(self, groups):
        self.groups = groups
        self.rows = groups.of_rows
        self._by = None                 # which parameter showed a row's group

    def evaluate(self, x, moves, f, evaluate):
        """
        The function at each move alone.

        Parameters
        ----------
        x : ndarray, shape (n,)
        moves : list of (int, number)
            The parameters and where they are moved to.
        f : ndarray, shape (m,)
            The function at x.
        evaluate : callable
            ``evaluate(points)``: the function there, in order.

        Returns
        -------
        list of array
        """
        if self.rows is None:
            values = evaluate([_moved(x, [move]) for move in moves])
            self.rows, self._by = np.full(f.size, _SHARED), np.full(f.size, -1)
            values = [np.atleast_1d(np.asarray(value)) for value in values]
            self._learn(moves, values, f)
            return values
        batches = self._batches(moves)
        found = [None]*len(moves)
        again = []
        for batch, value in zip(batches, evaluate([_moved(x, [moves[k] for k in batch]) for batch in batches])):
            value = np.atleast_1d(np.asarray(value))
            if len(batch) == 1 or value.shape != f.shape:
                for k in batch:
                    found[k] = value
                continue
            if self._by is not None and (_differs(value, f) & (self.rows == _SHARED)).any():
                again += batch          # residuals that no group changed before: whose are they?
                continue
            for k in batch:
                mine = self.rows == self.groups.of_parameters[moves[k][0]]
                found[k] = f.astype(value.dtype)
                found[k][mine] = value[mine]
        if again:
            alone = [np.atleast_1d(np.asarray(v)) for v in evaluate([_moved(x, [moves[k]]) for k in again])]
            self._learn([moves[k] for k in again], alone, f)
            for k, value in zip(again, alone):
                found[k] = value
        return found

    def _batches(self, moves):
        """Lists of moves that are made at once."""
        batches, layers, depth = [], [], {}
        for k, (j, _) in enumerate(moves):
            group = self.groups.of_parameters[j]
            if group == _SHARED:
                batches.append([k])
                continue
            at = depth[group] = depth.get(group, -1) + 1
            if at == len(layers):
                layers.append([])
                batches.append(layers[at])
            layers[at].append(k)
        return batches

    def _learn(self, moves, values, f):
        """Which rows the single moves change, and so whose they are."""
        for (j, _), value in zip(moves, values):
            group = self.groups.of_parameters[j]
            if group == _SHARED or value.shape != f.shape:
                continue
            changed = _differs(value, f)
            foreign = changed & (self.rows != group) & (self.rows != _SHARED)
            if foreign.any():
                row = int(np.argmax(foreign))
                name = self.groups.name
                raise ValueError(f"leastsq: groups: {name(self._by[row])} and {name(j)} are of different groups, and both change "
                                 f"residual {row}")
            self._by[changed & (self.rows == _SHARED)] = j
            self.rows[changed] = group


def _differs(value, f):
    """Which residuals a move changed; of complex steps, by the imaginary part: the real one may be rounded otherwise."""
    if value.dtype.kind == "c":
        return ~(value.imag == 0)
    return (value != f) & ~((value != value) & (f != f))


def _moved(x, moves):
    point = x.astype(np.result_type(x, *(type(value) for _, value in moves)))
    for j, value in moves:
        point[j] = value
    return point


def parse_groups(groups, n):
    """
    The `Groups` of a user's labels.

    Parameters
    ----------
    groups : sequence
        A label for each parameter, anything that can be compared; None: of no group.
    n : int
    """
    if isinstance(groups, (str, bytes)) or not hasattr(groups, "__len__"):
        raise TypeError(f"leastsq: groups must be a label for each of the {n} parameters, None for those on which all residuals "
                        f"may depend, got {type(groups).__name__}")
    labels = list(groups.tolist() if isinstance(groups, np.ndarray) else groups)
    if len(labels) != n:
        raise ValueError(f"leastsq: groups must be a label for each of the {n} parameters, got {len(labels)}")
    numbers, of = {}, []
    for label in labels:
        try:
            of.append(_SHARED if label is None else numbers.setdefault(label, len(numbers)))
        except TypeError:
            raise TypeError(f"leastsq: groups must be labels such as numbers or strings, got a {type(label).__name__}") from None
    return Groups(np.array(of, int))
