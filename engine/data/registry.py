"""The data sets that a user can name. A new one is a reader, and one entry here.

The readers are imported when their data is opened: the names and their help must be quick to list.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.config.errors import UserError

if TYPE_CHECKING:
    from engine.data.dataset import DataSource

SYNTHETIC_LENGTH = 1 << 16


@dataclass(frozen=True)
class Request:
    """The data that a run asks for.

    Attributes
    ----------
    folder
        Where it lies; of data that takes no folder, the working directory.
    sample_shape, classes
        The model's input and the number of its outputs.
    seed
        Draws the samples, where they are drawn.
    least_classes
        That a folder of class folders must have: one is enough where nothing is trained.
    """

    folder: Path
    sample_shape: tuple[int, ...]
    classes: int
    seed: int
    least_classes: int = 2


@dataclass(frozen=True)
class Source:
    """A data set, or a format of data sets.

    Attributes
    ----------
    open
        Reads it. What it raises as OSError becomes a DataError.
    help
        One line for the user.
    takes_folder
        It is written NAME:DIR, not NAME.
    place
        What stands there in help: "DIR", "FILE".
    fewer_classes
        It may have fewer classes than the model has outputs.
    checked_shape
        Of samples that are read for no model; empty: whatever lies there.
    """

    open: Callable[[Request], "DataSource"]
    help: str
    takes_folder: bool = False
    place: str = "DIR"
    fewer_classes: bool = False
    checked_shape: tuple[int, ...] = (3, 32, 32)


def _digits(_: Request) -> "DataSource":
    from engine.data.readers.digits import open_digits  # noqa: PLC0415

    return open_digits()


def _synthetic(request: Request) -> "DataSource":
    from engine.data.dataset import DataSource  # noqa: PLC0415
    from engine.data.readers.synthetic import Synthetic  # noqa: PLC0415

    shape, classes = request.sample_shape, request.classes
    return DataSource(
        Synthetic.make(shape, classes=classes, length=SYNTHETIC_LENGTH, seed=request.seed), None
    )


def _image_shape(request: Request, name: str) -> tuple[int, int, int]:
    match request.sample_shape:
        case (1 | 3 as channels, height, width):
            return channels, height, width
        case shape:
            raise UserError(
                f"{name}: the model wants samples of shape {shape}; must be (3, H, W) or (1, H, W)"
            )


def _images(request: Request) -> "DataSource":
    from engine.data.readers.image_folder import open_image_folder  # noqa: PLC0415

    shape = _image_shape(request, "images")
    return open_image_folder(request.folder, shape, least_classes=request.least_classes)


def _csv(request: Request) -> "DataSource":
    from engine.data.readers.image_list import open_csv  # noqa: PLC0415

    return open_csv(request.folder, _image_shape(request, "csv"))


def _webdataset(request: Request) -> "DataSource":
    from engine.data.readers.webdataset import open_webdataset  # noqa: PLC0415

    return open_webdataset(request.folder, _image_shape(request, "webdataset"))


def _lmdb(request: Request) -> "DataSource":
    from engine.data.readers.lmdb_images import open_lmdb  # noqa: PLC0415

    return open_lmdb(request.folder, _image_shape(request, "lmdb"))


def _parquet(request: Request) -> "DataSource":
    from engine.data.readers.parquet_images import open_parquet  # noqa: PLC0415

    return open_parquet(request.folder, _image_shape(request, "parquet"))


def _arrays(request: Request) -> "DataSource":
    from engine.data.readers.array_files import open_arrays  # noqa: PLC0415

    return open_arrays(request.folder, request.sample_shape)


def _mnist(request: Request) -> "DataSource":
    from engine.data.readers.mnist import open_mnist  # noqa: PLC0415

    return open_mnist(request.folder)


def _cifar10(request: Request) -> "DataSource":
    from engine.data.readers.cifar10 import open_cifar10  # noqa: PLC0415

    return open_cifar10(request.folder)


def _kaldi(request: Request) -> "DataSource":
    from engine.data.readers.kaldi import open_kaldi  # noqa: PLC0415

    return open_kaldi(request.folder, request.sample_shape)


def _wav(request: Request) -> "DataSource":
    from engine.data.readers.recordings import open_recordings  # noqa: PLC0415

    return open_recordings(request.folder, request.sample_shape, least_classes=request.least_classes)


SOURCES = {
    "digits": Source(_digits, "8x8 handwritten digits, which come along"),
    "synthetic": Source(_synthetic, "drawn from the seed, in the model's shape"),
    "images": Source(
        _images,
        "class folders of images, resized to the model, upright as EXIF says",
        takes_folder=True,
        fewer_classes=True,
    ),
    "csv": Source(
        _csv,
        'images that a list "path,label" names, or train.csv and test.csv in a folder',
        takes_folder=True,
        place="FILE",
        fewer_classes=True,
    ),
    "webdataset": Source(
        _webdataset, "images in tar shards: train-*.tar, test-*.tar", takes_folder=True, fewer_classes=True
    ),
    "lmdb": Source(
        _lmdb,
        "images in LMDB, as Caffe writes them: train_lmdb, val_lmdb",
        takes_folder=True,
        fewer_classes=True,
    ),
    "parquet": Source(
        _parquet, "images in Parquet files, as Hugging Face has them", takes_folder=True, fewer_classes=True
    ),
    "arrays": Source(
        _arrays,
        "numpy's .npz, or x_train.npy, y_train.npy ... in a folder",
        takes_folder=True,
        fewer_classes=True,
    ),
    "mnist": Source(_mnist, "IDX files, gzipped or not: also Fashion-MNIST, EMNIST", takes_folder=True),
    "cifar10": Source(_cifar10, "binary batches", takes_folder=True),
    "kaldi": Source(
        _kaldi,
        "frames of speech: feats.scp, and labels in ali.scp, ali.ark or ali.txt",
        takes_folder=True,
        fewer_classes=True,
        checked_shape=(),
    ),
    "wav": Source(
        _wav,
        "class folders of WAV files, or files named LABEL_...wav, as log mel energies",
        takes_folder=True,
        fewer_classes=True,
        checked_shape=(1, 64, 40),
    ),
}


def written(name: str) -> str:
    """Return a source as the user writes it: "digits", "images:DIR"."""
    return f"{name}:{SOURCES[name].place}" if SOURCES[name].takes_folder else name


def described() -> str:
    """Return a line of help that lists all sources."""
    sources = [f"{written(name)} ({source.help})" for name, source in SOURCES.items()]
    return "; ".join((*sources, "or a function of yours, FILE.py:function"))


def allowed() -> str:
    """Return the part of an error that lists all sources."""
    return f"must be {', '.join(map(written, SOURCES))}, or FILE.py:function"
