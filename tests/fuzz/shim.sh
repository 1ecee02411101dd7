#!/bin/sh
# The shim under coverage and AddressSanitizer, then tests/fuzz/shim.py with libFuzzer's
# options.  Needs clang with its run-time library, and atheris in the Python on PATH.
# What it builds and finds goes to build/fuzz.
set -eu
cd "$(dirname "$0")/../.."
clang=${CLANG:-clang}
mkdir -p build/fuzz/corpus
# (bytes long enough for whole calls: from nothing, libFuzzer would stay with a few)
[ -e build/fuzz/corpus/0 ] || python -c 'import random
for k in range(200): open(f"build/fuzz/corpus/{k}", "wb").write(random.Random(k).randbytes(60 + k))'
python -c "import atheris" || { echo "fuzz: needs atheris (pip install atheris)" >&2; exit 1; }
CC=$clang CFLAGS="-fsanitize=address,fuzzer-no-link -g -O1" python -m pip install --quiet --upgrade \
    --no-build-isolation --no-deps --target build/fuzz/site --config-settings=build-dir=build/fuzz/meson .
site=$(python -c 'import atheris; print(atheris.path())')
# CPython leaks on purpose; without an allocator of its own, ASan sees every object
ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONMALLOC=malloc LD_PRELOAD="$site/asan_with_fuzzer.so" \
    PYTHONPATH=build/fuzz/site exec python tests/fuzz/shim.py -artifact_prefix=build/fuzz/ "$@" build/fuzz/corpus
