"""``halfsigma plan``: what a line would notice how soon, from its own nights and reference or from figures given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from drift.planning import Habits, Plan, habits, plan
from drift.reference import Reference
from drift.settings import DriftSettings
from flows.output import facts, rows_table
from flows.workspace import Workspace
from halfsigma import UsageError
from registry import lines, scores
from registry.windows import windows

USUAL_REFERENCE = 300
"""Good images of a first fit, where no line says otherwise."""
BAR = 24
"""Characters of a chance of one."""


def plan_without_line(
    *, images_per_night: int | None, n_reference: int | None, rho: float | None, power: float
) -> dict[str, Any]:
    """The plan of a line that is not built yet, for normal scores.

    Raises:
        UsageError: ``images_per_night`` is missing, or a figure is none that a line can have.
    """
    if images_per_night is None:
        raise UsageError(
            "without a line the number of images a night is not known",
            hint="give --images-per-night N, or name a line that has scored some nights",
        )
    planned = plan(
        images_per_night=images_per_night,
        n_reference=USUAL_REFERENCE if n_reference is None else n_reference,
        rho=rho or 0.0,
        power=power,
    )
    return _document(planned, line=None, version=None, seen=None)


def plan_line(
    workspace: Workspace,
    line_name: str,
    *,
    images_per_night: int | None,
    n_reference: int | None,
    rho: float | None,
    power: float,
) -> dict[str, Any]:
    """The plan of a line as its champion's reference and last nights show it; a figure that is given counts instead.

    Raises:
        UnknownLine, UnknownVersion: the line is not there, or has no champion.
        UsageError: it has scored nothing yet and ``images_per_night`` is missing.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        version = lines.get_version(session, line)
        reference = Reference.from_json(version.reference)
        scored = scores.nights_scored(session, line, version=version.number)
        last = DriftSettings().history_nights
        nights = windows(session, line.id, version.number, until=scored[-1], n_nights=last) if scored else []
    seen = habits(reference, nights)
    images = seen.images_per_night if images_per_night is None else images_per_night
    if images is None:
        raise UsageError(
            f"version {version.number} of line {line_name!r} has scored no night yet",
            hint="give --images-per-night N, or ingest a night first",
        )
    planned = plan(
        images_per_night=images,
        n_reference=reference.n if n_reference is None else n_reference,
        rho=seen.rho if rho is None else rho,
        unrest=seen.unrest,
        power=power,
        reference=reference,
    )
    return _document(planned, line=line_name, version=version.number, seen=seen)


def _document(planned: Plan, *, line: str | None, version: int | None, seen: Habits | None) -> dict[str, Any]:
    return {
        "line": line,
        "version": version,
        "n_nights_seen": seen.n_nights if seen else 0,
        **asdict(planned),
    }


def plan_for_people(document: Mapping[str, Any]) -> None:
    """What is noticed when, how many images that takes, and what it costs in false alarms."""
    power = f"{100 * document['power']:g} %"
    facts(
        {
            "line": document["line"] or "not built yet: normal scores are assumed",
            "images a night": f"{document['images_per_night']}, worth {document['n_effective']:.0f} independent ones",
            "reference": f"{document['n_reference']} good images",
            "a night is judged from": _least(document),
        }
    )
    print()
    rows_table(
        [
            {
                "shift": f"{row['shift_sd']:g} SD",
                "drift on the first night": f"{_bar(row['drift_first_night'])} {100 * row['drift_first_night']:5.1f} %",
                "on a new line": f"{100 * row['drift_first_night_new_line']:.1f} %",
                f"told within ({power} sure)": _nights(row["nights_to_warning"]),
                "on a line that starts so": _nights(row["nights_to_warning_new_line"]),
            }
            for row in document["shifts"]
        ],
        (
            "shift",
            "drift on the first night",
            "on a new line",
            f"told within ({power} sure)",
            "on a line that starts so",
        ),
    )
    print()
    rows_table(
        [
            {
                "shift": f"{row['shift_sd']:g} SD",
                f"images a night to be {power} sure of drift on the first night": row["images_per_night"]
                or f"no number is enough: at most {100 * row['highest_chance']:.0f} % with this reference",
            }
            for row in document["needed"]
        ],
        ("shift", f"images a night to be {power} sure of drift on the first night"),
    )
    alarms = document["false_alarms"]
    print(
        f"\nFalse alarms of a quiet line, measured over {alarms['line_years']} simulated line-years: drift "
        f"{alarms['drift_per_year']:g} a year (budget {alarms['drift_budget']:g}), warning "
        f"{alarms['warning_per_year']:g} (budget {alarms['warning_budget']:g}), burst {alarms['defect_burst_per_year']:g}."
    )
    if document["rough"]:
        print("So few images a night make these figures rough: nights will be called insufficient now and then.")


def _least(document: Mapping[str, Any]) -> str:
    least = document["least_images"]
    return "no number of images: the reference is too small" if least is None else f"{least} images on"


def _nights(number: int | None) -> str:
    if number is None:
        return "not within the nights looked at"
    return "1 night" if number == 1 else f"{number} nights"


def _bar(share: float) -> str:
    return ("█" * round(BAR * share)).ljust(BAR, "·")
