"""A night that drifted, with unlabelled defects in it: who judges them, what a retrain waits for, and what it learns from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.artifact import load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.disturbances.disturbance import Disturbance, disturb
from detectors.families.names import family_named
from detectors.fit import fit_version, prepare, with_responses
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph
from flows.challenger import request_retrain, run_step
from flows.check import check_line
from flows.contact_sheet import write_contact_sheet
from flows.curating import CuratedNight, curate_night
from flows.ingest import ingest
from flows.labelling import label_images
from flows.settings import Settings
from flows.workspace import Workspace
from halfsigma import TooFewImages
from registry import checks, deployment, images, lines, live, outbox, promotion
from registry.checks import NewCheck
from registry.columns import utc_now
from registry.curation import N_TO_LOOK_AT
from registry.database import open_database
from registry.gates import auroc
from registry.tables import Line, Retrain
from tests.registry.fake_store import FakeStore

NIGHT = date(2026, 11, 24)
N_FIT, N_GOOD, N_DEFECT = 60, 90, 18
LINE = "pads"


@dataclass
class Station:
    """A line with its champion, and one blurred night that it has scored."""

    workspace: Workspace
    defects: frozenset[str]
    """SHA-256 of the night's defects, which nobody has labelled."""

    def line(self) -> Line:
        with self.workspace.database.session() as session:
            return lines.get_line(session, LINE)

    def curated(self) -> CuratedNight:
        return curate_night(self.workspace, self.line(), night=NIGHT, base_version=1)

    def asked(self) -> Retrain:
        return request_retrain(self.workspace, LINE, night=NIGHT, base_version=1, reason="drift")

    def say(self, hashes: set[str], as_label: str) -> None:
        if hashes:
            label_images(self.workspace, LINE, sorted(hashes), as_label=as_label)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_night(root / "goods", N_FIT, seed=0)
    write_night(root / "night", N_GOOD, seed=1)
    broken = write_night(root / "broken", N_DEFECT, seed=2, defect=True)
    for k, path in enumerate(list_images(broken)):
        path.rename(root / "night" / f"part{5 * k}b.png")
    for path in list_images(root / "night"):
        blurred = disturb(read_photograph(path).pixels, [Disturbance("defocus", 1.2)], np.random.default_rng(0))
        cv2.imwrite(str(path), blurred)
    return root


