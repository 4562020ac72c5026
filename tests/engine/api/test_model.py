"""Trained networks in use."""

import gc
import threading
import time

import lockstep
import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return lockstep.train("digits", epochs=3, threads=1, out=str(tmp_path_factory.mktemp("run") / "digits"))


def digits():
    data = load_digits()
    return data.images.astype(np.uint8)[:, np.newaxis], data.target


def test_the_logits_follow_the_samples_however_they_are_cut_into_batches(run):
    x = np.random.default_rng(1).standard_normal((70, 1, 8, 8), dtype=np.float32)
    model, other = (
        lockstep.load(run.checkpoint, batch=32, threads=1),
        lockstep.load(run.folder, batch=16, threads=2),
    )
    logits = model(x)
    assert logits.shape == (70, 10)
    np.testing.assert_array_equal(logits, other(x))
    np.testing.assert_array_equal(logits[5:9], model(x[5:9]))
    assert model(x[:0]).shape == (0, 10)


def test_pixels_are_preprocessed_as_the_training_data_was(run):
    pixels, labels = digits()
    model = lockstep.load(run.checkpoint, threads=1)
    found = model(pixels[:500], preprocess=True).argmax(axis=1)
    assert (found == labels[:500]).mean() > 0.9
    by_hand = (pixels[:4] * (1 / (16 * 0.3756)) - 0.3045 / 0.3756).astype(np.float32)
    np.testing.assert_allclose(model(by_hand), model(pixels[:4], preprocess=True), rtol=1e-4, atol=1e-4)


def test_a_model_that_is_gone_leaves_no_thread_behind(run):
    before = threading.active_count()
    model = lockstep.load(run.checkpoint, threads=3)
    model(np.zeros((1, 1, 8, 8), np.float32))
    assert threading.active_count() == before + 2
    del model
    gc.collect()
    for _ in range(1000):
        if threading.active_count() == before:
            break
        time.sleep(0.01)
    assert threading.active_count() == before


def test_what_the_logits_stand_for_is_known(run):
    assert lockstep.load(run.checkpoint, threads=1).class_names == tuple("0123456789")
    assert run.results["class_names"] == tuple("0123456789")


def test_samples_that_do_not_fit_are_refused_with_what_is_allowed(run):
    model = lockstep.load(run.checkpoint, threads=1)
    with pytest.raises(lockstep.UserError, match=r"got float64 \[2, 8, 8\]; must be float32 \[N, 1, 8, 8\]"):
        model(np.zeros((2, 8, 8)))
    with pytest.raises(lockstep.UserError, match=r"or uint8 with preprocess=True"):
        model(np.zeros((2, 1, 8, 8), np.uint8))
    with pytest.raises(lockstep.UserError, match=r"with preprocess must be uint8 \[N, 1, 8, 8\]"):
        model(np.zeros((2, 1, 9, 8), np.uint8), preprocess=True)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(lockstep.UserError, match="holds no checkpoint"):
        lockstep.load(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"threads": -1}, "threads: got -1; must be from 0 to 1024"),
        ({"threads": 10**6}, "threads: got 1000000; must be from 0 to 1024"),
        ({"threads": 1.5}, "threads: got 1.5; must be a whole number"),
        ({"threads": True}, "threads: got True; must be a whole number"),
        ({"batch": 1.5}, "batch: got 1.5; must be a whole number"),
        ({"batch": 10**12}, "batch: got 1000000000000; must be from 0 to 65536"),
        ({"model": 3}, "model: got 3; must be a text"),
        ({"checkpoint": None}, "checkpoint: got None; must be a path"),
        ({"checkpoint": "nowhere"}, "checkpoint: nowhere holds no checkpoint"),
    ],
)
def test_what_cannot_be_loaded_or_not_so_is_one_line(run, given, said):
    with pytest.raises(lockstep.UserError, match=f"^{said}"):
        lockstep.load(**{"checkpoint": run.checkpoint, **given})


def test_what_a_model_cannot_take_is_one_line(run):
    model = lockstep.load(run.checkpoint, threads=1)
    x = np.zeros((2, 1, 8, 8), np.float32)
    for call, said in (
        (lambda: model([[1.0], [1.0, 2.0]]), "model: got list, which is no array"),
        (lambda: model.predict(3), "samples: got 3; must be a path"),
        (lambda: model.predict([None]), "samples: got None; must be a path"),
        (lambda: model.predict(x, top=1.5), "top: got 1.5; must be a whole number"),
        (lambda: model.predict(x, top=0), "top: got 0; must be at least 1"),
        (lambda: model.evaluate(3), "data: got 3; must be a text, a Dataset or a DataSource"),
    ):
        with pytest.raises(lockstep.UserError, match=f"^{said}"):
            call()
