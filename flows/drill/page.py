"""A drill as one HTML page."""

from __future__ import annotations

import math
from pathlib import Path

from detectors.photographs.images import Pixels
from flows.drill.result import BURST, Climb, Drill, Rung
from flows.pages import DrillLadder, DrillPage, DrillStep, Fact, render_drill
from halfsigma import __version__
from registry.columns import utc_now
from registry.harm import Cost

COSTS: dict[Cost, str] = {
    "detection": "detection",
    "missed_defects": "missed defects",
    "false_rejects": "false rejects",
}
SHORT_UNITS = {"deg": "°", "px": " px", "sigma in px": " px"}
DEFECTS = {
    "folder": "the defects of the folder given",
    "labelled": "the line's labelled defects",
    "synthetic": "synthetic defects painted on the held-out parts",
}
UNUSUAL = (
    "Even without any disturbance the check calls these images “{word}”. They were taken under other conditions than the "
    "ones the champion was fitted on, or show something else: retrain first, then drill."
)


def write_page(drill: Drill, path: Path) -> Path:
    """Write the page of ``drill`` and return where it lies."""
    return render_drill(_page(drill), path)


def _page(drill: Drill) -> DrillPage:
    material, calm = drill.material, drill.undisturbed
    examples = iter(drill.example[1:])
    ladders = tuple(
        _ladder(climb, calm, (drill.example[0], *(next(examples) for _ in climb.rungs))) for climb in drill.climbs
    )
    n_noticed = sum(climb.first_noticed is not None for climb in drill.climbs)
    silent = [climb.title for climb in drill.climbs if any(rung.silent for rung in climb.rungs)]
    rungs = [rung for climb in drill.climbs for rung in climb.rungs]
    retrained = [rung for rung in rungs if rung.after is not None]
    helped = [rung for rung in retrained if rung.after and rung.after.figures.fpr < rung.before.fpr]
    facts = (
        Fact("noticed", f"{n_noticed} of {len(drill.climbs)}", "disturbances, at some strength"),
        Fact("silent harm", str(len(silent)), ", ".join(silent) or "nothing hurts without being told"),
        Fact("retrained", str(len(retrained)), f"nights; fewer false rejects after {len(helped)} of them"),
        Fact(
            "undisturbed", f"AUROC {calm.before.auroc:.3f}", f"{calm.before.fpr:.1%} false rejects".replace("%", " %")
        ),
    )
    return DrillPage(
        line=drill.line,
        lead=(
            f"Known changes of the station were put on {len(material.night)} good images as if they were one night, and "
            f"judged as every night is. Detection, false rejects and missed defects are counted on "
            f"{len(material.held_out)} other good images and {len(material.defects)} defects under the same change: by "
            f"version {drill.version} as it is deployed, and, where the verdict is drift, by a version retrained on that "
            f"night. Nothing was changed on the line."
        ),
        facts=facts,
        ladders=ladders,
        bursts=_ladder(drill.bursts, calm, drill.example_defects) if drill.bursts.rungs else None,
        written_at=utc_now(),
        warning=UNUSUAL.format(word=calm.verdict.kind) if calm.verdict.kind != "stable" else "",
        provenance=(
            Fact("defects", f"{len(material.defects)}: {DEFECTS[material.defect_source]}"),
            Fact(
                "images",
                f"{material.n_looked_at} looked at; left out: {material.n_left_out_fitted} the champion was fitted on, "
                f"{material.n_left_out_defects} labelled as defects, {material.n_unreadable} unreadable",
            ),
            Fact("seed", str(drill.seed)),
            Fact("took", f"{drill.seconds / 60:.1f} minutes"),
            Fact("halfsigma", __version__),
        ),
    )


