"""The command ``halfsigma``; heavy libraries are imported by the command that needs them."""

from __future__ import annotations

import atexit
import gc
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer._click.exceptions import ClickException

from flows.cli_curation import app as curation_commands
from flows.cli_options import MOST_VERSION, Folder, Json, LineName, Night
from flows.cli_promotion import app as promotion_commands
from flows.cli_trials import app as trial_commands
from flows.output import (
    EXIT_ERROR,
    check_for_people,
    facts,
    nightly_for_people,
    rows_table,
    show,
    show_error,
    status_for_people,
)
from flows.settings import Settings
from halfsigma import HalfsigmaError, UsageError, __version__

app = typer.Typer(
    name="halfsigma",
    help="The retrain story for visual anomaly detectors: watch scores, notice drift, retrain, promote, roll back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EMBEDDED_BACKBONE = "embedded:efficientnet_lite0"
"""As `detectors.backbones.backbone.EMBEDDED`, which is not imported for the sake of ``--help``; a test holds them equal."""

EXIT_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""


@app.command()
def fit(
    line: LineName,
    good: Annotated[Path, typer.Option("--good", metavar="DIR", help="Images of good parts only.")],
    detector: Annotated[str, typer.Option(help="The detector family.")] = "patchcore",
    seed: Annotated[int, typer.Option(min=0, help="Makes the fit repeatable.")] = 0,
    backbone: Annotated[
        str, typer.Option(metavar="NAME", help="A timm model, or the embedded one.")
    ] = EMBEDDED_BACKBONE,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its weights, a .safetensors file; else timm's own.")
    ] = None,
    json: Json = False,
) -> None:
    """Fit a detector on good images; a line's first version becomes champion."""
    from detectors.backbones.backbone import BackboneSpec
    from flows.fitting import fit_line
    from flows.progress import progress_bar
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"fit {line}") as progress:
        spec = BackboneSpec(backbone, weights=weights)
        fitted = fit_line(workspace, line, good, detector=detector, seed=seed, backbone=spec, progress=progress)
    document = {
        "line": line,
        "version": fitted.version,
        "detector": detector,
        "deployed": fitted.place == "champion",
        "place": fitted.place,
        "n_fit": len(fitted.goods.prepared),
        "n_reference": fitted.reference.n,
        "threshold": fitted.model.threshold.value,
        "promised_fpr": fitted.model.threshold.promised_fpr,
        "reference": {"mean": fitted.reference.mean, "sd": fitted.reference.sd, "n": fitted.reference.n},
        "n_repeated": fitted.goods.n_repeated,
        "unreadable": [{"image": str(each.path), "reason": each.reason} for each in fitted.goods.unreadable],
        "seconds": round(fitted.seconds, 2),
    }
    if fitted.place != "champion":
        document["next"] = f"halfsigma promote {line} --version {fitted.version} deploys it"
    show(document, as_json=json, people=facts)


@app.command()
def evaluate(
    line: LineName,
    good: Annotated[Path, typer.Option("--good", metavar="DIR", help="Images of good parts.")],
    defect: Annotated[Path, typer.Option("--defect", metavar="DIR", help="Images of defective parts.")],
    version: Annotated[
        int | None, typer.Option(min=1, max=MOST_VERSION, help="Another version than the champion.")
    ] = None,
    json: Json = False,
) -> None:
    """Judge labelled images one at a time, at the version's threshold; nothing is logged."""
    from flows.evaluate import evaluate as run
    from flows.progress import progress_bar
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"evaluate {line}") as progress:
        found = run(workspace, line, good_folder=good, defect_folder=defect, number=version, progress=progress)
    document = {
        "line": line,
        "version": found.version,
        "auroc": found.auroc,
        "fpr": found.fpr,
        "recall": found.recall,
        "n_good": found.n_good,
        "n_defect": found.n_defect,
        "n_unreadable": found.n_unreadable,
        "latency_ms": {"median": found.latency_median_ms, "p95": found.latency_p95_ms},
        "peak_rss_mb": found.peak_rss_mb,
        "n_left_out_defects": found.n_left_out_defects,
    }
    show(document, as_json=json, people=facts)


@app.command()
def ingest(line: LineName, folder: Folder, night: Night, json: Json = False) -> None:
    """Score a folder with the champion and log the scores; logging an image twice changes nothing."""
    from flows.ingest import ingest as run
    from flows.progress import progress_bar
    from flows.workspace import open_workspace
    from registry.lines import parse_night

    date = parse_night(night)
    with open_workspace(Settings.from_environment()) as workspace, progress_bar(f"ingest {line}") as progress:
        done = run(workspace, line, folder, night=date, progress=progress)
    document = {
        "line": line,
        "night": night,
        "version": done.version,
        "n_scored": done.n_scored,
        "n_new": done.n_new,
        "n_unreadable": len(done.unreadable),
        "n_reject": done.n_reject,
        "shadow": done.shadow,
        "unreadable": [{"image": str(each.path), "reason": each.reason} for each in done.unreadable],
    }
    show(document, as_json=json, people=facts)


@app.command()
def label(
    line: LineName,
    files: Annotated[list[str], typer.Argument(metavar="FILE…", help="Images, by file or SHA-256.")],
    as_label: Annotated[str, typer.Option("--as", metavar="good|defect", help="What they are.")],
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Which defect, e.g. crack.")] = None,
    json: Json = False,
) -> None:
    """Say of images that the line has seen whether they are good or defective."""
    from flows.labelling import label_images
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        n_labelled = label_images(workspace, line, files, as_label=as_label, kind=kind)
    show({"line": line, "label": as_label, "kind": kind, "n_labelled": n_labelled}, as_json=json, people=facts)


