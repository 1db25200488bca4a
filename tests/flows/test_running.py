"""A flow that Prefect itself ends: the error says where to look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import nightly
from flows.running import run_flow
from halfsigma import RegistryError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home whose nights end in an error of Prefect's."""

    def flow(**parameters: Any) -> None:
        raise RuntimeError("Internal Server Error")

    monkeypatch.setattr(nightly, "nightly", flow)
    monkeypatch.setenv("HALFSIGMA_HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "prefect"


def test_without_a_server_the_folder_of_the_temporary_one_and_its_room_are_named(
    failing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    failing.mkdir()
    with pytest.raises(RegistryError, match="nightly failed: RuntimeError: Internal Server Error") as caught:
        run_flow("nightly")
    assert str(failing) in caught.value.hint and "MB left" in caught.value.hint


def test_without_a_server_a_folder_that_could_not_be_made_is_named(
    failing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(RegistryError) as caught:
        run_flow("nightly")
    assert str(failing) in caught.value.hint and "No such file" in caught.value.hint


def test_with_a_server_its_ui_is_named(failing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.plant:4200/api")
    with pytest.raises(RegistryError) as caught:
        run_flow("nightly")
    assert "Prefect UI" in caught.value.hint and str(failing) not in caught.value.hint
