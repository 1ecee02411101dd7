"""An editable install, as CONTRIBUTING.md offers it: what runs is the checkout, and a change is seen at the next import."""
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIT = "import leastsq; print(leastsq.leastsq(lambda x: [x[0] - 3.0, x[1] + 1.0], [1.0, 1.0])[0], leastsq.__file__)"


@pytest.mark.slow
def test_an_editable_install_runs_the_checkout_and_sees_its_changes(tmp_path, need_program):
    files = subprocess.run([need_program("git"), "-C", ROOT, "ls-files"], capture_output=True, text=True, check=False)
    if files.returncode:
        pytest.skip("not a git checkout: which files belong to it is not known")
    source, env = tmp_path/"checkout", tmp_path/"env"
    for name in files.stdout.splitlines():
        if (ROOT/name).is_file():
            (source/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT/name, source/name)
    subprocess.run([sys.executable, "-m", "venv", env], check=True)
    python = env/"bin"/"python"
    # the build requirements and NumPy are those of the environment of the tests
    packages = sysconfig.get_path("purelib", vars={"base": str(env), "platbase": str(env)})
    (Path(packages)/"of_the_tests.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--no-index", "-e", source],
                   check=True, env=environ)

    def run(code):
        return subprocess.run([python, "-c", code], check=True, env=environ, cwd=tmp_path, capture_output=True, text=True).stdout

    said = run(FIT)
    assert said.startswith("[ 3. -1.]") and str(source) in said
    status = source/"src"/"leastsq"/"_fit"/"status.py"
    status.write_text(status.read_text().replace("__all__ = [", "CHANGED = 'Python'\n__all__ = [", 1))
    assert run("from leastsq._fit.status import CHANGED; print(CHANGED)").strip() == "Python"
    # C and Fortran are built again at import
    entry = source/"src"/"shim"/"module.c"
    text = entry.read_text()
    old = text[text.index('.m_doc = "') + len('.m_doc = "'):].partition('"')[0]
    entry.write_text(text.replace(f'.m_doc = "{old}"', '.m_doc = "changed"'))
    assert run("from leastsq import _core; print(_core.__doc__)").strip() == "changed"
