"""The table of logits: ours, ONNX Runtime's and PyTorch's."""

import json

import numpy as np
import pytest

from bench import logits
from tests.engine.data.files import random_bytes, write_image


def test_all_sides_agree_on_images_and_on_noise(tmp_path, capsys):
    for package in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(package)
    for number in range(5):
        write_image(tmp_path / "class" / f"{number}.png", random_bytes(30, 20, 3))
    for more, given in (([], "noise"), (["--images", str(tmp_path)], "images")):
        assert logits.main(["digits", "--samples", "2", "--threads", "1", "--json", *more]) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert (row["model"], row["samples"], row["input"]) == ("digits", 2, given)
        for side in ("onnx_runtime", "torch"):
            assert 0 < row[side]["relative"] < 2e-5
            assert row[side]["logit"] == pytest.approx(row["ours"], rel=1e-4)
            assert row[side]["same_class"] == 2
    assert logits.main(["digits", "--samples", "2", "--threads", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("digits          2 noise ")


def test_a_side_that_computes_something_else_is_exit_code_1(monkeypatch, capsys):
    for package in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(package)
    monkeypatch.setattr(logits, "run_onnx", lambda *_: {"logits": np.zeros((2, 10), np.float32)})
    assert logits.main(["digits", "--samples", "2", "--threads", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["rows"][0]["onnx_runtime"]["relative"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digit"], "model: got 'digit'; must be one of digits, "),
        (["digits", "--samples", "0"], "samples: got 0; must be at least 1"),
        (["digits", "--images", "none"], "images: none has 0; must be 8 at least"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr(logits, "find_spec", lambda _: True)
    assert logits.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}")


def test_without_a_package_its_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(logits, "find_spec", lambda name: None if name == "torch" else name)
    assert logits.main(["digits"]) == 2
    assert capsys.readouterr().err == (
        "error: torch is not installed; it comes with the extra: pip install -e '.[bench]'\n"
    )
