"""The picture of samples as the network sees them."""

import numpy as np
import pytest
from PIL import Image

from engine.data.__main__ import main
from engine.data.augment import Augment
from engine.data.contact_sheet import contact_sheet
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.normalise import Normalisation
from engine.data.sampler import epoch_order

GAP = 4


def photographs(channels=3):
    pixels = np.random.default_rng(channels).integers(0, 256, (9, channels, 64, 80), np.uint8)
    mean, deviation = (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.25)[:channels]
    return InMemoryImages(
        "images", (channels, 64, 80), 2, pixels=pixels, labels=np.zeros(9, np.uint8),
        normalisation=Normalisation.of(mean=mean, std=deviation),
    )  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_each_row_is_a_sample_as_read_and_then_in_each_epoch(channels):
    data = photographs(channels)
    sheet = contact_sheet(data, Augment(flip=True), samples=3, epochs=4, seed=7)
    assert sheet.shape == (3 * 64 + 2 * GAP, 5 * 80 + 4 * GAP, 3)
    flips = 0
    for row, sample in enumerate(epoch_order(7, 0, 9)[:3]):
        image = np.broadcast_to(data.pixels[sample], (3, 64, 80)).transpose(1, 2, 0)
        cells = [sheet[row * (64 + GAP) :][:64, column * (80 + GAP) :][:, :80] for column in range(5)]
        np.testing.assert_array_equal(cells[0], image)
        for cell in cells[1:]:
            assert (cell == image).all() or (cell == image[:, ::-1]).all()
            flips += bool((cell != image).any())
    assert 0 < flips < 12


def test_the_command_writes_it(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (90, 70), (200, 100, 50)).save(tmp_path / "photos" / name / "1.png")
    arguments = ["show", str(tmp_path / "photos"), str(tmp_path / "a.png"), "--size", "96"]
    assert main([*arguments, "--samples", "5", "--epochs", "1", "--augment", "resized_crop,flip"]) == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.size == (2 * 96 + GAP, 2 * 96 + GAP)  # there are two samples
    assert "a.png: 196 x 196 pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["digits", "a.xyz"], "a.xyz: unknown file extension: .xyz; must end in .png"),
        (["digits", "no/such/a.png"], "a.png"),
        (["synthetic", "a.png", "--samples", "0"], "samples: got 0; must be from 1 to 1000"),
        (["digits", "a.png", "--augment", "flop"], 'augment: got "flop"'),
        (["digits", "a.png", "--augment", "crop9"], "augment: crop9"),
    ],
)
def test_a_mistake_is_one_line(options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
