"""The steps from a drifted night to a promoted challenger; each can be killed and run again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy.orm import Session

from detectors.protocol import Progress, no_progress
from flows import retrain_files, vetoes
from flows.curating import CuratedNight, cleared_document, curate_night, summary_of
from flows.history import publish_history
from flows.progress import current_progress
from flows.refitting import fit_challenger, try_challenger
from flows.retrain_files import ADDED
from flows.succession import conclude, register_challenger
from flows.workspace import Workspace
from halfsigma import DatabaseError, HalfsigmaError, IllegalTransition, StoreError, TooFewImages
from registry import deployment, lines, moves, retrains
from registry.tables import Line, Retrain

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a retrain stands."""

    id: int
    night: date
    state: str
    reason: str
    base_version: int
    new_version: int | None
    document: dict[str, Any]

    @classmethod
    def of(cls, retrain: Retrain) -> Outcome:
        return cls(
            retrain.id,
            retrain.night,
            retrain.state,
            retrain.reason,
            retrain.base_version,
            retrain.new_version,
            dict(retrain.document),
        )

    def to_dict(self) -> dict[str, Any]:
        """The contract's document of a retrain."""
        return {
            "id": self.id,
            "night": self.night.isoformat(),
            "state": self.state,
            "reason": self.reason,
            "base_version": self.base_version,
            "new_version": self.new_version,
            "gates": self.document.get("gates", []),
            "curation": self.document.get("curation"),
            "failure": self.document.get("failure"),
        }


def run_retrain(
    workspace: Workspace,
    line_name: str,
    *,
    night: date,
    base_version: int,
    reason: str,
    run: Callable[[Workspace, int, str], Retrain] | None = None,
) -> Outcome:
    """Bring one retrain as far as it goes by itself.

    Args:
        workspace: where the line is.
        line_name: of the line.
        night: whose images are learned from.
        base_version: the champion that would be replaced.
        reason: shown to people and kept in the audit.
        run: does the named step of a retrain; a flow gives a task that tries again.

    Raises:
        StoreError, DatabaseError: it went away in the last step; run again, the retrain is brought to its end.
    """
    run = run or (lambda workspace, retrain_id, _: run_step(workspace, retrain_id, progress=current_progress()))
    row = request_retrain(workspace, line_name, night=night, base_version=base_version, reason=reason)
    try:
        while (step := next_step(row.state)) is not None:
            row = _advanced(workspace, row, step, run)
    except IllegalTransition:  # another process took this step: it goes on with the retrain, this one does not
        with workspace.database.session() as session:
            row = retrains.get(session, row.id)
    if row.state == "promoted":
        publish_history(workspace, line_name)
    return Outcome.of(row)


def _advanced(workspace: Workspace, row: Retrain, step: str, run: Callable[[Workspace, int, str], Retrain]) -> Retrain:
    """One step further, or failed; IllegalTransition where another process moved it.

    The last step never fails because MLflow or the database went away: the champion's alias may have been moved before.
    """
    try:
        return run(workspace, row.id, step)
    except IllegalTransition:
        raise
    except HalfsigmaError as error:
        if step == "conclude" and isinstance(error, (StoreError, DatabaseError)):
            raise
        reason, hint = error.message, error.hint
    except Exception as error:  # noqa: BLE001  # one line's fault must neither end the night nor hold its retrain
        _log.exception("the step %r of retrain %d failed", step, row.id)
        reason = f"step {step!r}: unexpected {type(error).__name__}: {error}"
        hint = "run it again; if it stays, report it"
    return fail_retrain(workspace, row.id, start=row.state, reason=reason, hint=hint)


