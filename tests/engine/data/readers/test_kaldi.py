"""The reader of Kaldi's features and alignments."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError
from engine.data.readers.kaldi import open_kaldi
from engine.data.sources import open_data, open_unfitted, spec_of
from tests.engine.data.files import read_all
from tests.engine.data.kaldi_files import (
    matrix_bytes,
    random_features,
    vector_bytes,
    write_ark,
    write_compressed,
    write_folder,
)

LENGTHS = {"zoe-1": 7, "amy-2": 1, "amy-3": 12}
SPEAKERS = {name: name[:3] for name in LENGTHS}
FEATURES = random_features(LENGTHS)
LABELS = {name: [(3 * place + rows) % 5 for place in range(rows)] for name, rows in LENGTHS.items()}


def expected(features, context, mean, deviation):
    """Return the samples of one utterance, frame by frame."""
    half, last = context // 2, len(features) - 1
    scaled = (features - mean) / deviation
    return [
        np.concatenate([scaled[min(max(place + step, 0), last)] for step in range(-half, half + 1)])
        for place in range(len(features))
    ]


def by_speaker(names):
    whole = np.concatenate([FEATURES[name] for name in names]).astype(np.float64)
    return whole.mean(axis=0), whole.std(axis=0)


@pytest.mark.parametrize("form", ["FM", "DM"])
@pytest.mark.parametrize("labels_in", ["ali.scp", "ali.ark", "ali.txt"])
def test_a_sample_is_a_frame_between_its_neighbours(tmp_path: Path, form: str, labels_in: str) -> None:
    write_folder(tmp_path, FEATURES, LABELS, form=form, labels_in=labels_in)
    source = open_kaldi(tmp_path, (5 * 3,))
    x, labels = read_all(source.train)
    assert labels == [label for name in LENGTHS for label in LABELS[name]]
    wanted = [row for name in LENGTHS for row in expected(FEATURES[name], 5, *by_speaker(LENGTHS))]
    np.testing.assert_allclose(x, np.stack(wanted), rtol=0, atol=2e-6)
    assert source.test is None
    assert source.lines() == [
        "training: 20 frames in 5 classes",
        "kaldi: 5 frames of 3 features a sample, normalised as the training set is",
    ]


def test_features_are_normalised_by_speaker_where_it_is_known(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS, speakers=SPEAKERS)
    source = open_kaldi(tmp_path, (3,))
    x, _ = read_all(source.train)
    moments = {"zoe": by_speaker(["zoe-1"]), "amy": by_speaker(["amy-2", "amy-3"])}
    wanted = [row for name in LENGTHS for row in expected(FEATURES[name], 1, *moments[name[:3]])]
    np.testing.assert_allclose(x, np.stack(wanted), rtol=0, atol=2e-6)
    assert source.lines()[-1].endswith("normalised by speaker")


def test_the_test_set_is_normalised_as_the_training_set(tmp_path: Path) -> None:
    other = random_features({"bob": 6}, seed=1)
    write_folder(tmp_path / "train", FEATURES, LABELS)
    write_folder(tmp_path / "test", other, {"bob": [6] * 6})
    source = open_kaldi(tmp_path, (3 * 3,))
    assert source.test is not None
    x, _ = read_all(source.test)
    np.testing.assert_allclose(x, expected(other["bob"], 3, *by_speaker(LENGTHS)), rtol=0, atol=2e-6)
    assert source.train.classes == source.test.classes == 7
    assert (source.train.classes_present, source.test.classes_present) == (5, 1)


def test_a_constant_feature_is_zero(tmp_path: Path) -> None:
    features = {name: each.copy() for name, each in FEATURES.items()}
    for each in features.values():
        each[:, 1] = 0.1
    write_folder(tmp_path, features, LABELS)
    x, _ = read_all(open_kaldi(tmp_path, (3,)).train)
    assert np.abs(x[:, 1]).max() < 1e-6


@pytest.mark.parametrize("form", ["CM", "CM2", "CM3"])
def test_compressed_features_are_what_kaldiio_unpacks(tmp_path: Path, form: str) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    write_compressed(tmp_path / "feats.ark", FEATURES, form)
    unpacked = dict(kaldiio.load_scp(f"{tmp_path}/feats.scp").items())
    whole = np.concatenate(list(unpacked.values())).astype(np.float64)
    x, _ = read_all(open_kaldi(tmp_path, (5 * 3,)).train)
    wanted = [row for name in LENGTHS for row in expected(unpacked[name], 5, whole.mean(0), whole.std(0))]
    np.testing.assert_allclose(x, np.stack(wanted), rtol=0, atol=3e-6)


def test_threads_read_what_one_reads(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    data = open_kaldi(tmp_path, (5 * 3,)).train
    x, _ = read_all(data)
    order = np.random.default_rng(0).integers(0, len(data), 400).tolist()
    read = np.empty((400, 15), np.float32)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: data.read(order[place], read[place]), range(400)))
    np.testing.assert_array_equal(read, x[order])


def test_the_fingerprint_knows_samples_and_not_the_place(tmp_path: Path) -> None:
    prints = []
    for number, (features, labels) in enumerate(
        [(FEATURES, LABELS), (FEATURES, LABELS), (random_features(LENGTHS, seed=1), LABELS)]
    ):
        write_folder(tmp_path / str(number), features, labels)
        prints.append(open_kaldi(tmp_path / str(number), (3,)).train.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_utterances_that_do_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    lengths = {"whole": 4, "short": 9, "long": 4, "other": 20, "bare": 3, "none": 2}
    features = random_features(lengths)
    labels = {"whole": [0] * 4, "short": [1] * 7, "long": [2] * 9, "other": [3] * 9, "none": [], "lost": [4]}
    write_folder(tmp_path, features, labels)
    source = open_kaldi(tmp_path, (3 * 3,))
    x, found = read_all(source.train)
    assert found == [0] * 4 + [1] * 7 + [2] * 4
    name = tmp_path.name
    assert list(source.notes[:-1]) == [
        f"kaldi: {name}: 1 utterance without labels left out",
        f"kaldi: {name}: 1 utterance with labels but no features left out",
        f"kaldi: {name}: 2 utterances left out whose features and labels differ by more than 5 frames",
        f"kaldi: {name}: 2 utterances cut to the shorter of features and labels",
    ]
    # the last labelled frame of a cut utterance still sees the frame behind it
    used = np.concatenate([features[each] for each in ("whole", "short", "long")]).astype(np.float64)
    wanted = expected(features["short"], 3, used.mean(0), used.std(0))[6]
    np.testing.assert_allclose(x[10], wanted, rtol=0, atol=2e-6)


def test_archives_are_found_beside_the_scp_file(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    scp = tmp_path / "feats.scp"
    scp.write_text(scp.read_text().replace(str(tmp_path), "/made/elsewhere"))
    assert len(open_kaldi(tmp_path, (3,)).train) == 20


def test_the_context_follows_from_the_model(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    assert open_data(f"kaldi:{tmp_path}", (33,), 9304, 0).train.sample_shape == (33,)
    for shape in ((30,), (12,), (1, 3, 3)):
        with pytest.raises(
            UserError, match=r"^kaldi: the model wants .* must be \(3 \* frames,\) with an odd"
        ):
            open_kaldi(tmp_path, shape)
    with pytest.raises(UserError, match="has 5 classes; the model wants at most 4"):
        open_data(f"kaldi:{tmp_path}", (33,), 4, 0)


def test_data_is_checked_without_a_model(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", FEATURES, LABELS)
    assert spec_of(str(tmp_path)) == f"kaldi:{tmp_path}"
    assert open_unfitted(f"kaldi:{tmp_path}").train.sample_shape == (3,)


def _scp(text):
    return lambda folder: (folder / "feats.scp").write_text(text.format(ark=folder / "feats.ark"))


def _ark(content):
    return lambda folder: (folder / "feats.ark").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_scp(""), r"feats.scp: is empty$"),
        (_scp("zoe-1\n"), r"feats.scp:1: has zoe-1 and nothing behind it$"),
        (_scp("a {ark}:6\na {ark}:6\n"), r"feats.scp:2: has a a second time$"),
        (_scp("a {ark}:7\n"), r"feats.ark:7: has no binary matrix of features; copy-feats"),
        (_scp("a {ark}:99999\n"), r"feats.ark:99999: has no binary matrix"),
        (_scp("a {ark}:-6\n"), r"feats.scp: a is in .*, which is no file here or beside it$"),
        (_scp("a nowhere.ark:6\n"), r"feats.scp: a is in nowhere.ark, which is no file here or beside it$"),
        (_scp("a rm -r x |\n"), r"feats.scp: a is a command, which is not run; must be FILE:OFFSET"),
        (_scp("a {ark}:6[0:3]\n"), r"feats.scp: a is a range of rows; must be FILE:OFFSET"),
        (_scp("a {ark}:6\n"), r"feats.scp: has no utterance that can be used; .*1 utterance without labels"),
        (_ark(b""), r"feats.ark:6: has no binary matrix"),
        (_ark(b"zoe-1  [\n 1 2 3 ]\n"), r"feats.ark:6: has no binary matrix"),
        (_ark(b"zoe-1 \0BFM \4"), r"feats.ark:6: is cut short in the header of a matrix$"),
        (
            _ark(b"zoe-1 " + matrix_bytes(FEATURES["zoe-1"])[:-1]),
            r"feats.ark:6: is cut short: it has no 7 x 3",
        ),
        (_ark(b"zoe-1 " + matrix_bytes(np.zeros((0, 3)))), r"feats.ark:6: has a matrix of 0 x 3"),
        (_ark(b"zoe-1 \0BSM \4" + bytes(40)), r"feats.ark:6: has no binary matrix"),
    ],
)
def test_damaged_features_are_named(tmp_path: Path, damage, problem: str) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    damage(tmp_path)
    with pytest.raises(DataError, match=problem):
        open_kaldi(tmp_path, (3,))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("ali.txt", b"", r"ali.txt: is empty"),
        ("ali.txt", b"zoe-1 1 2 x\n", r"ali.txt:6: has '1 2 x'; must be whole numbers"),
        ("ali.txt", b"zoe-1 1 -2\n", r"ali.txt:6: has label -2; must be from 0 to 65535"),
        ("ali.txt", b"zoe-1 1 65536\n", r"ali.txt:6: has label 65536; must be from 0 to 65535"),
        ("ali.txt", b"zoe-1 " + b"9" * 5000, r"ali.txt:6: has .*; must be whole numbers"),
        ("ali.txt", b"zoe-1\n", r"ali.txt:0: has no name of an utterance"),
        ("ali.ark", b"zoe-1 " + vector_bytes([1, 2])[:-1], r"ali.ark:6: has no whole vector of numbers"),
        ("ali.ark", b"zoe-1 \0B\4\xff\xff\xff\x7f", r"ali.ark:6: has no whole vector of numbers"),
        ("ali.ark", b"zoe-1 \0B\4\x01\0\0\0\x08\0\0\0\0", r"ali.ark:6: has a damaged vector"),
        (
            "ali.scp",
            b"zoe-1 feats.ark:9999\n",
            r"feats.ark: zoe-1 is at byte 9999 of .* bytes; see .*ali.scp",
        ),
    ],
)
def test_damaged_labels_are_named(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    write_folder(tmp_path, FEATURES, LABELS, labels_in="ali.ark")
    (tmp_path / "ali.ark").unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        open_kaldi(tmp_path, (3,))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; kaldi:DIR wants a folder of feats.scp"):
        open_kaldi(tmp_path / "nowhere", (3,))
    with pytest.raises(DataError, match=r"has neither feats.scp nor train/feats.scp"):
        open_kaldi(tmp_path, (3,))
    write_folder(tmp_path, FEATURES, LABELS, labels_in="ali.txt")
    (tmp_path / "ali.txt").unlink()
    with pytest.raises(DataError, match=r"has no labels: none of ali.scp, ali.ark, ali.txt"):
        open_kaldi(tmp_path, (3,))


def test_features_must_be_finite_and_as_many_in_all_frames(tmp_path: Path) -> None:
    odd = dict(FEATURES) | random_features({"amy-3": 12}, columns=4)
    write_folder(tmp_path, odd, LABELS)
    with pytest.raises(DataError, match=r"feats.ark: amy-3 has 4 features a frame, zoe-1 3$"):
        open_kaldi(tmp_path, (3,))
    odd["amy-3"] = np.full((12, 3), np.inf, np.float32)
    write_folder(tmp_path, odd, LABELS)
    with pytest.raises(DataError, match=r"feats.ark: amy-3 has features that are not finite$"):
        open_kaldi(tmp_path, (3,))


def test_speakers_are_of_all_utterances_and_both_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", FEATURES, LABELS, speakers={"zoe-1": "zoe"})
    with pytest.raises(DataError, match=r"utt2spk: does not name the speaker of amy-2$"):
        open_kaldi(tmp_path, (3,))
    write_folder(tmp_path / "train", FEATURES, LABELS, speakers=SPEAKERS)
    write_folder(tmp_path / "test", FEATURES, LABELS)
    with pytest.raises(DataError, match=r"test: has no utt2spk, which the other split has"):
        open_kaldi(tmp_path, (3,))
    write_folder(tmp_path / "test", random_features(LENGTHS, columns=2), LABELS, speakers=SPEAKERS)
    with pytest.raises(DataError, match=r"feats.scp: 2 features a frame; the training set has 3$"):
        open_kaldi(tmp_path, (3,))


def test_an_archive_that_became_shorter_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    data = open_kaldi(tmp_path, (3,)).train
    (tmp_path / "feats.ark").write_bytes(b"short")
    with pytest.raises(DataError, match=r"feats.ark:\d+: is cut short; it was longer when it was opened"):
        data.read(19, np.empty(3, np.float32))


def test_commands_are_not_run_and_pickles_not_opened(tmp_path: Path) -> None:
    write_folder(tmp_path, FEATURES, LABELS)
    write_ark(tmp_path / "feats.ark", {"zoe-1": b"PKLcos\nsystem\n(S'touch ran'\ntR."})
    with pytest.raises(DataError, match="has no binary matrix"):
        open_kaldi(tmp_path, (3,))
