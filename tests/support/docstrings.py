"""Run the examples in docstrings, one docstring at a time.

Doctest's own search skips the public names, whose `__module__` is the package instead of the module that holds them.
"""
import ast
import contextlib
import doctest
import io
from pathlib import Path


def docstrings(module):
    """(name, text) of every docstring in a module's source."""
    path = Path(module.__file__)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", path.stem), text


def run_examples(text, names=(), of="docstring"):
    """(what is wrong with the examples of a docstring, or an empty string; the number of examples)."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), of, None, 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    return report.getvalue(), len(test.examples)
