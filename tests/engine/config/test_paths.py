"""Paths as users write them: what is expanded, and what is refused."""

from pathlib import Path

import pytest

from engine.config.errors import UserError
from engine.config.paths import expand


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/runs/a", "out") == tmp_path / "runs/a"


def test_what_is_not_there_yet_is_a_path_too(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for inside in ("none/at/all", "file/inside"):
        assert expand(f"{tmp_path}/{inside}", "out") == tmp_path / inside


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r'^out: got ""; must be a path$'),
        ("~no-such-user-here/x", r'^out: got "~no-such-user-here/x"; there is no such home folder$'),
        ("x" * 300, r"^out: x{300}: File name too long$"),
        ("a\0b", r"^out: got 'a\\x00b', which is no name of a file: embedded null byte$"),
        ("q\udcff", r"^out: got 'q\\udcff', which is no name of a file: "),
    ],
)
def test_what_no_file_can_be_called_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        expand(text, "out")
