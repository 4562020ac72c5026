"""Writers of small WAV files, byte by byte: they share no code with the reader."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav_bytes(
    samples: NDArray[np.floating] | NDArray[np.integer],
    *,
    rate: int = 8000,
    bits: int = 16,
    kind: int = PCM,
    extensible: bool = False,
    before: bytes = b"",
) -> bytes:
    """Return a file of samples [n] or [n, channels]: stored numbers, or floats for FLOAT."""
    columns = samples[:, np.newaxis] if samples.ndim == 1 else samples
    channels, width = columns.shape[1], columns.shape[1] * bits // 8
    said = struct.pack(
        "<HHIIHH", EXTENSIBLE if extensible else kind, channels, rate, rate * width, width, bits
    )
    if extensible:
        said += struct.pack("<HHIH", 22, bits, 0, kind) + b"\0" * 14
    if kind == FLOAT:
        content = columns.astype(f"<f{bits // 8}").tobytes()
    else:
        numbers = columns.astype(np.int64).ravel().tolist()
        content = b"".join(number.to_bytes(bits // 8, "little", signed=bits > 8) for number in numbers)
    inside = b"WAVE" + before + chunk(b"fmt ", said) + chunk(b"data", content)
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


def tone(hertz: float, samples: int = 2000, rate: int = 8000, loud: int = 9000) -> NDArray[np.int64]:
    """Return 16-bit samples of a tone."""
    return np.array([round(loud * math.sin(2 * math.pi * hertz * place / rate)) for place in range(samples)])


def write_tone(path: Path, hertz: float, samples: int = 2000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav_bytes(tone(hertz, samples)))
