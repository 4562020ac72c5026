"""From the data that the user names, such as "cifar10:~/data", to data sets that fit the model."""

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.wording import did_you_mean
from engine.data.dataset import DataError, Dataset, DataSource
from engine.data.registry import SOURCES, Request, allowed


def open_data(spec: str, sample_shape: tuple[int, ...], classes: int, seed: int) -> DataSource:
    """Open the data that `spec` names and check that it fits the model.

    Parameters
    ----------
    spec
        A name of `engine.data.registry.SOURCES`, with its folder where it takes one: "digits", "images:DIR";
        ~ is the home folder.
    sample_shape, classes
        The model's input and the number of its outputs, which the data must fit exactly; folders of images
        are resized to the input, and may have fewer classes.
    seed
        Draws the synthetic samples.

    Raises
    ------
    UserError
        The spec names no source, or the data does not fit the model.
    DataError
        A file or folder cannot be read.
    """
    name, colon, folder = spec.partition(":")
    _check_spec(spec, name=name, colon=bool(colon), folder=folder)
    request = Request(expand(folder, "data"), sample_shape, classes, seed)
    try:
        source = SOURCES[name].open(request)
    except OSError as error:
        raise DataError.at(error.filename or request.folder, f"cannot be read: {error.strerror}") from error
    check_fit(spec, source.train, request, fewer_classes=SOURCES[name].fewer_classes)
    return source


def _check_spec(spec: str, *, name: str, colon: bool, folder: str) -> None:
    if name not in SOURCES:
        raise UserError(f'data: got "{spec}"{did_you_mean(name, SOURCES)}; {allowed()}')
    if colon and not SOURCES[name].takes_folder:
        raise UserError(f'data: got "{spec}"; {name} takes no folder')
    if SOURCES[name].takes_folder and not folder:
        raise UserError(f'data: got "{spec}"; {name} needs its folder: {name}:DIR')


def check_fit(spec: str, dataset: Dataset, request: Request, *, fewer_classes: bool) -> None:
    """Raise UserError where a data set has other samples or classes than the model wants."""
    wanted, classes = request.sample_shape, request.classes
    if dataset.sample_shape != wanted:
        raise UserError(f"{spec} has samples of shape {dataset.sample_shape}; the model wants {wanted}")
    if dataset.classes > classes or (dataset.classes < classes and not fewer_classes):
        number = f"at most {classes}" if fewer_classes else f"{classes}"
        raise UserError(f"{spec} has {dataset.classes} classes; the model wants {number}")
