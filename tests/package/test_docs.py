"""Every example in a docstring and on a page of docs/ runs and prints what it says it prints."""
import contextlib
import importlib
import io
import pkgutil
import re
from pathlib import Path

import pytest

import leastsq
from docstrings import docstrings, run_examples
from leastsq import dask

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["", *sorted(module.name.removeprefix("leastsq.") for module in pkgutil.walk_packages(leastsq.__path__, "leastsq.")
                       if not module.name.endswith((".__main__", "._core")))]
OF_ASTROPY = ("astropy", "_scipy.astropy_fitter")
PAGES = sorted((ROOT / "docs").glob("*.md"))                    # test_cookbook.py runs those of the cookbook
ALL_PAGES = [*PAGES, *sorted((ROOT / "docs" / "cookbook").glob("*.md"))]
WIDEST_CODE = 78                                                # columns: what a page shows without scrolling


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    if name == "plot":
        pytest.importorskip("matplotlib")
    if name == "dask":
        pytest.importorskip("distributed")
    if name in OF_ASTROPY:
        pytest.importorskip("astropy.modeling")
        importlib.import_module("leastsq.astropy")      # before the module of its class, which astropy imports
    module = importlib.import_module(f"leastsq.{name}".strip("."))
    assert "".join(run_examples(text, vars(module), of)[0] for of, text in docstrings(module)) == ""


def test_no_reference_reads_as_an_item_of_a_list():
    """In reStructuredText a line "P. J. Huber ..." alone is item P of a list; one that goes on in a second line is not."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py*")]
    alone = re.compile(r"^ *\.\. \[\d+\] [A-Z]\. .*\n(?=\n| *\.\. | *\"\"\")", re.M)
    references = [line for text in sources for line in alone.findall(text)]
    assert references == []
    assert sum(len(re.findall(r"^ *\.\. \[\d+\] [A-Z]\. ", text, re.M)) for text in sources) > 5


def test_the_examples_of_docstrings_are_found():
    modules = [importlib.import_module(f"leastsq.{name}".strip(".")) for name in MODULES
               if name not in ("plot", "dask", *OF_ASTROPY)]
    found = [(of, text.count(">>> ")) for module in modules for of, text in docstrings(module) if ">>> " in text]
    assert sum(count for _, count in found) == sum(
        len(re.findall("^ *>>> ", Path(module.__file__).read_text(encoding="utf-8"), re.M)) for module in modules) > 100
    assert {"CFunction", "from_numba", "explain", "leastsq", "t_quantile"} <= {of for of, _ in found}


def test_every_public_function_has_an_example():
    public = [getattr(leastsq, name) for name in leastsq.__all__]
    public += [getattr(leastsq.plot, name) for name in leastsq.plot.__all__]
    public += [getattr(dask, name) for name in dask.__all__]
    functions = [f for f in public if callable(f) and not isinstance(f, type)]
    assert [f.__name__ for f in functions if ">>>" not in f.__doc__] == []


def without_counts(printed):
    """Reports without their numbers of calls: exp of another NumPy or processor has other last bits, which decide them."""
    return re.sub(r"(calls of the \w+ +)\d+", r"\1-", printed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page, tmp_path, monkeypatch):
    """Run a page's Python blocks in order; each must print what the ```text block after it shows."""
    monkeypatch.chdir(tmp_path)                         # pictures are saved there
    source = page.read_text(encoding="utf-8")
    if "leastsq.dask" in source:
        pytest.importorskip("distributed")
    if "from_numba" in source:
        pytest.importorskip("numba")
    if "leastsq.plot" in source:
        pytest.importorskip("matplotlib").use("Agg")
    if "from astropy" in source:
        pytest.importorskip("astropy.modeling")
    if "import lmfit" in source:
        pytest.importorskip("lmfit")
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", source, re.MULTILINE | re.DOTALL)
    names = {"__name__": "__main__"}
    printed = None
    for kind, text in blocks:
        if kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(text, page.name, "exec"), names)
            printed = stream.getvalue()
        elif printed is not None:
            assert without_counts(printed).splitlines() == without_counts(text).splitlines()
            printed = None


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_links_and_pictures_of_pages_exist(page):
    links = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.stem)
def test_links_lead_to_a_heading(page):
    """"page.md#heading" of the documentation's own pages: GitHub's anchors, which are the site's too."""
    wrong = []
    for link, anchor in re.findall(r"\]\(([\w./]*\.md)?#([^)]+)\)", page.read_text(encoding="utf-8")):
        text = ((page.parent / link) if link else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
        if anchor not in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}:
            wrong.append(f"{link}#{anchor}")
    assert wrong == []


def test_tests_that_a_page_names_exist():
    named = {name for page in ALL_PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    defined = {name for path in (ROOT / "tests").rglob("test_*.py")
               for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert len(named) > 20
    assert sorted(named - defined) == []


@pytest.mark.parametrize("page", [*ALL_PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_code_is_no_wider_than_a_page(page):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [line for block in blocks for line in block.splitlines() if len(line) > WIDEST_CODE] == []


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r"^```\{toctree\}\n(.*?)^```", "".join(page.read_text(encoding="utf-8") for page in ALL_PAGES),
                        re.MULTILINE | re.DOTALL)
    names = {line.rpartition("/")[2] for block in listed for line in block.splitlines()} | {"index"}
    assert {page.stem for page in ALL_PAGES} <= names
    assert "cookbook/index" in {line for block in listed for line in block.splitlines()}


def test_every_public_name_is_in_the_reference():
    reference = (ROOT / "docs" / "api" / "index.rst").read_text(encoding="utf-8")
    names = set(re.findall(r"^   ([\w.]+)$", reference, re.MULTILINE))
    public = set(leastsq.__all__) - {"plot", "__version__"} | {f"plot.{name}" for name in leastsq.plot.__all__}
    public |= {f"dask.{name}" for name in dask.__all__}
    public |= {"astropy.LeastsqFitter"}                 # astropy may be absent
    assert names == public
