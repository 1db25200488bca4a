"""Every file is read as an independent decoder reads it, or refused with a reason: never silently wrong."""

from __future__ import annotations

import struct
import tracemalloc
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from detectors.photographs.images import (
    MAX_ASPECT,
    MIN_SIDE_PX,
    list_images,
    read_photograph,
    to_uint8_rgb,
    white_level_of,
)
from halfsigma import ImageError

RNG = np.random.default_rng(7)
GRAY_8 = RNG.integers(0, 256, (40, 56), dtype=np.uint8)
GRAY_16 = RNG.integers(0, 65536, (40, 56), dtype=np.uint16)
COLOUR_8 = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)
COLOUR_16 = RNG.integers(0, 65536, (40, 56, 3), dtype=np.uint16)
EXIF_IFD, EXIF_TAKEN_AT, EXIF_SUBSECOND, EXIF_ORIENTATION = 0x8769, 0x9003, 0x9291, 0x0112


def _write_cv2(path: Path, pixels: np.ndarray) -> None:
    """OpenCV writes blue first."""
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[:, :, ::-1])


def _write_tiff(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb")


def _write_big_endian_tiff(path: Path, pixels: np.ndarray) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack" if pixels.ndim == 2 else "rgb", byteorder=">")


@pytest.mark.parametrize("pixels", [GRAY_8, GRAY_16, COLOUR_8, COLOUR_16], ids=["g8", "g16", "c8", "c16"])
@pytest.mark.parametrize(
    ("suffix", "write"),
    [("png", _write_cv2), ("tif", _write_tiff), ("tiff", _write_cv2), ("TIF", _write_big_endian_tiff)],
    ids=["png", "tif", "tif-cv2", "tif-big-endian"],
)
def test_lossless_files_give_back_exactly_the_pixels_that_were_written(
    tmp_path: Path, pixels: np.ndarray, suffix: str, write: Callable[[Path, np.ndarray], None]
) -> None:
    path = tmp_path / f"a.{suffix}"
    write(path, pixels)
    read = read_photograph(path).pixels
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize("pixels", [GRAY_8, COLOUR_8], ids=["gray", "colour"])
def test_bmp_gives_back_exactly_the_pixels_that_were_written(tmp_path: Path, pixels: np.ndarray) -> None:
    _write_cv2(tmp_path / "a.bmp", pixels)
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.bmp").pixels, pixels)


@pytest.mark.parametrize("pixels", [GRAY_8, COLOUR_8], ids=["gray", "colour"])
def test_a_jpeg_is_decoded_as_opencv_decodes_it(tmp_path: Path, pixels: np.ndarray) -> None:
    path = tmp_path / "a.jpg"
    _write_cv2(path, cv2.GaussianBlur(pixels, (0, 0), 3))
    read = read_photograph(path).pixels
    other = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert read.ndim == pixels.ndim
    # two JPEG libraries may round the inverse transform and the colour conversion differently
    assert np.abs(read.astype(int) - (other if other.ndim == 2 else other[:, :, ::-1])).max() <= 4


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    indices = RNG.integers(0, 3, (20, 20), dtype=np.uint8)
    palette = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    image = Image.fromarray(indices, mode=None).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(palette.ravel().tolist())
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").pixels, palette[indices])


def test_a_bilevel_image_is_black_and_white(tmp_path: Path) -> None:
    bits = RNG.integers(0, 2, (20, 24)).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").pixels, bits * np.uint8(255))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_an_opaque_alpha_channel_changes_nothing(tmp_path: Path, mode: str) -> None:
    colours = GRAY_8[:, :, None] if mode == "LA" else COLOUR_8
    with_alpha = np.concatenate([colours, np.full((40, 56, 1), 255, np.uint8)], axis=2)
    Image.fromarray(with_alpha).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").pixels, colours.squeeze())


def test_the_orientation_that_the_camera_wrote_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # turn clockwise by a quarter to see it upright
    Image.fromarray(COLOUR_8).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").pixels, np.rot90(COLOUR_8, k=-1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.random.default_rng(3).integers(0, 256, (40, 60), np.uint8))
    picture.save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(read_photograph(tmp_path / "a.png").pixels, expected)


def test_a_damaged_exif_entry_costs_no_pixels(tmp_path: Path) -> None:
    """A length that is a text: Pillow can read it, and fails when it writes it again."""
    entries = struct.pack("<HHLHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHL4s", 0x0101, 2, 4, b"abc\0")
    exif = b"Exif\0\0II*\0" + struct.pack("<LH", 8, 2) + entries + bytes(4)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_photograph(tmp_path / "a.jpg").pixels.shape == (60, 40, 3)


def test_sixteen_bits_for_three_colours_are_an_ordinary_picture(tmp_path: Path) -> None:
    """A BMP of 5, 6 and 5 bits."""
    pixels = np.full((20, 20), 0xF800, "<u2")
    header = struct.pack("<LllHHLLllLL", 40, 20, 20, 1, 16, 3, pixels.nbytes, 0, 0, 0, 0)
    masks = struct.pack("<LLL", 0xF800, 0x07E0, 0x001F)
    start = 14 + len(header) + len(masks)
    file = struct.pack("<2sLHHL", b"BM", start + pixels.nbytes, 0, 0, start) + header + masks + pixels.tobytes()
    (tmp_path / "a.bmp").write_bytes(file)
    assert read_photograph(tmp_path / "a.bmp").pixels[0, 0].tolist() == [255, 0, 0]


def test_the_time_that_the_camera_wrote_is_read_to_the_microsecond(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD).update({EXIF_TAKEN_AT: "2026:11:23 22:15:07", EXIF_SUBSECOND: "25"})
    Image.fromarray(GRAY_8).save(tmp_path / "a.jpg", exif=exif)
    assert read_photograph(tmp_path / "a.jpg").taken_at == datetime(2026, 11, 23, 22, 15, 7, 250_000)


@pytest.mark.parametrize("written", ["0000:00:00 00:00:00", "yesterday", ""])
def test_a_time_that_is_none_is_no_time_and_no_error(tmp_path: Path, written: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(EXIF_IFD).update({EXIF_TAKEN_AT: written})
    Image.fromarray(GRAY_8).save(tmp_path / "a.jpg", exif=exif)
    assert read_photograph(tmp_path / "a.jpg").taken_at is None


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "a.jpg")  # no cyan, all magenta and yellow
    red = read_photograph(tmp_path / "a.jpg").pixels
    assert red.shape == (32, 32, 3)
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 3


def test_the_identity_of_a_photograph_is_the_hash_of_its_bytes(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "a.png"
    _write_cv2(path, GRAY_8)
    assert read_photograph(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def _truncated(path: Path) -> None:
    _write_cv2(path, COLOUR_8)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_refused_and_never_half_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"half.{suffix}"
    _truncated(path)
    with pytest.raises(ImageError, match=rf"half.{suffix}: (damaged or truncated|not an image)"):
        read_photograph(path)


@pytest.mark.parametrize("pixels", [GRAY_16, COLOUR_16], ids=["gray", "colour"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_truncated_16_bit_file_is_refused_as_well(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    path = tmp_path / f"half.{suffix}"
    _write_cv2(path, pixels)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="half"):
        read_photograph(path)


def test_a_png_with_one_flipped_byte_in_its_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flipped.png"
    _write_cv2(path, GRAY_8)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        read_photograph(path)


def test_an_empty_file_says_that_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ImageError, match="empty"):
        read_photograph(tmp_path / "a.png")


def test_a_text_named_png_is_called_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("batch 17, shift 2\n")
    with pytest.raises(ImageError, match="not an image, although its ending says so"):
        read_photograph(tmp_path / "a.png")


def test_a_file_that_went_away_or_is_a_folder_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    for name in ("gone.png", "folder.png"):
        with pytest.raises(ImageError, match=f"{name}: cannot be opened"):
            read_photograph(tmp_path / name)


@pytest.mark.parametrize("side", [1, MIN_SIDE_PX - 1])
def test_an_image_too_small_to_show_a_part_is_refused(tmp_path: Path, side: int) -> None:
    _write_cv2(tmp_path / "a.png", np.zeros((side, 40), np.uint8))
    with pytest.raises(ImageError, match=f"40 × {side} px, expected at least {MIN_SIDE_PX}"):
        read_photograph(tmp_path / "a.png")


def test_an_image_at_the_limits_is_read(tmp_path: Path) -> None:
    longest = np.zeros((MIN_SIDE_PX, int(MIN_SIDE_PX * MAX_ASPECT)), np.uint8)
    _write_cv2(tmp_path / "a.png", longest)
    assert read_photograph(tmp_path / "a.png").pixels.shape == longest.shape


def test_an_image_too_long_for_its_width_is_refused(tmp_path: Path) -> None:
    _write_cv2(tmp_path / "a.png", np.zeros((20, 20 * 9), np.uint8))
    with pytest.raises(ImageError, match="8 times longer than wide"):
        read_photograph(tmp_path / "a.png")


def test_a_header_that_promises_too_many_pixels_is_refused_before_they_are_made(tmp_path: Path) -> None:
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(ImageError, match="bomb.png"):
        read_photograph(tmp_path / "bomb.png")


def test_floating_point_pixels_have_no_meaning_for_a_camera(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20), np.float32))
    with pytest.raises(ImageError, match="floating-point"):
        read_photograph(tmp_path / "a.tif")


def test_16_bit_colour_in_planes_of_their_own_is_refused_and_not_taken_for_8_bits(tmp_path: Path) -> None:
    planes = np.moveaxis(COLOUR_16, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ImageError, match="planes of their own"):
        read_photograph(tmp_path / "a.tif")


def test_more_than_8_bits_with_white_as_0_are_refused_and_not_read_as_a_negative(tmp_path: Path) -> None:
    path = tmp_path / "negative.tif"
    tifffile.imwrite(path, GRAY_16, photometric="miniswhite")
    with pytest.raises(ImageError, match="negative.tif: more than 8 bits with white stored as 0") as raised:
        read_photograph(path)
    assert "black as 0" in raised.value.hint
    tifffile.imwrite(path, GRAY_8, photometric="miniswhite")
    np.testing.assert_array_equal(read_photograph(path).pixels, 255 - GRAY_8)


def test_8_bit_colour_in_planes_of_their_own_is_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(COLOUR_8, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_photograph(tmp_path / "a.tif").pixels, COLOUR_8)


def test_a_file_of_another_format_is_no_image_whatever_its_name(tmp_path: Path) -> None:
    Image.fromarray(COLOUR_8).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n")
    for name in ("a.png", "b.png"):
        with pytest.raises(ImageError, match="not an image"):
            read_photograph(tmp_path / name)


def test_reading_in_threads_leaves_the_warnings_of_others_alone(tmp_path: Path) -> None:
    _write_cv2(tmp_path / "a.png", np.zeros((400, 400, 3), np.uint8))
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(read_photograph, [tmp_path / "a.png"] * 60))
        assert warnings.filters == before


def test_images_are_listed_in_natural_order_without_hidden_ones(tmp_path: Path) -> None:
    names = ["part10.png", "part9.PNG", "b/part2.tif", "b/.hidden.png", ".cache/part1.png", "notes.txt", "part1.jpeg"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == ["b/part2.tif", "part1.jpeg", "part9.PNG", "part10.png"]


def test_names_that_count_alike_keep_one_order(tmp_path: Path) -> None:
    names = ["10²3.png", "A.png", "a.png", "part01.png", "part1.png"]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in list_images(tmp_path)] == names


def test_a_hidden_folder_above_the_one_that_is_asked_for_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / ".halfsigma").mkdir()
    (tmp_path / ".halfsigma" / "a.png").touch()
    assert len(list_images(tmp_path / ".halfsigma")) == 1


