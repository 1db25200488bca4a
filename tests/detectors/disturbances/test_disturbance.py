"""What a changed station does to a photograph, each against a figure worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.disturbances.disturbance import KINDS, Disturbance, describe, disturb
from halfsigma import ImageError, UsageError


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _photo(shape: tuple[int, ...] = (48, 64, 3), dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    return _rng(seed).integers(0, np.iinfo(dtype).max, shape, endpoint=True).astype(dtype)


def _spot(side: int = 41) -> np.ndarray:
    image = np.zeros((side, side), np.uint8)
    image[side // 2, side // 2] = 255
    return image


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (1, 1), (17, 301)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_disturbance_keeps_shape_and_type_and_leaves_the_given_image_alone(
    name: str, shape: tuple[int, ...], dtype: type
) -> None:
    image = _photo(shape, dtype)
    before = image.copy()
    for strength in KINDS[name].ladder:
        after = disturb(image, [Disturbance(name, strength)], _rng())
        assert after.shape == shape and after.dtype == dtype
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_neutral_strength_changes_nothing_and_gives_a_copy(name: str) -> None:
    image = _photo()
    after = disturb(image, [Disturbance(name, KINDS[name].neutral)], _rng())
    np.testing.assert_array_equal(after, image)
    assert not np.shares_memory(after, image)


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_ladder_rises_away_from_the_image(name: str) -> None:
    smooth = np.tile(np.linspace(40, 210, 64)[None, :, None], (64, 1, 3))
    image = (smooth + _rng(1).normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    for ladder in (KINDS[name].ladder, KINDS[name].opposite):
        distances = [
            float(np.abs(disturb(image, [Disturbance(name, s)], _rng()).astype(float) - image).mean()) for s in ladder
        ]
        assert distances == sorted(distances) and 0 not in distances


@pytest.mark.parametrize("name", sorted(name for name, kind in KINDS.items() if kind.opposite))
def test_the_opposite_ladder_leads_the_other_way(name: str) -> None:
    kind = KINDS[name]
    assert {s > kind.neutral for s in kind.ladder} == {not (s > kind.neutral) for s in kind.opposite}
    assert len({s > kind.neutral for s in kind.ladder}) == 1


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_same_seed_gives_the_same_picture(name: str) -> None:
    one = disturb(_photo(), [Disturbance(name, KINDS[name].ladder[-1])], _rng(5))
    two = disturb(_photo(), [Disturbance(name, KINDS[name].ladder[-1])], _rng(5))
    np.testing.assert_array_equal(one, two)


def test_gain_multiplies_and_white_stays_white() -> None:
    image = np.array([[0, 100, 200, 255]], np.uint8)
    assert disturb(image, [Disturbance("gain", 1.5)], _rng()).tolist() == [[0, 150, 255, 255]]
    assert disturb(image, [Disturbance("gain", 0.5)], _rng()).tolist() == [[0, 50, 100, 128]]


def test_a_lamp_too_bright_is_lost_at_the_sensor_only() -> None:
    image = np.full((1, 1), 200, np.uint8)
    assert disturb(image, [Disturbance("gain", 2.0), Disturbance("gamma", 1.0)], _rng())[0, 0] == 255
    # 200/255 * 2 = 1.569 reaches the lens; the far side of a falling light gets half of it back below white.
    row = np.full((1, 3), 200, np.uint8)
    after = disturb(row, [Disturbance("gain", 2.0), Disturbance("gradient", 0.5)], _rng())
    assert after.tolist() == [[255, 255, 200]]


def test_gamma_bends_the_middle_and_keeps_the_ends() -> None:
    image = np.array([[0, 128, 255]], np.uint8)
    after = disturb(image, [Disturbance("gamma", 2.0)], _rng())
    assert after.tolist() == [[0, round(128**2 / 255), 255]]


def test_the_gradient_is_darkest_where_it_points() -> None:
    flat = np.full((5, 5), 200, np.uint8)
    right = disturb(flat, [Disturbance("gradient", 0.5, direction_deg=0)], _rng())
    assert right[2].tolist() == [200, 175, 150, 125, 100]
    up = disturb(flat, [Disturbance("gradient", 0.5, direction_deg=90)], _rng())
    assert up[:, 2].tolist() == [100, 125, 150, 175, 200]


def test_a_warmer_lamp_moves_colours_and_leaves_gray_cameras_alone() -> None:
    colour = np.full((2, 2, 3), 100, np.uint8)
    assert disturb(colour, [Disturbance("warmth", 0.1)], _rng())[0, 0].tolist() == [110, 100, 90]
    gray = np.full((2, 2), 100, np.uint8)
    np.testing.assert_array_equal(disturb(gray, [Disturbance("warmth", 0.1)], _rng()), gray)


@pytest.mark.parametrize(("direction", "row", "column"), [(0, 20, 25), (90, 15, 20), (180, 20, 15), (270, 25, 20)])
def test_a_shift_moves_the_part_where_it_points(direction: float, row: int, column: int) -> None:
    after = disturb(_spot(), [Disturbance("shift", 5, direction_deg=direction)], _rng())
    assert after[row, column] == 255 and int(after.astype(int).sum()) == 255


def test_a_shift_repeats_the_edge_it_uncovers() -> None:
    image = np.tile(np.arange(10, dtype=np.uint8) * 20, (4, 1))
    after = disturb(image, [Disturbance("shift", 3)], _rng())
    assert after[0].tolist() == [0, 0, 0, 0, 20, 40, 60, 80, 100, 120]


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = _photo((31, 31))
    after = disturb(image, [Disturbance("rotation", 90)], _rng())
    assert np.abs(after.astype(int) - np.rot90(image)).max() <= 1


def test_movements_are_interpolated_once() -> None:
    image = _photo((64, 64))
    there_and_back = [Disturbance("shift", 2.5), Disturbance("shift", 2.5, direction_deg=180)]
    after = disturb(image, there_and_back, _rng())
    np.testing.assert_array_equal(after[:, 4:-4], image[:, 4:-4])


def test_defocus_has_the_stated_sigma() -> None:
    after = disturb((_spot(81)).astype(np.uint16) * 257, [Disturbance("defocus", 3.0)], _rng()).astype(float)
    axis = np.arange(81) - 40
    variance = (after.sum(axis=0) * axis**2).sum() / after.sum()
    assert np.sqrt(variance) == pytest.approx(3.0, rel=0.03)


def test_motion_smears_along_its_line_only_and_keeps_the_light() -> None:
    after = disturb(_spot().astype(np.uint16) * 257, [Disturbance("motion", 8)], _rng()).astype(float)
    assert after[:20].sum() == 0 and after[21:].sum() == 0
    lit = np.flatnonzero(after[20])
    assert lit[-1] - lit[0] in (8, 9, 10)
    assert after.sum() == pytest.approx(65535, rel=0.001)


def test_dirt_and_dead_pixels_stay_where_they_are_all_night() -> None:
    flat = np.full((64, 64), 128, np.uint8)
    for name, strength in (("dirt", 0.05), ("dead_pixels", 0.01)):
        spots = Disturbance(name, strength, seed=3)
        np.testing.assert_array_equal(disturb(flat, [spots], _rng(1)), disturb(flat, [spots], _rng(2)))
        elsewhere = Disturbance(name, strength, seed=4)
        assert (disturb(flat, [spots], _rng()) != disturb(flat, [elsewhere], _rng())).any()


def test_dead_pixels_are_as_many_as_stated() -> None:
    flat = np.full((400, 400), 128, np.uint8)
    after = disturb(flat, [Disturbance("dead_pixels", 0.01)], _rng())
    assert np.mean(after == 0) == pytest.approx(0.005, abs=0.001)
    assert np.mean(after == 255) == pytest.approx(0.005, abs=0.001)


def test_noise_is_new_in_every_exposure_and_has_the_stated_deviation() -> None:
    flat = np.full((200, 200), 128, np.uint8)
    one, two = (disturb(flat, [Disturbance("noise", 0.02)], _rng(seed)) for seed in (1, 2))
    assert (one != two).any()
    assert float(one.std()) / 255 == pytest.approx(0.02, rel=0.03)


def test_twelve_bits_in_sixteen_saturate_at_their_own_white() -> None:
    image = np.full((2, 2), 3000, np.uint16)
    assert disturb(image, [Disturbance("gain", 2.0)], _rng(), white_level=4095).max() == 4095


def test_the_order_given_does_not_matter() -> None:
    changes = [
        Disturbance("jpeg", 50),
        Disturbance("defocus", 1),
        Disturbance("gain", 0.8),
        Disturbance("shift", 3),
    ]
    np.testing.assert_array_equal(disturb(_photo(), changes, _rng()), disturb(_photo(), changes[::-1], _rng()))


@given(st.sampled_from(sorted(KINDS)), st.floats(0, 1), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=80, deadline=None)
def test_nothing_breaks_whatever_the_size(name: str, where: float, height: int, width: int) -> None:
    kind = KINDS[name]
    strength = kind.low + where * (min(kind.high, 30.0) - kind.low)
    assert disturb(_photo((height, width)), [Disturbance(name, strength)], _rng()).shape == (height, width)


def test_labels_are_words_for_people() -> None:
    assert describe([Disturbance("warmth", 0.08), Disturbance("gain", 0.8), Disturbance("rotation", 1.6)]) == (
        "part turned by 1.6°, lamp 8 % warmer, lamp 20 % darker"
    )
    assert describe([]) == "nothing changed"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="fog") as caught:
        Disturbance("fog", 1)
    assert "defocus" in caught.value.hint


@pytest.mark.parametrize(("name", "strength"), [("gain", -0.1), ("jpeg", 0), ("dirt", 0.95), ("noise", float("nan"))])
def test_an_impossible_strength_is_refused(name: str, strength: float) -> None:
    with pytest.raises(UsageError, match=name):
        Disturbance(name, strength)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_photograph_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ImageError):
        disturb(image, [Disturbance("gain", 0.5)], _rng())
