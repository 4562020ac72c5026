"""Writers of tiny Kaldi folders, byte by byte: they share no code with the reader."""

import struct
from collections.abc import Mapping
from pathlib import Path

import kaldiio
import numpy as np
from numpy.typing import NDArray

Features = Mapping[str, NDArray[np.float32]]
Labels = Mapping[str, list[int]]


def matrix_bytes(matrix: NDArray[np.float32], form: str = "FM") -> bytes:
    kind = {"FM": "<f4", "DM": "<f8"}[form]
    sizes = b"".join(b"\4" + struct.pack("<i", size) for size in matrix.shape)
    return b"\0B" + form.encode() + b" " + sizes + matrix.astype(kind).tobytes()


def vector_bytes(labels: list[int]) -> bytes:
    return b"\0B" + b"".join(b"\4" + struct.pack("<i", number) for number in (len(labels), *labels))


def write_ark(ark: Path, objects: Mapping[str, bytes]) -> None:
    """Write an archive, and an scp file beside it."""
    content, lines = b"", []
    for name, each in objects.items():
        content += name.encode() + b" "
        lines.append(f"{name} {ark}:{len(content)}\n")
        content += each
    ark.write_bytes(content)
    ark.with_suffix(".scp").write_text("".join(lines))


def random_features(
    lengths: Mapping[str, int], columns: int = 3, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {
        name: (5 + 2 * rng.standard_normal((rows, columns))).astype(np.float32)
        for name, rows in lengths.items()
    }


def write_folder(
    folder: Path,
    features: Features,
    labels: Labels,
    *,
    form: str = "FM",
    labels_in: str = "ali.scp",
    speakers: Mapping[str, str] | None = None,
) -> None:
    """Write the features and labels of a folder, and who speaks."""
    folder.mkdir(parents=True, exist_ok=True)
    write_ark(folder / "feats.ark", {name: matrix_bytes(each, form) for name, each in features.items()})
    if labels_in == "ali.txt":
        lines = (f"{name} {' '.join(map(str, each))}\n" for name, each in labels.items())
        (folder / "ali.txt").write_text("".join(lines))
    else:
        write_ark(folder / "ali.ark", {name: vector_bytes(each) for name, each in labels.items()})
        if labels_in == "ali.ark":
            (folder / "ali.scp").unlink()
    if speakers is not None:
        (folder / "utt2spk").write_text("".join(f"{name} {speaker}\n" for name, speaker in speakers.items()))


def write_compressed(ark: Path, features: Features, form: str) -> None:
    """Write features as kaldiio compresses them, and an scp file beside them."""
    method = {"CM": 2, "CM2": 3, "CM3": 5}[form]
    places = f"ark,scp:{ark},{ark.with_suffix('.scp')}"
    with kaldiio.WriteHelper(places, compression_method=method) as writer:
        for name, each in features.items():
            writer[name] = each
