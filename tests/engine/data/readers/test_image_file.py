"""Decoding one image: exact pixels, colour modes, sizes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data.dataset import DataError
from engine.data.readers.image_file import load_pillow, read_pixels
from tests.engine.data.files import random_bytes, write_image


def test_png_of_the_right_size_is_exact(tmp_path: Path) -> None:
    pixels = random_bytes(5, 7, 3)
    write_image(tmp_path / "a.png", pixels)
    read = read_pixels(tmp_path / "a.png", channels=3, height=5, width=7)
    np.testing.assert_array_equal(read, pixels.transpose(2, 0, 1))


def test_jpeg_is_what_pillow_decodes(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", random_bytes(16, 8, 3))
    read = read_pixels(tmp_path / "a.jpg", channels=3, height=16, width=8)
    np.testing.assert_array_equal(read, np.asarray(Image.open(tmp_path / "a.jpg")).transpose(2, 0, 1))


def test_content_decides_the_format_not_the_ending(tmp_path: Path) -> None:
    pixels = random_bytes(4, 4, 3)
    write_image(tmp_path / "a.png", pixels)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    read = read_pixels(tmp_path / "a.jpg", channels=3, height=4, width=4)
    np.testing.assert_array_equal(read, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_colour_or_grey(tmp_path: Path, mode: str, channels: int) -> None:
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(tmp_path / "a.png")
    read = read_pixels(tmp_path / "a.png", channels=channels, height=4, width=4)
    np.testing.assert_array_equal(read, np.full((channels, 4, 4), 255, np.uint8))


def test_cmyk_jpeg_becomes_colour(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    read = read_pixels(tmp_path / "a.jpg", channels=3, height=8, width=8)
    np.testing.assert_array_equal(read, np.full((3, 8, 8), 255, np.uint8))


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    deep = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "a.png")
    read = read_pixels(tmp_path / "a.png", channels=1, height=8, width=8)
    np.testing.assert_array_equal(read[0], deep >> 8)


def test_wide_image_is_cut_around_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 200
    write_image(tmp_path / "a.png", pixels)
    read = read_pixels(tmp_path / "a.png", channels=3, height=8, width=8)
    np.testing.assert_array_equal(read, np.full((3, 8, 8), 200, np.uint8))


@pytest.mark.parametrize(("height", "width"), [(1, 300), (300, 1), (3, 5), (40, 60)])
def test_any_size_becomes_the_wanted_one(tmp_path: Path, height: int, width: int) -> None:
    write_image(tmp_path / "a.png", np.full((height, width, 3), 77, np.uint8))
    read = read_pixels(tmp_path / "a.png", channels=3, height=12, width=9)
    np.testing.assert_array_equal(read, np.full((3, 12, 9), 77, np.uint8))


@pytest.mark.parametrize("wanted", [(224, 224), (7, 11)])
def test_no_size_is_rounded_out_of_the_image(tmp_path: Path, wanted: tuple[int, int]) -> None:
    # Sizes of real photographs; a box computed by a common scale leaves some of them by one rounding.
    for height, width in [(450, 450), (450, 600), (600, 450), (375, 500), (49, 97), (1, 3)]:
        write_image(tmp_path / "a.png", np.full((height, width), 9, np.uint8))
        read = read_pixels(tmp_path / "a.png", channels=1, height=wanted[0], width=wanted[1])
        assert (read == 9).all()


def test_large_image_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_pillow()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write_image(tmp_path / "a.png", np.zeros((12, 12, 3), np.uint8))
    assert read_pixels(tmp_path / "a.png", channels=3, height=12, width=12).shape == (3, 12, 12)


def test_decompression_bomb_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    write_image(tmp_path / "a.png", np.zeros((12, 12, 3), np.uint8))
    with pytest.raises(DataError, match=r"a.png: cannot be decoded: .*decompression bomb"):
        read_pixels(tmp_path / "a.png", channels=3, height=12, width=12)


def test_damaged_exif_does_not_matter(tmp_path: Path) -> None:
    load_pillow()
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\x00" + b"\x1a\x01\x05\x00\x01\0\0\0\xff\xff\xff\x7f" * 2
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_pixels(tmp_path / "a.jpg", channels=3, height=8, width=8).shape == (3, 8, 8)


@pytest.mark.parametrize("content", [b"", b"GIF89a not ours", b"plain text\n" * 50])
def test_message_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd\nname.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pixels(tmp_path / "odd\nname.jpg", channels=3, height=8, width=8)
    assert "odd name.jpg: cannot be decoded" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png: cannot be decoded: .*No such file"):
        read_pixels(tmp_path / "gone.png", channels=3, height=8, width=8)
