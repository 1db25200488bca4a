"""Compact EfficientAD: its equations by hand, its honesty about what it has seen, and its life without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from detectors.artifact import load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import fold_of, n_folds_of
from detectors.families import efficientad
from detectors.families.efficientad import EfficientAd
from detectors.fit import GoodImages, fit_version
from detectors.learning import following, imitation
from detectors.learning.networks.compact import CompactNetwork
from detectors.learning.training import Plan
from detectors.patches.aggregation import TOP_SHARE, top_mean
from detectors.protocol import FitContext
from detectors.version import DetectorVersion

Camera = Callable[..., NDArray[np.uint8]]


@pytest.fixture(scope="module")
def quick() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(efficientad, "FROM_SCRATCH", replace(efficientad.FROM_SCRATCH, steps=150))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def fitted(quick: None, goods: GoodImages, runtime: FeatureRuntime) -> DetectorVersion:
    return fit_version(goods, family=EfficientAd, runtime=runtime, fpr_budget=0.05, seed=0)


def _small_network(seed: int = 0) -> CompactNetwork:
    torch.manual_seed(seed)
    network = CompactNetwork(patch_channels=6, stage_channels=4, ratio=2)
    with torch.no_grad():
        network.weight.uniform_(0.5, 2.0)
        network.inputs.mean.normal_()
        network.inputs.matrix.normal_()
        network.scale.copy_(torch.tensor([[0.2, 0.7], [0.1, 0.9]]))
    return network.eval()


def test_the_scores_are_those_of_the_arrays_computed_step_by_step(
    fitted: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime
) -> None:
    """By torch's functions alone, from what `arrays` says was learned."""
    arrays = {name: torch.from_numpy(array) for name, array in fitted.model.arrays().items()}
    for image in goods.prepared[:4]:
        patches, stage = (
            torch.from_numpy(each).permute(2, 0, 1)[None] for each in runtime.maps(image.canvas, ("patches", "stride8"))
        )
        target, maps = (
            torch.einsum("nchw,cd->ndhw", found - arrays[f"{name}.mean"].view(1, -1, 1, 1), arrays[f"{name}.matrix"])
            for name, found in (("teacher", patches), ("inputs", stage))
        )
        for layer, stride, padding in ((0, 2, 1), (2, 1, 1), (4, 1, 1), (6, 1, 0)):
            weight, bias = arrays[f"student.{layer}.weight"], arrays[f"student.{layer}.bias"]
            maps = functional.relu(functional.conv2d(maps, weight, bias, stride=stride, padding=padding))
        imitated = functional.conv2d(maps, arrays["imitation.weight"], arrays["imitation.bias"])
        raw = ((target - imitated).square() * arrays["weight"][None, :, None, None]).mean(dim=1)[0]
        low, high = arrays["scale"][0]
        expected = (0.1 * (raw - low) / (high - low)).numpy()
        found = fitted.model.score(image.canvas)
        assert fitted.model.settings_record()["whole"] == 0.0
        np.testing.assert_allclose(found.anomaly_map, expected, atol=2e-4)
        n_top = max(1, round(0.05 * expected.size))
        assert found.score == pytest.approx(np.sort(expected.ravel())[-n_top:].mean(), abs=2e-4)


def test_the_combined_map_is_the_weighted_sum_of_the_normalised_ones() -> None:
    network = _small_network()
    patches, stage = torch.randn(1, 5, 7, 6), torch.randn(1, 10, 14, 4)
    with torch.inference_mode():
        described = network.student(network.prepared(stage))
        local = network.local_map(network.target(patches), described)
        whole = network.whole_map(network.prepared(stage), described)
        for share in (0.0, 0.25, 0.5):
            network.whole = share
            expected = (1 - share) * 0.1 * (local - 0.2) / 0.5 + share * 0.1 * (whole - 0.1) / 0.8
            torch.testing.assert_close(network(patches, stage), expected)
    assert local.shape == whole.shape == (1, 5, 7)


def test_the_losses_are_the_papers_equations() -> None:
    network = _small_network()
    target, stage = torch.randn(2, 6, 5, 4), torch.randn(2, 4, 10, 8)
    with torch.inference_mode():
        described = network.student(stage)
        teacher_error = (target - network.imitation(described)).square().mean(dim=1).flatten().numpy()
        coded = network.autoencoder(stage[:1], (5, 4))  # a quarter of the batch, one image at least
        hardest = np.sort(teacher_error)[-4:]  # a tenth of 40 places
        expected = (
            teacher_error.mean()
            + hardest.mean()
            + float((target[:1] - coded).square().mean())
            + float((coded - network.second(described[:1])).square().mean())
        )
        assert float(network.loss(target, stage)) == pytest.approx(expected, rel=1e-5)
        assert float(network.penalty(stage)) == pytest.approx(float(network.imitation(described).square().mean()))


