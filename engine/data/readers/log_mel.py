"""Logarithms of mel energies of speech, as Kaldi defines them, with the same bits on every machine.

Everything is made of elementwise sums, products and quotients in a fixed order: FFTs of libraries, their
logarithms and sums may take other orders, or fuse operations, on other processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.readers.rounded_functions import cosine, logarithm, sine

LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_FLOOR = 1e-10  # of an energy, where a full scale is 1


@dataclass(frozen=True, eq=False)
class LogMel:
    """Frames of 25 ms, every 10 ms: pre-emphasis, a Hann window, power spectrum, triangles on the mel scale.

    Attributes
    ----------
    length, step
        Samples of a frame, and from one to the next.
    window
        float64 [length].
    bins, weights
        int64 and float64 [mels, widest]: which bins of the spectrum a triangle has, and with what weight;
        0 behind the last one.
    """

    length: int
    step: int
    window: NDArray[np.float64]
    bins: NDArray[np.int64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, rate: int, mels: int) -> LogMel:
        """Return that of recordings of so many samples a second.

        Raises
        ------
        UserError
            There are so many triangles that some have no bin of the spectrum.
        """
        length, step = rate * 25 // 1000, rate * 10 // 1000
        points = _points(length)
        hertz = np.arange(1, points // 2) * (rate / points)
        low, high, *places = _mel(np.array([LOWEST_HZ, rate / 2, *hertz])).tolist()
        width = (high - low) / (mels + 1)
        centres = low + width * np.arange(1, mels + 1)
        distance = np.abs(np.array(places) - centres[:, np.newaxis]) / width
        inside = distance < 1.0
        if not inside.any(axis=1).all():
            raise UserError(
                f"wav: {mels} mel energies are too many for {rate} samples/s: some have no bin of the "
                f"spectrum of {points} points; must be fewer"
            )
        widest = int(inside.sum(axis=1).max())
        bins, weights = np.zeros((mels, widest), np.int64), np.zeros((mels, widest))
        for mel, its in enumerate(inside):
            (found,) = np.nonzero(its)
            bins[mel, : len(found)] = 1 + found
            weights[mel, : len(found)] = 1.0 - distance[mel, found]
        window = 0.5 - 0.5 * cosine(np.arange(length) / (length - 1))
        return cls(length, step, window, bins, weights)

    def samples(self, frames: int) -> int:
        """Count the samples of so many frames."""
        return self.length + (frames - 1) * self.step

    def of_samples(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the energies of a recording, float64 [frames, mels]; a short one is one frame."""
        filled = np.concatenate([samples, np.zeros(max(0, self.length - len(samples)))])
        emphasised = filled - _PREEMPHASIS * np.concatenate([filled[:1], filled[:-1]])
        starts = np.arange(0, len(filled) - self.length + 1, self.step)
        framed = emphasised[np.arange(self.length)[:, np.newaxis] + starts] * self.window[:, np.newaxis]
        power = power_spectrum(framed)
        energies = np.zeros((len(self.bins), len(starts)))
        for each in range(self.bins.shape[1]):
            energies += self.weights[:, each, np.newaxis] * power[self.bins[:, each]]
        return logarithm(np.maximum(energies, _FLOOR)).T


def power_spectrum(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of each frequency below half the rate: [points / 2, n] from frames [length, n].

    An FFT of radix 2, decimated in frequency (Cooley and Tukey 1965), on all frames at once.
    """
    points = _points(len(frames))
    real = np.zeros((1, points, frames.shape[1]))
    real[0, : len(frames)] = frames
    imaginary = np.zeros_like(real)
    order = np.zeros(1, np.int64)
    while (half := real.shape[1] // 2) >= 1:
        c, s = _turned(half)
        real_sum, imaginary_sum = real[:, :half] + real[:, half:], imaginary[:, :half] + imaginary[:, half:]
        a, b = real[:, :half] - real[:, half:], imaginary[:, :half] - imaginary[:, half:]
        real = np.concatenate([real_sum, a * c + b * s])
        imaginary = np.concatenate([imaginary_sum, b * c - a * s])
        order = np.concatenate([order, order + points // (2 * half)])
    place = np.argsort(order, kind="stable")[: points // 2]
    real, imaginary = real[place, 0], imaginary[place, 0]
    found: NDArray[np.float64] = real * real + imaginary * imaginary
    return found


@cache
def _turned(half: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosine and sine of the first half of a circle of 2 * half points, [half, 1] each."""
    turns = (np.arange(half) / (2 * half))[:, np.newaxis]
    return cosine(turns), sine(turns)


def _points(length: int) -> int:
    """Return the power of two that holds a frame."""
    return 1 << (length - 1).bit_length()


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * logarithm(1.0 + hertz / 700.0)