@pytest.mark.parametrize("kind", ["empty", "file", "missing"])
def test_what_is_no_folder_of_images_is_said_plainly(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "images"
    if kind == "empty":
        folder.mkdir()
    elif kind == "file":
        folder.touch()
    expected = {"empty": "holds no image", "file": "is a file", "missing": "does not exist"}[kind]
    with pytest.raises(ImageError, match=expected):
        list_images(folder)


@pytest.mark.parametrize(
    ("brightest", "level"), [(1000, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (16000, 16383), (16384, 65535)]
)
def test_the_white_level_is_the_smallest_full_scale_that_holds_every_pixel(brightest: int, level: int) -> None:
    dark = np.full((4, 4), 3, np.uint16)
    assert white_level_of([dark, np.full((4, 4), brightest, np.uint16)]) == level


def test_eight_bit_images_have_their_own_white_level() -> None:
    assert white_level_of([GRAY_8, COLOUR_8]) == 255
    assert white_level_of([]) == 255


def test_twelve_bits_in_sixteen_are_scaled_by_twelve(tmp_path: Path) -> None:
    twelve = np.linspace(0, 4095, 40 * 56).astype(np.uint16).reshape(40, 56)
    _write_cv2(tmp_path / "a.png", twelve)
    eight = to_uint8_rgb(read_photograph(tmp_path / "a.png").pixels, white_level=4095)
    assert eight.shape == (40, 56, 3)
    np.testing.assert_array_equal(eight[:, :, 1], np.floor(twelve / 4095 * 255 + 0.5).astype(np.uint8))


@pytest.mark.parametrize("white_level", [1023, 4095, 16383, 65535])
def test_each_of_the_16_bit_values_becomes_the_nearest_of_8_bits(white_level: int) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(64, 1024)
    expected = np.rint(np.minimum(values.astype(np.float32) * (255.0 / white_level), 255.0)).astype(np.uint8)
    np.testing.assert_array_equal(to_uint8_rgb(values, white_level=white_level)[..., 1], expected)
    tall = np.repeat(values.reshape(-1, 1, 1), 3, axis=2)
    np.testing.assert_array_equal(to_uint8_rgb(tall, white_level=white_level)[..., 2], expected.reshape(-1, 1))


def test_a_large_16_bit_photograph_is_converted_without_copies_of_four_bytes_a_pixel() -> None:
    large = np.full((3000, 2000, 3), 2000, np.uint16)
    tracemalloc.start()
    try:
        to_uint8_rgb(large, white_level=4095)
        assert tracemalloc.get_traced_memory()[1] < 2 * large.size
    finally:
        tracemalloc.stop()


def test_pixels_above_the_white_level_saturate_and_do_not_wrap_around() -> None:
    assert to_uint8_rgb(np.full((2, 2), 65535, np.uint16), white_level=4095).min() == 255


def test_a_16_bit_image_on_a_line_of_8_bit_images_is_refused_and_not_blown_out() -> None:
    with pytest.raises(ImageError, match="16-bit"):
        to_uint8_rgb(GRAY_16, white_level=255)
