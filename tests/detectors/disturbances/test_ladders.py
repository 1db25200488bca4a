"""The drill's ladders: every kind, every direction, at strengths that suit the photograph."""

from __future__ import annotations

import pytest

from detectors.disturbances.disturbance import KINDS
from detectors.disturbances.ladders import drill_ladders


def test_every_kind_and_direction_is_there_once_under_its_own_title() -> None:
    ladders = drill_ladders(side_px=256, colour=True, seed=0)
    assert {ladder.name for ladder in ladders} == set(KINDS)
    assert len(ladders) == len(KINDS) + sum(bool(kind.opposite) for kind in KINDS.values())
    assert len({ladder.title for ladder in ladders}) == len(ladders)
    assert all(ladder.title for ladder in ladders)


def test_a_gray_camera_has_no_colour_to_lose() -> None:
    names = {ladder.name for ladder in drill_ladders(side_px=256, colour=False, seed=0)}
    assert names == set(KINDS) - {"warmth"}


@pytest.mark.parametrize(("side_px", "factor"), [(100, 1), (256, 1), (1024, 4)])
def test_a_larger_photograph_is_moved_and_blurred_by_more_pixels_and_nothing_else(side_px: float, factor: int) -> None:
    for ladder in drill_ladders(side_px=side_px, colour=True, seed=0):
        kind = KINDS[ladder.name]
        same_way = (ladder.rungs[0].strength > kind.neutral) == (kind.ladder[0] > kind.neutral)
        expected = kind.ladder if same_way else kind.opposite
        scaled = factor if ladder.name in {"shift", "defocus", "motion"} else 1
        assert [rung.strength for rung in ladder.rungs] == pytest.approx([scaled * s for s in expected])


def test_what_lasts_all_night_is_the_same_on_every_rung_and_comes_from_the_seed() -> None:
    one, two = (drill_ladders(side_px=256, colour=True, seed=seed) for seed in (1, 2))
    for ladder in one:
        assert len({(rung.direction_deg, rung.seed) for rung in ladder.rungs}) == 1
    assert one == drill_ladders(side_px=256, colour=True, seed=1)
    assert [ladder.rungs[0].direction_deg for ladder in one] != [ladder.rungs[0].direction_deg for ladder in two]
