"""Files that grow: what is new is read once, and another file of the name from its beginning."""

import json
import os

import pytest

from engine.report import watched_files
from engine.report.watched_files import GrowingFile, KeptFile


class Reader:
    """Reads a growing file, and notes what it is told."""

    def __init__(self, path, **settings):
        self.file, self.lines = GrowingFile(path, **settings), []

    def new(self):
        self.lines = []
        self.file.read(self.lines.append, lambda: self.lines.append("another"))
        return self.lines


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lines"


def test_a_line_comes_once_and_one_without_its_end_waits_for_it(path):
    reader = Reader(path)
    assert reader.new() == []
    assert reader.file.changed_at is None
    path.write_bytes(b"a\nb\nhal")
    assert reader.new() == [b"a", b"b"]
    assert reader.new() == []
    with path.open("ab") as file:
        file.write(b"f\nc\n")
    assert reader.new() == [b"half", b"c"]
    assert reader.file.changed_at == path.stat().st_mtime
    assert reader.file.beginnings == 0


def test_only_what_is_new_is_read(path, monkeypatch):
    path.write_bytes(b"a\n" * 1000)
    reader = Reader(path)
    reader.new()
    opened = []
    monkeypatch.setattr(watched_files, "open_file", opened.append)
    assert reader.new() == []
    assert opened == []


@pytest.mark.parametrize("content", [b"x\n", b"x\ny\nz\n", b"x\ny\nand more\n"])
@pytest.mark.parametrize("way", ["in place", "another file", "away for a while"])
def test_another_file_of_the_name_is_read_from_its_beginning(path, content, way):
    path.write_bytes(b"a\nb\nc\n")
    reader = Reader(path)
    reader.new()
    if way == "away for a while":
        path.unlink()
        assert reader.new() == []
    if way == "another file":
        other = path.with_name("other")
        other.write_bytes(content)
        other.replace(path)
    else:
        path.write_bytes(content)
    os.utime(path, (1, 1))
    assert reader.new() == ["another", *content.splitlines()]
    assert reader.file.beginnings == 1


def test_a_look_at_the_tail_begins_with_a_whole_line_and_goes_on_from_there(path):
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    reader = Reader(path, tail=20)
    assert reader.new() == [b"line 98", b"line 99"]
    with path.open("ab") as file:
        file.write(b"more\n")
    assert reader.new() == [b"more"]
    with path.open("ab") as file:
        file.write(b"much more\n" * 10)
    assert reader.new() == [b"much more"]
    assert reader.file.beginnings == 0


def test_a_tail_without_a_line_does_not_hide_another_file(path):
    path.write_bytes(b"x" * 100)
    reader = Reader(path, tail=20)
    assert reader.new() == []
    path.write_bytes(b"a\nb\n")
    assert reader.new() == ["another", b"a", b"b"]


def test_a_line_that_never_ends_does_not_fill_the_memory(path, monkeypatch):
    monkeypatch.setattr(watched_files, "_PIECE", 8)
    path.write_bytes(b"x" * 30 + b"\ny\n")
    found = Reader(path).new()
    assert b"".join(found[:-1]) == b"x" * 30
    assert found[-1] == b"y"
    assert max(map(len, found)) <= 16


def test_a_pipe_or_a_folder_has_no_lines_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        assert Reader(tmp_path / name).new() == []
        assert KeptFile(tmp_path / name, json.loads, {}).look() == {}


def test_a_kept_file_is_read_again_when_it_has_changed_and_is_nothing_where_it_is_damaged(path):
    kept = KeptFile(path, json.loads, {})
    assert (kept.look(), kept.changed_at) == ({}, None)
    looks = []
    for content in ('{"a": 1}', '{"a": 1}', '{"a": 2}', '{"a"', '{"a": 2}'):
        path.write_text(content)
        os.utime(path, (len(looks), len(looks)))
        looks.append((kept.look(), kept.changes))
    assert looks == [({"a": 1}, 1), ({"a": 1}, 1), ({"a": 2}, 2), ({}, 3), ({"a": 2}, 4)]
    path.unlink()
    assert (kept.look(), kept.changes, kept.changed_at) == ({}, 5, None)
