#!/bin/sh
# Which lines and branches of the Fortran, the C and the Python the suite runs.
# $VENV is ready (tools/setup.sh); arguments go to pytest.  Reports: build/coverage.
#
# Compilers make branches of their own (bounds of copies, cleaning up, inlined loops), so
# branches are counted in C and Python only, and not those that gcov marks as exceptional.
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
rm -f "$out"/.coverage*
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
# (coverage's tracer crashes where Python's allocations are made to fail)
COVERAGE_PROCESS_START=$out/rc PYTHONPATH=$out/site python -m pytest -q -n auto -p no:cacheprovider \
    -m "not slow" -k "not run_out and not allocation" "$@" || echo "coverage: the tests failed; the figures are of what ran" >&2

(cd "$out" && python -m coverage combine --rcfile=rc -q && python -m coverage report --rcfile=rc >python.txt &&
    echo "src/leastsq, Python:" && tail -n 1 python.txt)
for part in src/leastsq fortran; do
    echo "$part, compiled:"
    gcovr --root . --gcov-object-directory "$out/meson" --filter "$part/" --exclude-throw-branches --exclude-unreachable-branches \
        --gcov-ignore-errors=all --gcov-ignore-parse-errors=all --merge-mode-functions=separate \
        --txt "$out/$(basename $part).txt" --print-summary "$out/meson" 2>"$out/gcovr.log"
done
