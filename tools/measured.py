"""Write the ratios measured against SciPy into the README and the documentation: tools/measured.py [--check] [--from FILE]

`make bench` writes out/bench.json. `--from out/bench.json` copies its ratios, machine and versions to docs/bench.json
(and with --chart its chart to docs/pictures/bench.png). Then the lines between the "measured" marks of README.md,
docs/index.md and docs/benchmarks.md are generated from docs/bench.json. --check only names the pages that do not agree
with the file (exit status 1). These figures are never edited by hand.
"""
import argparse
import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "bench.json"
PAGES = ("README.md", "docs/index.md", "docs/benchmarks.md")
MARKS = re.compile(r"(<!-- measured: written by tools/measured\.py -->\n).*?(<!-- end -->)", re.DOTALL)
HOW = {"README.md": "https://github.com/leastsq/leastsq/blob/main/docs/benchmarks.md", "docs/index.md": "benchmarks.md"}
TITLES = {"overhead": "Own time of a small fit", "large": "An iteration, m × n", "batch": "Many small fits",
          "compiled": "Own time of a small fit, compiled functions"}


def span(ratios):
    """"4.1" or "4.1 to 12"."""
    texts = [f"{ratio:.2g}" for ratio in (min(ratios), max(ratios))]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def facts(found, how):
    """Three sentences, each with a ratio to SciPy's time."""
    ratios = found["ratios"]
    small = [row["SciPy"] for case, row in ratios["overhead"].items() if re.search(r", (lmdif|lmder), full_output$", case)]
    long = [row["SciPy"] for case, row in ratios["large"].items() if "thread" not in case]
    many = [row["SciPy"] for row in ratios["batch"].values() if "SciPy" in row]
    sizes = sorted({re.search(r", (\d+) problems", case)[1] for case in ratios["batch"]}, key=int)
    machine, peers = found["machine"], found["peers"]
    return "\n".join([
        f"Measured against SciPy {peers['scipy']} ([how](HOW), {machine['processor']}, Python {machine['python']}):".replace(
            "HOW", how),
        "",
        f"* A small fit: SciPy's `leastsq` spends **{span(small)} times** as long outside the user's function.",
        f"* Long residual vectors: an iteration takes SciPy **{span(long)} times** as long, both on one thread.",
        f"* {' and '.join(f'{int(size):,}'.replace(',', ' ') for size in sizes)} small fits: one call of `leastsq_batch` makes "
        f"**{span(many)} times** as many per second as a loop over",
        "  SciPy's `leastsq`.",
        ""])


def table(found):
    """All ratios, one row for each case. Those on two threads need idle processors; docs/performance.md has them."""
    lines = ["| case | how many times as long the others take |", "| --- | --- |"]
    for name, cases in found["ratios"].items():
        lines.append(f"| **{TITLES[name]}** | |")
        for case, row in cases.items():
            if " threads" in case:
                continue
            shown = ", ".join(f"{peer} {ratio:.2g}" for peer, ratio in row.items())
            lines.append(f"| {case.replace(' x ', ' × ')} | {shown} |")
    return "\n".join(["", *lines, "", ""])


def text_for(page, found):
    source = (ROOT / page).read_text(encoding="utf-8")
    if not MARKS.search(source):
        raise SystemExit(f"measured: {page} has no marks to write between")
    new = table(found) if page not in HOW else facts(found, HOW[page])
    return source, MARKS.sub(lambda marks: marks[1] + new + marks[2], source)


def main():
    parser = argparse.ArgumentParser(description="Write measured ratios into the README and the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; name the pages that differ from docs/bench.json")
    parser.add_argument("--from", dest="source", type=Path, help="the file that `make bench` wrote: out/bench.json")
    parser.add_argument("--chart", action="store_true", help="copy its chart too")
    options = parser.parse_args()
    if options.source:
        found = json.loads(options.source.read_text(encoding="utf-8"))
        kept = {key: found[key] for key in ("ratios", "machine", "peers")}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        if options.chart:
            shutil.copy(options.source.with_suffix(".png"), ROOT / "docs" / "pictures" / "bench.png")
    found = json.loads(KEPT.read_text(encoding="utf-8"))
    stale = []
    for page in PAGES:
        source, new = text_for(page, found)
        if source != new:
            stale.append(page)
            if not options.check:
                (ROOT / page).write_text(new, encoding="utf-8")
    print("\n".join(f"measured: {page} {'does not say what docs/bench.json says' if options.check else 'written'}"
                    for page in stale) or "measured: all pages say what docs/bench.json says")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
