"""What a wheel holds."""

import os
import shutil
import subprocess
import sys
import tomllib
from hashlib import sha256
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


def test_a_commit_has_one_wheel_and_one_source_archive(tmp_path):
    def built(name, *, umask, touched):
        tree = tmp_path / name / "tree"
        for top in ("engine", "layers", "comm"):
            shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / file, tree / file)
            os.utime(tree / file, (touched, touched))
        command = [sys.executable, "setup.py", "-q", "sdist", "bdist_wheel"]
        environment = os.environ | {"SOURCE_DATE_EPOCH": "1790000000"}
        subprocess.run(command, cwd=tree, env=environment, umask=umask, check=True, capture_output=True)
        return {path.name: sha256(path.read_bytes()).hexdigest() for path in (tree / "dist").iterdir()}

    one = built("one", umask=0o022, touched=1_700_000_000)
    assert sorted(Path(name).suffix for name in one) == [".gz", ".whl"]
    assert built("another", umask=0o077, touched=1_750_000_000) == one


def test_the_package_that_jupyter_has_too_comes_without_the_file_of_both(tmp_path):
    built = tmp_path / "built"
    command = [sys.executable, "setup.py", "build", "--build-base", str(tmp_path), "--build-lib", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (built / "comm/collectives.py").exists()
    assert (built / "engine/__init__.py").exists()
    assert not (built / "comm/__init__.py").exists()
