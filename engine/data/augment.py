"""Random flips and crops of training images, keyed by (seed, epoch, sample)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, random_words


@dataclass(frozen=True)
class Augment:
    """A flip left to right for every other image; a crop at a random place of the padded image.

    The padding is zero after normalisation, that is, the mean colour.
    """

    flip: bool = False
    crop_padding: int = 0

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read "none", or "flip" and "crop<pixels>" joined by a comma: "flip,crop4"."""
        if text.strip() == "none":
            return cls()
        words = [word.strip() for word in text.split(",")]
        matches = [re.fullmatch(r"(flip)|(crop)([1-9][0-9]{0,3})", word, re.ASCII) for word in words]
        kinds = [match[1] or match[2] for match in matches if match]
        if len(kinds) < len(words) or len(set(kinds)) < len(kinds):
            raise UserError(
                f'augment: got "{text}"; must be "none", or "flip" and "crop<pixels>" at most once each, '
                'joined by a comma: "flip,crop4"'
            )
        paddings = [int(match[3]) for match in matches if match and match[3]]
        return cls(flip="flip" in kinds, crop_padding=sum(paddings))

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Refuse samples that cannot be augmented.

        Raises
        ------
        UserError
            The samples are no images (C, H, W), or are smaller than the padding.
        """
        if self == Augment():
            return
        if len(sample_shape) != 3:
            raise UserError(f"augment: samples have shape {sample_shape}; must be images (C, H, W), or none")
        smallest = min(sample_shape[1:])
        if self.crop_padding >= smallest:
            raise UserError(f"augment: crop{self.crop_padding} of {sample_shape}; must be under {smallest}")

    def apply(
        self, x: NDArray[np.float32], scratch: NDArray[np.float32], *, seed: int, epoch: int, sample: int
    ) -> None:
        """Augment x (float32 [C, H, W]) in place; scratch has the same shape and is overwritten."""
        if self == Augment():
            return
        coin, down, right = random_words(Stream.AUGMENT, 3, seed=seed, counter=(sample, epoch)).tolist()
        places = 2 * self.crop_padding + 1
        np.copyto(scratch, x[:, :, ::-1] if self.flip and coin & 1 else x)
        to_rows, from_rows = _overlap(x.shape[1], down % places - self.crop_padding)
        to_columns, from_columns = _overlap(x.shape[2], right % places - self.crop_padding)
        x.fill(0.0)
        x[:, to_rows, to_columns] = scratch[:, from_rows, from_columns]


def _overlap(size: int, shift: int) -> tuple[slice, slice]:
    """Return where pixels land, and where they come from, when a window of `size` moves on by `shift`."""
    landing = slice(max(0, -shift), size - max(0, shift))
    source = slice(max(0, shift), size + min(0, shift))
    return landing, source
