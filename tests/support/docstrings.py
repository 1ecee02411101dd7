"""The examples in docstrings, run one docstring at a time: doctest's own search passes public names over,
for they say that they are the package's and not the module's."""
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
    """(what is wrong with the examples of a text, or an empty string; how many there are)."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), of, None, 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    return report.getvalue(), len(test.examples)
