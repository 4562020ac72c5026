"""Small images that come along, decoded to see whether the decoders of two machines make the same pixels."""

from collections.abc import Iterable
from pathlib import Path

from engine.data.dataset import DataError, digest
from engine.data.readers.image_pixels import read_pixels
from engine.data.recolour import Recolouring

RESIZING = "resizing"
COLOURS = "changes of colours"
"""By Pillow, of training images."""
_SAMPLES = Path(__file__).parents[1] / "samples"
_ALL_CHANGES = Recolouring(jitter=0.4, hue=0.1, operations=2, magnitude=9)
_SAMPLES_OF_COLOURS = 50  # in which each of RandAugment's operations occurs
_SIZES = ((17, 23), (16, 16), (40, 31))  # as stored, smaller and larger
_ENDINGS = {
    RESIZING: (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "WebP": (".webp",),
    "JPEG 2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "AVIF": (".avif", ".avifs"),
}
"""What may differ from one machine to the next: resizing, and decoders of formats that lose something."""


def needed(files: Iterable[str]) -> tuple[str, ...]:
    """Return what the pixels of files depend on: any may have to be resized."""
    endings = {f".{file.rpartition('.')[2].lower()}" for file in files}
    return tuple(name for name, its in _ENDINGS.items() if name == RESIZING or endings.intersection(its))


def probe(names: Iterable[str]) -> dict[str, str]:
    """Return for each name a hash of the pixels that this machine makes of an image, in several sizes."""
    return {
        name: _hash_of_colours() if name == COLOURS else _hash(_SAMPLES / f"probe{_ENDINGS[name][0]}")
        for name in names
    }


def _hash(path: Path) -> str:
    sizes = [(channels, *size) for channels in (3, 1) for size in _SIZES]
    try:
        decoded = [read_pixels(path, channels=c, height=h, width=w) for c, h, w in sizes]
    except DataError:  # no such decoder, which the first such file of the data will say
        return "none"
    return digest(*decoded)


def _hash_of_colours() -> str:
    """Hash what all operations make of an image."""
    image = read_pixels(_SAMPLES / f"probe{_ENDINGS[RESIZING][0]}", channels=3, height=16, width=16)
    changed = []
    for sample in range(_SAMPLES_OF_COLOURS):
        pixels = image.copy()
        _ALL_CHANGES.apply(pixels, seed=0, epoch=0, sample=sample)
        changed.append(pixels)
    return digest(*changed)
