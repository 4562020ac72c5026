"""What a data set does to a sample before a network reads it, in words and numbers that outlive the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

AS_STORED = "as stored"
"""Samples are not resized: the files of the data have the network's shape."""
COVER = "cover"
"""Resized with bilinear weights until they just cover the shape; then cut around the centre."""

_LEAST, _MOST = 1e-30, 1e30  # of a deviation, and of anything: beyond them float32 is not finite soon


@dataclass(frozen=True)
class Preprocessing:
    """From what is stored to what a network reads.

    A pixel p in [0, white] of channel c becomes ``(p / white - mean[c]) / deviation[c]``.
    """

    sample_shape: tuple[int, ...]
    """(C, H, W) of images, (F,) of features."""
    colours: str = ""
    """Order of the channels, "RGB" or "grey"; empty where samples are no pixels, or nobody has said."""
    size: str = ""
    """COVER or AS_STORED; empty as above."""
    upright: str = ""
    """By what images are turned upright, "EXIF"; empty: they are not."""
    mean: tuple[float, ...] = ()
    """By channel; empty where the data is not normalised by a mean and deviation that are known."""
    deviation: tuple[float, ...] = ()
    white: int = 255
    """The pixel that counts as 1."""
    share: float = 1.0
    """Of the shorter side of an image that covers more than the shape, what is not cut off."""

    @property
    def takes_images(self) -> bool:
        """Say whether any image can be made into a sample: what is done to its pixels is known."""
        channels = self.sample_shape[0]
        return len(self.sample_shape) == 3 and channels in (1, 3) and len(self.mean) == channels

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `from_json` returns an equal one."""
        return asdict(self)

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Preprocessing:
        """Return what `to_json` was called on; ValueError, TypeError or KeyError for anything else."""
        shape, white = written["sample_shape"], written["white"]
        mean, deviation = written["mean"], written["deviation"]
        if not shape or not all(_is_whole(size) for size in (*shape, white)):
            raise ValueError(f"preprocessing: sample_shape is {shape!r}, and white {white!r}")
        if not all(map(_is_number, (*mean, *deviation))) or not all(value > _LEAST for value in deviation):
            raise ValueError(f"preprocessing: mean is {mean!r}, and deviation {deviation!r}")
        if len(mean) != len(deviation) or len(mean) not in (0, shape[0]):
            raise ValueError(
                f"preprocessing: mean is {mean!r}, and deviation {deviation!r}, of {shape[0]} channels"
            )
        texts = {name: written[name] for name in ("colours", "size", "upright")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError(f"preprocessing: colours, size and upright are {list(texts.values())!r}")
        share = written.get("share", 1.0)
        if not (_is_number(share) and 0 < share <= 1):
            raise ValueError(f"preprocessing: share is {share!r}")
        return cls(
            tuple(shape), mean=tuple(mean), deviation=tuple(deviation), white=white, share=share, **texts
        )

    def words(self) -> str:
        """Return what is done, in one line."""
        shape = " x ".join(map(str, self.sample_shape))
        said = [" ".join(filter(None, (shape, self.colours)))]
        if self.upright:
            said.append(f"upright by {self.upright}")
        if self.size == COVER and self.share < 1:
            said.append(f"resized (bilinear), {self.share:g} of the shorter side cut out of the centre")
        elif self.size == COVER:
            said.append("resized to cover it (bilinear), cut around the centre")
        elif self.size:
            said.append(self.size)
        if self.mean:
            mean, deviation = (
                " ".join(f"{value:g}" for value in each) for each in (self.mean, self.deviation)
            )
            said.append(f"mean {mean}, deviation {deviation}, white {self.white}")
        return "; ".join(said)


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 < value < _MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MOST
