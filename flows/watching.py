"""What follows a promotion, and what goes before one under policy ``shadow``: live nights judged, by the night's own run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy.orm import Session

from flows import vetoes
from flows.check import CheckedLine
from flows.history import publish_history
from flows.succession import promote_retrain
from flows.workspace import Workspace
from halfsigma import IllegalTransition, UnknownVersion
from registry import approval, audit, deployment, lines, live, outbox, promotion, retrains
from registry.deployment import SYSTEM
from registry.gates import Gate
from registry.live import Probation
from registry.tables import Line, Retrain

BUDGET_NIGHTS = 30
"""A line's `retrain_budget` is for so many nights."""
SPENT = frozenset({"promoted", "rejected", "waiting", "shadow"})
"""States of a retrain that count against the budget; one that failed for want of images cost nothing."""


SETTLED_ON = "settled_on"
"""In a retrain's document: the night whose run ended its shadow."""


@dataclass(frozen=True, slots=True)
class Watched:
    """How a champion on probation did until tonight."""

    version: int
    night_of_probation: int
    n_nights: int
    gates: tuple[Gate, ...]
    outcome: str
    """``watching``, ``passed``, ``rolled_back``, or ``outside``: beyond the limits, but what it replaced did no better or is not known."""
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "night": self.night_of_probation,
            "of": self.n_nights,
            "outcome": self.outcome,
            "reason": self.reason,
            "gates": [gate.to_dict() for gate in self.gates],
        }


def watch_champion(workspace: Workspace, checked: CheckedLine) -> Watched | None:
    """Judge a champion on probation by its live nights; one that leaves the limits is rolled back, once, and it is told.

    None when the line's champion is not on probation, or the night says nothing of it.
    """
    night, verdict = checked.verdict.night, checked.verdict
    with workspace.database.session() as session:
        line = lines.get_line(session, checked.line)
        probation = live.probation_of(session, line)
        if probation is None or probation.version != checked.version or verdict.kind == "sensor_fault":
            return None
        judged = live.live_nights(
            session,
            line,
            probation.version,
            shadow=False,
            after=probation.after,
            since=probation.since,
            until=night,
        )
        seen = live.that_count(judged, live.recorded(session, line, probation.version, until=night))
        if not seen or seen[-1].night != night or live.are_enough(seen[:-1], n_nights=line.probation_nights):
            return None
        gates = tuple(
            live.judge_live(
                session,
                line,
                probation.version,
                seen,
                former=probation.replaced,
                verdict=verdict,
                n_looks=max(line.probation_nights, len(seen)),
            )
        )
        failed = [gate for gate in gates if not gate.passed]
        rejected_share = sum(each.n_rejected for each in seen) / sum(each.n for each in seen)
        only_rejects = [gate.name for gate in failed] == ["live_false_positives"]
        before = _rejected_before(session, line, probation)
        is_better = only_rejects and before is not None and rejected_share < before
        usual = live.usual_defect_share(session, line, probation.replaced, not_of=probation.version, until=night)
        is_unknown = only_rejects and before is None and usual is None

        def watched(outcome: str, reason: str) -> Watched:
            return Watched(probation.version, len(seen), line.probation_nights, gates, outcome, reason)

        reason = "; ".join(gate.reason for gate in failed)
        if not failed:
            if not live.are_enough(seen, n_nights=line.probation_nights):
                return watched("watching", "within the limits")
            _tell_once(session, line, "probation_passed", probation.version, {"nights": len(seen)})
            return watched("passed", f"within the limits for {len(seen)} nights")
        if is_better:
            reason += f"; version {probation.replaced} rejected still more when it was replaced, so it is not restored"
        elif is_unknown:
            reason += "; nobody knows how much this line usually rejects, so nothing is restored"
        if is_better or is_unknown:
            _tell_once(session, line, "probation_outside", probation.version, {"reason": reason})
            return watched("outside", reason)
    try:
        _roll_back(workspace, checked.line, probation, night=night, reason=reason, gates=gates)
    except IllegalTransition as error:  # another process is changing the champion, perhaps for the same reason
        return watched("watching", error.message)
    except UnknownVersion as error:  # somebody moved the aliases so that nothing says what to go back to
        reason += f"; {error.message}"
        with workspace.database.session() as session:
            line = lines.get_line(session, checked.line)
            _tell_once(session, line, "probation_outside", probation.version, {"reason": reason})
        return watched("outside", reason)
    return watched("rolled_back", reason)


