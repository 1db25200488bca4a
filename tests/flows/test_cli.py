"""The command line's contract: keys, one document on stdout, exit statuses, and a remedy with every error."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flows import cli
from migrations import VERSION_TABLE

FIT = 0
Home = tuple[Path, list[Any]]

CONTRACT = {
    0: {"line", "version", "detector", "n_fit", "n_reference", "threshold", "reference", "seconds"},
    2: {"auroc", "fpr", "recall", "n_good", "n_defect", "latency_ms", "peak_rss_mb"},
    3: {"line", "night", "version", "n_scored", "n_new", "n_unreadable", "n_reject", "unreadable"},
    5: {"line", "night", "version", "verdict", "n", "n_effective", "shift_sd", "shift_ci", "bulk_shift_sd"}
    | {"bulk_shift_ci", "ks", "causes", "explanation"},
    6: {"n_labelled"},
    7: {"n_new"},
    11: {"lines"},
    12: {"alerts"},
}


def test_every_command_ends_with_status_0_and_one_json_document_on_stdout(fitted_home: Home) -> None:
    for said in fitted_home[1]:
        assert said.status == 0, said
        assert isinstance(said.document, dict)
        assert "Traceback" not in said.err


@pytest.mark.parametrize("index", CONTRACT)
def test_a_document_has_the_keys_of_the_contract(fitted_home: Home, index: int) -> None:
    said = fitted_home[1][index]
    assert CONTRACT[index] <= said.document.keys(), said.argv


def test_nested_documents_have_theirs(fitted_home: Home) -> None:
    said = fitted_home[1]
    assert said[0].document["reference"].keys() == {"mean", "sd", "n"}
    assert said[2].document["latency_ms"].keys() == {"median", "p95"}
    assert said[5].document["ks"].keys() == {"statistic", "p", "q"}
    assert len(said[5].document["shift_ci"]) == len(said[5].document["bulk_shift_ci"]) == 2
    line = next(each for each in said[11].document["lines"] if each["line"] == "pad")
    assert {
        "line",
        "detector",
        "champion",
        "challenger",
        "previous",
        "policy",
        "last_check",
        "last_retrain",
    } <= line.keys()


def test_a_fit_says_what_it_used_and_the_same_images_are_the_same_version(fitted_home: Home) -> None:
    first, again = fitted_home[1][0].document, fitted_home[1][1].document
    assert (first["version"], first["n_fit"], first["n_reference"], first["deployed"]) == (1, 40, 40, True)
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_broken_files_of_a_night_are_listed_and_the_rest_goes_on(fitted_home: Home) -> None:
    document = fitted_home[1][3].document
    assert (document["n_scored"], document["n_new"], document["n_unreadable"]) == (40, 40, 2)
    assert sorted(Path(each["image"]).name for each in document["unreadable"]) == ["cut.jpg", "notes.png"]
    assert all(each["reason"] for each in document["unreadable"])


def test_ingesting_twice_changes_nothing(fitted_home: Home) -> None:
    first, again = fitted_home[1][3].document, fitted_home[1][4].document
    assert {**again, "n_new": 40} == first
    assert again["n_new"] == 0
    assert fitted_home[1][5].document["n"] == 40


def test_a_quiet_night_is_no_drift_and_defects_are_told_from_goods(fitted_home: Home) -> None:
    assert fitted_home[1][5].document["verdict"] not in ("drift", "sensor_fault")
    assert fitted_home[1][2].document["auroc"] > 0.9


def test_scores_of_another_detector_are_logged_once(fitted_home: Home) -> None:
    said = fitted_home[1]
    assert (said[7].document["n_new"], said[8].document["n_new"]) == (80, 0)
    press = next(each for each in said[11].document["lines"] if each["line"] == "press")
    assert (press["detector"], press["champion"]) == ("foreign", 1)


@pytest.fixture(scope="module")
def refused(
    fitted_home: Home, nights: Path, commands: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Every bad input, in one process on a copy of the home."""
    root = tmp_path_factory.mktemp("refused")
    home = Path(shutil.copytree(fitted_home[0], root / "home"))
    (root / "empty").mkdir()
    (root / "a file").write_text("in the way of a folder")
    newer = root / "newer"
    newer.mkdir()
    with sqlite3.connect(newer / "halfsigma.db") as database:
        database.execute(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL)")
        database.execute(f"INSERT INTO {VERSION_TABLE} VALUES ('9999')")
    database.close()
    few = root / "few"
    few.mkdir()
    for k in range(5):
        shutil.copy(nights / "goods" / f"part{k}.png", few)
    cv2.imwrite(str(few / "dot.png"), np.zeros((1, 1), np.uint8))
    mixed = root / "mixed"
    mixed.mkdir()
    part = cv2.imread(str(nights / "goods" / "part0.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(mixed / "deep.png"), part.astype(np.uint16) * 257)
    cv2.imwrite(str(mixed / "colour.jpg"), np.repeat(cv2.resize(part, (224, 192))[:, :, None], 3, axis=2))
    cv2.imwrite(str(mixed / "dot.png"), np.zeros((1, 1), np.uint8))
    cases: dict[str, Any] = {
        "empty folder": ("ingest", "pad", root / "empty", "--night", "2026-11-22", "--json"),
        "missing folder": ("fit", "new", "--good", root / "nowhere", "--json"),
        "too few": ("fit", "new", "--good", few, "--json"),
        "unknown line": ("check", "nosuch", "--night", "2026-11-20", "--json"),
        "unknown line in a flow": ("status", "nosuch", "--json"),
        "bad night": ("ingest", "pad", nights / "quiet", "--night", "20.11.2026", "--json"),
        "impossible night": ("check", "pad", "--night", "2026-02-30", "--json"),
        "bad name": ("fit", "../up", "--good", nights / "goods", "--json"),
        "bad detector": ("fit", "new", "--good", nights / "goods", "--detector", "yolo", "--json"),
        "bad label": ("label", "pad", nights / "quiet" / "part1.png", "--as", "ugly", "--json"),
        "unseen image": ("label", "pad", nights / "defects" / "part1.png", "--as", "defect", "--json"),
        "nan": ("log", "press", "--csv", nights / "nan.csv", "--json"),
        "csv of our line": ("log", "pad", "--csv", nights / "scores.csv", "--json"),
        "no challenger": ("promote", "pad", "--json"),
        "no such version": ("promote", "pad", "--version", "7", "--json"),
        "no previous": ("rollback", "pad", "--json"),
        "foreign ingest": ("ingest", "press", nights / "quiet", "--night", "2026-11-22", "--json"),
        "foreign fit": ("fit", "press", "--good", nights / "goods", "--json"),
        "foreign retrain": ("retrain", "press", "--json"),
        "foreign promote": ("promote", "press", "--version", "1", "--json"),
        "kind of a good image": (
            *("label", "pad", nights / "quiet" / "part1.png", "--as", "good", "--kind", "crack", "--json"),
        ),
        "no such budget": ("configure", "pad", "--retrain-budget", "0", "--json"),
        "history of an unseen image": ("history", "pad", "--sha256", "0" * 64, "--json"),
        "history of no instant": ("history", "pad", "--at", "last week", "--json"),
        "history of no hash": ("history", "pad", "--sha256", "abc", "--json"),
        "no such option": ("check", "pad", "--when", "now", "--json"),
        "no such command": ("frobnicate", "--json"),
        "missing option": ("ingest", "pad", nights / "quiet", "--json"),
        "home is a file": {
            "argv": ["status", "--json"],
            "env": {"HALFSIGMA_HOME": str(root / "a file")},
        },
        "home cannot be made": {"argv": ["status", "--json"], "env": {"HALFSIGMA_HOME": "/proc/halfsigma"}},
        "newer database": {"argv": ["status", "--json"], "env": {"HALFSIGMA_HOME": str(newer)}},
        "bad database address": {"argv": ["status", "--json"], "env": {"HALFSIGMA_DATABASE_URL": "oracle://here"}},
        "webhook without secret": {"argv": ["status", "--json"], "env": {"HALFSIGMA_WEBHOOK_URL": "http://here"}},
        "home that is no address": {"argv": ["status", "--json"], "env": {"HALFSIGMA_HOME": str(newer) + "?b"}},
        "huge version": ("promote", "pad", "--version", 10**20, "--json"),
        "nobody promotes": ("promote", "pad", "--version", 1, "--by", " ", "--json"),
        "unknown line tonight": ("nightly", "--line", "nosuch", "--json"),
        "for people": ("check", "nosuch", "--night", "2026-11-20"),
        "mixed": ("ingest", "pad", mixed, "--night", "2026-11-22", "--json"),
        "afterwards": ("status", "--json"),
        "press afterwards": ("log", "press", "--csv", nights / "scores.csv", "--json"),
    }
    given = [each if isinstance(each, dict) else {"argv": [str(word) for word in each]} for each in cases.values()]
    return dict(zip(cases, commands(home, given), strict=True))


@pytest.mark.parametrize(
    ("case", "status", "kind", "message"),
    [
        ("empty folder", 1, "ImageError", "holds no image"),
        ("missing folder", 1, "ImageError", "does not exist"),
        ("too few", 1, "TooFewImages", "5 distinct readable images of 6 files"),
        ("unknown line", 1, "UnknownLine", "'nosuch'; known lines: pad, press"),
        ("unknown line in a flow", 1, "UnknownLine", "nosuch"),
        ("bad night", 2, "UsageError", "'20.11.2026' is not a date, expected YYYY-MM-DD"),
        ("impossible night", 2, "UsageError", "2026-02-30"),
        ("bad name", 2, "UsageError", "line name '../up'"),
        ("bad detector", 2, "UsageError", "no detector family 'yolo'"),
        ("bad label", 2, "UsageError", "label 'ugly'"),
        ("unseen image", 1, "UnknownImage", "never saw"),
        ("nan", 1, "ScoreError", "nan.csv, line 3: score 'nan'"),
        ("csv of our line", 1, "RegistryError", "scored by its own patchcore"),
        ("no challenger", 1, "UnknownVersion", "no challenger"),
        ("no such version", 1, "UnknownVersion", "no version 7"),
        ("no previous", 1, "UnknownVersion", "no previous version"),
        ("foreign ingest", 1, "RegistryError", "not halfsigma's"),
        ("foreign fit", 1, "RegistryError", "not halfsigma's"),
        ("foreign retrain", 1, "RegistryError", "not halfsigma's"),
        ("foreign promote", 1, "RegistryError", "not halfsigma's"),
        ("kind of a good image", 2, "UsageError", "kind 'crack' of a good"),
        ("no such budget", 2, "UsageError", "retrain budget 0, expected 1 to 30"),
        ("history of an unseen image", 1, "UnknownImage", "never judged the image 000000000000"),
        ("history of no instant", 2, "UsageError", "'last week' is neither a date nor an instant"),
        ("history of no hash", 2, "UsageError", "'abc' is no SHA-256"),
        ("no such option", 2, "UsageError", "--when"),
        ("no such command", 2, "UsageError", "frobnicate"),
        ("missing option", 2, "UsageError", "--night"),
        ("home is a file", 1, "RegistryError", "HALFSIGMA_HOME"),
        ("home cannot be made", 1, "RegistryError", "HALFSIGMA_HOME /proc/halfsigma cannot be written"),
        ("newer database", 1, "DatabaseError", "9999"),
        ("bad database address", 1, "DatabaseError", "oracle"),
        ("webhook without secret", 2, "UsageError", "HALFSIGMA_WEBHOOK_SECRET"),
        ("home that is no address", 2, "UsageError", "takes ? and % for something else"),
        ("huge version", 2, "UsageError", "less than or equal to 2147483647"),
        ("nobody promotes", 2, "UsageError", "name of who promotes is empty"),
        ("unknown line tonight", 1, "UnknownLine", "no line 'nosuch'"),
    ],
)
def test_bad_input_is_one_clear_error_with_its_remedy(
    refused: dict[str, Any], case: str, status: int, kind: str, message: str
) -> None:
    said = refused[case]
    error = said.document["error"]
    assert (said.status, error["type"]) == (status, kind), said
    assert message in error["message"]
    assert error["message"] in said.err
    assert "Traceback" not in said.err
    assert error["hint"]
    assert error["hint"] in said.err


def test_without_json_an_error_leaves_stdout_empty(refused: dict[str, Any]) -> None:
    assert (refused["for people"].status, refused["for people"].out) == (1, "")
    assert refused["for people"].err.startswith("halfsigma: no line 'nosuch'")


def test_images_of_another_size_are_judged_and_of_another_depth_or_no_size_are_listed(refused: dict[str, Any]) -> None:
    document = refused["mixed"].document
    reasons = {Path(each["image"]).name: each["reason"] for each in document["unreadable"]}
    assert (document["n_scored"], document["n_new"]) == (1, 1)
    assert "1 × 1 px" in reasons["dot.png"]
    assert "16-bit" in reasons["deep.png"]


def test_nothing_is_lost_by_all_of_that(refused: dict[str, Any]) -> None:
    lines = {each["line"]: each for each in refused["afterwards"].document["lines"]}
    assert lines.keys() == {"pad", "press"}
    assert (lines["pad"]["champion"], lines["press"]["champion"]) == (1, 1)
    assert refused["press afterwards"].document["n_new"] == 0


def test_while_mlflow_is_away_ingest_check_and_status_go_on(
    fitted_home: Home, nights: Path, commands: Callable[..., list[Any]], tmp_path: Path
) -> None:
    home = Path(shutil.copytree(fitted_home[0], tmp_path / "home"))
    ingested, checked, shown, fitted = commands(
        home,
        [
            ("ingest", "pad", nights / "defects", "--night", "2026-11-25", "--json"),
            ("check", "pad", "--night", "2026-11-25", "--json"),
            ("status", "pad", "--json"),
            ("promote", "pad", "--version", "1", "--json"),
        ],
        MLFLOW_TRACKING_URI="http://127.0.0.1:9",
    )
    assert (ingested.status, ingested.document["n_new"]) == (0, 6), ingested
    assert (checked.status, checked.document["n"]) == (0, 6), checked
    assert shown.document["lines"][0]["mlflow"] == "away"
    assert shown.document["lines"][0]["champion"] == 1
    assert (fitted.status, fitted.document["error"]["type"]) == (1, "StoreError")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import main; main(['--help']); "
        "heavy = {'torch', 'timm', 'faiss', 'openvino', 'mlflow', 'prefect', 'sqlalchemy', 'evidently', 'pandas', "
        "'numpy', 'scipy', 'cv2', 'PIL', 'matplotlib', 'fastapi'}; "
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.endswith("heavy: []\n")
    for command in ("fit", "evaluate", "ingest", "label", "log", "check", "nightly", "retrain", "promote", "rollback"):
        assert command in done.stdout


def test_an_interruption_is_no_fault_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.Settings, "from_environment", interrupt)
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err.strip() == "halfsigma: interrupted; run the command again to go on"


def test_evidentlys_report_lies_beside_the_version_in_mlflow_when_it_is_asked_for(
    fitted_home: Home, commands: Callable[..., list[Any]]
) -> None:
    home = fitted_home[0]
    plain, said, foreign = commands(
        home,
        [
            ("check", "pad", "--night", "2026-11-20", "--json"),
            ("check", "pad", "--night", "2026-11-20", "--evidently", "--json"),
            ("check", "press", "--night", "2026-11-20", "--evidently", "--json"),
        ],
    )
    assert "evidently" not in plain.document
    page = Path(said.document["evidently"])
    assert "<html" in page.read_text() and "brightness" in page.read_text()
    beside = list((home / "mlartifacts").rglob("nights/2026-11-20/evidently.html"))
    assert [path.read_bytes() for path in beside] == [page.read_bytes()]
    assert Path(foreign.document["evidently"]).is_file()
    assert {key: value for key, value in said.document.items() if key != "evidently"} == plain.document
