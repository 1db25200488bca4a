"""The closed loop on real photographs, through the command line alone: real processes, a real MLflow store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.acceptance.station import Station

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).parents[2]
TILES = ROOT.parent / "shared" / "data" / "magnetic_tile"
N_FIT, N_NIGHT = 300, 100
SEED = 20261124
BLUR_SIGMA_PX = 2.0
SLIP_PX = 12

Gray = NDArray[np.uint8]


def _blurred(image: Gray) -> Gray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), BLUR_SIGMA_PX), np.uint8)


def _slipped(image: Gray) -> Gray:
    moved = np.array([[1, 0, SLIP_PX], [0, 1, 0]], np.float32)
    return np.asarray(cv2.warpAffine(image, moved, image.shape[::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Disjoint folders of real tiles: to fit on, and nights that nobody has seen."""
    if not TILES.is_dir():
        pytest.skip("../shared/data is not beside this checkout; tests/flows/test_demo.py tells the story without it")
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(SEED)
    goods = sorted((TILES / "good").iterdir())
    order = iter(rng.permutation(len(goods)))

    def take(name: str, n: int, change: Callable[[Gray], Gray] | None = None) -> None:
        (folder / name).mkdir()
        for _ in range(n):
            source = goods[next(order)]
            if change is None:
                shutil.copy(source, folder / name / source.name)
            else:
                changed = change(np.asarray(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE), np.uint8))
                assert cv2.imwrite(str(folder / name / f"{source.stem}.png"), changed)

    take("fit", N_FIT)
    take("good", N_NIGHT)
    take("with_defects", N_NIGHT - 10)
    defects = sorted((TILES / "defect").rglob("*.jpg"))
    for index in rng.choice(len(defects), 10, replace=False):
        shutil.copy(defects[index], folder / "with_defects" / defects[index].name)
    take("blurred", N_NIGHT, _blurred)
    take("blurred_again", N_NIGHT, _blurred)
    take("slipped", N_NIGHT, _slipped)
    take("slipped_again", N_NIGHT, _slipped)
    return folder


@pytest.fixture(scope="module")
def fitted_home(nights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home") / "fitted"
    fitted = Station(home)("fit", "tiles", "--good", nights / "fit")
    assert fitted["n_fit"] == N_FIT
    assert fitted["version"] == 1
    return home


@pytest.fixture
def station(fitted_home: Path) -> Station:
    return Station(fitted_home)


def test_a_night_of_good_tiles_is_stable(station: Station, nights: Path) -> None:
    assert station("ingest", "tiles", nights / "good", "--night", "2026-08-01")["n_new"] == N_NIGHT
    checked = station("check", "tiles", "--night", "2026-08-01")
    assert checked["verdict"] == "stable"
    assert abs(checked["bulk_shift_sd"]) < 0.25


def test_a_tenth_of_real_defects_is_not_drift(station: Station, nights: Path) -> None:
    station("ingest", "tiles", nights / "with_defects", "--night", "2026-08-02")
    assert station("check", "tiles", "--night", "2026-08-02")["verdict"] != "drift"


@pytest.mark.parametrize(
    ("name", "night", "next_night"),
    [("blurred", "2026-08-03", "2026-08-04"), ("slipped", "2026-08-05", "2026-08-06")],
)
def test_a_disturbed_night_is_drift_and_one_nightly_run_mends_it(
    station: Station, nights: Path, name: str, night: str, next_night: str
) -> None:
    champion = station("status", "tiles")["lines"][0]["champion"]
    station("ingest", "tiles", nights / name, "--night", night)
    (line,) = station("nightly", "--night", night)["lines"]
    assert line["check"]["verdict"] == "drift"
    assert line["action"] == "retrain"
    assert line["retrain"]["state"] == "promoted", line["retrain"]
    assert all(gate["passed"] for gate in line["retrain"]["gates"])
    assert line["champion"] > champion

    after = station("ingest", "tiles", nights / f"{name}_again", "--night", next_night)
    assert after["version"] == line["champion"]
    assert after["n_reject"] <= 0.03 * N_NIGHT
    assert station("check", "tiles", "--night", next_night)["verdict"] == "stable"

    restored = station("rollback", "tiles")
    assert restored["champion"] == champion
    assert station("status", "tiles")["lines"][0]["champion"] == champion


def test_a_challenger_that_passed_its_gates_and_is_bad_on_live_data_is_rolled_back_within_one_night_and_once(
    station: Station, nights: Path
) -> None:
    """The version that learned from the blurred night is deployed again; then somebody cleans the lens."""
    champion = station("status", "tiles")["lines"][0]["champion"]
    promoted = [each for each in station("history", "tiles")["deployments"] if each["action"] == "promoted"]
    bad = promoted[0]["version"]
    assert all(gate["passed"] for gate in promoted[0]["made"]["gates"])
    assert station("promote", "tiles", "--version", str(bad))["champion"] == bad
    station("ingest", "tiles", nights / "good", "--night", "2026-08-09")
    (first,) = station("nightly", "--night", "2026-08-09")["lines"]
    (again,) = station("nightly", "--night", "2026-08-09")["lines"]
    assert (first["check"]["version"], first["champion"], first["probation"]["outcome"]) == (
        bad,
        champion,
        "rolled_back",
    )
    assert (again["champion"], again["probation"], again["retrain"]) == (champion, None, None)
    changes = station("history", "tiles")["deployments"]
    assert [(each["action"], each["version"]) for each in changes[-2:]] == [
        ("promoted", bad),
        ("rolled_back", champion),
    ]
    assert changes[-1]["actor"] == "halfsigma"
    kinds = [alert["kind"] for alert in station("alerts")["alerts"] if alert["created_at"] >= changes[-2]["at"]]
    assert kinds.count("rolled_back") == 1
