"""Trained networks from Python: evaluated, and asked."""

import copy
import pickle
import shutil

import lockstep
import numpy as np
import pytest
from sklearn.datasets import load_digits

from comm.threads import run_ranks
from engine.data.readers import probe
from engine.run import memory_check
from tests.small_runs import write_photos


def load(run, **options):
    return lockstep.load(run.checkpoint, threads=1, **options)


def digits(count):
    """Return pixels of the digits that come along, and what they are."""
    data = load_digits()
    return data.images[:count].astype(np.uint8)[:, np.newaxis], data.target[:count]


def test_an_evaluation_says_what_the_run_has_said_whatever_the_batch(digits_run):
    results = digits_run.results
    for batch in (1, 7, 32, 500):
        found = load(digits_run, batch=batch).evaluate()
        assert (found.loss, found.accuracy) == (results["test_loss"], results["test_accuracy"])
        assert (found.split, found.samples, found.step) == ("test", 360, results["steps"])


def test_the_figures_follow_from_the_logits(digits_run):
    model, (pixels, labels) = load(digits_run), digits(300)
    logits = model(pixels, preprocess=True).astype(np.float64)
    x = (pixels * (1 / (16 * 0.3756)) - 0.3045 / 0.3756).astype(np.float32)
    found = model.evaluate(lockstep.ArrayDataset(x, labels, classes=10))
    order = np.argsort(-logits, axis=1)
    assert found.accuracy == (order[:, 0] == labels).mean()
    assert found.top5_accuracy == (order[:, :5] == labels[:, np.newaxis]).any(axis=1).mean()
    wanted = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(300), labels]
    assert found.loss == pytest.approx(wanted.mean(), rel=1e-5)  # x is rounded another way
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, order[:, 0]), 1)
    np.testing.assert_array_equal(found.confusion, confusion)
    np.testing.assert_array_equal(found.counts, np.bincount(labels, minlength=10))
    np.testing.assert_allclose(found.recall, confusion.diagonal() / confusion.sum(axis=1))
    np.testing.assert_allclose(found.precision, confusion.diagonal() / confusion.sum(axis=0))


def test_a_mirror_gives_the_mean_of_both_probabilities(digits_run):
    model = load(digits_run)
    x, labels = np.random.default_rng(2).standard_normal((40, 1, 8, 8), np.float32), np.arange(40) % 10
    found = model.evaluate(lockstep.ArrayDataset(x, labels), tta="mirror")

    def probabilities(samples):
        exponentials = np.exp(model(samples).astype(np.float64))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    mean = (probabilities(x) + probabilities(x[..., ::-1])) / 2
    assert found.accuracy == (mean.argmax(axis=1) == labels).mean()
    assert found.loss == pytest.approx(-np.log(mean[np.arange(40), labels]).mean(), rel=1e-12)
    assert found.tta == "mirror"
    # what looks the same from both sides is judged the same
    both = np.concatenate([x, x[..., ::-1]])
    turned = model.evaluate(lockstep.ArrayDataset(both, np.tile(labels, 2)), tta="mirror")
    np.testing.assert_array_equal(turned.confusion, 2 * found.confusion)


