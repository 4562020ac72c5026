"""The command ``python -m engine.convert``: weights of other programs, by our names."""

from engine.host.beginning import begin

if __name__ == "__main__":  # before the other imports, which take longer than a Ctrl-C
    begin()

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from comm import failure, terminal
from engine.config.command_line import Parser, add_overwrite
from engine.config.errors import MISTAKES, UserError, in_one_line
from engine.config.files import write_whole, writing
from engine.config.options import add_model_argument, model_arguments
from engine.config.paths import expand
from engine.config.wording import counted
from engine.formats.names import shipped, tensor_shapes
from engine.formats.safetensors_file import safetensors_bytes
from engine.formats.state_dict import READERS, StateDict, asked_names, read_state_dict
from engine.host.stop_signals import listening
from engine.models import MODELS, build_model
from engine.run.finite import is_finite
from engine.run.output_place import check_output
from layers.layer import Array

_FILE = "model.safetensors"

_EPILOG = f"""\
examples:
  python -m engine.convert --from torch vgg11.pth --model vgg_a --out vgg11.safetensors
  python -m engine.convert --from torch mine.pth --model my_network.py:small_net --model-argument width=24 \\
                           --names my_names.toml
  python -m engine.convert --from safetensors theirs.safetensors --model vgg_a --model-argument classes=10

What is read: a state dict that torch.save wrote (torch 1.6 or later), also inside a checkpoint's
"state_dict" or "model"; nothing in the file is executed, and torch is not needed. float64, float16 and
bfloat16 become float32.

Names: those of the network, or of a table that comes along ({", ".join(shipped())}), or by order and
shape: the first of these that fits, and it is said which. --names gives a table: a TOML file with a line for
each node that has weights, conv1_1 = "features.0"; --names-from takes order and shapes from another file.

The file that is written is what --init takes. Exit codes: 0 done; 2 a mistake in what was given, and then no
file is written.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        alone=True,
        prog="python -m engine.convert",
        description="Read weights that PyTorch or safetensors saved, and write them by a network's names.",
        epilog=_EPILOG,
    )
    parser.add_argument("file", metavar="FILE", help="weights: a state dict")
    parser.add_argument("--from", dest="source", choices=READERS, help="its format; default by its ending")
    parser.add_argument(
        "--model",
        metavar="NAME",
        required=True,
        help=f"{', '.join(MODELS)}, or a function of yours: FILE.py:function",
    )
    add_model_argument(parser)
    parser.add_argument(
        "--out",
        metavar="DIR_OR_FILE",
        default=".",
        help=f"a folder, for {_FILE}, or a .safetensors file; default .",
    )
    parser.add_argument("--names", metavar="TABLE", help=f"{', '.join(shipped())}, or a TOML file")
    parser.add_argument(
        "--names-from",
        metavar="STATE",
        help="a .pth or .safetensors whose modules stand in the network's order",
    )
    add_overwrite(parser)
    return parser


@listening()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        for line in _convert(options):
            terminal.show(line)
    except MISTAKES as error:
        failure.say_error(in_one_line(error))
        return 2
    return 0


def _convert(options: argparse.Namespace) -> Iterator[str]:
    path, out = expand(options.file, "file"), _place(expand(options.out, "out"))
    named = (expand(text, "names") for text in (options.names, options.names_from) if text)
    check_output(out, overwrite=options.overwrite, reads=(path, *named))
    arguments = model_arguments(options)
    ours = tensor_shapes(build_model(options.model, arguments))
    theirs = read_state_dict(path, options.source)
    names = asked_names(options.names, options.names_from, ours) or theirs.fitting_names_of(ours)
    tensors = {name: _taken(name, shape, names.theirs[name], theirs) for name, shape in ours.items()}
    about = {"model": options.model, "model_arguments": json.dumps(arguments), "converted_from": path.name}
    with writing(out):
        write_whole(out, safetensors_bytes(tensors, about))
    yield f"{out}: {counted(len(tensors), 'tensor')} for {options.model}; names: {names.source}"
    for name in ours:
        yield f"  taken {name:<24} {list(ours[name])!s:<20} {names.theirs[name]}"
    taken = set(names.theirs.values())
    for name, shape in theirs.shapes.items():
        if name not in taken:
            yield f"  left  {name:<24} {list(shape)}"


def _place(out: Path) -> Path:
    return out if out.suffix == ".safetensors" and not out.is_dir() else out / _FILE


def _taken(name: str, shape: tuple[int, ...], called: str, theirs: StateDict) -> Array:
    got, path = theirs.tensors.get(called), theirs.path
    if got is None:
        raise UserError(f"{path}: holds no {called}, which {name} is to be")
    if got.shape != shape:
        raise UserError(
            f"{path}: holds {called} {list(got.shape)}; {name} of the network is {list(shape)}: another "
            "--model, or --model-argument such as classes=N"
        )
    if not is_finite(got):
        raise UserError(f"{path}: {called} is not finite, and no run can begin with it")
    return got


if __name__ == "__main__":
    sys.exit(main())
