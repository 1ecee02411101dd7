"""Write the ratios measured against SciPy into the README and the documentation: tools/measured.py [--check] [--from FILE]

`make bench` writes out/bench.json. `--from out/bench.json` copies its ratios, waits, machine and versions to docs/bench.json
(and with --chart its chart to docs/pictures/bench.png, and docs/large.png if it was made with --full). Then the lines
between the "measured" marks of the pages (`PAGES`) are generated from docs/bench.json. --check only names the pages that do not
agree with the file (exit status 1). These figures are never edited by hand.
"""
import argparse
import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "docs" / "bench.json"
MARKS = re.compile(r"(<!-- measured (\w+): written by tools/measured\.py -->\n).*?(<!-- end -->)", re.DOTALL)
HOW = {"README.md": "https://github.com/leastsq/leastsq/blob/main/docs/benchmarks.md", "docs/index.md": "benchmarks.md"}
TITLES = {"overhead": "Own time of a small fit", "large": "An iteration, m × n", "batch": "Many small fits",
          "compiled": "Own time of a small fit, compiled functions", "waiting": "What one waits for, all included"}
KEYS = ("ratios", "spread", "repeats", "waits", "shapes", "machine", "peers")
CLIENTS = ("astropy", "lmfit", "xarray", "hyperspy", "DIPY")            # waits with these first words belong to other packages
NAMES = {"scipy": "SciPy", "numpy": "NumPy", "libminpack1": "Debian's libminpack", "libcminpack1": "libcminpack",
         "dipy": "DIPY", "hyperspy": "hyperspy", "distributed": "Dask's distributed"}


def span(ratios):
    """"4.1" or "4.1 to 12"."""
    ends = [two_digits(ratio) for ratio in (min(ratios), max(ratios))]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def facts(found, page):
    """Three sentences, each with a ratio to SciPy's time."""
    ratios = found["ratios"]
    small = [row["SciPy"] for case, row in ratios["overhead"].items() if re.search(r", (lmdif|lmder), full_output$", case)]
    long = [row["SciPy"] for case, row in ratios["large"].items() if "thread" not in case]
    many = [row["SciPy"] for row in ratios["batch"].values() if "SciPy" in row]
    sizes = sorted({re.search(r", (\d+) problems", case)[1] for case in ratios["batch"]}, key=int)
    machine, peers = found["machine"], found["peers"]
    return "\n".join([
        f"Measured against SciPy {peers['scipy']} ([how](HOW), {machine['processor']}, Python {machine['python']}):".replace(
            "HOW", HOW[page]),
        "",
        f"* A small fit: SciPy's `leastsq` spends **{span(small)} times** as long outside the user's function.",
        f"* Long residual vectors: an iteration takes SciPy **{span(long)} times** as long, both on one thread.",
        f"* {' and '.join(f'{int(size):,}'.replace(',', ' ') for size in sizes)} small fits: one call of `leastsq_batch` makes "
        f"**{span(many)} times** as many per second as a loop over",
        "  SciPy's `leastsq`.",
        ""])


def two_digits(ratio):
    return f"{ratio:.2g}" if ratio < 99.5 else f"{ratio:.0f}"


def ratio_and_range(found, name, case, peer):
    ratio = two_digits(found["ratios"][name][case][peer])
    low, high = (two_digits(end) for end in found["spread"].get(name, {}).get(case, {}).get(peer, (0, 0)))
    return f"{peer} {ratio}" + (f" ({low} to {high})" if low != high else "")


def ratios(found, page):
    """Every ratio, a row for each case; those on two threads need idle processors, and are docs/performance.md's."""
    lines = ["| case | how many times as long the others take |", "| --- | --- |"]
    for name, cases in found["ratios"].items():
        lines.append(f"| **{TITLES[name]}** | |")
        for case, row in cases.items():
            if " threads" in case:
                continue
            shown = ", ".join(ratio_and_range(found, name, case, peer) for peer in row)
            lines.append(f"| {case.replace(' x ', ' × ')} | {shown} |")
    return "\n".join(["", *lines, "", ""])


def milliseconds(values):
    """"1.2 (1.1 to 1.4)"."""
    def text(value):
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    median, low, high = (text(values[key]) for key in ("median", "low", "high"))
    return median + (f" ({low} to {high})" if low != high else "")


