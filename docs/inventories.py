"""Where other projects document the names that our docstrings refer to.

Sphinx's intersphinx would fetch their whole inventories at every build; these few names let
the site be built without a network.  A build that warns of an unknown name wants it here.
"""
import zlib
from pathlib import Path

SCIPY = "reference/generated/{name}.html"
# project: (address of its pages, [(role, name, page)])
PROJECTS = {
    "python": ("https://docs.python.org/3", [
        ("class", "multiprocessing.Pool", "library/multiprocessing.html#multiprocessing.pool.Pool")]),
    "scipy": ("https://docs.scipy.org/doc/scipy", [
        ("function", "scipy.optimize.leastsq", SCIPY),
        ("function", "scipy.optimize.curve_fit", SCIPY),
        ("function", "scipy.optimize.least_squares", SCIPY),
        ("class", "scipy.optimize.OptimizeResult", SCIPY),
        ("class", "scipy.optimize.OptimizeWarning", SCIPY),
        ("class", "scipy.LowLevelCallable", SCIPY)]),
}


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """Write each project's inventory into `folder`; return Sphinx's ``intersphinx_mapping``."""
    folder.mkdir(parents=True, exist_ok=True)
    mapping = {}
    for project, (address, entries) in PROJECTS.items():
        lines = "".join(f"{name} py:{role} 1 {page.format(name=name)} -\n" for role, name, page in entries)
        head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n# compressed with zlib\n"
        file = folder / f"{project}.inv"
        file.write_bytes(head.encode() + zlib.compress(lines.encode()))
        mapping[project] = (address, str(file))
    return mapping
