"""A kernel cache that is damaged, or that cannot be read or written, is a miss with one warning."""

import errno
import os
import random
import re
from pathlib import Path

import numba
import pytest

from layers.kernels import jit, shared_cache
from layers.kernels.shared_cache import DamagedError, SharedCache, _CheckedFiles

SIGNATURE = numba.int64(numba.int64)


def plus_one(x):
    return x + 1


class Counted(SharedCache):
    """Counts what it saves: what was compiled."""

    saved = 0

    def save_overload(self, sig, data):
        type(self).saved += 1
        super().save_overload(sig, data)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(shared_cache, "_said", set())


@pytest.fixture(autouse=True)
def _nothing_compiled(monkeypatch):
    monkeypatch.setattr(Counted, "saved", 0)


def compiled(folder: Path, on_open=lambda: None) -> int:
    """Compile or load the function as a new process would, call it, and return how often it was compiled."""
    before = Counted.saved
    dispatcher = numba.njit(plus_one)
    dispatcher._cache = Counted(plus_one, folder, on_open)
    dispatcher.compile(SIGNATURE)
    assert dispatcher(1) == 2
    return Counted.saved - before


def damage(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "a folder":
        file.unlink()
        file.mkdir()
        return
    file.write_bytes({
        "empty": b"",
        "cut": content[: len(content) // 2],
        "a bit": content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        "garbage": random.Random(0).randbytes(len(content)),
        "of numba": content[16:],
    }[how])  # fmt: skip


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("how", ["empty", "cut", "a bit", "garbage", "of numba"])
def test_what_is_damaged_is_compiled_again_with_one_warning_and_is_whole_then(tmp_path, caplog, how, ending):
    assert (compiled(tmp_path), compiled(tmp_path)) == (1, 0)
    (file,) = tmp_path.rglob(f"*.{ending}")
    damage(file, how)
    assert (compiled(tmp_path), compiled(tmp_path)) == (1, 0)
    damage(file, how)
    compiled(tmp_path)
    assert [record.message for record in caplog.records] == [
        f"warning: kernel cache {tmp_path}: {file.name} is damaged; what is damaged is compiled again"
    ]


def test_an_index_that_is_a_folder_costs_the_cache_and_no_more(tmp_path, caplog):
    compiled(tmp_path)
    (file,) = tmp_path.rglob("*.nbi")
    damage(file, "a folder")
    assert compiled(tmp_path) == compiled(tmp_path) == 1
    (record,) = caplog.records
    assert str(tmp_path) in record.message


def test_a_data_file_that_is_gone_is_compiled_again_in_silence(tmp_path, caplog):
    compiled(tmp_path)
    next(tmp_path.rglob("*.nbc")).unlink()
    assert (compiled(tmp_path), compiled(tmp_path)) == (1, 0)
    assert not caplog.records


def test_a_data_file_of_another_signature_is_not_run(tmp_path):
    files = _CheckedFiles(str(tmp_path), "f", "stamp")
    files.save("one", 1)
    files.save("two", 2)
    (tmp_path / "f.1.nbc").write_bytes((tmp_path / "f.2.nbc").read_bytes())
    assert (files.load("one"), files.load("two")) == (None, 2)


def test_files_of_another_source_are_not_read(tmp_path):
    _CheckedFiles(str(tmp_path), "f", "old").save("one", 1)
    assert _CheckedFiles(str(tmp_path), "f", "new").load("one") is None


def test_where_nothing_can_be_written_kernels_are_compiled_each_time_with_one_warning(tmp_path, caplog):
    file = tmp_path / "file"
    file.write_text("")
    assert compiled(file / "cache") == compiled(file / "cache") == 1
    (record,) = caplog.records
    assert record.message == (
        f"warning: kernel cache {file / 'cache'}: Not a directory; kernels are compiled at every start "
        "(NUMBA_CACHE_DIR moves the cache)"
    )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("writes", [0, 1])
def test_a_disk_that_fails_while_saving_is_a_warning(tmp_path, caplog, monkeypatch, code, writes):
    real, done = _CheckedFiles._write, []

    def failing(self, path, value):
        if len(done) >= writes:
            raise OSError(code, os.strerror(code))
        done.append(path)
        real(self, path, value)

    monkeypatch.setattr(_CheckedFiles, "_write", failing)
    assert compiled(tmp_path) == compiled(tmp_path) == 1
    (record,) = caplog.records
    assert f"kernel cache {tmp_path}: {os.strerror(code)}" in record.message
    monkeypatch.undo()
    assert (compiled(tmp_path), compiled(tmp_path)) == (1, 0)


def test_a_file_that_cannot_be_read_is_a_warning(tmp_path, caplog, monkeypatch):
    compiled(tmp_path)

    def refused(_files, _path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_CheckedFiles, "_read", refused)
    assert compiled(tmp_path) == 1
    (record,) = caplog.records
    assert f"kernel cache {tmp_path}: Permission denied" in record.message


def test_any_damage_is_noticed(tmp_path):
    """Random damage to the files: what is read is what was written, or nothing."""
    files = _CheckedFiles(str(tmp_path), "f", "stamp")
    random_ = random.Random(1)
    value = random_.randbytes(300)
    files.save("key", value)
    paths = [tmp_path / "f.nbi", tmp_path / "f.1.nbc"]
    whole = [path.read_bytes() for path in paths]
    for _ in range(1000):
        path, content = random_.choice(list(zip(paths, whole, strict=True)))
        path.write_bytes(damaged(content, random_))
        with pytest.raises(DamagedError):
            files.load("key")
        path.write_bytes(content)
    assert files.load("key") == value


def damaged(content: bytes, random_: random.Random) -> bytes:
    start, end = sorted(random_.choices(range(len(content) + 1), k=2))
    changed = random_.choice([
        content[:start],
        content[:start] + content[end:],
        content[:start] + random_.randbytes(end - start) + content[end:],
        content + random_.randbytes(1 + end),
    ])  # fmt: skip
    return changed if changed != content else content[:-1]


def test_without_any_folder_kernels_are_compiled_with_one_warning(monkeypatch, caplog):
    monkeypatch.setattr(jit, "base_folder", lambda: None)
    monkeypatch.setattr(jit, "cache_folder", jit.cache_folder.__wrapped__)
    assert jit.native(SIGNATURE)(plus_one)(1) == jit.native(SIGNATURE)(lambda x: x + 1)(1) == 2
    (record,) = caplog.records
    assert re.match("warning: kernel cache has no folder: .* set NUMBA_CACHE_DIR", record.message)


def test_numbas_own_cache_stays_where_the_user_has_put_it():
    assert "lockstep" not in numba.config.CACHE_DIR