def _ladder(climb: Climb, calm: Rung, pictures: tuple[Pixels, ...]) -> DrillLadder:
    noticed, hurts, retrain = _noticed(climb, calm), _hurts(climb), _retrain(climb)
    is_burst = climb.name == BURST
    return DrillLadder(
        title=climb.title,
        summary=_summary(climb, noticed, hurts, retrain),
        noticed=noticed,
        hurts="–" if is_burst else hurts,
        retrain="never asked for" if is_burst and retrain == "–" else retrain,
        steps=(_step(calm, "none"), *(_step(rung, _strength(climb, rung.strength)) for rung in climb.rungs)),
        pictures=pictures,
    )


def _step(rung: Rung, strength: str) -> DrillStep:
    verdict = rung.verdict
    bulk, mean = verdict.bulk_shift, verdict.mean_shift
    after = rung.after.figures if rung.after else None
    return DrillStep(
        strength=strength,
        label=rung.label,
        verdict=verdict.kind,
        bulk_shift_sd=bulk.estimate if math.isfinite(bulk.estimate) else None,
        bulk_shift_ci=(bulk.low, bulk.high) if math.isfinite(bulk.low) and math.isfinite(bulk.high) else None,
        shift_sd=mean.estimate if math.isfinite(mean.estimate) else None,
        auroc_before=rung.before.auroc,
        auroc_after=after.auroc if after else None,
        fpr_before=rung.before.fpr,
        fpr_after=after.fpr if after else None,
        missed_before=rung.before.missed,
        missed_after=after.missed if after else None,
        cause=verdict.causes[0].phrase if verdict.causes else "",
        costs=tuple(COSTS[cost] for cost in rung.costs),
        silent=rung.silent,
        note=f"not retrained: {rung.not_retrained}" if rung.not_retrained else "",
    )


def _strength(climb: Climb, strength: float) -> str:
    if climb.unit.startswith("share") or climb.unit.startswith("sd") or climb.unit.startswith("amplitude"):
        return f"{strength * 100:.3g} %".replace("-", "−")
    return f"{strength:.3g}{SHORT_UNITS.get(climb.unit, '')}"


def _noticed(climb: Climb, calm: Rung) -> str:
    first = climb.first_noticed
    if first is None:
        return f"not up to {_strength(climb, climb.rungs[-1].strength)}"
    text = f"from {_strength(climb, climb.rungs[first].strength)} on"
    start = calm.verdict.bulk_shift.estimate
    crossing = climb.half_sigma_at(start) if climb.name != BURST and math.isfinite(start) else None
    return text if crossing is None else f"{text}; half a sigma at {_strength(climb, crossing)}"


def _hurts(climb: Climb) -> str:
    first = climb.first_cost
    if first is None:
        return f"not up to {_strength(climb, climb.rungs[-1].strength)}"
    named = " and ".join(COSTS[cost] for cost in climb.rungs[first].costs)
    return f"from {_strength(climb, climb.rungs[first].strength)} on ({named})"


def _retrain(climb: Climb) -> str:
    """At the strongest change that was answered by one: where it matters most."""
    answered = [rung for rung in climb.rungs if rung.after is not None]
    if not answered:
        return "–"
    rung = answered[-1]
    now = rung.after.figures if rung.after else rung.before
    return (
        f"at {_strength(climb, rung.strength)}: AUROC {rung.before.auroc:.2f} → {now.auroc:.2f}, "
        f"false rejects {rung.before.fpr * 100:.0f} → {now.fpr * 100:.0f} %"
    )


def _summary(climb: Climb, noticed: str, hurts: str, retrain: str) -> str:
    if climb.name == BURST:
        called = [_strength(climb, rung.strength) for rung in climb.rungs if rung.verdict.kind == "drift"]
        wrong = f" At {', '.join(called)} it was taken for drift." if called else " None was taken for drift."
        return f"Defects in the place of good parts, the station unchanged. Called a burst {noticed}.{wrong}"
    silent = [_strength(climb, rung.strength) for rung in climb.rungs if rung.silent]
    told = f" At {', '.join(silent)} it hurts and nobody is told." if silent else ""
    helps = "" if retrain == "–" else f" A retrain, {retrain}."
    return f"Noticed: {noticed}. Hurts: {hurts}.{told}{helps}"
