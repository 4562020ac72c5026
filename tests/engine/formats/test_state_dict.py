"""State dicts by the ending of their file."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.config.errors import UserError
from engine.formats.state_dict import read_state_dict
from engine.formats.torch_writer import torch_bytes

TENSORS = {"b.weight": np.ones((2, 3), np.float32), "a.weight": np.zeros((2, 3), np.float32)}
OURS = {"one.weight": (2, 3), "two.weight": (2, 3)}


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin"])
def test_a_file_of_torch_is_in_order(tmp_path, ending):
    path = tmp_path / f"state{ending}"
    path.write_bytes(torch_bytes(TENSORS))
    found = read_state_dict(path)
    assert found.is_ordered
    assert found.shapes == {"b.weight": (2, 3), "a.weight": (2, 3)}
    wanted = {"one.weight": "b.weight", "two.weight": "a.weight"}
    assert found.names_of(OURS).theirs == found.fitting_names_of(OURS).theirs == wanted


def test_the_order_of_safetensors_says_nothing(tmp_path):
    save_file(TENSORS, tmp_path / "state.safetensors")
    found = read_state_dict(tmp_path / "state.safetensors")
    assert not found.is_ordered
    with pytest.raises(UserError, match=r"state\.safetensors is one is not clear"):
        found.names_of(OURS)


def test_the_format_that_is_said_counts(tmp_path):
    save_file(TENSORS, tmp_path / "state.pth")
    assert not read_state_dict(tmp_path / "state.pth", "safetensors").is_ordered
    (tmp_path / "state").write_bytes(torch_bytes(TENSORS))
    assert read_state_dict(tmp_path / "state", "torch").is_ordered
    with pytest.raises(
        UserError, match=r"state: its ending says no format; must be one of \.pth, \.pt, \.bin, "
    ):
        read_state_dict(tmp_path / "state")
