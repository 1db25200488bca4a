"""The steps from a drifted night to a promoted challenger; each can be killed and run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from sqlalchemy.orm import Session

from detectors.artifact import load_version, save_version
from detectors.families import family_named
from detectors.fit import GoodImages, PreparedImage, fit_version, prepare, with_responses
from detectors.growing import grow_version
from detectors.images import Pixels
from detectors.loading import Unreadable, read_ahead
from detectors.protocol import Progress, no_progress
from detectors.version import DetectorVersion
from flows.curating import CuratedNight, cleared_document, curate_night, curated_core, leave_out, summary_of
from flows.fitting import how_made, provenance_tags, version_metrics
from flows.workspace import Workspace
from halfsigma import IllegalTransition, TooFewImages
from registry import approval, audit, deployment, images, lines, promotion, retrains
from registry.curation import second_look
from registry.store import NewVersion
from registry.tables import Image, Line, Retrain
from registry.trial import ROUND_TRIP_IMAGES, Trial, run_trial

SEED = 0
PROBE_SHARE = 0.3
"""Of the curated images are new to the twin that the gates try; the challenger itself learns from all."""
MAX_PROBES = 150
MAX_GOLDEN = 200

_CURATED = "curated.json"
_GATES = "gates.json"
_FITTED = "fitted_scores.json"
ADDED = "added"
"""In the document of a retrain that adds cleared images to the champion: SHA-256 → file."""
_TRAINING = "training"
"""Checkpoints: a retrain that was killed goes on with its training."""


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
    challenger at a time.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        under_way = retrains.open_retrain(session, line)
        if under_way is not None and under_way.base_version == base_version:
            return under_way
        retrain = retrains.request(
            session, line, night=night, base_version=base_version, reason=reason, document=document
        )
        if retrain.state == "failed":
            retrain = retrains.advance(
                session, retrain.id, start="failed", to="requested", reason=reason, document=document
            )
        return retrain


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
        "fit": _fit,
        "gate": _gate,
        "register": _register,
        "conclude": _conclude,
    }
    with workspace.database.session() as session:
        retrain = retrains.get(session, retrain_id)
        line = next(each for each in lines.list_lines(session) if each.id == retrain.line_id)
    name = next_step(retrain.state)
    if name is None:
        return retrain
    try:
        return steps[name](workspace, retrain, line, progress)
    except TooFewImages as error:
        return fail_retrain(workspace, retrain_id, reason=error.message)


def fail_retrain(workspace: Workspace, retrain_id: int, *, reason: str) -> Retrain:
    """Record why a retrain could not go on; it is told, and it may be asked for again."""
    with workspace.database.session() as session:
        retrain = retrains.get(session, retrain_id)
        line = next(each for each in lines.list_lines(session) if each.id == retrain.line_id)
        deployment.tell(
            session,
            line,
            "retrain_failed",
            actor=deployment.SYSTEM,
            version=retrain.base_version,
            document={"retrain": retrain_id, "state": retrain.state, "reason": reason},
        )
        return retrains.advance(session, retrain_id, start=retrain.state, to="failed", reason=reason)


def _curate(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    curated = _folder(workspace, retrain) / _CURATED
    if ADDED in retrain.document:
        document = cleared_document(retrain.document[ADDED])
        _write_json(curated, document)
        return _advance(workspace, retrain, "curated", {"curation": summary_of(document)})
    night = curate_night(workspace, line, night=retrain.night, base_version=retrain.base_version, progress=progress)
    document = night.to_json()
    _write_json(curated, document)
    if night.curation.waits:
        return _wait_for_verdicts(workspace, retrain, line, night)
    return _advance(workspace, retrain, "curated", {"curation": summary_of(document)})


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


def _fit(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    champion = workspace.load(line.name, retrain.base_version)
    folder = _folder(workspace, retrain)
    with workspace.database.session() as session:
        vetoed = {image.sha256: "a person called it a defect" for image in images.labelled(session, line, "defect")}
        cleared = {image.sha256 for image in images.labelled(session, line, "good")}
    curated = leave_out(json.loads((folder / _CURATED).read_text()), vetoed)
    chosen = curated["chosen"]
    goods = prepare(
        [Path(path) for path in chosen.values()],
        framing=champion.framing,
        white_level=champion.white_level,
        progress=progress,
    )
    # a file that was replaced since the curation is another image, which nobody looked at
    goods = replace(goods, prepared=tuple(each for each in goods.prepared if each.sha256 in chosen))
    if ADDED in retrain.document:
        _write_json(folder / _CURATED, curated)
        probes = _probes([Path(path) for path in chosen.values()])
        challenger, twin = (
            _grow(each, champion, line, workspace, progress) for each in (goods, _without(goods, probes))
        )
        return _fitted(workspace, retrain, challenger, twin, probes, n_fit=len(goods.prepared))
    training = folder / _TRAINING
    core, n_above = curated_core(curated, champion, progress), int(curated["n_perhaps_good"])
    challenger = _fit_goods(goods, core, champion, line, progress, training, n_above)
    in_reference = cast("Sequence[str]", challenger.provenance["reference_images_sha256"])
    outliers = second_look(
        challenger.reference_scores,
        reference_scores=champion.reference_scores,
        cleared=np.array([sha256 in cleared for sha256 in in_reference]),
    )
    suspects = {in_reference[i]: "suspect: a model of the new conditions finds it far outside" for i in outliers}
    if suspects:
        curated = leave_out(curated, suspects)
        goods = replace(goods, prepared=tuple(each for each in goods.prepared if each.sha256 not in suspects))
        challenger = _fit_goods(goods, core, champion, line, progress, training, n_above)
    _write_json(folder / _CURATED, curated)
    challenger = with_responses(challenger, goods, seed=SEED, progress=progress)
    challenger = replace(challenger, provenance={**challenger.provenance, "transferred": curated["transferred"]})
    probes = _probes([Path(path) for path in curated["chosen"].values()])
    fewer = _without(goods, probes)
    n_above_fewer = round(n_above * len(fewer.prepared) / len(goods.prepared))
    twin = _fit_goods(fewer, core, champion, line, progress, training, n_above_fewer)
    n_fit = len(goods.prepared) + len(core)
    return _fitted(workspace, retrain, challenger, twin, probes, n_fit=n_fit, curation=summary_of(curated))


def _fitted(
    workspace: Workspace,
    retrain: Retrain,
    challenger: DetectorVersion,
    twin: DetectorVersion,
    probes: Set[Path],
    **document: object,
) -> Retrain:
    folder = _folder(workspace, retrain)
    for name, version in (("challenger", challenger), ("twin", twin)):
        shutil.rmtree(folder / name, ignore_errors=True)
        save_version(version, folder / name)
    few = islice(_Photographs(sorted(probes)), ROUND_TRIP_IMAGES)
    _write_json(folder / _FITTED, {"scores": [challenger.score(pixels).score for pixels in few]})
    return _advance(workspace, retrain, "fitted", {**document, "n_probes": len(probes)})


def _grow(
    goods: GoodImages, champion: DetectorVersion, line: Line, workspace: Workspace, progress: Progress
) -> DetectorVersion:
    """The champion with some images more; its own are read from where they are kept."""
    reference = cast("Sequence[str]", champion.provenance["reference_images_sha256"])
    with workspace.database.session() as session:
        files = {sha256: _where(image) for sha256, image in images.find(session, line, reference).items()}
    return grow_version(champion, goods, known_files=files, fpr_budget=line.fpr_budget, seed=SEED, progress=progress)


def _fit_goods(
    goods: GoodImages,
    core: Sequence[PreparedImage],
    champion: DetectorVersion,
    line: Line,
    progress: Progress,
    training: Path,
    n_above: int,
) -> DetectorVersion:
    """A family that is trained goes on from the champion, the twin too, which has seen none of the probes."""
    return fit_version(
        goods,
        family=family_named(line.detector),
        runtime=champion.runtime,
        fpr_budget=line.fpr_budget,
        seed=SEED,
        progress=progress,
        warm_start=champion,
        checkpoint=training,
        core=core,
        n_above=n_above,
    )


def _without(goods: GoodImages, paths: Set[Path]) -> GoodImages:
    return replace(goods, prepared=tuple(each for each in goods.prepared if each.path not in paths))


def _gate(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    folder = _folder(workspace, retrain)
    paths = [Path(path) for path in json.loads((folder / _CURATED).read_text())["chosen"].values()]
    with workspace.database.session() as session:
        golden = images.golden_set(session, line, most=MAX_GOLDEN)
        n_labelled = len(images.labelled(session, line, "defect"))
    trial = Trial(
        champion=workspace.load(line.name, retrain.base_version),
        challenger=load_version(folder / "challenger"),
        reloaded=load_version(folder / "challenger"),
        twin=load_version(folder / "twin"),
        probes=_Photographs(sorted(_probes(paths))),
        golden=_Golden(golden),
        n_labelled=n_labelled,
        least_labels=line.min_labels,
        fitted_scores=json.loads((folder / _FITTED).read_text())["scores"],
    )
    found = run_trial(
        trial,
        night=retrain.night,
        fpr_budget=line.fpr_budget,
        latency_budget_ms=line.latency_budget_ms,
        seed=SEED,
        progress=progress,
    )
    document = {"gates": [gate.to_dict() for gate in found]}
    _write_json(folder / _GATES, document)
    return _advance(workspace, retrain, "gated", document)


def _register(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    progress("register", 0, 1)
    folder = _folder(workspace, retrain)
    found = retrain.document["gates"]
    version = load_version(folder / "challenger")
    new = NewVersion(
        folder / "challenger",
        "retrain",
        base_version=retrain.base_version,
        params={"night": retrain.night.isoformat(), "retrain": retrain.id},
        metrics={**version_metrics(version), **{f"gate_{gate['name']}": gate["value"] for gate in found}},
        reports=(folder / _CURATED, folder / _GATES),
        tags={
            "halfsigma.retrain": str(retrain.id),
            "halfsigma.gates": _outcome(found),
            "halfsigma.reason": retrain.reason,
            **provenance_tags(how_made(folder / "challenger")),
        },
    )
    number = workspace.store.register(line.name, new)
    with workspace.database.session() as session:
        deployment.mirror_version(session, line, number, folder / "challenger", workspace.store.tags(line.name, number))
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
                **how_made(folder / "challenger"),
            },
        )
        return retrains.advance(session, retrain.id, start="gated", to="registered", new_version=number)


def _conclude(workspace: Workspace, retrain: Retrain, line: Line, progress: Progress) -> Retrain:
    progress("promote", 0, 1)
    number = retrain.new_version
    assert number is not None, "a registered retrain has a version: the column is written with the state"
    failed = [gate["name"] for gate in retrain.document["gates"] if not gate["passed"]]
    for name in ("challenger", "twin", _TRAINING):  # MLflow has the one, nobody needs the other any more
        shutil.rmtree(_folder(workspace, retrain) / name, ignore_errors=True)
    details = {"retrain": retrain.id, "night": retrain.night.isoformat(), "reason": retrain.reason}
    with workspace.database.session() as session:
        if failed:
            reason = "gates not passed: " + ", ".join(failed)
            document = {**details, "gates": retrain.document["gates"], "reason": reason}
            deployment.tell(
                session, line, "challenger_rejected", actor=deployment.SYSTEM, version=number, document=document
            )
            return retrains.advance(session, retrain.id, start="registered", to="rejected", reason=reason)
        champion = workspace.store.aliases(line.name).get("champion")
        if champion not in (retrain.base_version, number):
            reason = f"version {champion} was promoted meanwhile"
            return retrains.advance(session, retrain.id, start="registered", to="rejected", reason=reason)
        if line.policy == "auto" and line.approvals == 1:
            return promote_retrain(session, workspace, retrain, line, number, start="registered", document=details)
        if line.policy == "shadow":
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


def _probes(paths: Sequence[Path]) -> set[Path]:
    n_probes = min(MAX_PROBES, round(PROBE_SHARE * len(paths)))
    drawn = np.random.default_rng(SEED).choice(len(paths), n_probes, replace=False)
    return {paths[index] for index in drawn}


@dataclass(frozen=True, slots=True)
class _Photographs:
    """The readable ones of these files, read again each time they are gone through."""

    paths: Sequence[Path]

    def __iter__(self) -> Iterator[Pixels]:
        return (item.pixels for item in read_ahead(self.paths) if not isinstance(item, Unreadable))


@dataclass(frozen=True, slots=True)
class _Golden:
    """Labelled defects that are still what was labelled, with their kinds."""

    images: Sequence[Image]

    def __iter__(self) -> Iterator[tuple[Pixels, str]]:
        for image, item in zip(self.images, read_ahead([_where(image) for image in self.images]), strict=True):
            if not isinstance(item, Unreadable) and item.sha256 == image.sha256:
                yield item.pixels, image.kind or ""


def _where(image: Image) -> Path:
    return Path(image.kept_path or image.path)


def _advance(workspace: Workspace, retrain: Retrain, to: str, document: Mapping[str, object]) -> Retrain:
    with workspace.database.session() as session:
        return retrains.advance(session, retrain.id, start=retrain.state, to=to, document=document)


def _folder(workspace: Workspace, retrain: Retrain) -> Path:
    return workspace.work_folder(f"retrain-{retrain.id}")


def _outcome(found: Sequence[Mapping[str, object]]) -> str:
    failed = [str(gate["name"]) for gate in found if not gate["passed"]]
    return "all passed" if not failed else "failed: " + ", ".join(failed)


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(document, indent=1, default=str))
    unfinished.replace(path)
