"""Random flips, crops and shifts of training images, keyed by (seed, epoch, sample)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, random_words

_WORD = re.compile(r"(flip|alternating_flip)|(crop|shift)([1-9][0-9]{0,3})", re.ASCII)
_ALLOWED = (
    'must be "none", or a flip ("flip" or "alternating_flip") and a move ("crop<pixels>" or '
    '"shift<pixels>"), joined by a comma: "flip,crop4"'
)


@dataclass(frozen=True)
class Augment:
    """A flip left to right of every other image; a window at a random place of the padded image.

    A flip is a coin in each epoch, or alternates: by a coin in the first epoch, and then every other time
    (Jordan 2024, arXiv:2404.00498, section 3.6). The padding is zero after normalisation, that is, the mean
    colour, or, for shifts, the image reflected at its edges.
    """

    flip: bool = False
    crop_padding: int = 0
    alternating_flip: bool = False
    shift: int = 0

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read "none", or a flip and a move joined by a comma: "flip,crop4", "alternating_flip,shift2"."""
        if text.strip() == "none":
            return cls()
        words = [word.strip() for word in text.split(",")]
        matches = [match for word in words if (match := _WORD.fullmatch(word))]
        flips = [match[1] for match in matches if match[1]]
        moves = {match[2]: int(match[3]) for match in matches if match[2]}
        if (
            len(matches) < len(words)
            or len(flips) > 1
            or len(flips) + len(moves) < len(words)
            or len(moves) > 1
        ):
            raise UserError(f'augment: got "{text}"; {_ALLOWED}')
        return cls(
            flip="flip" in flips,
            crop_padding=moves.get("crop", 0),
            alternating_flip="alternating_flip" in flips,
            shift=moves.get("shift", 0),
        )

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Refuse samples that cannot be augmented.

        Raises
        ------
        UserError
            The samples are no images (C, H, W), or are no larger than the padding.
        """
        if self == Augment():
            return
        if len(sample_shape) != 3:
            raise UserError(f"augment: samples have shape {sample_shape}; must be images (C, H, W), or none")
        smallest = min(sample_shape[1:])
        for word, pixels in (("crop", self.crop_padding), ("shift", self.shift)):
            if pixels >= smallest:
                raise UserError(f"augment: {word}{pixels} of {sample_shape}; must be under {smallest}")

    def apply(
        self, x: NDArray[np.float32], scratch: NDArray[np.float32], *, seed: int, epoch: int, sample: int
    ) -> None:
        """Augment x (float32 [C, H, W]) in place; scratch has the same shape and is overwritten."""
        if self == Augment():
            return
        coin, down, right = random_words(Stream.AUGMENT, 3, seed=seed, counter=(sample, epoch)).tolist()
        if self.alternating_flip:
            (first,) = random_words(Stream.AUGMENT, 1, seed=seed, counter=(sample, 0)).tolist()
            coin = first + epoch
        turned = (self.flip or self.alternating_flip) and coin & 1
        np.copyto(scratch, x[:, :, ::-1] if turned else x)
        padding = self.crop_padding + self.shift  # one of them is 0
        places = 2 * padding + 1
        moves = down % places - padding, right % places - padding
        if self.shift:
            shift_reflected(scratch, *moves, out=x)
        else:
            _crop(scratch, *moves, out=x)


def shift_reflected(x: NDArray[np.float32], down: int, right: int, *, out: NDArray[np.float32]) -> None:
    """Write out[..., i, j] = x[..., i + down, j + right]; what lies outside is reflected at the edge pixels.

    Parameters
    ----------
    x, out : float32 [..., H, W]
        They do not overlap.
    down, right
        Absolute values are under H and W.
    """
    rows, columns = _reflected(x.shape[-2], down), _reflected(x.shape[-1], right)
    out[...] = x[..., rows[:, np.newaxis], columns]


def _reflected(size: int, shift: int) -> NDArray[np.int64]:
    places = np.abs(np.arange(shift, shift + size))
    last = size - 1
    mirrored: NDArray[np.int64] = last - np.abs(last - places)
    return mirrored


def _crop(x: NDArray[np.float32], down: int, right: int, *, out: NDArray[np.float32]) -> None:
    """Write out[..., i, j] = x[..., i + down, j + right], and zeros where that lies outside."""
    to_rows, from_rows = _overlap(x.shape[1], down)
    to_columns, from_columns = _overlap(x.shape[2], right)
    out.fill(0.0)
    out[:, to_rows, to_columns] = x[:, from_rows, from_columns]


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Return where pixels land, and where they come from, when a window of `size` moves on by `shift`."""
    landing = slice(max(0, -shift), size - max(0, shift))
    source = slice(max(0, shift), size + min(0, shift))
    return landing, source
