"""Decoding one image: exact pixels, colour modes, sizes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from engine.data.dataset import DataError
from engine.data.readers.image_file import image_endings, load_pillow
from engine.data.readers.image_pixels import read_pixels
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


@pytest.mark.parametrize("content", [b"", b"GIF89a cut short", b"plain text\n" * 50])
def test_message_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd\nname.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pixels(tmp_path / "odd\nname.jpg", channels=3, height=8, width=8)
    assert r"odd\nname.jpg: cannot be decoded" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", ["webp", "bmp", "tiff", "gif", "ppm", "jp2", "tga", "ico", "pcx", "jfif"])
def test_whatever_pillow_reads_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (8, 8), (255, 255, 255)).save(path)
    assert path.suffix in image_endings()
    read = read_pixels(path, channels=3, height=8, width=8)
    assert read.shape == (3, 8, 8)
    assert (read >= 254).all()


def test_what_another_program_would_have_to_decode_is_no_image() -> None:
    assert not image_endings() & {".eps", ".ps", ".wmf", ".emf", ".h5", ".mpg", ".pdf", ".txt"}


@pytest.mark.parametrize("ending", ["gif", "tiff", "webp", "png"])
def test_first_frame_of_several_is_read(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (8, 8), (shade,) * 3) for shade in (255, 0)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    assert (read_pixels(tmp_path / f"a.{ending}", channels=1, height=8, width=8) >= 254).all()


@pytest.mark.parametrize("ending", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, ending: str) -> None:
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = 255  # blocks of JPEG: no neighbour is blurred
    Image.fromarray(pixels).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    read = read_pixels(path, channels=3, height=wanted.shape[0], width=wanted.shape[1])
    assert np.abs(read.transpose(1, 2, 0).astype(int) - wanted).max() <= 1
    assert (wanted.shape[0] == 24) == (orientation >= 5)


@pytest.mark.parametrize("array", [np.ones((4, 4), np.float32), np.full((4, 4), 1 << 20, np.int32)])
def test_pixels_of_unknown_range_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a.tiff: cannot be decoded: it has pixels .*; must"):
        read_pixels(tmp_path / "a.tiff", channels=1, height=4, width=4)


def test_name_that_is_no_text_is_read_and_can_be_printed(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9\x1b[2J.png"))
    path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_pixels(path, channels=3, height=8, width=8)
    assert r"\xff\xe9\x1b[2J.png: cannot be decoded: it is empty" in str(caught.value).encode().decode()
    path.unlink()
    with path.open("wb") as file:
        Image.new("RGB", (8, 8)).save(file, "PNG")
    assert read_pixels(path, channels=3, height=8, width=8).shape == (3, 8, 8)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.png: cannot be decoded: .*No such file"):
        read_pixels(tmp_path / "gone.png", channels=3, height=8, width=8)
