"""A bank built in parts against one built at once, and against the bound that its module states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.families import patchcore
from detectors.families.patchcore import PatchCore, PatchCoreSettings
from detectors.patches import streamed_bank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.streamed_bank import BuiltBank, stream_bank
from detectors.protocol import FitContext, no_progress


def _radius(points: NDArray[np.float32], centres: NDArray[np.float32]) -> float:
    squared = ((points[:, None, :].astype(np.float64) - centres[None]) ** 2).sum(axis=2)
    return float(np.sqrt(squared.min(axis=1).max()))


def _stream(canvases: Sequence[NDArray[np.uint8]], *, bank_size: int, n_folds: int = 3) -> BuiltBank:
    """Of canvases whose pixels are their own features."""
    return stream_bank(
        canvases,
        np.array_split(np.arange(len(canvases)), n_folds),
        features=lambda several: (canvas.astype(np.float32) for canvas in several),
        n_patches=sum(canvas[..., 0].size for canvas in canvases),
        bank_size=bank_size,
        dimensions=3,
        top_share=0.05,
        seed=0,
        progress=no_progress,
    )


@pytest.mark.parametrize("part", [40, 100, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_every_patch_lies_within_the_stated_bound(part: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy at once reaches at least the best radius, so four times its own is more than the bound allows."""
    monkeypatch.setattr(streamed_bank, "PART_PATCHES", part)
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (30, 3))
    spread = rng.normal(0, 4, (18, 5, 7, 3))
    canvases = [np.clip(centres[rng.integers(30, size=(5, 7))] + noise, 0, 255).astype(np.uint8) for noise in spread]
    found = _stream(canvases, bank_size=12)
    points = found.projection.apply(np.concatenate([c.reshape(-1, 3) for c in canvases]).astype(np.float32))
    at_once = points[greedy_coreset(points, 12, seed=0)]
    assert len(found.patches) == 12
    assert _radius(points, found.patches) <= 4 * _radius(points, at_once)


def test_no_more_than_one_part_is_looked_at_before_it_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed_bank, "PART_PATCHES", 60)
    sizes = []

    def counted(patches: NDArray[np.float32], n_select: int, *, seed: int) -> NDArray[np.int64]:
        sizes.append(len(patches))
        return greedy_coreset(patches, n_select, seed=seed)

    monkeypatch.setattr(streamed_bank, "greedy_coreset", counted)
    rng = np.random.default_rng(0)
    canvases = list(rng.integers(0, 256, (24, 4, 5, 3), dtype=np.uint8))
    _stream(canvases, bank_size=4)
    parts = [60, 60, 40] * 3  # 160 patches a fold, by whole images
    assert sizes == [*parts, 24, 24, 24, 36]  # three picks of four a fold: two folds, then all


def test_parts_of_which_all_is_kept_give_the_fit_at_once(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bank for every patch nothing is approximate: reference, projection and scores must agree."""
    settings = PatchCoreSettings(bank_size=10**6, dimensions=16)
    at_once = PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(seed=2), settings=settings)
    monkeypatch.setattr(patchcore, "HELD_FEATURES_BYTES", 0)
    monkeypatch.setattr(streamed_bank, "PART_PATCHES", 40)
    streamed = PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(seed=2), settings=settings)
    np.testing.assert_allclose(streamed.reference_scores, at_once.reference_scores, rtol=1e-4)
    for canvas in canvases[20:23]:
        assert streamed.model.score(canvas).score == pytest.approx(at_once.model.score(canvas).score, rel=1e-4)


def test_a_streamed_fit_is_repeated_bit_for_bit_by_its_seed(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patchcore, "HELD_FEATURES_BYTES", 0)
    monkeypatch.setattr(streamed_bank, "PART_PATCHES", 100)
    settings = PatchCoreSettings(bank_size=64, dimensions=16)
    first, again = (
        PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(seed=1), settings=settings) for _ in range(2)
    )
    np.testing.assert_array_equal(first.reference_scores, again.reference_scores)
    np.testing.assert_array_equal(first.model.arrays()["bank"], again.model.arrays()["bank"])
