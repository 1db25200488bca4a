"""PatchCore's figures against a brute-force computation in float64, and its honesty about what it has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors import calibration
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import fold_of
from detectors.families.patchcore import PatchCore, PatchCoreSettings
from detectors.patches.bank import MemoryBank
from detectors.patches.whitening import PatchMoments, PatchProjection
from detectors.protocol import FitContext

SETTINGS = PatchCoreSettings(bank_size=64, dimensions=16, top_share=0.05)


def _brute_force(
    features: NDArray[np.float32], arrays: dict[str, NDArray[np.float32]], settings: PatchCoreSettings
) -> tuple[float, NDArray[np.float64]]:
    """Score and map by every pairwise distance in float64, nothing shared with the code under test."""
    raw = features.reshape(-1, features.shape[-1]).astype(np.float64)
    patches = (raw - arrays["projection.mean"]) @ arrays["projection.matrix"].astype(np.float64)
    bank = arrays["bank"].astype(np.float64)
    pairwise = np.sqrt(((patches[:, None, :] - bank[None, :, :]) ** 2).sum(axis=2))
    distances = pairwise.min(axis=1)
    n_top = max(1, round(settings.top_share * distances.size))
    return float(np.sort(distances)[::-1][:n_top].mean()), distances.reshape(features.shape[:2])


@pytest.mark.parametrize("kind", ["openvino", "torch"])
@pytest.mark.parametrize("top_share", [0.05, 0.3, 0.0001, 1.0])
def test_score_and_map_are_those_of_every_pairwise_distance(
    canvases: Sequence[NDArray[np.uint8]],
    runtime: FeatureRuntime,
    torch_runtime: FeatureRuntime,
    kind: str,
    top_share: float,
) -> None:
    settings = PatchCoreSettings(64, 16, top_share)
    runtime = runtime if kind == "openvino" else torch_runtime
    model = PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(), settings=settings).model
    for canvas in canvases[20:24]:
        found = model.score(canvas)
        score, anomaly_map = _brute_force(runtime.features(canvas), model.arrays(), settings)
        # squared distances from inner products in float32
        assert found.score == pytest.approx(score, rel=2e-4)
        np.testing.assert_allclose(found.anomaly_map, anomaly_map, rtol=2e-3)


def test_the_reference_is_on_the_scale_of_the_scores(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    """The reference is searched by FAISS and a station's image by the runtime's own graph: they must agree."""
    model = PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(), settings=SETTINGS).model
    arrays = model.arrays()
    projection, bank = PatchProjection.restore(arrays), MemoryBank(arrays["bank"])
    for canvas in canvases[20:24]:
        raw = runtime.features(canvas)
        patches = projection.apply(raw.reshape(-1, raw.shape[-1]))
        distances = np.sort(bank.nearest(patches))
        by_faiss = distances[-max(1, round(SETTINGS.top_share * distances.size)) :].mean()
        assert model.score(canvas).score == pytest.approx(by_faiss, rel=1e-4)


def test_the_banks_distances_are_euclidean() -> None:
    bank = MemoryBank(np.array([[0, 0], [3, 4], [60, 80]], np.float32))
    queries = np.array([[0, 0], [6, 8], [60, 79]], np.float32)
    np.testing.assert_allclose(bank.nearest(queries), [0.0, 5.0, 1.0])
    assert len(bank) == 3


def test_a_reference_score_comes_from_a_bank_without_the_image(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a second writing of cross-fitting: the other folds' patches, all of them, searched by brute force."""
    few = canvases[:21]
    raw = [runtime.features(canvas) for canvas in few]
    flat = [each.reshape(-1, each.shape[-1]) for each in raw]
    monkeypatch.setattr(calibration, "MAX_FOLDS", 4)
    monkeypatch.setattr(calibration, "MIN_FOLDS", 4)
    settings = PatchCoreSettings(bank_size=10**6, dimensions=16)
    fitted = PatchCore.fit(few, runtime=runtime, context=FitContext(seed=5), settings=settings)
    folds = fold_of(len(few), n_folds=4, rng=np.random.default_rng(5))
    for i, patches in enumerate(flat):
        others = np.concatenate([flat[j] for j in np.flatnonzero(folds != folds[i])])
        projection = PatchProjection.of(PatchMoments.of(others), dimensions=16)
        queries, bank = projection.apply(patches), projection.apply(others)
        nearest = np.sqrt(((queries[:, None, :] - bank[None, :, :]) ** 2).sum(axis=2).min(axis=1))
        expected = np.sort(nearest)[-max(1, round(0.05 * len(nearest))) :].mean()
        assert fitted.reference_scores[i] == pytest.approx(expected, rel=1e-3)
    assert fitted.reference_index.tolist() == list(range(21))


