"""Every example in a docstring and on a page of docs/ runs and gives what it says."""
import ast
import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import leastsq
from leastsq import dask

ROOT = Path(__file__).resolve().parent.parent
MODULES = ["", *sorted(module.name.removeprefix("leastsq.") for module in pkgutil.walk_packages(leastsq.__path__, "leastsq.")
                       if not module.name.endswith((".__main__", "._core")))]
PAGES = sorted((ROOT / "docs").glob("*.md"))


def docstrings(module):
    """{name: text}, from the source: public names say that they are the package's, and doctest would pass them over."""
    path = Path(module.__file__)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", path.stem), text


def examples_fail(name, text, names):
    """What is wrong with the examples of a docstring, or an empty string."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), name, None, 0)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        doctest.DocTestRunner(verbose=False).run(test, out=report.write)
    return report.getvalue()


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name == "plot":
        pytest.importorskip("matplotlib")
    if name == "dask":
        pytest.importorskip("distributed")
    module = importlib.import_module(f"leastsq.{name}".strip("."))
    assert "".join(examples_fail(of, text, vars(module)) for of, text in docstrings(module)) == ""


def test_the_examples_of_docstrings_are_found():
    modules = [importlib.import_module(f"leastsq.{name}".strip(".")) for name in MODULES
               if name not in ("plot", "dask")]
    found = {of: text.count(">>> ") for module in modules for of, text in docstrings(module) if ">>> " in text}
    assert sum(found.values()) == sum(len(re.findall("^ *>>> ", Path(module.__file__).read_text(encoding="utf-8"), re.M))
                                      for module in modules) > 100
    assert {"CFunction", "from_numba", "explain", "leastsq", "t_quantile"} <= set(found)


def test_docstring_of_the_accumulator():
    assert ">>> " in leastsq.RowAccumulator.__doc__
    assert examples_fail("RowAccumulator", leastsq.RowAccumulator.__doc__, {}) == ""


def test_every_public_function_has_an_example():
    public = [getattr(leastsq, name) for name in leastsq.__all__]
    public += [getattr(leastsq.plot, name) for name in leastsq.plot.__all__]
    public += [getattr(dask, name) for name in dask.__all__]
    functions = [f for f in public if callable(f) and not isinstance(f, type)]
    assert [f.__name__ for f in functions if ">>>" not in f.__doc__] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page):
    """A page's Python blocks run one after another; what stands in the next ```text block is printed."""
    source = page.read_text(encoding="utf-8")
    if "leastsq.dask" in source:
        pytest.importorskip("distributed")
    if "from_numba" in source:
        pytest.importorskip("numba")
    if "leastsq.plot" in source:
        pytest.importorskip("matplotlib").use("Agg")
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", source, re.MULTILINE | re.DOTALL)
    names = {"__name__": "__main__"}
    printed = None
    for kind, text in blocks:
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(text, page.name, "exec"), names)
            printed = stream.getvalue()
        elif printed is not None:
            assert printed.splitlines() == text.splitlines()
            printed = None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_of_pages_exist(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^```\{toctree\}\n(.*?)^```", "".join(page.read_text(encoding="utf-8") for page in PAGES),
                        re.MULTILINE | re.DOTALL)
    names = {line for block in listed for line in block.splitlines()}
    assert {page.stem for page in PAGES} - {"index"} <= names


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    names = set(re.findall(r"^   ([\w.]+)$", reference, re.MULTILINE))
    public = set(leastsq.__all__) - {"plot", "__version__"} | {f"plot.{name}" for name in leastsq.plot.__all__}
    public |= {f"dask.{name}" for name in dask.__all__}
    assert names == public
