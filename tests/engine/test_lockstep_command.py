"""The command `lockstep`."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.lockstep_command import COMMANDS, main

LOCKSTEP = Path(sys.executable).parent / "lockstep"


def test_without_a_command_all_of_them_are_listed(capsys):
    assert main([]) == main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"lockstep {name}" in printed for name in COMMANDS)


def test_an_unknown_command_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: argument command: invalid choice: 'trian'")
    assert '(did you mean "train"?)' in printed


def test_a_command_gets_its_options(capsys):
    assert main(["train", "--steps", "0", "--epochs", "0"]) == 2
    assert "exactly one must be at least 1" in capsys.readouterr().err


def test_files_of_the_users_with_our_names_are_not_imported(tmp_path):
    for name in ("engine", "layers", "comm", "lockstep"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported by accident')\n")
    done = subprocess.run(
        [LOCKSTEP, "train", "--steps", "2", "--threads", "1", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/run.json").exists()