def test_views_are_weighted_and_moved_ones_reflect_their_edges(digits_run):
    model = load(digits_run)
    x, labels = np.random.default_rng(3).standard_normal((40, 1, 8, 8), np.float32), np.arange(40) % 10
    found = model.evaluate(lockstep.ArrayDataset(x, labels), tta="mirror+shift")
    mean = 0
    for seen in (x, x[..., ::-1]):
        padded = np.pad(seen, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        for weight, moved in ((2, seen), (1, padded[..., :-2, :-2]), (1, padded[..., 2:, 2:])):
            exponentials = np.exp(model(np.ascontiguousarray(moved)).astype(np.float64))
            mean = mean + weight * exponentials / exponentials.sum(axis=1, keepdims=True) / 8
    assert found.accuracy == (mean.argmax(axis=1) == labels).mean()
    assert found.loss == pytest.approx(-np.log(mean[np.arange(40), labels]).mean(), rel=1e-12)
    assert "moved by a pixel" in "\n".join(found.lines())


def test_classes_are_matched_by_name_in_another_order_and_where_some_are_missing(photos_run, tmp_path):
    model = load(photos_run)
    assert model.class_names == ("blue", "green", "red")
    assert model.evaluate().accuracy == 1.0
    some = model.evaluate(str(write_photos(tmp_path / "some", ("green", "red"), count=4, seed=9)))
    assert (some.accuracy, some.split, model.evaluate().split) == (1.0, "", "test")
    assert some.counts.tolist() == [0, 4, 4]
    one = model.evaluate(str(write_photos(tmp_path / "one", ("red",), count=3, seed=9)))
    assert (one.accuracy, one.counts.tolist(), one.top5_accuracy) == (1.0, [0, 0, 3], None)
    x, names = np.zeros((2, 3, 16, 16), np.float32), ("red", "blue")
    other = model.evaluate(lockstep.ArrayDataset(x, [0, 1], class_names=names))
    assert other.counts.tolist() == [1, 0, 1]


def test_a_class_that_the_network_does_not_know_is_refused(photos_run, tmp_path):
    write_photos(tmp_path, ("green", "red"), count=2)
    (tmp_path / "red").rename(tmp_path / "reed")
    wanted = (
        r'1 class that the network does not know: reed \(did you mean "red"\?\); it knows blue, green, red'
    )
    with pytest.raises(lockstep.UserError, match=wanted):
        load(photos_run).evaluate(f"images:{tmp_path}")
    x = np.zeros((2, 3, 16, 16), np.float32)
    with pytest.raises(lockstep.UserError, match="two classes have one name"):
        load(photos_run).evaluate(lockstep.ArrayDataset(x, [0, 1], class_names=("red", "red")))
    with pytest.raises(lockstep.UserError, match="arrays has 4 classes; the network has 3 outputs"):
        load(photos_run).evaluate(lockstep.ArrayDataset(x, [0, 3]))


def test_a_sample_that_cannot_be_read_stops_or_is_left_out(photos_run, photos, tmp_path):
    shutil.copytree(photos / "test", tmp_path, dirs_exist_ok=True)
    (tmp_path / "green/01.png").write_bytes(b"no image")
    (tmp_path / "red/04.png").write_bytes(b"")
    model = load(photos_run)
    with pytest.raises(lockstep.UserError, match=r"green/01.png: cannot be decoded"):
        model.evaluate(str(tmp_path))
    found = model.evaluate(str(tmp_path), on_bad_sample="skip")
    assert (found.samples, found.accuracy, found.counts.tolist()) == (13, 1.0, [5, 4, 4])
    assert [error.partition(": ")[0] for error in found.skipped] == [
        str(tmp_path / "green/01.png"), str(tmp_path / "red/04.png")
    ]  # fmt: skip
    whole = model.evaluate(str(photos), split="test")
    assert found.loss * 13 < whole.loss * 15


def test_what_is_asked_for_is_checked(digits_run):
    model = load(digits_run)
    with pytest.raises(lockstep.UserError, match="split: synthetic has no test samples; must be train"):
        model.evaluate("synthetic", split="test")
    with pytest.raises(lockstep.UserError, match='tta: got "flip"; must be one of mirror'):
        model.evaluate(tta="flip")
    with pytest.raises(lockstep.UserError, match='on_bad_sample: got "go on"; must be one of stop, skip'):
        model.evaluate(on_bad_sample="go on")
    assert model.evaluate(split="train").samples == 1437


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"opset": "17"}, "opset: got '17'; must be a whole number"),
        ({"names": 3}, "names: got 3; must be a path"),
        ({"path": 3}, "path: got 3; must be a path"),
        ({"path": ""}, "path: got ''; must be a path"),
    ],
)
def test_arguments_of_another_type_are_one_line(digits_run, tmp_path, given, said):
    with pytest.raises(lockstep.UserError, match=f"^{said}$"):
        load(digits_run).export(**{"path": tmp_path / "model.pth", **given})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_model_in_use_can_be_copied_and_sent(digits_run, copied):
    model, x = load(digits_run), np.ones((1, 1, 8, 8), np.float32)
    logits = model(x)
    other = copied(model)
    np.testing.assert_array_equal(other(x), logits)
    assert other._rank is not model._rank


