"""The demo: the whole story on a part of its own, told by the functions that the command line calls."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.demo.home import demo_home, fresh_folder
from flows.demo.part import STORY, DemoNight, DemoPart, write_demo_part, write_own_part
from flows.demo.record import Told, recall
from flows.demo.story import commands, gate_rows, night_rows, surprises, tell
from flows.workspace import Workspace, open_workspace
from halfsigma import ImageError

if TYPE_CHECKING:
    from rich.console import Console

    from detectors.protocol import Progress

DETECTOR = "patchcore"
SEED = 0
_STEP_SHARES = (0.10, 0.24, 0.16, 0.035, 0.035, 0.37, 0.03, 0.03)
"""Of the whole time, measured: photographs, fit, the nights (the first starts Prefect, the fourth retrains), page."""


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How many good images to fit on, and how many a night: with these the demo's burst is hardly ever missed."""

    n_fit: int = 200
    n_night: int = 120


def run_demo(
    out: Path, *, images: Path | None = None, as_json: bool = False, size: DemoSize | None = None
) -> dict[str, Any]:
    """Tell the story in ``out``, on the embedded brake pad or on the user's good ``images``.

    Everything happens in ``out/home`` and ``out/photographs``, which are made afresh; ``out/story.html`` is the page.
    What comes otherwise than the story has it is told as it came, and listed in ``surprises``.

    Raises:
        UsageError: ``out`` holds something that no demo made.
        ImageError, TooFewImages: ``images`` is no folder to tell a story on.
    """
    from flows.pages import render_story

    if images is not None and not images.is_dir():
        raise ImageError(f"{images} is no folder", hint="give a folder of photographs of good parts")
    steps = _Steps()
    line = "brake-pad" if images is None else "own-part"
    with demo_home(out) as settings, open_workspace(settings) as workspace:
        with steps.step("Photographs of a brake pad" if images is None else "Photographs of your part") as progress:
            part = _take_photographs(out.resolve() / "photographs", images, size or DemoSize(), progress)
        documents = _live_through(workspace, line, part, steps)
        with steps.step("The page"):
            told = recall(workspace, line, part, documents)
            page = render_story(tell(told, home=settings.home), out.resolve() / "story.html")
    if not as_json:
        _show(told, home=settings.home)
    return _document(told, page=page, home=settings.home, seconds=steps.elapsed_s)


def _take_photographs(folder: Path, images: Path | None, size: DemoSize, progress: Progress) -> DemoPart:
    first_night = datetime.now(UTC).date() - timedelta(days=len(STORY))
    fresh_folder(folder)
    if images is None:
        return write_demo_part(
            folder,
            first_night=first_night,
            n_fit=size.n_fit,
            n_night=size.n_night,
            n_golden=0,
            seed=SEED,
            progress=progress,
        )
    return write_own_part(
        images,
        folder,
        first_night=first_night,
        n_fit=size.n_fit,
        n_night=size.n_night,
        n_golden=0,
        seed=SEED,
        progress=progress,
    )


def _live_through(workspace: Workspace, line: str, part: DemoPart, steps: _Steps) -> list[Mapping[str, Any]]:
    """Fit, then every night: ingest, `nightly`, and a person who looks at what was rejected in a burst."""
    from flows.fitting import fit_line
    from flows.ingest import ingest
    from flows.running import run_flow

    with steps.step(f"halfsigma fit {line} --good photographs/good") as progress:
        fitted = fit_line(workspace, line, part.good, detector=DETECTOR, seed=SEED, progress=progress)
        promised = fitted.model.threshold.promised_fpr
    steps.say(
        f"version {fitted.version} learned from {len(fitted.goods.prepared)} images, promises {promised:.1%} false rejects"
    )
    documents = []
    for night in part.nights:
        with steps.step(f"{night.night}  {night.title}") as progress:
            ingest(workspace, line, night.directory, night=night.night, progress=progress)
            (document,) = run_flow("nightly", night=night.night, line_names=[line])["lines"]
        documents.append(document)
        steps.say(_in_short(document))
        if document["check"]["verdict"] == "defect_burst":
            n_labelled = _look_at_rejected(workspace, line, night, document["check"]["version"])
            steps.say(f"a person looks at what was rejected and labels {n_labelled} defects: the golden set")
    return documents


