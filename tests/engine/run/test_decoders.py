"""Ranks compare what their decoders make of an image."""

import threading

import numpy as np
import pytest

from comm.threads import run_ranks
from engine.config.errors import UserError
from engine.data.readers import image_file, probe
from engine.data.readers.arrays import ArrayDataset
from engine.run.decoders import check_decoders


class Photographs(ArrayDataset):
    decoders = ("resizing", "JPEG")


def data(kind=Photographs):
    return kind(np.zeros((2, 5)), (0, 1), classes=2)


@pytest.fixture
def here(monkeypatch):
    """Give every rank, which sets `here.rank`, a host and a version of its own."""
    thread = threading.local()
    monkeypatch.setattr(image_file, "decoder_version", lambda: f"Pillow {thread.rank}")
    monkeypatch.setattr("socket.gethostname", lambda: f"host{thread.rank}")
    return thread


def test_other_versions_with_the_same_pixels_are_welcome(here):
    def work(world):
        here.rank = world.rank
        check_decoders(world, data(), data(ArrayDataset))

    assert run_ranks(3, work) == [None] * 3


@pytest.mark.parametrize("odd", [1, 2])
def test_a_rank_that_makes_other_pixels_is_refused_on_all_with_hosts_and_versions(here, monkeypatch, odd):
    made = probe.probe
    other = {"JPEG": "other"}
    monkeypatch.setattr(probe, "probe", lambda names: made(names) | (other if here.rank == odd else {}))

    def work(world):
        here.rank = world.rank
        with pytest.raises(UserError) as refused:
            check_decoders(world, data())
        return str(refused.value)

    said = (
        f"images: rank {odd} on host{odd} (Pillow {odd}) makes other pixels of a test image than rank 0 "
        "on host0 (Pillow 0), by JPEG; must be the same on all"
    )
    assert run_ranks(3, work) == [said] * 3


def test_data_that_is_not_decoded_needs_no_image_library(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda _: 1 / 0)
    assert run_ranks(2, lambda world: check_decoders(world, data(ArrayDataset))) == [None] * 2
