"""Writers of tiny data sets in shards, databases and tables, for the tests of their readers."""

import io
import tarfile
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from PIL import Image

from engine.data.readers.datum import datum_bytes
from tests.engine.data.files import random_bytes

Encoded = list[tuple[bytes, int]]


def encoded(count: int = 6, classes: int = 2, *, seed: int = 0) -> Encoded:
    """Return JPEG files of several sizes, and their labels."""
    samples = []
    for index in range(count):
        content = io.BytesIO()
        pixels = random_bytes(12 + index % 3, 10, 3, seed=seed * 1000 + index)
        Image.fromarray(pixels).save(content, "JPEG")
        samples.append((content.getvalue(), index % classes))
    return samples


def write_tar(path: Path, members: dict[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> None:
    """Write an uncompressed tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_shard(path: Path, samples: Encoded, *, form: int = tarfile.PAX_FORMAT) -> None:
    """Write a shard of WebDataset: of each sample NUMBER.cls and NUMBER.jpg."""
    members = {}
    for index, (content, label) in enumerate(samples):
        members |= {f"{index:04d}.cls": str(label).encode(), f"{index:04d}.jpg": content}
    write_tar(path, members, form=form)


def write_lmdb(folder: Path, entries: dict[bytes, bytes]) -> None:
    """Write a database by LMDB's own library."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        lmdb.open(str(folder), map_size=64 << 20, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)


def write_caffe(folder: Path, samples: Encoded) -> None:
    """Write encoded images as Caffe does."""
    write_lmdb(folder, {b"%08d_x" % index: datum_bytes(*sample) for index, sample in enumerate(samples)})


def caffe_pixels(pixels: np.ndarray, label: int) -> bytes:
    """Return the Datum that Caffe writes of pixels [H, W, 3] in RGB: fields in the order of their numbers."""
    planes = pixels[:, :, ::-1].transpose(2, 0, 1)
    message = b""
    for field, size in enumerate(planes.shape, 1):
        message += bytes([field << 3, size])
    content = planes.tobytes()
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7])
    return message + bytes([4 << 3 | 2]) + length + content + bytes([5 << 3, label])


def write_parquet(
    path: Path, samples: Encoded, *, metadata: dict[str, str] | None = None, group: int = 2
) -> None:
    """Write a table of images and labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": content, "path": None} for content, _ in samples]
    table = pa.table({"image": images, "label": [label for _, label in samples]})
    pa.parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=group)
