"""The command ``python -m engine.export``: hand a trained network on to other programs."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import sys
from collections.abc import Sequence

from comm import failure, terminal
from engine.config.command_line import Parser, add_best, add_overwrite
from engine.config.errors import MISTAKES, in_one_line
from engine.config.paths import expand
from engine.formats.hand_on import FORMATS, Export, format_of, hand_on
from engine.formats.names import shipped, tensor_shapes
from engine.formats.onnx_check import SAMPLES
from engine.formats.onnx_file import OPSET, OnnxOptions
from engine.formats.state_dict import asked_names
from engine.host.stop_signals import listening
from engine.run.output_place import check_output
from engine.trained.loading import load_model

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


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.export",
        description="Write a trained network as ONNX, as a state dict of PyTorch, or as safetensors.",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT_OR_RUN",
        help="a checkpoint, or its .safetensors; of a run the newest one",
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
    parser.add_argument(
        "--model", metavar="FILE.py:FUNCTION", default="", help="where your own network lies, if it has moved"
    )
    add_best(parser)
    add_overwrite(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        for line in _export(options):
            terminal.show(line)
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    return 0


def _export(options: argparse.Namespace) -> list[str]:
    path = expand(options.file, "file")
    form = format_of(path, options.to)
    given = (options.checkpoint, options.names, options.names_from)
    read = (expand(text, "file") for text in given if text)
    check_output(path, overwrite=options.overwrite, reads=read)
    model = load_model(options.checkpoint, best=options.best, model=options.model, batch=SAMPLES)
    onnx = OnnxOptions(options.softmax, options.preprocess, options.opset)
    names = asked_names(options.names, options.names_from, tensor_shapes(model.network))
    return hand_on(model.handed_on(), Export(path, form, names, onnx, options.overwrite))


if __name__ == "__main__":
    sys.exit(main())
