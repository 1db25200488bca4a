"""The bake-off on a procedural part, and its recommendation on hand-made measurements."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors import calibration
from detectors.backbones.resolution import FramePlan
from detectors.backbones.runtime import FeatureRuntime
from detectors.disturbances.disturbance import Disturbance
from detectors.families.names import FAMILIES
from detectors.families.padim import Padim
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.protocol import FitContext, Fitted
from flows import cli_trials
from flows.bakeoff import running
from flows.bakeoff.contest import Images
from flows.bakeoff.document import bakeoff_document, bakeoff_for_people
from flows.bakeoff.material import LEAST_GOODS, choose_material
from flows.bakeoff.page import write_page
from flows.bakeoff.recommending import Situation, recommend
from flows.bakeoff.result import Bakeoff, Entry
from flows.bakeoff.running import run_bakeoff
from flows.bakeoff.station import measure_station
from flows.known_defects import known_defects
from flows.settings import Settings
from flows.workspace import Workspace, open_workspace
from halfsigma import DetectorError, TooFewImages, UsageError
from registry import images, lines

CONTRACT = {"auroc", "latency_ms", "memory_mb", "fit_s", "retrain_s", "auroc_after_drift"}
MINUTES = 30.0
SITUATION = Situation(n_fit=300, latency_budget_ms=None, has_defects=True, is_texture=False)


class Endless(Padim):
    """A family that somebody added, and that never ends."""

    family: ClassVar[str] = "endless"

    @classmethod
    def fit(cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext) -> Fitted[Any]:  # type: ignore[override]
        step = 0
        while True:
            context.progress("training", step, 10**9)
            time.sleep(0.01)
            step += 1


class Broken(Padim):
    """One that cannot learn these images."""

    family: ClassVar[str] = "broken"

    @classmethod
    def fit(cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext) -> Fitted[Any]:  # type: ignore[override]
        raise DetectorError("the loss is nan at step 3 of 100")


class Greedy(Padim):
    """One that this machine's memory is too small for."""

    family: ClassVar[str] = "greedy"

    @classmethod
    def fit(cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext) -> Fitted[Any]:  # type: ignore[override]
        raise MemoryError("Unable to allocate 3.1 GiB")


class Fragile(Padim):
    """A PaDiM, so that a station can load it, that can be fitted and not retrained."""

    @classmethod
    def fit(cls, canvases: Sequence[NDArray[np.uint8]], *, runtime: FeatureRuntime, context: FitContext) -> Fitted[Any]:  # type: ignore[override]
        if context.warm_start is not None:
            raise np.linalg.LinAlgError("Singular matrix")
        return super().fit(canvases, runtime=runtime, context=context)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("bakeoff") / "home"
    with open_workspace(Settings.from_environment({"HALFSIGMA_HOME": str(home)})) as opened:
        yield opened


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    return write_night(tmp_path_factory.mktemp("bakeoff") / "goods", LEAST_GOODS, seed=11)


