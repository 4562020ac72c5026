"""The first part of docs/fine_tuning.md, word for word, in an empty folder."""

import json
import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent))  # so that it also runs where only a wheel is installed
from pages import File, run, steps

PAGE = Path(__file__).parents[2] / "docs" / "fine_tuning.md"


def test_every_command_of_the_page_does_what_it_shows(tmp_path):
    said = dict[str, str]()
    for step in steps(PAGE):
        if isinstance(step, File):
            (tmp_path / step.name).write_text(step.content, encoding="utf-8")
            continue
        result = run(step, tmp_path)
        assert result.returncode == 0, f"$ {step.line}\n{result.stdout}{result.stderr}"
        assert re.fullmatch(step.pattern(), result.stdout, re.S), f"$ {step.line}\n{result.stdout}"
        said[step.line.split()[-1]] = result.stderr
    assert "init: 2 tensors drawn anew: fc.weight, fc.bias" in said["runs/tuned"]
    assert "learning rate: conv1 x 0.1, norm1 x 0.1, conv2 x 0.1" in said["runs/tuned"]
    assert "frozen: conv1, conv2, conv3\n" in said["runs/frozen"]
    before, frozen, tuned = (_weights(tmp_path / "runs" / name) for name in ("before", "frozen", "tuned"))
    for name in ("conv1.weight", "conv2.weight", "conv3.weight"):
        assert np.array_equal(frozen[name], before[name])
        assert not np.array_equal(tuned[name], before[name])
    assert not np.array_equal(frozen["norm1.weight"], before["norm1.weight"])
    assert frozen["fc.weight"].shape == (4, 64)
    accuracy = {name: _accuracy(tmp_path / "runs" / name) for name in ("scratch", "tuned", "frozen")}
    assert min(accuracy["tuned"], accuracy["frozen"]) > accuracy["scratch"] + 0.3


def _weights(folder: Path) -> dict[str, np.ndarray]:
    (newest,) = sorted((folder / "checkpoints").glob("step-*"))[-1:]
    return load_file(newest / "model.safetensors")


def _accuracy(folder: Path) -> float:
    found: float = json.loads((folder / "run.json").read_text())["test_accuracy"]
    return found
