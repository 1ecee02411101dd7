"""Find the Pythons of this machine.

    python tools/pythons.py 3.12        prints the path of the newest, if it is 3.12 or later
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

_IDENTITY = """
import json, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]), "final": sys.version_info[3] == "final",
    "implementation": sys.implementation.name, "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "executable": sys.executable,
}))
"""


def identity(python):
    """Facts about an interpreter; None if it does not run."""
    try:
        done = subprocess.run([python, "-c", _IDENTITY], capture_output=True, text=True, timeout=60, check=True)
        return json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def candidates():
    """Paths at which interpreters are usually installed."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield from sorted(path for path in Path(folder).glob("python3*") if re.fullmatch(r"python3(\.\d+t?)?", path.name))
    home = Path.home()
    for versions in (Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions",
                     home / ".local" / "share" / "uv" / "python", Path("/opt/python")):
        yield from sorted(versions.glob("*/bin/python3"))


def find_pythons(paths, oldest):
    """{name: path}: one CPython >= oldest of each feature version, the newest patch."""
    best = {}
    for path in paths:
        facts = identity(path)
        if facts is None or facts["implementation"] != "cpython" or not facts["final"]:
            continue
        version = tuple(facts["version"])
        if version[:2] < oldest:
            continue
        name = f"cp{version[0]}{version[1]}" + "t" * facts["threaded"]
        if name not in best or best[name][0] < version:
            best[name] = version, Path(facts["executable"])     # pyenv's shims are not interpreters
    return {name: path for name, (_, path) in sorted(best.items(), key=lambda item: item[1][0])}


if __name__ == "__main__":
    found = find_pythons(candidates(), tuple(map(int, sys.argv[1].split("."))))
    print(*[path for name, path in found.items() if not name.endswith("t")][-1:])
