"""From stored pixels to zero mean and unit variance, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import Dataset
from engine.data.preprocessing import Preprocessing

_MOST = 1e30  # more is no scale of pixels, and not finite soon


@dataclass(frozen=True, eq=False)
class Normalisation:
    """x = pixel * scale + shift; both are float32 [C, 1, 1].

    A product and a sum, each rounded once: the same bits on every machine.
    """

    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    mean: tuple[float, ...] = ()
    """By channel, as published; empty where it is not known."""
    deviation: tuple[float, ...] = ()
    white: int = 255
    """The pixel that counts as 1."""

    @classmethod
    def of(cls, *, mean: Sequence[float], std: Sequence[float], white: int = 255) -> Normalisation:
        """Take mean and standard deviation as they are published: of pixels where `white` counts as 1."""
        deviation = np.array(std, np.float64).reshape(-1, 1, 1)
        average = np.array(mean, np.float64).reshape(-1, 1, 1)
        scale = 1.0 / (white * deviation)
        shift = -average / deviation
        return cls(scale.astype(np.float32), shift.astype(np.float32), tuple(mean), tuple(std), white)

    def to_json(self) -> dict[str, list[float]]:
        """Return scale and shift by channel; `from_json` returns an equal one."""
        return {"scale": self.scale.ravel().tolist(), "shift": self.shift.ravel().tolist()}

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Normalisation:
        """Return the scale and shift that `to_json` was called on; ValueError where it was none."""
        scale, shift = written.get("scale"), written.get("shift")
        if not (_are_numbers(scale) and _are_numbers(shift) and 0 < len(scale) == len(shift)):
            raise ValueError("normalisation must have scale and shift, a number for each channel")
        if 0 in scale:
            raise ValueError("normalisation has the scale 0, which makes all pixels the same")
        scales, shifts = (np.array(each, np.float32).reshape(-1, 1, 1) for each in (scale, shift))
        return cls(scales, shifts)

    @classmethod
    def of_images(cls, preprocessing: Preprocessing) -> Normalisation:
        """Return that of images of 8 bits a channel, whatever counts as white in the data."""
        return cls.of(mean=preprocessing.mean, std=preprocessing.deviation)

    def preprocessing(self, sample_shape: tuple[int, ...], *, size: str, upright: str = "") -> Preprocessing:
        """Return what data does to its samples that is normalised so."""
        colours = {1: "grey", 3: "RGB"}.get(sample_shape[0], "")
        return Preprocessing(sample_shape, colours, size, upright, self.mean, self.deviation, self.white)

    def apply(self, pixels: NDArray[np.uint8], x: NDArray[np.float32]) -> None:
        """Overwrite x (float32 [C, H, W]) with the normalised pixels (uint8 [C, H, W])."""
        np.multiply(pixels, self.scale, out=x)
        np.add(x, self.shift, out=x)


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        type(each) in (int, float) and abs(each) < _MOST for each in values
    )


def normalisation_of(dataset: Dataset) -> dict[str, list[float]] | None:
    """Return how a data set normalises its pixels, for a checkpoint; None where it does not."""
    found = getattr(dataset, "normalisation", None)
    return found.to_json() if isinstance(found, Normalisation) else None
