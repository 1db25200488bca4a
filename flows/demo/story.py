"""The words of the demo: what was planned, what came of it, and the page that shows both."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.demo.record import Seen, Told, ToldNight, ToldVersion, share
from flows.pages import (
    CauseRow,
    Chapter,
    Command,
    Distribution,
    Fact,
    GateRow,
    NightRow,
    Story,
    VersionRow,
)
from flows.pages.palette import LOOKS
from flows.pages.story import Verdict
from flows.pages.words import percent

PLANNED: tuple[Verdict, ...] = ("stable", "stable", "defect_burst", "drift", "stable")
"""The verdicts of the five nights, if all goes as the story has it; a retrain is planned in the night of drift alone."""


def surprises(told: Told) -> tuple[str, ...]:
    """Every way in which the nights came otherwise than planned, each a sentence; empty when all went to plan."""
    found = []
    for night, planned in zip(told.nights, PLANNED, strict=True):
        verdict: Verdict = night.check["verdict"]
        when = f"the night of {night.told.night} ({_lower(night.told.title)})"
        if verdict != planned:
            found.append(f"{when} was planned to be {LOOKS[planned].word} and was judged {LOOKS[verdict].word}")
        state = night.retrain["state"] if night.retrain is not None else None
        wanted = "promoted" if planned == "drift" else None
        if state is not None and state != wanted:
            plan = "none was planned" if wanted is None else f"it was planned to be {wanted}"
            found.append(f"the retrain in {when} ended {state}; {plan}")
        elif state != wanted:
            found.append(f"no retrain came about in {when}, where one was planned")
    return tuple(found)


def night_rows(told: Told) -> tuple[NightRow, ...]:
    """The rows of the timeline and of the terminal's table."""
    return tuple(_night_row(night) for night in told.nights)


def gate_rows(night: ToldNight) -> tuple[GateRow, ...]:
    """The gates of the night's retrain, none where there was none."""
    if night.retrain is None:
        return ()
    return tuple(
        GateRow(gate["name"].replace("_", " "), gate["value"], gate["limit"], gate["passed"], gate["reason"])
        for gate in night.retrain["gates"]
    )


def commands(told: Told, *, home: Path) -> tuple[Command, ...]:
    """What the reader may do next in the demo's own home."""
    place, programs = _short(home), _short(Path(sys.executable).parent)
    ours = f"HALFSIGMA_HOME={place} {programs}/halfsigma"
    found = [
        Command(
            "See versions, aliases, gates and plots in the MLflow UI, at http://127.0.0.1:5000",
            f"{programs}/mlflow ui --backend-store-uri sqlite:///{place}/mlflow.db",
        ),
        Command("See where the line stands", f"{ours} status {told.line}"),
    ]
    if any("previous" in each.aliases for each in told.versions.values()):
        found.append(Command("Take the promotion back", f"{ours} rollback {told.line}"))
    return tuple(found)


def tell(told: Told, *, home: Path) -> Story:
    """The page: the nights in their order, each with what was true and what was seen, then the registry."""
    came_otherwise = surprises(told)
    intro = (
        f"Five nights of one station that looks at {'your part' if told.own else 'a brake pad'}. The detector was "
        f"fitted on {told.n_fit} images of good parts; every night its scores were logged, checked and answered by the "
        "same commands that run in production."
    )
    if came_otherwise:
        intro += "\n\nNot all came as the story has it. " + " ".join(
            f"{each[:1].upper()}{each[1:]}." for each in came_otherwise
        )
    return Story(
        title="Five nights at one station"
        if came_otherwise
        else "Defects came, and nothing was retrained. The station changed, and the detector followed.",
        subtitle=intro,
        nights=night_rows(told),
        chapters=(*(_chapter(night, told) for night in told.nights), _registry(told, home)),
        facts=_head_facts(told),
        provenance=(
            Fact("photographs", told.source),
            Fact("seed", str(told.seed)),
            Fact(
                "software", ", ".join(f"{name} {installed_version(name)}" for name in ("openvino", "mlflow", "prefect"))
            ),
            Fact(
                "truth",
                "which parts are defective is known to this page and to the person who labels, never to the detector",
            ),
        ),
    )


def _night_row(night: ToldNight) -> NightRow:
    check = night.check
    low, high = check["bulk_shift_ci"]
    return NightRow(
        night=night.told.night,
        verdict=check["verdict"],
        n=int(night.seen.scores.size),
        bulk_shift_sd=check["bulk_shift_sd"],
        bulk_shift_ci=None if low is None or high is None else (low, high),
        fpr=night.fpr,
        n_reject=int(night.seen.rejected.sum()),
        version=f"v{night.version}",
        action=_action(night),
        explanation=check["explanation"],
        title=night.told.title,
    )


def _action(night: ToldNight) -> str:
    if night.retrain is None:
        return str(night.document["action"])
    new = night.retrain["new_version"]
    ends = {"promoted": f"retrained, v{new} promoted", "rejected": f"retrained, v{new} rejected by its gates"}
    return ends.get(night.retrain["state"], f"retrain {night.retrain['state']}")


def _head_facts(told: Told) -> tuple[Fact, ...]:
    facts = []
    for night in told.nights:
        if night.check["verdict"] == "defect_burst" and night.retrain is None:
            n, caught = int(night.is_defect.sum()), int(night.seen.rejected[night.is_defect].sum())
            facts.append(
                Fact("in the burst of defects", "no retrain", f"{caught} of {n} defects caught, an alert queued")
            )
    for before, after in zip(told.nights, told.nights[1:], strict=False):
        if before.version == after.version:
            continue
        note = f"by v{before.version}, on {before.told.night}"
        facts.append(Fact("good parts rejected before the retrain", percent(before.fpr), note))
        facts.append(
            Fact("and the night after", percent(after.fpr), f"by v{after.version}, at the same changed station")
        )
        facts.append(
            Fact("defects caught the night after", _of(after.seen.rejected[after.is_defect]), f"by v{after.version}")
        )
    return tuple(facts)


