#!/bin/sh
# What a stranger meets on a clean Debian: tools/clean_machine.sh SUITE [FOLDER]
#
# SUITE is bookworm or trixie, FOLDER the new system's root (default: build/clean/SUITE; kept, and used again).
# Needs root, debootstrap and a Debian mirror.  Git's HEAD is copied into the system, as a user's checkout.  Then, as a user
# who has README.md only: the sdist without a compiler (it must refuse, and say what to install), README's lines of "Install"
# as they are printed, README's first fit, the wheel on a machine without a compiler, and a fit with a bound, a plot and a batch.
# The machine's pip settings and certificates are copied, so that a mirror of PyPI goes on to serve.
#
# Exit status: 0, or 1 with what went wrong.
set -eu
suite=${1:?usage: tools/clean_machine.sh SUITE [FOLDER]}
here=$(cd "$(dirname "$0")/.." && pwd)
root=${2:-$here/build/clean/$suite}
mirror=${MIRROR:-http://deb.debian.org/debian}
say() { printf '\n== %s\n' "$*"; }

if [ ! -x "$root/usr/bin/apt-get" ]; then
    say "$suite from $mirror"
    mkdir -p "$root"
    debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
fi

mounted=
leave() { for place in $mounted; do umount "$root/$place"; done; }
trap leave EXIT
mount -t proc proc "$root/proc"
mounted=proc
mount --bind /dev "$root/dev"
mounted="dev $mounted"
cp /etc/resolv.conf "$root/etc/resolv.conf"
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/machine.crt"       # a name that the package ca-certificates leaves alone
    printf '[global]\ncert = /etc/machine.crt\n' >"$root/etc/pip.conf"
fi

# in the new system: a command, in the stranger's home, with none of this machine's settings
inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -c "cd /root/leastsq && $1"
}
# the block of README.md whose first line is $1, or the indented lines that hold $1
readme_python() { awk '/^```python$/ { on = 1; next } /^```$/ { if (on) exit } on' "$here/README.md"; }
readme_text() { awk '/^```text$/ { on = 1; next } /^```$/ { if (on) exit } on' "$here/README.md"; }
readme_line() { grep -F "$1" "$here/README.md" | head -n 1; }

rm -rf "$root/root/leastsq" "$root/root/try"
mkdir -p "$root/root/leastsq" "$root/root/try"
git -C "$here" archive HEAD | tar -x -C "$root/root/leastsq"
head -n 1 "$root/etc/os-release"

say "Python alone, no compiler: the sdist must refuse"
inside "apt-get update -qq && apt-get install -y -qq python3-venv git ca-certificates >/dev/null" 2>/dev/null
inside "apt-get purge -y -qq gfortran gcc g++ python3-dev >/dev/null 2>&1; apt-get autoremove -y -qq >/dev/null 2>&1; ! command -v gfortran"
sdist=$(ls -t "$here"/dist/leastsq-*.tar.gz 2>/dev/null | head -n 1 || true)
if [ -n "$sdist" ]; then
    cp "$sdist" "$root/root/try/"
    inside "python3 -m venv /root/try/none && ! /root/try/none/bin/pip install -q /root/try/$(basename "$sdist") >/root/try/refusal 2>&1"
    grep -q "apt-get install gcc gfortran" "$root/root/try/refusal" || { tail -n 30 "$root/root/try/refusal"; exit 1; }
    grep -n "gfortran" "$root/root/try/refusal"
    echo "lines of the refusal: $(wc -l <"$root/root/try/refusal")"
    say "a compiler, no headers of Python: the sdist must refuse"
    inside "apt-get install -y -qq --no-install-recommends gcc gfortran libc6-dev >/dev/null 2>&1; \
        ! /root/try/none/bin/pip install -q /root/try/$(basename "$sdist") >/root/try/refusal 2>&1"
    grep -A 1 "needs the headers of Python" "$root/root/try/refusal" || { tail -n 30 "$root/root/try/refusal"; exit 1; }
    inside "apt-get purge -y -qq gfortran gcc >/dev/null 2>&1; apt-get autoremove -y -qq >/dev/null 2>&1; ! command -v gfortran"
else
    echo "no sdist in dist/: make wheels makes one"
fi

say "the wheel, no compiler"
tag=$(inside "python3 -c 'import sys; print(\"cp%d%d\" % sys.version_info[:2])'")
wheel=$(ls -t "$here"/dist/leastsq-*-"$tag"-*linux*.whl 2>/dev/null | head -n 1 || true)
if [ -n "$wheel" ]; then
    cp "$wheel" "$root/root/try/"
    inside "python3 -m venv /root/try/wheel && /root/try/wheel/bin/pip install -q /root/try/$(basename "$wheel") && cd /root/try && wheel/bin/python -m leastsq"
else
    echo "no wheel for $tag in dist/: make wheels makes one"
fi

say "the lines of README: system packages, environment, install"
packages=$(grep -o 'sudo apt-get install [^`]*' "$here/README.md" | head -n 1)
echo "${packages#sudo }"
inside "${packages#sudo } -y -qq >/dev/null 2>&1"
venv=$(readme_line "python3 -m venv .venv")
install=$(readme_line ".venv/bin/pip install" | sed 's/#.*//')
echo "$venv"; echo "$install"
inside "rm -rf .venv && $venv && $install -q"

say "README's first fit"
readme_python >"$root/root/try/first.py"
readme_text >"$root/root/try/first.expected"
inside "cd /root/try && MPLBACKEND=Agg /root/leastsq/.venv/bin/python first.py >first.printed"
cat "$root/root/try/first.printed"
cmp "$root/root/try/first.expected" "$root/root/try/first.printed"
ls -l "$root/root/try/first_fit.png"

say "a bound, a report, a plot, a batch"
cat >>"$root/root/try/first.py" <<'PYTHON'
bounded = lsq.fit(decay, t, y, {"height": 1, "rate": 1, "level": 0.1}, bounds={"level": (0, 0.4)})
print(lsq.report(bounded))
print(lsq.confidence_intervals(fit))
curves = y + 0.1*np.random.default_rng(2).standard_normal((1000, t.size))
many = lsq.curve_fit_batch(decay, t, curves, [1, 1, 0])
print(many, many.popt.shape, many.success.all())
PYTHON
inside "cd /root/try && MPLBACKEND=Agg /root/leastsq/.venv/bin/python first.py"

say "make demo"
inside "make demo | tail -n 5 && ls -l out/nist.png"
say "done"
