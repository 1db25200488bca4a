"""The nightly flow: check every line, respond to each verdict, promote, tell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import retrain as retraining
from flows.alerts import alert_of_check, alert_of_failure, deliver
from flows.artifacts import show_night
from flows.challenger import Outcome, next_step
from flows.check import CheckedLine, FailedLine, check_lines, draw_check, publish_check
from flows.settings import Settings
from flows.watching import Watched, held_back, settle_shadow, watch_champion
from flows.workspace import Workspace, open_workspace
from halfsigma import HalfsigmaError, RegistryError, StoreError, UnknownVersion
from registry import deployment, lines, retrains
from registry.columns import utc_now

RETRIES = 3
RETRY_DELAYS_S = [10.0, 60.0, 300.0]
"""A database that is being restarted is back within minutes."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LineNight:
    """What the night brought to one line."""

    line: str
    checked: CheckedLine | None
    """None when the line could not be checked."""
    action: str
    """``none``, ``alert`` or ``retrain``."""
    retrain: dict[str, Any] | None
    champion: int | None
    error: str | None = None
    """Why the line could not be checked, or not be responded to when it was; asked for again the night is brought to its end."""
    probation: Watched | None = None
    """How a champion on probation did."""
    held_back: str | None = None
    """Why a drift started no retrain."""

    def to_dict(self) -> dict[str, Any]:
        """The contract's document of a line's night."""
        return {
            "line": self.line,
            "check": self.checked.to_dict() if self.checked else None,
            "action": self.action,
            "retrain": self.retrain,
            "champion": self.champion,
            "error": self.error,
            "probation": self.probation.to_dict() if self.probation else None,
            "held_back": self.held_back,
        }


@flow(name="nightly", flow_run_name="nightly")
def nightly(night: date | None = None, line_names: list[str] | None = None) -> dict[str, Any]:
    """Check, respond, promote and tell for one night; run twice, it changes nothing the second time.

    Args:
        night: a date in the lines' time zones; by default the last one that is over in all of them.
        line_names: by default all lines with a champion.
    """
    logger = get_run_logger()
    with open_workspace(Settings.from_environment()) as workspace:
        names = line_names or _deployed_lines(workspace)
        judged_night = night or _last_complete_night(workspace, names)
        checked, failed = check_task(workspace, names, judged_night) if names else ([], [])
        for each in checked:
            logger.info("%s: %s. %s", each.line, each.verdict.kind, each.verdict.explanation)
        rows = [each.to_dict() for each in respond_to_all(workspace, checked, failed, judged_night)]
        for row in rows:
            if row["error"]:
                logger.error("%s: %s", row["line"], row["error"])
        delivery = deliver_task(workspace)  # before the plots, which wait for an MLflow that is away
        logger.info("alerts: %s", delivery)
        plots = publish_task(workspace, checked)
        show_night(judged_night.isoformat(), rows, plots)
        return {"night": judged_night.isoformat(), "flow_run_id": str(flow_run.get_id()), "lines": rows}


