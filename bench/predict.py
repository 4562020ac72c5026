"""The command ``python -m bench.predict``: what predicting costs beside the forward pass alone."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bench import machine
from bench.options import minibatch, model_option
from comm.tree import ceil_div
from engine.config.recipe import Recipe
from engine.data.loader import Batch
from engine.data.readers.normalise import Normalisation
from engine.data.readers.stored_images import IMAGENET_MEAN, IMAGENET_STD
from engine.data.readers.synthetic import Synthetic
from engine.models import build_model
from engine.run.state import State
from engine.trained.batch_size import filling_batch
from engine.trained.batches import filled
from engine.trained.model import Model
from engine.trained.samples import Sample
from engine.training.step import forward
from layers.layer import Array

_EPILOG = """\
examples:
  python -m bench.predict cifar10                  many small samples: what each costs beside the network
  python -m bench.predict vgg_a --samples 128      few large ones

Forward: the network on a batch that lies in memory. Arrays: what engine.predict does with an array, to names
and probabilities. Images: the same with JPEG files of the network's own input size. Reading: these files
without the network. It takes the same cores: at best, images take as long as forward and reading together,
which is the bound; it is near forward where reading is not the limit. In turns, in one process; medians.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.predict",
        description="Compare predicting with the forward pass alone, in samples a second.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    model_option(parser)
    parser.add_argument("--samples", type=int, default=2048, metavar="N", help="of a round; default 2048")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each; default 5")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        minibatch(options.model, None)
        if options.samples < 1 or options.rounds < 1:
            raise ValueError("samples, rounds: must be at least 1")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    model = _model(options.model, options.minibatch, options.threads)
    with tempfile.TemporaryDirectory() as folder:
        rates = _rates(model, Path(folder), options.samples, options.rounds)
    shares = {name: rates[name] / rates["forward"] for name in rates if name != "forward"}
    if options.json:
        machine.print_json(
            "predict",
            machine.describe(options.threads),
            model=options.model,
            batch=model.batch,
            samples_per_second=rates,
            share_of_forward=shares,
        )
        return 0
    print(f"{options.model}, batch {model.batch}, {model.threads} threads:")
    for name, rate in rates.items():
        share = f"  {shares[name]:.3f} of forward" if name in shares else ""
        print(f"  {name:<8} {rate:>10,.1f} samples/s{share}")
    return 0


def _model(name: str, batch: int | None, threads: int) -> Model:
    """Return a network with weights as drawn for training, and ImageNet's preprocessing."""
    network = build_model(name)
    random, tensors = np.random.default_rng(1), dict[str, Array]()
    for node in network:
        for parameter, described in node.layer.parameters(*network.input_shapes(node)).items():
            noise = random.standard_normal(described.shape, np.float32)
            tensors[f"{node.name}.{parameter}"] = noise * np.float32(described.variance**0.5)
    shape = network.input_shape
    channels = shape[0] if len(shape) == 3 else 0
    images = Normalisation.of(mean=IMAGENET_MEAN[:channels], std=IMAGENET_STD[:channels])
    state = State(
        0, "", "", normalisation=images.to_json(), preprocessing=images.preprocessing(shape, size="cover")
    )
    return Model(
        Path(), state, Recipe(model=name), network, tensors, batch or filling_batch(network), threads
    )


def _rates(model: Model, folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Return samples a second of each side."""
    shape = model.network.input_shape
    noise = Synthetic.make(shape, classes=10, length=count, seed=1)
    x = np.empty((count, *shape), np.float32)
    for index in range(count):
        noise.read(index, x[index])
    sides: dict[str, Callable[[], int]] = {
        "forward": lambda: _forward(model, np.resize(x, (model.batch, *shape)), count),
        "arrays": lambda: len(list(model.predictions(model.reading.samples_of(x), top=5))),
    }
    if len(shape) == 3:
        files = _written(x, folder)
        samples = model.reading.samples_in(files)
        sides["images"] = lambda: len(list(model.predictions(samples, top=5)))
        sides["reading"] = lambda: _read(model, samples)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    for _ in range(rounds):
        for name, work in sides.items():
            begun = time.perf_counter()
            done = work()
            seconds[name].append((time.perf_counter() - begun) / done)
    rates = {name: 1 / statistics.median(each) for name, each in seconds.items()}
    if "reading" in rates:
        rates["bound"] = 1 / (1 / rates["forward"] + 1 / rates["reading"])
    return rates


def _forward(model: Model, x: Array, count: int) -> int:
    """Put a batch through the network until there have been so many samples; return how many."""
    rank, context = model._rank
    absent = np.full(model.batch, -1)
    batch = Batch(x, absent.astype(np.int32), absent, epoch=0)
    for _ in range(ceil_div(count, model.batch)):
        forward(rank, batch, context)
    return ceil_div(count, model.batch) * model.batch


def _written(x: Array, folder: Path) -> list[Path]:
    """Write samples as images."""
    from PIL import Image  # noqa: PLC0415 -- an extra

    files = []
    for index, sample in enumerate(x):
        pixels = np.clip(sample * 48 + 128, 0, 255).astype(np.uint8).transpose(1, 2, 0)
        files.append(folder / f"{index}.jpg")
        Image.fromarray(pixels.squeeze()).save(files[-1])
    return files


def _read(model: Model, samples: Sequence[Sample]) -> int:
    batches = filled(samples, model.network.input_shape, batch=model.batch, threads=model.threads)
    return sum(len(each.samples) for each in batches)


if __name__ == "__main__":
    sys.exit(main())
