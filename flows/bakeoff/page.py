"""A bake-off as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from detectors.disturbances.specimens import Specimen, photograph
from detectors.photographs.images import Pixels
from flows.bakeoff.document import CAVEAT
from flows.bakeoff.material import DIRTY_SHARE, MOST_PIXELS
from flows.bakeoff.result import Bakeoff, Entry
from flows.pages import BakeoffPage, BakeoffRow, Fact, render_bakeoff
from flows.pages.words import percent
from halfsigma import ImageError, __version__
from registry.columns import utc_now

EXAMPLES = 6


def write_page(bakeoff: Bakeoff, path: Path) -> Path:
    """Write the page of ``bakeoff`` and return where it lies."""
    return render_bakeoff(_page(bakeoff), path)


def _page(bakeoff: Bakeoff) -> BakeoffPage:
    material, chosen = bakeoff.material, bakeoff.recommendation
    entry = next((each for each in bakeoff.entries if each.family == chosen.family), None)
    deciding = f"{len(material.labelled)} defects of the folder given"
    if not material.labelled:
        deciding = f"{len(material.deciding)} synthetic defects painted on the held-out parts"
    because = chosen.because[0].upper() + chosen.because[1:] + "."
    return BakeoffPage(
        line=bakeoff.line,
        title=f"{bakeoff.line}: use {chosen.family}" if chosen.family else f"{bakeoff.line}: nothing was measured",
        because=because,
        lead=(
            f"Every family was fitted on the same {len(material.fit)} good images and judged on {len(material.held_out)} "
            f"other good ones and {deciding}. Then the station was changed ({bakeoff.drift}), the same parts and defects "
            f"were judged again, and each family was retrained on {len(material.fresh)} fresh images of the changed "
            "station. The time and memory of one image are those of a fresh process. Nothing was changed on the line."
        ),
        facts=_facts(entry),
        rows=tuple(_row(each, recommended=each is entry) for each in bakeoff.entries),
        kinds=tuple(bakeoff.entries[0].by_kind) if bakeoff.entries else (),
        deciding=deciding,
        caveat="" if material.labelled else CAVEAT,
        drift=bakeoff.drift[0].upper() + bakeoff.drift[1:],
        dirty=(
            f"Dirty good set: the same fit with {len(material.dirt)} defective parts ({percent(DIRTY_SHARE)}) among the "
            "good ones, as where a night's curation lets some through."
        ),
        latency_budget_ms=bakeoff.latency_budget_ms,
        not_measured=bakeoff.failed,
        examples=_examples(bakeoff),
        written_at=utc_now(),
        provenance=(
            Fact("time budget", f"{bakeoff.minutes:g} minutes; took {bakeoff.seconds / 60:.1f}"),
            Fact(
                "left out",
                f"{material.n_left_out_defects} of the good images are known as defects, {material.n_unreadable} unreadable",
            ),
            Fact("seed", str(bakeoff.seed)),
            Fact("halfsigma", __version__),
        ),
    )


def _facts(entry: Entry | None) -> tuple[Fact, ...]:
    if entry is None:
        return ()
    retrain = "not measured" if entry.retrain_s is None else f"{entry.retrain_s:.0f} s"
    recovered = ""
    if entry.auroc_drifted is not None and entry.auroc_after_drift is not None:
        recovered = f"AUROC {entry.auroc_drifted:.3f} → {entry.auroc_after_drift:.3f} after the drift"
    return (
        Fact("detection", f"AUROC {entry.auroc:.3f}", f"{percent(entry.fpr)} false rejects at its threshold"),
        Fact("one image", f"{entry.latency_ms:.1f} ms", f"{entry.latency_p95_ms:.1f} ms at the 95th percentile"),
        Fact("fit", f"{entry.fit_s:.0f} s", f"{entry.memory_mb:.0f} MB where it runs"),
        Fact("retrain", retrain, recovered),
    )


def _row(entry: Entry, *, recommended: bool) -> BakeoffRow:
    return BakeoffRow(
        family=entry.family,
        recommended=recommended,
        auroc=entry.auroc,
        fpr=entry.fpr,
        by_kind=entry.by_kind,
        latency_ms=entry.latency_ms,
        memory_mb=entry.memory_mb,
        fit_s=entry.fit_s,
        retrain_s=entry.retrain_s,
        auroc_drifted=entry.auroc_drifted,
        auroc_after_drift=entry.auroc_after_drift,
        auroc_dirty=entry.auroc_dirty,
        notes=tuple(f"{stage}: {reason}" for stage, reason in entry.missing.items()),
    )


def _examples(bakeoff: Bakeoff) -> tuple[tuple[str, tuple[Pixels, ...]], ...]:
    def seen(specimens: Sequence[Specimen]) -> Iterator[Pixels]:
        rng = np.random.default_rng(bakeoff.seed)
        for each in specimens[:EXAMPLES]:
            with suppress(ImageError):  # gone since it was measured, which costs the picture and not the result
                yield photograph(each, None, white_level=bakeoff.white_level, rng=rng, most_pixels=MOST_PIXELS)

    material = bakeoff.material
    shown = [("good parts", material.held_out)]
    if material.labelled:
        spread = material.labelled[:: max(1, len(material.labelled) // EXAMPLES)]
        shown.append(("defects of the folder given", spread))
    shown += [(f"synthetic defects, {name}", group) for name, group in material.synthetic.items()]
    return tuple((name, pictures) for name, specimens in shown if (pictures := tuple(seen(specimens))))
