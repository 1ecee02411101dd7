#!/bin/sh
# Report the lines and branches of the Fortran, C and Python that the suite runs.
# $VENV must be ready (tools/setup.sh); arguments go to pytest.  Reports: build/coverage.
#
# Copies of one source count as one: the kernels for each instruction set, and the Fortran
# that the tests build themselves.  A line counts as run if any copy of it was.  Branches that
# the compiler adds are not counted, as far as gcov distinguishes them.
set -eu
cd "$(dirname "$0")/.."
PATH=$(cd "${VENV:-.venv}/bin" && pwd):$PATH
export PATH
out=$PWD/build/coverage
mkdir -p "$out"
python -m pip install --quiet coverage gcovr </dev/null

flags="-O0 -g -fprofile-update=atomic"
CFLAGS=$flags FFLAGS=$flags python -m pip install --quiet --upgrade --no-build-isolation \
    --no-deps --target "$out/site" "--config-settings=build-dir=$out/meson" \
    --config-settings=setup-args=-Dreference=auto --config-settings=setup-args=-Db_coverage=true . >"$out/build.log" 2>&1 </dev/null ||
    { cat "$out/build.log" >&2; exit 1; }

find "$out" -name '*.gcda' -delete
rm -rf "$out"/.coverage* "$out/made-"*
cat >"$out/rc" <<RC
[run]
branch = True
parallel = True
source = leastsq
data_file = $out/.coverage
concurrency = thread, multiprocessing
[paths]
source =
    $out/site/leastsq
    */site-packages/leastsq
RC
echo "import coverage; coverage.process_startup()" >"$out/site/sitecustomize.py"
# (counters are written when a process ends; pytest-xdist kills a worker that takes 10 s for this)
echo "from xdist.workermanage import NodeManager; NodeManager.EXIT_TIMEOUT = 300" >"$out/site/patience.py"

# $1: folder for what the tests build, and its counters; other arguments go to pytest
run() {
    made=$1
    shift
    LEASTSQ_TEST_FFLAGS="--coverage $flags" PYTHONPATH=$out/site python -m pytest -q -n auto -p patience -p no:cacheprovider \
        --basetemp "$out/made-$made" -m "not slow" "$@" ||
        echo "coverage: the tests failed; the figures are of what ran" >&2
}

# coverage.py's tracer crashes where Python's allocations are made to fail: those tests run without it.
# Left out: the tests that the module needs no Fortran run-time, and that contraction would change
# bits.  With counters and without optimisation it needs one, and no bits would change.
COVERAGE_PROCESS_START=$out/rc run all -k "not run_out and not allocation and not fortran_run and not contraction_would" "$@"
run starved -k "run_out or allocation" "$@"
LEASTSQ_ISA=baseline run baseline tests/many/test_accumulator.py tests/many/test_batch.py

(cd "$out" && python -m coverage combine --rcfile=rc -q && python -m coverage report --rcfile=rc >python.txt &&
    echo "src/leastsq, Python:" && tail -n 1 python.txt)
# gcovr reads the counters of one part, $1; other arguments go to gcovr
counters() {
    part=$1
    shift
    gcovr --root . --filter "$part/" --exclude-throw-branches --exclude-unreachable-branches --gcov-ignore-errors=all \
        --gcov-ignore-parse-errors=all --merge-mode-functions=merge-use-line-min "$@" 2>>"$out/gcovr.log"
}

for part in src/shim fortran; do
    name=$out/$(basename $part)
    counters $part --gcov-object-directory "$out/meson" --json "$name.json" "$out/meson"
    counters $part --json "$name-made.json" "$out"/made-*
    # (gcovr distinguishes copies by the names of their functions)
    sed -i -E 's/_(baseline|v3|v4|core)(_MOD|")/\2/g' "$name.json" "$name-made.json"
    for metric in line branch; do
        echo "$part, compiled, by $metric:"
        gcovr --root . --add-tracefile "$name.json" --add-tracefile "$name-made.json" --txt-metric $metric \
            --txt "$name-$metric.txt"
        grep TOTAL "$name-$metric.txt"
    done
done
