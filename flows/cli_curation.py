"""The command that shows what a retrain would learn from; `flows.cli` takes it up."""

from __future__ import annotations

import typer

from flows.cli_options import Json, LineName, Night
from flows.output import facts, show
from flows.settings import Settings

app = typer.Typer()


@app.command()
def curate(line: LineName, night: Night, json: Json = False) -> None:
    """Contact sheet: what a retrain would learn from a night, what it leaves out and why; `label` vetoes or clears."""
    from flows.contact_sheet import write_contact_sheet
    from flows.progress import progress_bar
    from flows.workspace import open_workspace
    from registry.lines import parse_night

    date = parse_night(night)
    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"curate {line}") as progress:
        sheet = write_contact_sheet(workspace, line, night=date, progress=progress)
    show(
        sheet.document, as_json=json, people=lambda shown: facts({k: v for k, v in shown.items() if k != "to_look_at"})
    )