def _look_at_rejected(workspace: Workspace, line_name: str, night: DemoNight, version: int) -> int:
    """What a person does after a burst, who knows a defect when shown one; how many were labelled so."""
    from flows.labelling import label_images
    from registry import lines, scores

    with workspace.database.session() as session:
        rows = scores.night_images(session, lines.get_line(session, line_name), version, night.night)
    defects = {path.name for path in night.defects}
    shown = [row for row in rows if row.rejected]
    for label, targets in (
        ("good", [row.sha256 for row in shown if row.name not in defects]),
        ("defect", [row.sha256 for row in shown if row.name in defects]),
    ):
        if targets:
            label_images(workspace, line_name, targets, as_label=label)
    return sum(row.name in defects for row in shown)


def _in_short(document: Mapping[str, Any]) -> str:
    from flows.pages.palette import LOOKS
    from flows.pages.words import signed

    check, retrain = document["check"], document["retrain"]
    look = LOOKS[check["verdict"]]
    came = (
        f"{look.sign} {look.word} by version {check['version']}, bulk shift {signed(check['bulk_shift_sd'], unit='SD')}"
    )
    if retrain is None:
        return f"{came}; action: {document['action']}"
    return f"{came}; retrain {retrain['state']}, champion is version {document['champion']}"


def _show(told: Told, *, home: Path) -> None:
    from rich.console import Console

    from flows.pages import gates_table, nights_table
    from flows.pages.terminal import WIDE_COLUMNS

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE_COLUMNS
    console.print()
    console.print(nights_table(night_rows(told), width=console.width))
    for night in told.nights:
        if night.retrain is not None:
            console.print(f"Gates of the retrain of {night.told.night}: {night.retrain['state']}", style="bold")
            console.print(gates_table(gate_rows(night)))
    for sentence in surprises(told):
        console.print(f"Otherwise than planned: {sentence}", style="bold yellow", markup=False)
    for command in commands(told, home=home):
        console.print(f"{command.does}:", style="dim")
        console.print(f"  {command.line}", soft_wrap=True)


def _document(told: Told, *, page: Path, home: Path, seconds: float) -> dict[str, Any]:
    return {
        "page": str(page),
        "home": str(home),
        "line": told.line,
        "seconds": round(seconds, 1),
        "nights": [
            {
                "night": night.told.night.isoformat(),
                "title": night.told.title,
                "verdict": night.check["verdict"],
                "bulk_shift_sd": night.check["bulk_shift_sd"],
                "fpr": night.fpr,
                "recall": night.recall,
                "version": night.version,
                "action": night.document["action"],
                "retrain": None if night.retrain is None else night.retrain["state"],
                "champion": night.document["champion"],
            }
            for night in told.nights
        ],
        "versions": [
            {"version": each.number, "aliases": list(each.aliases), "origin": each.origin, "threshold": each.threshold}
            for each in told.versions.values()
        ],
        "surprises": list(surprises(told)),
    }


class _Steps:
    """Announces each step on stderr with the time that is left, and shows its progress while it runs."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console: Console = Console(stderr=True, highlight=False)
        self._started = time.perf_counter()
        self._n_done = 0

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started

    def say(self, sentence: str) -> None:
        self._console.print(f"       {sentence}", markup=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        from flows.progress import progress_bar

        done = sum(_STEP_SHARES[: self._n_done])
        left = f"  (about {_minutes(self.elapsed_s * (1 - done) / done)} left)" if done else ""
        number = f"[{self._n_done + 1}/{len(_STEP_SHARES)}]"
        self._console.print(f"{number}  {title}{left}", markup=False, soft_wrap=True)
        with progress_bar(title) as progress:
            yield progress
        self._n_done += 1


def _minutes(seconds: float) -> str:
    """
    >>> _minutes(8.2), _minutes(71.0)
    ('8 s', '1 min 11 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
