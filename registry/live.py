"""How a version does on live nights, where nobody has labelled the images: in shadow before a promotion, on probation after.

What is rejected is held against what the threshold promises and what this line's usual defects bring; how the bulk lies is
the check's own verdict. Both with their uncertainty: a version is neither promoted nor rolled back by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge
from registry import audit, checks, lines
from registry.deployment import SYSTEM
from registry.gates import (
    CHANCE_OF_REJECTIONS,
    Gate,
    live_false_positives_gate,
    live_shift_gate,
)
from registry.history import DEPLOYING
from registry.measuring import LineToMeasure, measure_line
from registry.recall import recall_gate, recall_limit
from registry.tables import Image, Line, Score, Version, table_of
from registry.windows import defect_hashes

USUAL_NIGHTS = 30
"""Nights of the former champion from which the line's usual share of rejects is taken."""
LEAST_IMAGES = DriftSettings().least_effective
"""In all, for a version that is told good: nights without images prove nothing."""
USUAL_VERDICTS = ("stable", "insufficient", "warning")

SCORE, IMAGE = table_of(Score), table_of(Image)


@dataclass(frozen=True, slots=True)
class LiveNight:
    """What a version judged in one night, labelled defects left out."""

    night: date
    n: int
    n_rejected: int
    defect_share: float = 0.0
    """Of a night with a burst of them."""


@dataclass(frozen=True, slots=True)
class Probation:
    """A champion that is watched: since when, and which version it replaced."""

    version: int
    replaced: int
    after: date | None
    """Nights after this one count: what it learned from proves nothing."""
    since: datetime
    """What it judged before it was promoted belongs to an earlier time of its, and proves nothing of this one."""


def live_nights(
    session: Session,
    line: Line,
    version: int,
    *,
    shadow: bool,
    until: date,
    after: date | None = None,
    since: datetime | None = None,
) -> list[LiveNight]:
    """The nights that the version judged after one and up to another, oldest first; only what it judged ``since`` then."""
    defects = select(IMAGE.c.sha256).where(IMAGE.c.line_id == line.id, IMAGE.c.label == "defect")
    query = select(SCORE.c.night, func.count(), func.count().filter(SCORE.c.rejected)).where(
        SCORE.c.line_id == line.id,
        SCORE.c.version == version,
        SCORE.c.night <= until,
        SCORE.c.shadow.is_(shadow),
        SCORE.c.sha256.not_in(defects),
    )
    if after is not None:
        query = query.where(SCORE.c.night > after)
    if since is not None:
        query = query.where(or_(SCORE.c.judged_at.is_(None), SCORE.c.judged_at >= since))
    rows = session.execute(query.group_by(SCORE.c.night).order_by(SCORE.c.night))
    return [LiveNight(night, int(n), int(n_rejected)) for night, n, n_rejected in rows]


def recorded(session: Session, line: Line, version: int, *, until: date) -> dict[date, tuple[str, float]]:
    """What the checks said of the nights of a champion: the verdict, and the share of defects in a burst."""
    found = checks.list_checks(session, line, version=version, until=until)
    return {check.night: (check.verdict, float(check.document.get("defect_share") or 0.0)) for check in found}


def that_count(nights: Sequence[LiveNight], said: Mapping[date, tuple[str, float]]) -> list[LiveNight]:
    """Without those on which the camera was at fault, which says nothing of the version; each with its burst of defects."""
    told = [(night, *said.get(night.night, ("", 0.0))) for night in nights]
    return [replace(night, defect_share=share) for night, verdict, share in told if verdict != "sensor_fault"]


def are_enough(nights: Sequence[LiveNight], *, n_nights: int) -> bool:
    """Whether a version may be told good by them: so many nights, with images enough for a verdict between them."""
    n_images = sum(night.n for night in nights)
    return len(nights) >= n_nights and (n_images >= LEAST_IMAGES or n_nights == 0)


def that_speaks(verdicts: Sequence[Verdict]) -> Verdict:
    """Of several nights' verdicts, oldest first, the one that says most: a drift, else the last that is not insufficient."""
    told = [each for each in verdicts if each.kind == "drift"] or [
        each for each in verdicts if each.kind != "insufficient"
    ]
    return (told or verdicts)[-1]


def probation_of(session: Session, line: Line) -> Probation | None:
    """Whether the line's champion is on probation: it replaced another, and was never rolled back by itself before.

    Which version a person promoted again after that is the person's affair.
    """
    champion = lines.aliases(session, line).get("champion")
    deployed = audit.history(session, line, actions=DEPLOYING)
    if champion is None or not deployed:
        return None
    if deployed[-1].version != champion:
        return None
    while (
        deployed[-1].action == "champion_restored"
    ):  # a copy of what somebody deleted in MLflow: its probation goes on
        *deployed, _ = deployed
    *earlier, last = deployed
    if last.action != "promoted":
        return None
    replaced = last.document.get("from")
    rolled_back = audit.history(session, line, actions=["rolled_back"])
    theirs = (champion, last.version)
    if replaced is None or any(e.actor == SYSTEM and e.document.get("from") in theirs for e in rolled_back):
        return None
    made = [entry for entry in audit.history(session, line, actions=["registered"]) if entry.version == last.version]
    is_new = not any(entry.version == last.version for entry in earlier)
    learned_from = made[-1].document.get("night") if made and is_new else None
    return Probation(champion, int(replaced), date.fromisoformat(learned_from) if learned_from else None, last.at)


