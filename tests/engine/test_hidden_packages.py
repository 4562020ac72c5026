"""What a user's folder holds is not imported in place of a module of ours, or of one that we use."""

import subprocess
import sys
from pathlib import Path

import pytest

import engine

ROOT = Path(engine.__file__).parents[1]


def python(folder: Path, *arguments: str, first: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Start Python in a folder, with the checkout installed, so to speak, or behind another folder."""
    path = f"{first}:{ROOT}" if first else str(ROOT)
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env={"PYTHONPATH": path}, check=False, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def full(tmp_path):
    """Return a folder of names that we import, too."""
    for name in ("layers", "comm", "numpy", "numba", "argparse", "json"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')")
    (tmp_path / "engine").mkdir()  # without an __init__.py, as a folder of results
    return tmp_path


def test_a_command_imports_nothing_from_the_current_folder(full):
    done = python(full, "-m", "engine.cache")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_of_the_user_can_still_be_imported():
    path = ["/tmp/here", "/installed"]
    engine._put_current_folder_last(["-m", "train"], path, Path("/installed"))
    assert path == ["/installed", "/tmp/here"]


@pytest.mark.parametrize(
    ("arguments", "first"), [(["-m"], "/checkout"), (["script.py"], "/here"), ([], "/here")]
)
def test_a_checkout_and_a_script_keep_their_folder_first(arguments, first):
    path = [first, "/installed"]
    engine._put_current_folder_last(arguments, path, Path("/checkout"))
    assert path == [first, "/installed"]


def test_a_package_that_is_hidden_is_named_in_one_line(tmp_path):
    (tmp_path / "layers.py").write_text("")
    done = python(Path("/"), "-m", "engine.train", first=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/layers.py is found where lockstep's package layers should be; rename it, "
        "or start elsewhere\n"
    )


def test_a_script_beside_a_hiding_file_is_told(tmp_path):
    (tmp_path / "comm").mkdir()
    (tmp_path / "comm" / "__init__.py").write_text("")
    (tmp_path / "script.py").write_text("from engine.api.training import train")
    done = python(tmp_path, "script.py")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: {tmp_path}/comm/__init__.py is found where lockstep's package comm")


def test_jupyters_package_of_our_name_is_shared(tmp_path):
    (tmp_path / "comm").mkdir()
    (tmp_path / "comm" / "__init__.py").write_text("def create_comm():\n    return 7\n")
    (tmp_path / "comm" / "base_comm.py").write_text("")
    (tmp_path / "script.py").write_text(
        "import comm, engine\nfrom comm import terminal\nprint(comm.create_comm(), terminal.STDERR)\n"
    )
    done = python(tmp_path, "script.py")
    assert (done.stdout, done.stderr) == ("7 2\n", "")
