"""Which of too many images are kept: hand-made clusters, times of day, and the bound that the greedy choice keeps."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from registry.coverage import spread_out

NOON, MIDNIGHT = datetime(2026, 11, 24, 12, tzinfo=UTC), datetime(2026, 11, 24, 0, tzinfo=UTC)


def _plain(level: float) -> NDArray[np.float32]:
    return np.full((16, 16), level, np.float32)


def test_a_rare_kind_of_part_is_kept_where_a_draw_would_lose_it() -> None:
    usual = [_plain(0.5 + 0.001 * k) for k in range(97)]
    rare = [_plain(0.9), _plain(0.1), _plain(0.95)]
    kept = spread_out([*usual, *rare], [NOON] * 100, 8, seed=0)
    assert {97, 98} <= set(kept.tolist())
    assert len(set(kept.tolist())) == 8 and kept.tolist() == sorted(kept.tolist())


def test_images_that_look_alike_are_kept_from_every_time_of_day() -> None:
    day = [datetime(2026, 11, 24, 8 + k % 8, k % 60, tzinfo=UTC) for k in range(95)]
    kept = spread_out([_plain(0.5)] * 97, [*day, MIDNIGHT, MIDNIGHT], 3, seed=1)
    assert {95, 96} & set(kept.tolist())


def test_one_bright_pixel_decides_nothing_but_light_does() -> None:
    specked = _plain(0.5)
    specked[3, 4] = 1.0
    brighter = _plain(0.56)
    kept = spread_out([_plain(0.5), _plain(0.501), specked, brighter], [NOON] * 4, 2, seed=3)
    assert 3 in kept.tolist() or kept.tolist() == [3]


def test_the_same_seed_keeps_the_same_images() -> None:
    rng = np.random.default_rng(5)
    pictures = [rng.random((32, 32), np.float32) for _ in range(60)]
    first, again = (spread_out(pictures, [None] * 60, 20, seed=4) for _ in range(2))
    assert first.tolist() == again.tolist()
