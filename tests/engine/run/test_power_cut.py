"""Checkpoints and a power cut: no byte and no name that is counted on is only in memory."""

import numpy as np
import pytest

from engine.config.files import write_whole
from engine.run.checkpoint import read_state, save_checkpoint
from engine.run.finding import find_checkpoint
from engine.run.state import State
from tests.engine.disk import Disk

WEIGHTS = {"a.weight": np.arange(5000, dtype=np.float32)}
VELOCITIES = {"momentum.a.weight": np.ones(5000, np.float32)}


@pytest.fixture
def disk(tmp_path, monkeypatch):
    return Disk(tmp_path, monkeypatch)


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name_and_the_name_before_older_ones_go(disk):
    for step in (1, 2, 3, 4):
        path = save_checkpoint(disk.root, State(step, "", "samples"), WEIGHTS, VELOCITIES)
        assert disk.is_safe(path)
        assert not disk.unsynced_names()
        assert path in {new for _, new in disk.renamed}
    assert not disk.lost
    assert len([*path.parent.iterdir()]) == 2  # older ones were removed indeed


def test_a_checkpoint_that_replaces_one_is_on_the_disk_before_that_is_removed(disk):
    for recipe in ("first", "second"):
        path = save_checkpoint(disk.root, State(7, recipe, "samples"), WEIGHTS, VELOCITIES)
    assert not disk.lost
    assert disk.is_safe(path)
    assert not disk.unsynced_names()
    assert read_state(find_checkpoint(disk.root)).recipe == "second"
    assert [*path.parent.iterdir()] == [path]


def test_a_file_that_is_written_whole_is_on_the_disk_before_it_gets_its_name(disk):
    for content in ("old", "new and longer"):
        write_whole(disk.root / "recipe.toml", content)
        assert disk.is_safe(disk.root / "recipe.toml")
    assert not disk.lost
    assert not disk.unsynced_names()


def test_the_disk_of_these_tests_notices_what_is_not_synced(disk, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)
    for step in (1, 2, 3):
        path = save_checkpoint(disk.root, State(step, "", "samples"), WEIGHTS, VELOCITIES)
    assert not disk.is_safe(path)
    assert any("became step-00000001 before it was on the disk" in each for each in disk.lost)
    assert any("was removed before the name" in each for each in disk.lost)
