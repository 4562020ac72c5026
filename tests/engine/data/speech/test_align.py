"""From recordings and their text to a folder that the reader of Kaldi's data reads."""

from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.__main__ import main
from engine.data.dataset import DataError
from engine.data.readers.kaldi import open_kaldi
from engine.data.speech import senones
from engine.data.speech.align import align
from tests.engine.data.files import read_all
from tests.engine.data.wav_files import tone, wav_bytes, write_tone


class ByTurns:
    """An aligner that gives the frames of the n-th recording senone 100 + n; "noise" fits nothing."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def unknown(self, words):
        return [word for word in words if word == "zyzzy"]

    def align(self, samples, words):
        if words == ["noise"]:
            return None
        self.lengths.append(len(samples))
        return np.full(len(samples) // 160, 99 + len(self.lengths), np.int32)


def write_recordings(folder: Path) -> dict[str, str]:
    for number in range(6):
        write_tone(folder / f"u{number}.wav", 300 + 100 * number, 1600)
    return {f"u{number}": "Hello, world!" for number in reversed(range(6))}


def test_labels_number_the_senones_that_occur(tmp_path: Path) -> None:
    texts, said = write_recordings(tmp_path / "wavs"), []
    aligner = ByTurns()
    align(tmp_path / "wavs", texts, tmp_path / "out", aligner, test_every=3, say=said.append)
    source = open_kaldi(tmp_path / "out", (11 * 40,))
    assert source.test is not None
    x, labels = read_all(source.train)
    assert sorted(set(labels)) == [0, 1, 3, 4]
    assert sorted(set(read_all(source.test)[1])) == [2, 5]
    assert len(labels) == 4 * 18  # frames of 25 ms, every 10 ms, in 200 ms
    assert np.isfinite(x).all()
    assert (tmp_path / "out" / "senones.txt").read_text().splitlines()[1] == "1 101"
    assert (tmp_path / "out" / "train" / "text").read_text().splitlines()[0] == "u0 hello world"
    assert aligner.lengths == [3200] * 6  # at twice the rate of the files
    assert said == ["6 utterances, 108 frames, 6 senones; none left out"]


def test_what_cannot_be_aligned_is_left_out_and_counted(tmp_path: Path) -> None:
    texts, said = write_recordings(tmp_path / "wavs"), []
    texts |= {"u1": "[beep]", "u2": "zyzzy", "u3": "noise", "gone": "hello"}
    align(tmp_path / "wavs", texts, tmp_path / "out", ByTurns(), test_every=3, say=said.append)
    assert said[0] == "not in the dictionary: zyzzy"
    assert said[1].endswith(
        "left out: 1 that do not fit their text, 1 with words that are not in the dictionary, "
        "1 without a file, 1 without words"
    )
    with pytest.raises(UserError, match=r"no utterance of .* could be aligned; left out: 1 without a file"):
        align(tmp_path / "wavs", {"gone": "x"}, tmp_path / "other", ByTurns(), test_every=3, say=said.append)


def test_rates_and_folders_that_will_not_do_are_named(tmp_path: Path) -> None:
    texts = write_recordings(tmp_path / "wavs")
    with pytest.raises(UserError, match=r"out: .*wavs: exists; give another name"):
        align(tmp_path / "wavs", texts, tmp_path / "wavs", ByTurns(), test_every=3, say=print)
    (tmp_path / "wavs" / "u0.wav").write_bytes(wav_bytes(tone(300), rate=44100))
    with pytest.raises(DataError, match=r"u0.wav: has 44100 samples/s; must be 16000, or 8000"):
        align(tmp_path / "wavs", texts, tmp_path / "out", ByTurns(), test_every=3, say=print)
    aligner = ByTurns()
    write_tone(tmp_path / "wavs" / "u0.wav", 300)
    (tmp_path / "wavs" / "u5.wav").write_bytes(wav_bytes(np.zeros(601 * 8000), bits=8))
    with pytest.raises(DataError, match=r"u5.wav: lasts 601 s; must be at most 600"):
        align(tmp_path / "wavs", texts, tmp_path / "out", aligner, test_every=3, say=print)
    assert aligner.lengths == []


def test_the_command_aligns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = write_recordings(tmp_path / "wavs")
    (tmp_path / "text").write_text("".join(f"{name} {text}\n" for name, text in texts.items()))
    monkeypatch.setattr(senones, "Pocketsphinx", ByTurns)
    asked = ["align", *(str(tmp_path / name) for name in ("wavs", "text", "out"))]
    assert main([*asked, "--test-every", "2"]) == 0
    assert "6 utterances" in capsys.readouterr().out
    assert (tmp_path / "out" / "test" / "feats.scp").is_file()
    assert main(asked) == 2
    assert capsys.readouterr().err == f"error: out: {tmp_path}/out: exists; give another name\n"
    assert main([*asked, "--test-every", "1"]) == 2
    assert capsys.readouterr().err == "error: test-every: got 1; must be at least 2\n"
