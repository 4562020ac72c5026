"""A short ``python -m tests.fuzz_readers``: whatever lies on a disk is read, or refused in a line."""

from pathlib import Path

import pytest

from engine.api.training import Run
from engine.config.errors import UserError
from engine.config.recipe import parse_recipe
from engine.config.toml_fields import parse_argument
from engine.config.user_code import code_digest
from engine.data.readers.image_file import load_pillow
from engine.run.run_folder import rewind
from tests.fuzz_readers.campaign import fuzz
from tests.fuzz_readers.targets import Target, targets


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> list[Target]:
    load_pillow()
    return targets(tmp_path_factory.mktemp("fuzz"))


def test_whole_files_are_read(chosen: list[Target]) -> None:
    for target in chosen:
        target.read()


def test_damaged_files_are_read_or_refused_in_a_line(chosen: list[Target]) -> None:
    outcome = fuzz(chosen, range(600), seed=13)
    assert outcome.failures == []
    assert outcome.read.total() > 60
    assert outcome.refused.total() > 300


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, '{a="' * 3])
def test_toml_that_python_cannot_hold_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UserError, match=r"^my.toml: is not TOML: ") as caught:
        parse_recipe(f"epochs = {text}", "my.toml")
    assert len(str(caught.value)) < 300
    assert parse_argument(text) == text


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"step": Infinity}', b'{"step": [1]}', b"\xff", b"3"])
def test_odd_lines_of_metrics_are_left_out_when_a_run_goes_on(tmp_path: Path, line: bytes) -> None:
    good = b'{"kind": "step", "step": 1}'
    (tmp_path / "metrics.jsonl").write_bytes(line + b"\n" + good + b"\n")
    rewind(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == good + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(line)
    with pytest.raises(UserError, match=r"metrics.jsonl: is damaged: has a line that no run wrote"):
        Run({}, tmp_path, {}).metrics()


@pytest.mark.parametrize("content", ["x = '\0'", "(" * 5000, "x = ("])
def test_users_files_that_python_cannot_parse_are_left_to_their_import(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text(content)
    assert len(code_digest((f"{tmp_path}/own.py:net",))) == 16


def test_a_reader_that_fails_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))

    def read() -> None:
        if path.read_bytes() != bytes(100):
            raise KeyError("odd")

    outcome = fuzz([Target("odd", path, read)], range(20), seed=0)
    assert outcome.failures
    assert "KeyError: 'odd'" in outcome.failures[0]
    assert path.read_bytes() == bytes(100)
