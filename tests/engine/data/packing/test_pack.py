"""Packing: nothing of a data set is changed, and nothing half-written is taken for whole."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config.errors import UserError
from engine.data.__main__ import main
from engine.data.dataset import DataSource
from engine.data.packing import pack as packing
from engine.data.packing import writers
from engine.data.packing.pack import pack
from engine.data.packing.samples import Taking
from engine.data.readers.webdataset import WebDataset
from engine.data.sources import open_unfitted, spec_of
from tests.engine.data.files import random_bytes, read_all, write_cifar10, write_image
from tests.engine.data.packed import encoded

KINDS = ("webdataset", "lmdb", "parquet")


@pytest.fixture
def source(tmp_path: Path) -> DataSource:
    """Return images of three classes in several sizes and formats, 7 to train on and 3 to test on."""
    for split, count in (("train", 7), ("test", 3)):
        for index, (content, label) in enumerate(encoded(count, 3, seed=len(split))):
            path = tmp_path / "source" / split / ("ape", "cat", "d o g")[label] / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    write_image(tmp_path / "source" / "train" / "cat" / "grey.PNG", random_bytes(9, 9))
    return open_unfitted(f"images:{tmp_path / 'source'}")


def packed(source: DataSource, spec: str, **taking: int) -> list[str]:
    lines: list[str] = []
    pack(source, spec, taking=Taking(**taking), threads=2, show=lines.append, say=str)
    return lines


@pytest.mark.parametrize("kind", [*KINDS, "images"])
def test_pixels_labels_order_and_names_are_the_same(tmp_path: Path, source: DataSource, kind: str) -> None:
    place = tmp_path / "new"
    assert packed(source, f"{kind}:{place}") == [f"{kind}:{place}: 11 samples, read back and compared"]
    assert spec_of(str(place)) == f"{kind}:{place}"
    found = open_unfitted(f"{kind}:{place}")
    assert found.class_names == source.class_names == ("ape", "cat", "d o g")
    for its, expected in zip(found.splits(), source.splits(), strict=True):
        x, labels = read_all(its)
        expected_x, expected_labels = read_all(expected)
        np.testing.assert_array_equal(x, expected_x)
        assert labels == expected_labels
        assert [its.inspect(index) for index in range(len(its))] == [
            expected.inspect(index) for index in range(len(its))
        ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("new")] == ["new"]


def test_a_packing_of_a_packing_is_the_same_file(tmp_path: Path, source: DataSource) -> None:
    packed(source, f"webdataset:{tmp_path / 'a'}")
    packed(open_unfitted(f"webdataset:{tmp_path / 'a'}"), f"parquet:{tmp_path / 'b'}")
    packed(open_unfitted(f"parquet:{tmp_path / 'b'}"), f"lmdb:{tmp_path / 'c'}")
    packed(open_unfitted(f"lmdb:{tmp_path / 'c'}"), f"webdataset:{tmp_path / 'd'}")
    for name in ("train-000000.tar", "test-000000.tar", "classes.txt"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()


def test_pixels_in_memory_become_png(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    records = write_cifar10(tmp_path / "cifar", samples=2)
    packed(open_unfitted(f"cifar10:{tmp_path / 'cifar'}"), f"webdataset:{tmp_path / 'new'}")
    found = open_unfitted(f"webdataset:{tmp_path / 'new'}")
    assert found.class_names[3] == "cat"
    assert isinstance(found.train, WebDataset)
    for index, record in enumerate(records[:5].reshape(10, -1)):
        stored = found.train.stored(index)
        assert stored.ending == ".png"
        assert found.train.labels[index] == record[0]
        x, expected = np.empty((3, 32, 32), np.float32), np.empty((3, 32, 32), np.float32)
        found.train.read(index, x)
        found.train.normalisation.apply(record[1:].reshape(3, 32, 32), expected)
        np.testing.assert_array_equal(x, expected)


def test_folders_of_an_unsorted_set_say_that_the_order_is_another(tmp_path: Path) -> None:
    (tmp_path / "cifar").mkdir()
    write_cifar10(tmp_path / "cifar", samples=20)
    lines = packed(open_unfitted(f"cifar10:{tmp_path / 'cifar'}"), f"images:{tmp_path / 'new'}")
    assert lines[0].startswith("images: folders are read class by class: samples have another order")
    assert (tmp_path / "new" / "train" / "airplane").is_dir()


def test_larger_images_are_resized_and_others_copied(tmp_path: Path) -> None:
    for name, shape in (("a/large", (40, 20, 3)), ("a/small", (10, 30, 3)), ("b/grey", (24, 60))):
        write_image(tmp_path / "source" / f"{name}.png", random_bytes(*shape))
    packed(
        open_unfitted(f"images:{tmp_path / 'source'}"), f"images:{tmp_path / 'new'}", resize=12, quality=80
    )
    files = sorted((tmp_path / "new").glob("train/*/*"))
    assert [path.name for path in files] == ["00000000.jpg", "00000001.png", "00000002.jpg"]
    images = [Image.open(path) for path in files]
    assert [(image.size, image.mode) for image in images] == [
        ((12, 24), "RGB"),
        ((30, 10), "RGB"),
        ((30, 12), "L"),
    ]
    for image in images:
        image.close()
    assert files[1].read_bytes() == (tmp_path / "source" / "a" / "small.png").read_bytes()


@pytest.mark.parametrize("kind", [*KINDS, "images"])
def test_an_interrupted_packing_goes_on(
    tmp_path: Path, source: DataSource, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "PIECE", 2)
    taken: list[int] = []
    sample = Taking.sample

    def interrupted(self: Taking, data: object, labels: object, index: int) -> object:
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(index)
        return sample(self, data, labels, index)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "_RUN", 1)
    monkeypatch.setattr(Taking, "sample", interrupted)
    spec = f"{kind}:{tmp_path / 'new'}"
    with pytest.raises(KeyboardInterrupt):
        pack(source, spec, taking=Taking(), threads=1, show=str, say=str)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(Taking, "sample", sample)
    with pytest.raises(
        UserError, match=r"new.unfinished: holds an unfinished packing of other data, or with"
    ):
        packed(source, spec, resize=4)
    said: list[str] = []
    pack(source, spec, taking=Taking(), threads=2, show=str, say=said.append)
    assert said[0] in (
        "going on: 1 piece of an earlier run are whole",
        "going on: 2 pieces of an earlier run are whole",
    )
    x, labels = read_all(open_unfitted(spec).train)
    expected, expected_labels = read_all(source.train)
    np.testing.assert_array_equal(x, expected)
    assert labels == expected_labels


def test_what_is_there_already_is_left_alone(tmp_path: Path, source: DataSource) -> None:
    (tmp_path / "new").mkdir()
    packed(source, f"webdataset:{tmp_path / 'new'}")
    for spec, problem in (
        (f"lmdb:{tmp_path / 'new'}", "new: exists; give another name, as nothing is replaced"),
        (f"lmdb:{tmp_path / 'no' / 'new'}", "there is no folder"),
        ("lmbd:x", r'got "lmbd:x" \(did you mean "lmdb"\?\); must be one of webdataset:DIR, '),
        ("lmdb:", "must be one of"),
    ):
        with pytest.raises(UserError, match=problem):
            packed(source, spec)
    (tmp_path / "more.unfinished").mkdir()
    (tmp_path / "more.unfinished" / "mine").touch()
    with pytest.raises(UserError, match=r"more.unfinished: is no packing that could go on"):
        packed(source, f"lmdb:{tmp_path / 'more'}")


def test_a_full_disk_is_one_line(tmp_path: Path, source: DataSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers, "write_whole", full)
    with pytest.raises(UserError, match=r"^pack: .*new: cannot be written: No space left on device$"):
        packed(source, f"webdataset:{tmp_path / 'new'}")


def test_what_is_not_read_back_as_it_was_written_is_refused(
    tmp_path: Path, source: DataSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = writers.TarWriter.write

    def damaging(self: writers.TarWriter, piece: writers.Piece, samples: object) -> None:
        write(self, piece, samples)  # type: ignore[arg-type]
        if piece.split == "test":
            return
        path = self.folder / "train-000000.tar"
        content = bytearray(path.read_bytes())
        content[1600] ^= 1  # in the first image
        path.write_bytes(content)

    monkeypatch.setattr(writers.TarWriter, "write", damaging)
    with pytest.raises(UserError, match=r"piece train 0 is not what was written when it is read back"):
        packed(source, f"webdataset:{tmp_path / 'new'}")
    assert not (tmp_path / "new").exists()


def test_data_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pack: synthetic has no images of 8 bits a channel"):
        packed(open_unfitted("synthetic"), f"lmdb:{tmp_path / 'new'}")


@pytest.mark.usefixtures("source")
def test_the_command_packs_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new"
    assert main(["pack", str(tmp_path / "source"), f"webdataset:{place}"]) == 0
    assert capsys.readouterr().out == f"webdataset:{place}: 11 samples, read back and compared\n"
    assert main(["check", str(place)]) == 0
    assert "training: 8 samples can be read" in capsys.readouterr().out
    assert main(["pack", str(tmp_path / "source"), f"webdataset:{place}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["pack", str(tmp_path / "source"), f"lmdb:{place}2", "--quality", "0"]) == 2
    assert "--quality 0; must be 0 or more, 1 to 100" in capsys.readouterr().err
