"""A contact sheet as one PNG: for a message or a wall, where nobody opens a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flows.pages.contact_sheet import ContactSheet, SheetImage
from flows.pages.images import as_rgb8

TILE_PX, GAP_PX, TEXT_PX, HEAD_PX = 72, 6, 16, 34
COLUMNS = 24
_PAPER, _INK, _BAD, _GOOD = (247, 249, 250), (36, 31, 27), (193, 78, 0), (0, 128, 94)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_mosaic(sheet: ContactSheet, path: Path) -> Path:
    """Write what was left out, framed, and what was chosen, the most suspicious first, with scores; returns the path."""
    out = [image for group in sheet.left_out for image in group.images]
    n_out = sum(group.n for group in sheet.left_out)
    shown = f"left out: {n_out}" + (f", {len(out)} shown" if len(out) < n_out else "")
    blocks = [
        _heading(f"{sheet.line}, night of {sheet.night}: {shown}"),
        _grid(out),
        _heading(f"chosen: {len(sheet.chosen)}"),
        _grid(sheet.chosen),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(blocks)[..., ::-1])
    return path


def _grid(images: Sequence[SheetImage]) -> NDArray[np.uint8]:
    rows = -(-len(images) // COLUMNS)
    page = _paper(rows * (TILE_PX + TEXT_PX + GAP_PX))
    for index, image in enumerate(images):
        top, left = (index // COLUMNS) * (TILE_PX + TEXT_PX + GAP_PX), GAP_PX + (index % COLUMNS) * (TILE_PX + GAP_PX)
        page[top : top + TILE_PX, left : left + TILE_PX] = _square(as_rgb8(image.picture))
        frame = {"defect": _BAD, "good": _GOOD}.get(image.label) or (_BAD if image.reason else None)
        if frame:
            cv2.rectangle(page, (left, top), (left + TILE_PX - 1, top + TILE_PX - 1), frame, 2)
        said = "-" if image.score is None else f"{image.score:.4g}"
        _write(page, said + (f" {image.label}" if image.label else ""), (left, top + TILE_PX + 12), 0.36)
    return page


def _square(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole picture on paper: what is unusual often lies at its edge."""
    factor = TILE_PX / max(picture.shape[:2])
    small = np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = min(small.shape[0], TILE_PX), min(small.shape[1], TILE_PX)
    square = np.full((TILE_PX, TILE_PX, 3), _PAPER, np.uint8)
    top, left = (TILE_PX - height) // 2, (TILE_PX - width) // 2
    square[top : top + height, left : left + width] = small[:height, :width]
    return square


def _heading(text: str) -> NDArray[np.uint8]:
    page = _paper(HEAD_PX)
    _write(page, text, (GAP_PX, HEAD_PX - 11), 0.6)
    return page


def _write(page: NDArray[np.uint8], text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(page, text.encode("ascii", "replace").decode(), at, _FONT, size, _INK, 1, cv2.LINE_AA)


def _paper(height: int) -> NDArray[np.uint8]:
    return np.full((height, GAP_PX + COLUMNS * (TILE_PX + GAP_PX), 3), _PAPER, np.uint8)
