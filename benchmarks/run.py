"""Run every benchmark that has a peer, into one file and one chart: `make bench`.

    python benchmarks/run.py [--full | --quick] [--repeats 3] [--only overhead,large,...] [--out out/bench.json]

Each benchmark runs in a process of its own, as by itself (`python benchmarks/large.py --json ...`), and all of them
--repeats times one after another, so that a busy minute does not touch all the figures of one.  The file begins with the ratios,
the peer's time divided by ours, so that more than 1 is faster: the medians of the repetitions, and their range under
"spread".  Then come the waits in milliseconds, the machine, the peers with their versions, and every figure.  The chart
shows the ratios.  Without --full it takes about four minutes for each repetition.  --quick is for tests: one
repetition, few rounds; its figures mean nothing.

`python tools/measured.py --from out/bench.json --chart` writes the documentation's tables from the file.
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from overhead import machine

HERE = Path(__file__).resolve().parent
# arguments of each: usually, with --full, with --quick
BENCHMARKS = {
    "overhead": (["--rounds", "60"], [], ["--rounds", "1"]),
    "large": (["--quick"], [], ["--quick", "--shapes", "2000x20", "--seconds", "0.05"]),
    "batch": (["--sizes", "10000", "--rounds", "3"], [], ["--sizes", "300", "--rounds", "1"]),
    "compiled": (["--rounds", "60"], [], ["--rounds", "2"]),
    "waiting": ([], ["--rounds", "101"], ["--quick"]),
}


def figures(name, arguments):
    done = subprocess.run([sys.executable, HERE / f"{name}.py", "--json", *arguments], check=False,
                          stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        raise SystemExit(f"bench: {name} failed, see above")
    return json.loads(done.stdout)


# ---------------------------------------- ratios in each benchmark's output: {case: {peer: ratio}}

def overhead(found):
    return {f"{case['problem']}, {case['method']}{', full_output' * case['full_output']}": {"SciPy": case["ratio"]}
            for case in found["cases"]}


def large(found):
    table = {}
    for row in found["shapes"]:
        ms = row["ms"]
        table[f"{row['m']} x {row['n']}"] = {"SciPy": ms["SciPy"]/ms["blocked"], "numpy.linalg.qr": ms["numpy qr"]/ms["blocked"]}
        for ours in ms:
            if "thread" in ours and not ours.endswith("1 thread"):      # the first row is one thread
                table[f"{row['m']} x {row['n']}{ours.removeprefix('blocked')}"] = {"SciPy": ms["SciPy"]/ms[ours]}
    return table


def batch(found):
    def short(name):
        return "loop over leastsq" if name == "loop over leastsq" else name.removeprefix("loop over ").removesuffix(" from C")

    return {f"{title}, {size} problems": {short(peer): rates["leastsq_batch"]/rate
                                          for peer, rate in rates.items() if not peer.startswith("leastsq_batch")}
            for title, sizes in found["cases"].items() for size, rates in sizes.items()}


def compiled(found):
    own = {(row["problem"], row["method"], row["solver"]): row["own"] for row in found["from_c"]}
    table = {}
    for (problem, method, solver), cost in own.items():
        if solver != "leastsq":
            table.setdefault(f"{problem}, {method}", {})[solver] = cost/own[problem, method, "leastsq"]
    return table


def waiting(found):
    return {row["case"]: {peer: values["median"]/row["ours"]["median"] for peer, values in row["peers"].items()}
            for row in found["rows"] if row["peers"]}


RATIOS = {"overhead": overhead, "large": large, "batch": batch, "compiled": compiled, "waiting": waiting}
TITLES = {
    "overhead": "Own time of a small fit, Python functions",
    "large": "An iteration with m x n residuals and parameters; peers on one thread",
    "batch": "Many small fits: fits per second",
    "compiled": "Own time of a small fit, compiled functions",
    "waiting": "What one waits for, all included",
}


def joined(runs):
    """The medians of the ratios of several runs, and their ranges: {case: {peer: ...}} each."""
    medians, ranges = {}, {}
    for case, row in runs[0].items():
        medians[case], ranges[case] = {}, {}
        for peer in row:
            values = [run[case][peer] for run in runs]
            medians[case][peer] = round(statistics.median(values), 2)
            ranges[case][peer] = [round(min(values), 2), round(max(values), 2)]
    return medians, ranges


def waits(runs):
    """Rows of what one waits for: medians of the runs' medians, and the outer ends of their ranges."""
    rows = []
    for same in zip(*(run["rows"] for run in runs)):
        def over_runs(found):
            return {"median": statistics.median(one["median"] for one in found), "low": min(one["low"] for one in found),
                    "high": max(one["high"] for one in found)}
        rows.append(same[0] | {"ours": over_runs([row["ours"] for row in same]),
                               "peers": {peer: over_runs([row["peers"][peer] for row in same]) for peer in same[0]["peers"]}})
    return rows


def shapes(runs):
    """The rows of long residual vectors: medians over the runs."""
    return [same[0] | {"ms": {name: statistics.median(row["ms"][name] for row in same) for name in same[0]["ms"]}}
            for same in zip(*(run["shapes"] for run in runs))]


