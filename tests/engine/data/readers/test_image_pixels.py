"""Parts of stored images: the same pixels by either decoder, and smaller ones where much is left."""

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from engine.data.dataset import DataError
from engine.data.frame import Frame, middle, random_part
from engine.data.readers import image_pixels, jpeg
from engine.data.readers.image_file import EncodedImage, decode
from engine.data.readers.image_pixels import read_pixels


def photograph(height: int, width: int) -> Image.Image:
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(20 * rows * (c + 1)) * np.cos(13 * columns + c) for c in range(3)]
    noise = np.random.default_rng(height).normal(0, 4, (height, width, 3))
    return Image.fromarray((128 + 110 * np.stack(waves, -1) + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return EncodedImage("a.jpg in b.tar", file.getvalue(), ".jpg")


@pytest.fixture
def only_pillow(monkeypatch):
    def switch() -> None:
        monkeypatch.setattr(image_pixels, "decode_rgb", lambda *_: None)

    return switch


@pytest.mark.parametrize("size", [(375, 500), (1201, 907), (2000, 1603), (40, 40), (9, 1)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_both_decoders_make_the_same_pixels_of_any_part(size, subsampling, orientation, only_pillow):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = encoded(photograph(*size), subsampling=subsampling, exif=exif)
    framings = [
        None,
        partial(random_part, least=0.3, seed=0, epoch=0, sample=size[0]),
        partial(middle, out_width=48, out_height=32, share=0.875),
    ]
    read = partial(read_pixels, stored, channels=3, height=32, width=48)
    quickly = [read(framing=framing) for framing in framings]
    only_pillow()
    for framing, pixels in zip(framings, quickly, strict=True):
        np.testing.assert_array_equal(read(framing=framing), pixels)


def test_the_fast_decoder_is_taken_for_plain_images_only(monkeypatch):
    image = photograph(60, 80)
    turned, upside = Image.Exif(), Image.Exif()
    turned[0x0112], upside[0x010F] = 3, "maker"  # and EXIF that says nothing of how it lies
    whole = encoded(image).content
    plain = [
        encoded(image),
        encoded(image.convert("L")),
        encoded(image, progressive=True),
        encoded(image, exif=upside),
    ]
    others = [encoded(image, exif=turned), encoded(image.convert("CMYK"))]
    damaged = [
        EncodedImage("x", whole[:-50]),
        EncodedImage("x", b""),
        EncodedImage("x", b"\xff\xd8\xff" + b"a" * 99),
    ]
    for stored in plain:
        made = jpeg.decode_rgb(stored.content, lambda *_: 1)
        assert made is not None
        np.testing.assert_array_equal(made[0], np.asarray(decode(stored, "RGB")))
        assert made[1:] == (1, (80, 60))
    for stored in (*others, *damaged):
        assert jpeg.decode_rgb(stored.content, lambda *_: 1) is None
    for stored in damaged:
        with pytest.raises(DataError, match=r"^x: cannot be decoded: "):
            read_pixels(stored, channels=3, height=8, width=8)
    monkeypatch.setattr(jpeg, "_MOST_PIXELS", 80 * 60 - 1)
    assert jpeg.decode_rgb(whole, lambda *_: 1) is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("size", "by"), [(255, 1), (256, 2), (511, 2), (512, 4), (1023, 4), (1024, 8), (4000, 8)]
)
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(channels, size, by, monkeypatch):
    """By at most half of what it is made smaller by in all; nothing moves by it."""
    asked = []
    resize = image_pixels.framed
    monkeypatch.setattr(
        image_pixels,
        "framed",
        lambda image, *part, **out: asked.append(image.shape) or resize(image, *part, **out),
    )
    image = photograph(size, size + 30)
    box = (5.5, 0.0, size + 5.5, float(size))

    def framing(width: int, height: int) -> Frame:
        assert (width, height) == image.size
        return Frame((0, 0, *image.size), box)

    found = read_pixels(encoded(image, quality=95), channels=channels, height=64, width=64, framing=framing)
    assert asked == [(-(-size // by), -(-(size + 30) // by), channels)]
    wanted = image.convert("L" if channels == 1 else "RGB").resize(
        (64, 64), Image.Resampling.BILINEAR, box=box
    )
    differences = np.abs(found.astype(int) - np.asarray(wanted).reshape(64, 64, channels).transpose(2, 0, 1))
    assert differences.mean() < 2.5
    assert differences.max() < 20


def test_other_formats_are_decoded_in_their_own_size(tmp_path, monkeypatch):
    shapes = []
    monkeypatch.setattr(
        image_pixels, "framed", lambda image, *_, **_size: shapes.append(image.shape) or np.zeros(1, np.uint8)
    )
    photograph(600, 700).save(tmp_path / "a.png")
    read_pixels(tmp_path / "a.png", channels=3, height=8, width=8)
    assert shapes == [(600, 700, 3)]


def test_a_region_keeps_out_what_lies_beside_it_in_a_smaller_image_too():
    white = np.full((1024, 1024, 3), 255, np.uint8)
    white[:512] = 0
    stored = encoded(Image.fromarray(white), quality=100)
    for top, value in ((0, 0), (512, 255)):
        region = (0, top, 1024, top + 512)
        found = read_pixels(
            stored, channels=3, height=32, width=64, framing=lambda *_, r=region: Frame(r, (0, 0, 1024, 512))
        )
        assert (found == value).all()
