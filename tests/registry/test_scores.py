"""The score log: the same score twice is once; what is read back is what the statistics expect."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from halfsigma import ScoreError, UsageError
from registry import images, scores
from registry.database import Database
from registry.lines import create_line, night_start
from registry.scores import ScoreRow, log_scores, log_unreadable, natural_order
from registry.tables import COVARIATES, Line, Score
from registry.windows import windows

ROOT = Path(scores.__file__).parents[1]
NIGHT = date(2026, 11, 23)
START = night_start(NIGHT, "UTC")


def sha(number: int) -> str:
    return f"{number:064x}"


def row(number: int, *, night: date = NIGHT, score: float | None = None, **given: Any) -> ScoreRow:
    values: dict[str, Any] = {
        "sha256": sha(number),
        "name": f"img{number}.png",
        "captured_at": night_start(night, "UTC"),
        "night": night,
        "score": float(number) if score is None else score,
        "covariates": dict.fromkeys(COVARIATES, number + 0.5),
    }
    return ScoreRow(**{**values, **given})


def rows(count: int, *, night: date = NIGHT) -> list[ScoreRow]:
    return [row(number, night=night) for number in range(1, count + 1)]


def n_rows(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Score)) or 0


def test_logging_the_same_scores_twice_changes_nothing(session: Session, line: Line) -> None:
    assert log_scores(session, line, 1, rows(100)) == 100
    assert log_scores(session, line, 1, [row(number, score=-1.0) for number in range(51, 121)]) == 20
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert window.scores.tolist() == [float(number) for number in range(1, 101)] + [-1.0] * 20


def test_more_rows_than_a_batch_are_all_logged_and_counted(session: Session, line: Line) -> None:
    count = scores.BATCH_ROWS + 7
    assert log_scores(session, line, 1, rows(count)) == count
    assert log_scores(session, line, 1, rows(count + 1)) == 1
    assert n_rows(session) == count + 1


def test_no_rows_are_no_new_scores(session: Session, line: Line) -> None:
    assert log_scores(session, line, 1, []) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": sha(2)},
        {"captured_at": START + timedelta(microseconds=1)},
        {"name": "frozen2.png"},  # a frozen camera: the same bytes under another name
    ],
    ids=["other bytes", "another instant", "another name"],
)
def test_what_differs_in_its_identity_is_another_score(session: Session, line: Line, change: dict[str, Any]) -> None:
    assert log_scores(session, line, 1, [row(1), row(1, **change)]) == 2


def test_another_version_or_line_logs_its_own_scores(session: Session, line: Line) -> None:
    other = create_line(session, "press_12", detector="padim")
    assert [log_scores(session, *to, rows(3)) for to in ((line, 1), (line, 2), (other, 1))] == [3, 3, 3]
    assert [
        len(windows(session, one.id, number, until=NIGHT)[0].scores)
        for one, number in ((line, 1), (line, 2), (other, 1))
    ] == [3] * 3


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused_and_nothing_is_logged(session: Session, line: Line, score: float) -> None:
    with pytest.raises(ScoreError, match=r"the score of img3\.png on 2026-11-23 is (nan|inf|-inf)"):
        log_scores(session, line, 1, [row(1), row(2), row(3, score=score)])
    assert n_rows(session) == 0


def test_a_naive_instant_is_refused(session: Session, line: Line) -> None:
    with pytest.raises(UsageError, match="has no time zone"):
        log_scores(session, line, 1, [row(1, captured_at=datetime(2026, 11, 23, 1, 0))])


def test_windows_come_in_capture_order_whatever_order_they_were_logged_in(session: Session, line: Line) -> None:
    early = [row(n, captured_at=START + timedelta(seconds=1)) for n in (30, 31)]
    unordered = [*rows(20), *early]
    random.Random(0).shuffle(unordered)
    log_scores(session, line, 1, unordered)
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert window.scores.tolist() == [*map(float, range(1, 21)), 30.0, 31.0]
    assert window.image_hashes[:2] == (sha(1), sha(2))
    assert set(window.covariates) == set(COVARIATES)
    assert window.covariates["noise"][0] == 1.5


def test_a_score_comes_back_to_the_last_bit(session: Session, line: Line) -> None:
    given = np.random.default_rng(7).standard_normal(50) * 1e-3
    log_scores(session, line, 1, [row(n, score=float(score)) for n, score in enumerate(given)])
    assert windows(session, line.id, 1, until=NIGHT)[0].scores.tobytes() == given.tobytes()


def test_windows_are_one_a_night_oldest_first_and_end_at_the_night_asked_for(session: Session, line: Line) -> None:
    nights = [NIGHT + timedelta(days=days) for days in (0, 1, 4, 5)]
    for size, night in enumerate(reversed(nights), start=1):
        log_scores(session, line, 1, rows(size, night=night))
    found = windows(session, line.id, 1, until=nights[2])
    assert [(window.night, window.n) for window in found] == [(nights[0], 4), (nights[1], 3), (nights[2], 2)]
    assert [window.night for window in windows(session, line.id, 1, until=nights[3], n_nights=2)] == nights[2:]
    assert [window.night for window in windows(session, line.id, 1, until=nights[3], n_nights=99)] == nights
    assert windows(session, line.id, 1, until=NIGHT - timedelta(days=1)) == []
    assert scores.nights_scored(session, line, version=1) == nights


def test_labelled_defects_are_left_out_and_counted(session: Session, line: Line) -> None:
    log_scores(session, line, 1, rows(10))
    images.remember(session, line, {sha(number): f"/in/img{number}.png" for number in range(1, 11)})
    images.label(session, line, [sha(3), sha(7)], "defect")
    images.label(session, line, [sha(1)], "good")
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert window.scores.tolist() == [1.0, 2.0, 4.0, 5.0, 6.0, 8.0, 9.0, 10.0]
    assert window.n_known_defects == 2
    assert len(window.covariates["noise"]) == len(window.image_hashes) == 8


def test_a_night_of_nothing_but_labelled_defects_is_an_empty_window(session: Session, line: Line) -> None:
    log_scores(session, line, 1, [row(1)])
    images.remember(session, line, {sha(1): "a.png"})
    images.label(session, line, [sha(1)], "defect")
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert (window.n, window.n_known_defects, dict(window.covariates)) == (0, 1, {})


def test_unreadable_images_are_counted_until_they_are_scored(session: Session, line: Line) -> None:
    log_scores(session, line, 1, rows(5))
    assert log_unreadable(session, line, NIGHT, {"img6.png": "truncated", "notes.png": "not an image"}) == 2
    assert log_unreadable(session, line, NIGHT, {"img6.png": "truncated"}) == 0
    assert windows(session, line.id, 1, until=NIGHT)[0].n_unreadable == 2
    log_scores(session, line, 1, [row(6)])  # it was copied again, whole
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert (window.n, window.n_unreadable) == (6, 1)
    assert scores.unreadable(session, line, NIGHT) == {"notes.png": "not an image"}


def test_a_night_in_which_nothing_could_be_read_is_an_empty_window(session: Session, line: Line) -> None:
    log_unreadable(session, line, NIGHT, {"a.png": "truncated"})
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert (window.night, window.n, window.n_unreadable) == (NIGHT, 0, 1)


def test_a_covariate_that_few_images_lack_is_filled_with_the_median_and_one_that_most_lack_is_left_out(
    session: Session, line: Line
) -> None:
    def covariates(number: int) -> dict[str, float]:
        sharpness = float("-inf") if number == 4 else float(number)  # a black image has none
        return {"brightness": 0.5, "sharpness": sharpness} | ({"noise": 0.1} if number == 1 else {})

    log_scores(session, line, 1, [row(n, covariates=covariates(n)) for n in (1, 2, 3, 4)])
    (window,) = windows(session, line.id, 1, until=NIGHT)
    assert {name: values.tolist() for name, values in window.covariates.items()} == {
        "brightness": [0.5] * 4,
        "sharpness": [1.0, 2.0, 3.0, 2.0],
    }


def test_a_foreign_detectors_scores_carry_no_covariates(session: Session, line: Line) -> None:
    log_scores(session, line, 1, [row(n, covariates={}) for n in (1, 2)])
    assert dict(windows(session, line.id, 1, until=NIGHT)[0].covariates) == {}


def test_curation_sees_every_image_of_the_night_with_its_label_and_place(session: Session, line: Line) -> None:
    log_scores(session, line, 1, [row(2, rejected=True), row(1), row(10)])
    images.remember(session, line, {sha(2): "/in/img2.png", sha(10): "/in/img10.png"})
    images.label(session, line, [sha(2)], "defect")
    found = scores.night_images(session, line, 1, NIGHT)
    assert [(image.name, image.path, image.label, image.rejected) for image in found] == [
        ("img1.png", None, None, False),
        ("img2.png", "/in/img2.png", "defect", True),
        ("img10.png", "/in/img10.png", None, False),
    ]
    assert found[0].captured_at == START and found[0].covariates["width"] == 1.5
    assert scores.count(session, line, 1, NIGHT) == scores.NightCount(n_scored=3, n_rejected=1)


def test_a_name_that_is_not_utf_8_is_stored_readably(session: Session, line: Line) -> None:
    assert log_scores(session, line, 1, [row(1, name="caf\udce9.png"), row(2, name="nul\x00.png")]) == 2
    assert log_scores(session, line, 1, [row(1, name="caf\udce9.png")]) == 0
    names = [image.name for image in scores.night_images(session, line, 1, NIGHT)]
    assert names == ["caf\\udce9.png", "nul\\x00.png"]


@given(st.lists(st.text(alphabet="ab0129._/", max_size=8), unique=True))
def test_the_natural_order_is_a_total_order_of_names(names: Sequence[str]) -> None:
    assert len({natural_order(name) for name in names}) == len(names)


@given(st.lists(st.integers(min_value=0, max_value=10**12), unique=True))
def test_numbers_in_names_are_ordered_as_numbers(numbers: Sequence[int]) -> None:
    names = [f"cam1/img{number}.png" for number in sorted(numbers)]
    assert sorted(names, key=natural_order) == names


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_logged_in_whatever_batches_ends_at_the_same_rows(session: Session, line: Line, seed: int) -> None:
    rng = random.Random(seed)
    everything = [row(n, night=NIGHT + timedelta(days=n % 3)) for n in range(60)]
    logged: set[str] = set()
    for _ in range(8):
        batch = [rng.choice(everything) for _ in range(rng.randrange(30))]  # with repetitions
        new = {one.sha256 for one in batch} - logged
        assert log_scores(session, line, 1, batch) == len(new)
        logged |= new
    log_scores(session, line, 1, everything)
    found = [score for window in windows(session, line.id, 1, until=date(2030, 1, 1)) for score in window.scores]
    assert found == [one.score for one in sorted(everything, key=lambda one: (one.night, one.score))]


def test_many_that_log_the_same_night_at_once_log_it_once(database: Database, line: Line, session: Session) -> None:
    n_new: list[int] = []
    barrier = threading.Barrier(4)

    def log(seed: int) -> None:
        mine = rows(1500)
        random.Random(seed).shuffle(mine)  # each in an order of its own: must not end in a deadlock
        barrier.wait()
        with database.session() as own:
            n_new.append(log_scores(own, line, 1, mine))

    threads = [threading.Thread(target=log, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(n_new) == n_rows(session) == 1500


def test_a_process_killed_while_it_logs_leaves_whole_sessions_and_a_rerun_completes_them(
    database: Database, url: str, line: Line, session: Session
) -> None:
    """A child logs 150 nights, a session each, and is killed somewhere in the middle of them."""
    n_nights, n_images = 150, 50
    script = f"""
        from datetime import timedelta
        from registry.database import open_database
        from registry.lines import get_line
        from registry.scores import ScoreRow, log_scores
        from datetime import datetime, UTC
        start = datetime(2025, 1, 1, tzinfo=UTC)
        with open_database({url!r}) as database:
            for n in range({n_nights}):
                at = start + timedelta(days=n)
                images = [(f"{{i:064x}}", f"img{{i}}.png", i / 7) for i in range({n_images})]
                rows = [ScoreRow(sha, name, at, at.date(), score) for sha, name, score in images]
                with database.session() as session:
                    log_scores(session, get_line(session, "tiles"), 1, rows)
                print(n, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    logged = 0
    with child.stdout:
        for text in child.stdout:
            logged = int(text) + 1
            if logged == 20:
                child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    nights = scores.nights_scored(session, line)
    assert logged <= len(nights) < n_nights
    assert n_rows(session) == len(nights) * n_images  # whole nights only

    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = windows(session, line.id, 1, until=date(2030, 1, 1))
    assert [window.n for window in found] == [n_images] * n_nights
    assert all(window.scores.tolist() == [i / 7 for i in range(n_images)] for window in found)
