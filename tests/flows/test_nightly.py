"""The closed loop under Prefect: drift is answered once, told once, and can be undone."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from registry.images import file_sha256
from registry.webhook import sign

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DRIFTED = "2026-11-21"


@pytest.fixture(scope="module")
def looped_home(fitted_home: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(fitted_home[0], tmp_path_factory.mktemp("loop") / "home"))


@pytest.fixture(scope="module")
def loop(
    looped_home: Path,
    nights: Path,
    receiver: Any,
    commands: Callable[..., list[Any]],
    write_night: Callable[..., Path],
) -> list[Any]:
    home = looped_home
    after = write_night(nights / "after", 40, seed=12, blur_px=1.5)
    hook = {"HALFSIGMA_WEBHOOK_URL": receiver.url, "HALFSIGMA_WEBHOOK_SECRET": SECRET}
    (nights / "shifted.csv").write_text(
        "captured_at,image,score\n"
        + "".join(f"2026-11-23T0{k // 60}:{k % 60:02d}:00,q{k}.png,{7 + k * 7 % 11 / 10}\n" for k in range(120))
    )
    nightly = ("nightly", "--night", DRIFTED, "--json")
    return commands(
        home,
        [
            nightly,
            nightly,
            ("alerts", "--json"),
            ("ingest", "pad", after, "--night", "2026-11-22", "--json"),
            ("nightly", "--night", "2026-11-22", "--line", "pad", "--json"),
            ("rollback", "pad", "--json"),
            ("promote", "pad", "--version", "2", "--json"),
            ("status", "pad", "--json"),
            ("log", "press", "--csv", nights / "shifted.csv", "--json"),
            ("nightly", "--night", "2026-11-23", "--line", "press", "--json"),
            ("history", "pad", "--json"),
            ("history", "pad", "--image", after / "part0.png", "--json"),
            ("history", "pad", "--sha256", file_sha256(nights / "quiet" / "part0.png"), "--json"),
            ("history", "pad", "--at", "2026-11-19", "--json"),
            ("history", "pad", "--image", after / "part0.png"),
            ("label", "pad", after / "part1.png", "--as", "defect", "--kind", "dent", "--json"),
            ("fit", "pad", "--good", after, "--json"),
        ],
        **hook,
    )


def _pad(said: Any) -> Any:
    return next(each for each in said.document["lines"] if each["line"] == "pad")


def test_every_step_of_the_loop_ends_well(loop: list[Any]) -> None:
    for said in loop:
        assert said.status == 0, said


def test_a_drifted_night_is_retrained_and_promoted_in_one_run(loop: list[Any]) -> None:
    night, pad = loop[0].document, _pad(loop[0])
    assert {"night", "flow_run_id", "lines"} <= night.keys()
    assert {"line", "check", "action", "retrain", "champion"} <= pad.keys()
    assert (pad["check"]["verdict"], pad["action"], pad["champion"]) == ("drift", "retrain", 2)
    assert {"id", "state", "gates"} <= pad["retrain"].keys()
    assert pad["retrain"]["state"] == "promoted"
    for gate in pad["retrain"]["gates"]:
        assert {"name", "passed", "value", "limit"} <= gate.keys()
        assert gate["passed"] is True


def test_the_same_night_again_changes_nothing(loop: list[Any]) -> None:
    first, again = _pad(loop[0]), _pad(loop[1])
    assert again["champion"] == 2
    assert again["retrain"] == first["retrain"]
    assert again["check"]["verdict"] == "drift"


def test_the_receiver_hears_of_the_drift_once_and_signed(loop: list[Any], receiver: Any) -> None:
    by_kind: dict[str, list[Any]] = {}
    for headers, body in receiver.messages:
        by_kind.setdefault(json.loads(body)["type"], []).append((headers, body))
    ((headers, body),) = [each for each in by_kind["drift"] if json.loads(each[1])["data"]["line"] == "pad"]
    expected = sign(SECRET, message_id=headers["webhook-id"], timestamp_s=int(headers["webhook-timestamp"]), body=body)
    assert headers["webhook-signature"] == expected
    message = json.loads(body)
    assert (message["data"]["line"], message["data"]["night"]) == ("pad", DRIFTED)
    delivered = {(each["kind"], each["state"]) for each in loop[2].document["alerts"]}
    assert {("drift", "delivered"), ("promoted", "delivered")} <= delivered
    assert {"id", "line", "kind", "state", "attempts", "created_at", "delivered_at"} <= loop[2].document["alerts"][
        0
    ].keys()


def test_the_night_after_under_the_new_conditions_is_no_drift(loop: list[Any]) -> None:
    pad = _pad(loop[4])
    assert pad["check"]["version"] == 2
    assert pad["check"]["verdict"] not in ("drift", "sensor_fault")
    assert pad["retrain"] is None


def test_a_rollback_restores_the_old_champion_and_a_person_may_promote_again(loop: list[Any]) -> None:
    assert {"line", "champion", "previous", "challenger", "state"} <= loop[5].document.keys()
    assert (loop[5].document["champion"], loop[5].document["previous"]) == (1, None)
    assert (loop[6].document["champion"], loop[6].document["previous"]) == (2, 1)
    assert _pad(loop[7])["last_retrain"]["state"] == "promoted"


def test_a_detector_that_is_not_ours_is_watched_and_its_drift_is_told_not_retrained(
    loop: list[Any], receiver: Any
) -> None:
    (press,) = loop[9].document["lines"]
    assert press["check"]["verdict"] == "drift"
    assert (press["action"], press["retrain"], press["champion"]) == ("alert", None, 1)
    lines = [json.loads(body)["data"]["line"] for _, body in receiver.messages if json.loads(body)["type"] == "drift"]
    assert lines == ["pad", "press"]


def test_the_history_tells_every_change_with_who_and_why(loop: list[Any]) -> None:
    changes = loop[10].document["deployments"]
    assert [(each["action"], each["version"], each["replaced"]) for each in changes] == [
        ("deployed", 1, None),
        ("promoted", 2, 1),
        ("rolled_back", 1, 2),
        ("promoted", 2, 1),
    ]
    assert [each["actor"] for each in changes[:2]] == ["halfsigma", "halfsigma"]
    assert changes[2]["actor"] == changes[3]["actor"] != "halfsigma"
    made = changes[1]["made"]
    assert made["base_version"] == 1
    assert made["night"] == DRIFTED
    assert made["n_images"] > 40
    assert {gate["name"] for gate in made["gates"]} >= {"false_positives", "round_trip"}
    assert len(made["images_sha256"]) == len(made["code"]["source_sha256"]) == len(made["code"]["lock_sha256"]) == 64
    assert "drift" in changes[1]["reason"].lower() or "shift" in changes[1]["reason"].lower()


def test_the_history_tells_which_version_judged_an_image_and_why_it_was_there(loop: list[Any]) -> None:
    after, quiet, early = (loop[index].document for index in (11, 12, 13))
    assert (after["version"], after["judgement"]["night"], after["deployment"]["version"]) == (2, "2026-11-22", 2)
    assert "instead of version 1" in after["explanation"]
    assert (quiet["version"], quiet["deployment"]["action"]) == (1, "deployed")
    assert (early["version"], early["deployments"]) == (None, [])
    assert "all 6 passed" in loop[14].out or "all 5 passed" in loop[14].out


def test_mlflow_shows_who_deployed_a_version_why_and_of_what(loop: list[Any], looped_home: Path) -> None:
    with sqlite3.connect(looped_home / "mlflow.db") as database:
        rows = database.execute("SELECT version, key, value FROM model_version_tags WHERE name = 'halfsigma.pad'")
        tags = {(version, key): value for version, key, value in rows}
        folders = [Path(urlsplit(uri).path) for (uri,) in database.execute("SELECT artifact_uri FROM runs")]
    database.close()
    made = loop[10].document["deployments"][1]["made"]
    assert tags[2, "halfsigma.images_sha256"] == made["images_sha256"]
    assert tags[2, "halfsigma.lock_sha256"] == made["code"]["lock_sha256"]
    assert tags[2, "halfsigma.deployed_by"] == loop[10].document["deployments"][3]["actor"]
    kept = [folder / "audit" / "deployments.json" for folder in folders]
    told = [[change["version"] for change in json.loads(path.read_text())] for path in kept if path.is_file()]
    assert sorted(told) == [[1, 2, 1], [1, 2, 1, 2]]  # each version's as it was when it became champion last


def test_a_fit_leaves_out_what_a_person_called_a_defect(loop: list[Any]) -> None:
    assert loop[15].document == {"line": "pad", "label": "defect", "kind": "dent", "n_labelled": 1}
    fitted = loop[16].document
    assert (fitted["n_fit"], fitted["deployed"], fitted["place"]) == (39, False, "challenger")
    assert fitted["next"] == f"halfsigma promote pad --version {fitted['version']} deploys it"
