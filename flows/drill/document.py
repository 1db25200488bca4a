"""A drill as one JSON document, as the contract has it, and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detectors.disturbances.disturbance import KINDS
from flows.drill.result import BURST, Climb, Drill, Rung
from flows.output import facts, rows_table


def drill_document(drill: Drill, page: str) -> dict[str, Any]:
    """The contract's document of a drill."""
    material = drill.material
    return {
        "line": drill.line,
        "version": drill.version,
        "n_images": len(material.night) + len(material.held_out),
        "n_night": len(material.night),
        "n_held_out": len(material.held_out),
        "n_defects": len(material.defects),
        "defects": material.defect_source,
        "n_looked_at": material.n_looked_at,
        "left_out": {
            "fitted": material.n_left_out_fitted,
            "labelled_defects": material.n_left_out_defects,
            "unreadable": material.n_unreadable,
        },
        "seed": drill.seed,
        "undisturbed": _rung("undisturbed", "undisturbed", drill.undisturbed),
        "disturbances": [
            _rung(climb.name, climb.title, rung) for climb in (*drill.climbs, drill.bursts) for rung in climb.rungs
        ],
        "noticed": [_noticed(climb, drill) for climb in (*drill.climbs, drill.bursts)],
        "page": page,
        "seconds": round(drill.seconds, 1),
    }


def _rung(name: str, title: str, rung: Rung) -> dict[str, Any]:
    verdict, before = rung.verdict.to_dict(), rung.before
    after = rung.after.figures if rung.after else before
    return {
        "name": name,
        "title": title,
        "strength": rung.strength,
        "unit": KINDS[name].unit if name in KINDS else "share of the parts" if name == BURST else "",
        "label": rung.label,
        "direction_deg": rung.disturbance.direction_deg if rung.disturbance else None,
        "verdict": rung.verdict.kind,
        "shift_sd": verdict["shift_sd"],
        "bulk_shift_sd": verdict["bulk_shift_sd"],
        "bulk_shift_ci": verdict["bulk_shift_ci"],
        "cause": rung.verdict.causes[0].phrase if rung.verdict.causes else None,
        "retrained": rung.after is not None,
        "not_retrained_because": rung.not_retrained or None,
        "n_fit": rung.after.n_fit if rung.after else None,
        "auroc_before": before.auroc,
        "auroc_after_retrain": after.auroc,
        "fpr_before": before.fpr,
        "fpr_after_retrain": after.fpr,
        "missed_before": before.missed,
        "missed_after_retrain": after.missed,
        "costs": list(rung.costs),
        "silent": rung.silent,
    }


def _noticed(climb: Climb, drill: Drill) -> dict[str, Any]:
    first = climb.first_noticed
    below = (len(climb.rungs) if first is None else first) - 1
    start = drill.undisturbed.verdict.bulk_shift.estimate
    crossing = climb.half_sigma_at(start) if climb.name != BURST and math.isfinite(start) else None
    return {
        "name": climb.name,
        "title": climb.title,
        "unit": climb.unit,
        "strength": None if first is None else climb.rungs[first].strength,
        "verdict": None if first is None else climb.rungs[first].verdict.kind,
        "last_unnoticed": climb.rungs[below].strength if below >= 0 else None,
        "half_sigma_at": crossing,
        "first_cost": None if climb.first_cost is None else climb.rungs[climb.first_cost].strength,
        "silent": [rung.strength for rung in climb.rungs if rung.silent],
    }


def drill_for_people(document: Mapping[str, Any]) -> None:
    """What is noticed from which strength on, and what goes unnoticed; the rest is on the page."""
    rows = [
        {
            "disturbance": each["title"],
            "unit": each["unit"],
            "noticed from": each["strength"],
            "as": each["verdict"],
            "half a sigma at": each["half_sigma_at"],
            "costs from": each["first_cost"],
            "silent at": ", ".join(f"{strength:.3g}" for strength in each["silent"]) or None,
        }
        for each in document["noticed"]
    ]
    rows_table(rows, ("disturbance", "unit", "noticed from", "as", "half a sigma at", "costs from", "silent at"))
    shown = ("version", "n_night", "n_held_out", "n_defects", "defects", "left_out", "seconds", "page")
    print()
    facts({key: document[key] for key in shown})
