"""Where compiled kernels are kept, and what is removed of them."""

import json
import os
import time
from pathlib import Path

import pytest

from layers.kernels import cache_folder
from layers.kernels.cache_folder import base_folder, make_version, note_use, remove, remove_old, versions

NAME = cache_folder.NAME
DAY = 86_400.0


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def no_home(monkeypatch):
    def missing():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", missing)


def test_the_place_follows_numba_then_xdg_then_home(tmp_path, home):
    numba, xdg = {"NUMBA_CACHE_DIR": str(tmp_path / "n")}, {"XDG_CACHE_HOME": str(tmp_path / "x")}
    assert base_folder(numba | xdg) == tmp_path / "n" / NAME
    assert base_folder(xdg) == tmp_path / "x" / NAME
    assert base_folder({"XDG_CACHE_HOME": "relative", "NUMBA_CACHE_DIR": ""}) == home / ".cache" / NAME
    assert base_folder({}) == home / ".cache" / NAME
    assert not list(home.iterdir()), "asking makes nothing"


@pytest.mark.usefixtures("no_home")
def test_without_a_home_it_is_a_temporary_folder_of_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = base_folder({})
    assert place == tmp_path / f"{NAME}-{os.getuid()}"
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)
    assert base_folder({}) is None, "others may write there what this process would run"
    place.chmod(0o700)
    place.rename(tmp_path / "other")
    place.symlink_to(tmp_path / "other")
    assert base_folder({}) is None


def test_a_home_that_is_no_absolute_path_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "not/absolute")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert base_folder({}).parent == tmp_path


def test_a_home_that_cannot_be_written_is_used_if_it_holds_kernels(tmp_path, home, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cache_folder, "_can_write", lambda _folder: False)
    assert base_folder({}).parent == tmp_path
    (home / ".cache" / NAME / ("a" * 16)).mkdir(parents=True)
    assert base_folder({}) == home / ".cache" / NAME


@pytest.mark.usefixtures("no_home")
def test_without_any_temporary_folder_there_is_none(monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile.gettempdir", lambda: (_ for _ in ()).throw(FileNotFoundError("none")))
    assert base_folder({}) is None
    monkeypatch.setattr("tempfile.gettempdir", os.getcwd)  # what Python falls back to
    assert base_folder({}) is None


def test_a_folder_is_writable_if_the_nearest_one_that_exists_is(tmp_path):
    assert cache_folder._can_write(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    assert not cache_folder._can_write(tmp_path / "file" / "b")
    assert not cache_folder._can_write(Path("/proc/self/lockstep"))


def made(base: Path, name: str, *, days: float = 0.0, mark: bool = True) -> Path:
    folder = base / name
    inside = folder / "layers_0123"
    inside.mkdir(parents=True)
    if mark:
        (folder / "about.json").write_text(json.dumps({"numba": "0.65"}))
    for file in ("f-1.py311.nbi", "f-1.py311.1.nbc", "layers.f-1.lock"):
        (inside / file).write_bytes(b"12345")
    for file in folder.rglob("*"):
        os.utime(file, (time.time() - days * DAY,) * 2)
    return folder


def test_versions_are_listed_with_size_and_use(tmp_path):
    made(tmp_path, "a" * 16, days=3)
    made(tmp_path, "b" * 16, days=1, mark=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / ("c" * 16)).write_text("a file")
    new, old = versions(tmp_path)
    assert (new.folder.name[0], new.bytes, new.about) == ("b", 15, {})
    assert (old.folder.name[0], old.about) == ("a", {"numba": "0.65"})
    assert old.used == pytest.approx(time.time() - 3 * DAY, abs=60)
    assert not versions(tmp_path / "nowhere")


def test_a_new_version_removes_those_long_unused(tmp_path):
    made(tmp_path, "a" * 16, days=61)
    kept = made(tmp_path, "b" * 16, days=59)
    new = tmp_path / ("c" * 16)
    make_version(new, {"numba": "0.66"})
    assert [version.folder for version in versions(tmp_path)] == [new, kept]
    assert versions(tmp_path)[0].about == {"numba": "0.66"}
    old = made(tmp_path, "d" * 16, days=99)
    make_version(new, {})
    assert old.exists(), "it is not new any more"


def test_versions_beyond_a_number_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_folder, "MOST_VERSIONS", 3)
    for days, letter in enumerate("abcd", start=1):
        made(tmp_path, letter * 16, days=days)
    remove_old(tmp_path, keep=tmp_path / ("d" * 16))
    assert [version.folder.name[0] for version in versions(tmp_path)] == ["a", "b", "d"]


def test_only_what_was_made_here_is_removed(tmp_path):
    folder = made(tmp_path, "a" * 16)
    own = [folder / "notes.txt", folder / "layers_0123" / "weights.npz"]
    for file in own:
        file.write_text("mine")
    outside = made(tmp_path / "elsewhere", "b" * 16)
    (tmp_path / ("b" * 16)).symlink_to(outside)
    for version in versions(tmp_path):
        remove(version.folder)
    assert sorted(file for file in tmp_path.joinpath("a" * 16).rglob("*") if file.is_file()) == sorted(own)
    assert (outside / "about.json").exists()


def test_use_is_noted_once_a_day(tmp_path):
    folder = made(tmp_path, "a" * 16, days=10)
    note_use(folder)
    assert time.time() - versions(tmp_path)[0].used < 60
    note_use(tmp_path / "nowhere")
