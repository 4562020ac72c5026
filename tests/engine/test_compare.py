"""The command that compares two trained networks; what it finds is tested in tests/engine/trained."""

import json
import shutil

import pytest
from safetensors.numpy import load_file

from engine.compare import main
from engine.trained import comparison
from tests.engine.trained.test_loading import with_another_best
from tests.engine.trained.test_weights_file import other_bits, rewritten


def compared(capsys, *arguments):
    """Return the exit code, what is printed and what is said."""
    code = main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


@pytest.fixture
def alone(digits_run, tmp_path):
    """Return the weights of the newest checkpoint, without the rest of it."""
    return shutil.copy(digits_run.checkpoint / "model.safetensors", tmp_path / "weights.safetensors")


def test_the_same_network_has_code_0_wherever_it_lies(digits_run, alone, capsys):
    for other, what in ((digits_run.folder, "recipe"), (digits_run.checkpoint, "recipe"), (alone, "network")):
        code, out, said = compared(capsys, digits_run.folder, other)
        assert (code, said) == (0, [])
        head, *lines = out.splitlines()
        assert head.split() == [
            str(digits_run.checkpoint),
            str(alone if other == alone else digits_run.checkpoint),
        ]
        assert lines == [f"{what}: the same", "weights: the same, to the bit"]


def test_one_bit_is_code_1_and_its_tensor_is_named(digits_run, alone, capsys):
    rewritten(alone, tensors=other_bits)
    code, out, said = compared(capsys, digits_run.folder, alone, "--json")
    assert (code, said) == (1, [])
    told = json.loads(out)
    assert told["checkpoints"] == [str(digits_run.checkpoint), str(alone)]
    assert not told["same_weights"]
    assert told["tensors"].keys() == load_file(alone).keys()
    assert [name for name, each in told["tensors"].items() if not each["same"]] == ["fc5.bias"]
    assert told["tensors"]["fc5.bias"]["largest_difference"] == pytest.approx(1)
    assert told["recipe"] == {}


def test_networks_of_other_recipes_differ_in_their_fields(digits_run, photos_run, capsys):
    code, out, _ = compared(capsys, digits_run.folder, photos_run.folder, "--json")
    told = json.loads(out)
    assert code == 1
    assert told["recipe"]["batch"] == [64, 16]
    assert told["recipe"]["model_arguments.classes"] == [None, 3]
    assert told["tensors"]["fc5.weight"] == {"same": False, "largest_difference": None}
    assert told["figures"]["steps"] == [66, 30]


def test_the_best_checkpoints_are_compared_by_saying_so(digits_run, tmp_path, capsys):
    run, best = with_another_best(digits_run, tmp_path)
    assert compared(capsys, run, best)[0] == 1
    assert compared(capsys, run, run, "--best")[0] == 0
    assert compared(capsys, run, best, "--best")[0] == 2


def test_too_little_memory_is_one_line(digits_run, capsys, monkeypatch):
    def read(*_, **__):
        raise MemoryError

    monkeypatch.setattr(comparison, "compare", read)
    assert compared(capsys, digits_run.folder, digits_run.folder) == (2, "", ["error: memory: none is left"])


@pytest.mark.parametrize(
    ("other", "words"),
    [("{tmp}/no", "holds no checkpoint: there is no such folder"), ("{tmp}/x.pth", "is a file; must be")],
)
def test_a_mistake_is_one_line_and_code_2(digits_run, tmp_path, capsys, other, words):
    (tmp_path / "x.pth").touch()
    code, out, said = compared(capsys, digits_run.folder, other.format(tmp=tmp_path))
    assert (code, out, len(said)) == (2, "", 1)
    assert words in said[0]
