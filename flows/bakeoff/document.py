"""A bake-off as one JSON document, as the contract has it, and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.bakeoff.material import DIRTY_SHARE
from flows.bakeoff.result import Bakeoff, Entry
from flows.output import facts, rows_table

CAVEAT = (
    "Synthetic defects say which family sees more of what can happen to a surface; their AUROC is no forecast of the one "
    "on real defects."
)


def bakeoff_document(bakeoff: Bakeoff, page: str | None) -> dict[str, Any]:
    """The contract's document; ``page`` is where the HTML page lies, None where it could not be written."""
    material = bakeoff.material
    return {
        "line": bakeoff.line,
        "recommended": bakeoff.recommendation.family,
        "because": bakeoff.recommendation.because,
        "families": [_family(entry) for entry in bakeoff.entries],
        "not_measured": dict(bakeoff.failed),
        "defects": "folder" if material.labelled else "synthetic",
        "caveat": None if material.labelled else CAVEAT,
        "n_fit": len(material.fit),
        "n_fresh": len(material.fresh),
        "n_held_out": len(material.held_out),
        "n_defects": len(material.deciding),
        "n_dirty": len(material.dirt),
        "n_unreadable": material.n_unreadable,
        "n_left_out_defects": material.n_left_out_defects,
        "drift": bakeoff.drift,
        "dirty_share": DIRTY_SHARE,
        "latency_budget_ms": bakeoff.latency_budget_ms,
        "minutes": bakeoff.minutes,
        "seed": bakeoff.seed,
        "page": page,
        "seconds": round(bakeoff.seconds, 1),
    }


def _family(entry: Entry) -> dict[str, Any]:
    return {
        "detector": entry.family,
        "auroc": entry.auroc,
        "fpr": entry.fpr,
        "auroc_synthetic": dict(entry.by_kind),
        "latency_ms": entry.latency_ms,
        "latency_p95_ms": entry.latency_p95_ms,
        "memory_mb": entry.memory_mb,
        "fit_s": entry.fit_s,
        "retrain_s": entry.retrain_s,
        "auroc_drifted": entry.auroc_drifted,
        "auroc_after_drift": entry.auroc_after_drift,
        "fpr_drifted": entry.fpr_drifted,
        "fpr_after_drift": entry.fpr_after_drift,
        "auroc_dirty": entry.auroc_dirty,
        "missing": dict(entry.missing),
    }


def bakeoff_for_people(document: Mapping[str, Any]) -> None:
    """The matrix, what is missing in it, and the recommendation."""
    rows = [
        {
            "family": each["detector"] + (" ←" if each["detector"] == document["recommended"] else ""),
            "AUROC": each["auroc"],
            **each["auroc_synthetic"],
            "ms": each["latency_ms"],
            "MB": each["memory_mb"],
            "fit s": each["fit_s"],
            "retrain s": each["retrain_s"],
            "drifted": each["auroc_drifted"],
            "retrained": each["auroc_after_drift"],
            "dirty": each["auroc_dirty"],
        }
        for each in document["families"]
    ]
    kinds = tuple(document["families"][0]["auroc_synthetic"]) if document["families"] else ()
    rows_table(rows, ("family", "AUROC", *kinds, "ms", "MB", "fit s", "retrain s", "drifted", "retrained", "dirty"))
    missing = [f"{name}: {reason}" for name, reason in document["not_measured"].items()]
    missing += [f"{e['detector']}, {k}: {v}" for e in document["families"] for k, v in e["missing"].items()]
    print()
    shown = {key: document[key] for key in ("recommended", "because", "defects", "drift", "caveat", "seconds", "page")}
    facts({**{key: value for key, value in shown.items() if value is not None}, "not measured": missing})