def judge_live(
    session: Session,
    line: Line,
    version: int,
    nights: Sequence[LiveNight],
    *,
    former: int,
    verdict: Verdict,
    n_looks: int = 1,
) -> list[Gate]:
    """The gates on live nights; ``verdict`` is the check's, by the version's own reference.

    What a night's burst of defects brings is no false positive, that night.

    Args:
        session: the caller's.
        line: whose nights they are.
        version: that judged them.
        nights: as `that_count` gives them, at least one.
        former: the version that it replaces or replaced: its quiet nights say how much this line usually rejects.
        verdict: of the last night, or of the one that says most.
        n_looks: how often a good version is judged so; the chance to refuse it is shared among them.
    """
    promised, n_reference = _promise(session, line, version)
    n = sum(night.n for night in nights)
    usual = usual_defect_share(session, line, former, not_of=version, until=nights[-1].night) or 0.0
    share = sum(max(usual, night.defect_share) * night.n for night in nights) / n
    gates = [
        live_false_positives_gate(
            sum(night.n_rejected for night in nights),
            n,
            promised_fpr=promised,
            n_reference=n_reference,
            defect_share=share,
            chance=CHANCE_OF_REJECTIONS / n_looks,
        ),
        live_shift_gate(
            verdict.bulk_shift.estimate, verdict.bulk_shift.low, verdict.bulk_shift.high, verdict=verdict.kind
        ),
    ]
    caught = caught_by_both(session, line, former, version, [night.night for night in nights], defect_share=share)
    if caught.size:
        gates.append(recall_gate(caught[:, 0], caught[:, 1]))
    return gates


def usual_defect_share(session: Session, line: Line, version: int, *, not_of: int, until: date) -> float | None:
    """The share that the version rejected beyond its promise, median over its quiet nights, at least 0.

    Of one that has had no quiet night, as after two promotions in a day, the champion's before it, and so on, but never that
    of the version that is judged by it; None when no champion has had one.
    """
    earlier = [entry.version for entry in reversed(audit.history(session, line, actions=DEPLOYING)) if entry.version]
    shares = (
        _quiet_share(session, line, each, until=until) for each in dict.fromkeys([version, *earlier]) if each != not_of
    )
    return next((share for share in shares if share is not None), None)


def _quiet_share(session: Session, line: Line, version: int, *, until: date) -> float | None:
    said = recorded(session, line, version, until=until)
    quiet = {night for night, (verdict, _) in said.items() if verdict in USUAL_VERDICTS}
    nights = live_nights(session, line, version, shadow=False, until=until)
    shares = [night.n_rejected / night.n for night in nights if night.night in quiet][-USUAL_NIGHTS:]
    if not shares:
        return None
    return max(0.0, float(np.median(shares)) - _promise(session, line, version)[0])


def caught_by_both(
    session: Session, line: Line, former: int, version: int, nights: Sequence[date], *, defect_share: float
) -> NDArray[np.bool_]:
    """(n, 2) verdicts of both on the labelled defects that both judged in these nights, the former's at its `recall_limit`."""
    defects = defect_hashes(session, line.id)
    if not defects:
        return np.empty((0, 2), np.bool_)
    judged: dict[int, dict[str, tuple[float, bool]]] = {}
    for number in (former, version):
        rows = session.execute(
            select(SCORE.c.sha256, SCORE.c.score, SCORE.c.rejected).where(
                SCORE.c.line_id == line.id, SCORE.c.version == number, SCORE.c.night.in_(nights)
            )
        )
        judged[number] = {sha256: (score, rejected) for sha256, score, rejected in rows}
    both = sorted(defects & judged[former].keys() & judged[version].keys())
    promised, n_reference = _promise(session, line, former)
    limit = recall_limit(
        lines.get_version(session, line, former).threshold,
        np.array([score for sha256, (score, _) in judged[former].items() if sha256 not in defects], np.float64),
        promised_fpr=promised,
        n_reference=n_reference,
        defect_share=defect_share,
    )
    caught = [(judged[former][each][0] > limit, judged[version][each][1]) for each in both]
    return np.array(caught, np.bool_).reshape(-1, 2)


def night_as_seen(session: Session, line: Line, version: int, night: date) -> Mapping[str, Any]:
    """The check's document of that night on that version; made now where there is none, or images were judged after it."""
    check = checks.get_check(session, line, version, night)
    last = session.scalar(
        select(func.max(SCORE.c.judged_at)).where(
            SCORE.c.line_id == line.id, SCORE.c.version == version, SCORE.c.night == night
        )
    )
    if check is not None and (last is None or last <= check.checked_at):
        return check.document
    return verdict_on(session, line, version, night).to_dict()


def verdict_on(session: Session, line: Line, version: int, night: date) -> Verdict:
    """A verdict on a version by its own reference, as the check's, but kept nowhere; KS stands alone (q = p)."""
    measured = measure_line(session, LineToMeasure(line.id, line.name, version), night, version=version)
    return judge(measured.measurement, q=measured.measurement.ks_p)


def _promise(session: Session, line: Line, version: int) -> tuple[float, int]:
    """The false-positive rate that the version's threshold promises, and the size of its reference."""
    known: Version = lines.get_version(session, line, version)
    scores = Reference.from_json(known.reference).scores
    return (int((scores > known.threshold).sum()) + 1) / (scores.size + 1), int(scores.size)
