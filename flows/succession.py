"""From a challenger that was tried to the champion: registered, then promoted, offered, in shadow or rejected."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from detectors.artifact import load_version
from detectors.protocol import Progress
from flows import retrain_files, vetoes
from flows.fitting import how_made, provenance_tags, version_metrics
from flows.retrain_files import CHALLENGER, GATES, TRAINING, TWIN
from flows.workspace import Workspace
from halfsigma import IllegalTransition, RegistryError
from registry import approval, audit, deployment, following, lines, promotion, retrains
from registry.new_version import NewVersion
from registry.tables import Line, Retrain


def register_challenger(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    """Give it to MLflow, with its gates beside it, and mirror it."""
    progress("register", 0, 1)
    folder = retrain_files.folder_of(workspace, retrain)
    found = retrain.document["gates"]
    version = load_version(folder / CHALLENGER)
    new = NewVersion(
        folder / CHALLENGER,
        "retrain",
        base_version=retrain.base_version,
        params={"night": retrain.night.isoformat(), "retrain": retrain.id},
        metrics={**version_metrics(version), **{f"gate_{gate['name']}": gate["value"] for gate in found}},
        reports=(retrain_files.latest_curation(folder), folder / GATES),
        tags={
            "halfsigma.retrain": str(retrain.id),
            "halfsigma.gates": _outcome(found),
            "halfsigma.reason": retrain.reason,
            **provenance_tags(how_made(folder / CHALLENGER)),
        },
    )
    number = workspace.store.register(line.name, new)
    with workspace.database.session() as session:
        deployment.mirror_version(session, line, number, folder / CHALLENGER, workspace.store.tags(line.name, number))
        audit.record(
            session,
            actor=deployment.SYSTEM,
            action="registered",
            line=line,
            version=number,
            document={
                "retrain": retrain.id,
                "night": retrain.night.isoformat(),
                "base_version": retrain.base_version,
                "reason": retrain.reason,
                "curation": retrain.document["curation"],
                "gates": found,
                **how_made(folder / CHALLENGER),
            },
        )
        return retrains.advance(session, retrain.id, start="gated", to="registered", new_version=number)


def conclude(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    """What the gates and the line's policy make of a registered challenger."""
    progress("promote", 0, 1)
    number = retrain.new_version
    assert number is not None, "a registered retrain has a version: the column is written with the state"
    failed = [gate["name"] for gate in retrain.document["gates"] if not gate["passed"]]
    for name in (CHALLENGER, TWIN, TRAINING):  # MLflow has the one, nobody needs the other any more
        shutil.rmtree(retrain_files.folder_of(workspace, retrain) / name, ignore_errors=True)
    details = {"retrain": retrain.id, "night": retrain.night.isoformat(), "reason": retrain.reason}
    with workspace.database.session() as session:
        if failed:
            reason = "gates not passed: " + ", ".join(failed)
            document = {**details, "gates": retrain.document["gates"], "reason": reason}
            deployment.tell(
                session, line, "challenger_rejected", actor=deployment.SYSTEM, version=number, document=document
            )
            return retrains.advance(session, retrain.id, start="registered", to="rejected", reason=reason)
        champion = following.follow(session, line, workspace.store, cache=workspace.cache).champion
        if champion not in (retrain.base_version, number):
            reason = f"version {champion} became champion meanwhile"
            return retrains.advance(session, retrain.id, start="registered", to="rejected", reason=reason)
        vetoed = [] if champion == number else vetoes.learned_defects(workspace, session, line, retrain)
        if vetoed:
            raise RegistryError(vetoes.phrase(vetoed), hint=f"learn again without them: halfsigma retrain {line.name}")
        if champion == number or (line.policy == "auto" and line.approvals == 1):
            return promote_retrain(session, workspace, retrain, line, number, start="registered", document=details)
        if line.policy == "shadow":
            workspace.store.fetch(line.name, number, cache=workspace.cache)  # it scores along when MLflow is away
            promotion.offer(session, line, workspace.store, number, kind="challenger_in_shadow")
            reason = f"policy shadow: it scores along for {line.shadow_nights} nights first"
            return retrains.advance(session, retrain.id, start="registered", to="shadow", reason=reason)
        promotion.offer(session, line, workspace.store, number, kind="challenger_waits")
        return retrains.advance(
            session, retrain.id, start="registered", to="waiting", reason=approval.who_promotes(line)
        )


def promote_retrain(
    session: Session,
    workspace: Workspace,
    retrain: Retrain,
    line: Line,
    number: int,
    *,
    start: str,
    document: Mapping[str, object],
) -> Retrain:
    """Promote a retrain's version; if another version was promoted meanwhile, the retrain is over with that reason."""
    try:
        promotion.promote(
            session,
            line,
            workspace.store,
            number,
            replaces=retrain.base_version,
            actor=deployment.SYSTEM,
            document=document,
            cache=workspace.cache,
        )
    except IllegalTransition as error:
        if lines.aliases(session, line).get("champion") in (retrain.base_version, number):
            raise  # somebody is at it this moment; what comes of it is seen when the step is run again
        return retrains.advance(session, retrain.id, start=start, to="rejected", reason=error.message)
    row = retrains.get(session, retrain.id)  # one that was offered as challenger is settled by the promotion itself
    return row if row.state == "promoted" else retrains.advance(session, retrain.id, start=start, to="promoted")


def _outcome(found: Sequence[Mapping[str, object]]) -> str:
    failed = [str(gate["name"]) for gate in found if not gate["passed"]]
    return "all passed" if not failed else "failed: " + ", ".join(failed)
