"""``halfsigma retrain LINE --add DIR``: images that a person says are good, on their way into the champion."""

from __future__ import annotations

from pathlib import Path

from detectors.fit import MIN_FIT_IMAGES
from detectors.photographs.images import is_as_deep, list_images
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Growing, Progress, no_progress
from flows.challenger import request_retrain
from flows.labelling import label_images
from flows.retrain_files import ADDED
from flows.workspace import Workspace
from halfsigma import DetectorError, IllegalTransition, TooFewImages, UsageError
from registry import deployment, following, images, lines, retrains
from registry.columns import utc_now
from registry.lines import night_of
from registry.tables import Retrain


def request_growth(workspace: Workspace, line_name: str, folder: Path, *, progress: Progress = no_progress) -> Retrain:
    """A retrain of today that adds the folder's images to the champion; they are labelled good, and kept.

    It is the row of this line, today's night and this champion, like any retrain, so asking twice adds once.

    Raises:
        DetectorError: the line's family does not grow.
        TooFewImages: fewer than `MIN_FIT_IMAGES` new readable ones; gates could not be asked of them.
        UsageError: an image is labelled as a defect of this line.
        IllegalTransition: another retrain of the champion is under way, or today's is over.
    """
    paths = list_images(folder)
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        night = night_of(utc_now(), line.time_zone)
        _refuse_a_second(retrains.list_retrains(session, line), number, night)
    champion = workspace.load(line_name, number)
    if not isinstance(champion.model, Growing):
        raise DetectorError(
            f"{line.detector} cannot learn from some images more without the old ones",
            hint=f"halfsigma retrain {line_name} fits it again; patchcore and padim grow",
        )
    fitted = frozenset(map(str, champion.provenance["fit_images_sha256"]))  # type: ignore[call-overload]  # JSON
    found: dict[str, Path] = {}
    n_unreadable = 0
    for index, item in enumerate(read_ahead(paths)):
        progress("images", index, len(paths))
        if isinstance(item, Unreadable) or not is_as_deep(item.pixels, champion.white_level):
            n_unreadable += 1
        elif item.sha256 not in fitted:
            found.setdefault(item.sha256, item.path)
    if len(found) < MIN_FIT_IMAGES:
        raise TooFewImages(
            f"{len(found)} images of {len(paths)} files are readable and new to version {number}, expected at least "
            f"{MIN_FIT_IMAGES} ({n_unreadable} are unreadable)",
            hint="add some dozens at once: the gates try every third of them",
        )
    with workspace.database.session() as session:
        _refuse_others(retrains.list_retrains(session, line), number, set(found))
        defects = [sha for sha, image in images.find(session, line, found).items() if image.label == "defect"]
        if defects:
            raise UsageError(
                f"{len(defects)} of these images are labelled as defects, first {found[defects[0]].name}",
                hint=f"take them out, or say otherwise: halfsigma label {line_name} FILE --as good",
            )
        images.remember(session, line, {sha256: str(path.resolve()) for sha256, path in found.items()})
    label_images(workspace, line_name, list(found), as_label="good")
    with workspace.database.session() as session:
        kept = {sha: image.kept_path or image.path for sha, image in images.find(session, line, found).items()}
    return request_retrain(
        workspace,
        line_name,
        night=night,
        base_version=number,
        reason=f"a person added {len(found)} good images",
        document={ADDED: kept},
    )


def _refuse_others(rows: list[Retrain], number: int, found: set[str]) -> None:
    """One that was killed goes on when the same images are given again; others would be labelled and not added."""
    for row in rows:
        if row.base_version == number and row.state in retrains.OPEN and set(row.document.get(ADDED, found)) != found:
            raise IllegalTransition(
                f"retrain {row.id} of version {number} adds other images and is {row.state}; nothing was added",
                hint="promote or wait for it, then add these",
            )


def _refuse_a_second(rows: list[Retrain], number: int, night: object) -> None:
    for row in rows:
        if row.base_version != number:
            continue
        if row.state in retrains.OPEN and ADDED not in row.document:
            raise IllegalTransition(
                f"retrain {row.id} of version {number} is {row.state}", hint="promote or wait for it, then add"
            )
        if row.night == night and row.state in retrains.FINAL:
            raise IllegalTransition(
                f"retrain {row.id} of version {number} is over for today: {row.state}",
                hint="a version is retrained once a night; add the images tomorrow",
            )
