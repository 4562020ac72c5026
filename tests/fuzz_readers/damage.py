"""Ways in which the content of a file can be damaged."""

import re

import numpy as np

_EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    0x7FFFFFFFFFFFFFFF,
    0xFFFFFFFFFFFFFFFF,
)
_VALUES = (
    b"null", b"true", b"[]", b"{}", b'""', b"-1", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"9" * 5000,
    b"0.5",     b'"\\ud800"', b'"\xff\xfe"', b"[" * 100_000, b'{"a":' * 50_000, b"inf", b"1979-05-27",
)  # fmt: skip
_TOKEN = re.compile(rb'"[^"\n]*"|-?[0-9][0-9.eE+-]*|true|false|null')


def flip(content: bytearray, rng: np.random.Generator) -> bytes:
    """Flip some bits, every other time near the start, where headers are."""
    reach = len(content) if rng.integers(2) else min(len(content), 64)
    for place in rng.integers(0, max(1, reach), rng.integers(1, 9)):
        if reach:
            content[place] ^= 1 << int(rng.integers(8))
    return bytes(content)


def cut(content: bytearray, rng: np.random.Generator) -> bytes:
    """Cut the content short."""
    return bytes(content[: int(rng.integers(0, len(content) + 1))])


def swap(content: bytearray, rng: np.random.Generator) -> bytes:
    """Swap two pieces."""
    a, b, c = sorted(rng.integers(0, len(content) + 1, 3).tolist())
    return bytes(content[:a] + content[b:c] + content[a:b] + content[c:])


def lose(content: bytearray, rng: np.random.Generator) -> bytes:
    """Lose a piece in the middle."""
    a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    return bytes(content[:a] + content[b:])


def repeat(content: bytearray, rng: np.random.Generator) -> bytes:
    """Repeat a piece."""
    a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    return bytes(content[:b] + content[a:b] + content[b:])


def missize(content: bytearray, rng: np.random.Generator) -> bytes:
    """Write an extreme number over a place that may hold a size."""
    width = int(rng.choice([1, 2, 4, 8]))
    order = "big" if rng.integers(2) else "little"
    reach = len(content) if rng.integers(3) == 0 else min(len(content), 64)
    at = int(rng.integers(0, max(1, reach)))
    value = int(rng.choice(_EXTREMES[:9])) if width < 8 else _EXTREMES[int(rng.integers(len(_EXTREMES)))]
    content[at : at + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, order)
    return bytes(content)


def noise(content: bytearray, rng: np.random.Generator) -> bytes:
    """Put random bytes over a piece, or in place of all."""
    if rng.integers(4) == 0:
        return rng.bytes(int(rng.integers(0, 5000)))
    a, b = sorted(rng.integers(0, len(content) + 1, 2).tolist())
    content[a:b] = rng.bytes(b - a)
    return bytes(content)


def retype(content: bytearray, rng: np.random.Generator) -> bytes:
    """Put another value in place of a number or a text, as somebody who edits the file could."""
    found = list(_TOKEN.finditer(content))
    if not found:
        return flip(content, rng)
    token = found[int(rng.integers(len(found)))]
    content[token.start() : token.end()] = _VALUES[int(rng.integers(len(_VALUES)))]
    return bytes(content)


DAMAGES = (flip, cut, swap, lose, repeat, missize, noise, retype)
