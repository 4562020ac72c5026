"""WAV files of all the forms that are read, and of some that are not."""

import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers.wav_file import read_header, read_samples
from tests.engine.data.wav_files import FLOAT, PCM, chunk, tone, wav_bytes

VALUES = np.array([0.0, 0.5, -1.0, 0.25, -0.125])


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits", "stored"),
    [
        (PCM, 8, VALUES * 128 + 128),
        (PCM, 16, VALUES * 2**15),
        (PCM, 24, VALUES * 2**23),
        (PCM, 32, VALUES * 2**31),
        (FLOAT, 32, VALUES),
        (FLOAT, 64, VALUES),
    ],
)
def test_samples_are_what_was_written(tmp_path: Path, kind: int, bits: int, stored, extensible: bool) -> None:
    path = written(tmp_path / "a.wav", wav_bytes(stored, kind=kind, bits=bits, extensible=extensible))
    samples, whole = read_samples(path, 8000, 100)
    assert samples.tolist() == VALUES.tolist()
    assert whole == 5


def test_24_bits_have_their_sign(tmp_path: Path) -> None:
    numbers = np.array([1, -1, 256, -256, 65536, -65536, 2**23 - 1, -(2**23)])
    path = written(tmp_path / "a.wav", wav_bytes(numbers, bits=24))
    assert (read_samples(path, 8000, 100)[0] * 2**23).tolist() == numbers.tolist()


def test_channels_become_their_mean(tmp_path: Path) -> None:
    both = np.stack([VALUES, [0.5, 0.5, 1.0, 0.75, 0.125]], axis=1)
    path = written(tmp_path / "a.wav", wav_bytes(both, kind=FLOAT, bits=32))
    assert read_samples(path, 8000, 100)[0].tolist() == [0.25, 0.5, 0.0, 0.5, 0.0]


def test_files_of_pythons_own_module_are_read(tmp_path: Path) -> None:
    numbers = tone(440)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(numbers.astype("<i2").tobytes())
    assert read_header(tmp_path / "a.wav").samples == 2000
    assert (read_samples(tmp_path / "a.wav", 16000, 5000)[0] * 2**15).tolist() == numbers.tolist()


def test_of_a_long_recording_the_middle_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.wav", wav_bytes(np.arange(100) * 256))
    samples, whole = read_samples(path, 8000, 10)
    assert (samples * 128).tolist() == list(range(45, 55))
    assert whole == 100


def test_other_chunks_are_passed_over_also_of_an_odd_length(tmp_path: Path) -> None:
    content = wav_bytes(VALUES * 2**15, before=chunk(b"LIST", b"odd") + chunk(b"fact", bytes(4)))
    assert read_samples(written(tmp_path / "a.wav", content), 8000, 100)[0].tolist() == VALUES.tolist()


WHOLE = wav_bytes(VALUES * 2**15)


def changed(place: int, form: str, *values: int) -> bytes:
    content = bytearray(WHOLE)
    struct.pack_into(form, content, place, *values)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (bytes(5000), "is no WAV file: it begins with"),
        (b"a text that somebody called so", "is no WAV file: it begins with 'a text that "),
        (b"RIFX" + WHOLE[4:], "is no WAV file: it begins with 'RIFX"),
        (WHOLE[:-1], "is cut short: 9 bytes of samples; must be 10"),
        (WHOLE[:40], "has no samples: no chunk of data"),
        (WHOLE[:12] + chunk(b"data", bytes(4)), "does not say the format of its samples"),
        (
            changed(20, "<H", 7),
            "has samples of format 7 with 16 bits; must be whole numbers of 8, 16, 24 or 32",
        ),
        (changed(34, "<H", 12), "has samples of format 1 with 12 bits"),
        (changed(22, "<H", 0), "has 0 channels of 8000 samples/s; must be 1 to 64"),
        (changed(24, "<I", 0), "has 1 channels of 0 samples/s"),
        (changed(32, "<H", 3), "has 10 bytes of samples in blocks of 3; must be some, in whole blocks of 2"),
        (wav_bytes(VALUES[:0]), "has 0 bytes of samples in blocks of 2"),
        (wav_bytes(VALUES, rate=16000), "has 16000 samples/s; must be 8000, as the others"),
        (wav_bytes(VALUES * np.nan, kind=FLOAT, bits=32), "has samples that are not finite"),
        (
            wav_bytes(VALUES * 1e300, kind=FLOAT, bits=64),
            "has samples that are not finite, or beyond 1e[+]06",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(DataError, match=rf"odd.wav: {problem}"):
        read_samples(written(tmp_path / "odd.wav", content), 8000, 100)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for name, problem in (
        ("pipe", "it is no regular file but a pipe"),
        ("none", "No such file or directory"),
    ):
        with pytest.raises(DataError, match=rf"{name}.wav: cannot be read: {problem}"):
            read_header(tmp_path / f"{name}.wav")
