"""What the demo's nights left behind, read back from where every command would find it, beside what is true."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.photographs.images import Pixels, read_photograph
from detectors.version import DetectorVersion
from flows import retrain_files
from flows.demo.part import DemoNight, DemoPart
from flows.pages import Curation, ImagePanel, Thumbnail
from flows.workspace import Workspace
from registry import lines, scores
from registry.scores import NightImage

N_DEFECT_PANELS = 3
N_CHOSEN_SHOWN, N_LEFT_OUT_SHOWN = 20, 10


@dataclass(frozen=True, slots=True)
class ToldVersion:
    """One version as the registry has it."""

    number: int
    aliases: tuple[str, ...]
    origin: str
    threshold: float
    reference: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """How one version scored a night, in capture order."""

    version: int
    scores: NDArray[np.float64]
    rejected: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ToldNight:
    """One night: what was done to the part and the station, and what became of it.

    Attributes:
        told: what really happened.
        document: of this line, as `nightly` returned it.
        seen: by the version that judged the night.
        is_defect: (n,) the truth, in the same order.
        panels: some photographs with their maps.
        curation: of the night's retrain, where there was one.
        unreplaced: how the version replaced in the night before would have scored this one.
    """

    told: DemoNight
    document: Mapping[str, Any]
    seen: Seen
    is_defect: NDArray[np.bool_]
    panels: tuple[ImagePanel, ...] = ()
    curation: Curation | None = None
    unreplaced: Seen | None = None

    @property
    def check(self) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self.document["check"]
        return document

    @property
    def retrain(self) -> Mapping[str, Any] | None:
        document: Mapping[str, Any] | None = self.document["retrain"]
        return document

    @property
    def version(self) -> int:
        return self.seen.version

    @property
    def fpr(self) -> float | None:
        """Share of the good parts that were rejected."""
        return share(self.seen.rejected[~self.is_defect])

    @property
    def recall(self) -> float | None:
        """Share of the defective parts that were rejected."""
        return share(self.seen.rejected[self.is_defect])


@dataclass(frozen=True, slots=True)
class Told:
    """The whole demo, as it came."""

    line: str
    source: str
    own: bool
    seed: int
    n_fit: int
    nights: tuple[ToldNight, ...]
    versions: Mapping[int, ToldVersion]


def share(chosen: NDArray[np.bool_]) -> float | None:
    """The mean, or None of nothing.

    >>> share(np.array([True, False])), share(np.array([], bool))
    (0.5, None)
    """
    return float(chosen.mean()) if chosen.size else None


def recall(workspace: Workspace, line_name: str, part: DemoPart, documents: Sequence[Mapping[str, Any]]) -> Told:
    """Read scores, versions, aliases and curation of every night back."""
    nights = []
    for index, (told, document) in enumerate(zip(part.nights, documents, strict=True)):
        version = int(document["check"]["version"])
        before = int(documents[index - 1]["check"]["version"]) if index else version
        unreplaced = before if before != version else None
        shown = not (index and document["check"]["verdict"] == documents[0]["check"]["verdict"] and unreplaced is None)
        nights.append(_night(workspace, line_name, told, document, unreplaced=unreplaced, with_panels=shown))
    return Told(
        line=line_name,
        source=part.source,
        own=line_name == "own-part",
        seed=part.seed,
        n_fit=sum(path.is_file() for path in part.good.iterdir()),
        nights=tuple(nights),
        versions=_versions(workspace, line_name),
    )


def _night(
    workspace: Workspace,
    line_name: str,
    told: DemoNight,
    document: Mapping[str, Any],
    *,
    unreplaced: int | None,
    with_panels: bool,
) -> ToldNight:
    number = int(document["check"]["version"])
    with workspace.database.session() as session:
        rows = scores.night_images(session, lines.get_line(session, line_name), number, told.night)
    kinds = {path.name: kind for path, kind in told.defects.items()}
    seen = Seen(number, np.array([row.score for row in rows]), np.array([row.rejected for row in rows], bool))
    return ToldNight(
        told=told,
        document=document,
        seen=seen,
        is_defect=np.array([row.name in kinds for row in rows], bool),
        panels=_panels(workspace.load(line_name, number), rows, kinds, told.directory) if with_panels else (),
        curation=_curation(workspace, document["retrain"], told),
        unreplaced=None if unreplaced is None else _score_all(workspace, line_name, unreplaced, rows, told.directory),
    )


def _panels(
    version: DetectorVersion, rows: Sequence[NightImage], kinds: Mapping[str, str], folder: Path
) -> tuple[ImagePanel, ...]:
    panels = []
    for row in _worth_showing(rows, kinds):
        pixels = _pixels(folder / row.name)
        number = Path(row.name).stem.lstrip("0")
        panels.append(
            ImagePanel(
                caption=f"No. {number}: {kinds.get(row.name, 'a good part')}",
                image=pixels,
                heatmap=version.score(pixels).anomaly_map,
                score=row.score,
                threshold=version.threshold.value,
            )
        )
    return tuple(panels)


def _worth_showing(rows: Sequence[NightImage], kinds: Mapping[str, str]) -> list[NightImage]:
    """The good part of median score, the clearest defects, each of another kind, and the worst miss."""
    ordered = sorted(rows, key=lambda row: row.score)
    goods = [row for row in ordered if row.name not in kinds]
    defects = [row for row in ordered if row.name in kinds]
    clearest = {kinds[row.name]: row for row in defects}  # of each kind the last, which scored most
    shown = sorted(clearest.values(), key=lambda row: -row.score)[:N_DEFECT_PANELS]
    missed = [row for row in defects[:1] if not row.rejected]
    others = [row for row in shown if row not in missed]
    return [*goods[len(goods) // 2 :][:1], *others[: N_DEFECT_PANELS - len(missed)], *missed]


def _score_all(workspace: Workspace, line_name: str, number: int, rows: Sequence[NightImage], folder: Path) -> Seen:
    """By a version that is no longer champion: told, not logged."""
    version = workspace.load(line_name, number)
    judged = [version.score(_pixels(folder / row.name)) for row in rows]
    return Seen(number, np.array([each.score for each in judged]), np.array([each.rejected for each in judged], bool))


def _curation(workspace: Workspace, retrain: Mapping[str, Any] | None, told: DemoNight) -> Curation | None:
    """What the retrain wrote down of each image; None when it did not come as far."""
    if retrain is None or not retrain["curation"]:
        return None
    path = retrain_files.latest_curation(workspace.work_folder(f"retrain-{retrain['id']}"))
    listed = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"chosen": {}, "left_out": {}}
    kinds = {path.name: kind for path, kind in told.defects.items()}
    chosen = [Path(each) for each in listed["chosen"].values()]
    # Defects that slipped through come first: a page that hid them would pretend.
    chosen.sort(key=lambda each: each.name not in kinds)
    return Curation(
        n_candidates=retrain["curation"]["n_candidates"],
        n_chosen=retrain["curation"]["n_chosen"],
        left_out=tuple(sorted(retrain["curation"]["left_out"].items())),
        chosen_samples=tuple(
            Thumbnail(_pixels(each), f"in truth: {kinds[each.name]}" if each.name in kinds else "")
            for each in chosen[:N_CHOSEN_SHOWN]
        ),
        left_out_samples=tuple(_left_out(listed["left_out"], told, kinds)),
    )


def _left_out(reasons: Mapping[str, str], told: DemoNight, kinds: Mapping[str, str]) -> list[Thumbnail]:
    from registry.images import file_sha256

    if not reasons:
        return []
    found = [(path, reasons[digest]) for path in told.images if (digest := file_sha256(path)) in reasons]
    return [
        Thumbnail(_pixels(path), f"{reason.split(':')[0]}; in truth: {kinds.get(path.name, 'good')}")
        for path, reason in found[:N_LEFT_OUT_SHOWN]
    ]


def _pixels(path: Path) -> Pixels:
    return read_photograph(path).pixels


def _versions(workspace: Workspace, line_name: str) -> dict[int, ToldVersion]:
    aliases = workspace.store.aliases(line_name)
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        found = [lines.get_version(session, line, each.number) for each in lines.list_versions(session, line)]
        return {
            each.number: ToldVersion(
                number=each.number,
                aliases=tuple(sorted(name for name, number in aliases.items() if number == each.number)),
                origin=each.origin,
                threshold=each.threshold,
                reference=np.array(each.reference["scores"], np.float64),
            )
            for each in found
        }
