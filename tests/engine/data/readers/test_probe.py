"""The images that are decoded to compare decoders."""

import io
from functools import partial

import pytest
from PIL import Image, features

from engine.data import recolour
from engine.data.readers import image_pixels
from engine.data.readers.image_file import image_endings
from engine.data.readers.probe import _SAMPLES, COLOURS, needed, probe

LOSSY = {"JPEG": "jpg", "WebP": "webp", "JPEG 2000": "jpg_2000", "AVIF": "avif"}


def test_what_files_need_follows_from_their_endings():
    assert needed(["a/1.png", "b/2.bmp"]) == ("resizing",)
    assert needed(["a/1.JPG", "b/2.bmp", "c/x.jpeg"]) == ("resizing", "JPEG")
    assert needed(["1.webp", "2.jp2", "3.avif", "4.jpe"]) == ("resizing", "JPEG", "WebP", "JPEG 2000", "AVIF")
    assert needed([]) == ("resizing",)


def test_every_ending_of_a_lossy_format_is_known():
    image_endings()
    formats = {"JPEG", "MPO", "WEBP", "JPEG2000", "AVIF"} & set(Image.OPEN)
    for ending, name in Image.registered_extensions().items():
        if name in formats:
            assert len(needed([f"x{ending}"])) == 2, ending


@pytest.mark.parametrize("name", LOSSY)
def test_an_image_of_each_format_is_decoded_where_it_can_be(name):
    (made,) = probe([name]).values()
    assert (made == "none") == (not features.check(LOSSY[name]))


def test_another_decoder_and_another_resizing_are_noticed(monkeypatch):
    before = probe(["resizing", "JPEG"])
    decode, resize = image_pixels.decode_reduced, image_pixels.framed
    for mode in ("RGB", "L"):
        with monkeypatch.context() as patched:
            patched.setattr(image_pixels, "decode_rgb", lambda *_: None)
            patched.setattr(image_pixels, "decode_reduced", partial(_otherwise, decode, mode))
            assert probe(["JPEG"])["JPEG"] != before["JPEG"]
    monkeypatch.setattr(image_pixels, "framed", lambda *image, **size: resize(*image, **size) | 1)
    assert probe(["resizing"])["resizing"] != before["resizing"]


def _otherwise(decode, other, stored, mode, reduction):
    """Decode as another library would, in colour or in grey."""
    image, *rest = decode(stored, mode, reduction)
    return image.point(lambda value: value ^ (value == 40)) if mode == other else image, *rest


def test_other_changes_of_colours_are_noticed(monkeypatch):
    before = probe([COLOURS])
    assert probe([COLOURS]) == before
    operations = recolour._OPERATIONS
    for name, operation in operations.items():
        if name != "identity":
            other = {
                **operations,
                name: lambda image, share, done=operation: done(image, share).point(_flipped),
            }
            monkeypatch.setattr(recolour, "_OPERATIONS", other)
            assert probe([COLOURS]) != before, name


def _flipped(value):
    return value ^ 1


def test_the_probes_are_small():
    assert all(path.stat().st_size < 1100 for path in _SAMPLES.glob("probe.*"))
    assert {Image.open(io.BytesIO(path.read_bytes())).size for path in _SAMPLES.glob("probe.*")} == {(23, 17)}
