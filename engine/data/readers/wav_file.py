"""WAV files: whole numbers of 8 to 32 bits, or floats, of any channels; WAVE_FORMAT_EXTENSIBLE too.

The module `wave` of Python 3.11 reads neither floats nor the extensible form that 24 bits come in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from engine.config.files import open_file
from engine.data.dataset import DataError

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_BITS = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
_MOST_CHANNELS = 64
_LEAST_RATE, _MOST_RATE = 1000, 1_000_000
_LOUDEST = 1e6  # of floats, where 1 is a full scale


@dataclass(frozen=True)
class Wav:
    """What the header of a file says."""

    rate: int
    """Samples a second."""
    channels: int
    kind: int
    bits: int
    start: int
    """Of the samples, in bytes."""
    samples: int
    """Of each channel."""


def read_header(path: Path) -> Wav:
    """Read what a WAV file holds.

    Raises
    ------
    DataError
        The file cannot be read, is no WAV file, is cut short, or holds what is not read here.
    """
    try:
        with open_file(path) as file:
            return _header(file, path)
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error


def read_samples(path: Path, rate: int, most: int) -> tuple[NDArray[np.float64], int]:
    """Read a recording, the mean of its channels, in which a full scale is 1.

    Parameters
    ----------
    rate
        That the recording must have.
    most
        Samples that are read, of a longer recording from its middle.

    Returns
    -------
    float64 [n], and the samples of the whole recording.

    Raises
    ------
    DataError
        As of `read_header`; it has another rate, or samples that are not finite.
    """
    try:
        with open_file(path) as file:
            wav = _header(file, path)
            if wav.rate != rate:
                raise DataError.at(path, f"has {wav.rate} samples/s; must be {rate}, as the others")
            count = min(most, wav.samples)
            width = wav.channels * wav.bits // 8
            file.seek(wav.start + (wav.samples - count) // 2 * width)
            content = file.read(count * width)
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error
    if len(content) < count * width:
        raise DataError.at(path, "became shorter while it was read")
    samples = _decoded(content, wav)
    if not (np.abs(samples) < _LOUDEST).all():  # also where they are not finite
        raise DataError.at(path, f"has samples that are not finite, or beyond {_LOUDEST:g} of a full scale")
    mono = samples[:, 0].copy()
    for channel in range(1, wav.channels):
        mono += samples[:, channel]
    return mono / wav.channels, wav.samples


def _header(file: BinaryIO, path: Path) -> Wav:
    """Walk through the chunks of a file until its samples."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(12)
    if not start:
        raise DataError.at(path, "is empty")
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        raise DataError.at(path, f"is no WAV file: it begins with {start.decode('ascii', 'replace')!r}")
    said = b""
    while len(head := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", head)
        place = file.tell()
        if name == b"fmt ":
            said = file.read(min(length, 64))
        if name == b"data":
            if place + length > size:
                raise DataError.at(path, f"is cut short: {size - place} bytes of samples; must be {length}")
            return _described(said, place, length, path)
        file.seek(place + length + length % 2)
    raise DataError.at(path, "has no samples: no chunk of data")


def _described(said: bytes, start: int, length: int, path: Path) -> Wav:
    """Return what the chunks of the format and the data say."""
    if len(said) < 16:
        raise DataError.at(path, "does not say the format of its samples")
    kind, channels, rate, _, width, bits = struct.unpack_from("<HHIIHH", said)
    if kind == _EXTENSIBLE and len(said) >= 26:
        (kind,) = struct.unpack_from("<H", said, 24)
    if bits not in _BITS.get(kind, ()):
        raise DataError.at(
            path,
            f"has samples of format {kind} with {bits} bits; must be whole numbers of 8, 16, 24 or 32 "
            "bits (1) or floats of 32 or 64 (3)",
        )
    if not 1 <= channels <= _MOST_CHANNELS or not _LEAST_RATE <= rate <= _MOST_RATE:
        raise DataError.at(
            path,
            f"has {channels} channels of {rate} samples/s; must be 1 to {_MOST_CHANNELS}, and "
            f"{_LEAST_RATE} to {_MOST_RATE} samples/s",
        )
    if width != channels * bits // 8 or length % width or not length:
        raise DataError.at(
            path,
            f"has {length} bytes of samples in blocks of {width}; must be some, in whole blocks of "
            f"{channels * bits // 8}",
        )
    return Wav(rate, channels, kind, bits, start, length // width)


def _decoded(content: bytes, wav: Wav) -> NDArray[np.float64]:
    """Return samples, float64 [n, channels], in which a full scale is 1."""
    if wav.kind == _FLOAT:
        return np.frombuffer(content, f"<f{wav.bits // 8}").reshape(-1, wav.channels).astype(np.float64)
    if wav.bits == 8:  # of no sign
        whole = np.frombuffer(content, np.uint8).astype(np.int64) - 128
    elif wav.bits == 24:
        low, middle, high = np.frombuffer(content, np.uint8).reshape(-1, 3).astype(np.int64).T
        whole = low + (middle << 8) + ((high ^ 0x80) - 0x80 << 16)
    else:
        whole = np.frombuffer(content, f"<i{wav.bits // 8}").astype(np.int64)
    return whole.reshape(-1, wav.channels) / (1 << wav.bits - 1)
