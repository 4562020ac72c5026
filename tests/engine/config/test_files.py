"""Files are written whole or not at all, and what fails is the user's to mend."""

import os
from pathlib import Path

import pytest

from engine.config.errors import UserError
from engine.config.files import reading, unfinished, write_whole, writing


@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), (b"\xc3", b"\xa9\n")])
def test_a_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == "é\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_halfway_leaves_the_old_file(tmp_path):
    def broken():
        yield b"new"
        raise OSError(28, "No space left on device")

    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, broken())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "new")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_and_then_its_name_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(file):
        synced.append(Path(f"/proc/self/fd/{file}").readlink())
        real(file)

    if not Path("/proc/self/fd").exists():
        pytest.skip("reads /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", "x")
    assert synced == [unfinished(tmp_path / "a"), tmp_path]


def test_errors_name_the_option_and_the_file(tmp_path):
    path = tmp_path / "none" / "a.json"
    with pytest.raises(UserError) as caught, writing(path, "out"):
        write_whole(path, "x")
    assert str(caught.value) == f"out: {path}: cannot be written: No such file or directory"
    with pytest.raises(UserError) as caught, reading(path):
        path.read_bytes()
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"
    with pytest.raises(UserError) as caught, reading(tmp_path):
        raise OSError("nameless")
    assert str(caught.value) == f"{tmp_path}: cannot be read: nameless"
