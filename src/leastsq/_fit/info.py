"""The infodict of a fit: a dict that knows the problem that was fitted."""

from __future__ import annotations

__all__ = ["Info"]


class Info(dict):
    """
    A dict with the outputs of a fit, and the `Problem` that was fitted as ``problem``.

    It pickles and copies as a plain dict, without the problem, because functions often cannot be pickled.

    Attributes
    ----------
    source : Problem or tuple
        The problem, or a function and its arguments that make it when it is first asked for.
    """

    __slots__ = ("source",)         # set after construction: an __init__ of its own would double a small fit's cost of info

    @classmethod
    def of(cls, source, items):
        """With these items, and this `source`."""
        info = cls(items)
        info.source = source
        return info

    @property
    def problem(self):
        """The `Problem` that was fitted."""
        if isinstance(self.source, tuple):
            make, *arguments = self.source
            self.source = make(*arguments)
        return self.source

    def derive(self, make, *facts):
        """Replace the problem by ``make(problem, *facts)``, which adds facts that the calling function knows."""
        self.source = (_derived, self.source, make, facts)

    def copy(self):
        return dict(self)

    __copy__ = copy

    def __reduce__(self):
        return dict, (dict(self),)


def _derived(source, make, facts):
    if isinstance(source, tuple):
        source = source[0](*source[1:])
    return make(source, *facts)
