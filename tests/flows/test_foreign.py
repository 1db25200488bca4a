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
from halfsigma import ScoreError, UsageError
from registry import lines, scores
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


def test_the_order_of_the_first_files_rows_changes_nothing(
    workspace: Workspace, night_csv: Callable[..., Path], tmp_path: Path
) -> None:
    header, *rows = night_csv(FIRST, name="a.png").read_text().splitlines()
    by_score = sorted(rows, key=lambda row: float(row.rsplit(",", 1)[1]))
    for name, given in (("in_time", rows), ("by_score", by_score)):
        file = tmp_path / f"{name}.csv"
        file.write_text("\n".join([header, *given]) + "\n")
        log_csv(workspace, name, file)
    with workspace.database.session() as session:
        kept = [
            lines.get_version(session, lines.get_line(session, name), 1).reference for name in ("in_time", "by_score")
        ]
    assert kept[0] == kept[1]


def test_a_score_of_no_named_image_refuses_the_file(workspace: Workspace, night_csv: Callable[..., Path]) -> None:
    with pytest.raises(ScoreError, match="line 2: image is empty"):
        log_csv(workspace, LINE, night_csv(FIRST, name=" "))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "2026-08-01T03:00:00,a.png,1.7976931348623157e308",
            "line 2: score '1.7976931348623157e308', expected a number",
        ),
        ("2026-08-01T03:00:00,a.png,nan", "line 2: score 'nan', expected a number"),
        ("0001-01-01T00:00:00+05:00,a.png,1.0", "line 2: captured_at '0001-01-01T00:00:00\\+05:00', expected like"),
        (
            '2026-08-01T03:00:00,"a.png,1.0' + 200_000 * "x",
            "cannot be read after line 1: field larger than field limit",
        ),
    ],
)
def test_what_no_station_measures_refuses_the_file(
    workspace: Workspace, tmp_path: Path, row: str, message: str
) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(f"captured_at,image,score\n{row}\n")
    with pytest.raises(ScoreError, match=message):
        log_csv(workspace, LINE, file)


def test_a_new_lines_time_zone_cuts_its_nights_from_its_first_file_on(workspace: Workspace, tmp_path: Path) -> None:
    rows = [f"2026-08-01T{k // 60:02d}:{k % 60:02d}:00,{k}.png,{k % 7}" for k in range(N)]
    file = tmp_path / "naive.csv"
    file.write_text("captured_at,image,score\n" + "\n".join(rows) + "\n")
    assert log_csv(workspace, LINE, file, time_zone="Europe/Vienna") == N
    assert [log_csv(workspace, LINE, file, time_zone=zone) for zone in (None, "Europe/Vienna")] == [0, 0]
    with workspace.database.session() as session:
        assert scores.nights_scored(session, lines.get_line(session, LINE)) == [FIRST]
    with pytest.raises(UsageError, match="is in Europe/Vienna, and --time-zone says UTC"):
        log_csv(workspace, LINE, file, time_zone="UTC")