@pytest.fixture(scope="module")
def champion(photographs: Path, runtime: FeatureRuntime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    goods = prepare(list_images(photographs / "goods"), framing=Framing(96), white_level=255)
    version = fit_version(goods, family=family_named("patchcore"), runtime=runtime, fpr_budget=0.02, seed=0)
    folder = tmp_path_factory.mktemp("champion") / "version"
    save_version(with_responses(version, goods, seed=0), folder)
    return folder


@pytest.fixture
def station(photographs: Path, champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    store = FakeStore(champion)
    store.add(1)
    settings = Settings(tmp_path, f"sqlite:///{tmp_path / 'halfsigma.db'}", "memory")
    with open_database(settings.database_url) as database:
        workspace = Workspace(settings, database, store)  # type: ignore[arg-type]
        monkeypatch.setattr("detectors.calibration.MAX_FOLDS", 10)  # quick, and of no matter here
        goods = {images.file_sha256(path): path for path in list_images(photographs / "goods")}
        kept = {sha256: str(workspace.vault.keep(LINE, path, sha256)) for sha256, path in goods.items()}
        with database.session() as session:
            line = lines.create_line(session, LINE, detector="patchcore", fpr_budget=0.02)
            images.remember(session, line, {sha256: str(path) for sha256, path in goods.items()})
            images.set_kept(session, line, kept)
            deployment.mirror_version(session, line, 1, champion, store.tags(LINE, 1))
            promotion.deploy_first(session, line, store, 1)  # type: ignore[arg-type]
        ingest(workspace, LINE, photographs / "night", night=NIGHT)
        check_line(workspace, LINE, night=NIGHT)
        defects = frozenset(images.file_sha256(path) for path in (photographs / "night").glob("part*b.png"))
        yield Station(workspace, defects)


def test_a_judge_of_verified_goods_under_the_named_disturbance_finds_the_defects_of_a_night_that_drifted_whole(
    station: Station,
) -> None:
    curated = station.curated()
    assert [each.name for each in curated.core.tonight] == ["defocus"]
    assert 0.8 < curated.core.tonight[0].strength < 1.8
    assert len(curated.transferred) == N_FIT
    scores = curated.curation.suspicion.scores
    bad = np.array([scores[sha256] for sha256 in station.defects])
    good = np.array([score for sha256, score in scores.items() if sha256 not in station.defects])
    assert auroc(good, bad) > 0.95
    assert {each.sha256 for each in curated.curation.to_look_at} >= station.defects
    assert 0.05 < curated.curation.defect_share < 0.4
    assert curated.curation.suspicion.scores == station.curated().curation.suspicion.scores


def test_what_no_check_named_is_told_by_the_patches(station: Station) -> None:
    _forget_the_cause(station)
    (found,) = station.curated().core.tonight
    assert found.name == "defocus" and 0.8 < found.strength < 1.8


def test_where_nothing_is_found_goods_as_they_were_are_aligned_and_judge_and_a_bank_learns_from_them(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.curating.match", lambda *_, **__: ())
    curated = station.curated()
    assert curated.core.tonight == () and len(curated.core.files) == N_FIT
    assert [group["disturbances"] for group in curated.core.to_json()] == [[]]
    scores = curated.curation.suspicion.scores
    bad = np.array([scores[sha256] for sha256 in station.defects])
    good = np.array([score for sha256, score in scores.items() if sha256 not in station.defects])
    assert auroc(good, bad) > 0.95
    assert curated.curation.held_back
    monkeypatch.setattr("flows.curating.HOLDS_SEVERAL_CONDITIONS", ())
    other = station.curated()
    assert other.judge is not None and (other.core.files, other.transferred) == ({}, ())
    assert not other.curation.held_back, "nothing else would teach what is rare"


def test_goods_that_are_too_unlike_the_night_judge_nothing(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.suspicion.FARTHEST_SD", -1e9)
    curated = station.curated()
    assert (curated.judge, curated.transferred, curated.core.files) == (None, (), {})
    assert curated.curation.suspicion.judge == "the champion"


def test_a_night_of_black_frames_has_no_judge_and_says_how_many_images_are_missing(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.curating._faults", lambda images, *_: dict.fromkeys(range(len(images)), "black"))
    with pytest.raises(TooFewImages, match="are missing"):
        station.curated()


def _forget_the_cause(station: Station) -> None:
    with station.workspace.database.session() as session:
        session.connection().exec_driver_sql(
            "UPDATE night_check SET document = json_set(document, '$.main_cause', null)"
        )


def test_a_retrain_of_a_night_with_many_defects_waits_and_goes_on_with_what_people_said(station: Station) -> None:
    waiting = run_step(station.workspace, station.asked().id)
    assert waiting.state == "failed"
    assert "a person has to label the 20 most suspicious ones, 20 of them are not labelled yet" in waiting.reason
    suspects = {each["sha256"] for each in waiting.document["suspects"]}
    assert len(suspects) == N_TO_LOOK_AT and suspects >= station.defects
    with station.workspace.database.session() as session:
        (alert,) = outbox.list_alerts(session)
        assert alert.kind == "retrain_waits_for_labels"

    station.say(suspects & station.defects, "defect")
    assert run_step(station.workspace, station.asked().id).state == "failed"  # half of the answer is none
    station.say(suspects - station.defects, "good")
    curated = run_step(station.workspace, station.asked().id)
    assert curated.state == "curated", curated.reason
    assert curated.document["curation"]["left_out"]["a person called it a defect"] == N_DEFECT
    assert curated.document["curation"]["n_core"] == N_FIT

    veto = json.loads((station.workspace.work_folder(f"retrain-{curated.id}") / "curated.json").read_text())
    vetoed = next(iter(veto["chosen"]))
    station.say({vetoed}, "defect")
    fitted = run_step(station.workspace, curated.id)
    assert fitted.state == "fitted"
    challenger = load_version(station.workspace.work_folder(f"retrain-{curated.id}") / "challenger")
    learned = set(challenger.provenance["fit_images_sha256"])  # type: ignore[call-overload]  # JSON
    reference = challenger.provenance["reference_images_sha256"]
    assert not learned & (station.defects | {vetoed})
    held_back = set(veto["held_back"])
    assert held_back and not learned & held_back
    assert held_back - {vetoed} < set(reference)  # type: ignore[call-overload]  # JSON
    assert len(learned) == N_FIT + len(set(reference) - held_back)  # type: ignore[call-overload]  # JSON
    assert len(challenger.reference_scores) == len(reference)  # type: ignore[arg-type]
    assert not set(reference) & set(veto["core"])  # type: ignore[call-overload]  # JSON
    (group,) = challenger.provenance["transferred"]  # type: ignore[misc]  # JSON
    assert group["disturbances"][0]["name"] == "defocus" and set(group["images_sha256"]) == set(veto["core"])  # type: ignore[index]


def test_the_contact_sheet_shows_every_image_once_and_the_suspects_first(station: Station) -> None:
    sheet = write_contact_sheet(station.workspace, LINE, night=NIGHT, progress=lambda *_: None)
    page = sheet.page.read_text()
    assert len(page) < 8_000_000
    curated = station.curated().curation
    shown = re.findall(r'data-sha256="(\w{64})"', page)
    suspects = [each.sha256 for each in curated.to_look_at]
    assert shown[: len(suspects)] == suspects
    assert sorted(shown[len(suspects) :]) == sorted([*curated.left_out, *(each.sha256 for each in curated.chosen)])
    assert sheet.document["n_chosen"] == len(curated.chosen)
    assert [each["sha256"] for each in sheet.document["to_look_at"]] == suspects
    assert sheet.document["disturbances"].startswith("out of focus")
    assert "not learned from yet" in page and cv2.imread(str(sheet.png)).shape[1] > 1000


def _lose_the_core(station: Station) -> None:
    for path in list(station.workspace.vault.root.rglob("*.png"))[:20]:
        path.write_bytes(b"altered")


def test_a_night_that_was_not_checked_since_its_last_image_is_measured_by_who_curates_it(station: Station) -> None:
    _lose_the_core(station)
    checked = station.curated().curation
    assert checked.defect_share > 0.1 and checked.waits
    with station.workspace.database.session() as session:
        early = NewCheck(station.line().id, 1, NIGHT, "insufficient", {"n": 20, "defect_share": 0.0})
        checks.record_checks(session, [early], at=utc_now() - timedelta(days=1))
    later = station.curated().curation
    with station.workspace.database.session() as session:
        session.connection().exec_driver_sql("DELETE FROM night_check")
    never = station.curated().curation
    for found in (later, never):
        assert (found.defect_share, found.waits) == (checked.defect_share, checked.waits)
        assert [each.sha256 for each in found.chosen] == [each.sha256 for each in checked.chosen]
    with station.workspace.database.session() as session:
        assert checks.get_check(session, station.line(), 1, NIGHT) is None, "who looks records nothing"


def test_defects_that_were_labelled_before_the_check_belong_to_the_night_as_well(station: Station) -> None:
    _lose_the_core(station)
    waiting = station.curated().curation
    seen = [each.sha256 for each in waiting.to_look_at if each.sha256 in station.defects][: N_DEFECT // 2]
    station.say(set(seen), "defect")
    assert check_line(station.workspace, LINE, night=NIGHT).verdict.defect_share < 0.1
    again = station.curated().curation
    assert again.defect_share >= len(seen) / (N_GOOD + N_DEFECT)
    assert waiting.waits and again.waits, "half of the answer is none"


def test_of_several_nights_the_share_of_defects_is_that_of_them_all(
    station: Station, tmp_path: Path, write_night: Callable[..., Path]
) -> None:
    """Those that people labelled in an earlier night were never in the share of the last: they are not taken from it."""
    _lose_the_core(station)
    station.say(set(station.defects), "defect")
    last = NIGHT + timedelta(1)
    folder = write_night(tmp_path / "last", N_GOOD, seed=3)
    write_night(tmp_path / "broken", 6, seed=4, defect=True)
    for path in (tmp_path / "broken").iterdir():
        path.rename(folder / f"{path.stem}b.png")
    for path in list_images(folder):
        blurred = disturb(read_photograph(path).pixels, [Disturbance("defocus", 1.2)], np.random.default_rng(0))
        cv2.imwrite(str(path), blurred)
    unlabelled = {images.file_sha256(path) for path in folder.glob("*b.png")}
    ingest(station.workspace, LINE, folder, night=last)
    check_line(station.workspace, LINE, night=last)
    with station.workspace.database.session() as session:
        checks_of = {night: live.night_as_seen(session, station.line(), 1, night) for night in (NIGHT, last)}
    assert checks_of[last]["changed_on"] == NIGHT.isoformat()
    curation = curate_night(station.workspace, station.line(), night=last, base_version=1).curation
    expected = N_DEFECT + checks_of[last]["defect_share"] * checks_of[last]["n"]
    assert curation.defect_share == pytest.approx(expected / (2 * N_GOOD + N_DEFECT + 6), abs=0.02)
    left_out = {sha256 for sha256, why in curation.left_out.items() if why.startswith("suspect")}
    assert len(left_out & unlabelled) >= 4


def test_a_core_that_the_vault_has_lost_leaves_the_champion_as_judge(station: Station) -> None:
    _lose_the_core(station)
    curated = station.curated()
    assert (curated.judge, curated.transferred) == (None, ())
    assert not curated.core.files
