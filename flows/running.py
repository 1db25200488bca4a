"""Running a flow from the command line: by Prefect's server when one is configured, else by a temporary one."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from datetime import date
from typing import Any, Literal

from flows.challenger import run_retrain
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from halfsigma import HalfsigmaError, RegistryError
from registry import lines


def retrain_now(line_name: str, *, night: date, base_version: int, reason: str) -> dict[str, Any]:
    """The retrain that a person at a terminal asked for, and its document.

    A flow where ``PREFECT_API_URL`` names a server. Else its steps happen in this process: a temporary server takes longer to
    start than some images take to learn, and nobody could look at the run.
    """
    if os.environ.get("PREFECT_API_URL"):
        return run_flow("retrain", line_name=line_name, night=night, base_version=base_version, reason=reason)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with open_workspace(Settings.from_environment()) as workspace:
        return run_retrain(workspace, line_name, night=night, base_version=base_version, reason=reason).to_dict()


def known_lines(workspace: Workspace, names: Sequence[str]) -> None:
    """UnknownLine for a name that no line has."""
    with workspace.database.session() as session:
        for name in names:
            lines.get_line(session, name)


def run_flow(name: Literal["nightly", "retrain"], **parameters: Any) -> dict[str, Any]:
    """Run a flow in this process and return its document.

    Without ``PREFECT_API_URL`` Prefect starts a server for the time of the run, whose database lies in the home.

    Raises:
        HalfsigmaError: as the flow raised it.
        RegistryError: Prefect itself failed.
    """
    os.environ.setdefault("PREFECT_HOME", str(Settings.from_environment().home / "prefect"))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if name == "nightly":
        from flows.nightly import nightly as chosen
    else:
        from flows.retrain import retrain as chosen  # type: ignore[assignment]
    try:
        document: dict[str, Any] = chosen(**parameters)
    except HalfsigmaError:
        raise
    except Exception as error:  # Prefect wraps what it cannot reach in errors of many libraries
        raise RegistryError(
            f"the flow {name} failed: {type(error).__name__}: {error}",
            hint=_where_to_look(),
        ) from error
    return document


def _where_to_look() -> str:
    if os.environ.get("PREFECT_API_URL"):
        return "see the run in the Prefect UI, and check that the server at PREFECT_API_URL runs"
    folder = os.environ["PREFECT_HOME"]
    try:
        free_mb = shutil.disk_usage(folder).free / 1e6
    except OSError as error:
        return f"Prefect's temporary server keeps its database in {folder}: {error.strerror}"
    return f"Prefect's temporary server keeps its database in {folder}, whose disk has {free_mb:,.0f} MB left: make room, or run this again"
