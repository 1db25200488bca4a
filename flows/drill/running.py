"""``halfsigma drill``: a line's champion, its images and its reference, put through a rehearsal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detectors.artifact import load_version
from detectors.disturbances.ladders import drill_ladders
from detectors.disturbances.specimens import Specimen, photograph
from detectors.photographs.images import Pixels, list_images
from detectors.protocol import Progress, no_progress
from drift.reference import Reference
from flows.drill.material import choose_material
from flows.drill.rehearsal import Rehearsal
from flows.drill.relearning import Recipe
from flows.drill.result import Climb, Drill
from flows.workspace import Workspace
from registry import deployment, following, images, lines
from registry.columns import utc_now
from registry.lines import night_of

SEED = 0
EXAMPLE_DEFECTS = 6


def run_drill(
    workspace: Workspace,
    line_name: str,
    *,
    good_folder: Path,
    defect_folder: Path | None,
    progress: Progress = no_progress,
) -> Drill:
    """Try the line's champion and its retrain under every known disturbance; the line stays as it is.

    Raises:
        UnknownLine, UnknownVersion: there is no line, or nothing to try.
        ImageError: a folder holds no image.
        TooFewImages: too few good images that the champion never learned from, or too few defects in the named folder.
    """
    started = time.perf_counter()
    good_paths = list_images(good_folder)
    defect_paths = list_images(defect_folder) if defect_folder is not None else None
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        reference = Reference.from_json(lines.get_version(session, line, number).reference)
        labelled = images.labelled(session, line, "defect")
    champion = workspace.load(line_name, number)
    material = choose_material(
        good_paths,
        fitted=frozenset(map(str, champion.provenance["fit_images_sha256"])),  # type: ignore[call-overload]  # JSON
        known_defects=frozenset(image.sha256 for image in labelled),
        white_level=champion.white_level,
        defect_folder_paths=defect_paths,
        labelled_paths=[Path(image.kept_path or image.path or "") for image in labelled],
        seed=SEED,
        progress=progress,
    )
    recipe = Recipe(
        family=type(champion.model),
        runtime=load_version(workspace.store.fetch(line_name, number, cache=workspace.cache)).runtime,
        fpr_budget=line.fpr_budget,
        seed=SEED,
    )
    rehearsal = Rehearsal(
        champion=champion,
        reference=reference,
        recipe=recipe,
        material=material,
        night=night_of(utc_now(), line.time_zone),
        progress=progress,
    )
    ladders = drill_ladders(side_px=material.side_px, colour=material.colour, seed=SEED)
    undisturbed, climbs, bursts = rehearsal.run(ladders)
    example = _example(material.held_out[0], climbs, white_level=champion.white_level)
    return Drill(
        line=line_name,
        version=number,
        seed=SEED,
        material=material,
        undisturbed=undisturbed,
        climbs=climbs,
        bursts=bursts,
        example=example,
        example_defects=tuple(
            photograph(each, None, white_level=champion.white_level, rng=np.random.default_rng(SEED))
            for each in material.defects[:EXAMPLE_DEFECTS]
        ),
        seconds=time.perf_counter() - started,
    )


def _example(specimen: Specimen, climbs: Sequence[Climb], *, white_level: int) -> tuple[Pixels, ...]:
    rungs = [None, *(rung.disturbance for climb in climbs for rung in climb.rungs)]
    return tuple(photograph(specimen, each, white_level=white_level, rng=np.random.default_rng(SEED)) for each in rungs)