@app.command()
def log(
    line: LineName,
    csv: Annotated[Path, typer.Option("--csv", metavar="FILE", help="Columns captured_at, image, score.")],
    time_zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE", help="Of a new line, and of times without one, e.g. Europe/Vienna; by default UTC."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Log the scores of a detector that is not ours; it is watched all the same."""
    from flows.foreign import log_csv
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        n_new = log_csv(workspace, line, csv, time_zone=time_zone)
    show({"line": line, "n_new": n_new}, as_json=json, people=facts)


@app.command()
def check(
    line: LineName,
    night: Night,
    evidently: Annotated[
        bool,
        typer.Option("--evidently", help="Also write Evidently's report, and put it beside the version in MLflow."),
    ] = False,
    json: Json = False,
) -> None:
    """Compare a night's scores with the reference, and explain the verdict."""
    from flows.check import check_line, publish_evidently
    from flows.workspace import open_workspace
    from registry.lines import parse_night

    date = parse_night(night)
    with open_workspace(Settings.from_environment()) as workspace:
        checked = check_line(workspace, line, night=date)
        document = checked.to_dict()
        if evidently:
            document["evidently"] = str(publish_evidently(workspace, checked))
    show(document, as_json=json, people=check_for_people)


@app.command()
def nightly(
    night: Annotated[str | None, typer.Option("--night", metavar="YYYY-MM-DD", help="By default yesterday.")] = None,
    line: Annotated[list[str] | None, typer.Option("--line", help="Only these lines.")] = None,
    json: Json = False,
) -> None:
    """Check every line, retrain what drifted, promote what is proved better, tell people."""
    from flows.progress import progress_bar
    from flows.running import known_lines, run_flow
    from flows.workspace import open_workspace
    from registry.lines import parse_night

    date = parse_night(night) if night else None
    if line:  # a misspelt one is told before a server starts
        with open_workspace(Settings.from_environment()) as workspace:
            known_lines(workspace, line)
    with progress_bar("nightly"):
        document = run_flow("nightly", night=date, line_names=line)
    show(document, as_json=json, people=nightly_for_people)


app.registered_commands += curation_commands.registered_commands
app.registered_commands += promotion_commands.registered_commands


@app.command()
def status(
    line: Annotated[str | None, typer.Argument(metavar="[LINE]", help="By default all lines.")] = None,
    json: Json = False,
) -> None:
    """What is deployed on each line, what was found last, what waits."""
    from flows.status import status as run
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        document = {"lines": run(workspace, line)}
    show(document, as_json=json, people=status_for_people)


@app.command()
def alerts(json: Json = False) -> None:
    """Deliver what is due, and list every alert with its state."""
    from flows.alerts import deliver, list_all
    from flows.workspace import open_workspace

    with open_workspace(Settings.from_environment()) as workspace:
        deliver(workspace)
        document = {"alerts": list_all(workspace)}
    columns = ("id", "line", "kind", "state", "attempts", "created_at", "delivered_at")
    show(document, as_json=json, people=lambda shown: rows_table(shown["alerts"], columns))


@app.command()
def report(
    line: LineName,
    night: Annotated[str | None, typer.Option("--night", metavar="YYYY-MM-DD", help="By default the last one.")] = None,
    json: Json = False,
) -> None:
    """Write one HTML page of a night: verdict, causes, distributions, images with heat maps, gates."""
    from flows.reporting import write_report
    from flows.workspace import open_workspace
    from registry.lines import parse_night

    date = parse_night(night) if night else None
    with open_workspace(Settings.from_environment()) as workspace:
        page = write_report(workspace, line, night=date)
    show({"line": line, "path": str(page)}, as_json=json, people=facts)


app.registered_commands += trial_commands.registered_commands


@app.command()
def demo(
    images: Annotated[Path | None, typer.Option("--images", metavar="DIR", help="Tell it on your own images.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the page goes.")] = Path("demo-out"),
    json: Json = False,
) -> None:
    """Tell the whole story on an embedded part: good nights, a burst of defects, an aged lamp, the retrain."""
    from flows.demo import run_demo

    document = run_demo(out, images=images, as_json=json)
    show(document, as_json=json, people=lambda shown: print(f"\nThe story with its pictures: {shown['page']}"))


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 error, 2 wrong usage."""
    if arguments is None:
        given = sys.argv[1:]
        # Python's last collection looks at a million objects of the imports, a second on a slow machine, before they go anyway
        atexit.register(gc.freeze)
    else:
        given = arguments
    as_json = "--json" in given
    try:
        result: Any = app(args=given, prog_name="halfsigma", standalone_mode=False)
    except ClickException as error:
        usage = UsageError(error.format_message(), hint="halfsigma COMMAND --help shows how it is written")
        return show_error(usage, as_json=as_json)
    except HalfsigmaError as error:
        return show_error(error, as_json=as_json)
    except BrokenPipeError:
        return EXIT_ERROR
    except Exception as error:  # noqa: BLE001  # the last resort: a fault of ours must not look like an answer
        traceback.print_exc()
        fault = HalfsigmaError(
            f"an unexpected {type(error).__name__}: {error}",
            hint="this is a fault of halfsigma; nothing that was logged is lost. Please report it with the lines above",
        )
        return show_error(fault, as_json=as_json)
    status = result if isinstance(result, int) else 0
    if status == EXIT_INTERRUPTED:
        sys.stderr.write("halfsigma: interrupted; run the command again to go on\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
