from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Home = tuple[Path, list[Any]]


def test_a_line_is_planned_from_its_own_nights_and_reference(
    fitted_home: Home, commands: Callable[..., list[Any]]
) -> None:
    (said,) = commands(fitted_home[0], [("plan", "pad", "--json")])
    document = said.document
    # nights of 40 and of 56 images; a reference of the 40 goods it was fitted on
    assert (document["line"], document["version"], document["n_nights_seen"]) == ("pad", 1, 2)
    assert (document["images_per_night"], document["n_reference"]) == (48, 40)
    assert document["n_effective"] <= 48
    chances = [row["drift_first_night"] for row in document["shifts"]]
    assert chances == sorted(chances)


def test_what_is_given_counts_instead_of_what_was_seen(fitted_home: Home, commands: Callable[..., list[Any]]) -> None:
    options = ("--images-per-night", "900", "--reference", "300", "--autocorrelation", "0.5", "--power", "0.8")
    (said,) = commands(fitted_home[0], [("plan", "pad", *options, "--json")])
    document = said.document
    assert (document["images_per_night"], document["n_reference"], document["power"]) == (900, 300, 0.8)
    assert document["n_effective"] == pytest.approx(300.0)


def test_a_line_that_is_not_built_yet_needs_only_its_images(tmp_path: Path, commands: Callable[..., list[Any]]) -> None:
    planned, table, missing, impossible = commands(
        tmp_path / "home",
        [
            ("plan", "--images-per-night", "400", "--json"),
            ("plan", "--images-per-night", "400"),
            ("plan", "--json"),
            ("plan", "--images-per-night", "400", "--power", "1", "--json"),
        ],
    )
    assert planned.document["line"] is None
    assert {"shifts", "needed", "least_images", "false_alarms", "chance"} <= planned.document.keys()
    assert "not built yet" in table.out and "False alarms of a quiet line" in table.out
    assert (missing.status, impossible.status) == (2, 2)
    assert "--images-per-night" in missing.document["error"]["hint"]


def test_an_unknown_line_is_said_to_be_unknown(fitted_home: Home, commands: Callable[..., list[Any]]) -> None:
    (said,) = commands(fitted_home[0], [("plan", "nowhere", "--json")])
    assert (said.status, said.document["error"]["type"]) == (1, "UnknownLine")
