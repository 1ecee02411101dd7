"""Run every benchmark that has a peer, into one file and one chart: `make bench`.

    python benchmarks/run.py [--full] [--only overhead,large,...] [--out out/bench.json]

Each benchmark runs in a process of its own, as by itself (`python benchmarks/large.py --json ...`).  The file
begins with the ratios, the peer's time divided by ours, so that more than 1 is faster.  Then come the machine, the
peers with their versions, and every figure.  The chart shows the ratios.  Without --full it takes about three
minutes.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

from overhead import machine

HERE = Path(__file__).resolve().parent
# (quick, full) arguments of each
BENCHMARKS = {
    "overhead": (["--rounds", "60"], []),
    "large": (["--quick"], []),
    "batch": (["--sizes", "10000", "--rounds", "3"], []),
    "compiled": (["--rounds", "60"], []),
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


RATIOS = {"overhead": overhead, "large": large, "batch": batch, "compiled": compiled}
TITLES = {
    "overhead": "Own time of a small fit, Python functions",
    "large": "An iteration with m x n residuals and parameters; peers on one thread",
    "batch": "Many small fits: fits per second",
    "compiled": "Own time of a small fit, compiled functions",
}


def peers():
    """The peers and their versions; None if a peer is not installed, and so not measured."""
    from importlib.metadata import PackageNotFoundError, version
    found = {}
    for name in ("scipy", "numpy", "numba"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    for library in ("libminpack1", "libcminpack1"):         # Debian packages
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
    colours = dict(zip(names, plt.get_cmap("Dark2").colors))
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
    figure.legend([plt.Rectangle((0, 0), 1, 1, color=colours[peer]) for peer in names], names, ncols=len(names),
                  frameon=False, fontsize=8, loc="outside upper right", columnspacing=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description="All benchmarks, into one JSON file and a chart.")
    parser.add_argument("--full", action="store_true", help="every size, more rounds: some twenty minutes")
    parser.add_argument("--only", default=",".join(BENCHMARKS), help="some of these, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="the file; the chart goes next to it")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(BENCHMARKS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(BENCHMARKS)}")
    found = {}
    for name in wanted:
        print(f"bench: {name}", flush=True)
        extra = ["--chart", str(options.out.with_name("large.png"))] if options.full and name == "large" else []
        found[name] = figures(name, BENCHMARKS[name][options.full] + extra)
    ratios = {name: {case: {peer: round(ratio, 2) for peer, ratio in row.items()} for case, row in RATIOS[name](some).items()}
              for name, some in found.items()}
    for name, cases in ratios.items():
        print(f"\n{TITLES[name]}: times faster than")
        for case, row in cases.items():
            print(f"  {case:<58}", ", ".join(f"{peer} {ratio:.1f}" for peer, ratio in row.items()))
    where = machine()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"ratios": ratios, "machine": where, "peers": peers(), "figures": found}, indent=1) + "\n",
                           encoding="utf-8")
    picture = options.out.with_suffix(".png")
    try:
        chart(ratios, where, picture)
    except ImportError:
        print(f"\n{options.out}; no chart: matplotlib is not installed")
    else:
        print(f"\n{options.out}, {picture}")


if __name__ == "__main__":
    main()
