"""Log mel energies beside those of numpy's FFT, and their bits."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import digest
from engine.data.readers.log_mel import LogMel, power_spectrum


def reference(samples, rate, mels):
    """Return log mel energies as Kaldi defines them, by numpy's functions."""
    length, step = rate * 25 // 1000, rate // 100
    points = 1 << (length - 1).bit_length()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    emphasised = np.append(samples[0] * (1 - 0.97), samples[1:] - 0.97 * samples[:-1])
    frames = [
        emphasised[start : start + length] * window for start in range(0, len(samples) - length + 1, step)
    ]
    power = np.abs(np.fft.rfft(frames, points)) ** 2

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(20), mel(rate / 2), mels + 2)
    places = mel(np.arange(points // 2 + 1) * rate / points)
    triangles = [
        np.interp(places, edges[each : each + 3], [0, 1, 0], left=0, right=0) for each in range(mels)
    ]
    return np.log(np.maximum(power @ np.array(triangles).T, 1e-10))


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (16000, 40), (16000, 80), (11025, 23), (44100, 64)])
def test_energies_are_those_of_numpy_but_for_rounding(rate, mels):
    samples = np.random.default_rng(rate).standard_normal(rate // 5) * 0.1
    made = LogMel.of(rate, mels).of_samples(samples)
    np.testing.assert_allclose(made, reference(samples, rate, mels), rtol=0, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 5, 200, 256])
def test_the_spectrum_is_that_of_numpy(length):
    frames = np.random.default_rng(length).standard_normal((length, 7))
    points = 1 << (length - 1).bit_length()
    wanted = np.abs(np.fft.rfft(frames, points, axis=0))[: points // 2] ** 2
    np.testing.assert_allclose(power_spectrum(frames), wanted, rtol=1e-12, atol=1e-12 * points)


def test_a_frame_has_its_samples_and_a_short_recording_is_one():
    energies = LogMel.of(8000, 40)
    assert energies.samples(64) == 200 + 63 * 80
    assert energies.of_samples(np.zeros(energies.samples(64))).shape == (64, 40)
    assert energies.of_samples(np.ones(1)).shape == (1, 40)


def test_silence_has_the_least_energy_and_not_minus_infinity():
    np.testing.assert_allclose(LogMel.of(8000, 40).of_samples(np.zeros(400)), np.log(1e-10), rtol=1e-15)


def test_more_energies_than_the_spectrum_has_bins_are_refused():
    with pytest.raises(UserError, match=r"^wav: 200 mel energies are too many for 8000 samples/s: some have"):
        LogMel.of(8000, 200)


def test_their_bits_are_the_same_everywhere():
    samples = (np.arange(4000, dtype=np.int64) ** 3 % 2003 - 1001) / 4096
    assert digest(LogMel.of(8000, 40).of_samples(samples)) == "337e6763ede6aedb"
