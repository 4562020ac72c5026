"""Files are written whole or not at all, and what fails is the user's to mend."""

import io
import os
import re
from pathlib import Path

import pytest

from engine.config import files
from engine.config.errors import UserError
from engine.config.files import (
    check_place,
    check_regular,
    open_file,
    read_bytes,
    read_text,
    reading,
    unfinished,
    write_whole,
    writing,
)


@pytest.mark.parametrize("content", ["é\n", "é\n".encode(), (b"\xc3", b"\xa9\n")])
def test_a_file_holds_what_was_written_and_nothing_is_left_beside_it(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_text("old")
    write_whole(path, content)
    assert path.read_bytes() == "é\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt(), MemoryError()])
def test_what_ends_halfway_leaves_the_old_file(tmp_path, error):
    def broken():
        yield b"new"
        raise error

    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(type(error)):
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


@pytest.mark.parametrize("read", [open_file, read_bytes, read_text, check_regular])
def test_only_a_regular_file_is_read(tmp_path, read):
    (tmp_path / "file").write_bytes(b"\xc3\xa9\r\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to(os.devnull)
    (tmp_path / "folder").mkdir()
    for name in ("file", "link"):
        opened = read(tmp_path / name)
        if read is open_file:
            opened.close()
    kinds = {
        "pipe": "it is no regular file but a pipe",
        "device": "it is no regular file but a device or socket",
        "folder": "Is a directory",
        "none": "No such file or directory",
    }
    for name, said in kinds.items():
        with pytest.raises(UserError) as caught, reading(tmp_path / name, "x"):
            read(tmp_path / name)
        assert str(caught.value) == f"x: {tmp_path / name}: cannot be read: {said}"


def test_bytes_and_text_are_those_of_the_file(tmp_path):
    (tmp_path / "file").write_bytes(b"\xc3\xa9\r\n")
    assert read_bytes(tmp_path / "file") == b"\xc3\xa9\r\n"
    assert read_text(tmp_path / "file") == "é\n"


def test_a_file_larger_than_memory_is_an_error_of_the_system(tmp_path, monkeypatch):
    class Huge(io.BytesIO):
        def read(self, size=-1):
            raise MemoryError

    monkeypatch.setattr(files, "open_file", lambda _: Huge())
    with pytest.raises(UserError, match="cannot be read: Cannot allocate memory"), reading(tmp_path):
        read_bytes(tmp_path / "huge")


def test_nothing_else_opens_files_that_users_name():
    own = {
        "config/files.py",
        "config/toml_fields.py",  # files that are shipped
        "formats/names.py",
        "models/whitening.py",
        "report/document.py",
        "run/published.py",
        "host/control_groups.py",  # files of the kernel
        "host/memory_limit.py",
        "host/processor.py",
        "doctor/memory_checks.py",
        "run/late_ranks.py",
    }
    engine = Path(files.__file__).parents[1]
    opening = re.compile(r'\.(read_bytes|read_text)\(|\bopen\([^)]*"r?b?"\)|\.open\(\)')
    found = {
        str(path.relative_to(engine))
        for path in engine.rglob("*.py")
        if opening.search(path.read_text("utf-8"))
    }
    assert found <= own


def test_what_has_the_place_of_an_unfinished_file_is_not_written_to(tmp_path):
    path, users = tmp_path / "recipe.toml", tmp_path / "users.toml"
    users.write_text("mine")
    unfinished(path).symlink_to(users)
    write_whole(path, "new")
    assert (users.read_text(), path.read_text(), path.is_symlink()) == ("mine", "new", False)
    os.mkfifo(unfinished(path))
    check_place(path, "out", overwrite=True)
    os.mkfifo(unfinished(path))
    write_whole(path, "newer")
    assert sorted(tmp_path.iterdir()) == [path, users]


def test_a_place_is_checked_before_the_work(tmp_path):
    (tmp_path / "there").write_text("mine")
    check_place(tmp_path / "new", overwrite=False)
    check_place(tmp_path / "there", overwrite=True)
    for path, said in (
        (tmp_path, "is a folder; give the name of a file"),
        (tmp_path / "no" / "new", f"there is no folder {tmp_path / 'no'}"),
        (tmp_path / "there", "exists; give another name, or --overwrite"),
    ):
        with pytest.raises(UserError, match=f"^{path}: {said}$"):
            check_place(path, overwrite=False)
        with pytest.raises(UserError, match=f"^out: {path}: {said}$"):
            check_place(path, "out", overwrite=False)
    assert (tmp_path / "there").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_device_a_pipe_and_a_link_stay_what_they_are(tmp_path, overwrite):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("mine")
    for name, leads in (("link", "file"), ("gone", "nowhere"), ("null", os.devnull)):
        (tmp_path / name).symlink_to(leads)
    before = sorted(tmp_path.iterdir())
    for path, said in (
        (Path(os.devnull), "is a device, a pipe or a socket, and stays one; give the name of a file"),
        (tmp_path / "pipe", "is a device, a pipe or a socket, and stays one; give the name of a file"),
        (tmp_path / "link", "is a link to file, and stays one; give the name of a file"),
        (tmp_path / "gone", "is a link to nowhere, and stays one; give the name of a file"),
        (tmp_path / "null", f"is a link to {os.devnull}, and stays one; give the name of a file"),
    ):
        with pytest.raises(UserError, match=f"^out: {path}: {said}$"):
            check_place(path, "out", overwrite=overwrite)
    assert sorted(tmp_path.iterdir()) == before
