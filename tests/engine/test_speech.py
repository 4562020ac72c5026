"""Training on speech: Kaldi's frames and recordings, from readers to weights."""

from pathlib import Path

import numpy as np
import pytest

from comm.threads import run_ranks, single_rank
from engine.config.errors import UserError
from engine.run.launch import run
from engine.run.start import new_run
from engine.trained.loading import load_model
from tests.engine.data.kaldi_files import write_folder
from tests.engine.data.wav_files import write_tone

CHANGES = {"epochs": 3, "steps": 0, "batch": 16, "leaves": 4, "threads": 1}
WORDS = {"model_arguments.image": [1, 16, 16], "batch": 8, "schedule.peak_epochs": 1.0}


def weights(folder: Path, ranks: int, recipe: str, changes):
    """Train on so many ranks; return the results of rank 0."""
    asked = {**CHANGES, **changes, "out": str(folder / f"run{ranks}")}
    return run_ranks(ranks, lambda world: run(world, lambda: new_run(recipe, asked)))[0]


def write_frames(folder: Path) -> None:
    """Write frames whose label is the sign of their middle."""
    for split, seed in (("train", 0), ("test", 1)):
        rng = np.random.default_rng(seed)
        features = {f"u{number}": rng.standard_normal((30, 3)).astype(np.float32) for number in range(6)}
        labels = {name: (each[:, 1] > 0).astype(int).tolist() for name, each in features.items()}
        write_folder(folder / split, features, labels)


def write_words(folder: Path) -> None:
    for label, hertz in (("low", 300), ("high", 2500)):
        for take in range(17):
            write_tone(folder / f"{label}_ann_{take}.wav", hertz + 10 * take, 900 + 20 * take)


def test_frames_train_a_network_of_cd_dnns_kind_to_the_same_bits_on_any_ranks(tmp_path: Path) -> None:
    write_frames(tmp_path / "data")
    changes = {
        "data": f"kaldi:{tmp_path / 'data'}",
        "model_arguments.features": 9,
        "model_arguments.layers": 1,
        "model_arguments.hidden": 16,
        "schedule.rate": 0.5,
    }
    one, two = (weights(tmp_path, ranks, "cd_dnn", changes) for ranks in (1, 2))
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["test_accuracy"] > 0.8


def test_recordings_train_to_the_same_bits_on_any_ranks(tmp_path: Path) -> None:
    write_words(tmp_path / "data")
    changes = {"data": f"wav:{tmp_path / 'data'}", **WORDS}
    one, two = (weights(tmp_path, ranks, "speech_digits", changes) for ranks in (1, 2))
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["test_accuracy"] > 0.8
    found = load_model(tmp_path / "run1", threads=1).evaluate()
    assert found.accuracy == one["test_accuracy"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_damage_ends_a_run_in_a_line(tmp_path: Path, ranks: int) -> None:
    write_words(tmp_path / "data")
    for path in (tmp_path / "data").glob("low_*_1?.wav"):
        path.write_bytes(b"RIFF")
    changes = {"data": f"wav:{tmp_path / 'data'}", **WORDS}
    with pytest.raises(UserError, match=r"low_ann_1\d.wav: is no WAV file: it begins with 'RIFF'"):
        weights(tmp_path, ranks, "speech_digits", changes)


def test_a_run_does_not_lie_among_recordings(tmp_path: Path) -> None:
    write_words(tmp_path)
    changes = {"data": f"wav:{tmp_path}", **WORDS, "out": str(tmp_path / "runs")}
    with pytest.raises(UserError, match=r"out: .* lies in the data, .*, where every folder is a class"):
        run(single_rank(), lambda: new_run("speech_digits", {**CHANGES, **changes}))
