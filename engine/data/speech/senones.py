"""Which tied state of an acoustic model (senone) each frame of a recording belongs to, by pocketsphinx."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.readers.rounded_functions import cosine, sine

RATE = 16000
"""Of the acoustic model; recordings of half of it are interpolated."""
FRAME_MS = 10
_TAPS = 32  # on each side of a sample that is interpolated


class Aligner(Protocol):
    """What aligns recordings with their text."""

    def unknown(self, words: list[str]) -> list[str]:
        """Return the words whose pronunciation is not known."""

    def align(self, samples: NDArray[np.float64], words: list[str]) -> NDArray[np.int32] | None:
        """Return a senone for each frame of 10 ms, of samples at `RATE`; None where nothing fits."""


class Pocketsphinx:
    """The acoustic model and the dictionary of US English that come along with pocketsphinx."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder  # noqa: PLC0415 -- an extra: only its users need it
        except ImportError as error:
            raise UserError(
                "align: pocketsphinx is not installed; install it with pip install 'lockstep-sgd[align]'"
            ) from error
        self._decoder: Any = Decoder(lm=None, loglevel="FATAL")

    def unknown(self, words: list[str]) -> list[str]:
        """Return the words that are not in the dictionary."""
        return [word for word in words if self._decoder.lookup_word(word) is None]

    def align(self, samples: NDArray[np.float64], words: list[str]) -> NDArray[np.int32] | None:
        """Align the words first, and then the states of their phones in context."""
        content = np.rint(samples * 32767).clip(-32768, 32767).astype("<i2").tobytes()
        try:
            self._decoder.set_align_text(" ".join(words))
            self._decode(content)
            if self._decoder.hyp() is None:
                return None
            self._decoder.set_alignment()
            self._decode(content)
            states = list(self._decoder.get_alignment().states())
        except RuntimeError:  # no path through the words
            return None
        return np.repeat(
            np.array([int(state.name) for state in states], np.int32), [state.duration for state in states]
        )

    def _decode(self, content: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(content, full_utt=True)
        self._decoder.end_utt()


def doubled(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return samples at twice their rate: between them a sinc under a Hann window."""
    places = np.arange(-_TAPS, _TAPS) + 0.5
    weights = sine(places / 2) / (np.pi * places) * (0.5 + 0.5 * cosine(places / (2 * _TAPS)))
    padded = np.pad(samples, (_TAPS - 1, _TAPS))
    between = np.zeros_like(samples)
    for tap, weight in enumerate(weights.tolist()):
        between += weight * padded[tap : tap + len(samples)]
    return np.stack([samples, between], axis=1).reshape(-1)
