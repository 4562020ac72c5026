"""Write a trained network for other programs: ONNX, a file of PyTorch, or safetensors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.config.errors import UserError
from engine.config.files import check_place, write_whole, writing
from engine.config.wording import counted, one_of, printable
from engine.formats.names import Names, own_names, tensor_shapes
from engine.formats.onnx_check import can_check, check_onnx
from engine.formats.onnx_file import OnnxOptions, onnx_bytes
from engine.formats.safetensors_file import safetensors_bytes
from engine.formats.torch_writer import torch_bytes
from engine.formats.trained import Trained
from layers.layer import Array
from layers.precision import FP32, stated_in

ENDINGS = {".onnx": "onnx", ".pth": "torch", ".pt": "torch", ".safetensors": "safetensors"}
"""Formats by the ending of the file."""
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))


@dataclass(frozen=True)
class Export:
    """What is asked for."""

    path: Path
    format: str
    names: Names | None = None
    """Of tensors; None: the network's own. Only for files of weights."""
    onnx: OnnxOptions = OnnxOptions()  # noqa: RUF009 -- it is frozen
    overwrite: bool = False


def format_of(path: Path, asked: str | None) -> str:
    """Return the format that was asked for, or that the ending of a file says.

    Raises
    ------
    UserError
        There is no such format.
    """
    if asked is not None:
        if asked not in FORMATS:
            raise UserError(f'to: got "{asked}"; {one_of(FORMATS)}')
        return asked
    if path.suffix not in ENDINGS:
        raise UserError(
            f"{path}: its ending says no format; {one_of(ENDINGS)}, or give --to {'|'.join(FORMATS)}"
        )
    return ENDINGS[path.suffix]


def hand_on(trained: Trained, export: Export) -> list[str]:
    """Write the file, whole or not at all, and return lines that say what it is.

    Raises
    ------
    UserError
        What cannot be: see `onnx_bytes` and `check_onnx`; or the file cannot be written.
    """
    check_place(export.path, overwrite=export.overwrite)
    about = {name: printable(text) for name, text in trained.about.items()}  # it is to be UTF-8
    trained = replace(trained, about=about)
    content, lines = _CONTENTS[export.format](trained, export)
    with writing(export.path):
        write_whole(export.path, content)
    if (precision := stated_in(about)) != FP32:
        lines.append(f"trained with products of {precision}: what is handed on is fp32, as the weights are")
    return [f"{export.path}: {lines[0]}, {len(content) / 1e6:.1f} MB", *lines[1:]]


def _onnx(trained: Trained, export: Export) -> tuple[bytes, list[str]]:
    if export.names is not None:
        raise UserError(
            "names: an ONNX file keeps the names of the network; only for --to torch or safetensors"
        )
    content = onnx_bytes(trained, export.onnx)
    network, options = trained.network, export.onnx
    given = f"input {'uint8' if options.preprocess else 'float32'} [N, {_listed(network.input_shape)}]"
    made = f"{'probabilities' if options.softmax else 'logits'} [N, {_listed(network.output_shape)}]"
    lines = [f"ONNX, opset {options.opset}", f"{given} -> {made}, N is free; checked by onnx"]
    if can_check():
        found = check_onnx(content, trained, options)
        lines.append(
            f"ONNX Runtime agrees with the engine: largest difference {found.difference:.2e}, "
            f"{found.relative:.1e} of the largest logit"
        )
    else:
        lines.append("not compared with the engine: pip install 'lockstep-sgd[export]' brings ONNX Runtime")
    return content, lines


def _torch(trained: Trained, export: Export) -> tuple[bytes, list[str]]:
    tensors, names = _renamed(trained, export)
    return torch_bytes(tensors), [
        f"a state dict of PyTorch, {counted(len(tensors), 'tensor')}",
        f"names: {names.source}",
    ]


def _safetensors(trained: Trained, export: Export) -> tuple[bytes, list[str]]:
    tensors, names = _renamed(trained, export)
    content = safetensors_bytes(tensors, {**trained.about, **trained.explained})
    return content, [f"safetensors, {counted(len(tensors), 'tensor')}", f"names: {names.source}"]


def _renamed(trained: Trained, export: Export) -> tuple[dict[str, Array], Names]:
    if export.onnx != OnnxOptions():
        raise UserError(
            "softmax, preprocess and opset: only an ONNX file holds the network; not a file of weights"
        )
    names = export.names or own_names(tensor_shapes(trained.network))
    return {theirs: trained.tensors[ours] for ours, theirs in names.theirs.items()}, names


def _listed(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


_CONTENTS: dict[str, Callable[[Trained, Export], tuple[bytes, list[str]]]] = {
    "onnx": _onnx,
    "torch": _torch,
    "safetensors": _safetensors,
}
