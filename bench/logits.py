"""The command ``python -m bench.logits``: our logits beside those of ONNX Runtime and of PyTorch."""

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.drawn import drawn_model
from engine.config.recipe import Recipe
from engine.data.readers.image_file import image_endings, load_pillow, read_pixels
from engine.data.readers.normalise import Normalisation
from engine.data.readers.stored_images import GREY_MEAN, GREY_STD, IMAGENET_MEAN, IMAGENET_STD
from engine.formats.onnx_check import agreement, run_onnx
from engine.formats.onnx_file import OnnxOptions, onnx_bytes
from engine.formats.torch_writer import torch_bytes
from engine.formats.trained import Trained
from engine.graph import Graph
from engine.models import MODELS, build_model
from layers.layer import Array, Shape

TOLERANCE = 1e-4
"""Of the largest logit: what `engine.export` refuses beyond."""

_EPILOG = """\
examples:
  python -m bench.logits                          all networks that come along, on noise
  python -m bench.logits vgg_a --images photographs --samples 16

The same weights (the initial ones of a seed) and the same samples on all sides: ONNX Runtime reads the
file that `python -m engine.export` writes, PyTorch the state dict, with strict=True. Images are taken
from all over a folder, sized to each network's input and normalised as ImageNet is; a network that reads
other things gets noise.

difference: the largest of all logits, and divided by the largest logit of the minibatch. Then the largest
logit of the first sample, as each side has it. Exit code 1 where a difference is above 1e-4 of the largest
logit. Needs the extras export and bench, and data with --images.
"""

_HEADING = f"""\
{"":14} {"":9} {"ONNX Runtime":>20} {"PyTorch":>20}   largest logit of the first sample
{"model":14} {"input":9}{" difference    of max" * 2}{"ours":>12} {"ONNX Runtime":>13} {"PyTorch":>12}"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.logits",
        description="Compare the logits of this engine, ONNX Runtime and PyTorch.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"{', '.join(MODELS)}; default all of them"
    )
    parser.add_argument("--images", metavar="DIR", help="a folder of images; default noise")
    parser.add_argument("--samples", type=int, default=8, metavar="N", help="of each network; default 8")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the weights; default 1")
    machine.threads_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of text")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        rows = _rows(options, _samples(options))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    right = all(max(row["onnx_runtime"]["relative"], row["torch"]["relative"]) <= TOLERANCE for row in rows)
    if options.json:
        machine.print_json("logits", machine.describe(options.threads), tolerance=TOLERANCE, rows=rows)
    return 0 if right else 1


def _rows(options: argparse.Namespace, samples: Callable[[Shape], tuple[str, Array]]) -> list[dict[str, Any]]:
    if not options.json:
        print(_HEADING)
    rows = []
    for model in options.models or MODELS:
        rows.append(_row(model, options, samples))
        if not options.json:
            print(_line(rows[-1]), flush=True)
    return rows


def _samples(options: argparse.Namespace) -> Callable[[Shape], tuple[str, Array]]:
    """Return what makes samples of a shape, and says what they are; ValueError where it cannot."""
    for package, extra in (("onnx", "export"), ("onnxruntime", "export"), ("torch", "bench")):
        if find_spec(package) is None:
            raise ValueError(
                f"{package} is not installed; it comes with the extra: pip install -e '.[{extra}]'"
            )
    for model in options.models:
        if model not in MODELS:
            raise ValueError(f"model: got {model!r}; must be one of {', '.join(MODELS)}")
    if options.samples < 1:
        raise ValueError(f"samples: got {options.samples}; must be at least 1")
    noise = partial(_noise, options.samples)
    if options.images is None:
        return noise
    load_pillow()
    found = sorted(path for path in Path(options.images).rglob("*") if path.suffix.lower() in image_endings())
    if len(found) < options.samples:
        raise ValueError(f"images: {options.images} has {len(found)}; must be {options.samples} at least")
    chosen = found[:: len(found) // options.samples][: options.samples]
    return lambda shape: _images(chosen, shape) if len(shape) == 3 and shape[0] in (1, 3) else noise(shape)


def _noise(samples: int, shape: Shape) -> tuple[str, Array]:
    return "noise", np.random.default_rng(0).standard_normal((samples, *shape), dtype=np.float32)


def _images(paths: Sequence[Path], shape: Shape) -> tuple[str, Array]:
    channels, height, width = shape
    grey = channels == 1
    normalise = Normalisation.of(
        mean=GREY_MEAN if grey else IMAGENET_MEAN, std=GREY_STD if grey else IMAGENET_STD
    )
    x = np.empty((len(paths), *shape), np.float32)
    for path, sample in zip(paths, x, strict=True):
        normalise.apply(read_pixels(path, channels=channels, height=height, width=width), sample)
    return "images", x


def _row(
    model: str, options: argparse.Namespace, samples: Callable[[Shape], tuple[str, Array]]
) -> dict[str, Any]:
    network = build_model(model)
    given, x = samples(network.input_shape)
    recipe = Recipe(model=model, seed=options.seed)
    drawn = drawn_model(network, recipe, batch=len(x), threads=options.threads)
    tensors, ours = drawn.tensors, drawn(x)
    trained = Trained(network, tensors, drawn, {"model": model})
    content = onnx_bytes(trained, OnnxOptions())
    sides = {"onnx_runtime": run_onnx(content, x, options.threads)["logits"]}
    del drawn, trained, content  # a large network is here several times
    sides["torch"] = _torch(network, tensors, x, options.threads)
    top = int(ours[0].argmax())
    row: dict[str, Any] = {"model": model, "samples": len(x), "input": given, "ours": float(ours[0, top])}
    for side, logits in sides.items():
        found = agreement(logits, ours)
        row[side] = {
            "logit": float(logits[0, top]),
            "difference": found.difference,
            "relative": found.relative,
            "same_class": int((logits.argmax(axis=1) == ours.argmax(axis=1)).sum()),
        }
    return row


def _torch(network: Graph, tensors: dict[str, Array], x: Array, threads: int) -> Array:
    import torch  # noqa: PLC0415 -- an extra

    from bench import torch_side  # noqa: PLC0415 -- imports torch

    torch.set_num_threads(threads)
    module = torch_side.network(network)
    state = torch.load(io.BytesIO(torch_bytes(tensors)), weights_only=True)
    module.load_state_dict(state, strict=True)
    with torch.inference_mode():
        logits: Array = module.eval()(torch.from_numpy(x)).numpy()
    return logits


def _line(row: dict[str, Any]) -> str:
    sides = [row["onnx_runtime"], row["torch"]]
    differences = "".join(f" {side['difference']:10.2e} {side['relative']:9.1e}" for side in sides)
    logits = f"{row['ours']:12.6f} {sides[0]['logit']:13.6f} {sides[1]['logit']:12.6f}"
    return f"{row['model']:14} {row['samples']:2} {row['input']:6}{differences} {logits}"


if __name__ == "__main__":
    sys.exit(main())
