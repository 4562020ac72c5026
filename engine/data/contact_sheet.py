"""A picture of training samples as the network sees them: a row a sample, as read and in some epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import writing
from engine.data.augment import Augment
from engine.data.dataset import Dataset
from engine.data.loader import Loader
from engine.data.preprocessing import Preprocessing
from engine.data.readers.image_file import load_pillow
from engine.data.sampler import Share, epoch_order

_GAP = 4
_LEAST_SIDE = 64  # smaller images are enlarged
_WHITE = 255


def contact_sheet(
    data: Dataset, augment: Augment, *, samples: int, epochs: int, seed: int
) -> NDArray[np.uint8]:
    """Return uint8 [height, width, 3]: the first samples of a run's first epoch, in each of some epochs.

    Raises
    ------
    UserError
        The samples are no images whose normalisation is known, or cannot be augmented so.
    DataError
        One cannot be read.
    """
    if not data.preprocessing.takes_images:
        raise UserError(f"{data.name}: samples of shape {data.sample_shape} are no images that can be shown")
    chosen = epoch_order(seed, 0, len(data))[:samples]
    columns = [_column(data, chosen, None, 0, seed)]
    columns += [_column(data, chosen, augment, epoch, seed) for epoch in range(epochs)]
    rows = [_beside(list(pictures), axis=1) for pictures in zip(*columns, strict=True)]
    return _beside(rows, axis=0)


def write_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a picture in the format of its ending; UserError where it cannot be written."""
    load_pillow()
    from PIL import Image  # noqa: PLC0415 -- an extra: only its users need it

    try:
        with writing(path):
            Image.fromarray(sheet).save(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}; must end in .png, or another format that Pillow writes") from error


def _column(
    data: Dataset, samples: NDArray[np.int64], augment: Augment | None, epoch: int, seed: int
) -> list[NDArray[np.uint8]]:
    """Return the samples as they are in an epoch."""
    with Loader(data, [Share(epoch, samples)], augment=augment, seed=seed) as loader:
        return [_pixels(x, data.preprocessing) for x in next(loader).x]


def _pixels(x: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return what was normalised as a picture in colour, uint8 [h, w, 3]."""
    mean, deviation = (
        np.array(each, np.float64).reshape(-1, 1, 1) for each in (preprocessing.mean, preprocessing.deviation)
    )
    shown = np.clip(np.rint((x * deviation + mean) * _WHITE), 0, _WHITE).astype(np.uint8)
    times = -(-_LEAST_SIDE // min(shown.shape[1:]))
    larger = shown.repeat(times, axis=1).repeat(times, axis=2)
    return np.broadcast_to(larger, (3, *larger.shape[1:])).transpose(1, 2, 0)


def _beside(pictures: list[NDArray[np.uint8]], *, axis: int) -> NDArray[np.uint8]:
    """Join pictures with white gaps."""
    gap_shape = list(pictures[0].shape)
    gap_shape[axis] = _GAP
    gap = np.full(gap_shape, _WHITE, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=axis)
