"""What a store keeps comes back byte for byte, from memory and from the scratch file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.photographs import canvases
from detectors.photographs.canvases import Canvases, CanvasStore, InMemory, InScratch
from halfsigma import DetectorError


def _canvas(k: int, *, gray: bool = False) -> NDArray[np.uint8]:
    rng = np.random.default_rng(k)
    canvas = rng.integers(0, 256, (64, 96 + 32 * (k % 2), 3), dtype=np.uint8)
    return np.repeat(canvas[..., :1], 3, axis=2) if gray else canvas


def test_canvases_beyond_the_budget_come_back_from_the_file_in_any_order(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(canvases, "IN_MEMORY_BYTES", 3 * 64 * 96)
    given = [_canvas(k, gray=k in (2, 5)) for k in range(8)]
    store = CanvasStore(tmp_path)
    kept = [store.keep(each) for each in given]
    assert [type(each) for each in kept[:2]] == [InMemory, InScratch]
    assert isinstance(kept[5], InScratch)
    assert kept[5].shape == (64, 128, 1)  # a gray picture costs a third
    found = Canvases(kept)
    assert len(found) == 8
    for k in (7, 0, 3, 5, 2, 6):
        np.testing.assert_array_equal(found[k], given[k])
    for canvas, expected in zip(found[2:5], given[2:5], strict=True):
        np.testing.assert_array_equal(canvas, expected)


def test_the_scratch_file_has_no_name_that_a_crash_could_leave_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(canvases, "IN_MEMORY_BYTES", 0)
    stored = CanvasStore(tmp_path).keep(_canvas(0))
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(stored.load(), _canvas(0))


def test_a_folder_that_cannot_be_written_is_said_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(canvases, "IN_MEMORY_BYTES", 0)
    with pytest.raises(DetectorError, match="cannot be written") as caught:
        CanvasStore(tmp_path / "missing").keep(_canvas(0))
    assert "TMPDIR" in caught.value.hint


def test_a_loaded_canvas_can_be_written_on_without_changing_what_is_kept() -> None:
    kept = CanvasStore().keep(_canvas(2, gray=True))
    kept.load()[:] = 0
    np.testing.assert_array_equal(kept.load(), _canvas(2, gray=True))
