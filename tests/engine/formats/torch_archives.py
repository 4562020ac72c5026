"""Files such as torch.save writes, whole and otherwise, made without torch."""

import pickle
import zipfile
from pathlib import Path
from typing import Any


def write_archive(path: Path, root: Any, storages: dict[str, bytes] | None = None, **more: bytes) -> Path:
    """Write an archive with the pickle of `root`, or with `root` as its pickle if that is bytes."""
    pickled = root if isinstance(root, bytes) else pickle.dumps(root, protocol=2)
    entries = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    entries |= {f"data/{key}": content for key, content in (storages or {}).items()} | more
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return path


def one_tensor(
    *,
    kind: str = "FloatStorage",
    size: int = 6,
    first: int = 0,
    shape: tuple[int, ...] = (2, 3),
    strides: tuple[int, ...] = (3, 1),
    key: str = "0",
    name: str = "weight",
) -> bytes:
    """Return the pickle of a state dict of one tensor, described so."""

    def number(value: int) -> bytes:
        return pickle.dumps(value, protocol=2)[2:-1]

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    storage = (
        b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + number(size) + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(first)
    tensor += numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02}(" + text(name) + tensor + b"u."