def test_an_autoencoder_cannot_copy_what_lies_in_one_place() -> None:
    """64 numbers for the whole image: a change in one corner reaches every place of its answer."""
    network = _small_network()
    stage = torch.randn(1, 4, 16, 16)
    changed = stage.clone()
    changed[..., :2, :2] += 5.0
    with torch.inference_mode():
        difference = (network.autoencoder(changed, (8, 8)) - network.autoencoder(stage, (8, 8))).abs().sum(dim=1)
        assert network.autoencoder.encoder(stage).shape == (1, 64, 1, 1)
    assert bool((difference > 0).all())


def test_after_scaling_the_held_out_quantiles_are_0_and_a_tenth(goods: GoodImages, runtime: FeatureRuntime) -> None:
    features = list(imitation.read([image.canvas for image in goods.prepared], runtime, "stride8"))
    module = imitation.build(imitation.moments_of(features[:20]), ratio=2, seed=0, warm=None).eval()
    learned, held_out = (imitation.Batches(module, part) for part in (features[:20], features[20:]))
    imitation.set_scales(module, learned, held_out)
    with torch.inference_mode():
        described = [(module.student(stage), target, stage) for target, stage in held_out.all()]
        local = torch.cat([module.normalised(module.local_map(t, d), 0).flatten() for d, t, _ in described]).numpy()
        whole = torch.cat([module.normalised(module.whole_map(s, d), 1).flatten() for d, _, s in described]).numpy()
        errors = [(t - module.imitation(module.student(s))).square() for t, s in learned.all()]
    for values in (local, whole):
        np.testing.assert_allclose(np.quantile(values, (0.9, 0.995)), (0.0, 0.1), atol=1e-4)
    mean_square = torch.cat(errors).mean(dim=(0, 2, 3))
    torch.testing.assert_close(module.weight, 1.0 / (mean_square + 1e-6), rtol=1e-4, atol=1e-4)


def test_the_teacher_is_principal_components_on_one_scale(goods: GoodImages, runtime: FeatureRuntime) -> None:
    features = list(imitation.read([image.canvas for image in goods.prepared], runtime, "stride8"))
    module = imitation.build(imitation.moments_of(features), ratio=2, seed=0, warm=None)
    with torch.inference_mode():
        maps = torch.cat([module.target(torch.from_numpy(each.patches)[None]).flatten(2)[0] for each in features], 1)
        inputs = torch.cat([module.prepared(torch.from_numpy(each.stage)[None]).flatten(2)[0] for each in features], 1)
    covariance = np.cov(maps.numpy())
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-3 * covariance.max()
    assert maps.square().mean() == pytest.approx(1.0, rel=1e-3)
    np.testing.assert_allclose(inputs.mean(dim=1).numpy(), 0.0, atol=1e-3)
    np.testing.assert_allclose(inputs.std(dim=1).numpy(), 1.0, atol=0.05)


