"""The reader of WAV files, by class folders and by names."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError
from engine.data.readers import recordings
from engine.data.readers.recordings import centred, normalised, open_recordings
from engine.data.sources import open_unfitted, spec_of
from tests.engine.data.files import read_all
from tests.engine.data.wav_files import tone, wav_bytes, write_tone

SHAPE = (1, 12, 20)


def write_digits(folder: Path, *, takes: int = 7) -> None:
    for label, hertz in (("0", 300), ("1", 900), ("10", 2500)):
        for take in range(takes):
            write_tone(folder / f"{label}_ann_{take}.wav", hertz, 900 + 40 * take)


def test_class_folders_are_read(tmp_path: Path) -> None:
    for split, takes in (("train", 3), ("test", 2)):
        for name, hertz in (("yes", 300), ("no", 2500)):
            for take in range(takes):
                write_tone(tmp_path / split / name / f"{take}.WAV", hertz, 900)
    (tmp_path / "train" / "yes" / "notes.txt").write_text("x")
    source = open_recordings(tmp_path, SHAPE)
    assert source.test is not None
    assert source.class_names == ("no", "yes")
    assert read_all(source.train)[1] == [0, 0, 0, 1, 1, 1]
    assert read_all(source.test)[1] == [0, 0, 1, 1]
    assert source.lines() == [
        "training: 6 recordings in 2 classes; test: 4 recordings in 2 classes",
        "wav: 12 frames (135 ms) of 20 log mel energies, at 8000 samples/s",
        "wav: passed over: 1 .txt",
    ]


def test_files_named_by_label_speaker_and_take_are_parted_by_take(tmp_path: Path) -> None:
    write_digits(tmp_path / "recordings")
    source = open_recordings(tmp_path, SHAPE)
    assert source.test is not None
    assert source.class_names == ("0", "1", "10")
    assert [len(source.train), len(source.test)] == [6, 15]
    assert source.train.files == (
        "0_ann_5.wav",
        "0_ann_6.wav",
        "1_ann_5.wav",
        "1_ann_6.wav",
        "10_ann_5.wav",
        "10_ann_6.wav",
    )
    assert read_all(source.train)[1] == [0, 0, 1, 1, 2, 2]
    assert source.notes[1:] == ("wav: takes 0 to 4 of each speaker and label are the test set",)


def test_other_names_are_all_trained_on(tmp_path: Path) -> None:
    write_digits(tmp_path)
    write_tone(tmp_path / "10_last.wav", 2500)
    source = open_recordings(tmp_path, SHAPE)
    assert source.test is None
    assert len(source.train) == 22


def test_folders_of_splits_go_before_takes(tmp_path: Path) -> None:
    write_digits(tmp_path / "train")
    write_tone(tmp_path / "test" / "10_x.wav", 2500)
    source = open_recordings(tmp_path, SHAPE)
    assert source.test is not None
    assert [len(source.train), read_all(source.test)[1]] == [21, [2]]


def test_a_sample_is_normalised_and_in_the_middle(tmp_path: Path) -> None:
    write_digits(tmp_path)
    data = open_recordings(tmp_path, SHAPE).train
    x, _ = read_all(data)
    frames = [(900 + 40 * take - 200) // 80 + 1 for take in (5, 6)]
    for sample, count in zip(x[:2, 0], frames, strict=True):
        before = (12 - count) // 2 if count < 12 else 0
        assert not sample[:before].any()
        assert abs(sample.mean(dtype=np.float64)) < 1e-5
    loudest = x[:, 0].sum(axis=1).argmax(axis=1)  # the band of each tone
    assert loudest[0] == loudest[1] < loudest[2] == loudest[3] < loudest[4] == loudest[5]


def test_normalisation_and_middle() -> None:
    features = np.random.default_rng(0).normal(-9, 3, (5, 4))
    made = normalised(features)
    assert abs(made.mean()) < 1e-12
    assert made.std() == pytest.approx(1)
    assert not normalised(np.full((3, 4), 7.0)).any()
    assert centred(made, 5) is not None
    np.testing.assert_array_equal(
        centred(made, 8), np.concatenate([np.zeros((1, 4)), made, np.zeros((2, 4))])
    )
    np.testing.assert_array_equal(centred(made, 2), made[1:3])
    np.testing.assert_array_equal(centred(made, 5), made)


def test_a_vector_has_the_same_values(tmp_path: Path) -> None:
    write_digits(tmp_path)
    picture, _ = read_all(open_recordings(tmp_path, (1, 12, 40)).train)
    flat, _ = read_all(open_recordings(tmp_path, (480,)).train)
    np.testing.assert_array_equal(flat, picture.reshape(6, 480))


def test_the_cache_changes_nothing_and_threads_read_what_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_digits(tmp_path)
    monkeypatch.setattr(recordings, "CACHE_BYTES", 0)
    wanted, _ = read_all(open_recordings(tmp_path, SHAPE).train)
    monkeypatch.undo()
    data = open_recordings(tmp_path, SHAPE).train
    read = np.empty((60, *SHAPE), np.float32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda place: data.read(place % 6, read[place]), range(60)))
    np.testing.assert_array_equal(read, np.concatenate([wanted] * 10))
    assert data.cached.all()


@pytest.mark.parametrize("shape", [(3, 12, 20), (481,), (2, 3)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        UserError, match=r"^wav: the model wants .* must be \(1, frames, mel energies\), or \(fr"
    ):
        open_recordings(tmp_path, shape)


def test_another_rate_and_damage_are_named_when_they_are_read(tmp_path: Path) -> None:
    write_digits(tmp_path)
    (tmp_path / "0_ann_6.wav").write_bytes(wav_bytes(tone(300), rate=16000))
    data = open_recordings(tmp_path, SHAPE).train
    with pytest.raises(DataError, match=r"0_ann_6.wav: has 16000 samples/s; must be 8000, as the others"):
        data.read(1, np.empty(SHAPE, np.float32))
    with pytest.raises(DataError, match=r"0_ann_6.wav: has 16000 samples/s"):
        data.inspect(1)


def test_what_holds_no_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; wav:DIR wants a folder of class folders"):
        open_recordings(tmp_path / "nowhere", SHAPE)
    with pytest.raises(DataError, match=r"has neither class folders nor .wav files"):
        open_recordings(tmp_path, SHAPE)
    write_tone(tmp_path / "plain.wav", 300)
    with pytest.raises(DataError, match=r"plain.wav: has no label in its name; must be LABEL_...wav"):
        open_recordings(tmp_path, SHAPE)
    (tmp_path / "plain.wav").rename(tmp_path / "0_plain.wav")
    with pytest.raises(DataError, match=r"has recordings of 1 class; must be at least 2"):
        open_recordings(tmp_path, SHAPE)
    assert len(open_recordings(tmp_path, SHAPE, least_classes=1).train) == 1


def test_a_class_without_recordings_and_a_test_class_of_its_own_are_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "yes").mkdir(parents=True)
    write_tone(tmp_path / "a" / "no" / "0.wav", 300)
    with pytest.raises(DataError, match=r"yes: has no recordings; read are .wav files"):
        open_recordings(tmp_path / "a", SHAPE)
    write_digits(tmp_path / "b" / "train")
    write_tone(tmp_path / "b" / "test" / "7_x.wav", 300)
    with pytest.raises(DataError, match=r"test: has recordings of 7, which is not trained on"):
        open_recordings(tmp_path / "b", SHAPE)


def test_data_is_checked_without_a_model(tmp_path: Path) -> None:
    write_digits(tmp_path / "flat")
    write_tone(tmp_path / "split" / "train" / "yes" / "0.wav", 300)
    for name in ("flat", "split"):
        assert spec_of(str(tmp_path / name)) == f"wav:{tmp_path / name}"
    data = open_unfitted(f"wav:{tmp_path / 'flat'}").train
    assert data.inspect(0) == (0, (1100,))
