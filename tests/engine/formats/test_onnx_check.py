"""The comparison of an ONNX file with the engine."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.formats import onnx_check
from engine.formats.onnx_check import Agreement, agreement, check_onnx, run_onnx
from engine.formats.onnx_file import OnnxOptions, onnx_bytes
from tests.engine import graphs
from tests.engine.formats.networks import changed, drawn

pytest.importorskip("onnx", reason="extra: export")
pytest.importorskip("onnxruntime", reason="extra: export")


def test_the_measure_is_the_largest_difference_by_the_largest_logit():
    ours = np.array([[1, -4], [0.5, 2]], np.float32)
    found = agreement(ours + np.array([[0, 0], [0.25, -0.5]], np.float32), ours)
    assert found == Agreement(0.5, 4.0)
    assert found.relative == 0.125


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_values_that_are_not_finite_agree_with_nothing(odd):
    ours, theirs = np.ones((1, 2), np.float32), np.array([[odd, 1]], np.float32)
    assert agreement(theirs, ours).relative == np.inf
    assert agreement(ours, theirs).difference == np.inf


def test_logits_that_are_all_zero_have_a_measure():
    assert agreement(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32)).relative == 0


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("name", ["conv1.weight", "fc3.bias"])
def test_another_weight_in_the_file_is_found_out(name, softmax):
    trained, options = drawn(graphs.chain()), OnnxOptions(softmax=softmax)
    content = onnx_bytes(changed(trained, name), options)
    with pytest.raises(
        UserError, match=r"^onnx: ONNX Runtime's logits differ from the engine's by .* nothing"
    ):
        check_onnx(content, trained, options)


def test_other_probabilities_are_found_out(monkeypatch):
    trained, options = drawn(graphs.chain()), OnnxOptions(softmax=True)
    run = onnx_check.run_onnx

    def off(content, x):
        results = run(content, x)
        return {**results, "probabilities": results["probabilities"] + 2e-5}

    monkeypatch.setattr(onnx_check, "run_onnx", off)
    with pytest.raises(UserError, match=r"^onnx: ONNX Runtime's probabilities are off by 2\.0e-05"):
        check_onnx(onnx_bytes(trained, options), trained, options)


def test_what_is_no_model_is_refused_in_a_line():
    with pytest.raises(UserError, match=r"^onnx: ONNX Runtime .* does not run it: .*"):
        run_onnx(b"no model", np.zeros((1, 3), np.float32))
