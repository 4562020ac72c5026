"""Random changes of training images, keyed by (seed, epoch, sample)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.counter import Stream, random_words
from engine.data.erase import cut_out, erase
from engine.data.frame import Frame, Framing, random_part
from engine.data.recolour import Recolouring

_FLIP, _MOVE = "a flip", "a move"
_KINDS = {"flip": _FLIP, "alternating_flip": _FLIP, "crop": _MOVE, "shift": _MOVE, "resized_crop": _MOVE}
"""Of two words of a kind only one can be asked for."""
_WRITTEN = re.compile(
    r"(?P<plain>flip|alternating_flip|resized_crop)|(?P<whole>crop|shift|cutout)(?P<pixels>[1-9][0-9]{0,3})|"
    r"(?P<part>resized_crop|jitter|hue|erase)(?P<share>[01]|0?\.[0-9]{1,6})|"
    r"(?P<random>randaugment)(?P<operations>[1-8])x(?P<magnitude>[0-9]|[12][0-9]|30)",
    re.ASCII,
)
_ALLOWED = (
    'must be "none", or words joined by commas, each once at most, as "flip,crop4" or '
    '"resized_crop,flip,jitter0.4": flip or alternating_flip; crop<pixels>, shift<pixels>, resized_crop or '
    "resized_crop<least share>; jitter<share>; hue<share, up to 0.5>; randaugment<number>x<magnitude>; "
    "erase<probability>; cutout<pixels>"
)
_LEAST_SHARE = 0.08  # of the area, as torchvision's
_MOST_HUE = 0.5
_AS_THEY_ARE = Recolouring()


@dataclass(frozen=True)
class Augment:
    """What is changed at random in the images that are trained on.

    A flip is a coin in each epoch, or alternates: by a coin in the first epoch, and then every other time
    (Jordan 2024, arXiv:2404.00498, section 3.6). A crop is a window at a random place of the padded image;
    the padding is zero after normalisation, that is, the mean colour, or, for shifts, the image reflected at
    its edges. A resized crop is a part of the stored image (`engine.data.frame.random_part`), of this share
    of its area or more. Colours are changed before the pixels are normalised, boxes erased at the end.
    """

    flip: bool = False
    crop_padding: int = 0
    alternating_flip: bool = False
    shift: int = 0
    resized_crop: float = 0.0
    recolouring: Recolouring = _AS_THEY_ARE
    erase: float = 0.0
    cutout: int = 0

    @classmethod
    def parse(cls, text: str) -> Augment:
        """Read "none", or words joined by commas: "flip,crop4", "alternating_flip,shift2"."""
        if text.strip() == "none":
            return cls()
        words = [_WRITTEN.fullmatch(word.strip()) for word in text.split(",")]
        found = [_named(word) for word in words if word]
        kinds = [_KINDS.get(name, name) for name, _ in found]
        values: dict[str, Any] = dict(found)
        too_much = values.get("hue", 0) > _MOST_HUE
        if len(found) < len(words) or len(set(kinds)) < len(kinds) or too_much or 0.0 in values.values():
            raise UserError(f'augment: got "{text}"; {_ALLOWED}')
        operations, magnitude = values.get("randaugment", (0, 0))
        return cls(
            flip="flip" in values,
            crop_padding=values.get("crop", 0),
            alternating_flip="alternating_flip" in values,
            shift=values.get("shift", 0),
            resized_crop=values.get("resized_crop", 0.0),
            recolouring=Recolouring(values.get("jitter", 0.0), values.get("hue", 0.0), operations, magnitude),
            erase=values.get("erase", 0.0),
            cutout=values.get("cutout", 0),
        )

    @property
    def takes_stored_images(self) -> bool:
        """Say whether a part of the stored image is taken, or its colours are changed."""
        return self.resized_crop > 0 or self.recolours

    def check(self, sample_shape: tuple[int, ...]) -> None:
        """Refuse samples that cannot be augmented.

        Raises
        ------
        UserError
            The samples are no images (C, H, W), or are no larger than the padding.
        """
        if self == Augment():
            return
        if self.recolours:
            from engine.data.readers.image_file import load_pillow  # noqa: PLC0415 -- an extra

            load_pillow()
        if len(sample_shape) != 3:
            raise UserError(f"augment: samples have shape {sample_shape}; must be images (C, H, W), or none")
        smallest = min(sample_shape[1:])
        for word, pixels in (("crop", self.crop_padding), ("shift", self.shift), ("cutout", self.cutout)):
            if pixels >= smallest:
                raise UserError(f"augment: {word}{pixels} of {sample_shape}; must be under {smallest}")

    @property
    def recolours(self) -> bool:
        """Say whether `recolour` changes anything."""
        return self.recolouring != _AS_THEY_ARE

    def framing(self, *, seed: int, epoch: int, sample: int) -> Framing | None:
        """Return what takes a part of a stored image, flipped where it shall be; None: as always."""
        if not self.resized_crop:
            return None
        is_mirrored, *_ = self._drawn(seed, epoch, sample)

        def part(width: int, height: int) -> Frame:
            taken = random_part(width, height, least=self.resized_crop, seed=seed, epoch=epoch, sample=sample)
            return replace(taken, is_mirrored=is_mirrored)

        return part

    def recolour(self, pixels: NDArray[np.uint8], *, seed: int, epoch: int, sample: int) -> None:
        """Change the colours of uint8 [C, H, W] in place."""
        if self.recolours:
            self.recolouring.apply(pixels, seed=seed, epoch=epoch, sample=sample)

    def apply(
        self, x: NDArray[np.float32], scratch: NDArray[np.float32], *, seed: int, epoch: int, sample: int
    ) -> None:
        """Flip, move and erase in x (float32 [C, H, W]); scratch has the same shape and is overwritten.

        What `framing` has flipped is not flipped again.
        """
        flips = (self.flip or self.alternating_flip) and not self.resized_crop
        if flips or self.crop_padding or self.shift:
            self._move(x, scratch, seed=seed, epoch=epoch, sample=sample)
        if self.erase:
            erase(x, self.erase, seed=seed, epoch=epoch, sample=sample)
        if self.cutout:
            cut_out(x, self.cutout, seed=seed, epoch=epoch, sample=sample)

    def _move(
        self, x: NDArray[np.float32], scratch: NDArray[np.float32], *, seed: int, epoch: int, sample: int
    ) -> None:
        turned, down, right = self._drawn(seed, epoch, sample)
        padding = self.crop_padding + self.shift  # one of them is 0
        if turned or padding:
            np.copyto(scratch, x[:, :, ::-1] if turned else x)
        if not padding:
            if turned:
                np.copyto(x, scratch)
            return
        places = 2 * padding + 1
        moves = down % places - padding, right % places - padding
        if self.shift:
            shift_reflected(scratch, *moves, out=x)
        else:
            _crop(scratch, *moves, out=x)

    def _drawn(self, seed: int, epoch: int, sample: int) -> tuple[bool, int, int]:
        """Return whether an image is flipped, and words that decide where it is moved."""
        coin, down, right = random_words(Stream.AUGMENT, 3, seed=seed, counter=(sample, epoch)).tolist()
        if self.alternating_flip:
            (first,) = random_words(Stream.AUGMENT, 1, seed=seed, counter=(sample, 0)).tolist()
            coin = first + epoch
        return (self.flip or self.alternating_flip) and coin & 1 == 1, down, right


def _named(word: re.Match[str]) -> tuple[str, Any]:
    """Return the name of a word and its value."""
    if word["plain"]:
        return word["plain"], _LEAST_SHARE if word["plain"] == "resized_crop" else True
    if word["whole"]:
        return word["whole"], int(word["pixels"])
    if word["part"]:
        return word["part"], float(word["share"])
    return word["random"], (int(word["operations"]), int(word["magnitude"]))


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