def test_numbers_beyond_float32_are_infinite_without_a_warning(digits_run):
    assert not np.isfinite(load(digits_run)(np.full((1, 1, 8, 8), 1e300))).any()


def test_images_are_recognised_from_files_folders_and_arrays(photos_run, photos, digits_run):
    model = load(photos_run)
    found = model.predict(photos / "test", top=2)
    assert [each.classes[0] for each in found] == ["blue"] * 5 + ["green"] * 5 + ["red"] * 5
    assert all(len(each.classes) == 2 and each.values[0] > each.values[1] for each in found)
    assert found[0].name == str(photos / "test/blue/00.png")
    again = model.predict([photos / "test/red/00.png", photos / "test/blue/00.png"], top=9)
    assert [each.classes[0] for each in again] == ["red", "blue"]
    assert sum(again[0].values) == pytest.approx(1, abs=1e-12)
    pixels, _ = digits(50)
    named = load(digits_run).predict(pixels, top=1)
    right = load(digits_run)(pixels, preprocess=True).argmax(axis=1)
    assert [each.classes[0] for each in named] == [str(label) for label in right]
    assert [each.name for each in named][3] == "array[3]"


def test_predictions_are_those_of_the_logits_in_any_batch_and_order(digits_run):
    x = np.random.default_rng(3).standard_normal((41, 1, 8, 8), np.float32)
    logits = load(digits_run)(x)
    for batch in (1, 8, 64):
        found = load(digits_run, batch=batch).predict(x, top=10, probabilities=False)
        for row, each in zip(logits, found, strict=True):
            assert each.values == tuple(np.sort(row)[::-1].tolist())
            assert each.classes == tuple(str(label) for label in np.argsort(-row, kind="stable"))


def test_a_bad_file_among_others_is_an_error_of_its_own(photos_run, photos, tmp_path):
    bad, good = tmp_path / "bad.jpg", photos / "test/red/00.png"
    bad.write_bytes(b"\xff\xd8\xff")
    np.save(tmp_path / "other.npy", np.zeros((2, 3, 4, 4), np.float32))
    np.save(tmp_path / "infinite.npy", np.full((1, 3, 16, 16), np.inf, np.float32))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY")
    (tmp_path / "empty").mkdir()
    names = ("bad.jpg", "other.npy", "infinite.npy", "cut.npy", "empty", "missing.png")
    files = [good, *(tmp_path / name for name in names), good]
    found = load(photos_run).predict(files)
    assert [bool(each.error) for each in found] == [False, *[True] * 6, False]
    assert found[0] == found[-1]
    said = ("cannot be decoded", r"must be float32 or uint8 [N, 3, 16, 16]", "not finite", "as an array",
            "holds no images", "No such file")  # fmt: skip
    for words, each in zip(said, found[1:-1], strict=True):
        assert words in each.error
        assert each.classes == ()
    with pytest.raises(lockstep.UserError, match=r"bad.jpg: cannot be decoded"):
        load(photos_run).predict(files, on_bad_sample="stop")


