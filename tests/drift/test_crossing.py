"""Where a rising disturbance reaches half a sigma, against figures worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.crossing import first_crossing
from halfsigma import DriftError


@pytest.mark.parametrize(
    ("strengths", "shifts", "expected"),
    [
        ([0, 2, 4], [0.0, 0.25, 0.75], 3.0),
        ([1, 0.9, 0.8], [-0.1, -0.3, -0.7], 0.85),  # downwards, and scores that fall
        ([0, 1, 2], [0.0, 0.5, 3.0], 1.0),  # just reached
        ([0, 1, 2], [0.1, 0.2, 0.4], None),  # nothing is guessed beyond the ladder
        ([0, 1, 2], [0.6, 0.2, 0.1], 0),  # shifted before anything was disturbed
        ([0, 1, 2], [-0.4, 0.6, 2.0], 0.9),  # from one sign to the other
        ([0, 1, 2, 3], [0.0, 0.6, 0.1, 0.9], pytest.approx(5 / 6)),  # the first one counts
    ],
)
def test_the_first_strength_at_half_a_sigma(strengths: list[float], shifts: list[float], expected: object) -> None:
    assert first_crossing(strengths, shifts, limit=0.5) == expected


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_a_crossing_lies_on_the_ladder_between_below_and_above(shifts: list[float]) -> None:
    found = first_crossing(list(range(len(shifts))), shifts, limit=0.5)
    reached = [k for k, shift in enumerate(shifts) if abs(shift) >= 0.5]
    if not reached:
        assert found is None
    else:
        assert found is not None and max(reached[0] - 1, 0) <= found <= reached[0]


@pytest.mark.parametrize(("strengths", "shifts"), [([], []), ([0, 1], [0.1])])
def test_a_shift_is_asked_of_every_strength(strengths: list[float], shifts: list[float]) -> None:
    with pytest.raises(DriftError):
        first_crossing(strengths, shifts, limit=0.5)
