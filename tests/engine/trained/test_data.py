"""The data that a network is evaluated on: its own, found again, or another."""

import lockstep
import pytest

from engine.evaluate import main as evaluate
from engine.predict import main as predict

DATA = """\
import lockstep, numpy as np

def data(count):
    x = np.zeros((count, 1, 8, 8))
    return lockstep.DataSource(lockstep.ArrayDataset(x, np.arange(count) % 10, classes=10), None)
"""
NETWORK = """\
from lockstep import Flatten, GraphBuilder, Linear

def net():
    net = GraphBuilder((1, 8, 8))
    net.add("flatten", Flatten())
    net.add("fc", Linear(10))
    return net.graph()
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a run on data and a network of the user's, started in a folder that is left afterwards."""
    (tmp_path / "d.py").write_text(DATA)
    (tmp_path / "net.py").write_text(NETWORK)
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        return lockstep.train(
            "digits", model="net.py:net", data="d.py:data", changes={"data_arguments.count": 32},
            batch=16, steps=1, threads=1, out=str(tmp_path / "run"),
        )  # fmt: skip


def test_its_own_data_is_found_with_its_arguments_from_anywhere(run, tmp_path, monkeypatch):
    model = lockstep.load(run.checkpoint, threads=1)
    found = model.evaluate()
    assert (found.samples, found.split, found.data) == (32, "train", f"{tmp_path}/d.py:data")
    monkeypatch.chdir(tmp_path)
    assert model.evaluate("d.py:data").samples == 32
    with pytest.raises(lockstep.UserError, match="needs count: --data-argument count=VALUE"):
        model.evaluate(f"{tmp_path}/d.py:data")


def test_data_that_has_moved_is_asked_for(run, tmp_path):
    (tmp_path / "d.py").unlink()
    wanted = r"^data: data was d.py:data in the checkpoint's run, .*--data FILE.py:function says where to$"
    with pytest.raises(lockstep.UserError, match=wanted):
        lockstep.load(run.checkpoint, threads=1).evaluate()


def test_a_network_that_has_moved_is_given_to_the_commands(run, tmp_path, capsys):
    (tmp_path / "net.py").rename(tmp_path / "moved.py")
    (tmp_path / "x.npy").write_bytes(b"")
    for command, arguments in ((evaluate, []), (predict, [str(tmp_path / "x.npy")])):
        assert command([str(run.folder), *arguments]) == 2
        assert "checkpoint: model was net.py:net in the checkpoint's run" in capsys.readouterr().err
        command([str(run.folder), *arguments, "--model", f"{tmp_path}/moved.py:net"])
        out, err = capsys.readouterr()
        assert out
        assert "checkpoint: model was" not in err
