"""The command that reads all samples before training does."""

import threading
from pathlib import Path

import numpy as np
import pytest

from engine.data import check
from engine.data.__main__ import main
from engine.data.dataset import DataSource
from engine.data.readers.arrays import ArrayDataset
from tests.engine.data.files import random_bytes, write_cifar10, write_image, write_mnist


def write_folder(root: Path, count: int = 3) -> None:
    for split in ("train", "test"):
        for name in ("ape", "cat"):
            for number in range(count):
                write_image(root / split / name / f"{number}.png", random_bytes(9, 5 + number, 3))


def test_sound_folder_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path)
    (tmp_path / "train" / "ape" / "notes.txt").touch()
    assert main(["check", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "training: 6 images in 2 classes; test: 6 images in 2 classes",
        "images: passed over: 1 .txt",
        "training: 6 samples can be read, stored as 3 x 9 x 5..7",
        "training: 3 samples in each class",
        "test: 6 samples can be read, stored as 3 x 9 x 5..7",
        "test: 3 samples in each class",
    ]


def test_whatever_cannot_be_read_is_listed_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MOST_SHOWN", 2)
    write_folder(tmp_path)
    (tmp_path / "train/ape/0.png").write_bytes(b"")
    (tmp_path / "test/cat/1.png").write_bytes((tmp_path / "test/cat/1.png").read_bytes()[:-30])
    for number in range(3):
        (tmp_path / f"train/cat/odd\n{number}.jpg").write_bytes(b"no image")
    assert main(["check", f"images:{tmp_path}", "--threads", "2"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "training: 5 samples can be read, stored as 3 x 9 x 5..7" in lines
    assert "training: from 2 samples in class ape to 3 in class cat" in lines
    assert "training: 4 samples cannot be used:" in lines
    assert f"training:   {tmp_path}/train/ape/0.png: cannot be decoded: it is empty" in lines
    assert (
        rf"training:   {tmp_path}/train/cat/odd\n0.jpg: cannot be decoded: it is no image that Pillow reads"
        in lines
    )
    assert "training:   and 2 more" in lines
    assert any("test:   " in line and "test/cat/1.png: cannot be decoded" in line for line in lines)


def test_folder_is_read_as_what_lies_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "mnist").mkdir()
    write_cifar10(tmp_path / "cifar", samples=2)
    write_mnist(tmp_path / "mnist", split="train", samples=3)
    for name, line in (
        ("cifar", "10 samples can be read, stored as 3 x 32 x 32"),
        ("mnist", "stored as 1 x 28 x 28"),
    ):
        assert main(["check", str(tmp_path / name)]) == 0
        assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("imagess:x", 'got "imagess:x" (did you mean "images"?)'),
        ("images:nowhere", "nowhere: no such folder"),
        ("nowhere", 'got "nowhere"'),
    ],
)
def test_mistake_is_one_line_and_two(spec: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", spec]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert problem in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("ranks", [1, 3])
def test_shares_of_all_ranks_are_all_samples(ranks: int) -> None:
    class Counted(ArrayDataset):
        def inspect(self, index: int) -> tuple[int, tuple[int, ...]]:
            seen.append(index)
            threads.add(threading.get_ident())
            return super().inspect(index)

    seen: list[int] = []
    threads: set[int] = set()
    source = DataSource(Counted(np.zeros((200, 3)), np.arange(200) % 2), None)
    for rank in range(ranks):
        threads.clear()
        check.check_share(source, rank, ranks, threads=2, say=str)
        assert len(threads) == 1  # a user's own data set is read by one thread, as in training
    assert sorted(seen) == list(range(200))


def test_users_own_data_set_may_fail_in_any_way() -> None:
    class Odd(ArrayDataset):
        def read(self, index: int, x: np.ndarray) -> int:
            if index == 1:
                raise KeyError("one")
            return 7 if index == 2 else super().read(index, x)

    x = np.zeros((5, 3))
    x[3] = np.nan
    lines: list[str] = []
    source = DataSource(Odd(x, np.arange(5) % 2), None)
    assert check.check_source(source, threads=1, show=lines.append, say=lines.append) == 3
    assert lines[-3:] == [
        "training:   sample 1: KeyError: 'one'",
        "training:   sample 2: has label 7; must be from 0 to 1",
        "training:   sample 3: has values that are not finite",
    ]


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), KeyboardInterrupt()])
def test_a_read_that_would_end_the_program_is_a_sample_that_cannot_be_used(error: BaseException) -> None:
    class Leaving(ArrayDataset):
        def read(self, index: int, x: np.ndarray) -> int:
            if index == 1:
                raise error
            return super().read(index, x)

    data = Leaving(np.zeros((3, 4), np.float32), np.array([0, 1, 0]))
    report = check.read_all(data, range(3), threads=1, say=print)
    assert len(report.wrong) == 1
    assert report.wrong[0].startswith(f"sample 1: {type(error).__name__}")
    assert report.labels.total() == 2
