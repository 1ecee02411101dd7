"""Tables of parameters for other programs: dicts, CSV, LaTeX, pandas."""

from __future__ import annotations

import math

from .format import format_value

__all__ = ["Exports", "plain_numbers"]

_COLUMNS = ("value", "stderr", "status")
_SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
            "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


class Exports:
    """
    The exports that all results with parameters share.

    A class provides `_exported`, which is (name, value, standard error, "free" | "fixed" | "held") for each parameter,
    and `_numbers`, a dict of further values.
    """

    def to_dict(self):
        """
        Everything as plain Python numbers, lists and dicts, which JSON accepts.

        Returns
        -------
        dict
            ``["parameters"][name]`` is a dict of value, stderr and status: "free", "fixed", or "held" by a bound.
            Unknown values (nan) are None.
        """
        rows = {name: dict(zip(_COLUMNS, (_or_none(value), _or_none(stderr), status)))
                for name, value, stderr, status in self._exported()}
        return {"parameters": rows, **{name: plain_numbers(value) for name, value in self._numbers().items()}}

    def to_csv(self, path=None):
        """
        The parameters, their values and standard errors, as comma-separated values with all digits.

        Parameters
        ----------
        path : str or path, optional
            Write to this file; None: return a string.

        Returns
        -------
        str or None
        """
        import csv
        import io
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("parameter", *_COLUMNS))
        for name, value, stderr, status in self._exported():
            writer.writerow((name, repr(float(value)), "" if math.isnan(stderr) else repr(float(stderr)), status))
        return _written(text.getvalue(), path)

    def to_latex(self, path=None, *, digits=2):
        r"""
        The parameters as a ``tabular`` environment, with values rounded according to their standard errors.

        Parameters
        ----------
        path : str or path, optional
            Write to this file; None: return a string.
        digits : int, optional
            Significant digits of the standard errors.

        Returns
        -------
        str or None
        """
        lines = [r"\begin{tabular}{ll}", r"\hline", r"parameter & value \\", r"\hline"]
        for name, value, stderr, status in self._exported():
            text = format_value(value, math.nan if status != "free" else stderr, digits, "latex")
            aside = "" if status == "free" else f" ({status})"
            lines.append(f"{''.join(_SPECIAL.get(c, c) for c in name)} & ${text}${aside} \\\\")
        return _written("\n".join([*lines, r"\hline", r"\end{tabular}", ""]), path)

    def to_dataframe(self):
        """
        The parameters as a pandas DataFrame, a row for each.

        Returns
        -------
        pandas.DataFrame
            With the columns value, stderr and status.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas: pip install pandas; to_dict and to_csv need nothing") from error
        rows = self._exported()
        index = pandas.Index([row[0] for row in rows], name="parameter")
        return pandas.DataFrame([row[1:] for row in rows], index=index, columns=list(_COLUMNS))


def _or_none(value):
    return None if math.isnan(value) else float(value)


def plain_numbers(value):
    """Convert arrays and NumPy numbers to lists and Python numbers, and nan to None."""
    if isinstance(value, dict):
        return {str(name): plain_numbers(one) for name, one in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_numbers(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _written(text, path):
    if path is None:
        return text
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return None