def request_retrain(
    workspace: Workspace,
    line_name: str,
    *,
    night: date,
    base_version: int,
    reason: str,
    document: Mapping[str, object] | None = None,
) -> Retrain:
    """The retrain of this line, night and version: a new one, or the one there is; a failed one starts again.

    While another retrain of the same version is under way or waits for a person, that one is given: a line has one
    challenger at a time. But what was killed in an earlier night is given up for this one, and a challenger that learned
    from what people have called defects since is taken back, and its night is learned again without.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        under_way = retrains.open_retrain(session, line)
        if under_way is not None and under_way.base_version == base_version:
            if under_way.state in retrains.OFFERED:
                if not _take_back(workspace, session, line, under_way):
                    return under_way
                night = under_way.night
            elif under_way.night >= night or not _give_up(workspace, session, line, under_way, night=night):
                return under_way
        retrain = retrains.request(
            session, line, night=night, base_version=base_version, reason=reason, document=document
        )
        is_growth = document is not None and ADDED in document
        if retrain.state == "failed" or vetoes.may_start_again(workspace, session, line, retrain, is_growth=is_growth):
            retrain = retrains.advance(
                session, retrain.id, start=retrain.state, to="requested", reason=reason, document=document
            )
        return retrain


def _take_back(workspace: Workspace, session: Session, line: Line, offered: Retrain) -> bool:
    """A challenger that learned from what is called a defect now. While MLflow is away nothing is: it is not promoted then either."""
    vetoed = vetoes.learned_defects(workspace, session, line, offered)
    if not vetoed:
        return False
    try:
        vetoes.reject_offered(workspace, session, line, offered, reason=vetoes.phrase(vetoed))
    except StoreError:
        return False
    return True


def _give_up(workspace: Workspace, session: Session, line: Line, retrain: Retrain, *, night: date) -> bool:
    """End a retrain of an earlier night that no process is at: this night's images say more of how the station is.

    Not one whose promotion was cut off: its version may be champion, which is seen when MLflow answers.
    """
    begun = moves.pending(session, line)
    if begun is not None and begun.to == retrain.new_version:
        return False
    try:
        with retrain_files.alone(workspace, retrain):
            _fail(
                session, line, retrain, start=retrain.state, reason=f"it was left unfinished; {night} is learned from"
            )
    except IllegalTransition:
        return False
    return True


def next_step(state: str) -> str | None:
    """The name of the step that leads on from a state, or None when there is nothing left to do by itself.

    >>> next_step("curated"), next_step("promoted")
    ('fit', None)
    """
    return {
        "requested": "curate",
        "curated": "fit",
        "fitted": "gate",
        "gated": "register",
        "registered": "conclude",
    }.get(state)


def run_step(workspace: Workspace, retrain_id: int, *, progress: Progress = no_progress) -> Retrain:
    """Do the step that the retrain's state asks for and move it on; without one, leave it.

    A step that is killed leaves the state where it was, and its files are made anew when it is run again. Too few good
    images fail the retrain with that reason, so that the next night asks again.
    """
    steps: Mapping[str, Callable[[Workspace, Retrain, Line, Progress], Retrain]] = {
        "curate": _curate,
        "fit": fit_challenger,
        "gate": try_challenger,
        "register": register_challenger,
        "conclude": conclude,
    }
    retrain, _ = _with_line(workspace, retrain_id)
    with retrain_files.alone(workspace, retrain):
        retrain, line = _with_line(workspace, retrain_id)  # as it is now that nobody else moves it
        name = next_step(retrain.state)
        if name is None:
            return retrain
        try:
            return steps[name](workspace, retrain, line, progress)
        except TooFewImages as error:
            started, wanted = retrain.state, error.message
            return fail_retrain(workspace, retrain_id, start=started, reason=wanted, hint=error.hint, waits=True)


def fail_retrain(
    workspace: Workspace, retrain_id: int, *, start: str, reason: str, hint: str = "", waits: bool = False
) -> Retrain:
    """Record why a retrain could not go on, and what to do; it is told, and it may be asked for again.

    Args:
        workspace: of the line.
        retrain_id: which.
        start: the state that it was in.
        reason, hint: for people.
        waits: nothing broke; it needs more images.

    Raises:
        IllegalTransition: it is not in the state ``start`` any more: another process went on with it.
    """
    retrain, line = _with_line(workspace, retrain_id)
    with workspace.database.session() as session:
        return _fail(session, line, retrain, start=start, reason=reason, hint=hint, waits=waits)


def _fail(
    session: Session, line: Line, retrain: Retrain, *, start: str, reason: str, hint: str = "", waits: bool = False
) -> Retrain:
    failure = {} if waits else {"failure": {"message": reason, "hint": hint}}
    failed = retrains.advance(session, retrain.id, start=start, to="failed", reason=reason, document=failure)
    document = {"retrain": retrain.id, "state": start, "reason": reason, "hint": hint}
    deployment.tell(
        session, line, "retrain_failed", actor=deployment.SYSTEM, version=retrain.base_version, document=document
    )
    return failed


def _with_line(workspace: Workspace, retrain_id: int) -> tuple[Retrain, Line]:
    with workspace.database.session() as session:
        retrain = retrains.get(session, retrain_id)
        return retrain, next(each for each in lines.list_lines(session) if each.id == retrain.line_id)


def _curate(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    folder = retrain_files.folder_of(workspace, retrain)
    if ADDED in retrain.document:
        document = cleared_document(retrain.document[ADDED])
        retrain_files.write_curation(folder, document)
        return retrain_files.advance(workspace, retrain, "curated", {"curation": summary_of(document)})
    night = curate_night(workspace, line, night=retrain.night, base_version=retrain.base_version, progress=progress)
    document = night.to_json()
    retrain_files.write_curation(folder, document)
    if night.curation.waits:
        return _wait_for_verdicts(workspace, retrain, line, night)
    return retrain_files.advance(workspace, retrain, "curated", {"curation": summary_of(document)})


def _wait_for_verdicts(workspace: Workspace, retrain: Retrain, line: Line, curated: CuratedNight) -> Retrain:
    """It fails with that reason, as one with too few images: asked for again, it takes up what people said meanwhile."""
    reason = f"{curated.curation.waits}; halfsigma curate {line.name} --night {retrain.night} shows them"
    unseen = [{"sha256": each.sha256, "path": each.path} for each in curated.curation.to_look_at if each.label is None]
    with workspace.database.session() as session:
        deployment.tell(
            session,
            line,
            "retrain_waits_for_labels",
            actor=deployment.SYSTEM,
            version=retrain.base_version,
            document={"retrain": retrain.id, "night": retrain.night.isoformat(), "reason": reason, "suspects": unseen},
        )
        document = {"curation": summary_of(curated.to_json()), "suspects": unseen}
        return retrains.advance(session, retrain.id, start=retrain.state, to="failed", reason=reason, document=document)
