"""Which images are verified, and what has happened since each was taken."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy.orm import Session

from detectors.disturbances.disturbance import Disturbance
from registry import images, lines, scores
from registry.database import Database
from registry.scores import ScoreRow
from registry.tables import Line
from registry.transfer import (
    MAX_CHANGES,
    MAX_CORE,
    MIN_CORE,
    Core,
    changes_of,
    named_disturbances,
    verified_core,
)

CHANGED = date(2026, 11, 24)
BLUR, DARKER = Disturbance("defocus", 1.5), Disturbance("gain", 0.8)


def _sha256(k: int) -> str:
    return f"{k:064x}"


def _remember(session: Session, line: Line, numbers: Sequence[int], *, kept: bool = True) -> None:
    paths = {_sha256(k): f"/there/{k}.png" for k in numbers}
    images.remember(session, line, paths)
    if kept:
        images.set_kept(session, line, {sha256: f"/vault/{sha256}.png" for sha256 in paths})


def _core(session: Session, line: Line, fitted: Sequence[int], **more: Any) -> Core:
    provenance = {"fit_images_sha256": [_sha256(k) for k in fitted], **more.pop("provenance", {})}
    given = {"base_version": 1, "before": CHANGED, "n_most": 500, "seed": 0} | more
    return verified_core(session, line, provenance, **given)


def test_the_core_is_what_the_champion_was_fitted_on_and_the_vault_keeps(database: Database) -> None:
    with database.session() as session:
        line = lines.create_line(session, "pads", detector="patchcore")
        _remember(session, line, range(60))
        _remember(session, line, range(60, 80), kept=False)
        images.label(session, line, [_sha256(3)], "defect")
        core = _core(session, line, range(80))
        assert set(core.files) == {_sha256(k) for k in range(60) if k != 3}
        assert set(core.changes.values()) == {()}
        assert str(core.files[_sha256(5)]) == f"/vault/{_sha256(5)}.png"


def test_labelled_goods_count_when_the_champion_judged_them_before_the_change(database: Database) -> None:
    with database.session() as session:
        line = lines.create_line(session, "pads", detector="patchcore")
        _remember(session, line, range(62))
        for k, night in ((60, date(2026, 11, 23)), (61, CHANGED)):
            at = lines.night_start(night, "UTC")
            scores.log_scores(session, line, 1, [ScoreRow(_sha256(k), f"{k}.png", at, night, 1.0)])
        images.label(session, line, [_sha256(60), _sha256(61)], "good")
        core = _core(session, line, range(60))
        assert _sha256(60) in core.files and _sha256(61) not in core.files


def test_what_was_transferred_before_gets_tonights_change_on_top_until_the_estimates_pile_up(
    database: Database,
) -> None:
    with database.session() as session:
        line = lines.create_line(session, "pads", detector="patchcore")
        _remember(session, line, range(110))
        first = Core({_sha256(k): None for k in range(55)}, {_sha256(k): (BLUR,) for k in range(55)})  # type: ignore[dict-item]
        worn = Core(
            {_sha256(k): None for k in range(100, 110)},
            {_sha256(k): (BLUR,) * (MAX_CHANGES + 1) for k in range(100, 110)},
        )  # type: ignore[dict-item]
        transferred = [*first.to_json(), *worn.to_json()]
        assert changes_of(first.to_json()) == first.changes
        core = _core(session, line, range(110), provenance={"transferred": transferred})
        assert core.changes[_sha256(1)] == (BLUR,) and core.changes[_sha256(70)] == ()
        core = core.under((DARKER,))
        assert core.tonight == (DARKER,)
        assert core.changes[_sha256(1)] == (BLUR, DARKER) and core.changes[_sha256(70)] == (DARKER,)
        assert _sha256(105) not in core.files


def test_goods_are_given_as_they_were_with_too_few_there_is_no_core_and_never_more_than_asked(
    database: Database,
) -> None:
    with database.session() as session:
        line = lines.create_line(session, "pads", detector="patchcore")
        _remember(session, line, range(MAX_CORE + 50))
        as_they_were = _core(session, line, range(MAX_CORE + 50))
        assert len(as_they_were.files) == MAX_CORE and set(as_they_were.changes.values()) == {()}
        assert _core(session, line, range(MIN_CORE - 1)) == Core()
        assert len(_core(session, line, range(MAX_CORE)).files) == MAX_CORE
        assert len(_core(session, line, range(MAX_CORE), n_most=80).files) == 80
        assert _core(session, line, range(MAX_CORE + 50)) == as_they_were
        assert _core(session, line, range(MAX_CORE + 50), seed=1) != as_they_were


def test_a_strength_beyond_the_strongest_probe_is_brought_to_what_the_kind_allows() -> None:
    causes = [
        {"disturbance": "jpeg", "strength": -12.5, "direction_deg": 0.0},
        {"disturbance": None, "strength": None, "direction_deg": None},
        {"disturbance": "shift", "strength": 4.0, "direction_deg": 90.0},
    ]
    found = named_disturbances({"main_cause": "sharpness", "causes": causes})
    assert found == (Disturbance("jpeg", 1.0), Disturbance("shift", 4.0, direction_deg=90.0))
