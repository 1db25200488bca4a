"""On real tiles, through `nightly` alone: what learned from a fogged lens goes when the lens is clean again, once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.acceptance.station import ROOT, Station
from tests.receiver import SECRET, listening

pytestmark = pytest.mark.acceptance

TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
N_FIT, N_NIGHT = 200, 100
SEED = 20261125
FOG_SIGMA_PX = 2.0
NIGHTS = {"fogged": True, "cleaned": False, "fogged_again": True, "clean": False, "clean_too": False}
"""Whether the lens is fogged, night by night; every night shows other tiles."""


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Disjoint folders of real goods, to fit on and of each night."""
    if not TILES.is_dir():
        pytest.skip("../shared/data is not beside this checkout; tests/flows/test_watching.py lives simulated nights")
    folder = tmp_path_factory.mktemp("tiles")
    goods = sorted((TILES / "good").iterdir())
    order = iter(np.random.default_rng(SEED).permutation(len(goods)).tolist())
    for name, n, fogged in (("fit", N_FIT, False), *((name, N_NIGHT, fogged) for name, fogged in NIGHTS.items())):
        (folder / name).mkdir()
        for _ in range(n):
            source = goods[next(order)]
            if fogged:
                sharp = np.asarray(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE), np.uint8)
                seen = cv2.GaussianBlur(sharp, (0, 0), FOG_SIGMA_PX)
                assert cv2.imwrite(str(folder / name / f"{source.stem}.png"), seen)
            else:
                shutil.copy(source, folder / name / source.name)
    return folder


def test_a_challenger_that_passed_its_gates_and_is_bad_outside_goes_within_one_night_and_nothing_flaps(
    photographs: Path, tmp_path: Path
) -> None:
    with listening() as receiver:
        hook = {"HALFSIGMA_WEBHOOK_URL": receiver.url, "HALFSIGMA_WEBHOOK_SECRET": SECRET}
        station = Station(tmp_path / "home", **hook)
        station("fit", "tiles", "--good", photographs / "fit")

        def live(day: int, name: str, *, times: int = 1) -> list[dict[str, Any]]:
            night = f"2026-08-0{day}"
            station("ingest", "tiles", photographs / name, "--night", night)
            return [station("nightly", "--night", night)["lines"][0] for _ in range(times)]

        (fogged,) = live(1, "fogged")
        assert fogged["retrain"]["state"] == "promoted", fogged
        assert all(gate["passed"] for gate in fogged["retrain"]["gates"])

        first, again = live(2, "cleaned", times=2)
        assert (first["check"]["version"], first["champion"]) == (2, 1)
        assert first["probation"]["outcome"] == "rolled_back"
        assert (again["champion"], again["probation"], again["retrain"]) == (1, None, None)

        (fogged_again,) = live(3, "fogged_again")  # the drift is real, but a person should look before the next retrain
        assert (fogged_again["check"]["verdict"], fogged_again["retrain"]) == ("drift", None)
        assert "cool-down" in fogged_again["held_back"]
        for day, name in ((4, "clean"), (5, "clean_too")):
            (quiet,) = live(day, name)
            assert (quiet["champion"], quiet["retrain"], quiet["probation"]) == (1, None, None)
            assert quiet["check"]["verdict"] != "drift", quiet["check"]

        changes = [
            (each["action"], each["version"], each["actor"]) for each in station("history", "tiles")["deployments"]
        ]
        assert changes == [("deployed", 1, "halfsigma"), ("promoted", 2, "halfsigma"), ("rolled_back", 1, "halfsigma")]
    told = Counter(json.loads(body)["type"] for _, body in receiver.messages)
    assert (told["promoted"], told["rolled_back"]) == (1, 1)
