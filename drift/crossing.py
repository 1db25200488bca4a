"""Between which strengths of a disturbance the shift reaches a limit."""

from __future__ import annotations

from collections.abc import Sequence

from halfsigma import DriftError


def first_crossing(strengths: Sequence[float], shifts: Sequence[float], *, limit: float) -> float | None:
    """The strength at which the shift's size first reaches `limit`, linear between neighbouring strengths.

    Args:
        strengths: (n,) in any one direction, the one that changes nothing first.
        shifts: (n,) in reference standard deviations, finite.
        limit: above 0.

    Returns:
        None when no strength reaches it: nothing is guessed beyond the last one. The first strength itself when
        already that one does.

    Raises:
        DriftError: not as many shifts as strengths, or none.

    >>> first_crossing([0.0, 1.0, 2.0], [0.0, 0.2, 0.8], limit=0.5)
    1.5
    """
    if len(strengths) != len(shifts) or not strengths:
        raise DriftError(
            f"{len(strengths)} strengths and {len(shifts)} shifts, expected as many of both and at least one",
            hint="pass one shift a strength",
        )
    if abs(shifts[0]) >= limit:
        return strengths[0]
    for k in range(1, len(strengths)):
        start, end = shifts[k - 1], shifts[k]
        if abs(end) >= limit:
            reached = limit if end > 0 else -limit
            return strengths[k - 1] + (strengths[k] - strengths[k - 1]) * (reached - start) / (end - start)
    return None