def settle_shadow(workspace: Workspace, line_name: str, *, night: date) -> Retrain | None:
    """Promote or reject a challenger that has scored along for enough nights; None when there is none to judge yet.

    Told again of the night in which it was settled, it gives the same retrain and does nothing.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        retrain = retrains.open_retrain(session, line)
        if retrain is None or retrain.state != "shadow" or retrain.new_version is None:
            known = retrains.list_retrains(session, line)
            return next((row for row in reversed(known) if row.document.get(SETTLED_ON) == night.isoformat()), None)
        number = retrain.new_version
        judged = live.live_nights(session, line, number, shadow=True, after=retrain.night, until=night)
        if not live.are_enough(judged, n_nights=line.shadow_nights):
            return None
        verdicts = {each.night: live.verdict_on(session, line, number, each.night) for each in judged}
        seen = live.that_count(judged, {day: (found.kind, found.defect_share) for day, found in verdicts.items()})
        if not live.are_enough(seen, n_nights=line.shadow_nights):
            return None  # where the camera was at fault, the next night says more
        said = live.that_speaks([verdicts[each.night] for each in seen])
        gates = live.judge_live(session, line, number, seen, former=retrain.base_version, verdict=said)
        found = {
            "live_gates": [gate.to_dict() for gate in gates],
            "shadow_nights": [str(each.night) for each in seen],
            SETTLED_ON: night.isoformat(),
        }
        failed = [gate.name for gate in gates if not gate.passed]
        vetoed = vetoes.learned_defects(workspace, session, line, retrain)
        if failed or vetoed:
            reason = f"not passed on {len(seen)} live nights: " + ", ".join(failed) if failed else vetoes.phrase(vetoed)
            return vetoes.reject_offered(workspace, session, line, retrain, reason=reason, found=found)
        if line.approvals > 1 or line.policy == "manual":  # changed meanwhile: a person promotes
            reason = approval.who_promotes(line)
            deployment.tell(session, line, "challenger_waits", actor=SYSTEM, version=number, document=found)
            return retrains.advance(session, retrain.id, start="shadow", to="waiting", reason=reason, document=found)
        details = {
            "retrain": retrain.id,
            "night": retrain.night.isoformat(),
            "reason": f"{retrain.reason}; it scored along for {len(seen)} nights within its limits",
            **found,
        }
        promote_retrain(session, workspace, retrain, line, number, start="shadow", document=details)
        # not before: no lock is held while MLflow answers, and it may be away
        settled = retrains.annotate(session, retrain.id, found)
    if settled.state == "promoted":
        publish_history(workspace, line_name)
    return settled


def held_back(workspace: Workspace, line_name: str, *, night: date, base_version: int) -> str | None:
    """Why a drifted night starts no retrain, or None when it may; a line that drifts without end is told as its own fault.

    A retrain that was asked for already goes on.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        known = retrains.list_retrains(session, line)
        under_way = retrains.open_retrain(session, line)
        if under_way is not None and under_way.base_version == base_version:
            return None
        if any((row.night, row.base_version) == (night, base_version) for row in known):
            return None
        last = max(_changed_by_itself(session, line, known, until=night), default=None)
        if last is not None and (night - last).days < max(line.cooldown_nights, 1):  # a night run again changes nothing
            return (
                f"cool-down: the champion was changed after the night of {last}, and a retrain waits "
                f"{line.cooldown_nights} nights"
            )
        spent = [row for row in known if row.state in SPENT and night - timedelta(BUDGET_NIGHTS) < row.night <= night]
        if len(spent) < line.retrain_budget:
            return None
        nights = ", ".join(str(row.night) for row in spent)
        reason = (
            f"{len(spent)} retrains within {BUDGET_NIGHTS} nights ({nights}) did not bring this line to rest: that is a "
            f"fault of the station, not of the model"
        )
        outbox.enqueue(
            session,
            kind="restless_line",
            dedup_key=f"restless-{line.id}-{spent[0].id}",  # told again when the oldest of them is a month old
            payload={
                "line": line_name,
                "version": base_version,
                "night": night.isoformat(),
                "reason": reason,
                "hint": f"look at lamp, lens and fixture; to go on at once: halfsigma retrain {line_name}",
            },
            line=line,
        )
        return reason


def _roll_back(
    workspace: Workspace, line_name: str, probation: Probation, *, night: date, reason: str, gates: Sequence[Gate]
) -> None:
    """Restore what the version replaced."""
    document = {
        "reason": f"on probation it left its limits: {reason}",
        "night": night.isoformat(),
        "live_gates": [gate.to_dict() for gate in gates],
    }
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        promotion.rollback(
            session,
            line,
            workspace.store,
            replaces=probation.version,
            actor=SYSTEM,
            document=document,
            cache=workspace.cache,
        )
    publish_history(workspace, line_name)


def _rejected_before(session: Session, line: Line, probation: Probation) -> float | None:
    """The share that the replaced version rejected in the last night that it judged before it was replaced, if it judged any."""
    nights = live.live_nights(session, line, probation.replaced, shadow=False, until=probation.after or date.max)
    return nights[-1].n_rejected / nights[-1].n if nights else None


def _changed_by_itself(session: Session, line: Line, known: Sequence[Retrain], *, until: date) -> list[date]:
    """Nights after which the system itself promoted, rolled back, or ended a challenger's shadow."""
    promoted = [row.night for row in known if row.state == "promoted" and row.night <= until]
    settled = [date.fromisoformat(row.document[SETTLED_ON]) for row in known if SETTLED_ON in row.document]
    rolled_back = [
        date.fromisoformat(entry.document["night"])
        for entry in audit.history(session, line, actions=["rolled_back"])
        if entry.actor == SYSTEM and "night" in entry.document
    ]
    return promoted + [night for night in settled + rolled_back if night <= until]


def _tell_once(session: Session, line: Line, kind: str, version: int, document: dict[str, Any]) -> None:
    """An alert and an entry of the audit, once a version."""
    payload = {"line": line.name, "version": version, **document}
    if outbox.enqueue(session, kind=kind, dedup_key=f"{kind}-{line.id}-{version}", payload=payload, line=line):
        audit.record(session, actor=SYSTEM, action=kind, line=line, version=version, document=document)