def rows_of_waits(found, wanted):
    lines = ["| what | here, ms | the peer, ms | times as long |", "| --- | ---: | ---: | ---: |"]
    for row in found["waits"]:
        if not wanted(row["case"].split(",")[0]):
            continue
        unit = "" if row["unit"] == "ms" else f" {row['unit']}"
        ours = milliseconds(row["ours"]) + unit
        for peer, values in row["peers"].items() or [("", None)]:
            theirs, ratio = ("", "") if values is None else (
                f"{peer} {milliseconds(values)}{unit}", two_digits(values["median"]/row["ours"]["median"]))
            lines.append(f"| {row['case']} | {ours} | {theirs} | {ratio} |")
    return "\n".join(["", *lines, "", ""])


def waits(found, page):
    """What a user waits for."""
    return rows_of_waits(found, lambda first: first not in CLIENTS)


def clients(found, page):
    """The same inside other packages."""
    return rows_of_waits(found, lambda first: first in CLIENTS)


def shapes(found, page):
    """Milliseconds of an iteration with long residual vectors."""
    columns = {"blocked": "ours", "blocked, 2 threads": "2 threads"} | {name: name for name in ("minpack", "SciPy", "numpy qr")}
    lines = [f"| m × n | {' | '.join(columns.values())} | SciPy / ours | numpy qr / ours | GFLOP/s | of the peak |",
             "| ---: |" + " ---: |"*(len(columns) + 4)]
    for row in found["shapes"]:
        ms, (m, n) = row["ms"], (row["m"], row["n"])
        speed = 2e-6*n*n*(m - n/3)/ms["blocked"]
        lines.append(" ".join([
            f"| {m:,} × {n:,} |".replace(",", " "), " | ".join(f"{ms[name]:.3g}" if name in ms else "" for name in columns),
            f"| **{ms['SciPy']/ms['blocked']:.1f}** | {ms['numpy qr']/ms['blocked']:.1f} | {speed:.0f}",
            f"| {100*ms['peak']/ms['blocked']:.0f} % |"]))
    return "\n".join(["", *lines, "", ""])


def machine(found, page):
    """Where it was measured, and the versions."""
    where = found["machine"]
    others = ", ".join(f"{NAMES.get(name, name)} {version}" for name, version in found["peers"].items() if version is not None)
    often = {1: "once", 2: "twice"}.get(found["repeats"], f"{found['repeats']} times")
    return (f"leastsq {where['leastsq']} on {where['processor']}, {where['system']}, Python {where['python']}; {others}.\n"
            f"Everything was measured {often}.\n")


PAGES = {"README.md": [facts], "docs/index.md": [facts], "docs/benchmarks.md": [machine, ratios, waits],
         "docs/performance.md": [shapes], "docs/in_other_packages.md": [clients]}


def text_for(page, found):
    """The page as it is, and as it should be."""
    source = (ROOT / page).read_text(encoding="utf-8")
    makers = {maker.__name__: maker for maker in PAGES[page]}
    marked = [name for _, name, _ in MARKS.findall(source)]
    if sorted(marked) != sorted(makers):
        raise SystemExit(f"measured: {page} has marks for {marked}, not for {list(makers)}")
    return source, MARKS.sub(lambda marks: marks[1] + makers[marks[2]](found, page) + marks[3], source)


def main():
    parser = argparse.ArgumentParser(description="Write measured ratios into the README and the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; name the pages that differ from docs/bench.json")
    parser.add_argument("--from", dest="source", type=Path, help="the file that `make bench` wrote: out/bench.json")
    parser.add_argument("--chart", action="store_true", help="copy its chart too")
    options = parser.parse_args()
    if options.source:
        found = json.loads(options.source.read_text(encoding="utf-8"))
        kept = {key: found[key] for key in KEYS}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        if options.chart:
            shutil.copy(options.source.with_suffix(".png"), ROOT / "docs" / "pictures" / "bench.png")
            large = options.source.with_name("large.png")
            if large.exists() and large.stat().st_mtime > options.source.stat().st_mtime - 3600:       # of the same run
                shutil.copy(large, ROOT / "docs" / "large.png")
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
