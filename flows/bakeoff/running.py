"""``halfsigma bakeoff``: images, frame and drift of a line, put through the contest."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD, is_texture, runtime_for
from detectors.backbones.resolution import measured_cost_ms, plan_frame
from detectors.disturbances.disturbance import Disturbance
from detectors.disturbances.ladders import USUAL_SIDE_PX
from detectors.families.names import FAMILIES
from detectors.photographs.images import list_images
from detectors.protocol import Detector, Progress, no_progress
from flows.bakeoff.contest import Contest, Images
from flows.bakeoff.material import MOST_PIXELS, choose_material
from flows.bakeoff.recommending import Situation, recommend
from flows.bakeoff.result import Bakeoff
from flows.known_defects import known_defects
from flows.workspace import Workspace
from halfsigma import UsageError
from registry import deployment, lines

SEED = 0
DRIFT_PX = 1.5
"""Out of focus by this sigma on a photograph of `USUAL_SIDE_PX`: the fire drill's third rung, which every family feels."""
MOST_PREPARING = 0.9
"""Of the time budget; in what is left after more, no family can be fitted."""


def run_bakeoff(
    workspace: Workspace,
    line_name: str,
    *,
    good_folder: Path,
    defect_folder: Path | None,
    minutes: float,
    families: Mapping[str, type[Detector]] = FAMILIES,
    progress: Progress = no_progress,
) -> Bakeoff:
    """Measure every family on the user's images; the line need not exist, and stays as it is.

    Raises:
        UsageError: the line's name or the time budget is not what it should be, or preparing the images takes nearly all of it.
        ImageError: a folder holds no image.
        TooFewImages: too few goods to fit, retrain and judge by, or too few defects in the named folder.
    """
    started = time.perf_counter()
    lines.check_line_name(line_name)
    if not 0.0 < minutes < float("inf"):
        raise UsageError(f"a time budget of {minutes:g} minutes, expected more than 0", hint="--minutes 30")
    good_paths = list_images(good_folder)
    defect_paths = list_images(defect_folder) if defect_folder is not None else None
    with workspace.database.session() as session:
        line = lines.find_line(session, line_name)
        if line is not None:
            deployment.refuse_foreign(line)
        fpr_budget = line.fpr_budget if line else lines.DEFAULT_FPR_BUDGET
        budget_ms = line.latency_budget_ms if line else None
        defects = known_defects(session, line, defect_paths or ())
    spec = BackboneSpec()
    usual = build_runtime(spec, neighbourhood=NEIGHBOURHOOD)
    plan = plan_frame(good_paths, latency_budget_ms=budget_ms, cost_ms=lambda side: measured_cost_ms(usual, side))
    material = choose_material(
        good_paths,
        defect_paths,
        known_defects=defects,
        white_level=plan.white_level,
        seed=SEED,
        progress=progress,
    )
    drift, of_reduced = (
        Disturbance("defocus", round(DRIFT_PX * max(side / USUAL_SIDE_PX, 1.0), 2))
        for side in (plan.native_side_px, min(plan.native_side_px, math.sqrt(MOST_PIXELS)))
    )
    preparing = _leaving_time(progress, minutes, started)
    images = Images.of(material, plan, drift=of_reduced, seed=SEED, progress=preparing)
    small = [each.small for each in images.fit.prepared]
    contest = Contest(
        images=images,
        station_images=[each.path for each in material.held_out],
        runtime=runtime_for(small, usual=usual, spec=spec),
        fpr_budget=fpr_budget,
        seconds=60.0 * minutes - (time.perf_counter() - started),
        seed=SEED,
        progress=progress,
    )
    entries = contest.run(families)
    situation = Situation(
        n_fit=len(material.fit),
        latency_budget_ms=budget_ms,
        has_defects=bool(material.labelled),
        is_texture=is_texture(small),
    )
    return Bakeoff(
        line=line_name,
        material=material,
        drift=drift.label,
        entries=entries,
        failed=contest.failed,
        recommendation=recommend(entries, situation, seed=SEED),
        latency_budget_ms=budget_ms,
        minutes=minutes,
        white_level=plan.white_level,
        seed=SEED,
        seconds=time.perf_counter() - started,
    )


def _leaving_time(progress: Progress, minutes: float, started: float) -> Progress:
    """The same, ending the bake-off as soon as the families would have no time."""

    def tell(what: str, done: int, total: int) -> None:
        took = (time.perf_counter() - started) / 60.0
        if took > MOST_PREPARING * minutes:
            raise UsageError(
                f"reading the images and preparing {done} of {total} took {took:.1f} of {minutes:g} minutes, "
                "which leaves no time for the families",
                hint=f"give --minutes {math.ceil(minutes + took * total / done)}",
            )
        progress(what, done, total)

    return tell
