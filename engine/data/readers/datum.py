"""Caffe's Datum: an image and its label in a protocol buffer (github.com/BVLC/caffe, caffe.proto)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _ENCODED = 1, 2, 3, 4, 5, 7  # numbers of fields
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # kinds of fields
_NUMBERS = (_CHANNELS, _HEIGHT, _WIDTH, _LABEL, _ENCODED)

ReadAt = Callable[[int, int], bytes]
"""``read(place, count)``: bytes of the message, fewer where it ends."""


@dataclass(frozen=True)
class Datum:
    """The fields of a Datum that images have, with the place of the content in the message."""

    channels: int
    height: int
    width: int
    label: int
    encoded: bool
    data: int
    """Where the content begins."""
    size: int

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """Return the pixels of content that is not encoded, uint8 [H, W] or [H, W, 3] in RGB.

        They are stored as [C, H, W], in the order blue, green, red.

        Raises
        ------
        ValueError
            Their number is another one.
        """
        shape = (self.channels, self.height, self.width)
        if self.channels not in (1, 3) or min(shape) < 1 or len(content) != np.prod(shape, dtype=object):
            raise ValueError(f"has {len(content):,} bytes of pixels for {shape}; must be (1 or 3, H, W)")
        planes = np.frombuffer(content, np.uint8).reshape(shape)
        return planes[0] if self.channels == 1 else np.ascontiguousarray(planes[::-1].transpose(1, 2, 0))


def read_datum(read: ReadAt, size: int) -> Datum:
    """Return a Datum from a message of so many bytes, without reading its content.

    Raises
    ------
    ValueError
        It is no Datum of an image with a label.
    """
    numbers: dict[int, int] = {}
    data = (-1, 0)
    for field, value, place, length in _fields(read, size):
        if field == _DATA and place >= 0:
            data = place, length
        elif field in _NUMBERS and place < 0:
            numbers[field] = value
    if data[0] < 0 or _LABEL not in numbers:
        raise ValueError("is no Datum of an image with a label")
    channels, height, width, encoded = (
        numbers.get(each, 0) for each in (_CHANNELS, _HEIGHT, _WIDTH, _ENCODED)
    )
    return Datum(channels, height, width, _signed(numbers[_LABEL]), bool(encoded), *data)


def datum_bytes(content: bytes, label: int) -> bytes:
    """Return the message of an encoded image.

    Its label comes first, which protocol buffers allow: so labels are read without what comes behind them.
    """
    numbers = _varint(_LABEL << 3) + _varint(label) + _varint(_ENCODED << 3) + _varint(1)
    return numbers + _varint(_DATA << 3 | _BYTES) + _varint(len(content)) + content


def _fields(read: ReadAt, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the number of each field, with its value, or with the place and length of its bytes."""
    place = 0
    while place < size:
        start = read(place, 20)  # a tag and a number, of 10 bytes at most
        tag, used = _number(start, 0)
        field, kind = tag >> 3, tag & 7
        value, behind, length = 0, -1, 0
        if kind == _VARINT:
            value, used = _number(start, used)
        elif kind == _BYTES:
            length, used = _number(start, used)
            behind = place + used
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("is no protocol buffer")
        place += used + length
        if place > size or field == 0:
            raise ValueError("is a protocol buffer that is cut short or damaged")
        yield field, value, behind, length


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("is a protocol buffer that is cut short or damaged")


def _signed(value: int) -> int:
    """Return a number of 32 bits, which protocol buffers write as one of 64 where it is negative."""
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*parts, value))