def test_defects_stand_out_and_the_map_is_hottest_there(
    fitted: DetectorVersion, camera: Camera, canvases: Sequence[NDArray[np.uint8]]
) -> None:
    rng = np.random.default_rng(11)
    good = [fitted.score(camera(rng)).score for _ in range(20)]
    bad = [fitted.score(camera(rng, defect=True)).score for _ in range(20)]
    assert min(bad) > max(good)
    defective = canvases[3].copy()
    defective[64:96, :32] = 250
    row, column = np.unravel_index(fitted.model.score(defective).anomaly_map.argmax(), (6, defective.shape[1] // 16))
    assert row >= 3
    assert column <= 2


def test_fresh_goods_lie_where_the_reference_lies(fitted: DetectorVersion, camera: Camera) -> None:
    rng = np.random.default_rng(5)
    fresh = np.array([fitted.score(camera(rng)).score for _ in range(60)])
    reference = fitted.reference_scores
    # 20 and 60 images: a standard error of 0.26
    assert abs(fresh.mean() - reference.mean()) < 0.8 * reference.std(ddof=1)


def test_the_same_seed_fits_the_same_detector_bit_for_bit(
    fitted: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime
) -> None:
    again = fit_version(goods, family=EfficientAd, runtime=runtime, fpr_budget=0.05, seed=0)
    for name, array in again.model.arrays().items():
        np.testing.assert_array_equal(array, fitted.model.arrays()[name])
    np.testing.assert_array_equal(again.reference_scores, fitted.reference_scores)


def test_a_warm_start_keeps_the_teacher_and_learns_new_light_in_fewer_steps(
    fitted: DetectorVersion, camera: Camera, runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    dim = [np.repeat(cv2.resize(camera(rng, gain=0.7), (96, 96))[:, :, None], 3, axis=2) for _ in range(40)]
    trainings = []
    monkeypatch.setattr(efficientad, "FAR", -1.0)  # as if the student did not know them
    monkeypatch.setattr(efficientad, "WARM", Plan(steps=60, learning_rate=5e-4, validate_every=20))
    train = efficientad.train
    monkeypatch.setattr(efficientad, "train", lambda *a, **k: (trainings.append(train(*a, **k)), trainings[-1])[1])
    context = FitContext(warm_start=fitted.model, seen=np.zeros(40, bool))
    warm = EfficientAd.fit(dim, runtime=runtime, context=context)
    scratch = EfficientAd.fit(dim, runtime=runtime, context=context.from_scratch())
    assert (trainings[0].steps, trainings[1].steps) == (60, 150)
    for name in ("teacher.covariance", "inputs.covariance"):
        np.testing.assert_array_equal(warm.model.arrays()[name], fitted.model.arrays()[name])
        assert not np.array_equal(scratch.model.arrays()[name], fitted.model.arrays()[name])
    before = np.mean([fitted.model.score(canvas).score for canvas in dim])
    assert warm.reference_scores.mean() < before, "the dim light is usual now"
    assert trainings[0].validated[0][1] > trainings[0].best


def _dim(camera: Camera, n: int, *, seed: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [np.repeat(cv2.resize(camera(rng, gain=0.7), (96, 96))[:, :, None], 3, axis=2) for _ in range(n)]


def test_a_student_that_still_knows_the_images_learns_nothing_and_all_new_ones_are_the_reference(
    fitted: DetectorVersion, camera: Camera, runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientad, "train", None)
    monkeypatch.setattr(efficientad, "FAR", np.inf)  # of so few images the maps are rough
    dim, seen = _dim(camera, 60, seed=8), np.arange(60) >= 50
    context = FitContext(warm_start=fitted.model, seen=seen)
    followed = EfficientAd.fit(dim, runtime=runtime, context=context)
    assert sorted(followed.reference_index.tolist()) == list(range(50))
    arrays, before = followed.model.arrays(), fitted.model.arrays()
    for name in before:
        is_learned = name.startswith(("student.", "imitation.", "second.", "autoencoder.")) or name.endswith(
            "covariance"
        )
        assert np.array_equal(arrays[name], before[name]) is is_learned, name
    loss = fitted.model.settings_record()["held_out_loss"]
    assert loss is not None
    assert followed.model.settings_record()["held_out_loss"] == loss, "of when it learned last: small steps add up"
    fresh = np.array([followed.model.score(canvas).score for canvas in _dim(camera, 40, seed=9)])
    reference = followed.reference_scores
    assert fresh.mean() < reference.mean(), "maps that lack a fold are rougher still, never flattered"
    again = EfficientAd.fit(dim, runtime=runtime, context=context)
    np.testing.assert_array_equal(again.reference_scores, reference)
    np.testing.assert_array_equal(again.model.arrays()["weight"], arrays["weight"])


def test_cross_fitted_scores_are_those_of_networks_that_never_saw_the_images_fold(
    fitted: DetectorVersion, camera: Camera, runtime: FeatureRuntime
) -> None:
    """By brute force: from the images alone, without what the fast way takes away from sums over all."""
    features = list(imitation.read(_dim(camera, 30, seed=8), runtime, "stride8"))
    in_reference = np.arange(30) < 24
    warm = fitted.model.arrays()
    network, scores = following.cross_fitted(features, in_reference, ratio=2, seed=4, warm=warm, whole=0.0)
    assert scores.shape == (24,)
    fold = fold_of(24, n_folds=n_folds_of(24), rng=np.random.default_rng(4))
    mine = np.flatnonzero(fold == fold[7])
    others = [features[i] for i in range(30) if i not in mine]
    other = imitation.build(imitation.moments_of(others), ratio=2, seed=0, warm=warm).eval()
    with torch.inference_mode():
        errors = [imitation.squared_errors(network, *pair) for pair in imitation.prepared(network, others)]
        imitation.set_weight(other, torch.cat(errors).mean(dim=0))
        other.scale.copy_(network.scale)
        patches, stage = (torch.from_numpy(each)[None] for each in (features[7].patches, features[7].stage))
        expected = top_mean(other(patches, stage)[0].numpy(), top_share=TOP_SHARE).score
    assert scores[7] == pytest.approx(expected, rel=1e-4)


def test_a_student_that_does_not_know_the_images_any_more_learns_them(
    fitted: DetectorVersion, camera: Camera, runtime: FeatureRuntime
) -> None:
    rng = np.random.default_rng(1)
    others = [rng.integers(0, 256, (96, 96, 3), np.uint8) for _ in range(60)]  # another part altogether
    learned = EfficientAd.fit(others, runtime=runtime, context=FitContext(warm_start=fitted.model))
    assert len(learned.reference_index) == 20
    assert not np.array_equal(learned.model.arrays()["student.0.weight"], fitted.model.arrays()["student.0.weight"])


@pytest.mark.parametrize("lacking", ["teacher.matrix", "inputs.covariance"])
def test_a_champion_whose_network_was_another_is_retrained_from_scratch(
    fitted: DetectorVersion, goods: GoodImages, runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """As an earlier version kept it."""
    canvases = [image.canvas for image in goods.prepared]
    arrays = {name: array for name, array in fitted.model.arrays().items() if name != lacking}
    champion = fitted.model
    with monkeypatch.context() as patch:
        patch.setattr(champion, "_arrays", arrays)
        found = EfficientAd.fit(canvases, runtime=runtime, context=FitContext(seed=3, warm_start=champion))
    expected = EfficientAd.fit(canvases, runtime=runtime, context=FitContext(seed=3))
    np.testing.assert_array_equal(found.reference_scores, expected.reference_scores)


def test_a_part_of_many_sizes_is_learned_size_by_size(
    quick: None, plate: NDArray[np.uint8], runtime: FeatureRuntime
) -> None:
    rng = np.random.default_rng(0)
    canvases = []
    for index in range(40):
        height, width = [(96, 64), (64, 96), (96, 96)][index % 3]
        crop = plate[rng.integers(0, 3) :, rng.integers(0, 3) :][:height, :width]
        canvases.append(np.repeat(crop[:, :, None], 3, axis=2).copy())
    found = EfficientAd.fit(canvases, runtime=runtime, context=FitContext())
    assert found.model.settings_record()["canvas_size"] is None
    assert [found.model.score(canvas).anomaly_map.shape for canvas in canvases[:3]] == [(6, 4), (4, 6), (6, 6)]


def test_strangers_are_drawn_by_their_seed_and_differ() -> None:
    first, again, other = (imitation.strangers((64, 96), seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert len({image.std().round(1) for image in first}) > 10
    assert {image.shape for image in first} == {(64, 96, 3)}


def test_the_torch_runtime_scores_a_saved_version_alike(
    quick: None, goods: GoodImages, torch_runtime: FeatureRuntime, tmp_path: Path
) -> None:
    version = fit_version(goods, family=EfficientAd, runtime=torch_runtime, fpr_budget=0.05, seed=0)
    save_version(version, tmp_path / "version")
    photograph = np.random.default_rng(0).integers(0, 256, (96, 112), dtype=np.uint8)
    assert load_version(tmp_path / "version").score(photograph).score == version.score(photograph).score


def test_the_autoencoder_is_used_only_where_it_tells_synthetic_defects_better(
    goods: GoodImages, runtime: FeatureRuntime
) -> None:
    features = list(imitation.read([image.canvas for image in goods.prepared[:12]], runtime, "stride8"))
    module = imitation.build(imitation.moments_of(features), ratio=2, seed=0, warm=None).eval()
    batches = imitation.Batches(module, features)
    imitation.set_scales(module, batches, batches)
    assert efficientad._best_share(module, batches.one_by_one(), batches.one_by_one()) == 0.0, (
        "equal: not worth its time"
    )
    with torch.no_grad():  # a student's head for the autoencoder that finds fault with bright stages alone
        module.weight.zero_()
        module.scale.copy_(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    bright = [replace(each, stage=each.stage + 5.0) for each in features]
    assert efficientad._best_share(module, batches.one_by_one(), imitation.prepared(module, bright)) > 0.0
