"""Reading photographs: 8 and 16 bit, gray and colour, PNG, JPEG, TIFF and BMP, never silently wrong."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from halfsigma import ImageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
MIN_SIDE_PX = 16
"""Below this a backbone's first stages see nothing but padding."""
MAX_PIXELS = 200_000_000
"""A larger header is a broken or hostile file: 200 megapixels are beyond industrial area cameras."""
MAX_ASPECT = 8.0
"""A part's photograph longer than this needs tiling, not shrinking: it is refused rather than squashed."""
EIGHT_BIT_WHITE = 255

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower, and `MAX_PIXELS` is asked before anything is decoded
# For the process: `warnings.catch_warnings` is no matter of one thread, and photographs are read in several.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # odd metadata; the pixels are what counts

_EXIF_ORIENTATION = 0x0112
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation in EXIF → what brings the picture upright."""
_EXIF_IFD = 0x8769
_EXIF_TAKEN_AT = 0x9003
_EXIF_SUBSECOND = 0x9291
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
"""Whatever the file's name says; Pillow would hand others to programs of this machine, such as PostScript's."""
_SIXTEEN_BIT_RAW = re.compile(r";16[BLN]")
"""Without a letter for the order of bytes it is 16 bits for three colours."""
_TIFF_BITS, _TIFF_PLANES, _APART = 258, 284, 2
_TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_SCALED_AT_ONCE = 2**20
"""Values of 16 bits, as floating-point numbers."""
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)
"""What Pillow raises."""
_SIXTEEN_BIT_GRAY = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Photograph:
    """One decoded file: its pixels, its identity and, where the camera wrote it, when it was taken."""

    path: Path
    sha256: str
    """Of the file's bytes, hexadecimal."""
    pixels: Pixels
    """(height, width) gray or (height, width, 3) RGB; uint8 or uint16."""
    taken_at: datetime | None
    """EXIF DateTimeOriginal, the camera's local time without a zone."""


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Order names as people do: numbers inside them count as numbers.

    >>> sorted(["part10.png", "part9.png"], key=natural_key)
    ['part9.png', 'part10.png']
    """
    pieces = re.split(r"(\d+)", name.lower())
    return tuple((1, int(piece), "") if piece.isdecimal() else (0, 0, piece) for piece in pieces)


def list_images(folder: Path) -> list[Path]:
    """All image files below ``folder``, in natural order of their relative paths.

    Hidden files are passed over. A file counts as an image by its ending (`IMAGE_SUFFIXES`) alone; whether it can
    be read is found out when it is read.

    Raises:
        ImageError: the folder does not exist, is no folder, or holds no image.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ImageError(f"{folder} {found}, expected a folder of images", hint="give the path of a folder")
    found_paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    if not found_paths:
        endings = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(f"{folder} holds no image", hint=f"put files ending in {endings} there")
    names = {path: path.relative_to(folder).as_posix() for path in found_paths}
    return sorted(found_paths, key=lambda path: (natural_key(names[path]), names[path]))


def read_photograph(path: Path) -> Photograph:
    """Decode one file whole, or say why it cannot be.

    Orientation in EXIF is applied, palettes become RGB, transparency is no matter: the pixels count as they are stored.

    Raises:
        ImageError: missing, empty, truncated, not an image, fewer than `MIN_SIDE_PX` pixels on a side, longer than
            `MAX_ASPECT` times its width, or of a mode that has no meaning for an inspection camera.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path.name}: cannot be opened ({error.strerror})", hint="check path and rights") from error
    if not data:
        raise ImageError(f"{path.name}: the file is empty", hint="copy it again from the camera")
    pixels, taken_at = _decode(data, name=path.name)
    check_size(pixels, name=path.name)
    return Photograph(path, hashlib.sha256(data).hexdigest(), pixels, taken_at)


def check_size(pixels: Pixels, *, name: str) -> None:
    """ImageError for an image of (h, w) or (h, w, 3) that is too small or too long to be judged."""
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ImageError(
            f"{name}: {width} × {height} px, expected at least {MIN_SIDE_PX} on each side",
            hint="check the camera's region of interest",
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ImageError(
            f"{name}: {width} × {height} px is more than {MAX_ASPECT:g} times longer than wide",
            hint="cut line-scan images into tiles first",
        )


def white_level_of(images: Iterable[Pixels]) -> int:
    """The camera's full scale: 255, or the smallest of 10, 12, 14 and 16 bits that holds every pixel.

    Cameras store 10, 12 or 14 significant bits in 16-bit files; scaling those by 65,535 would make every photograph
    black. It is fixed once for a line, since a scale taken from each image would hide an ageing lamp.
    """
    deep, brightest = False, 0
    for image in images:  # one at a time: fifty of 20 megapixels are gigabytes
        deep = deep or image.dtype != np.uint8
        brightest = max(brightest, int(image.max()) * (257 if image.dtype == np.uint8 else 1))
    if not deep:
        return EIGHT_BIT_WHITE
    return next(level for level in (1023, 4095, 16383, 65535) if brightest <= level)


def is_as_deep(pixels: Pixels, white_level: int) -> bool:
    """Whether pixels can be brought to a line's white level: those of 16 bits not to one of 8."""
    return pixels.dtype != np.uint16 or white_level > EIGHT_BIT_WHITE


