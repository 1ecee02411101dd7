"""Differences with fewer evaluations: parameters of different groups, which share no residual, move in one evaluation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["GroupedMoves", "Groups", "parse_groups"]

_SHARED = -1            # the group of parameters on which any residual may depend, and of residuals that no group changes


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of parameters, and of the residuals that depend on them.

    Attributes
    ----------
    of_parameters : ndarray of int, shape (n,)
        The number of each parameter's group; -1: no group.
    of_rows : ndarray of int, shape (m,), or None
        The number of each residual's group; None: not known yet.
    names : sequence of str or None
        The names of the parameters, for messages.
    """

    of_parameters: np.ndarray
    of_rows: np.ndarray | None = None
    names: tuple | None = None

    def part(self, which):
        """The groups of some of the parameters."""
        names = None if self.names is None else tuple(self.names[j] for j in which)
        return Groups(self.of_parameters[which], self.of_rows, names)

    def name(self, j):
        return f"x[{j}]" if self.names is None else self.names[j]


class GroupedMoves:
    """
    The values of a function with single parameters moved, from points at which one parameter of each group is moved.

    A. R. Curtis, M. J. D. Powell, J. K. Reid, "On the estimation of sparse Jacobian matrices", IMA Journal of Applied
    Mathematics 13 (1974), 117-119.

    Parameters
    ----------
    groups : Groups
        If `of_rows` is None, the parameters are moved one by one the first time, which shows the group of each residual;
        a residual that changes with parameters of two groups is an error.
    """

    def __init__(self, groups):
        self.groups = groups
        self.rows = groups.of_rows
        self._by = None                 # the parameter that showed each row's group

    def evaluate(self, x, moves, f, evaluate):
        """
        The function at each move alone.

        Parameters
        ----------
        x : ndarray, shape (n,)
        moves : list of (int, number)
            Each parameter that is moved, and its new value.
        f : ndarray, shape (m,)
            The function at x.
        evaluate : callable
            ``evaluate(points)``: the values of the function at the points, in order.

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
                again += batch          # changed residuals of no known group: move one by one to find it
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
        """Lists of the moves that are made in one evaluation."""
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
        """Learn the groups of the rows from the rows that single moves change."""
        for (j, _), value in zip(moves, values):
            group = self.groups.of_parameters[j]
            if group == _SHARED or value.shape != f.shape:
                continue
            changed = _differs(value, f)
            foreign = changed & (self.rows != group) & (self.rows != _SHARED)
            if foreign.any():
                row = int(np.argmax(foreign))
                name = self.groups.name
                raise ValueError(f"leastsq: groups: {name(self._by[row])} and {name(j)} are in different groups, but both change "
                                 f"residual {row}")
            self._by[changed & (self.rows == _SHARED)] = j
            self.rows[changed] = group


def _differs(value, f):
    """A mask of the residuals that a move changed; with complex steps by the imaginary part, because rounding may change
    the real part."""
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
    The `Groups` made of a user's labels.

    Parameters
    ----------
    groups : sequence
        A label for each parameter, any hashable object; None: no group.
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
