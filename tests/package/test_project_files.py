"""The files that describe the project to package indexes, GitHub and conda are valid and agree with each other.

Also tested: what the build says where a compiler is missing or too old.
"""
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
MESON = (ROOT / "meson.build").read_text(encoding="utf-8")
VERSION = re.search(r"version: '([\d.]+)'", MESON)[1]
REPOSITORY = PROJECT["urls"]["Repository"]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def read_yaml(name):
    return pytest.importorskip("yaml").safe_load(read(name))


# ------------------------------------------------------------ one repository, one version


def test_every_link_to_a_repository_of_ours_is_the_same():
    papers = [path for pattern in ("*.md", "*.cff", "docs/*.md", "docs/*.py", "recipe/*", ".github/**/*.*")
              for path in ROOT.glob(pattern)]
    links = {(path.name, link) for path in papers
             for link in re.findall(r"https://github\.com/[\w.-]+/leastsq\b", path.read_text(encoding="utf-8"))}
    assert {name for name, _ in links} >= {"CITATION.cff", "SECURITY.md", "recipe.yaml", "config.yml"}
    assert {link for _, link in links} == {REPOSITORY}
    assert all(link.startswith((REPOSITORY, PROJECT["urls"]["Documentation"])) for link in PROJECT["urls"].values())


def test_the_version_is_the_same_everywhere():
    assert re.search(r'^  version: "(.*)"$', read("recipe/recipe.yaml"), re.M)[1] == VERSION
    assert read_yaml("CITATION.cff")["version"] == VERSION


def test_changes_begin_with_this_version_or_the_next():
    newest = re.search(r"^## ([\d.]+)", read("CHANGES.md"), re.M)[1]
    assert tuple(map(int, newest.split("."))) >= tuple(map(int, VERSION.split(".")))