def peers():
    """The peers and their versions; None if a peer is not installed, and so not measured."""
    from importlib.metadata import PackageNotFoundError, version
    found = {}
    for name in ("scipy", "numpy", "numba", "astropy", "lmfit", "xarray", "hyperspy", "dipy", "distributed"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    for library in ("libminpack1", "libcminpack1"):         # Debian packages; GSL's and Ceres' versions come from compiled.py
        try:
            done = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", library], capture_output=True,
                                  text=True, check=False)
        except OSError:
            found[library] = None
        else:
            found[library] = done.stdout if done.returncode == 0 else None
    return found


def chart(ratios, where, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = sorted({peer for cases in ratios.values() for row in cases.values() for peer in row},
                   key=lambda peer: (peer != "SciPy", peer))
    colours = dict(zip(names, [*plt.get_cmap("Dark2").colors, *plt.get_cmap("Set2").colors]))
    heights = [sum(map(len, cases.values())) + 1.5 for cases in ratios.values()]
    figure, panels = plt.subplots(len(ratios), 1, figsize=(9, 1 + 0.21*sum(heights)), layout="constrained", sharex=True,
                                  squeeze=False, height_ratios=heights)
    for axes, (name, cases) in zip(panels[:, 0], ratios.items()):
        place, ticks = 0.0, []
        for case, row in cases.items():
            for k, (peer, ratio) in enumerate(row.items()):
                axes.barh(place - k, ratio - 1, left=1, color=colours[peer], height=0.8)
                axes.annotate(f"{ratio:.1f}", (ratio, place - k), xytext=(3 if ratio >= 1 else -3, 0), fontsize=8, va="center",
                              ha="left" if ratio >= 1 else "right", textcoords="offset points")
            ticks.append((place - (len(row) - 1)/2, case))
            place -= len(row) + 0.25
        axes.set_yticks(*zip(*ticks), fontsize=8)
        axes.set_title(TITLES[name], loc="left", fontsize=10)
        axes.axvline(1, color="0.3", lw=1)
        axes.set_xscale("log")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12, y=0.02)
    ticks = [0.25, 0.5, 1, 2, 5, 10, 20, 50]
    panels[-1, 0].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panels[-1, 0].minorticks_off()
    panels[-1, 0].set_xlabel("times faster than the peer\n"
                             f"leastsq {where['leastsq']} on {where['processor']}, Python {where['python']}, "
                             f"NumPy {where['numpy']}, SciPy {where['scipy']}", fontsize=9)
    figure.legend([plt.Rectangle((0, 0), 1, 1, color=colours[peer]) for peer in names], names, ncols=6,
                  frameon=False, fontsize=8, loc="outside upper right", columnspacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description="All benchmarks, into one JSON file and a chart.")
    parser.add_argument("--full", action="store_true", help="every size, more rounds: some twenty minutes a repetition")
    parser.add_argument("--quick", action="store_true", help="for tests: one repetition, few rounds")
    parser.add_argument("--repeats", type=int, default=3, help="how often all run (default 3)")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="some of these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="the file; the chart goes next to it")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(BENCHMARKS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(BENCHMARKS)}")
    if options.repeats < 1 or options.full and options.quick:
        parser.error("--repeats must be at least 1, and --full excludes --quick")
    runs = {name: [] for name in wanted}
    for turn in range(1 if options.quick else options.repeats):
        for name in wanted:
            print(f"bench: {name}, {turn + 1}", flush=True)
            usual, full, quick = BENCHMARKS[name]
            extra = ["--chart", str(options.out.with_name("large.png"))] if options.full and name == "large" else []
            runs[name].append(figures(name, (full if options.full else quick if options.quick else usual) + extra))
    ratios, spread = {}, {}
    for name, found in runs.items():
        ratios[name], spread[name] = joined([RATIOS[name](one) for one in found])
    for name, cases in ratios.items():
        print(f"\n{TITLES[name]}: times faster than")
        for case, row in cases.items():
            ranges = {peer: " to ".join(f"{end:.1f}" for end in ends) for peer, ends in spread[name][case].items()}
            print(f"  {case:<58}", ", ".join(f"{peer} {ratio:.1f} ({ranges[peer]})" for peer, ratio in row.items()))
    where = machine()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    versions = peers() | (runs["compiled"][0]["versions"] if "compiled" in runs else {})
    whole = {"ratios": ratios, "spread": spread, "repeats": max(map(len, runs.values())),
             "waits": waits(runs["waiting"]) if "waiting" in runs else [],
             "shapes": shapes(runs["large"]) if "large" in runs else [],
             "machine": where, "peers": versions, "figures": runs}
    options.out.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    picture = options.out.with_suffix(".png")
    try:
        chart(ratios, where, picture)
    except ImportError:
        print(f"\n{options.out}; no chart: matplotlib is not installed")
    else:
        print(f"\n{options.out}, {picture}")


if __name__ == "__main__":
    main()