def _chapter(night: ToldNight, told: Told) -> Chapter:
    version = told.versions[night.version]
    return Chapter(
        title=f"{night.told.night}: {night.told.title}",
        verdict=night.check["verdict"],
        text="\n\n".join(_paragraphs(night, told)),
        facts=_night_facts(night),
        distributions=_distributions(night, version, told),
        causes=_causes(night),
        panels=night.panels,
        panels_title=f"Photographs, and what v{night.version} makes of them",
        curation=night.curation,
        gates=gate_rows(night),
        gates_title="The gates of the challenger",
    )


def _paragraphs(night: ToldNight, told: Told) -> list[str]:
    n = int(night.is_defect.sum())
    truth = f"In truth: {n} of {night.is_defect.size} parts are defective"
    truth += (
        ", and the station is as it was."
        if night.told.changed == "nothing changed"
        else f", and the station has changed: {night.told.changed}."
    )
    paragraphs = [truth, f"The check, which knows nothing of that: {night.check['explanation']}"]
    verdict, retrain = night.check["verdict"], night.retrain
    if retrain is not None:
        paragraphs.append(_told_retrain(night))
    elif verdict == "defect_burst":
        paragraphs.append(
            "High scores came, but the bulk of the good parts stayed where it was: that is the detector at work, and no "
            "reason to retrain. An alert went to the outbox. A person then looked at what was rejected and labelled it; "
            "the defects among it are the line's golden set from now on, which no challenger may forget."
        )
    elif verdict == "warning":
        paragraphs.append("An alert went to the outbox; nothing was retrained.")
    elif verdict != "stable":
        paragraphs.append(f"The answer was: {night.document['action']}.")
    if night.unreplaced is not None:
        kept = night.unreplaced.rejected[~night.is_defect]
        paragraphs.append(
            f"Had v{night.unreplaced.version} stayed champion, it would have rejected {_of(kept)} good parts this night; "
            f"v{night.version} rejected {_of(night.seen.rejected[~night.is_defect])}."
        )
    return paragraphs


def _told_retrain(night: ToldNight) -> str:
    assert night.retrain is not None, "asked only of a night with a retrain"
    state, new, base = night.retrain["state"], night.retrain["new_version"], night.retrain["base_version"]
    began = "The flow started a retrain by itself: it chose fresh good images of the night, fitted a challenger on them"
    if state == "promoted":
        return (
            f"{began}, tried it at the gates below, registered it as v{new} and, all gates passed, made it champion. "
            f"v{base} is kept as previous."
        )
    if state == "rejected":
        return (
            f"{began} and tried it at the gates below. It was not promoted ({night.retrain['reason']}); "
            f"v{base} stays champion."
        )
    return f"A retrain was started and is {state}: {night.retrain['reason']}."


def _night_facts(night: ToldNight) -> tuple[Fact, ...]:
    good, defective = night.seen.rejected[~night.is_defect], night.seen.rejected[night.is_defect]
    return (
        Fact("good parts rejected", percent(share(good)), _of(good)),
        Fact("defects caught", percent(share(defective)), _of(defective)),
        Fact("judged by", f"v{night.version}"),
        Fact("action", _action(night)),
    )


def _distributions(night: ToldNight, version: ToldVersion, told: Told) -> tuple[Distribution, ...]:
    shown = []
    if night.unreplaced is not None:
        old = told.versions[night.unreplaced.version]
        shown.append(_distribution(f"Had v{old.number} stayed: its scores of this night", night, night.unreplaced, old))
    shown.append(_distribution(f"v{version.number}, which judged the night", night, night.seen, version))
    return tuple(shown)


def _distribution(title: str, night: ToldNight, seen: Seen, version: ToldVersion) -> Distribution:
    return Distribution(
        title=title,
        reference=version.reference,
        window=seen.scores,
        threshold=version.threshold,
        window_defects=seen.scores[night.is_defect],
        reference_label=f"reference of v{version.number}",
        defects_label="in truth defective",
    )


def _causes(night: ToldNight) -> tuple[CauseRow, ...]:
    """Of a night that asks for one; on a stable night a cause would explain nothing."""
    if night.check["verdict"] not in ("drift", "warning", "sensor_fault"):
        return ()
    return tuple(
        CauseRow(cause["name"], cause["phrase"], cause["shift_sd"], cause["share"])
        for cause in night.check["causes"]
        if cause["shift_sd"] is not None
    )


def _registry(told: Told, home: Path) -> Chapter:
    rows = tuple(
        VersionRow(
            number=each.number,
            aliases=each.aliases,
            origin=each.origin,
            threshold=each.threshold,
            reference=f"{each.reference.size} images, {each.reference.mean():.2f} ± {each.reference.std(ddof=1):.2f}",
        )
        for each in told.versions.values()
    )
    text = (
        f"The registered model halfsigma.{told.line} in MLflow holds every version with its reference, its gates and the "
        "plots of its nights. The alias champion says what is deployed: whoever moves it there, the next nightly follows. "
        "Each version has scores on a scale of its own, so each is judged against its own reference only."
    )
    return Chapter(title="In the registry", text=text, versions=rows, commands=commands(told, home=home))


def _of(rejected: NDArray[np.bool_]) -> str:
    return f"{int(rejected.sum())} of {rejected.size}"


def _lower(title: str) -> str:
    return title[:1].lower() + title[1:]


def _short(path: Path) -> str:
    """As seen from here, where that is shorter."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
