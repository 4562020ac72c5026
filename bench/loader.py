"""The command ``python -m bench.loader``: how fast photographs become samples, beside other loaders."""

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import machine
from engine.config.errors import UserError
from engine.config.paths import expand
from engine.data.augment import Augment
from engine.data.dataset import digest
from engine.data.loader import Loader
from engine.data.readers.image_file import EncodedImage, image_endings, load_pillow
from engine.data.readers.stored_images import IMAGENET_MEAN, IMAGENET_STD, StoredImages
from engine.data.sampler import evaluation

_EPILOG = """\
examples:
  python -m bench.loader ~/imagenet/val                 all peers that are installed
  python -m bench.loader ~/photographs --sides ours torchvision --images 100 --json

Every side makes float32 [3, 224, 224] of each photograph, on one thread: a random resized crop, flipped by a
coin, normalised. The sides take turns; medians of rounds, in images a second of processor time, and the ratio
of rounds beside each other. Files are read before anything is timed.
"""
_SHAPE = (3, 224, 224)
_AUGMENT = "resized_crop,flip"
_BATCH = 4  # few: the memory of batches, which lives as long as a run, is new here in each round
_HALF = 0.5

Side = Callable[[Sequence[bytes]], None]
"""Makes a sample of each encoded image."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.loader",
        description="Compare how fast loaders make training samples of photographs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="DIR", help="photographs, at any depth")
    parser.add_argument("--images", type=int, default=200, metavar="N", help="at most; default 200")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all sides; default 5")
    parser.add_argument(
        "--sides", nargs="+", choices=tuple(_SIDES), metavar="SIDE",
        help=f"{', '.join(_SIDES)}; without it ours and all that are installed",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        contents = _contents(options.folder, options.images)
        sides, missing = _sides(options.sides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side(contents[:_BATCH])  # compiled, and in the caches
    for _ in range(options.rounds):
        for name, side in sides.items():
            start = time.process_time()
            side(contents)
            seconds[name].append(time.process_time() - start)
    result: dict[str, Any] = {
        "images": len(contents),
        "mean_bytes": round(statistics.mean(map(len, contents))),
        "images_per_core_second": {name: len(contents) / statistics.median(s) for name, s in seconds.items()},
        "times_ours": {
            name: statistics.median(theirs / ours for ours, theirs in zip(seconds["ours"], s, strict=True))
            for name, s in seconds.items()
            if name != "ours"
        },
        "not_installed": missing,
    }
    if options.json:
        machine.print_json("loader", machine.describe(1), **result)
    else:
        print("\n".join(_lines(result)))
    return 0


def _lines(result: dict[str, Any]) -> list[str]:
    rates, ratios = result["images_per_core_second"], result["times_ours"]
    lines = [f"{result['images']} photographs of {result['mean_bytes'] / 1e3:.0f} kB, one thread, images/s:"]
    for name, rate in rates.items():
        ratio = f"   ours is {ratios[name]:.2f} x as fast" if name in ratios else ""
        lines.append(f"{name:>14} {rate:8.0f}{ratio}")
    return lines + [f"{name:>14} is not installed: {why}" for name, why in result["not_installed"].items()]


def _contents(folder: str, most: int) -> list[bytes]:
    """Read the first photographs."""
    load_pillow()
    root = expand(folder, "folder")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in image_endings())[:most]
    if not paths:
        raise UserError(f"folder: {root} holds no images")
    return [path.read_bytes() for path in paths]


def _sides(wanted: Sequence[str] | None) -> tuple[dict[str, Side], dict[str, str]]:
    """Return what can be run, ours first, and why others cannot."""
    sides, missing = {}, {}
    for name in dict.fromkeys(("ours", *(wanted or _SIDES))):
        try:
            sides[name] = _SIDES[name]()
        except ImportError as error:
            if wanted:
                raise UserError(f"{name} is not installed: {error}") from error
            missing[name] = str(error)
    return sides, missing


@dataclass(frozen=True, eq=False, kw_only=True)
class _Photographs(StoredImages):
    KEEPS_PIXELS = False

    contents: Sequence[bytes]

    @classmethod
    def of(cls, contents: Sequence[bytes]) -> "_Photographs":
        labels = np.zeros(len(contents), np.int32)
        return cls(name="images", sample_shape=_SHAPE, classes=1, labels=labels, contents=contents)

    def stored(self, index: int) -> EncodedImage:
        return EncodedImage(f"photograph {index}", self.contents[index], ".jpg")

    def fingerprint(self) -> str:
        return digest(*self.contents)


def _ours() -> Side:
    def side(contents: Sequence[bytes]) -> None:
        data = _Photographs.of(contents)
        with Loader(data, evaluation(len(contents), _BATCH), augment=Augment.parse(_AUGMENT)) as loader:
            for _ in loader:
                pass

    return side


def _torchvision() -> Side:
    """Return its default path: Pillow decodes, crops and resizes; tensors are normalised."""
    transforms, torch = _torchvision_transforms()
    torch.set_num_threads(1)
    from PIL import Image  # noqa: PLC0415 -- an extra

    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(_SHAPE[1:]),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def side(contents: Sequence[bytes]) -> None:
        for content in contents:
            with Image.open(io.BytesIO(content)) as image:
                transform(image.convert("RGB"))

    return side


def _torchvision_transforms() -> tuple[Any, Any]:
    """Import torchvision, also where its compiled operators do not fit the PyTorch that is there.

    The wheel on PyPI is made for PyTorch with CUDA. Transforms of Pillow's images need none of the operators,
    but importing them wants their names to exist.
    """
    import torch  # noqa: PLC0415 -- an extra

    try:
        from torchvision import transforms  # noqa: PLC0415 -- an extra
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
            for each in (name, f"_{name}_backward"):
                library.define(f"{each}(Tensor a) -> Tensor")
        from torchvision import transforms  # noqa: PLC0415 -- an extra
    return transforms, torch


def _opencv() -> Side:
    """Return what loaders around OpenCV do; its resizing looks at four pixels only, also of many."""
    import cv2  # noqa: PLC0415 -- an extra

    cv2.setNumThreads(1)
    random = np.random.default_rng(0)
    mean, deviation = (255 * np.array(each, np.float32) for each in (IMAGENET_MEAN, IMAGENET_STD))

    def sample(content: bytes) -> None:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        left, upper, width, height = _part(image.shape[1], image.shape[0], random)
        image = cv2.resize(image[upper : upper + height, left : left + width], _SHAPE[1:])
        image = cv2.flip(image, 1) if random.random() < _HALF else image
        np.ascontiguousarray(((image - mean) / deviation).transpose(2, 0, 1))

    def side(contents: Sequence[bytes]) -> None:
        for content in contents:
            sample(content)

    return side


def _tensorflow() -> Side:
    """Return tf.data as its guide to ImageNet does it: only the part that is wanted is decoded."""
    import tensorflow as tf  # noqa: PLC0415 -- an extra

    mean, deviation = (255 * np.array(each, np.float32) for each in (IMAGENET_MEAN, IMAGENET_STD))

    def sample(content: Any) -> Any:
        shape = tf.io.extract_jpeg_shape(content)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape, bounding_boxes=tf.zeros((1, 0, 4)), use_image_if_no_bounding_boxes=True,
            aspect_ratio_range=(3 / 4, 4 / 3), area_range=(0.08, 1.0), max_attempts=10,
        )  # fmt: skip
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.io.decode_and_crop_jpeg(content, window, channels=3)
        image = tf.image.resize(image, _SHAPE[1:], antialias=True)
        image = tf.image.random_flip_left_right(image)
        return tf.transpose((image - mean) / deviation, (2, 0, 1))

    def side(contents: Sequence[bytes]) -> None:
        settings = tf.data.Options()
        settings.threading.private_threadpool_size = 1
        settings.threading.max_intra_op_parallelism = 1
        data = (
            tf.data.Dataset.from_tensor_slices(list(contents))
            .map(sample)
            .batch(_BATCH)
            .with_options(settings)
        )
        for _ in data:
            pass

    return side


def _part(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a part at random as torchvision draws it: left, upper, width, height."""
    for _ in range(10):
        area = width * height * random.uniform(0.08, 1)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if wide <= width and high <= height:
            return int(random.integers(width - wide + 1)), int(random.integers(height - high + 1)), wide, high
    return 0, 0, width, height


_SIDES: dict[str, Callable[[], Side]] = {
    "ours": _ours,
    "torchvision": _torchvision,
    "opencv": _opencv,
    "tf.data": _tensorflow,
}

if __name__ == "__main__":
    sys.exit(main())
