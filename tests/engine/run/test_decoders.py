"""Ranks compare what their decoders make of an image."""

import re

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
def versions(monkeypatch):
    """Give every rank a version and a host of its own."""
    turns = {"version": iter(range(10)), "host": iter("abcdef")}
    monkeypatch.setattr(image_file, "decoder_version", lambda: f"Pillow {next(turns['version'])}")
    monkeypatch.setattr("socket.gethostname", lambda: next(turns["host"]))


@pytest.mark.usefixtures("versions")
def test_other_versions_with_the_same_pixels_are_welcome():
    assert run_ranks(3, lambda world: check_decoders(world, data(), data(ArrayDataset))) == [None] * 3


@pytest.mark.usefixtures("versions")
def test_ranks_that_make_other_pixels_are_refused_on_all_with_hosts_and_versions(monkeypatch):
    made, turn = probe.probe, iter(range(10))

    def last_is_other(names):
        found = made(names)
        return found | {"JPEG": "other"} if next(turn) == 2 else found

    monkeypatch.setattr(probe, "probe", last_is_other)
    messages = []

    def work(world):
        with pytest.raises(UserError) as refused:
            check_decoders(world, data())
        messages.append(str(refused.value))

    run_ranks(3, work)
    assert len(set(messages)) == 1
    said = (
        r"images: rank [12] on [abc] \(Pillow [012]\) makes other pixels of a test image than rank 0 on "
        r"[abc] \(Pillow [012]\), by JPEG; must be the same on all"
    )
    assert re.fullmatch(said, messages[0])


def test_data_that_is_not_decoded_needs_no_image_library(monkeypatch):
    monkeypatch.setattr(probe, "probe", lambda _: 1 / 0)
    assert run_ranks(2, lambda world: check_decoders(world, data(ArrayDataset))) == [None] * 2
