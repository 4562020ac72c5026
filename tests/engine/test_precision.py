"""A network of bf16 from its training to its use: everybody says the precision, and nobody says fp32."""

import json

import lockstep
import numpy as np
import pytest

from engine.evaluate import main as evaluate
from engine.export import main as export
from engine.predict import main as predict
from engine.show import main as show
from engine.train import main as train
from engine.trained.weights_file import read_about
from tests.engine.trained.test_weights_file import rewritten

SHORT = ("digits", "--steps", "4", "--threads", "1", "--evaluate-every", "0")
SAID = "precision: products of bf16, as in its training"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return the folder of a run in bf16."""
    folder = tmp_path_factory.mktemp("runs") / "halves"
    assert train([*SHORT, "--precision", "bf16", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def alone(done, tmp_path):
    """Return the weights of the run, away from all that lies beside them."""
    path = tmp_path / "alone.safetensors"
    path.write_bytes((lockstep.load(done).checkpoint / "model.safetensors").read_bytes())
    return path


def logits(model):
    return model(np.random.default_rng(0).standard_normal((3, 1, 8, 8), np.float32))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_log_and_the_results_say_the_precision_where_it_is_not_the_usual_one(precision, tmp_path, capsys):
    assert train([*SHORT, "--precision", precision, "--out", str(tmp_path / "run")]) == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("plan data, products of bf16" if precision == "bf16" else "plan data")
    results = json.loads((tmp_path / "run" / "run.json").read_text())
    assert results.get("precision") == ("bf16" if precision == "bf16" else None)


def test_a_checkpoint_and_its_weights_alone_are_shown_with_the_precision(done, alone, digits_run, capsys):
    for path, wanted in ((done, True), (alone, True), (digits_run.folder, False)):
        assert show([str(path)]) == 0
        lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert lines.get("precision") == ("products of bf16; the weights are fp32" if wanted else None)
        assert show([str(path), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["model"].get("precision") == ("bf16" if wanted else None)


def test_who_computes_with_it_says_the_precision(done, digits_run, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    for command in ((evaluate,), (predict, str(tmp_path / "x.npy"))):
        main, *rest = command
        assert main([str(done), *rest]) == 0
        assert SAID in capsys.readouterr().err.splitlines()
        assert main([str(digits_run.checkpoint), *rest]) == 0
        assert "precision" not in capsys.readouterr().err


def test_an_evaluation_has_the_figures_of_the_run(done):
    results = json.loads((done / "run.json").read_text())
    found = lockstep.load(done, threads=1).evaluate()
    assert (found.loss, found.accuracy) == (results["test_loss"], results["test_accuracy"])


def test_weights_alone_compute_in_the_precision_that_they_were_trained_in(done, alone, tmp_path):
    wanted = logits(lockstep.load(done, threads=1))
    np.testing.assert_array_equal(logits(lockstep.load(alone, threads=1)), wanted)
    assert export([str(done), str(tmp_path / "handed.safetensors")]) == 0
    np.testing.assert_array_equal(logits(lockstep.load(tmp_path / "handed.safetensors", threads=1)), wanted)


def test_a_precision_that_is_none_is_said_with_the_file(alone):
    model = read_about(alone)[0].model
    rewritten(alone, model={**model, "precision": "fp8"})
    with pytest.raises(lockstep.UserError, match=r"alone.*precision: got 'fp8'; must be one of fp32, bf16"):
        lockstep.load(alone)


def test_an_onnx_file_is_compared_with_the_engine_in_fp32(done, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="extra: export")
    assert export([str(done), str(tmp_path / "halves.onnx")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("ONNX Runtime agrees with the engine") for line in lines)
    assert lines[-1] == "trained with products of bf16: what is handed on is fp32, as the weights are"
