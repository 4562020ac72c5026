"""What the user may write for data, and what is said when it is wrong."""

import errno
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError, DataSource
from engine.data.readers import mnist
from engine.data.readers.arrays import ArrayDataset
from engine.data.sources import check_fit, open_data
from tests.engine.data.files import random_bytes, write_cifar10, write_image, write_mnist


def test_opens_every_kind(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=1)
    write_mnist(tmp_path, split="train", samples=2)
    for name in ("ape", "cat"):
        write_image(tmp_path / "pictures" / name / "a.jpg", random_bytes(9, 9, 3))
    for spec, shape, classes, length in (
        ("digits", (1, 8, 8), 10, 1437),
        ("synthetic", (429,), 9304, 1 << 16),
        (f"cifar10:{tmp_path}", (3, 32, 32), 10, 5),
        (f"mnist:{tmp_path}", (1, 28, 28), 10, 2),
        (f"images:{tmp_path / 'pictures'}", (3, 5, 5), 1000, 2),
    ):
        train = open_data(spec, shape, classes, 0).train
        x = np.empty(shape, np.float32)
        assert train.name == spec.partition(":")[0]
        assert len(train) == length
        assert 0 <= train.read(length - 1, x) < classes


def test_a_folder_without_its_kind_is_told_how_to_be_written(tmp_path: Path) -> None:
    for name in ("c", "p"):
        (tmp_path / name).mkdir()
    write_cifar10(tmp_path / "c", samples=1)
    for folder, kind in (("c", "cifar10"), ("p", "images")):
        with pytest.raises(UserError) as refused:
            open_data(str(tmp_path / folder), (3, 32, 32), 10, 0)
        place = tmp_path / folder
        assert str(refused.value) == (
            f'data: got "{place}", a folder, without the kind of its data; write {kind}:{place}'
        )
    with pytest.raises(UserError, match=r'data: got ".*/no"; must be digits, '):
        open_data(str(tmp_path / "no"), (3, 32, 32), 10, 0)


def test_fingerprints_tell_data_sets_apart(tmp_path: Path) -> None:
    write_mnist(tmp_path, split="train", samples=4, seed=0)
    first = open_data(f"mnist:{tmp_path}", (1, 28, 28), 10, 0)
    write_mnist(tmp_path, split="train", samples=4, seed=1)
    second = open_data(f"mnist:{tmp_path}", (1, 28, 28), 10, 0)
    drawn = [open_data("synthetic", shape, 2, seed) for shape, seed in (((8,), 0), ((8,), 1), ((9,), 0))]
    identities = [
        source.identity for source in (first, second, *drawn, open_data("digits", (1, 8, 8), 10, 0))
    ]
    assert len(set(identities)) == len(identities)
    assert open_data("synthetic", (8,), 2, 0).identity == drawn[0].identity
    assert drawn[0].identity.startswith("synthetic ")


def test_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist(tmp_path, split="train", samples=2)
    assert len(open_data("mnist:~", (1, 28, 28), 10, 0).train) == 2


def test_synthetic_data_follows_the_seed() -> None:
    x = np.empty((2, 8), np.float32)
    for seed in (0, 1):
        open_data("synthetic", (8,), 2, seed).train.read(0, x[seed])
    assert not np.array_equal(x[0], x[1])


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("cifar:x", r'got "cifar:x" \(did you mean "cifar10"\?\); must be digits, synthetic, images:DIR'),
        ("Digits", r'did you mean "digits"'),
        ("", 'got ""; must be digits'),
        ("/some/folder", 'got "/some/folder"; must be digits'),
        ("digits:x", "digits takes no folder"),
        ("synthetic:", "synthetic takes no folder"),
        ("images", "images needs its folder: images:DIR"),
        ("mnist:", "mnist needs its folder: mnist:DIR"),
        ("mnist:~no-such-user-here/x", "there is no such home folder"),
    ],
)
def test_wrong_spec_is_explained(spec: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        open_data(spec, (1, 8, 8), 10, 0)


def test_data_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=1)
    for name in ("ape", "cat", "dog"):
        write_image(tmp_path / "pictures" / name / "a.png", random_bytes(9, 9, 3))
    pictures = f"images:{tmp_path / 'pictures'}"
    for spec, shape, classes, problem in (
        (
            f"cifar10:{tmp_path}",
            (1, 8, 8),
            10,
            r"has samples of shape \(3, 32, 32\); the model wants \(1, 8, 8\)",
        ),
        ("digits", (1, 8, 8), 100, "digits has 10 classes; the model wants 100"),
        (pictures, (3, 5, 5), 2, "has 3 classes; the model wants at most 2"),
        (pictures, (4, 5, 5), 3, r"shape \(4, 5, 5\); must be \(3, H, W\) or \(1, H, W\)"),
        (pictures, (429,), 3, r"shape \(429,\); must be"),
    ):
        with pytest.raises(UserError, match=problem):
            open_data(spec, shape, classes, 0)


def test_test_set_that_does_not_fit_the_training_set_is_refused() -> None:
    train = ArrayDataset(np.zeros((4, 3)), np.arange(4) % 2)
    for test, problem in (
        (
            ArrayDataset(np.zeros((4, 5)), np.arange(4) % 2),
            r"test samples of shape \(5,\), training samples of",
        ),
        (ArrayDataset(np.zeros((4, 3)), np.arange(4)), "4 classes in the test set and 2 in the training set"),
    ):
        with pytest.raises(UserError, match=problem):
            check_fit("mine", DataSource(train, test), (3,), None)


def test_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(directory / "train-images-idx3-ubyte"))

    monkeypatch.setattr(mnist, "open_mnist", refuse)
    with pytest.raises(DataError, match="train-images-idx3-ubyte: cannot be read: Permission denied"):
        open_data(f"mnist:{tmp_path}", (1, 28, 28), 10, 0)


def test_data_that_does_not_fit_into_memory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(_: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(mnist, "open_mnist", too_large)
    with pytest.raises(DataError, match=f"^{tmp_path}: does not fit into memory$"):
        open_data(f"mnist:{tmp_path}", (1, 28, 28), 10, 0)


def test_arguments_for_data_that_takes_none_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"^data: digits takes no arguments, got a, b; only FILE\.py:function"
    ):
        open_data("digits", (1, 8, 8), 10, 0, arguments={"a": 1, "b": 2})
