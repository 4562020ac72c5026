"""From what the user writes, such as "cifar10:~/data", to data sets that fit the model."""

import difflib
from pathlib import Path

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.data.dataset import DataError, Dataset, DataSource
from engine.data.readers.cifar10 import open_cifar10
from engine.data.readers.digits import open_digits
from engine.data.readers.image_folder import open_image_folder
from engine.data.readers.mnist import open_mnist
from engine.data.readers.synthetic import Synthetic

SYNTHETIC_LENGTH = 1 << 16
_IN_PLACE = ("digits", "synthetic")
_IN_FOLDERS = ("images", "mnist", "cifar10")
_ALLOWED = "must be digits, synthetic, images:DIR, mnist:DIR or cifar10:DIR"


def open_data(spec: str, sample_shape: tuple[int, ...], classes: int, seed: int) -> DataSource:
    """Open what `spec` names and check that it fits the model.

    Parameters
    ----------
    spec
        "digits", "synthetic", "images:DIR", "mnist:DIR" or "cifar10:DIR"; ~ is the home folder.
    sample_shape, classes
        The model's input and the number of its outputs. Folders of images are resized to the input, and
        may have fewer classes than the model; all other data must fit exactly.
    seed
        Draws the synthetic samples.

    Raises
    ------
    UserError
        The spec is not one of these, or the data does not fit the model.
    DataError
        A file or folder cannot be read.
    """
    kind, colon, folder = spec.partition(":")
    _check_spec(spec, kind=kind, colon=bool(colon), folder=folder)
    directory = expand(folder, "data")
    try:
        source = _open(kind, directory, sample_shape=sample_shape, classes=classes, seed=seed)
    except OSError as error:
        raise DataError.at(error.filename or directory, f"cannot be read: {error.strerror}") from error
    _check_fit(spec, source.train, sample_shape=sample_shape, classes=classes)
    return source


def _open(
    kind: str, directory: Path, *, sample_shape: tuple[int, ...], classes: int, seed: int
) -> DataSource:
    match kind:
        case "digits":
            return open_digits()
        case "mnist":
            return open_mnist(directory)
        case "cifar10":
            return open_cifar10(directory)
        case "images":
            return open_image_folder(directory, _image_shape(sample_shape))
        case _:
            train = Synthetic.make(sample_shape, classes=classes, length=SYNTHETIC_LENGTH, seed=seed)
            return DataSource(train, None)


def _check_spec(spec: str, *, kind: str, colon: bool, folder: str) -> None:
    if kind not in _IN_PLACE + _IN_FOLDERS:
        close = difflib.get_close_matches(kind.lower(), _IN_PLACE + _IN_FOLDERS, n=1)
        hint = f' (did you mean "{close[0]}"?)' if close else ""
        raise UserError(f'data: got "{spec}"{hint}; {_ALLOWED}')
    if kind in _IN_PLACE and colon:
        raise UserError(f'data: got "{spec}"; {kind} takes no folder')
    if kind in _IN_FOLDERS and not folder:
        raise UserError(f'data: got "{spec}"; {kind} needs its folder: {kind}:DIR')


def _image_shape(sample_shape: tuple[int, ...]) -> tuple[int, int, int]:
    match sample_shape:
        case (1 | 3 as channels, height, width):
            return channels, height, width
        case _:
            raise UserError(
                f"images: the model wants samples of shape {sample_shape}; must be (3, H, W) or (1, H, W)"
            )


def _check_fit(spec: str, dataset: Dataset, *, sample_shape: tuple[int, ...], classes: int) -> None:
    if dataset.sample_shape != sample_shape:
        raise UserError(f"{spec} has samples of shape {dataset.sample_shape}; the model wants {sample_shape}")
    fewer_allowed = dataset.name == "images"
    if dataset.classes > classes or (dataset.classes < classes and not fewer_allowed):
        wanted = f"at most {classes}" if fewer_allowed else f"{classes}"
        raise UserError(f"{spec} has {dataset.classes} classes; the model wants {wanted}")
