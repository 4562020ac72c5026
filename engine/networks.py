"""The command ``python -m engine.models``: the networks that come along, and what one of them costs."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from comm import failure, terminal
from comm.tree import Tree
from engine.config.command_line import Parser
from engine.config.errors import MISTAKES, in_one_line
from engine.config.options import add_model_argument, model_arguments
from engine.graph import Graph, Node
from engine.graph.parallel.plan import Plan
from engine.host.stop_signals import listening
from engine.models import MODELS, build_model
from engine.training.planned_memory import planned_memory
from engine.training.rank_settings import RankSettings
from engine.training.storage import Storage
from layers.layer import Shape

_EPILOG = """\
examples:
  python -m engine.models                          the networks that come along
  python -m engine.models vgg_a                    one of them, layer by layer
  python -m engine.models vgg_a --model-argument classes=10
  python -m engine.models my_network.py:net --json

FLOP are those of direct convolutions, a multiply-add as two; a training step has up to three passes over a
layer. Memory is what training holds for a sample: the values of all layers and their gradients, with layers
fused and storage shared as in a run. Nothing is computed.

Exit codes: 0 done, 2 a mistake in what was given.
"""

_SAMPLES = 64  # of the minibatch whose memory is counted
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Layer:
    """One layer of a network, as its model function writes it."""

    name: str
    kind: str
    output: Shape
    parameters: int
    forward_flop: int
    step_flop: int
    output_bytes: int


@dataclass(frozen=True)
class Network:
    """What a network costs, for one sample."""

    name: str
    input: Shape
    outputs: int
    parameters: int
    forward_flop: int
    step_flop: int
    """Of all passes that training runs: no gradient is computed of what no parameter has a part in."""
    sample_bytes: int
    """Of values and their gradients."""
    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, name: str, graph: Graph) -> "Network":
        """Describe a network."""
        storage = Storage(graph, dict.fromkeys(graph.shapes, 1))
        layers = tuple(_layer(graph, node, storage) for node in graph)
        settings = RankSettings(_SAMPLES, 1)
        planned = planned_memory(graph, settings, Plan(), Tree.of(1, 1), 0)
        return cls(
            name,
            graph.input_shape,
            graph.output_shape[0],
            graph.parameter_count(),
            sum(layer.forward_flop for layer in layers),
            sum(layer.step_flop for layer in layers),
            planned.values // _SAMPLES,
            layers,
        )

    def to_json(self, *, layers: bool) -> dict[str, Any]:
        """Return all fields; those of the layers where they are wanted."""
        fields = asdict(self)
        return fields if layers else {name: value for name, value in fields.items() if name != "layers"}

    def lines(self) -> list[str]:
        """Return the network and a table of its layers as lines of text."""
        rows = [("layer", "", "output", "parameters", "MFLOP", "a step", "MB of output")]
        rows += [
            (
                layer.name,
                layer.kind,
                _shape(layer.output),
                f"{layer.parameters:,}" if layer.parameters else "",
                f"{layer.forward_flop / 1e6:,.2f}" if layer.forward_flop else "",
                f"{layer.step_flop / 1e6:,.2f}" if layer.step_flop else "",
                f"{layer.output_bytes / 1e6:.3f}",
            )
            for layer in self.layers
        ]
        return [
            f"{self.name}: reads {_shape(self.input)}, {self.outputs:,} outputs, "
            f"{self.parameters:,} parameters",
            f"{_giga(self.forward_flop)} GFLOP a sample, {_giga(self.step_flop)} in training; "
            f"{self.sample_bytes / 1e6:,.2f} MB a sample in training",
            "",
            *_table(rows, left=3),
        ]


def networks() -> list[Network]:
    """Describe the networks that come along."""
    return [Network.of(name, build_model(name)) for name in MODELS]


def listed(found: Sequence[Network]) -> list[str]:
    """Return networks as lines of text, one each."""
    rows = [("network", "input", "outputs", "parameters", "GFLOP", "a step", "MB a sample")]
    rows += [
        (
            each.name,
            _shape(each.input),
            f"{each.outputs:,}",
            f"{each.parameters:,}",
            _giga(each.forward_flop),
            _giga(each.step_flop),
            f"{each.sample_bytes / 1e6:,.2f}",
        )
        for each in found
    ]
    return _table(rows, left=2)


def _layer(graph: Graph, node: Node, storage: Storage) -> Layer:
    inputs, output = graph.input_shapes(node), graph.shapes[node.outputs[0]]
    parameters = node.layer.parameters(*inputs).values()
    passes = 1 + any(each.rate_factor > 0 for each in parameters) + storage.wants_gradient(node)
    flop = node.layer.flops(*inputs)
    return Layer(
        node.name,
        type(node.layer).__name__,
        output,
        sum(math.prod(each.shape) for each in parameters),
        flop,
        passes * flop,
        _FLOAT * math.prod(output),
    )


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _giga(count: float) -> str:
    """Format GFLOP with three digits, but no fewer than the whole ones."""
    giga = count / 1e9
    return f"{giga:,.{max(0, 2 - math.floor(math.log10(giga))) if 0 < giga < 100 else 0}f}"


def _table(rows: Sequence[Sequence[str]], *, left: int) -> list[str]:
    """Return rows with their columns aligned, the first so many to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m engine.models",
        description="List the networks that come along, with parameters, arithmetic and memory.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "model",
        nargs="?",
        metavar="NAME",
        help=f"show the layers of this one: {', '.join(MODELS)}, or FILE.py:function",
    )
    add_model_argument(parser)
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.model is None and options.model_argument:
        parser.error("--model-argument: is one of a network; name it")
    try:
        if options.model is None:
            found = networks()
            told: Any = [each.to_json(layers=False) for each in found]
            lines = listed(found)
        else:
            one = Network.of(options.model, build_model(options.model, model_arguments(options)))
            told, lines = one.to_json(layers=True), one.lines()
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    terminal.show(json.dumps(told, indent=2) if options.json else "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
