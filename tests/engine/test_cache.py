"""The command that shows and empties the kernel cache."""

import pytest

from engine.cache import main
from layers.kernels.jit import cache_folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "lockstep-kernels"
    inside = folder / ("a" * 16) / "layers"
    inside.mkdir(parents=True)
    (inside / "f.1.nbc").write_bytes(b"x" * 2_500_000)
    (folder / cache_folder().name).mkdir()
    return folder


def test_it_shows_place_versions_and_size(place, capsys):
    assert main([]) == 0
    first, _, new, own, last = capsys.readouterr().out.splitlines()
    assert first == f"kernel cache: {place}"
    assert new.split() == ["a" * 16, "2.5", "MB", "today", "unknown"]
    assert own.split()[0] == cache_folder().name
    assert last == "2 versions, 2.5 MB"


def test_it_removes_all_versions(place, capsys):
    (place / "notes.txt").write_text("mine")
    assert main(["--clear"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "removed 2 versions, 2.5 MB"
    assert [file.name for file in place.iterdir()] == ["notes.txt"]
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["  empty"]


def test_what_cannot_be_removed_is_said(place, capsys):
    (place / ("a" * 16) / "notes.txt").write_text("mine")
    assert main(["--clear"]) == 2
    assert capsys.readouterr().err == "error: 1 version cannot be removed\n"


def test_a_process_without_any_folder_says_so(monkeypatch, capsys):
    monkeypatch.setattr("layers.kernels.cache_folder.base_folder", lambda: None)
    assert main([]) == 0
    assert "none" in capsys.readouterr().out
