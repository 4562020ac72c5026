"""Parquet files of images, as Hugging Face's library writes them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from engine.data.dataset import DataError
from engine.data.readers import parquet_images, stored_images
from engine.data.readers.parquet_images import ParquetImages, open_parquet
from engine.data.readers.webdataset import open_webdataset
from tests.engine.data.files import read_all
from tests.engine.data.packed import encoded, write_parquet, write_shard

SHAPE = (3, 8, 8)
NAMED = {
    "huggingface": json.dumps(
        {
            "info": {
                "features": {
                    "image": {"_type": "Image"},
                    "label": {"names": ["ape", "cat"], "_type": "ClassLabel"},
                }
            }
        }
    )
}


def test_rows_are_the_samples_of_shards_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_images, "CACHE_BYTES", 0)
    monkeypatch.setattr(parquet_images, "KEPT_BYTES", 1)
    samples = encoded(9)
    write_parquet(tmp_path / "p/data/train-00000-of-00002.parquet", samples[:5], metadata=NAMED)
    write_parquet(tmp_path / "p/data/train-00001-of-00002.parquet", samples[5:], metadata=NAMED)
    write_shard(tmp_path / "w/x.tar", samples)
    source = open_parquet(tmp_path / "p", SHAPE)
    expected, expected_labels = read_all(open_webdataset(tmp_path / "w", SHAPE).train)
    x = np.empty_like(expected)
    labels = {index: source.train.read(index, x[index]) for index in (8, 0, 5, 4, 1, 7, 2, 6, 3)}
    np.testing.assert_array_equal(x, expected)
    assert [labels[index] for index in range(9)] == expected_labels
    assert source.class_names == ("ape", "cat")
    assert isinstance(source.train, ParquetImages)
    assert len(source.train.kept.groups) == 1


def test_columns_may_have_other_names_and_labels_be_names(tmp_path: Path) -> None:
    samples = encoded(4)
    for split, names in (("train", ["dog", "ape", "dog", "cat"]), ("test", ["cat"])):
        table = pa.table({"img": [content for content, _ in samples][: len(names)], "label": names})
        pa.parquet.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    source = open_parquet(tmp_path, SHAPE)
    assert source.test is not None
    assert source.class_names == ("ape", "cat", "dog")
    assert read_all(source.train)[1] == [2, 0, 2, 1]
    assert read_all(source.test)[1] == [1]


def test_a_test_set_without_labels_gives_way_to_the_validation_set(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", encoded(4))
    write_parquet(tmp_path / "test-0.parquet", [(content, -1) for content, _ in encoded(2)])
    write_parquet(tmp_path / "validation-0.parquet", encoded(3))
    source = open_parquet(tmp_path, SHAPE)
    assert source.test is not None
    assert len(source.test) == 3
    assert source.notes == ("parquet: passed over: test-0.parquet and what else is its set",)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"picture": [b""], "label": [0]},
            "has columns picture, label; must have image and, for labels, label",
        ),
        ({"image": [b""], "name": [0]}, "has columns image, name; must have label"),
        ({"image": [b"", b""], "label": [0, None]}, "1 rows have no label"),
        ({"image": [b""], "label": [0.5]}, "has labels of kind double; must be whole numbers, or names"),
    ],
)
def test_other_tables_are_one_line(tmp_path: Path, columns: dict[str, list[object]], problem: str) -> None:
    pa.parquet.write_table(pa.table(columns), tmp_path / "train.parquet")
    with pytest.raises(DataError, match=rf"train.parquet: cannot be read: {problem}"):
        open_parquet(tmp_path, SHAPE)


def test_a_row_without_bytes_is_named(tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": None, "path": "x.jpg"}], "label": [0]})
    pa.parquet.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train.parquet: row 0: has no bytes of an image"):
        open_parquet(tmp_path, SHAPE).train.read(0, np.empty(SHAPE, np.float32))
