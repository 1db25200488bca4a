"""Photographs and heat maps as pixels that a page can carry inside itself."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from flows.pages.story import Map, Pixels

# The map is transparent below this share of the threshold and strongest at that one: a good part stays a
# photograph.
_CLEAR_BELOW = 0.95
_STRONGEST_AT = 1.5
_STRONGEST_ALPHA = 0.72
_OUTLINE_RGB = (255, 255, 255)
_JPEG_QUALITY = 86


def heatmap_overlay(image: Pixels, anomaly_map: Map, threshold: float) -> NDArray[np.uint8]:
    """The photograph with what is unusual glowing on it; what lies above the threshold is outlined in white.

    image: (H, W) or (H, W, 3), uint8 or uint16; anomaly_map: (h, w) of any size on the scale of the
    threshold. Returns (H, W, 3) uint8. Colours are those of "inferno", which is read alike with and without
    colour vision.

    >>> heatmap_overlay(np.zeros((8, 8), np.uint8), np.zeros((2, 2), np.float32), 1.0).shape
    (8, 8, 3)
    """
    photo = as_rgb8(image)
    height, width = photo.shape[:2]
    smooth = cv2.resize(np.asarray(anomaly_map, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    relative = np.nan_to_num(smooth, nan=0.0, posinf=1e6) / max(threshold, 1e-12)
    strength = np.clip((relative - _CLEAR_BELOW) / (_STRONGEST_AT - _CLEAR_BELOW), 0, 1)
    # From a third upwards: the black end of the palette would hide the part.
    level = np.rint(255 * (0.35 + 0.6 * strength)).astype(np.uint8)
    glow = cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    alpha = (_STRONGEST_ALPHA * np.sqrt(strength))[..., None]
    mixed = np.rint(photo * (1 - alpha) + glow * alpha).clip(0, 255).astype(np.uint8)
    above = (relative > 1.0).astype(np.uint8)
    outlines, _ = cv2.findContours(above, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mixed = np.ascontiguousarray(mixed)
    cv2.drawContours(mixed, outlines, -1, _OUTLINE_RGB, max(1, round(min(height, width) / 256)), cv2.LINE_AA)
    return mixed


def as_rgb8(image: Pixels) -> NDArray[np.uint8]:
    """Any photograph as (H, W, 3) uint8; of sixteen bits the brightest pixel just shows white."""
    pixels: NDArray[np.uint8]
    if image.dtype == np.uint16:
        pixels = np.rint(image.astype(np.float32) * (255.0 / max(int(image.max(initial=1)), 1))).astype(np.uint8)
    else:
        pixels = image.astype(np.uint8, copy=False)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)


def data_uri(image: Pixels, *, max_side_px: int) -> str:
    """The picture as a JPEG inside an address, shrunk if its longer side is more than `max_side_px`."""
    pixels = as_rgb8(image)
    factor = max_side_px / max(pixels.shape[:2])
    if factor < 1:
        shrunk = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        pixels = np.asarray(shrunk, dtype=np.uint8)
    done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:  # cannot happen for (H, W, 3) uint8 within JPEG's 65,500 px
        raise ValueError(f"an image of shape {pixels.shape} cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
