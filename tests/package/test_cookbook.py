"""The pages of docs/cookbook run, print what they say and make the picture that they show.

Five of them, the FAQ, the site's first page and the README are in the suite, the others are slow.
"""
import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("cookbook", ROOT / "tools" / "cookbook.py")
cookbook = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cookbook)
PAGES = cookbook.pages()
IN_THE_SUITE = ["derived", "faq", "fixed", "landing", "missing", "outliers", "peaks", "readme"]
RECIPES = {name: page for name, page in PAGES.items() if page.parent == cookbook.COOKBOOK}
PICTURE = re.compile(r"!\[[^\]]+\]\([\w./:-]*pictures/([\w.]+)\)")


def imports_of(page):
    code = "".join(text for kind, text in cookbook.BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "python")
    return set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in IN_THE_SUITE else [pytest.mark.slow])
                                  for name in PAGES])
def test_page_runs(name, tmp_path):
    for module in sorted(imports_of(PAGES[name])):
        pytest.importorskip(module)
    pytest.importorskip("matplotlib")
    found = cookbook.run(PAGES[name], tmp_path)
    assert found
    assert list(cookbook.faults_of(PAGES[name], tmp_path, found)) == []


def test_there_are_twenty_recipes_with_a_picture_each():
    pictures = {name: PICTURE.findall(page.read_text(encoding="utf-8")) for name, page in PAGES.items()}
    recipes = RECIPES.keys() - {"faq"}
    assert len(recipes) >= 20
    assert [name for name in recipes if pictures[name] != [f"{name}.png"]] == []
    shown = {picture for all_of_page in pictures.values() for picture in all_of_page}
    assert {path.name for path in cookbook.PICTURES.iterdir()} == shown


def test_pages_use_the_package_by_one_name():
    assert [name for name, page in PAGES.items() if "\nimport leastsq as lsq\n" not in page.read_text(encoding="utf-8")] == []


def test_the_index_shows_every_recipe():
    index = (cookbook.COOKBOOK / "index.md").read_text(encoding="utf-8")
    cards = re.findall(r"^:::\{grid-item-card\} (.+)\n:link: (\w+)\n", index, re.MULTILINE)
    titles = {name: page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for name, page in RECIPES.items()}
    assert {name: title for title, name in cards} == {name: title for name, title in titles.items() if name != "faq"}


@pytest.mark.parametrize("text, fault", [
    ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "the page says '2', printed is '1'"),
    ("```python\nprint(1)\n```\n\n```text\n1\n2\n```\n", "the page has 2 lines of output, printed are 1"),
    ("```python\n1\n```\n", "it shows no picture"),
    ("```python\n1\n```\n\n![a](cookbook/pictures/a.png)\n", "its code does not make a.png"),
], ids=["another output", "less output", "no picture", "a picture that is not made"])
def test_what_is_wrong_with_a_page_is_reported(text, fault, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert any(fault in said for said in cookbook.faults_of(page, tmp_path, cookbook.run(page, tmp_path)))
