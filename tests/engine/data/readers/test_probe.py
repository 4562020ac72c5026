"""The images that are decoded to compare decoders."""

import io

import pytest
from PIL import Image, features

from engine.data.readers import image_file
from engine.data.readers.image_file import image_endings
from engine.data.readers.probe import _SAMPLES, needed, probe

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
    decode, cover = image_file.decode, image_file._cover
    monkeypatch.setattr(
        image_file, "decode", lambda path, mode: decode(path, mode).point(lambda v: v ^ (v == 40))
    )
    assert probe(["JPEG"])["JPEG"] != before["JPEG"]
    monkeypatch.setattr(image_file, "decode", decode)
    monkeypatch.setattr(
        image_file, "_cover", lambda image, **size: cover(image, **size).point(lambda v: v ^ (v == 9))
    )
    assert probe(["resizing"])["resizing"] != before["resizing"]


def test_the_probes_are_small():
    assert all(path.stat().st_size < 1100 for path in _SAMPLES.glob("probe.*"))
    assert {Image.open(io.BytesIO(path.read_bytes())).size for path in _SAMPLES.glob("probe.*")} == {(23, 17)}
