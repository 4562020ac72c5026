"""What a wheel holds."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_package_is_listed():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    files = [path for top in ("engine", "layers", "comm") for path in (ROOT / top).rglob("__init__.py")]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in files}
    assert {name.replace("engine.lockstep", "lockstep") for name in found} == set(listed)
    assert len(listed) == len(set(listed))


def test_what_is_cited_is_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    cited = (ROOT / "CITATION.cff").read_text("utf-8").splitlines()
    assert f"version: {project['version']}" in cited
    assert f"license: {project['license']}" in cited


def test_the_package_that_jupyter_has_too_comes_without_the_file_of_both(tmp_path):
    built = tmp_path / "built"
    command = [sys.executable, "setup.py", "build", "--build-base", str(tmp_path), "--build-lib", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (built / "comm/collectives.py").exists()
    assert (built / "engine/__init__.py").exists()
    assert not (built / "comm/__init__.py").exists()