def test_the_citation_names_the_paper():
    citation = read_yaml("CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == PROJECT["license"]
    assert [paper["doi"] for paper in citation["references"]] == ["10.1007/BFb0067700"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml")), ids=lambda path: path.stem)
def test_issue_forms_have_what_github_asks_for(form):
    read_form = read_yaml(form.relative_to(ROOT))
    assert read_form["name"] and read_form["description"]
    ids = [field["id"] for field in read_form["body"]]
    assert len(set(ids)) == len(ids) > 0
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in read_form["body"])


@pytest.mark.parametrize("name", [".github/dependabot.yml", ".github/ISSUE_TEMPLATE/config.yml", ".pre-commit-config.yaml",
                                  ".github/workflows/docs.yml"])
def test_settings_are_yaml(name):
    assert isinstance(read_yaml(name), dict)


# ------------------------------------------------------------ Pythons


def pythons_of_classifiers():
    return [found[1] for name in PROJECT["classifiers"] if (found := re.search(r":: Python :: (3\.\d+)$", name))]


def test_wheels_conda_packages_and_continuous_integration_cover_the_pythons_of_the_classifiers():
    pythons = pythons_of_classifiers()
    assert f">={pythons[0]}" == PROJECT["requires-python"]
    tags = ["cp" + version.replace(".", "") for version in pythons]
    built = PYPROJECT["tool"]["cibuildwheel"]["build"].replace("-*", "").split()
    assert [tag for tag in built if not tag.endswith("t")] == tags
    free_threaded = [f"{tag[2]}.{tag[3:]}" for tag in built if tag.endswith("t")]
    assert free_threaded == ["3.14t", "3.15t"]
    assert [re.match(r"[\d.]+(?=\.\*)", python)[0] for python in read_yaml("recipe/variants.yaml")["python"]] == pythons
    jobs = read_yaml(".github/workflows/test.yml")["jobs"]
    assert jobs["suite"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["free-threaded"]["strategy"]["matrix"]["python"] == free_threaded
    assert jobs["elsewhere"]["strategy"]["matrix"]["python"] == [pythons[0], pythons[-1]]


def test_each_python_has_one_lower_bound_of_numpy():
    requirements = pytest.importorskip("packaging.requirements")
    wanted = [requirements.Requirement(text) for text in PROJECT["dependencies"]]
    for version in pythons_of_classifiers():
        assert len([r for r in wanted if r.marker.evaluate({"python_version": version})]) == 1, version


def test_the_module_says_that_it_needs_no_gil():
    module = read("src/shim/module.c")
    assert "{Py_mod_gil, Py_MOD_GIL_NOT_USED}" in module


def test_the_tests_of_the_free_threaded_job_exist():
    steps = read_yaml(".github/workflows/test.yml")["jobs"]["free-threaded"]["steps"]
    named = set(re.findall(r"tests/\w+/test_\w+\.py", "".join(step.get("run", "") for step in steps)))
    assert {name for name in named if not (ROOT / name).exists()} == set()
    use_threads = re.compile(r"^(import threading|from concurrent\.futures import ThreadPoolExecutor)", re.MULTILINE)
    threaded = {f"tests/{room}/{path.name}" for room in ("faults", "fit", "dropin", "many")
                for path in (ROOT / "tests" / room).glob("test_*.py") if use_threads.search(path.read_text(encoding="utf-8"))}
    # Dask's own threads and processes; needs packages that may switch the GIL on
    assert threaded - named == {"tests/many/test_dask.py"}


# ------------------------------------------------------------ the conda recipe


def test_the_recipe_renders_for_each_python():
    rattler = pytest.importorskip("rattler_build")
    recipe = rattler.Stage0Recipe.from_file(ROOT / "recipe" / "recipe.yaml")
    rendered = recipe.render(rattler.VariantConfig.from_file(ROOT / "recipe" / "variants.yaml"))
    assert len(rendered) == len(pythons_of_classifiers())
    for variant in rendered:
        made = variant.recipe.to_dict()
        assert (made["package"]["name"], made["package"]["version"]) == (PROJECT["name"], VERSION)
        compilers = [name.split("_")[0] for name in made["requirements"]["build"]]
        assert "gfortran" in compilers and {"gcc", "clang"} & set(compilers)
        lowest = re.search(r">=([\d.]+)", PROJECT["dependencies"][0])[1]
        assert made["requirements"]["run"] == ["python", f"numpy >={lowest}"]
        host = {name.replace(" ", "") for name in made["requirements"]["host"]}
        assert set(PYPROJECT["build-system"]["requires"]) <= host
        about = made["about"]
        assert (about["summary"], about["license"]) == (PROJECT["description"], PROJECT["license"])
        assert all((ROOT / name).exists() for name in about["license_file"])
        assert all((ROOT / name).exists() for test in made["tests"] for name in test.get("files", {}).get("source", []))


# ------------------------------------------------------------ the build without a compiler


@pytest.fixture
def configure(tmp_path):
    """configure(FC=...) runs `meson setup`, which must fail, and returns what it printed."""
    def run(**environment):
        programs = Path(sys.executable).parent
        meson = programs / "meson" if (programs / "meson").exists() else shutil.which("meson")
        if meson is None:
            pytest.skip("meson is not installed")
        done = subprocess.run([meson, "setup", tmp_path / "build", ROOT], capture_output=True, text=True, check=False,
                              env=os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"} | environment)
        assert done.returncode != 0
        return done.stdout
    return run


SYSTEMS = ["Debian, Ubuntu:", "Fedora, RHEL:", "Alpine:", "Arch:", "macOS:", "Windows:", "conda:"]


@pytest.mark.parametrize("compiler, words", [("CC", "leastsq needs a C compiler"), ("FC", "leastsq needs gfortran 12 or newer")])
def test_a_missing_compiler_ends_in_what_to_install(configure, tmp_path, compiler, words):
    printed = configure(**{compiler: str(tmp_path / "nowhere")})
    assert words in printed
    lines = printed.partition(words)[2].splitlines()
    assert [line.split("  ")[1] for line in lines[1:1 + len(SYSTEMS)]] == SYSTEMS


def test_a_gfortran_that_compiles_nothing_is_a_missing_one(configure, tmp_path):
    broken = tmp_path / "gfortran"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert "found no Fortran compiler that works" in configure(FC=str(broken))


def test_an_old_gfortran_is_named_with_its_version(configure, tmp_path, need_program):
    real = need_program("gfortran")
    old = tmp_path / "gfortran"
    old.write_text("#!/bin/sh\ncase \"$*\" in\n"
                   f"    *-dM*) '{real}' \"$@\" | sed 's/__GNUC__ .*/__GNUC__ 9/' ;;\n    *) exec '{real}' \"$@\" ;;\nesac\n")
    old.chmod(0o755)
    printed = configure(FC=str(old))
    assert re.search(r"needs gfortran 12 or newer, and found gfortran 9\.\d+\.\d+\. Install a newer one", printed)
    for system in ("Ubuntu 22.04:", "RHEL 8 and 9:", "macOS:", "conda:"):
        assert system in printed
