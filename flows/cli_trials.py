"""The commands that try things on a line's images and change nothing; `flows.cli` takes them up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import Json, LineName
from flows.output import show
from flows.settings import Settings

app = typer.Typer()


@app.command()
def drill(
    line: LineName,
    good: Annotated[Path, typer.Option("--images", metavar="DIR", help="Images of good parts, not those fitted on.")],
    defect: Annotated[
        Path | None,
        typer.Option("--defect", metavar="DIR", help="Defects; else the line's labelled ones, else synthetic ones."),
    ] = None,
    json: Json = False,
) -> None:
    """Fire drill: disturb good images at rising strength; what is noticed, what it costs, what a retrain brings."""
    from flows.drill.document import drill_document, drill_for_people
    from flows.drill.page import write_page
    from flows.drill.running import run_drill
    from flows.progress import progress_bar
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"drill {line}") as progress:
        done = run_drill(workspace, line, good_folder=good, defect_folder=defect, progress=progress)
        page = write_page(done, workspace.settings.home / "reports" / line / f"drill-v{done.version}.html")
    show(drill_document(done, str(page)), as_json=json, people=drill_for_people)


@app.command()
def bakeoff(
    line: LineName,
    good: Annotated[Path, typer.Option("--good", metavar="DIR", help="Images of good parts only.")],
    defect: Annotated[
        Path | None, typer.Option("--defect", metavar="DIR", help="Defects to judge by; else synthetic ones.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Time budget of all families together.")] = 30.0,
    json: Json = False,
) -> None:
    """Fit every detector family on your images, measure what each costs and finds, and recommend one with its reason."""
    from flows.bakeoff.document import bakeoff_document, bakeoff_for_people
    from flows.bakeoff.page import write_page
    from flows.bakeoff.running import run_bakeoff
    from flows.progress import progress_bar
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"bakeoff {line}") as progress:
        done = run_bakeoff(workspace, line, good_folder=good, defect_folder=defect, minutes=minutes, progress=progress)
        page: str | None = None
        try:
            page = str(write_page(done, workspace.settings.home / "reports" / line / "bakeoff.html"))
        except OSError as error:  # what took half an hour to measure is shown all the same
            sys.stderr.write(f"halfsigma: the page was not written: {error}\n")
    show(bakeoff_document(done, page), as_json=json, people=bakeoff_for_people)


@app.command()
def plan(
    line: Annotated[
        str | None, typer.Argument(metavar="[LINE]", help="Its reference and nights; without one, a line to be built.")
    ] = None,
    images_per_night: Annotated[
        int | None, typer.Option("--images-per-night", metavar="N", help="By default the line's median night.")
    ] = None,
    reference: Annotated[
        int | None, typer.Option("--reference", metavar="N", help="Good images in it; by default the line's, or 300.")
    ] = None,
    autocorrelation: Annotated[
        float | None,
        typer.Option("--autocorrelation", metavar="R", help="Of neighbouring images; by default the line's, or 0."),
    ] = None,
    power: Annotated[float, typer.Option("--power", metavar="P", help="How sure a notice shall be.")] = 0.9,
    json: Json = False,
) -> None:
    """Plan: which shift is noticed within how many nights, with how many images, at what false-alarm rate."""
    from flows.planning import plan_for_people, plan_line, plan_without_line

    if line is None:
        document = plan_without_line(
            images_per_night=images_per_night, n_reference=reference, rho=autocorrelation, power=power
        )
    else:
        from flows.workspace import open_workspace

        with open_workspace(Settings.from_environment()) as workspace:
            document = plan_line(
                workspace,
                line,
                images_per_night=images_per_night,
                n_reference=reference,
                rho=autocorrelation,
                power=power,
            )
    show(document, as_json=json, people=plan_for_people)
