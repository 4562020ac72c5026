"""A short ``python -m tests.fuzz_readers``: whatever lies on a disk is read, or refused in a line."""

from pathlib import Path

import pytest

from engine.config.errors import UserError
from engine.config.recipe import parse_recipe
from engine.config.toml_fields import parse_argument
from engine.data.readers.image_file import load_pillow
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
