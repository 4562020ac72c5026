"""Pocketsphinx's alignment, where it is installed, and what is done to recordings before."""

import sys

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.speech.senones import RATE, Pocketsphinx, doubled


def test_a_tone_at_twice_the_rate_is_the_same_tone() -> None:
    turns = np.arange(800) * (440 / 8000)
    made = doubled(np.sin(2 * np.pi * turns))
    wanted = np.sin(2 * np.pi * np.arange(1600) * (440 / 16000))
    np.testing.assert_array_equal(made[::2], np.sin(2 * np.pi * turns))
    np.testing.assert_allclose(made[100:-100], wanted[100:-100], rtol=0, atol=1e-3)


def test_without_pocketsphinx_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(UserError, match=r"install it with pip install 'lockstep-sgd\[align\]'"):
        Pocketsphinx()


def test_words_and_noise_that_no_word_fits_are_told_apart_from_speech() -> None:
    pytest.importorskip("pocketsphinx", reason="the extra align is not installed")
    aligner = Pocketsphinx()
    assert aligner.unknown(["hello", "qqxzzq"]) == ["qqxzzq"]
    noise = 0.01 * np.random.default_rng(0).standard_normal(RATE)
    assert aligner.align(noise, ["hello", "world"]) is None
