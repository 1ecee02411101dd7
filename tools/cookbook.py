"""Run the pages of docs/cookbook: their code, what it prints, the pictures it makes.

    python tools/cookbook.py [--update] [PAGE ...]

The Python blocks of a page run one after another, in a temporary folder. A block must print what the next ```text
block shows, and the page must make its picture by `figure.savefig("PAGE.png")`. Pictures go to docs/cookbook/pictures,
with at most 256 colours so that the files are small. --update writes the printed output into the page instead of
comparing it. Exit status 0, or 1 with a line for each wrong page.
"""
import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COOKBOOK = ROOT / "docs" / "cookbook"
PICTURES = COOKBOOK / "pictures"
STYLE = ROOT / "docs" / "_static" / "leastsq.mplstyle"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages():
    """The pages with code, by name: those of the cookbook, the site's first page and the README."""
    recipes = {path.stem: path for path in sorted(COOKBOOK.glob("*.md")) if path.stem != "index"}
    return recipes | {"landing": ROOT / "docs" / "index.md", "readme": ROOT / "README.md"}


@contextlib.contextmanager
def _in_folder(folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(page, folder):
    """Run a page in a folder: [(start, end, expected, printed)] of its ```text blocks; pictures are left in the folder."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    source = page.read_text(encoding="utf-8")
    names, printed, found = {"__name__": "__main__"}, None, []
    with _in_folder(folder), plt.style.context(["default", str(STYLE)]):
        for match in BLOCK.finditer(source):
            kind, text = match.groups()
            if kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as stream:
                    # with as many empty lines as there are lines above the block, so that tracebacks give the line of the page
                    above = "\n"*source[:match.start(2)].count("\n")
                    exec(compile(above + text, str(page), "exec"), names)
                printed = stream.getvalue()
            elif printed is not None:
                found.append((*match.span(2), text, printed))
                printed = None
        plt.close("all")
    return found


def lines_of(text):
    return [line.rstrip() for line in text.splitlines()]


def faults_of(page, folder, found):
    """The faults of a page that has run, one sentence for each."""
    for _, _, expected, printed in found:
        for k, (said, is_so) in enumerate(zip(lines_of(expected), lines_of(printed))):
            if said != is_so:
                yield f"line {k + 1} of a text block: the page says {said!r}, printed is {is_so!r}"
        if len(lines_of(expected)) != len(lines_of(printed)):
            yield f"the page has {len(lines_of(expected))} lines of output, printed are {len(lines_of(printed))}:\n{printed}"
    shown = re.findall(r"!\[[^\]]+\]\([\w./:-]*cookbook/pictures/([\w.]+)\)" if page.parent != COOKBOOK
                       else r"!\[[^\]]+\]\(pictures/([\w.]+)\)", page.read_text(encoding="utf-8"))
    if not shown and page.stem != "faq":
        yield "it shows no picture"
    for name in shown:
        if not (Path(folder) / name).is_file():
            yield f"its code does not make {name}, which it shows"


def update(page, found):
    source = page.read_text(encoding="utf-8")
    for start, end, _, printed in reversed(found):
        source = source[:start] + "\n".join(lines_of(printed)) + "\n" + source[end:]
    page.write_text(source, encoding="utf-8")


def keep_pictures(folder):
    from PIL import Image
    PICTURES.mkdir(exist_ok=True)
    for path in Path(folder).glob("*.png"):
        picture = Image.open(path).convert("RGB")
        picture.quantize(256, dither=Image.Dither.NONE).save(PICTURES / path.name, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="names of pages; none: all")
    parser.add_argument("--update", action="store_true", help="write the printed output into the pages")
    parser.add_argument("--list", action="store_true", help="print the names of the pages")
    options = parser.parse_args()
    known = pages()
    if options.list:
        print("\n".join(known))
        return 0
    if unknown := set(options.pages) - known.keys():
        parser.error(f"there is no page {', '.join(sorted(unknown))}; --list prints those that there are")
    wrong = 0
    for name in options.pages or known:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = run(known[name], folder)
                if options.update:
                    update(known[name], found)
                    found = []
                faults = list(faults_of(known[name], folder, found))
                keep_pictures(folder)
            except Exception:
                faults = [traceback.format_exc()]
        wrong += bool(faults)
        print(f"cookbook: {name}: {'; '.join(faults) or 'ok'}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
