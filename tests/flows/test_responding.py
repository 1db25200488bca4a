"""What follows from a check that was made, where the registry is away."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows import nightly
from flows.check import check_line
from halfsigma import StoreError
from tests.flows.simulated_plant import FIRST, LINE, simulated_plant


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (StoreError("the registry is away", hint="start it"), "the registry is away"),
        (
            OSError(28, "No space left on device"),
            "what follows could not be written: [Errno 28] No space left on device",
        ),
        (
            OverflowError(34, "Numerical result out of range"),
            "unexpected OverflowError: (34, 'Numerical result out of range')",
        ),
    ],
)
def test_a_response_that_fails_is_told_as_such_beside_its_check_and_done_when_the_night_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, told: str
) -> None:
    def away(*_: object, **__: object) -> Any:
        raise fault

    night = FIRST + timedelta(1)
    with simulated_plant(tmp_path, monkeypatch) as plant:
        plant.photograph(FIRST)
        plant.light = 2.0
        plant.photograph(night)
        checked = check_line(plant.workspace, LINE, night=night)
        with monkeypatch.context() as patch:
            patch.setattr(nightly.retraining, "retrain", away)
            rows = [nightly.respond_to_all(plant.workspace, [checked], [], night) for _ in range(2)]
        for (done,) in rows:
            row = done.to_dict()
            assert (row["action"], row["error"], row["champion"]) == ("alert", told, 1)
            assert row["check"]["verdict"] == "drift"
        assert plant.told() == {"drift": 1, "response_failed": 1}
        (done,) = nightly.respond_to_all(plant.workspace, [checked], [], night)
        assert (done.retrain, done.error) == ({"id": 1, "state": "promoted"}, None)
        assert plant.champion() == 2
