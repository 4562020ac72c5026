"""That kernels are being compiled is said when they are, and not otherwise."""

import numba
import pytest

from engine.run.compiling import LINE, compilation_said
from layers.kernels import jit
from layers.kernels.shared_cache import SharedCache

SIGNATURE = numba.int64(numba.int64)


@pytest.fixture
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path / "version")


def compiled(*functions):
    for function in functions:
        jit.native(SIGNATURE)(function)


def plus_one(x):
    return x + 1


def plus_two(x):
    return x + 2


@pytest.mark.usefixtures("_empty_cache")
def test_the_first_miss_of_a_process_is_said_once(capsys):
    with compilation_said():
        compiled(plus_one, plus_two)
    assert capsys.readouterr().err == f"{LINE}\n"
    assert SharedCache.on_miss is None


@pytest.mark.usefixtures("_empty_cache")
def test_it_is_said_also_when_only_a_part_of_the_cache_is_cold(capsys):
    compiled(plus_one)
    with compilation_said():
        compiled(plus_one)
        assert not capsys.readouterr().err
        compiled(plus_two)
    assert capsys.readouterr().err == f"{LINE}\n"


@pytest.mark.usefixtures("_empty_cache")
def test_inside_a_session_the_log_says_it_if_nobody_has_yet():
    said, logged = [], []
    with compilation_said(said.append):
        with compilation_said(logged.append):
            compiled(plus_one)
        compiled(plus_two)
    assert (said, logged) == ([], [LINE])


def test_without_a_folder_every_process_compiles(monkeypatch, capsys):
    monkeypatch.setattr(jit, "cache_folder", lambda: None)
    with compilation_said():
        compiled(plus_one)
    assert capsys.readouterr().err == f"{LINE}\n"