def test_images_are_refused_where_nothing_is_known_of_their_preprocessing(tmp_path, photos):
    (tmp_path / "mine.py").write_text(
        "import lockstep, numpy as np\n\n"
        "def data():\n"
        "    samples = lockstep.ArrayDataset(np.zeros((32, 1, 8, 8)), np.arange(32) % 10)\n"
        "    return lockstep.DataSource(samples, None)\n"
    )
    run = lockstep.train(
        "digits", data=f"{tmp_path}/mine.py:data", batch=16, steps=1, threads=1, out=str(tmp_path / "run")
    )
    with pytest.raises(
        lockstep.UserError, match=r"how an image becomes a sample of it is not known; give arrays"
    ):
        load(run).predict(photos)
    assert len(load(run).predict(np.zeros((3, 1, 8, 8), np.float32))) == 3
    with pytest.raises(lockstep.UserError, match=r"holds pixels, uint8, and .* has no preprocessing"):
        load(run).predict(np.zeros((3, 1, 8, 8), np.uint8))


def test_a_batch_that_does_not_fit_into_memory_is_one_line_before_any_is_taken(digits_run, monkeypatch):
    monkeypatch.setattr("engine.run.memory_check.physical_bytes", lambda: (3e8, 3e8))
    monkeypatch.setattr("engine.run.memory_check.own_bytes", lambda: 10**6)
    assert load(digits_run).predict(np.zeros((1, 1, 8, 8), np.float32))
    with pytest.raises(lockstep.UserError, match=r"memory: one rank here needs .*lower --batch"):
        load(digits_run, batch=1 << 16).predict(np.zeros((1, 1, 8, 8), np.float32))


def test_outputs_that_are_not_finite_are_no_prediction_and_no_loss(digits_run):
    model, x = load(digits_run), np.zeros((3, 1, 8, 8), np.float32)
    x[1] = 3e38  # finite, but what comes of it is not
    found = model.predict(x, on_bad_sample="skip")
    assert [bool(each.error) for each in found] == [False, True, False]
    assert found[1].error == "array[1]: what the network computes of it is not finite"
    figures = model.evaluate(lockstep.ArrayDataset(x, [0, 1, 2]))
    assert figures.to_json()["loss"] is None
    assert figures.confusion.sum() == 3


@pytest.mark.parametrize("options", [{}, {"tta": "mirror", "split": "train"}])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_share_the_samples_and_find_the_same_to_the_bit(
    photos_run, photos, ranks, options, monkeypatch
):
    monkeypatch.setattr(memory_check, "own_bytes", lambda: 0)  # one process, which each rank would count

    def work(world):
        return load(photos_run, batch=3).evaluate(str(photos), world=world, **options).to_json()

    alone = load(photos_run).evaluate(str(photos), **options).to_json()
    assert run_ranks(ranks, work) == [alone] * ranks


def test_ranks_with_other_weights_or_data_are_refused(photos_run, digits_run):
    def work(world):
        run = (photos_run, digits_run)[world.rank]
        x = np.zeros((4, *load(run).network.input_shape), np.float32)
        with pytest.raises(
            lockstep.UserError, match=r"rank 1 has weights .*, rank 0 has .*; must be the same"
        ):
            load(run).evaluate(lockstep.ArrayDataset(x, [0, 1, 0, 1]), world=world)
        with pytest.raises(lockstep.UserError, match=r"rank 1 has samples 5, rank 0 has 4"):
            x = np.zeros((4 + world.rank, 1, 8, 8), np.float32)
            load(digits_run).evaluate(lockstep.ArrayDataset(x, [0] * len(x), classes=2), world=world)

    run_ranks(2, work)


def test_ranks_whose_decoders_make_other_pixels_do_not_evaluate_together(photos_run, photos, monkeypatch):
    turn = iter("ab")
    monkeypatch.setattr(probe, "probe", lambda _: {"resizing": next(turn)})

    def work(world):
        with pytest.raises(lockstep.UserError, match="makes other pixels of a test image than rank 0"):
            load(photos_run).evaluate(str(photos), world=world)

    run_ranks(2, work)