def to_uint8_rgb(pixels: Pixels, *, white_level: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8, with ``white_level`` of 16-bit images at 255 (brighter pixels saturate).

    Raises:
        ImageError: a 16-bit image on a line whose camera took 8-bit ones (``white_level`` 255): scaled like those it
            would be white all over.

    >>> to_uint8_rgb(np.full((2, 2), 4095, np.uint16), white_level=4095)[0, 0].tolist()
    [255, 255, 255]
    """
    if pixels.dtype == np.uint16:
        if not is_as_deep(pixels, white_level):
            raise ImageError(
                "a 16-bit image, but the line was fitted on 8-bit ones",
                hint="set the camera back to 8 bits, or fit the line again on 16-bit images",
            )
        eight = _scaled_to_8_bits(pixels, white_level=white_level)
    else:
        eight = pixels.astype(np.uint8, copy=False)
    if eight.ndim == 2:
        eight = np.repeat(eight[:, :, None], 3, axis=2)
    return np.ascontiguousarray(eight)


def _scaled_to_8_bits(pixels: Pixels, *, white_level: int) -> NDArray[np.uint8]:
    eight = np.empty(pixels.shape, np.uint8)
    step = max(1, _SCALED_AT_ONCE // pixels[0].size)
    for start in range(0, len(pixels), step):
        rows = pixels[start : start + step].astype(np.float32)
        eight[start : start + step] = np.rint(np.minimum(rows * (255.0 / white_level), 255.0))
    return eight


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Pillow's image of a file of one of the formats that are read, its pixels not decoded yet."""
    return Image.open(source, formats=_FORMATS)


def n_pixels_in(path: Path) -> int:
    """As the file's header says; 0 where it says nothing, and reading it in full will say what is wrong with it."""
    try:
        with open_image(path) as image:
            return image.width * image.height
    except _DAMAGED:
        return 0


def is_deep(image: Image.Image) -> bool:
    """Whether an image that was not decoded yet has 16 bits, gray or colour."""
    return image.mode.startswith("I") or _is_16_bit_colour(image)


def _decode(data: bytes, *, name: str) -> tuple[Pixels, datetime | None]:
    try:
        image = open_image(io.BytesIO(data))
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{name}: {image.width} × {image.height} px is too large", hint="check the file")
        deep_colour = _is_16_bit_colour(image)
        if deep_colour and _of_tiff(image, _TIFF_PLANES) == _APART:
            raise ImageError(f"{name}: 16-bit colour in planes of their own", hint="export it as interleaved RGB")
        if _of_tiff(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO and max(_of_tiff(image, _TIFF_BITS) or (1,)) > 8:
            # Pillow turns 8 bits round, and gives more of them as they are stored: a negative
            raise ImageError(f"{name}: more than 8 bits with white stored as 0", hint="export it with black as 0")
        image.load()
        exif, details = _exif(image)
        if deep_colour:
            return _decode_16_bit_colour(data, name=name), _taken_at(details)
        how = _TURNED.get(exif.get(_EXIF_ORIENTATION, 1))
        turned = image if how is None else image.transpose(how)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not an image, although its ending says so", hint="remove it or export it again"
        ) from error
    except _DAMAGED as error:
        raise ImageError(f"{name}: damaged or truncated ({error})", hint="copy it again from the camera") from error
    return _pixels_of(turned, name=name), _taken_at(details)


def _pixels_of(image: Image.Image, *, name: str) -> Pixels:
    if image.mode in _SIXTEEN_BIT_GRAY:
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ImageError(f"{name}: 32-bit pixels outside 0…65535", hint="export it with 8 or 16 bits")
        return wide.astype(np.uint16)
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point pixels", hint="export it with 8 or 16 bits")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("LA"))[:, :, 0].copy()
    return np.asarray(image.convert("RGB"))


def _is_16_bit_colour(image: Image.Image) -> bool:
    """Pillow keeps only the high byte of 16-bit colour; before loading, its tile names the raw mode (``RGB;16B``).

    Of TIFF planes that lie apart it does not, and takes their bytes for pixels.
    """
    if image.mode not in ("RGB", "RGBA"):
        return False
    bits = _of_tiff(image, _TIFF_BITS) or ()
    return max(bits, default=8) > 8 or any(_SIXTEEN_BIT_RAW.search(str(tile[3])) for tile in getattr(image, "tile", ()))


def _of_tiff(image: Image.Image, tag: int) -> Any:
    """What a TIFF file says under a tag; None of other formats, or where it says nothing."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _decode_16_bit_colour(data: bytes, *, name: str) -> NDArray[np.uint16]:
    import cv2

    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if decoded is None or decoded.dtype != np.uint16:
        raise ImageError(f"{name}: 16-bit colour in an unusual layout", hint="export it as plain RGB")
    return np.ascontiguousarray(decoded[:, :, ::-1])


def _exif(image: Image.Image) -> tuple[Mapping[int, Any], Mapping[int, Any]]:
    """The EXIF entries of the picture and of the shot; none where they are damaged: the pixels are what counts."""
    try:
        exif = image.getexif()
        return dict(exif), dict(exif.get_ifd(_EXIF_IFD)) if exif else {}
    except (struct.error, OSError, SyntaxError, ValueError, KeyError, TypeError):
        return {}, {}


def _taken_at(details: Mapping[int, Any]) -> datetime | None:
    written = details.get(_EXIF_TAKEN_AT)
    if not isinstance(written, str):
        return None
    try:
        moment = datetime.strptime(written.strip("\x00 "), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007  # EXIF has no zone
    except ValueError:
        return None
    fraction = str(details.get(_EXIF_SUBSECOND, "")).strip("\x00 ")
    if fraction.isdigit():
        moment = moment.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    return moment
