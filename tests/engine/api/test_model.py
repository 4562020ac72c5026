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
