#!/bin/sh
# Run the suite under AddressSanitizer and UBSan, with all run-time checks of gfortran; threads
# under ThreadSanitizer; the Fortran under valgrind.  $VENV must be ready (tools/setup.sh).
#
#   tools/sanitize.sh [suite] [threads] [valgrind] [-- arguments of pytest]
#
# All three, unless some are named.  Builds go to build/sanitize.
set -eu
cd "$(dirname "$0")/.."
PATH=$(cd "${VENV:-.venv}/bin" && pwd):$PATH
export PATH
CC=${CC:-gcc} FC=${FC:-gfortran}
out=build/sanitize
mkdir -p $out

parts=
while [ $# -gt 0 ] && [ "$1" != -- ]; do parts="$parts $1"; shift; done
[ $# -eq 0 ] || shift
[ -n "$parts" ] || parts="suite threads valgrind"

# -------------------------------------------------- AddressSanitizer and UBSan

# Build a second copy of the package, next to the one in $VENV.  The first report ends the process.
build() {
    checks="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    # (checks of Fortran's bounds, pointers and loops; temporary arrays are not faults)
    CC=$CC FC=$FC CFLAGS="$checks -O1 -g" FFLAGS="$checks -O1 -g -fcheck=all,no-array-temps,no-recursion" \
        LDFLAGS="$checks" python -m pip install --quiet --upgrade --no-build-isolation --no-deps \
        --target $out/site --config-settings=build-dir=$out/meson --config-settings=setup-args=-Dreference=auto \
        --config-settings=setup-args=-Db_sanitize=address,undefined --config-settings=setup-args=-Db_lundef=false . \
        >$out/build.log 2>&1 </dev/null || { cat $out/build.log >&2; exit 1; }
}

# CPython's own allocator would hide accesses past the end of an object.  Left out are tests that
# limit or measure the memory of the process, measure its time, or build what they test, and a
# problem whose answer depends on the last bits of this build's instructions.
suite() {
    build
    env LD_PRELOAD="$($CC -print-file-name=libasan.so) $($CC -print-file-name=libubsan.so)" \
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1:strict_init_order=1" \
        UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH="$PWD/$out/site" \
        python -m pytest -q -n auto -p no:cacheprovider -m "not slow" \
        tests/many/test_accumulator.py tests/many/test_batch.py tests/many/test_batch_faults.py tests/many/test_batch_lanes.py \
        tests/many/test_batch_options.py tests/many/test_block_faults.py tests/many/test_blocks.py \
        tests/fit/test_ask_tell.py tests/fit/test_blocked.py tests/fit/test_callbacks.py tests/fit/test_compiled.py \
        tests/dropin/test_curve_fit.py tests/fit/test_derivatives.py tests/fit/test_errors.py \
        tests/dropin/test_least_squares.py tests/fit/test_losses.py tests/dropin/test_returns.py tests/dropin/test_signature.py \
        tests/faults/test_blocked_faults.py tests/faults/test_every_fault.py tests/faults/test_faults.py \
        tests/faults/test_private.py tests/faults/test_arguments_are_fresh.py tests/faults/test_edges.py \
        tests/faults/test_returned_kinds.py tests/faults/test_short_writes.py tests/faults/test_vanished_steps.py \
        tests/parity/test_parity.py tests/parity/test_reference_engine.py \
        tests/parity/test_reproducibility.py tests/parity/test_scipy.py \
        -k "not memory and not allocation and not threads_that_cannot and not ctrl_c and not leak and not grow \
            and not needs_ and not the_core_repeats and not gaussian-3-15-x100" "$@"
}

# ------------------------------------------------- the Fortran without Python

# tests/programs/threads.c and all of the Fortran.  $1: a folder for it, $2: flags
driver() {
    folder=$out/$1 flags="$2 -O1 -g"
    rm -rf "$folder"
    mkdir -p "$folder"
    core=$(cd tests/fuzz && python -c 'from differential import FORTRAN, compile_order
print(*compile_order(list(FORTRAN.rglob("*.f90"))))')
    while read -r file; do
        cat "fortran/kernels/$file.F90"
    done <fortran/kernels/order.txt >"$folder/kernels.F90"
    headers="-Isrc/shim -Isrc/leastsq/include -Ifortran/api -Ifortran/kernels $(python -c 'import numpy, sysconfig
print("-isystem", sysconfig.get_path("include"), "-isystem", numpy.get_include())')"
    # shellcheck disable=SC2086  # several words each
    {
        for file in $core; do
            $FC $flags -std=f2018 -ffp-contract=off "-J$folder" -c "$file" -o "$folder/$(basename "$file").o"
        done
        $FC $flags -std=f2018 -cpp -DISA=baseline -fopenmp-simd "-J$folder" -c "$folder/kernels.F90" \
            -o "$folder/kernels.o"
        $CC $flags -std=c11 -Wall -Wextra -Werror $headers -c tests/programs/threads.c -o "$folder/threads.o"
        $FC $flags -o "$folder/threads" "$folder"/*.o -lpthread -lm
    }
}

threads() {
    driver tsan -fsanitize=thread
    TSAN_OPTIONS=halt_on_error=1 $out/tsan/threads
}

valgrind_() {
    driver plain ""
    valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=all $out/plain/threads
}

for part in $parts; do
    case $part in
        suite) suite "$@" ;;
        threads) threads ;;
        valgrind) valgrind_ ;;
        *) echo "sanitize: unknown part '$part'" >&2; exit 2 ;;
    esac
    echo "sanitize: $part: clean"
done
