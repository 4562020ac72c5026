"""The convert command."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from engine.convert import main
from engine.formats.names import read_names, tensor_shapes
from engine.formats.torch_writer import torch_bytes
from engine.lockstep_command import main as lockstep
from engine.models import build_model
from tests.engine.broken_disk import BrokenDisk

SHAPES = tensor_shapes(build_model("digits"))


def drawn(shapes):
    generator = np.random.default_rng(1)
    return {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


WEIGHTS = drawn(SHAPES)


def placed(tensors):
    """Return the tensors under the names of an nn.Sequential: 0.weight, 1.weight, ..."""
    places = {node: index for index, node in enumerate(dict.fromkeys(name.split(".")[0] for name in tensors))}
    return {f"{places[name.split('.')[0]]}.{name.split('.')[1]}": each for name, each in tensors.items()}


def assert_written(path, tensors=WEIGHTS):
    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor)


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.pth"
    path.write_bytes(torch_bytes(placed(WEIGHTS)))
    return path


def test_a_state_dict_of_pytorch_becomes_our_weights(tmp_path, theirs, capsys):
    assert main(["--from", "torch", str(theirs), "--model", "digits", "--out", str(tmp_path)]) == 0
    out = tmp_path / "model.safetensors"
    assert_written(out)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{out}: 10 tensors for digits; names: order and shape in {theirs}"
    assert lines[1].split() == ["taken", "conv1.weight", "[32,", "1,", "3,", "3]", "0.weight"]
    assert len(lines) == 11
    with safe_open(out, "numpy") as file:
        assert file.metadata() == {
            "format": "pt", "model": "digits", "model_arguments": "{}", "converted_from": "theirs.pth"
        }  # fmt: skip


def test_arguments_of_the_model_are_passed_on(tmp_path):
    weights = drawn(tensor_shapes(build_model("digits", {"classes": 3})))
    (tmp_path / "theirs.pt").write_bytes(torch_bytes(weights))
    out = tmp_path / "mine.safetensors"
    asked = [
        str(tmp_path / "theirs.pt"),
        "--model",
        "digits",
        "--model-argument",
        "classes=3",
        "--out",
        str(out),
    ]
    assert main(asked) == 0
    assert_written(out, weights)
    with safe_open(out, "numpy") as file:
        assert json.loads(file.metadata()["model_arguments"]) == {"classes": 3}


def test_a_table_that_comes_along_is_found(tmp_path, capsys):
    arguments = {"image": [3, 32, 32], "classes": 2}
    ours = tensor_shapes(build_model("vgg_a", arguments))
    names = read_names("torchvision:vgg11", ours).theirs
    path, out = tmp_path / "vgg11.pth", tmp_path / "vgg.safetensors"
    path.write_bytes(torch_bytes({names[name]: np.zeros(shape, np.float32) for name, shape in ours.items()}))
    asked = ["--model-argument", "image=[3, 32, 32]", "--model-argument", "classes=2", "--out", str(out)]
    assert main([str(path), "--model", "vgg_a", *asked]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("22 tensors for vgg_a; names: torchvision:vgg11")


def test_what_the_network_has_no_place_for_is_left(tmp_path, capsys):
    path = tmp_path / "theirs.safetensors"
    save_file({**WEIGHTS, "extra.weight": np.zeros((2, 3), np.float32)}, path)
    out = tmp_path / "ours.safetensors"
    assert main(["--from", "safetensors", str(path), "--model", "digits", "--out", str(out)]) == 0
    assert_written(out)
    assert capsys.readouterr().out.splitlines()[-1].split() == ["left", "extra.weight", "[2,", "3]"]


def test_names_are_those_of_a_table_or_of_another_file(tmp_path, theirs):
    places = dict(zip(("conv1", "conv2", "conv3", "fc4", "fc5"), range(5), strict=True))
    table = tmp_path / "names.toml"
    table.write_text("\n".join(f'{node} = "{place}"' for node, place in places.items()))
    shuffled = tmp_path / "shuffled.safetensors"  # its order says nothing
    save_file(placed(WEIGHTS), shuffled)
    for number, names in enumerate((["--names", str(table)], ["--names-from", str(theirs)])):
        out = tmp_path / f"{number}.safetensors"
        assert main([str(shuffled), "--model", "digits", *names, "--out", str(out)]) == 0
        assert_written(out)


def refused(capsys, *arguments) -> str:
    """Run the command, which must end with code 2 and one line; return that."""
    assert main([*map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("error: ")


def test_what_is_wrong_is_one_line_and_leaves_nothing(tmp_path, theirs, capsys):
    there = tmp_path / "there.safetensors"
    there.write_text("mine")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(theirs.read_bytes()[:1000])
    less = tmp_path / "less.pth"
    less.write_bytes(torch_bytes(dict(list(WEIGHTS.items())[:-2])))
    other = tmp_path / "other.pth"
    other.write_bytes(torch_bytes({**WEIGHTS, "fc5.weight": np.zeros((7, 128), np.float32)}))
    endless = tmp_path / "endless.pth"
    endless.write_bytes(torch_bytes({**WEIGHTS, "fc5.bias": np.full(10, np.inf, np.float32)}))
    before = sorted(tmp_path.iterdir())
    model, out = ("--model", "digits"), ("--out", tmp_path / "new.safetensors")
    for arguments, said in (
        ((tmp_path / "gone.pth", *model, *out), "gone.pth: cannot be read: No such file or directory"),
        ((cut, *model, *out), "cut.pth: is cut or damaged: File is not a zip file"),
        ((there, *model, *out), "there.safetensors: cannot be read as safetensors"),
        ((theirs, "--from", "safetensors", *model, *out), "theirs.pth: cannot be read as safetensors"),
        ((there, "--from", "torch", *model, *out), "there.safetensors: is neither a zip file nor a pickle"),
        (
            (theirs, "--model", "mnist", *out),
            "has 5 modules with tensors; must be the 4 of the network; or give",
        ),
        ((theirs, "--model", "digit", *out), 'model: got "digit" (did you mean "digits"?)'),
        ((less, *model, *out), "has 4 modules with tensors; must be the 5 of the network"),
        (
            (less, *model, "--names-from", theirs, *out),
            "less.pth: holds no 0.weight, which conv1.weight is to be",
        ),
        ((other, *model, *out), "holds fc5.weight [7, 128]; fc5.weight of the network is [10, 128]: another"),
        ((endless, *model, *out), "endless.pth: fc5.bias is not finite, and no run can begin with it"),
        ((theirs, *model, "--out", tmp_path / "no" / "new.safetensors"), "there is no folder"),
        ((theirs, *model, "--out", tmp_path / "no"), "there is no folder"),
        ((theirs, *model, "--out", there), "there.safetensors: exists; give another name, or --overwrite"),
        ((theirs, *model, "--names", "a", "--names-from", "b", *out), "must be one of them"),
        ((tmp_path / "names.txt", *model, *out), "its ending says no format; must be one of .pth, "),
    ):
        assert said in refused(capsys, *arguments), arguments
        assert sorted(tmp_path.iterdir()) == before, arguments
    assert there.read_text() == "mine"
    assert main([*map(str, (theirs, *model, "--out", there, "--overwrite"))]) == 0
    assert_written(there)


def test_neither_what_is_read_nor_a_checkpoint_is_written_over(tmp_path, capsys):
    there, names = tmp_path / "there.safetensors", tmp_path / "names.toml"
    save_file(WEIGHTS, there)
    names.write_text(
        "\n".join(f'{node} = "{node}"' for node in dict.fromkeys(n.split(".")[0] for n in SHAPES))
    )
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/state.json").write_text("{}")
    for out, said in (
        (there, "is what is read here, and is not written over; give another name"),
        (tmp_path / "checkpoint", "is a file of a run, which no other takes the place of; give another name"),
    ):
        given = [str(there), "--model", "digits", "--out", str(out), "--overwrite", "--names", str(names)]
        assert main(given) == 2
        assert capsys.readouterr().err.endswith(f"{said}\n")
    assert_written(there)
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["state.json"]


def test_weights_that_do_not_fit_into_memory_are_one_line(tmp_path, theirs, capsys, monkeypatch):
    class PanicException(BaseException):
        pass

    def panics(*_):
        raise PanicException("PyObject pointer is null")

    monkeypatch.setattr("engine.formats.safetensors_file.save", panics)
    out = tmp_path / "new.safetensors"
    said = refused(capsys, theirs, "--model", "digits", "--out", out)
    assert said == "memory: safetensors: PyObject pointer is null"
    assert list(tmp_path.iterdir()) == [theirs]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, theirs, capsys, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    with monkeypatch.context() as patch:
        BrokenDisk(out, breaks_at=2, kind="full").install(patch)
        said = refused(capsys, theirs, "--model", "digits", "--out", out)
    assert said == f"{out / 'model.safetensors'}: cannot be written: {os.strerror(errno.ENOSPC)}"
    assert list(out.iterdir()) == []


def test_the_command_starts_as_a_module_and_by_name(tmp_path, theirs):
    asked = [str(theirs), "--model", "digits", "--out", str(tmp_path), "--overwrite"]
    done = subprocess.run(
        [sys.executable, "-m", "engine.convert", *asked], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert lockstep(["convert", *asked]) == 0
