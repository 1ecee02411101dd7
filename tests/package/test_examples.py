"""The examples and benchmarks run as a user runs them, and print what they should."""
import importlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import guards
import nist
import numpy as np
import pytest
import strd

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^(\w+) +(Lower|Average|Higher) +([12]) +(\d+) +(\d+) +(\d) +(\d+) +([\d.]+) +([\d.]+|-) +([\d.]+)")


def run(script, *arguments, cwd, without=()):
    """Run one of our scripts in a process of its own, as if some packages were not installed."""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    if without:
        for package in without:
            (cwd / "absent" / package).mkdir(parents=True)
            (cwd / "absent" / package / "__init__.py").write_text(f"raise ImportError('no {package}')")
        environment["PYTHONPATH"] = str(cwd / "absent")
    return subprocess.run([sys.executable, str(ROOT / script), *arguments], cwd=cwd, env=environment,
                          capture_output=True, text=True, encoding="utf-8", timeout=300)


def rows(output):
    return [match.groups() for match in map(ROW.match, output.splitlines()) if match]


def test_nist_prints_a_row_for_each_fit(tmp_path):
    done = run("examples/nist.py", "--no-plot", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    table = rows(done.stdout)
    assert [(name, int(start)) for name, _, start, *_ in table] == [
        (name, start) for name in strd.NAMES for start in (1, 2)]
    for name, level, _, n, m, *_ in table:
        dataset = strd.load(name)
        assert (level, int(n), int(m)) == (dataset.level, dataset.n, dataset.m)


def test_nist_reaches_the_certified_values(tmp_path):
    done = run("examples/nist.py", "--no-plot", cwd=tmp_path)
    digits = {(name, int(start)): float(correct)
              for name, _, start, _, _, _, _, correct, *_ in rows(done.stdout)}
    assert all(correct >= 3.0 for fit, correct in digits.items() if fit not in nist.HARD)
    reached = sum(correct >= nist.ENOUGH_DIGITS for correct in digits.values())
    assert f"{reached} of 28 fits reached the certified solution" in done.stdout.splitlines()[-1]
    assert "FAILED" not in done.stdout


def test_nist_columns_are_aligned_with_their_headings(tmp_path):
    lines = run("examples/nist.py", "--no-plot", cwd=tmp_path).stdout.splitlines()
    heading = next(line for line in lines if line.startswith("data set"))
    ends = [match.end() for match in re.finditer(r"start|\bn\b|\bm\b|ier|nfev|parameters|std\. errors|time \(ms\)",
                                                 heading)]
    for line in filter(ROW.match, lines):
        row_ends = [match.end() for match in re.finditer(r"\S+", line)][2:10]
        assert row_ends == ends, line


def test_nist_without_matplotlib_says_how_to_get_the_picture(tmp_path):
    done = run("examples/nist.py", cwd=tmp_path, without=["matplotlib"])
    assert done.returncode == 0, done.stderr
    assert len(rows(done.stdout)) == 28
    assert done.stdout.splitlines()[-1] == "No picture: matplotlib is not installed (pip install matplotlib)."
    assert not (tmp_path / "out").exists()


def test_nist_draws_all_fits(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "new" / "fits.png"
    done = run("examples/nist.py", "--plot", str(picture), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"Picture: {picture}"
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert width > 1500 and height > 1500


def test_nist_picture_has_two_axes_for_each_data_set(tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure")
    figures = []
    monkeypatch.setattr(figure_module.Figure, "savefig", lambda figure, *a, **k: figures.append(figure))
    nist.draw([nist.fit(dataset, 2) for dataset in strd.load_all()], tmp_path / "unused.png")
    titles = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert [title for title in titles if title] == strd.NAMES
    assert len(figures[0].axes) == 2 * len(strd.NAMES) + 1        # and the legend
    for axes in figures[0].axes[:-1]:
        assert axes.lines, "an empty panel"


def test_nist_exit_status_reports_a_failed_fit(monkeypatch, capsys):
    def stays_at_the_start(func, x0, full_output):
        return np.array(x0), None, {"fvec": func(x0), "nfev": 1}, "", 5

    monkeypatch.setattr(nist, "leastsq", stays_at_the_start)
    assert nist.main(["--no-plot"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: Misra1a from start 1: ier 5, 0.0 correct digits." in printed
    assert printed.splitlines()[-1] == "0 of 28 fits reached the certified solution."
    assert "FAILED: MGH17 from start 1" not in printed


def test_overhead_benchmark_reports_every_case(tmp_path):
    pytest.importorskip("scipy")
    done = run("benchmarks/overhead.py", "--json", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert {"processor", "python", "numpy", "scipy", "leastsq"} <= record["machine"].keys()
    cases = record["cases"]
    assert {(c["problem"], c["method"], c["full_output"]) for c in cases} == {
        (problem, method, full) for problem in ("decay n=3 m=100", "decay n=2 m=20")
        for method in ("lmdif", "lmder", "lmder col_deriv", "curve_fit", "curve_fit sigma", "curve_fit jac",
                       "curve_fit sigma jac") for full in (False, True)} | {
        (problem, method, False) for problem in ("decay n=3 m=100", "decay n=2 m=20")
        for method in ("fit", "fit sigma", "fit bounds", "fit, stderr")}
    for case in cases:                      # SciPy makes extra calls to learn shapes,
        more = {calls: case[calls]["scipy"] - case[calls]["ours"] for calls in ("residual_calls", "jacobian_calls")}
        if case["method"] == "fit, stderr":
            assert more["residual_calls"] < -20             # derivatives made afresh
        elif case["method"].startswith("fit"):
            assert abs(more["residual_calls"]) <= 3 and case["jacobian_calls"] == {"ours": 0, "scipy": 0}
        elif case["method"].startswith("curve_fit"):
            assert more["residual_calls"] in (0, 2)     # or keeps, in newer versions' curve_fit
            assert more["jacobian_calls"] in (0, 1) and ("jac" in case["method"]) == (case["jacobian_calls"]["ours"] > 0)
        else:
            assert more == {"residual_calls": 2, "jacobian_calls": int(case["method"] != "lmdif")}


def test_overhead_benchmark_prints_a_table(tmp_path):
    pytest.importorskip("scipy")
    done = run("benchmarks/overhead.py", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("decay ")]
    assert len(lines) == 36
    assert all(re.search(r" [-\d.]+x ", line) for line in lines)


def test_compiled_example_compares_what_is_installed(tmp_path, need_program):
    need_program("cc")
    done = run("examples/compiled.py", "--rounds", "1", cwd=tmp_path, without=["numba"])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "Without numba: CFunction.from_numba needs numba (pip install numba)"
    table = [line.split() for line in lines if re.match(r" +\d+  (differences|given) ", line)]
    assert [(int(row[0]), row[1]) for row in table] == [
        (m, derivatives) for derivatives in ("differences", "given") for m in (20, 100, 1000, 10_000)]
    assert all(float(python) > 0 and float(c) > 0 for _, _, python, c, _ in table)
    assert any(line.startswith("C pays") for line in lines)


def test_compiled_example_with_numba(tmp_path):
    pytest.importorskip("numba")
    done = run("examples/compiled.py", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "numba pays" in done.stdout


def test_all_benchmarks_go_into_one_file_with_the_ratios_first(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmarks = importlib.import_module("run")
    out = tmp_path / "new" / "bench.json"
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--only", "overhead,large", "--out", str(out)])
    benchmarks.main()
    found = json.loads((tmp_path / "new" / "bench.json").read_text(encoding="utf-8"))
    assert list(found) == ["ratios", "spread", "repeats", "waits", "shapes", "machine", "peers", "figures"]
    assert found["peers"]["scipy"] == found["machine"]["scipy"]
    (once,) = found["figures"]["overhead"]
    cases = once["cases"]
    assert [(row["m"], row["n"]) for row in found["shapes"]] == [(2000, 20)]
    assert [row["SciPy"] for row in found["ratios"]["overhead"].values()] == [round(case["ratio"], 2) for case in cases]
    assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_ratios_of_several_runs_are_medians_with_their_range(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmarks = importlib.import_module("run")
    runs = [{"a fit": {"SciPy": ratio}} for ratio in (3.0, 1.0, 2.0)]
    assert benchmarks.joined(runs) == ({"a fit": {"SciPy": 2.0}}, {"a fit": {"SciPy": [1.0, 3.0]}})
    def row(median, peer):
        return {"case": "import", "unit": "ms", "ours": {"median": median, "low": median - 1, "high": median + 1},
                "peers": {"SciPy": {"median": peer, "low": peer, "high": peer}}}
    (found,) = benchmarks.waits([{"rows": [row(median, 10*median)]} for median in (5.0, 7.0, 6.0)])
    assert found["ours"] == {"median": 6.0, "low": 4.0, "high": 8.0}
    assert found["peers"]["SciPy"] == {"median": 60.0, "low": 50.0, "high": 70.0}


def test_pages_are_written_from_what_was_measured(tmp_path, monkeypatch, capsys):
    """Every figure between the marks comes from the file: another file, another page."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    measured = importlib.import_module("measured")
    kept = json.loads((ROOT / "docs" / "bench.json").read_text(encoding="utf-8"))
    for page in measured.PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_text((ROOT / page).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(measured, "ROOT", tmp_path)
    monkeypatch.setattr(measured, "KEPT", tmp_path / "docs" / "bench.json")
    for row in kept["waits"]:
        row["ours"]["median"] = 0.789
    for cases in kept["ratios"].values():
        for row in cases.values():
            row.update(dict.fromkeys(row, 6.54321))
    kept["machine"]["processor"] = "an abacus"
    source = tmp_path / "new.json"
    source.write_text(json.dumps(kept | {"figures": {}}), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["measured.py", "--from", str(source)])
    assert measured.main() == 0
    pages = {page: (tmp_path / page).read_text(encoding="utf-8") for page in measured.PAGES}
    assert "**6.5 times**" in pages["README.md"] and "an abacus" in pages["README.md"]
    assert "6.5" in pages["docs/benchmarks.md"] and "| 0.789" in pages["docs/benchmarks.md"]
    assert "| 0.789" in pages["docs/in_other_packages.md"]
    monkeypatch.setattr(sys, "argv", ["measured.py", "--check"])
    assert measured.main() == 0
    (tmp_path / "README.md").write_text(pages["README.md"].replace("6.5 times", "9 times"), encoding="utf-8")
    assert measured.main() == 1
    assert "README.md does not say" in capsys.readouterr().out


def test_compiled_benchmark_measures_every_solver(tmp_path, minpack):
    pytest.importorskip("scipy")
    done = run("benchmarks/compiled.py", "--json", "--rounds", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    cases = {(problem, method) for problem in ("decay", "gaussian") for method in ("lmdif", "lmder")}
    solved = {(row["problem"], row["method"], row["solver"]): row for row in record["from_c"]}
    assert {(problem, method, "libminpack") for problem, method in cases} <= solved.keys()
    for problem, method in cases:                   # the same algorithm: the same calls
        ours, its = solved[problem, method, "leastsq"], solved[problem, method, "libminpack"]
        assert (ours["residual_calls"], ours["jacobian_calls"]) == (its["residual_calls"], its["jacobian_calls"])
    assert {(row["problem"], row["method"]) for row in record["from_python"]} == cases
    others = {row["solver"] for row in record["from_c"]} - {"leastsq", "libminpack", "libcminpack"}
    assert others == set(record["versions"])                # GSL and TinySolver where they are installed: the same answers


@pytest.mark.parametrize("block", [999, 100_000])
def test_out_of_core_example_finds_the_truth(tmp_path, block):
    path = tmp_path / "points.f64"
    done = run("examples/out_of_core.py", "--points", "50001", "--block", str(block), "--file", str(path), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "" and path.stat().st_size == 50001 * 16
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"50001 points in blocks of {block}: ")
    table = [line.split() for line in lines if re.match(r" +-?\d+\.\d{7} ", line)]
    assert len(table) == 10 and all(abs(float(off)) < 5 for *_, off in table)
    assert float(re.search(r"that is ([\d.]+) of the time in the residuals", done.stdout)[1]) >= 1
    if guards.IS_LINUX:             # where it prints the peak memory
        assert float(re.search(r"memory ([\d.]+) MiB above", done.stdout)[1]) < 200


def test_out_of_core_example_leaves_no_file_behind(tmp_path):
    done = run("examples/out_of_core.py", "--points", "2000", cwd=tmp_path)
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []
    assert "2000 points" in done.stdout


def test_scale_benchmark_checks_its_model(tmp_path):
    done = run("benchmarks/scale.py", "--json", "--blocks", "300", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    sizes = [3, 10, 30, 100]
    assert [(row["n"], row["blocks"]) for row in figures["iterations"]] == [
        (n, blocks) for n in sizes for blocks in (10, 100, 1000)]
    for row in figures["iterations"]:           # a packed triangle and a few more numbers
        triangle = 4 * (row["n"] + 1) * (row["n"] + 2)
        assert triangle < row["bytes"] / row["blocks"] < triangle + 400
    assert [row["n"] for row in figures["merges"]] == sizes
    for row in figures["trees"]:
        assert row["depth"] == row["predicted_depth"] == 3          # 300, 38, 5, 1
        assert row["moved"] == pytest.approx(row["predicted_moved"], rel=0.05)
        assert row["driver"] < 4 * (row["n"] + 1) * (row["n"] + 2) + 400
        assert row["error"] < 1e-13


@pytest.mark.slow
def test_scale_benchmark_fits_on_dask(tmp_path):
    pytest.importorskip("distributed")
    done = run("benchmarks/scale.py", "--dask", "--json", "--rounds", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)
    assert (one["workers"], two["workers"]) == (1, 2)
    assert (one["x"], one["nfev"]) == (two["x"], two["nfev"])
    for row in (one, two):
        assert row["triangle"] < row["bytes"] < 2 * 3 * row["triangle"] * 1.5     # 1.5: longer fits also send heartbeats


@pytest.mark.parametrize("script", sorted((ROOT / "examples" / "gallery").glob("*.py")), ids=lambda path: path.stem)
def test_gallery(script, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    done = run(script.relative_to(ROOT), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_notebook_shows_what_its_script_does(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("tools/notebook.py", "--check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_on_dask_finds_the_truth(tmp_path):
    pytest.importorskip("distributed")
    done = run("examples/on_dask.py", "--points", "40000", "--blocks", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = re.findall(r"(\S+) \+- (\S+)   true (\S+)", done.stdout)
    assert len(table) == 7
    assert all(abs(float(x) - float(true)) < 5 * float(sigma) for x, sigma, true in table)
    assert float(re.search(r"off by at most (\S+)", done.stdout)[1]) < 0.05


def test_lmfit_runs_on_leastsq(tmp_path):
    pytest.importorskip("lmfit")
    done = run("examples/lmfit_on_leastsq.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    errors, ours, theirs = re.search(r": (\S+) standard errors; (\d+) calls of the model, (\d+) with SciPy", done.stdout).groups()
    assert float(errors) < 1e-6 and int(theirs) == int(ours) + 2        # SciPy makes two more: lmfit ran on ours
    assert float(re.search(r"reduced chi-square = (\S+)", done.stdout)[1]) == pytest.approx(1, abs=0.25)    # 3.5 sigma
