"""PaDiM's figures against a brute-force computation in float64, and its honesty about what it has seen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.backbones.runtime import FeatureRuntime
from detectors.families.padim import BLOCK_IMAGES, Padim, PadimSettings
from detectors.patches.gaussians import RIDGE_SHARE
from detectors.protocol import FitContext, Known

SETTINGS = PadimSettings(dimensions=24)


def _on_the_grid(features: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear interpolation, pixel centres on pixel centres, written out for one position after the other."""
    rows, columns = features.shape[:2]
    out = np.empty((*grid, features.shape[2]))
    for i in range(grid[0]):
        y = np.clip((i + 0.5) * rows / grid[0] - 0.5, 0, rows - 1)
        for j in range(grid[1]):
            x = np.clip((j + 0.5) * columns / grid[1] - 0.5, 0, columns - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = features[top, left] * (1 - (x - left)) + features[top, right] * (x - left)
            lower = features[below, left] * (1 - (x - left)) + features[below, right] * (x - left)
            out[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def _brute_force(
    fitted: Sequence[NDArray[np.uint8]], canvas: NDArray[np.uint8], runtime: FeatureRuntime, settings: PadimSettings
) -> tuple[float, NDArray[np.float64]]:
    """Score and map by one inverted covariance a position, nothing shared with the code under test."""
    channels = list(settings.channels)
    known = np.stack([_on_the_grid(runtime.features(each)[..., channels], settings.grid) for each in fitted])
    asked = _on_the_grid(runtime.features(canvas)[..., channels], settings.grid)
    places = list(np.ndindex(settings.grid))
    covariances = {place: np.cov(known[:, place[0], place[1]].T) for place in places}
    ridge = RIDGE_SHARE * np.mean([np.trace(each) / len(channels) for each in covariances.values()])
    found = np.empty(settings.grid)
    for place in places:
        deviation = asked[place] - known[:, place[0], place[1]].mean(axis=0)
        inverse = np.linalg.inv(covariances[place] + ridge * np.eye(len(channels)))
        found[place] = np.sqrt(deviation @ inverse @ deviation)
    n_top = max(1, round(settings.top_share * found.size))
    return float(np.sort(found.ravel())[::-1][:n_top].mean()), found


def _settings_of(model: Padim) -> PadimSettings:
    record = model.settings_record()
    return PadimSettings(**record)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_score_and_map_are_those_of_inverted_covariances(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, torch_runtime: FeatureRuntime, kind: str
) -> None:
    runtime = runtime if kind == "openvino" else torch_runtime
    model = Padim.fit(canvases[:30], runtime=runtime, context=FitContext(seed=0), settings=SETTINGS).model
    for canvas in canvases[30:33]:
        found = model.score(canvas)
        score, anomaly_map = _brute_force(canvases[:30], canvas, runtime, _settings_of(model))
        assert found.score == pytest.approx(score, rel=1e-3)
        np.testing.assert_allclose(found.anomaly_map, anomaly_map, rtol=5e-3)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_parts_of_many_sizes_meet_on_the_lines_grid(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, torch_runtime: FeatureRuntime, kind: str
) -> None:
    runtime = runtime if kind == "openvino" else torch_runtime
    rng = np.random.default_rng(0)
    sizes = [(64, 128), (96, 96), (128, 64), (96, 96), (96, 96)]
    mixed = [np.ascontiguousarray(np.resize(canvas, (*sizes[k % 5], 3))) for k, canvas in enumerate(canvases[:25])]
    model = Padim.fit(mixed, runtime=runtime, context=FitContext(seed=0), settings=SETTINGS).model
    settings = _settings_of(model)
    assert settings.grid == (6, 6)
    assert settings.canvas_size is None
    for size in (*sizes[:3], (160, 64)):
        canvas = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        found = model.score(canvas)
        score, anomaly_map = _brute_force(mixed, canvas, runtime, settings)
        assert found.score == pytest.approx(score, rel=1e-3)
        np.testing.assert_allclose(found.anomaly_map, anomaly_map, rtol=5e-3)


def test_a_reference_score_is_that_of_the_gaussians_without_the_image(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    fitted = Padim.fit(canvases[:24], runtime=runtime, context=FitContext(seed=3), settings=SETTINGS)
    assert fitted.reference_index.tolist() == list(range(24))
    for i in (0, 11, 23):
        others = [canvas for k, canvas in enumerate(canvases[:24]) if k != i]
        score, _ = _brute_force(others, canvases[i], runtime, _settings_of(fitted.model))
        assert fitted.reference_scores[i] == pytest.approx(score, rel=1e-4)


def test_fresh_goods_lie_where_the_reference_lies(
    camera: Callable[..., NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    """Over several small lines: what a fit promises of its own images holds of images that it never saw."""
    shifts = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        crops = [camera(rng)[16:80, :64, None] for _ in range(60)]
        photographs = [np.ascontiguousarray(np.repeat(crop, 3, axis=2)) for crop in crops]
        fitted = Padim.fit(photographs[:30], runtime=runtime, context=FitContext(seed=seed))
        fresh = [fitted.model.score(photograph).score for photograph in photographs[30:]]
        shifts.append((np.mean(fresh) - fitted.reference_scores.mean()) / fitted.reference_scores.std(ddof=1))
    # each has a standard error of sqrt(1/30 + 1/30) = 0.26, their mean 0.13
    assert abs(np.mean(shifts)) < 0.4


def test_the_same_seed_gives_the_same_detector_bit_for_bit(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    first, again, other = (
        Padim.fit(canvases[:20], runtime=runtime, context=FitContext(seed=s), settings=SETTINGS) for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.reference_scores, again.reference_scores)
    for name, array in first.model.arrays().items():
        np.testing.assert_array_equal(array, again.model.arrays()[name])
    assert _settings_of(first.model).channels != _settings_of(other.model).channels


def test_a_restored_model_scores_bit_for_bit_alike(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, tmp_path: Path
) -> None:
    model = Padim.fit(canvases[:20], runtime=runtime, context=FitContext(seed=0)).model
    record = json.loads(json.dumps(model.settings_record()))
    again = Padim.restore(arrays=model.arrays(), settings=record, runtime=runtime, folder=tmp_path)
    for canvas in (canvases[30], np.ascontiguousarray(canvases[31][:64, :64])):
        found, expected = again.score(canvas), model.score(canvas)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.anomaly_map, expected.anomaly_map)


def test_the_map_is_hottest_where_the_defect_is(canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime) -> None:
    model = Padim.fit(canvases[:30], runtime=runtime, context=FitContext(seed=0)).model
    defective = canvases[35].copy()
    defective[64:96, 0:32] = (250, 20, 20)
    result = model.score(defective)
    row, column = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    assert row >= 3
    assert column <= 2
    assert result.score > model.score(canvases[35]).score


def test_twenty_images_are_enough_to_tell_a_defect(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    """With 100 channels of 20 images most directions of a covariance are unknown; the ridge stands in for them."""
    fitted = Padim.fit(canvases[:20], runtime=runtime, context=FitContext(seed=0))
    assert np.isfinite(fitted.reference_scores).all()
    good = [fitted.model.score(canvas).score for canvas in canvases[20:30]]
    defective = []
    for canvas in canvases[20:30]:
        dirty = canvas.copy()
        dirty[40:60, 40:60] = 20
        defective.append(fitted.model.score(dirty).score)
    assert max(good) < min(defective)


class _Counted(Sequence[NDArray[np.uint8]]):
    """Canvases that tell how many of them were asked for."""

    def __init__(self, canvases: Sequence[NDArray[np.uint8]]) -> None:
        self._canvases = canvases
        self.n_loaded = 0

    def __len__(self) -> int:
        return len(self._canvases)

    def __getitem__(self, index: Any) -> Any:
        self.n_loaded += 1
        return self._canvases[index]


def test_growing_loads_the_added_canvases_a_block_at_a_time(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    fitted = Padim.fit(canvases[:20], runtime=runtime, context=FitContext(seed=0), settings=SETTINGS)
    known = Known(20, fitted.reference_scores, np.ones(20, bool), list(enumerate(canvases[:20])))
    fresh = _Counted(canvases[20:])
    loaded: list[int] = []
    context = FitContext(seed=0, progress=lambda *_: loaded.append(fresh.n_loaded))
    (grown,) = fitted.model.grow(fresh, parts=[np.arange(len(fresh))], known=known, context=context)
    assert loaded[0] == BLOCK_IMAGES < len(fresh)
    assert grown.fresh_scores.size == len(fresh)
