"""Two processes at the same work: one does it, the other is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import locks
from halfsigma import IllegalTransition


def test_who_comes_second_is_told_and_may_come_again(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with (
        locks.alone(lock, refusal="taken", hint="wait"),
        pytest.raises(IllegalTransition, match="taken"),
        locks.alone(lock, refusal="taken", hint="wait"),
    ):
        pass
    with locks.alone(lock, refusal="taken", hint="wait"):
        pass
