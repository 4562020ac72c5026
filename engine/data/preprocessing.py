"""What a data set does to a sample before a network reads it, in words and numbers that outlive the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

AS_STORED = "as stored"
"""Samples are not resized: the files of the data have the network's shape."""
COVER = "cover"
"""Resized with bilinear weights until they just cover the shape; then cut around the centre."""


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
        return cls(
            sample_shape=tuple(int(size) for size in written["sample_shape"]),
            colours=str(written["colours"]),
            size=str(written["size"]),
            upright=str(written["upright"]),
            mean=tuple(float(value) for value in written["mean"]),
            deviation=tuple(float(value) for value in written["deviation"]),
            white=int(written["white"]),
        )

    def words(self) -> str:
        """Return what is done, in one line."""
        shape = " x ".join(map(str, self.sample_shape))
        said = [" ".join(filter(None, (shape, self.colours)))]
        if self.upright:
            said.append(f"upright by {self.upright}")
        if self.size == COVER:
            said.append("resized to cover it (bilinear), cut around the centre")
        elif self.size:
            said.append(self.size)
        if self.mean:
            mean, deviation = (
                " ".join(f"{value:g}" for value in each) for each in (self.mean, self.deviation)
            )
            said.append(f"mean {mean}, deviation {deviation}, white {self.white}")
        return "; ".join(said)
