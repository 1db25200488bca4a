"""What a person sees of a flow run in the Prefect UI: tables and plots as Markdown artifacts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.artifacts import create_markdown_artifact

MAX_PLOTS = 10
"""An artifact is a row of Prefect's database: of more lines, the drifted ones' plots are in MLflow."""


def show_night(night: str, rows: Sequence[Mapping[str, Any]], plots: Mapping[str, Path]) -> None:
    """The night's table, and the plots of the lines that need a look.

    Args:
        night: ISO date.
        rows: as `LineNight.to_dict` made them.
        plots: line → PNG.
    """
    parts = [
        f"# Night of {night}",
        "",
        "| line | verdict | images | bulk shift (SD) | interval | action | champion |",
        "|---|---|---|---|---|---|---|",
        *(_row(row) for row in rows),
    ]
    for row in rows:
        if row["check"]:
            parts += ["", f"**{row['line']}**: {row['check']['explanation']}"]
    for line, plot in list(plots.items())[:MAX_PLOTS]:
        parts += ["", f"![{line}]({_data_uri(plot)})"]
    create_markdown_artifact("\n".join(parts), key="halfsigma-night", description=f"Verdicts of {night}")


def show_retrain(line: str, outcome: Mapping[str, Any]) -> None:
    """The gates of one retrain."""
    parts = [
        f"# Retrain {outcome['id']} of {line}: {outcome['state']}",
        "",
        f"{outcome['reason']}",
        "",
        "| gate | passed | value | limit | why |",
        "|---|---|---|---|---|",
        *(
            f"| {g['name']} | {'yes' if g['passed'] else '**no**'} | {g['value']:.4g} | {g['limit']:.4g} | {g['reason']} |"
            for g in outcome["gates"]
        ),
    ]
    create_markdown_artifact("\n".join(parts), key="halfsigma-retrain", description=f"Retrain of {line}")


def _row(row: Mapping[str, Any]) -> str:
    check = row["check"]
    if not check:
        return f"| {row['line']} | – | – | – | {row.get('error', '')} | {row['action']} | {row['champion']} |"
    shift, (low, high) = check["bulk_shift_sd"], check["bulk_shift_ci"]
    shown = "–" if shift is None else f"{shift:+.2f}"
    interval = "–" if low is None or high is None else f"{low:+.2f} … {high:+.2f}"
    return (
        f"| {row['line']} | {check['verdict']} | {check['n']} | {shown} | {interval} | {row.get('error') or row['action']} | "
        f"{row['champion']} |"
    )


def _data_uri(plot: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(plot.read_bytes()).decode()
