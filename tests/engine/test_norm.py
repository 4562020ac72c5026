"""A network with batch normalisation from its training to its use, and between programs."""

import json

import lockstep
import numpy as np
import pytest

from engine.convert import main as convert
from engine.evaluate import main as evaluate
from engine.export import main as export
from engine.formats.onnx_check import run_onnx
from engine.formats.safetensors_file import read_safetensors
from engine.run.finding import find_checkpoint
from engine.train import main as train

NETWORK = """
from lockstep import BatchNorm, Conv2d, Flatten, GraphBuilder, Linear, ReLU


def net(groups=0, classes=10, image=(1, 8, 8)):
    net = GraphBuilder(image)
    net.add("conv1", Conv2d(8, 3, padding=1, stride=2))
    net.add("norm1", BatchNorm(groups=groups or None))
    net.add("relu1", ReLU())
    net.add("flatten", Flatten())
    net.add("fc2", Linear(20))
    net.add("norm2", BatchNorm())
    net.add("relu2", ReLU())
    net.add("fc3", Linear(classes, gain=1.0))
    return net.graph()
"""
SHORT = ("--data", "digits", "--batch", "128", "--steps", "6", "--threads", "1", "--evaluate-every", "0")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "my_net.py"
    path.write_text(NETWORK)
    return f"{path}:net"


@pytest.fixture(scope="module")
def done(file, tmp_path_factory):
    """Return the folder of a run, and its results."""
    folder = tmp_path_factory.mktemp("runs") / "normed"
    assert train(["--model", file, *SHORT, "--out", str(folder)]) == 0
    return folder, json.loads((folder / "run.json").read_text())


def test_the_log_says_in_one_line_how_samples_are_grouped(file, tmp_path, capsys):
    def said(*options):
        assert train([*options, *SHORT, "--steps", "2", "--out", str(tmp_path / str(len(options)))]) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "batch normalisation" in line]

    unasked = "batch normalisation over 4 groups of 32 samples; --norm-groups N for others"
    assert said("--model", file) == [unasked]
    assert said("--model", file, "--norm-groups", "1") == ["batch normalisation over 1 group of 128 samples"]
    assert said() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--norm-groups", "3"], "norm_groups: got 3; must be a power of two up to leaves = 16, or 0"),
        (["--norm-groups", "32"], "norm_groups: got 32; must be a power of two up to leaves = 16, or 0"),
        (["--norm-groups", "-2"], "norm_groups: got -2; must be at least 0"),
        (
            ["--model-argument", "groups=32"],
            "norm1: groups: got 32; must be a power of two up to leaves = 16",
        ),
    ],
)
def test_groups_that_cannot_be_are_refused_in_one_line(file, options, message, tmp_path, capsys):
    assert train(["--model", file, *SHORT, *options, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "run").exists()


def test_use_needs_no_minibatch_and_computes_by_the_running_statistics(done, capsys):
    folder, results = done
    figures = []
    for batch in ("5", "360"):
        assert evaluate([str(folder), "--batch", batch, "--json", "--threads", "1"]) == 0
        figures.append(json.loads(capsys.readouterr().out))
    assert figures[0]["loss"] == figures[1]["loss"] == results["test_loss"]
    model = lockstep.load(folder, threads=1)
    x = np.random.default_rng(1).standard_normal((9, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(model(x)[4:5], model(x[4:5]))


def test_pytorch_and_onnx_runtime_have_the_logits(done, tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime", reason="extra: export")
    folder, _ = done
    assert export([str(folder), str(tmp_path / "net.pth")]) == 0
    assert export([str(folder), str(tmp_path / "net.onnx")]) == 0
    theirs = torch.nn.Sequential()
    for name, module in (
        ("conv1", torch.nn.Conv2d(1, 8, 3, padding=1, stride=2)),
        ("norm1", torch.nn.BatchNorm2d(8)),
        ("relu1", torch.nn.ReLU()),
        ("flatten", torch.nn.Flatten()),
        ("fc2", torch.nn.Linear(128, 20)),
        ("norm2", torch.nn.BatchNorm1d(20)),
        ("relu2", torch.nn.ReLU()),
        ("fc3", torch.nn.Linear(20, 10)),
    ):
        theirs.add_module(name, module)
    theirs.load_state_dict(torch.load(tmp_path / "net.pth"))
    theirs.eval()
    x = np.random.default_rng(2).standard_normal((7, 1, 8, 8), np.float32)
    ours = lockstep.load(folder, threads=1)(x)
    with torch.no_grad():
        np.testing.assert_allclose(ours, theirs(torch.from_numpy(x)).numpy(), rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours, run_onnx((tmp_path / "net.onnx").read_bytes(), x)["logits"], atol=2e-5)


def test_weights_of_pytorch_come_in_with_their_running_statistics(file, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    modules = (
        torch.nn.Conv2d(1, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(128, 20), torch.nn.BatchNorm1d(20),
        torch.nn.Linear(20, 10),
    )  # fmt: skip
    theirs = torch.nn.Sequential(*modules)
    with torch.no_grad():
        theirs[1].running_var[...] = torch.arange(1, 9)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = tmp_path / "ours.safetensors"
    assert convert([str(tmp_path / "theirs.pth"), "--model", file, "--out", str(ours)]) == 0
    assert "taken norm1.running_var" in capsys.readouterr().out
    folder = tmp_path / "run"
    start = ("--init", str(ours), "--freeze", "norm1", "--out", str(folder))
    assert train(["--model", file, *SHORT, *start]) == 0
    held = read_safetensors(find_checkpoint(folder) / "model.safetensors")
    assert (held["norm1.running_var"] == np.arange(1, 9)).all()
    assert (held["norm2.running_var"] != 1).all()
