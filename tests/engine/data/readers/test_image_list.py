"""Lists of images: columns, labels, splits, and mistakes in lines."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers.image_list import open_csv
from tests.engine.data.files import random_bytes, read_all, write_image

SHAPE = (3, 6, 6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        write_image(tmp_path / "images" / f"{number}.png", random_bytes(6, 6, 3, seed=number))
    return tmp_path


def listed(folder: Path, *lines: str, name: str = "list.csv") -> Path:
    (folder / name).write_text("\n".join(lines))
    return folder / name


@pytest.mark.parametrize("header", [["path,label"], ["\ufeffFile, Class"], []])
def test_samples_come_in_the_order_of_lines(folder: Path, header: list[str]) -> None:
    lines = [f"images/{number}.png,{name}" for number, name in ((3, "dog"), (0, "ape"), (1, "dog"))]
    source = open_csv(listed(folder, *header, *lines), SHAPE)
    x, labels = read_all(source.train)
    assert labels == [1, 0, 1]
    assert source.class_names == ("ape", "dog")
    again, _ = read_all(open_csv(listed(folder, *header, *reversed(lines)), SHAPE).train)
    np.testing.assert_array_equal(x, again[::-1])


def test_numbers_are_labels_and_splits_are_a_column(folder: Path) -> None:
    lines = [
        "label,id,path,split",
        "2,a,images/0.png,train",
        "0,b,images/1.png,Val",
        f"1,c,{folder}/images/2.png,",
    ]
    source = open_csv(listed(folder, *lines), SHAPE)
    assert source.test is not None
    assert (read_all(source.train)[1], read_all(source.test)[1]) == ([2, 1], [0])
    assert source.train.classes == 3


def test_two_lists_in_a_folder_are_splits(folder: Path) -> None:
    listed(folder, "path,label", "images/0.png,ape", "images/1.png,cat", name="train.csv")
    listed(folder, "path,label", "images/2.png,cat", name="test.csv")
    source = open_csv(folder, SHAPE)
    assert source.test is not None
    assert read_all(source.test)[1] == [1]


def test_a_file_that_is_missing_is_named_when_it_is_read(folder: Path) -> None:
    train = open_csv(listed(folder, "path,label", "images/9.png,0"), SHAPE).train
    with pytest.raises(DataError, match=r"images/9.png: cannot be decoded: No such file or directory"):
        train.read(0, np.empty(SHAPE, np.float32))


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (["name,kind", "images/0.png,0"], r'line 1: got "name,kind"; must have a first line with "path" and'),
        (["path,label", "images/0.png"], "line 2: has 1 of 2 columns"),
        (["path,label,split", "images/0.png,0,trian"], r'line 2: split "trian" \(did you mean "train"'),
        (["path,label", ",0"], "line 2: names no file"),
        (["path,label", '"images/0.png,0'], "line 2: unexpected end of data"),
        (["path,label"], "lists no images to train on"),
        (["path,label", "images/0.png,-1"], "images/0.png: has label -1; must be from 0"),
        (
            ["path,label,split", "images/0.png,ape,", "images/0.png,cat,test"],
            'label "cat" is no whole number and no',
        ),
    ],
)
def test_a_wrong_line_is_named(folder: Path, lines: list[str], problem: str) -> None:
    with pytest.raises(DataError, match=rf"list.csv: {problem}"):
        open_csv(listed(folder, *lines), SHAPE)


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no.csv: no such file; csv:FILE wants a list"):
        open_csv(tmp_path / "no.csv", SHAPE)
    with pytest.raises(DataError, match=r"has no train.csv"):
        open_csv(tmp_path, SHAPE)