def test_the_projection_of_a_fold_is_that_of_the_other_images() -> None:
    """A projection that knows an image's noise lifts its reference score: by half a sigma with 40 images."""
    rng = np.random.default_rng(0)
    fold, others = (rng.normal(1.0, 2.0, (n, 8)).astype(np.float32) for n in (60, 300))
    everything = PatchMoments.of(fold) + PatchMoments.of(others)
    taken_away = PatchProjection.of(everything - PatchMoments.of(fold), dimensions=3)
    alone = PatchProjection.of(PatchMoments.of(others), dimensions=3)
    np.testing.assert_allclose(taken_away.mean, alone.mean, atol=1e-6)
    np.testing.assert_allclose(taken_away.matrix, alone.matrix, atol=1e-5)


def test_fresh_goods_lie_where_the_reference_lies(
    camera: Callable[..., NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    """Over several small lines: what a fit promises of its own images holds of images that it never saw."""
    settings = PatchCoreSettings(bank_size=256)
    shifts = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        crops = [camera(rng)[16:80, :64, None] for _ in range(60)]
        photographs = [np.ascontiguousarray(np.repeat(crop, 3, axis=2)) for crop in crops]
        fitted = PatchCore.fit(photographs[:30], runtime=runtime, context=FitContext(seed=seed), settings=settings)
        fresh = [fitted.model.score(photograph).score for photograph in photographs[30:]]
        shifts.append((np.mean(fresh) - fitted.reference_scores.mean()) / fitted.reference_scores.std(ddof=1))
    # each has a standard error of sqrt(1/30 + 1/30) = 0.26, their mean 0.13
    assert abs(np.mean(shifts)) < 0.4


def test_the_reference_does_not_flatter(canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime) -> None:
    """A bank of all its patches scores its own images 0; the reference of the same images must not know that."""
    settings = PatchCoreSettings(bank_size=10**6, dimensions=16)
    fitted = PatchCore.fit(canvases[:16], runtime=runtime, context=FitContext(), settings=settings)
    own = np.array([fitted.model.score(canvas).score for canvas in canvases[:16]])
    fresh = np.array([fitted.model.score(canvas).score for canvas in canvases[16:32]])
    assert own.max() < 0.05 * fitted.reference_scores.min()
    # the reference's banks lack some images, so that it lies a trifle above fresh images, not below
    assert fresh.mean() == pytest.approx(fitted.reference_scores.mean(), rel=0.25)
    assert fitted.reference_scores.mean() > fresh.mean() - 2 * fresh.std()


def test_the_same_seed_gives_the_same_detector_bit_for_bit(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    first, again, other = (
        PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(seed=seed), settings=SETTINGS)
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.reference_scores, again.reference_scores)
    for name, array in first.model.arrays().items():
        np.testing.assert_array_equal(array, again.model.arrays()[name])
    assert not np.array_equal(first.reference_scores, other.reference_scores)


def test_an_image_is_scored_alone_and_always_the_same(
    canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime
) -> None:
    model = PatchCore.fit(canvases[:20], runtime=runtime, context=FitContext(), settings=SETTINGS).model
    alone = model.score(canvases[38])
    for canvas in canvases[30:35]:
        model.score(canvas)
    again = model.score(canvases[38])
    assert again.score == alone.score
    np.testing.assert_array_equal(again.anomaly_map, alone.anomaly_map)


def test_the_map_is_hottest_where_the_defect_is(canvases: Sequence[NDArray[np.uint8]], runtime: FeatureRuntime) -> None:
    model = PatchCore.fit(canvases[:30], runtime=runtime, context=FitContext()).model
    defective = canvases[35].copy()
    defective[64:96, 0:32] = (250, 20, 20)
    result = model.score(defective)
    row, column = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    assert result.anomaly_map.shape == (defective.shape[0] // 16, defective.shape[1] // 16)
    assert row >= 3
    assert column <= 2
    assert result.score > model.score(canvases[35]).score


def test_the_projection_is_that_of_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(0)
    patches = (rng.normal(size=(500, 12)) * np.linspace(5, 0.5, 12) + rng.normal(size=12)).astype(np.float32)
    projection = PatchProjection.fit(patches, dimensions=5)
    _, _, directions = np.linalg.svd(patches - patches.mean(axis=0), full_matrices=False)
    overlap = np.abs(directions[:5] @ projection.matrix)
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-3)
    np.testing.assert_allclose(projection.apply(patches).mean(axis=0), 0.0, atol=1e-4)
