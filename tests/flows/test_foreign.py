"""Scores of a detector that is not ours: whatever its station calls its photographs, a drift is seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from flows.check import check_line
from flows.foreign import log_csv
from flows.workspace import Workspace
from halfsigma import ScoreError
from registry import lines
from tests.flows.simulated_plant import FIRST, simulated_plant

N = 150
LINE = "weld"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    with simulated_plant(tmp_path, monkeypatch) as plant:
        yield plant.workspace


@pytest.fixture
def night_csv(tmp_path: Path) -> Callable[..., Path]:
    rng = np.random.default_rng(5)

    def write(night: date, *, name: str, moved: float = 0.0) -> Path:
        start = lines.night_start(night, "UTC")
        rows = [
            f"{(start + timedelta(minutes=k)).isoformat()},{name},{score:.4f}"
            for k, score in enumerate(rng.normal(moved, 1.0, N))
        ]
        file = tmp_path / f"{night}.csv"
        file.write_text("captured_at,image,score\n" + "\n".join(rows) + "\n")
        return file

    return write


def test_one_name_for_every_photograph_is_no_frozen_camera(
    workspace: Workspace, night_csv: Callable[..., Path]
) -> None:
    assert log_csv(workspace, LINE, night_csv(FIRST, name="latest.png")) == N
    drifted = night_csv(FIRST + timedelta(1), name="latest.png", moved=2.0)
    assert [log_csv(workspace, LINE, drifted) for _ in range(2)] == [N, 0]
    assert check_line(workspace, LINE, night=FIRST + timedelta(1)).verdict.kind == "drift"


def test_a_score_of_no_named_image_refuses_the_file(workspace: Workspace, night_csv: Callable[..., Path]) -> None:
    with pytest.raises(ScoreError, match="line 2: image is empty"):
        log_csv(workspace, LINE, night_csv(FIRST, name=" "))