@task(
    name="check",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=retraining.may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def check_task(workspace: Workspace, names: Sequence[str], night: date) -> tuple[list[CheckedLine], list[FailedLine]]:
    """All lines of the night together, since the false discovery rate is over all of them."""
    return check_lines(workspace, names, night=night)


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_task(workspace: Workspace, checked: Sequence[CheckedLine]) -> dict[str, Path]:
    """Plots beside the versions in MLflow, after the night's work: a full disk or a registry that is away costs the
    picture, not the night, and is waited for once. Line → plot."""
    plots = {}
    is_away = False
    for each in checked:
        if not _needs_a_look(each):
            continue
        try:
            plots[each.line] = draw_check(workspace, each)
            if not is_away:
                publish_check(workspace, each, plots[each.line])
        except OSError as error:
            get_run_logger().warning("%s: the plot was not drawn: %s", each.line, error)
        except (StoreError, UnknownVersion) as error:  # a detector that is not ours has no version in MLflow
            is_away = is_away or (isinstance(error, StoreError) and not _answers(workspace, each.line))
            which = "neither this nor any later plot was" if is_away else "the plot was not"
            get_run_logger().warning("%s: %s published: %s", each.line, which, error.message)
    return plots


@task(name="deliver alerts", cache_policy=NO_CACHE, persist_result=False)
def deliver_task(workspace: Workspace) -> str:
    """Send what the outbox holds; what fails stays there."""
    sent = deliver(workspace)
    return f"{sent.n_delivered} delivered, {sent.n_retried_later} to be tried again, {sent.n_dead} given up"


def respond_to_all(
    workspace: Workspace, checked: Sequence[CheckedLine], failed: Sequence[FailedLine], night: date
) -> list[LineNight]:
    """What follows from each check. What failed is told when every line has had its response, and done when the night is run
    again."""
    done, failed = [], list(failed)
    for each in checked:
        try:
            done.append(_respond(workspace, each))
        except HalfsigmaError as error:
            failed.append(FailedLine(each.line, error, each))
        except OSError as error:  # a full disk
            told = RegistryError(
                f"what follows could not be written: {error}", hint="make room, and run the night again"
            )
            failed.append(FailedLine(each.line, told, each))
        except Exception as error:  # noqa: BLE001  # one line's fault must not end the night for the others
            _log.exception("the response to line %r failed", each.line)
            told = RegistryError(
                f"unexpected {type(error).__name__}: {error}", hint="run the night again; if it stays, report it"
            )
            failed.append(FailedLine(each.line, told, each))
    return done + [_tell_of_failure(workspace, each, night) for each in failed]


def _respond(workspace: Workspace, checked: CheckedLine) -> LineNight:
    alert_of_check(workspace, checked)
    outcome, action, held = None, "none", None
    settled = settle_shadow(workspace, checked.line, night=checked.verdict.night)
    probation = watch_champion(workspace, checked)
    if settled is not None:
        outcome, action = Outcome.of(settled).to_dict(), "retrain"
    elif probation is not None and probation.outcome == "rolled_back":
        action = "alert"
    elif checked.verdict.kind == "drift":
        held = held_back(workspace, checked.line, night=checked.verdict.night, base_version=checked.version)
        outcome, action = _respond_to_drift(workspace, checked) if held is None else (None, "alert")
    elif checked.verdict.kind in ("warning", "defect_burst", "sensor_fault"):
        action = "alert"
    champion = _champion(workspace, checked.line)
    return LineNight(checked.line, checked, action, outcome, champion, probation=probation, held_back=held)


def _tell_of_failure(workspace: Workspace, failed: FailedLine, night: date) -> LineNight:
    alert_of_failure(workspace, failed, night)
    return LineNight(
        failed.line, failed.checked, "alert", None, _champion(workspace, failed.line), failed.error.message
    )


def _champion(workspace: Workspace, line_name: str) -> int | None:
    with workspace.database.session() as session:
        return lines.aliases(session, lines.get_line(session, line_name)).get("champion")


def _respond_to_drift(workspace: Workspace, checked: CheckedLine) -> tuple[dict[str, Any] | None, str]:
    """Retrain the champion; a night that another version judged was responded to when that one was champion.

    A retrain that was killed is brought to its end all the same.
    """
    with workspace.database.session() as session:
        line = lines.get_line(session, checked.line)
        if line.detector == deployment.FOREIGN:
            return None, "alert"  # its owner has to act
        is_champion = lines.aliases(session, line).get("champion") == checked.version
        earlier = [
            row
            for row in retrains.list_retrains(session, line)
            if row.night == checked.verdict.night and row.base_version == checked.version
        ]
    is_unfinished = any(next_step(row.state) is not None for row in earlier)
    if not is_champion and not is_unfinished:
        return (Outcome.of(earlier[0]).to_dict(), "retrain") if earlier else (None, "alert")
    done = retraining.retrain(checked.line, checked.verdict.night, checked.version, checked.verdict.explanation)
    return done, "retrain"


def _last_complete_night(workspace: Workspace, names: Sequence[str]) -> date:
    now = utc_now()
    with workspace.database.session() as session:
        zones = {line.time_zone for line in lines.list_lines(session) if line.name in names} or {"UTC"}
    return min(lines.night_of(now, zone) for zone in zones) - timedelta(days=1)


def _deployed_lines(workspace: Workspace) -> list[str]:
    with workspace.database.session() as session:
        deployed = lines.all_aliases(session)
        return [line.name for line in lines.list_lines(session) if "champion" in deployed.get(line.id, {})]


def _answers(workspace: Workspace, line_name: str) -> bool:
    """Whether MLflow is there: then what it refused is that line's matter alone."""
    try:
        workspace.store.aliases(line_name)
    except StoreError:
        return False
    return True


def _needs_a_look(checked: CheckedLine) -> bool:
    return checked.verdict.kind not in ("stable", "insufficient")
