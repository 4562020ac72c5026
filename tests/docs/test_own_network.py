"""docs/own_network.md, word for word, in an empty folder."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # so that it also runs where only a wheel is installed
from pages import Command, File, run, steps

PAGE = Path(__file__).parents[2] / "docs" / "own_network.md"


def test_every_command_of_the_page_does_what_it_shows(tmp_path):
    done = 0
    for step in steps(PAGE):
        if isinstance(step, File):
            (tmp_path / step.name).write_text(step.content, encoding="utf-8")
            continue
        result = run(step, tmp_path)
        assert result.returncode == 0, f"$ {step.line}\n{result.stdout}{result.stderr}"
        assert re.fullmatch(step.pattern(), result.stdout, re.S), f"$ {step.line}\n{result.stdout}"
        done += 1
    assert done > 8
    hashes = {name: _results(tmp_path, name)["weights_sha256"] for name in ("recipe", "two", "python-two")}
    assert len(set(hashes.values())) == 1, hashes
    assert "classes = 4" in (tmp_path / "runs/stripes/recipe.toml").read_text()
    assert _results(tmp_path, "stripes")["test_accuracy"] > 0.5
    if find_spec("onnx") and find_spec("onnxruntime"):
        exported = run(Command("lockstep export runs/leaky leaky.onnx", ""), tmp_path)
        assert "ONNX Runtime agrees with the engine" in exported.stdout, exported.stderr


def test_a_changed_output_is_noticed():
    command = Command("true", "{'a': ..., 'b': 1}\n")
    assert re.fullmatch(command.pattern(), "{'a': 17, 'b': 1}\n", re.S)
    assert not re.fullmatch(command.pattern(), "{'a': 17, 'b': 2}\n", re.S)


def _results(folder: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "runs" / name / "run.json").read_text())
    return found