@pytest.fixture(scope="module")
def flaws(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    return write_night(tmp_path_factory.mktemp("bakeoff") / "defects", 26, seed=12, defect=True)


@pytest.fixture(scope="module")
def bakeoff(workspace: Workspace, parts: Path, flaws: Path) -> Bakeoff:
    families = {name: FAMILIES[name] for name in ("padim", "patchcore")} | {
        "broken": Broken,
        "greedy": Greedy,
        "fragile": Fragile,
    }
    with pytest.MonkeyPatch.context() as quick:
        for name in ("MIN_FOLDS", "MAX_FOLDS"):
            quick.setattr(calibration, name, 4)
        return run_bakeoff(workspace, "pad", good_folder=parts, defect_folder=flaws, minutes=MINUTES, families=families)


def _entry(family: str, rng: np.random.Generator, *, distance: float, latency_ms: float = 10.0) -> Entry:
    good, defect = rng.normal(size=100), rng.normal(distance, 1.0, 100)
    ordered = (good[:, None] < defect[None]).mean()
    return Entry(family, good, defect, float(ordered), 0.01, {}, 1.0, latency_ms, latency_ms, 300.0)


def test_every_family_is_measured_in_every_column(bakeoff: Bakeoff) -> None:
    measured = {entry.family: entry for entry in bakeoff.entries}
    assert set(measured) == {"padim", "patchcore", "fragile"}
    for entry in (measured["padim"], measured["patchcore"]):
        assert entry.missing == {}
        assert entry.auroc > 0.95  # a black square on gravel
        assert set(entry.by_kind) == {"sharp", "textural", "low-contrast"}
        assert 0.0 < entry.latency_ms <= entry.latency_p95_ms
        assert entry.memory_mb > 50
        assert entry.retrain_s is not None and entry.retrain_s > 0
        assert entry.auroc_after_drift is not None and entry.auroc_after_drift > 0.9
        assert entry.fpr_drifted is not None and entry.fpr_after_drift is not None
        assert entry.fpr_after_drift < entry.fpr_drifted
        assert entry.auroc_dirty is not None
    assert bakeoff.recommendation.family in measured


def test_a_family_that_fails_in_whatever_way_costs_the_others_nothing(bakeoff: Bakeoff) -> None:
    assert bakeoff.failed == {
        "broken": "the loss is nan at step 3 of 100",
        "greedy": "unexpected MemoryError: Unable to allocate 3.1 GiB",
    }
    (fragile,) = (entry for entry in bakeoff.entries if entry.family == "fragile")
    assert fragile.missing == {"retrain": "unexpected LinAlgError: Singular matrix"}
    assert fragile.auroc_dirty is not None


def test_the_line_is_neither_made_nor_changed(bakeoff: Bakeoff, workspace: Workspace) -> None:
    with workspace.database.session() as session:
        assert lines.list_lines(session) == []


def test_no_image_is_in_two_places(bakeoff: Bakeoff) -> None:
    material = bakeoff.material
    drawn = [each.sha256 for part in (material.fit, material.fresh, material.held_out) for each in part]
    assert len(drawn) == len(set(drawn)) == LEAST_GOODS
    assert not {each.sha256 for each in material.labelled} & {each.sha256 for each in material.dirt}


def test_the_document_has_the_contracts_keys_and_is_plain_json(
    bakeoff: Bakeoff, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(json.dumps(bakeoff_document(bakeoff, "page.html"), allow_nan=False))
    assert {"line", "recommended", "because", "families"} <= set(document)
    for each in document["families"]:
        assert set(each) >= CONTRACT
    bakeoff_for_people(document)
    shown = capsys.readouterr().out
    assert f"{document['recommended']} ←" in shown and "the loss is nan" in shown


def test_the_page_shows_the_matrix_and_needs_nothing_but_itself(bakeoff: Bakeoff, tmp_path: Path) -> None:
    text = write_page(bakeoff, tmp_path / "bakeoff.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    for entry in bakeoff.entries:
        assert f"{entry.auroc:.3f}" in text and f"{entry.latency_ms:.1f}" in text
    assert "the loss is nan" in text
    assert f"use {bakeoff.recommendation.family}" in text


def test_a_family_that_somebody_registers_appears_and_one_too_slow_is_ended(
    workspace: Workspace, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(FAMILIES):
        monkeypatch.delitem(FAMILIES, name)
    monkeypatch.setitem(FAMILIES, "endless", Endless)
    monkeypatch.setattr(running, "MOST_PREPARING", float("inf"))
    done = run_bakeoff(workspace, "pad", good_folder=parts, defect_folder=None, minutes=1 / 60)
    assert done.entries == ()
    assert "needs more than" in done.failed["endless"]
    assert done.recommendation.family is None
    document = bakeoff_document(done, "page.html")
    assert document["defects"] == "synthetic" and "no forecast" in document["caveat"]


def test_too_few_goods_are_refused_with_the_number(parts: Path) -> None:
    with pytest.raises(TooFewImages, match=f"60 distinct readable good images, expected at least {LEAST_GOODS}"):
        choose_material(list_images(parts)[:60], None, known_defects=frozenset(), white_level=255, seed=0)


def test_a_budget_that_the_images_alone_would_take_is_said_with_a_better_one(workspace: Workspace, parts: Path) -> None:
    told: list[str] = []
    with pytest.raises(UsageError, match=r"preparing 1 of \d+ took \d+\.\d of 0\.001 minutes") as raised:
        run_bakeoff(
            workspace,
            "pad",
            good_folder=parts,
            defect_folder=None,
            minutes=0.001,
            progress=lambda what, done, total: told.append(what),
        )
    assert re.fullmatch(r"give --minutes \d+", raised.value.hint)
    assert set(told) == {"images"}, "what was prepared was too late already"


def test_the_preparation_is_shown_and_counted(parts: Path) -> None:
    paths = list_images(parts)
    material = choose_material(paths, None, known_defects=frozenset(), white_level=255, seed=0)
    told: list[tuple[str, int, int]] = []
    prepared = Images.of(
        material,
        FramePlan(Framing(64), 255, 100.0),
        drift=Disturbance("defocus", 1.5),
        seed=0,
        progress=lambda *what: told.append(what),
    )
    total = told[0][2]
    assert told == [("preparing", done, total) for done in range(1, total + 1)]
    assert len(prepared.drifted_deciding) == 3 * len(material.held_out)


def test_known_defects_among_the_goods_are_left_out_of_them_and_counted(
    parts: Path, flaws: Path, tmp_path: Path, write_night: Callable[..., Path]
) -> None:
    """The folder of defects lies in that of the goods, and one part was labelled a defect."""
    labelled = write_night(tmp_path / "labelled", 1, seed=13) / "part0.png"
    goods = tmp_path / "all"
    shutil.copytree(parts, goods)
    shutil.copytree(flaws, goods / "defects")
    shutil.copy(labelled, goods / "labelled.png")
    with (
        open_workspace(Settings.from_environment({"HALFSIGMA_HOME": str(tmp_path / "home")})) as workspace,
        workspace.database.session() as session,
    ):
        line = lines.create_line(session, "pad", detector="padim")
        images.remember(session, line, {images.file_sha256(labelled): str(labelled)})
        images.label(session, line, [labelled], "defect")
        known = known_defects(session, line, list_images(goods / "defects"))
    assert len(known) == 27
    material = choose_material(
        list_images(goods), list_images(goods / "defects"), known_defects=known, white_level=255, seed=0
    )
    drawn = {each.sha256 for part in (material.fit, material.fresh, material.held_out) for each in part}
    assert len(drawn) == LEAST_GOODS
    assert not drawn & known
    assert material.n_left_out_defects == 27


def test_the_page_leaves_out_an_example_that_has_gone(bakeoff: Bakeoff, tmp_path: Path) -> None:
    whole = write_page(bakeoff, tmp_path / "whole.html").read_text()
    gone = bakeoff.material.held_out[0].path
    gone.rename(tmp_path / "gone.png")
    try:
        text = write_page(bakeoff, tmp_path / "bakeoff.html").read_text()
    finally:
        (tmp_path / "gone.png").rename(gone)
    assert 0 < whole.count("<img") - text.count("<img") <= 4
    assert f"use {bakeoff.recommendation.family}" in text


def test_the_result_is_shown_where_its_page_cannot_be_written(
    bakeoff: Bakeoff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reports").write_text("in the way")
    monkeypatch.setenv("HALFSIGMA_HOME", str(tmp_path))
    monkeypatch.setattr(running, "run_bakeoff", lambda *_, **__: bakeoff)
    cli_trials.bakeoff("pad", good=tmp_path, defect=None, minutes=1.0, json=True)
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["recommended"] == bakeoff.recommendation.family
    assert document["page"] is None
    assert "the page was not written" in said.err


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_budget_that_is_none_is_refused(workspace: Workspace, parts: Path, minutes: float) -> None:
    with pytest.raises(UsageError, match="time budget"):
        run_bakeoff(workspace, "pad", good_folder=parts, defect_folder=None, minutes=minutes)


def test_a_version_that_cannot_be_loaded_is_said_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "version").mkdir()
    with pytest.raises(DetectorError, match="does not score in a fresh process: .*manifest.json"):
        measure_station(tmp_path / "version", [])


def test_a_station_runs_this_halfsigma_whatever_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise RuntimeError('another project')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DetectorError, match=r"manifest\.json"):
        measure_station(tmp_path / "version", [])


def test_a_clear_winner_is_recommended_against_the_rule_of_thumb() -> None:
    rng = np.random.default_rng(0)
    entries = [_entry("fastflow", rng, distance=3.0), _entry("patchcore", rng, distance=1.0)]
    found = recommend(entries, SITUATION, seed=0)
    assert found.family == "fastflow"
    assert "The rule of thumb would be patchcore" in found.because


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (SITUATION, "patchcore"),
        (Situation(40, None, True, False), "patchcore"),
        (Situation(300, 20.0, True, False), "efficientad"),
        (Situation(300, None, False, True), "draem"),
        (Situation(300, None, True, True), "patchcore"),
    ],
)
def test_between_families_that_measure_alike_the_rule_decides(situation: Situation, expected: str) -> None:
    names = ("padim", "draem", "efficientad", "patchcore")
    entries = [_entry(name, np.random.default_rng(1), distance=2.0) for name in names]
    found = recommend(entries, situation, seed=0)
    assert found.family == expected


def test_what_is_slower_than_the_lines_budget_is_not_recommended() -> None:
    rng = np.random.default_rng(2)
    entries = [
        _entry("patchcore", rng, distance=3.0, latency_ms=60.0),
        _entry("padim", rng, distance=1.5, latency_ms=15.0),
    ]
    found = recommend(entries, Situation(300, 25.0, True, False), seed=0)
    assert found.family == "padim"
    nobody = recommend(entries, Situation(300, 5.0, True, False), seed=0)
    assert nobody.family == "padim" and "no family keeps" in nobody.because
