"""What a synthetic defect promises: its kind, its place, its size, and nothing else touched."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.defects.synthetic import KINDS, SIZES, STRENGTHS, add_defect, random_defect
from halfsigma import ImageError, UsageError

SHAPES = [(64, 64), (48, 96, 3), (101, 37)]
DTYPES = [np.uint8, np.uint16]


def _part(shape: tuple[int, ...], dtype: type, seed: int = 0) -> np.ndarray:
    """A brushed surface: columns of random brightness and a little noise, well inside black and white."""
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.35, 0.65, shape[1])
    light = columns[None, :] + rng.normal(0, 0.02, shape[:2])
    light = light if len(shape) == 2 else np.repeat(light[:, :, None], 3, axis=2)
    return np.rint(np.clip(light, 0, 1) * np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_defect_changes_its_place_and_nothing_else(kind: str, dtype: type, shape: tuple[int, ...]) -> None:
    good = _part(shape, dtype)
    before = good.copy()
    defect = add_defect(good, np.random.default_rng(3), kind=kind, size=0.3, strength=2.0)
    assert defect.image.shape == good.shape
    assert defect.image.dtype == good.dtype
    assert defect.mask.shape == good.shape[:2]
    assert defect.mask.dtype == np.bool_
    np.testing.assert_array_equal(good, before)
    np.testing.assert_array_equal(defect.image[~defect.mask], good[~defect.mask])
    assert (defect.image[defect.mask] != good[defect.mask]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_defect_and_another_seed_another_one(kind: str) -> None:
    good = _part((80, 60), np.uint8)
    first, again, other = (
        add_defect(good, np.random.default_rng(seed), kind=kind, size=0.3, strength=2.0) for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other.image).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 40), (3, 2), (7, 7, 3)])
def test_the_smallest_images_get_a_defect_of_a_pixel_at_least(kind: str, shape: tuple[int, ...]) -> None:
    good = np.full(shape, 120, np.uint8)
    defect = add_defect(good, np.random.default_rng(0), kind=kind, size=0.05, strength=3.0)
    assert defect.mask.any()
    assert defect.image.shape == shape


@pytest.mark.parametrize("kind", ["hole", "transplant", "stain", "wear", "chip", "scratch"])
def test_a_larger_size_covers_more_of_the_part(kind: str) -> None:
    good = _part((128, 128), np.uint8)
    small, large = (
        np.mean(
            [
                add_defect(good, np.random.default_rng(seed), kind=kind, size=size, strength=1.0).mask.sum()
                for seed in range(20)
            ]
        )
        for size in (0.05, 0.3)
    )
    assert large > 2 * small


@pytest.mark.parametrize("kind", ["scratch", "hole", "stain", "chip"])
def test_a_higher_strength_changes_the_place_by_more(kind: str) -> None:
    good = _part((128, 128), np.uint8)

    def mean_change(strength: float) -> float:
        defect = add_defect(good, np.random.default_rng(1), kind=kind, size=0.2, strength=strength)
        return float(np.abs(defect.image.astype(float) - good)[defect.mask].mean())

    assert mean_change(3.0) > 1.5 * mean_change(1.0)


def test_strength_is_measured_in_the_images_own_contrast() -> None:
    faint, strong = _part((128, 128), np.uint16), _part((128, 128), np.uint16)
    faint = (32768 + (faint.astype(float) - 32768) / 3).astype(np.uint16)
    changes = []
    for good in (faint, strong):
        defect = add_defect(good, np.random.default_rng(2), kind="scratch", size=0.3, strength=1.0)
        changes.append(np.abs(defect.image.astype(float) - good)[defect.mask].mean() / good.std())
    assert changes[0] == pytest.approx(changes[1], rel=0.05)


def test_an_image_without_contrast_still_shows_its_defect() -> None:
    flat = np.full((64, 64), 30, np.uint8)
    defect = add_defect(flat, np.random.default_rng(0), kind="hole", size=0.2, strength=1.0)
    assert np.abs(defect.image.astype(int) - 30).max() >= 4


def test_a_chip_reaches_over_the_border_of_the_image() -> None:
    good = _part((90, 120), np.uint8)
    for seed in range(20):
        mask = add_defect(good, np.random.default_rng(seed), kind="chip", size=0.2, strength=2.0).mask
        assert mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()


def test_wear_takes_texture_and_leaves_the_mean() -> None:
    rng = np.random.default_rng(0)
    good = np.clip(rng.normal(128, 20, (128, 128)), 0, 255).astype(np.uint8)
    defect = add_defect(good, np.random.default_rng(4), kind="wear", size=0.3, strength=2.0)
    before, after = good[defect.mask].astype(float), defect.image[defect.mask].astype(float)
    assert after.std() < 0.6 * before.std()
    assert after.mean() == pytest.approx(before.mean(), abs=2)


def test_a_gray_part_in_three_channels_gets_a_defect_with_colour() -> None:
    defect = add_defect(_part((64, 64, 3), np.uint8), np.random.default_rng(0), kind="hole", size=0.3, strength=2.0)
    inside = defect.image[defect.mask].astype(int)
    assert (inside.max(axis=1) > inside.min(axis=1)).any()


def test_random_defects_are_of_every_kind_and_within_the_stated_ranges() -> None:
    good = _part((64, 64), np.uint8)
    rng = np.random.default_rng(0)
    defects = [random_defect(good, rng) for _ in range(100)]
    assert {defect.kind for defect in defects} == set(KINDS)
    assert all(SIZES[0] <= defect.size <= SIZES[1] for defect in defects)
    assert all(STRENGTHS[0] <= defect.strength <= STRENGTHS[1] for defect in defects)
    assert random_defect(good, rng, kind="wear").kind == "wear"


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_what_is_no_photograph_is_refused_with_a_remedy(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected") as caught:
        add_defect(image, np.random.default_rng(0), kind="hole", size=0.1, strength=1.0)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "size", "strength"),
    [("dent", 0.1, 1.0), ("hole", 0.0, 1.0), ("hole", 1.5, 1.0), ("hole", 0.1, 0.0)],
)
def test_an_impossible_defect_is_refused_with_a_remedy(kind: str, size: float, strength: float) -> None:
    with pytest.raises(UsageError) as caught:
        add_defect(np.zeros((8, 8), np.uint8), np.random.default_rng(0), kind=kind, size=size, strength=strength)
    assert caught.value.hint


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_of_a_12_bit_camera_is_that_of_its_8_bit_twin(kind: str) -> None:
    """To rounding: both are one part in one light."""
    light = _part((96, 96), np.uint16).astype(np.float64) / 65535.0
    changes = []
    for white, dtype in ((255, np.uint8), (4095, np.uint16)):
        good = np.rint(light * white).astype(dtype)
        drawn = [
            add_defect(good, np.random.default_rng(k), kind=kind, size=0.2, strength=2.0, white_level=white).image
            for k in range(8)
        ]
        assert max(int(each.max()) for each in drawn) <= white
        changes.append([(each.astype(np.float64) - good).mean() / white for each in drawn])
    np.testing.assert_allclose(changes[0], changes[1], atol=0.002)
