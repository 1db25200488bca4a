"""The same figures as the pages, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flows.pages.palette import LOOKS
from flows.pages.story import GateRow, NightRow
from flows.pages.words import figure, interval, percent, signed

if TYPE_CHECKING:
    from rich.table import Table


WIDE_COLUMNS = 112
"""Of a terminal that shows the whole table of nights."""


def nights_table(rows: Sequence[NightRow], *, width: int = WIDE_COLUMNS) -> Table:
    """One line a night; the verdict is coloured and has its sign, so that it reads without colour as well.

    A terminal of fewer columns than `WIDE_COLUMNS` gets the table without the interval and the count of rejects.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    wide = width >= WIDE_COLUMNS
    columns = (
        ("night", "left", True),
        ("verdict", "left", True),
        ("images", "right", True),
        ("bulk shift", "right", True),
        ("95 % interval", "right", wide),
        ("false\nrejects", "right", True),
        ("rejected", "right", wide),
        ("by", "left", True),
        ("action", "left", True),
    )
    for heading, side, shown in columns:
        if shown:
            table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=heading != "action")
    for row in rows:
        look = LOOKS[row.verdict]
        cells = (
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
        table.add_row(*(cell for cell, (_, _, shown) in zip(cells, columns, strict=True) if shown))
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
