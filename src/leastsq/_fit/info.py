"""The infodict of a fit: a dict that knows the problem that was fitted."""

from __future__ import annotations

__all__ = ["Info"]


class Info(dict):
    """
    A dict with the outputs of a fit, and the `Problem` that was fitted as ``problem``.

    It pickles and copies as a plain dict, without the problem, because functions often cannot be pickled.

    Parameters
    ----------
    source : Problem or tuple
        The problem, or a function and its arguments that make it when it is first asked for.
    """

    __slots__ = ("_source",)

    def __init__(self, items, source):
        super().__init__(items)
        self._source = source

    @property
    def problem(self):
        """The `Problem` that was fitted."""
        if isinstance(self._source, tuple):
            make, *arguments = self._source
            self._source = make(*arguments)
        return self._source

    def derive(self, make, *facts):
        """Replace the problem by ``make(problem, *facts)``, which adds facts that the calling function knows."""
        source = self._source
        self._source = (_derived, source, make, facts)

    def copy(self):
        return dict(self)

    __copy__ = copy

    def __reduce__(self):
        return dict, (dict(self),)


def _derived(source, make, facts):
    if isinstance(source, tuple):
        source = source[0](*source[1:])
    return make(source, *facts)
