"""What a command prints: one JSON document, or tables made for people; errors once, clearly, with a remedy."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from halfsigma import HalfsigmaError, UsageError

EXIT_ERROR, EXIT_USAGE = 1, 2
PROSE = frozenset({"reason", "explanation", "image"})
"""Columns that may run over several lines; figures and names stay on one."""
PIPED_WIDTH = 160


def show(document: Mapping[str, Any], *, as_json: bool, people: Callable[[Mapping[str, Any]], None]) -> None:
    """Print ``document`` on stdout: as JSON, or through ``people``."""
    if as_json:
        sys.stdout.write(json.dumps(document, default=str, allow_nan=False) + "\n")
    else:
        people(document)


def show_error(error: HalfsigmaError, *, as_json: bool) -> int:
    """Tell of ``error`` on stderr, and with ``--json`` on stdout too; the exit status."""
    sys.stderr.write(f"halfsigma: {error.message}\n")
    if error.hint:
        sys.stderr.write(f"  → {error.hint}\n")
    if as_json:
        document = {"error": {"type": type(error).__name__, "message": error.message, "hint": error.hint}}
        sys.stdout.write(json.dumps(document) + "\n")
    return EXIT_USAGE if isinstance(error, UsageError) else EXIT_ERROR


def facts(document: Mapping[str, Any], *, title: str = "") -> None:
    """A two-column table of what is not nested."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, show_header=False, box=None, pad_edge=False, title_justify="left")
    for key, value in document.items():
        if isinstance(value, Mapping):
            value = "  ".join(f"{name} {_plain(each)}" for name, each in value.items())
        elif isinstance(value, list):
            value = "\n".join(str(each) for each in value) or "none"
        table.add_row(key, Text(_plain(value)))
    Console().print(table)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A table of the same keys of every row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name not in PROSE)
    for row in rows:
        table.add_row(*(Text(_plain(row.get(name))) for name in columns))
    console = Console()
    Console(width=None if console.is_terminal else PIPED_WIDTH).print(table)


def check_for_people(document: Mapping[str, Any]) -> None:
    """A verdict, its figures and its explanation."""
    from rich.console import Console

    Console().print(f"[bold]{document['line']}[/bold] {document['night']}: [bold]{document['verdict']}[/bold]")
    facts(
        {
            "images": f"{document['n']} ({_plain(document['n_effective'])} effectively independent)",
            "mean shift": _interval(document["shift_sd"], document["shift_ci"]),
            "bulk shift": _interval(document["bulk_shift_sd"], document["bulk_shift_ci"]),
            "KS": document["ks"],
            "causes": [cause["phrase"] or cause["name"] for cause in document["causes"]],
            **({"Evidently's report": document["evidently"]} if "evidently" in document else {}),
        }
    )
    Console().print(document["explanation"], markup=False)


def nightly_for_people(document: Mapping[str, Any]) -> None:
    """One row a line, then what each retrain came to."""
    from rich.console import Console

    rows = []
    for each in document["lines"]:
        check = each["check"] or {}
        rows.append(
            {
                "line": each["line"],
                "verdict": check.get("verdict", each["error"]),
                "images": check.get("n"),
                "bulk shift": _interval(check.get("bulk_shift_sd"), check.get("bulk_shift_ci", ())),
                "action": each["action"],
                "retrain": each["retrain"]["state"] if each["retrain"] else None,
                "champion": each["champion"],
            }
        )
    rows_table(rows, ("line", "verdict", "images", "bulk shift", "action", "retrain", "champion"))
    for each in document["lines"]:
        if each["check"] and each["error"]:
            Console().print(
                f"{each['line']}: the response failed, and is made when the night is run again: {each['error']}",
                markup=False,
            )
    for each in document["lines"]:
        if each["retrain"] and each["retrain"]["gates"]:
            rows_table(each["retrain"]["gates"], ("name", "passed", "value", "limit", "reason"))


def status_for_people(document: Mapping[str, Any]) -> None:
    """One row a line."""
    rows = [
        {
            **line,
            "last night": (line["last_check"] or {}).get("night"),
            "verdict": (line["last_check"] or {}).get("verdict"),
            "retrain": (line["last_retrain"] or {}).get("state"),
        }
        for line in document["lines"]
    ]
    columns = ("line", "detector", "champion", "challenger", "previous", "policy", "last night", "verdict", "retrain")
    rows_table(rows, columns)


def _interval(value: float | None, interval: Sequence[float | None]) -> str:
    if value is None:
        return "–"
    low, high = interval
    return f"{value:+.2f} SD" if low is None or high is None else f"{value:+.2f} SD ({low:+.2f} … {high:+.2f})"


def _plain(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
