"""Arguments and options that several commands share, with one wording each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MOST_VERSION = 2**31 - 1
"""No database holds a larger number."""
LineName = Annotated[str, typer.Argument(metavar="LINE", help="The line: one camera station and its part.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Night = Annotated[str, typer.Option("--night", metavar="YYYY-MM-DD", help="A date in the line's time zone.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images, read recursively.")]
