from __future__ import annotations

from pathlib import Path

from drift.plots import plot_check
from drift.verdict import judge_lines


def test_a_check_is_drawn_into_a_png(reference, nights, tmp_path: Path) -> None:
    windows = nights([0.0] * 5 + [1.0])
    path = plot_check(reference, windows, judge_lines([(reference, windows)])[0], tmp_path / "check.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_empty_night_is_drawn_too(reference, nights, tmp_path: Path) -> None:
    windows = nights([0.0] * 2, n=50)[:-1] + nights([0.0] * 2, n=0)[-1:]
    assert plot_check(reference, windows, judge_lines([(reference, windows)])[0], tmp_path / "empty.png").exists()
