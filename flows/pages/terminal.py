"""The same figures as the pages, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.pages.palette import LOOKS
from flows.pages.story import GateRow, NightRow
from flows.pages.words import figure, interval, percent, signed

if TYPE_CHECKING:
    from rich.table import Table


def nights_table(rows: Sequence[NightRow]) -> Table:
    """One line a night; the verdict is coloured and has its sign, so that it reads without colour as well."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for heading, side in (
        ("night", "left"),
        ("verdict", "left"),
        ("images", "right"),
        ("bulk shift", "right"),
        ("95 % interval", "right"),
        ("false rejects", "right"),
        ("rejected", "right"),
        ("judged by", "left"),
        ("action", "left"),
    ):
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=heading != "action")
    for row in rows:
        look = LOOKS[row.verdict]
        table.add_row(
            Text(row.night.isoformat()),
            Text(f"{look.sign} {look.word}", style=look.terminal),
            Text(str(row.n)),
            Text(signed(row.bulk_shift_sd, unit="SD")),
            Text(interval(row.bulk_shift_ci)),
            Text(percent(row.fpr)),
            Text(str(row.n_reject)),
            Text(row.version),
            Text(row.action),
        )
    return table


def gates_table(rows: Sequence[GateRow]) -> Table:
    """One line a gate."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("gate")
    table.add_column("value", justify="right")
    table.add_column("limit", justify="right")
    table.add_column("passed")
    for row in rows:
        sign = Text("✓ passed", style="green") if row.passed else Text("✕ failed", style="bold red")
        table.add_row(Text(row.name), Text(figure(row.value)), Text(figure(row.limit)), sign)
    return table
