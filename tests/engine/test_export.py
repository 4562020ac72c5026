"""The export command, on the runs that the train command leaves."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from comm.threads import single_rank
from engine.config.errors import UserError
from engine.export import main
from engine.formats.onnx_check import run_onnx
from engine.formats.safetensors_file import read_safetensors
from engine.formats.torch_file import read_torch
from engine.lockstep_command import main as lockstep
from engine.run.finding import find_checkpoint
from engine.run.launch import run as train
from engine.run.start import new_run
from engine.trained.loading import load_model
from tests.engine.trained.test_loading import with_another_best

onnx = pytest.importorskip("onnx", reason="extra: export")
pytest.importorskip("onnxruntime", reason="extra: export")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of a finished run, and its results."""
    folder = tmp_path_factory.mktemp("run") / "digits"
    asked = {"epochs": 0, "steps": 4, "batch": 64, "threads": 1, "out": str(folder)}
    return folder, train(single_rank(), lambda: new_run("digits", asked))


def test_a_run_becomes_an_onnx_file(done, tmp_path, capsys):
    folder, results = done
    path = tmp_path / "digits.onnx"
    assert main([str(folder), str(path)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{path}: ONNX, opset 17, 0.")
    assert lines[1] == "input float32 [N, 1, 8, 8] -> logits [N, 10], N is free; checked by onnx"
    assert lines[2].startswith("ONNX Runtime agrees with the engine: largest difference ")
    about = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert about["weights_sha256"] == results["weights_sha256"]
    assert json.loads(about["class_names"]) == [*"0123456789"]
    assert (about["model"], about["step"], about["opset"]) == ("digits", "4", "17")
    assert json.loads(about["preprocessing"])["mean"] == [pytest.approx(4.872)]


def test_from_pixels_to_probabilities_in_one_file(done, tmp_path):
    path = tmp_path / "digits.onnx"
    assert main([str(done[0]), str(path), "--preprocess", "--softmax", "--opset", "15"]) == 0
    pixels = np.random.default_rng(1).integers(0, 17, (3, 1, 8, 8), np.uint8)
    results = run_onnx(path.read_bytes(), pixels)
    assert list(results) == ["probabilities"]
    np.testing.assert_allclose(results["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert onnx.load(path).opset_import[0].version == 15


def test_weights_become_a_state_dict(done, tmp_path, capsys):
    checkpoint = find_checkpoint(done[0])
    weights = load_file(checkpoint / "model.safetensors")
    assert main([str(checkpoint), str(tmp_path / "digits.pth")]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "names: the network's own names"
    assert main([str(checkpoint), str(tmp_path / "weights"), "--to", "safetensors"]) == 0
    for found in (read_torch(tmp_path / "digits.pth"), read_safetensors(tmp_path / "weights")):
        assert found.keys() == weights.keys()
        for name, tensor in weights.items():
            np.testing.assert_array_equal(found[name], tensor)
    assert list(read_torch(tmp_path / "digits.pth"))[:3] == ["conv1.weight", "conv1.bias", "conv2.weight"]


def test_a_module_of_pytorch_loads_it_with_its_own_names(done, tmp_path):
    torch = pytest.importorskip("torch", reason="extra: bench")
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    out = tmp_path / "ours.pth"
    assert main([str(done[0]), str(out), "--names-from", str(tmp_path / "theirs.pth")]) == 0
    module.load_state_dict(torch.load(out, weights_only=True), strict=True)
    x = np.random.default_rng(2).standard_normal((2, 1, 8, 8), dtype=np.float32)
    main([str(done[0]), str(tmp_path / "ours.onnx")])
    wanted = run_onnx((tmp_path / "ours.onnx").read_bytes(), x)["logits"]
    with torch.inference_mode():
        found = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_the_best_checkpoint_is_exported_by_saying_so(digits_run, tmp_path, capsys):
    run, _ = with_another_best(digits_run, tmp_path)
    assert main([str(run), str(tmp_path / "m.safetensors"), "--best"]) == 0
    assert capsys.readouterr().err == ""
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert file.metadata()["step"] == "44"


def refused(capsys, *arguments) -> str:
    """Run the command, which must end with code 2 and one line; return that."""
    assert main([*map(str, arguments)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line.removeprefix("error: ")


def test_what_is_wrong_is_one_line_and_leaves_nothing(done, tmp_path, capsys):
    folder, out = done[0], tmp_path / "model.onnx"
    empty = tmp_path / "empty"
    empty.mkdir()
    there = tmp_path / "there.onnx"
    there.write_text("mine")
    names = tmp_path / "names.toml"
    names.write_text('conv1 = "features.0"\n')
    before = sorted(tmp_path.iterdir())
    for arguments, said in (
        ((empty, out), "holds no checkpoint"),
        ((tmp_path / "gone", out), "gone holds no checkpoint"),
        ((folder, tmp_path / "no" / "model.onnx"), "there is no folder"),
        ((folder, there), "there.onnx: exists; give another name, or --overwrite"),
        ((folder, empty, "--to", "onnx"), "is a folder; give the name of a file"),
        ((folder, tmp_path / "model.xyz"), "its ending says no format"),
        ((folder, out, "--opset", "3"), "opset: got 3; must be from 11 to"),
        ((folder, tmp_path / "m.pth", "--softmax"), "only an ONNX file holds the network"),
        ((folder, tmp_path / "m.pth", "--names", "torchvision:vgg11"), "which the network has not"),
        ((folder, tmp_path / "m.pth", "--names", names), "has no name for conv2"),
        ((folder, tmp_path / "m.pth", "--names", names, "--names-from", there), "must be one of them"),
        ((folder, tmp_path / "m.pth", "--names-from", there), "its ending says no format"),
        ((folder, out, "--names", names), "has no name for conv2"),
    ):
        assert said in refused(capsys, *arguments), arguments
        assert sorted(tmp_path.iterdir()) == before, arguments
    assert there.read_text() == "mine"


def test_neither_what_is_read_nor_a_file_of_a_run_is_written_over(done, tmp_path, capsys):
    folder, names = done[0], tmp_path / "names.toml"
    names.write_text(
        "\n".join(f'{node} = "its.{node}"' for node in ("conv1", "conv2", "conv3", "fc4", "fc5"))
    )
    checkpoint = find_checkpoint(folder)
    kept = {path: path.read_bytes() for path in (*folder.rglob("*"), names) if path.is_file()}
    to = ("--overwrite", "--to", "safetensors")
    for path in (checkpoint / "model.safetensors", checkpoint / "state.json", folder / "run.json"):
        assert "is a file of a run, which no other takes the place of" in refused(capsys, folder, path, *to)
        with pytest.raises(UserError, match="is a file of a run"):
            load_model(folder).export(path, to="safetensors", overwrite=True)
    assert "is what is read here" in refused(capsys, folder, names, *to, "--names", names)
    assert kept == {path: path.read_bytes() for path in kept}
    for _ in range(2):
        assert main([str(folder), str(folder / "mine.safetensors"), "--overwrite"]) == 0
    (folder / "mine.safetensors").unlink()


def test_a_damaged_checkpoint_is_one_line(done, tmp_path, capsys):
    folder = tmp_path / "cut"
    folder.mkdir()
    for file in find_checkpoint(done[0]).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors: cannot be read as safetensors" in refused(capsys, folder, tmp_path / "m.onnx")
    (folder / "model.safetensors").write_bytes(whole)
    state = (folder / "state.json").read_text()
    (folder / "state.json").write_text(state.replace('model = \\"digits\\"', 'model = \\"mnist\\"'))
    assert "the model wants float32" in refused(capsys, folder, tmp_path / "m.onnx")
    (folder / "state.json").write_text(state.replace('"scale"', '"scales"'))
    assert "normalisation must have scale and shift" in refused(capsys, folder, tmp_path / "m.onnx")
    (folder / "state.json").write_text(state[:50])
    assert "cannot be read as a checkpoint's state" in refused(capsys, folder, tmp_path / "m.onnx")


def test_options_that_do_not_exist_are_one_line(capsys):
    for arguments, said in (
        (["run", "model.onnx", "--too", "onnx"], '(did you mean "--to"?)'),
        (["run", "model.onnx", "--to", "onyx"], '(did you mean "onnx"?)'),
        (["run"], "the following arguments are required: FILE"),
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line


def test_the_command_starts_as_a_module_and_by_name(done, tmp_path):
    done_ = subprocess.run(
        [sys.executable, "-m", "engine.export", done[0], tmp_path / "m.safetensors"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert (done_.returncode, done_.stderr) == (0, "")
    assert lockstep(["export", str(done[0]), str(tmp_path / "m.pth")]) == 0


def test_a_network_of_the_users_is_found_from_another_folder(tmp_path, monkeypatch, capsys):
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    (there / "net.py").write_text(
        "from lockstep import Flatten, GraphBuilder, Linear, ReLU\n\n\n"
        "class Mine(ReLU):\n    onnx = ReLU.__base__.onnx\n\n\n"
        "def net(kind='ReLU', image=(1, 8, 8)):\n"
        "    net = GraphBuilder(image)\n    net.add('flatten', Flatten())\n"
        "    net.add('mine', Mine() if kind == 'Mine' else ReLU())\n    net.add('fc', Linear(10))\n"
        "    return net.graph()\n"
    )
    monkeypatch.chdir(there)
    for kind in ("ReLU", "Mine"):
        asked = {
            "epochs": 0, "steps": 1, "batch": 16, "threads": 1, "out": kind, "model": "net.py:net",
            "model_arguments.kind": kind,
        }  # fmt: skip
        train(single_rank(), lambda asked=asked: new_run("digits", asked))
    monkeypatch.chdir(here)
    capsys.readouterr()
    assert main([str(there / "ReLU"), "net.onnx"]) == 0
    about = {each.key: each.value for each in onnx.load("net.onnx").metadata_props}
    assert json.loads(about["model_arguments"]) == {"kind": "ReLU"}
    capsys.readouterr()
    assert refused(capsys, there / "Mine", "mine.onnx").startswith(
        "mine: Mine has no ONNX form; give it a method"
    )
    assert main([str(there / "Mine"), "mine.pth"]) == 0
    assert sorted(each.name for each in here.iterdir()) == ["mine.pth", "net.onnx"]
