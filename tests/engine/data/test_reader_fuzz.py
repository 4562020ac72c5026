"""Damaged files: a reader gives samples of the right shape or a DataError that names the file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError, Dataset
from engine.data.readers.array_files import open_arrays
from engine.data.readers.cifar10 import open_cifar10
from engine.data.readers.image_folder import open_image_folder
from engine.data.readers.kaldi import open_kaldi
from engine.data.readers.lmdb_images import open_lmdb
from engine.data.readers.mnist import open_mnist
from engine.data.readers.parquet_images import open_parquet
from engine.data.readers.recordings import open_recordings
from engine.data.readers.webdataset import open_webdataset
from tests.engine.data.files import random_bytes, read_all, write_cifar10, write_image, write_mnist
from tests.engine.data.kaldi_files import random_features, write_compressed, write_folder
from tests.engine.data.packed import encoded, write_caffe, write_parquet, write_shard
from tests.engine.data.wav_files import tone, wav_bytes, write_tone
from tests.fuzz_readers.targets import IMAGES

CUTS = 150
FLIPS = 300


def damaged(content: bytes) -> Iterator[bytes]:
    """Yield the content cut short at many places, with bytes changed, extended, and replaced by noise."""
    generator = np.random.default_rng(0)
    yield b""
    for end in np.unique(np.linspace(0, len(content) - 1, CUTS).astype(int)):
        yield content[:end]
    for number in range(FLIPS):
        # Every other time near the start, where the headers are.
        reach = len(content) if number % 2 else min(len(content), 64)
        changed = bytearray(content)
        for place in generator.integers(0, reach, generator.integers(1, 4)):
            changed[place] = generator.integers(256)
        yield bytes(changed)
    yield content + b"more"
    for length in (1, 4, 16, 100, 3073, 5000):
        noise = generator.bytes(length)
        yield noise
        yield content[:16] + noise


def survives(path: Path, read: Callable[[], Dataset]) -> tuple[int, int]:
    """Read every damaged version of a file; count those that were read and those that were refused."""
    good = refused = 0
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            dataset = read()
            x, labels = read_all(dataset)
        except DataError as error:
            assert path.name in str(error)
            assert "\n" not in str(error)
            refused += 1
        else:
            assert np.isfinite(x).all()
            assert all(0 <= label < dataset.classes for label in labels)
            good += 1
    assert refused >= CUTS / 2
    return good, refused


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_idx_files(tmp_path: Path, kind: str, zipped: bool) -> None:
    write_mnist(tmp_path, split="train", samples=2, zipped=zipped)
    (path,) = tmp_path.glob(f"train-{kind}*")
    survives(path, lambda: open_mnist(tmp_path).train)


def test_cifar10_batches(tmp_path: Path) -> None:
    write_cifar10(tmp_path, samples=2, test=False)
    survives(tmp_path / "data_batch_2.bin", lambda: open_cifar10(tmp_path).train)


def test_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.tar", encoded(3))
    survives(tmp_path / "train.tar", lambda: open_webdataset(tmp_path, (3, 8, 8)).train)


def test_databases(tmp_path: Path) -> None:
    write_caffe(tmp_path, encoded(3))
    survives(tmp_path / "data.mdb", lambda: open_lmdb(tmp_path, (3, 8, 8)).train)


def test_tables(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(3))
    survives(tmp_path / "train.parquet", lambda: open_parquet(tmp_path, (3, 8, 8)).train)


def test_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=random_bytes(3, 8, 8), y=np.arange(3))
    survives(tmp_path / "a.npz", lambda: open_arrays(tmp_path / "a.npz", (3, 8, 8)).train)


STRICT = (
    "colour.png", "palette.png", "deep.png", "colour.jpg", "progressive.jpg", "cmyk.jpg", "plain.webp",
)  # fmt: skip
"""Images of formats that notice most damage."""


@pytest.mark.parametrize("name", STRICT)
def test_images(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "ape" / "whole.png", random_bytes(8, 8, 3))
    path = tmp_path / "cat" / name
    path.parent.mkdir()
    IMAGES[name](path)
    good, _ = survives(path, lambda: open_image_folder(tmp_path, (3, 8, 8)).train)
    assert good > 0


LENGTHS = {"ann": 5, "bob": 3}


@pytest.mark.parametrize("form", ["FM", "DM", "CM", "CM2", "CM3"])
def test_archives_of_features(tmp_path: Path, form: str) -> None:
    features = random_features(LENGTHS)
    write_folder(tmp_path, features, {"ann": [0, 1, 2, 1, 0], "bob": [2, 2, 0]})
    if form.startswith("CM"):
        write_compressed(tmp_path / "feats.ark", features, form)
    good, _ = survives(tmp_path / "feats.ark", lambda: open_kaldi(tmp_path, (9,)).train)
    assert good > 0


@pytest.mark.parametrize("name", ["ali.ark", "ali.txt"])
def test_archives_of_labels(tmp_path: Path, name: str) -> None:
    labels = {"ann": [0, 1, 2, 1, 0], "bob": [2, 2, 0], "cat": [1, 1]}
    write_folder(tmp_path, random_features(LENGTHS), labels, labels_in=name)
    path = tmp_path / name
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            data = open_kaldi(tmp_path, (9,)).train
        except DataError as error:
            assert name in str(error) or "has no utterance that can be used" in str(error)
        else:
            _, found = read_all(data)
            assert all(0 <= label < data.classes for label in found)


@pytest.mark.parametrize("bits", [16, 24])
def test_recordings(tmp_path: Path, bits: int) -> None:
    write_tone(tmp_path / "no" / "whole.wav", 300, 400)
    path = tmp_path / "yes" / "odd.wav"
    path.parent.mkdir()
    path.write_bytes(wav_bytes(tone(500, 300), bits=bits))
    good, _ = survives(path, lambda: open_recordings(tmp_path, (1, 4, 10)).train)
    assert good > 0
