"""How Sphinx builds the site: `make docs`, which leaves it in build/html."""
import os
import sys
from pathlib import Path

import leastsq

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import inventories                                      # noqa: E402

# sphinx-gallery runs the scripts in processes and folders of its own choice.
os.environ["MPLBACKEND"] = "Agg"

project = "leastsq"
author = "The leastsq developers"
copyright = author                                      # noqa: A001 (Sphinx's name)
release = version = leastsq.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",                           # formulas without a network
]
exclude_patterns = ["gallery/**/*.py", "gallery/**/*.ipynb", "gallery/**/*.zip", "api/generated/*.txt"]

# --- pages in Markdown, as GitHub reads them
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# --- reference
autosummary_generate = True
autodoc_typehints = "none"                              # numpydoc's text says more
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
default_role = "autolink"
intersphinx_mapping = inventories.write(HERE.parent / "build/inventories")

# --- gallery
sphinx_gallery_conf = {
    "reset_modules": ("matplotlib", "gallery_style.one_style"),
    "thumbnail_size": (600, 400),
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),                                 # what is printed, no more
    "show_memory": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,                           # timings belong in benchmarks
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": ("matplotlib",),
}

# --- looks
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"leastsq {release}"
html_static_path = ["_static"]
html_css_files = ["leastsq.css"]
html_js_files = ["names.js"]
html_search_scorer = str(HERE / "_static/scorer.js")
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "cookbook/index", "gallery/index", "start", "coming_from_scipy", "how_it_works",
                                       "benchmarks", "performance", "trust", "changes")}
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
