"""Small images that come along, decoded to see whether the decoders of two machines make the same pixels."""

from collections.abc import Iterable
from pathlib import Path

from engine.data.dataset import DataError, digest
from engine.data.readers.image_file import read_pixels

RESIZING = "resizing"
_SAMPLES = Path(__file__).parents[1] / "samples"
_SIZES = ((17, 23), (16, 16), (40, 31))  # as stored, smaller and larger
_ENDINGS = {
    RESIZING: (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WebP": (".webp",),
    "JPEG 2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "AVIF": (".avif", ".avifs"),
}
"""What may differ from one Pillow to the next: resizing, and decoders of formats that lose something."""


def needed(files: Iterable[str]) -> tuple[str, ...]:
    """Return what of Pillow the pixels of files depend on: any may have to be resized."""
    endings = {Path(f"x{file}").suffix.lower() for file in files}  # also of an ending alone
    return tuple(name for name, its in _ENDINGS.items() if name == RESIZING or endings.intersection(its))


def probe(names: Iterable[str]) -> dict[str, str]:
    """Return for each name a hash of the pixels that this machine makes of an image, in several sizes."""
    return {name: _hash(_SAMPLES / f"probe{_ENDINGS[name][0]}") for name in names}


def _hash(path: Path) -> str:
    sizes = [(channels, *size) for channels in (3, 1) for size in _SIZES]
    try:
        decoded = [read_pixels(path, channels=c, height=h, width=w) for c, h, w in sizes]
    except DataError:  # no such decoder, which the first such file of the data will say
        return "none"
    return digest(*decoded)
