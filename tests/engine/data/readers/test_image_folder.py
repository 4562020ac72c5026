"""Folders of images: layouts, labels, lazy decoding and the cache."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError
from engine.data.readers import stored_images
from engine.data.readers.image_folder import ImageFolder, open_image_folder
from engine.data.readers.stored_images import GREY_MEAN, GREY_STD, IMAGENET_MEAN, IMAGENET_STD
from engine.data.sources import open_data
from tests.engine.data.files import random_bytes, read_all, write_image

SHAPE = (3, 6, 6)


def write_classes(root: Path, names: dict[str, int]) -> dict[str, list[np.ndarray]]:
    """Write so many PNG images for each class; return their pixels [C, H, W]."""
    written: dict[str, list[np.ndarray]] = {}
    for name, images in names.items():
        for number in range(images):
            pixels = random_bytes(6, 6, 3, seed=len(written) * 100 + number)
            write_image(root / name / f"{number}.png", pixels)
            written.setdefault(name, []).append(pixels.transpose(2, 0, 1))
    return written


def test_reads_what_was_written_in_order_of_class_names(tmp_path: Path) -> None:
    written = write_classes(tmp_path, {"dog": 2, "ape": 3, "cat": 1})
    source = open_image_folder(tmp_path, SHAPE)
    x, labels = read_all(source.train)
    assert source.test is None
    assert labels == [0, 0, 0, 1, 2, 2]
    pixels = np.stack(written["ape"] + written["cat"] + written["dog"])
    mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    np.testing.assert_allclose(x, (pixels / 255 - mean) / std, rtol=0, atol=2e-6)


@pytest.mark.parametrize("tests", ["test", "val"])
def test_test_set_may_have_some_of_the_classes_and_keeps_their_labels(tmp_path: Path, tests: str) -> None:
    write_classes(tmp_path / "train", {"ape": 1, "cat": 1, "dog": 1})
    write_classes(tmp_path / tests, {"dog": 2})
    source = open_image_folder(tmp_path, SHAPE)
    assert source.test is not None
    assert read_all(source.test)[1] == [2, 2]
    assert source.test.classes == source.train.classes == 3


def test_train_folder_alone_has_no_test_set(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"ape": 1, "cat": 1})
    assert open_image_folder(tmp_path, SHAPE).test is None


def test_endings_in_any_case_at_any_depth_are_read_and_others_passed_over(tmp_path: Path) -> None:
    for name in ("A.JPG", "b.JpEg", "deep/er/c.PNG", "d.jpg"):
        write_image(tmp_path / "ape" / name, random_bytes(6, 6, 3))
    write_image(tmp_path / "cat" / "e.png", random_bytes(6, 6, 3))
    for name in ("notes.txt", "._d.jpg", ".thumbnails/d.jpg"):
        (tmp_path / "ape" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "ape" / name).write_bytes(b"no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "labels.csv").write_text("no folder")
    assert read_all(open_image_folder(tmp_path, SHAPE).train)[1] == [0, 0, 0, 0, 1]


def test_every_file_that_is_passed_over_is_counted(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 2, "cat": 1})
    for name in (
        "a.txt",
        "b.TXT",
        ".hidden",
        ".git/config",
        "none",
        "x.\n",
        "deep/c.json",
        "y.a.very.longending",
    ):
        (tmp_path / "ape" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "ape" / name).touch()
    (tmp_path / "loose.png").touch()
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "loop.png").symlink_to(tmp_path / "cat" / "loop.png")
    os.mkfifo(tmp_path / "cat" / "pipe.png")
    source = open_image_folder(tmp_path, SHAPE)
    assert len(source.train) == 3
    (note,) = source.notes
    assert note == (
        r"images: passed over: 2 .txt, 2 broken links, 2 hidden, 1 .\n, 1 .json, 1 .longending, "
        r"1 .png outside the class folders, 1 neither file nor folder, 1 of other kinds"
    )


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 2, "cat": 1})
    assert open_image_folder(tmp_path, SHAPE).lines() == ["training: 3 images in 2 classes"]


def test_class_with_other_files_only_says_which(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 1, "cat": 1})
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "a.mp4").touch()
    with pytest.raises(DataError, match=r"dog: has no images; .*; passed over: 1 .mp4$"):
        open_image_folder(tmp_path, SHAPE)


@pytest.mark.parametrize("train", ["train", "TRAIN", "Training", "train_set", "train2017", "training-images"])
@pytest.mark.parametrize(
    "tests", ["Test", "testing", "VAL", "valid", "validation", "dev", "eval", "test_set", "tests"]
)
def test_splits_are_understood_by_any_of_their_names(tmp_path: Path, train: str, tests: str) -> None:
    write_classes(tmp_path / train, {"ape": 2, "cat": 1})
    write_classes(tmp_path / tests, {"cat": 1})
    source = open_image_folder(tmp_path, SHAPE)
    assert source.class_names == ("ape", "cat")
    assert source.lines() == ["training: 3 images in 2 classes; test: 1 image in 1 of 2 classes"]


@pytest.mark.parametrize(
    "name", ["trains", "tester", "valley", "device", "val d'isere", "contrast", "evaluated"]
)
def test_class_whose_name_only_begins_like_a_split_is_a_class(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path, {name: 1, "cat": 1})
    assert name in open_image_folder(tmp_path, SHAPE).class_names


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        (["train/ape", "training/ape"], r"has train/ and training/: two training sets; must be one$"),
        (["train/ape", "Train/ape"], r"has Train/ and train/: two training sets"),
        (["train/ape", "val/ape", "valid/ape"], r"has val/ and valid/: two validation sets"),
        (
            ["testing/ape", "dev/ape"],
            r"has testing/ and dev/ but no train/; a folder of this name is a split",
        ),
        (["ape", "cat", "eval"], r"has eval/ but no train/"),
        (
            ["ape/train", "ape/test", "cat"],
            r"ape: has test/ and train/: splits inside a class; must be train/ape/",
        ),
    ],
)
def test_ambiguous_splits_are_refused(tmp_path: Path, folders: list[str], problem: str) -> None:
    for folder in folders:
        write_classes(tmp_path, {f"{folder}": 1, f"{folder}/more": 1})
    with pytest.raises(DataError, match=problem):
        open_image_folder(tmp_path, SHAPE)


def test_folders_beside_the_splits_are_named(tmp_path: Path) -> None:
    for split in ("train", "test", "val", "extra"):
        write_classes(tmp_path / split, {"ape": 1, "cat": 1})
    source = open_image_folder(tmp_path, SHAPE)
    assert isinstance(source.test, ImageFolder)
    assert source.test.root.name == "test"
    assert source.notes == (
        "images: passed over: 1 folder extra/ beside train/, 1 folder val/ beside train/",
    )


def test_test_images_without_labels_give_way_to_a_validation_set(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_classes(tmp_path / split, {"ape": 1, "cat": 1})
    write_image(tmp_path / "test" / "1.png", random_bytes(6, 6, 3))
    source = open_image_folder(tmp_path, SHAPE)
    assert isinstance(source.test, ImageFolder)
    assert source.test.root.name == "val"
    assert "folder test/ beside train/" in source.notes[0]


def test_names_of_any_bytes_are_read_and_hashed_as_bytes(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 1, "cat": 1})
    plain = open_image_folder(tmp_path, SHAPE).train.fingerprint()
    odd = os.fsencode(tmp_path) + b"/dog\xff"
    os.mkdir(odd)  # noqa: PTH102 - a Path holds text
    for name in (b"\xe9.png", b"a\nb.png"):
        os.link(tmp_path / "cat" / "0.png", odd + b"/" + name)
    source = open_image_folder(tmp_path, SHAPE)
    assert (
        len({plain, source.train.fingerprint(), open_image_folder(tmp_path, SHAPE).train.fingerprint()}) == 2
    )
    assert read_all(source.train)[1] == [0, 1, 2, 2]
    assert source.class_names == ("ape", "cat", r"dog\xff")


def test_fingerprint_of_ordinary_data_is_that_of_earlier_versions(tmp_path: Path) -> None:
    # Checkpoints hold it: a run could not go on with another one.
    write_classes(tmp_path, {"ape": 2, "caf\u00e9": 1})
    assert open_image_folder(tmp_path, SHAPE).train.fingerprint() == "81f4520b8d0e4712"


def test_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"ape": 1, "cat": 1})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "cat":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="/cat: cannot be read: Permission denied"):
        open_data(f"images:{tmp_path}", SHAPE, 2, 0)


def test_grey_model_reads_grey(tmp_path: Path) -> None:
    write_image(tmp_path / "ape" / "a.png", np.full((6, 6, 3), 255, np.uint8))
    write_image(tmp_path / "cat" / "a.png", np.zeros((6, 6), np.uint8))
    x, _ = read_all(open_image_folder(tmp_path, (1, 6, 6)).train)
    np.testing.assert_allclose(x[0], (1 - GREY_MEAN[0]) / GREY_STD[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(x[1], -GREY_MEAN[0] / GREY_STD[0], rtol=0, atol=2e-6)


def test_cached_image_is_not_decoded_again(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 2, "cat": 1})
    train = open_image_folder(tmp_path, SHAPE).train
    first, labels = read_all(train)
    for path in tmp_path.glob("*/*.png"):
        path.unlink()
    again, labels_again = read_all(train)
    np.testing.assert_array_equal(again, first)
    assert labels_again == labels


def test_data_beyond_the_budget_is_decoded_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path, {"ape": 2, "cat": 1})
    monkeypatch.setattr(stored_images, "CACHE_BYTES", 3 * 108 - 1)
    train = open_image_folder(tmp_path, SHAPE).train
    assert isinstance(train, ImageFolder)
    assert train.cache.size == 0
    first, _ = read_all(train)
    np.testing.assert_array_equal(read_all(train)[0], first)
    (tmp_path / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"cat/0.png: cannot be decoded"):
        read_all(train)


def test_links_are_followed_and_circles_left(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_classes(tmp_path / "elsewhere", {"more": 2})
    write_classes(root, {"ape": 1, "cat": 1})
    (root / "ape" / "linked").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "ape" / "linked too").symlink_to(tmp_path / "elsewhere" / "more")
    (root / "ape" / "circle").symlink_to(root)
    (tmp_path / "elsewhere" / "more" / "back").symlink_to(root / "ape")
    (root / "dog").symlink_to(root / "cat")
    train = open_image_folder(root, SHAPE).train
    assert isinstance(train, ImageFolder)
    assert tuple(train.files) == (
        "ape/0.png", "ape/circle/cat/0.png", "ape/linked/0.png", "ape/linked/1.png", "cat/0.png", "dog/0.png",
    )  # fmt: skip


def test_fingerprint_is_of_names_and_labels_wherever_they_lie(tmp_path: Path) -> None:
    def fingerprint(root: Path, names: dict[str, int]) -> str:
        write_classes(root, names)
        return open_image_folder(root, SHAPE).train.fingerprint()

    here = fingerprint(tmp_path / "here", {"ape": 2, "cat": 1})
    assert fingerprint(tmp_path / "there", {"ape": 2, "cat": 1}) == here
    assert fingerprint(tmp_path / "fewer", {"ape": 1, "cat": 1}) != here
    assert fingerprint(tmp_path / "other", {"ape": 2, "dog": 1}) != here


def test_only_the_asked_file_is_opened(tmp_path: Path) -> None:
    write_classes(tmp_path, {"ape": 2, "cat": 1})
    (tmp_path / "ape" / "1.png").write_bytes(b"")
    train = open_image_folder(tmp_path, SHAPE).train
    x = np.empty(SHAPE, np.float32)
    assert [train.read(index, x) for index in (0, 2)] == [0, 1]
    with pytest.raises(DataError, match=r"ape/1.png: cannot be decoded"):
        train.read(1, x)


def test_unknown_class_in_the_test_set_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"ape": 1, "cat": 1})
    write_classes(tmp_path / "test", {"cat": 1, "cow": 1})
    with pytest.raises(DataError, match=r"test/cow: is no class of the 2"):
        open_image_folder(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("folders", "problem"),
    [
        ([], "has 0 class folders; must be at least 2"),
        (["ape"], "has 1 class folder; must be at least 2"),
        (["ape", "cat"], "ape: has no images; read are .jpg, .png, .webp and what else Pillow decodes$"),
        (
            ["train"],
            r"train: has 0 class folders; .*; a folder of this name is the training set, not a class$",
        ),
        (["all/train/ape"], r"has 1 class folder; must be at least 2; perhaps .*/all is meant$"),
        (["test/ape"], "has test/ but no train/"),
    ],
)
def test_folder_that_is_no_data_set_is_refused(tmp_path: Path, folders: list[str], problem: str) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DataError, match=problem):
        open_image_folder(tmp_path, SHAPE)


def test_empty_test_folder_and_missing_folder_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"ape": 1, "cat": 1})
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="val: has no class folders"):
        open_image_folder(tmp_path, SHAPE)
    (tmp_path / "data.zip").touch()
    with pytest.raises(DataError, match=r"data.zip: is a file, not a folder; images:DIR wants"):
        open_image_folder(tmp_path / "data.zip", SHAPE)
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_image_folder(tmp_path / "nowhere", SHAPE)


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(UserError, match=r"pip install 'lockstep-sgd\[data\]'"):
        open_image_folder(tmp_path, SHAPE)
