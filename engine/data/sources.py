"""From the data that the user names, such as "cifar10:~/data", to data sets that fit the model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.paths import expand, function_in_file, working_folder
from engine.config.user_code import call, load_function
from engine.config.wording import did_you_mean
from engine.data.dataset import DataError, DataSource
from engine.data.readers.image_listing import has_folders
from engine.data.readers.stored_images import StoredImages
from engine.data.registry import SOURCES, Request, allowed, written

_PLACES = ("", "data/", "train/")
_MARKS = {
    "mnist": ("*-idx3-ubyte*", "raw/*-idx3-ubyte*"),
    "cifar10": ("data_batch_1.bin", "cifar-10-batches-bin"),
    "webdataset": tuple(f"{place}*.tar" for place in _PLACES),
    "lmdb": ("data.mdb", "*/data.mdb"),
    "parquet": tuple(f"{place}*.parquet" for place in _PLACES),
    "csv": ("train.csv",),
    "kaldi": ("feats.scp", "train/feats.scp"),
    "wav": ("*.wav", "*/*.wav", "*/*/*.wav"),
    "arrays": ("x_train.npy", "train_x.npy", "x.npy"),
}
"""Files by which a folder is known to hold no class folders of images."""
_UNFITTED = (3, 32, 32)
_NAMED = ("mnist", "cifar10")
"""Kinds whose files have names that nothing else has."""
_FILES = {".csv": "csv", ".npz": "arrays"}
"""Endings of files that are data sets."""


def open_data(
    spec: str,
    sample_shape: tuple[int, ...],
    classes: int,
    seed: int,
    *,
    arguments: Mapping[str, Any] | None = None,
    any_classes: bool = False,
    least_classes: int = 2,
    centre_crop: float = 1.0,
) -> DataSource:
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
    arguments
        Of a function in a user's file, FILE.py:function.
    any_classes
        The data may have any number of classes: the model will follow.
    least_classes
        That a folder of class folders must have.
    centre_crop
        Share of the shorter side of stored images that is not cut off, where no part at random is taken.

    Raises
    ------
    UserError
        The spec names no source, or the data does not fit the model.
    DataError
        A file or folder cannot be read.
    """
    source = _open(
        spec,
        sample_shape,
        classes,
        seed,
        arguments or {},
        any_classes=any_classes,
        least_classes=least_classes,
    )
    shipped = SOURCES.get(spec.partition(":")[0])
    least = classes if shipped and not function_in_file(spec) and not shipped.fewer_classes else 1
    check_fit(spec, source, sample_shape, None if any_classes else range(least, classes + 1))
    return source if centre_crop == 1 else _cut(spec, source, centre_crop)


def _cut(spec: str, source: DataSource, share: float) -> DataSource:
    """Return the same data, with a share of the shorter side of its images."""
    if not isinstance(source.train, StoredImages):
        raise UserError(f"centre_crop: got {share:g}; {spec} has no stored images; must be 1")
    train = replace(source.train, share=share)
    test = replace(source.test, share=share) if isinstance(source.test, StoredImages) else source.test
    return replace(source, train=train, test=test)


def open_unfitted(spec: str, sample_shape: tuple[int, ...] | None = None) -> DataSource:
    """Open data that no model shall train on; images are made for one of this shape, or as for CIFAR-10.

    Errors are those of `open_data`.
    """
    source = SOURCES.get(spec.partition(":")[0])
    shape = sample_shape or (_UNFITTED if source is None else source.checked_shape)
    return _open(spec, shape, 10, 0, {}, any_classes=True)


def spec_of(text: str) -> str:
    """Return the spec of what a user names: a spec already, or the data that lies in a folder."""
    if function_in_file(text) or text.partition(":")[0] in SOURCES:
        return text
    folder = expand(text, "data")
    if folder.is_file() and folder.suffix in _FILES:
        return f"{_FILES[folder.suffix]}:{text}"
    if not folder.is_dir():
        return text
    for name, marks in _MARKS.items():
        if any(_holds(folder, mark, alone=name not in _NAMED) for mark in marks):
            return f"{name}:{text}"
    return f"images:{text}"


def _holds(folder: Path, mark: str, *, alone: bool) -> bool:
    """Say whether a folder has files of a name; `alone`: and no folders beside them, which may be classes."""
    found = next(folder.glob(mark), None)
    return found is not None and not (alone and has_folders(found.parent))


def _open(
    spec: str,
    sample_shape: tuple[int, ...],
    classes: int,
    seed: int,
    arguments: Mapping[str, Any],
    *,
    any_classes: bool,
    least_classes: int = 2,
) -> DataSource:
    if function_in_file(spec):
        given = {"sample_shape": sample_shape, "seed": seed}
        if not any_classes:  # else the network follows the data, and not the data the network
            given["classes"] = classes
        return _call(spec, given, arguments)
    name, colon, folder = spec.partition(":")
    _check_spec(spec, name=name, colon=bool(colon), folder=folder)
    if arguments:
        raise UserError(
            f"data: {name} takes no arguments, got {', '.join(arguments)}; only FILE.py:function does"
        )
    # read from until the end, wherever this process is by then
    place = working_folder() / expand(folder or ".", "data")
    request = Request(place, sample_shape, classes, seed, least_classes)
    try:
        return SOURCES[name].open(request)
    except MemoryError as error:
        raise DataError.at(request.folder, "does not fit into memory") from error
    except OSError as error:
        raise DataError.at(error.filename or request.folder, f"cannot be read: {error.strerror}") from error


def _call(spec: str, given: Mapping[str, Any], arguments: Mapping[str, Any]) -> DataSource:
    """Return what a user's function makes; it may take what is known of the model, and the seed."""
    source = call(load_function(spec, "data"), arguments, "data", given=given)
    if not isinstance(source, DataSource):
        raise UserError(f"data: {spec} returned {type(source).__name__}; must return a DataSource")
    return source


def _check_spec(spec: str, *, name: str, colon: bool, folder: str) -> None:
    if name not in SOURCES:
        if spec and (meant := spec_of(spec)) != spec:
            what = "a folder" if expand(spec, "data").is_dir() else "a file"
            raise UserError(f'data: got "{spec}", {what}, without the kind of its data; write {meant}')
        raise UserError(f'data: got "{spec}"{did_you_mean(name, SOURCES)}; {allowed()}')
    if colon and not SOURCES[name].takes_folder:
        raise UserError(f'data: got "{spec}"; {name} takes no folder')
    if SOURCES[name].takes_folder and not folder:
        raise UserError(f'data: got "{spec}"; {name} needs its folder: {written(name)}')


def check_fit(spec: str, data: DataSource, sample_shape: tuple[int, ...], classes: range | None) -> None:
    """Raise UserError where samples or classes do not suit the model; None: any number of classes does."""
    shape, found = data.train.sample_shape, data.train.classes
    if shape != sample_shape:
        raise UserError(f"{spec} has samples of shape {shape}; the model wants {sample_shape}")
    if classes is not None and found not in classes:
        most = classes.stop - 1
        wanted = f"{most}" if len(classes) == 1 else f"at most {most}"
        raise UserError(
            f"{spec} has {found} classes; the model wants {wanted}; one whose function takes `classes`, "
            "without a number of its own in the recipe, follows the data"
        )
    if data.test is not None and data.test.sample_shape != shape:
        raise UserError(
            f"{spec} has test samples of shape {data.test.sample_shape}, training samples of {shape}"
        )
    if data.test is not None and data.test.classes > found:
        raise UserError(
            f"{spec} has {data.test.classes} classes in the test set and {found} in the training set"
        )
