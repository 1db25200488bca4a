"""The commands by which a line's champion is replaced, restored and configured; `flows.cli` takes them up."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import MOST_VERSION, Json, LineName
from flows.output import facts, show
from flows.settings import Settings
from halfsigma import RegistryError

app = typer.Typer()


@app.command()
def retrain(
    line: LineName,
    add: Annotated[
        Path | None,
        typer.Option("--add", metavar="DIR", help="Only add these images, which you say are good, to what it knows."),
    ] = None,
    json: Json = False,
) -> None:
    """Retrain on the champion's last night, whatever its verdict, or one that waited for labels; or add some good images."""
    from flows.adding import request_growth
    from flows.deploying import describe, night_to_learn
    from flows.progress import progress_bar
    from flows.running import retrain_now
    from flows.workspace import open_workspace

    reason = "a person asked for it"
    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"retrain {line}") as progress:
        if add is None:
            version, night = night_to_learn(workspace, line)
        else:
            asked = request_growth(workspace, line, add, progress=progress)
            version, night, reason = asked.base_version, asked.night, asked.reason
    with progress_bar(f"retrain {line}"):
        outcome = retrain_now(line, night=night, base_version=version, reason=reason)
    if outcome["failure"] is not None:
        why, hint = outcome["failure"]["message"], outcome["failure"]["hint"]
        raise RegistryError(f"retrain {outcome['id']} failed: {why}", hint=hint)
    with open_workspace(Settings.from_environment()) as workspace:
        document = {**describe(workspace, line), "state": outcome["state"], "retrain": outcome}
    show(document, as_json=json, people=facts)


@app.command()
def promote(
    line: LineName,
    version: Annotated[int | None, typer.Option(min=1, max=MOST_VERSION, help="By default the challenger.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who promotes; by default the user.")] = None,
    json: Json = False,
) -> None:
    """Make the challenger, or the named version, the champion; where a line asks for several people, approve it."""
    from flows.deploying import promote_version
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        document = promote_version(workspace, line, version, by=by)
    show(document, as_json=json, people=facts)


@app.command()
def rollback(line: LineName, json: Json = False) -> None:
    """Make the previous version the champion again."""
    from flows.deploying import roll_back
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        document = roll_back(workspace, line)
    show(document, as_json=json, people=facts)


@app.command()
def history(
    line: LineName,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="FILE", help="Which version judged this image.")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", metavar="HASH", help="The same, by its SHA-256.")] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="INSTANT", help="A date or ISO instant, in the line's time zone; by default now."),
    ] = None,
    json: Json = False,
) -> None:
    """Which version was deployed, or judged an image, at an instant, and why it was there."""
    from flows.history import history_for_people, line_history
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        document = line_history(workspace, line, image=image, sha256=sha256, at=at)
    show(document, as_json=json, people=history_for_people)


@app.command()
def configure(
    line: LineName,
    policy: Annotated[str | None, typer.Option(metavar="auto|manual|shadow", help="How it promotes.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="IANA name; a night is a date there.")] = None,
    fpr_budget: Annotated[float | None, typer.Option(help="Accepted share of rejected good parts.")] = None,
    latency_budget_ms: Annotated[float | None, typer.Option(help="Accepted time of one image.")] = None,
    shadow_nights: Annotated[int | None, typer.Option(help="Nights a challenger scores along under shadow.")] = None,
    probation_nights: Annotated[int | None, typer.Option(help="Nights a new champion is watched; 0: never.")] = None,
    cooldown_nights: Annotated[int | None, typer.Option(help="Nights without a retrain after a promotion.")] = None,
    retrain_budget: Annotated[int | None, typer.Option(help="Most retrains by itself within 30 nights.")] = None,
    approvals: Annotated[int | None, typer.Option(help="People who must promote a version before it is.")] = None,
    min_labels: Annotated[int | None, typer.Option(help="Labelled defects without which no retrain passes.")] = None,
    json: Json = False,
) -> None:
    """Change what a line promises and how it promotes."""
    from flows.deploying import configure_line
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        document = configure_line(
            workspace,
            line,
            policy=policy,
            time_zone=time_zone,
            fpr_budget=fpr_budget,
            latency_budget_ms=latency_budget_ms,
            counted={
                "shadow_nights": shadow_nights,
                "probation_nights": probation_nights,
                "cooldown_nights": cooldown_nights,
                "retrain_budget": retrain_budget,
                "approvals": approvals,
                "min_labels": min_labels,
            },
        )
    show(document, as_json=json, people=facts)
