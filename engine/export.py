"""The command ``python -m engine.export``: hand a trained network on to other programs."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from comm import failure, terminal
from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.config.command_line import Parser, add_overwrite
from engine.config.errors import UserError
from engine.config.files import check_place
from engine.config.paths import expand
from engine.config.recipe import Recipe
from engine.data.loader import Batch
from engine.formats.hand_on import FORMATS, Export, format_of, hand_on
from engine.formats.names import Names, Shapes, read_names, shipped, tensor_shapes
from engine.formats.onnx_file import OPSET, OnnxOptions
from engine.formats.state_dict import read_state_dict
from engine.formats.trained import Preprocessing, Trained
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.host.stop_signals import listening
from engine.models import build_model
from engine.run.checkpoint import State, find_checkpoint, read_state, read_tensors, saved_recipe
from engine.run.kept_checkpoints import STATE
from engine.run.resumed_recipe import placed
from engine.training.rank import Rank, build_rank
from engine.training.rank_settings import settings_of
from engine.training.step import forward
from layers.kernels.threads import Threads
from layers.layer import Array, Context
from layers.layout import from_blocked

_EPILOG = """\
examples:
  python -m engine.export runs/digits digits.onnx                    the newest checkpoint of a run
  python -m engine.export runs/digits digits.onnx --preprocess --softmax
                                                     from pixels, uint8 [N, C, H, W], to probabilities
  python -m engine.export runs/vgg/checkpoints/step-00100000 vgg.pth --names torchvision:vgg11
  python -m engine.export runs/vgg vgg.safetensors --names my_names.toml

ONNX: input "input" [N, ...] with N free, output "logits" or "probabilities"; nodes and tensors have the
names of the network. The file says its opset, and as metadata class names, model, step, the hash of the
weights, and the mean and deviation of the preprocessing. onnx checks it, and ONNX Runtime, where it is
installed, runs it against the engine on random samples: a file whose logits differ by more than 1e-4 of the
largest is not written.

PyTorch: a state dict for load_state_dict(torch.load(FILE)); with --names its tensors are called as another
network calls them, so that strict=True accepts it. A table of names is a TOML file with a line for each node
that has weights: conv1_1 = "features.0".

Exit codes: 0 done; 2 a mistake in what was given, and then no file is written. Extra: export.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m engine.export",
        description="Write a trained network as ONNX, as a state dict of PyTorch, or as safetensors.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT_OR_RUN", help="a checkpoint, or a run's folder: its newest"
    )
    parser.add_argument(
        "file", metavar="FILE", help="to write: .onnx, .pth, .pt or .safetensors says which format"
    )
    parser.add_argument("--to", choices=FORMATS, help="the format, whatever the file is called")
    parser.add_argument("--softmax", action="store_true", help="ONNX: give probabilities instead of logits")
    parser.add_argument(
        "--preprocess", action="store_true", help="ONNX: read pixels, and normalise them inside"
    )
    parser.add_argument(
        "--opset", type=int, default=OPSET, metavar="N", help=f"ONNX: version of operators; default {OPSET}"
    )
    parser.add_argument(
        "--names", metavar="TABLE", help=f"other names for tensors: {', '.join(shipped())}, or a TOML file"
    )
    parser.add_argument(
        "--names-from",
        metavar="STATE",
        help="or those of a .pth or .safetensors, by the order and shapes of its modules",
    )
    add_overwrite(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        for line in _export(options):
            terminal.show(line)
    except UserError as error:
        failure.say_error(str(error))
        return 2
    return 0


def _export(options: argparse.Namespace) -> list[str]:
    path = expand(options.file, "file")
    form = format_of(path, options.to)
    check_place(path, overwrite=options.overwrite)
    trained = load_trained(options.checkpoint)
    names = _names(options, tensor_shapes(trained.network))
    onnx = OnnxOptions(options.softmax, options.preprocess, options.opset)
    return hand_on(trained, Export(path, form, names, onnx, options.overwrite))


def _names(options: argparse.Namespace, ours: Shapes) -> Names | None:
    if options.names is not None and options.names_from is not None:
        raise UserError("names: got --names and --names-from; must be one of them")
    if options.names_from is not None:
        return read_state_dict(expand(options.names_from, "names-from")).names_of(ours)
    return None if options.names is None else read_names(options.names, ours)


def load_trained(checkpoint: str) -> Trained:
    """Return the trained network of a checkpoint, or of the newest one of a run's folder.

    Raises
    ------
    UserError
        There is no checkpoint, it cannot be read, or it holds another network.
    """
    folder = find_checkpoint(expand(checkpoint, "checkpoint"))
    state = read_state(folder)
    recipe = saved_recipe(folder, state)
    unread = {"data": recipe.data, "cluster": recipe.cluster}
    recipe = placed(recipe, state.started_in, unread)
    network = build_model(recipe.model, recipe.model_arguments)
    tensors = read_tensors(folder, network)
    return Trained(
        network,
        tensors,
        partial(_logits, network, recipe, tensors),
        _about(recipe, state) | {"weights_sha256": _weights_sha256(network, tensors)},
        Preprocessing.of_checkpoint(state.normalisation, folder / STATE),
    )


def _about(recipe: Recipe, state: State) -> dict[str, str]:
    return {
        "model": recipe.model,
        "model_arguments": json.dumps(recipe.model_arguments),
        "class_names": json.dumps(state.class_names),
        "step": str(state.step),
    }


def _weights_sha256(network: Graph, tensors: Mapping[str, Array]) -> str:
    """Return the hash that `run.json` has of these weights."""
    parameters = {node.name: node.layer.parameters(*network.input_shapes(node)) for node in network}
    digest = hashlib.sha256()
    for name in sorted(f"{node}.{name}" for node, described in parameters.items() for name in described):
        digest.update(np.ascontiguousarray(tensors[name], "<f4").data)
    return digest.hexdigest()


def _logits(network: Graph, recipe: Recipe, tensors: dict[str, Array], x: Array) -> Array:
    """Return the logits of a checkpoint's weights; the memory for it is gone afterwards."""
    rank = build_alone(network, recipe, len(x))
    rank.parameters.restore(tensors)
    rank.states.restore(tensors)
    return logits_of(rank, x)


def build_alone(network: Graph, recipe: Recipe, samples: int, threads: int = 0) -> Rank:
    """Return a network with its memory on this process alone, for minibatches of so many samples.

    Parameters
    ----------
    threads
        Kernel threads; 0: as many as this process has cores.
    """
    settings = settings_of(recipe, threads or len(os.sched_getaffinity(0)))
    plan = Plan()
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 1)), plan.parts)
    return build_rank(network, replace(settings, batch=samples), plan, grid, InlineCommThread())


def logits_of(rank: Rank, x: Array) -> Array:
    """Return the logits, float32 [N, classes], of a whole minibatch of a rank that `build_alone` made."""
    absent = np.full(len(x), -1)
    threads = Threads(rank.settings.threads)
    try:
        forward(rank, Batch(x, absent.astype(np.int32), absent, epoch=0), Context(threads, training=False))
    finally:
        threads.close()
    return from_blocked(rank.memory.output, rank.graph.output_shape)


if __name__ == "__main__":
    sys.exit(main())
