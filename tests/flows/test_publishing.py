"""The night's plots in MLflow: after the alerts, and an MLflow that is away is waited for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from flows import nightly
from halfsigma import StoreError
from tests.flows.simulated_plant import FIRST

LINES = ("belt", "pads", "press")


class Registry:
    """An MLflow that refuses the plots of some lines, or is away."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.is_away = False
        self.asked: list[str] = []

    def publish(self, workspace: object, checked: Any, plot: Path) -> None:
        self.asked.append(checked.line)
        if checked.line in self.refused:
            raise StoreError("its run was deleted")
        self.aliases(checked.line)

    def aliases(self, line: str) -> dict[str, int]:
        if self.is_away:
            raise StoreError("connection refused")
        return {}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    made = Registry()
    monkeypatch.setattr(nightly, "draw_check", lambda workspace, checked: Path(f"{checked.line}.png"))
    monkeypatch.setattr(nightly, "publish_check", made.publish)
    with disable_run_logger():
        yield made


def _checked() -> Any:
    verdict = SimpleNamespace(kind="drift", explanation="Good images score higher tonight.")
    return [SimpleNamespace(line=line, verdict=verdict) for line in LINES]


def _published(registry: Registry) -> tuple[list[str], list[str]]:
    plots = nightly.publish_task.fn(SimpleNamespace(store=registry), _checked())  # type: ignore[arg-type]
    return registry.asked, list(plots)


def test_an_mlflow_that_is_away_is_asked_for_one_lines_plot_and_all_are_drawn(registry: Registry) -> None:
    registry.is_away = True
    assert _published(registry) == ([LINES[0]], list(LINES))


def test_a_line_whose_plot_is_refused_hides_no_other(registry: Registry) -> None:
    registry.refused = {LINES[0]}
    assert _published(registry) == (list(LINES), list(LINES))


def test_alerts_leave_before_the_plots_are_published(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []

    def publish(*_: object) -> None:
        steps.append("publish")
        raise RuntimeError("a fault of the plots")

    monkeypatch.setattr(nightly, "open_workspace", lambda settings: nullcontext(SimpleNamespace()))
    monkeypatch.setattr(nightly, "check_task", lambda *_: (_checked(), []))
    monkeypatch.setattr(nightly, "respond_to_all", lambda *_: [])
    monkeypatch.setattr(nightly, "deliver_task", lambda workspace: steps.append("deliver"))
    monkeypatch.setattr(nightly, "publish_task", publish)
    with pytest.raises(RuntimeError, match="a fault of the plots"):
        nightly.nightly.fn(FIRST, list(LINES))
    assert steps == ["deliver", "publish"]
