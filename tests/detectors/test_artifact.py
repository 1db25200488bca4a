"""A saved version is the version, bit for bit, in another process too; one altered byte and it is refused."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.artifact import (
    FORMAT,
    MANIFEST,
    UNSEALED,
    load_version,
    read_manifest,
    save_version,
    sealed,
    verify_version,
)
from detectors.backbones.runtime import FeatureRuntime
from detectors.families.patchcore import PatchCore
from detectors.fit import GoodImages, fit_version
from detectors.version import DetectorVersion
from halfsigma import ArtifactError

SCORE_IN_A_FRESH_PROCESS = """
import json, sys
from pathlib import Path
from detectors.artifact import load_version
from detectors.photographs.images import read_photograph
version = load_version(Path(sys.argv[1]))
judged = [version.score(read_photograph(Path(path)).pixels) for path in sys.argv[2:]]
print(json.dumps([[each.score.hex(), each.rejected, each.anomaly_map.tobytes().hex(), dict(each.covariates)] for each in judged]))
"""


@pytest.fixture(scope="module")
def saved(version: DetectorVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "version"
    save_version(version, folder)
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "version"))


def test_a_fresh_process_gives_the_same_scores_maps_and_covariates_bit_for_bit(
    version: DetectorVersion, saved: Path, camera: Callable[..., NDArray[np.uint8]], tmp_path: Path
) -> None:
    rng = np.random.default_rng(11)
    photographs = [camera(rng), camera(rng, defect=True)]
    for number, photograph in enumerate(photographs):
        cv2.imwrite(str(tmp_path / f"{number}.png"), photograph)
    done = subprocess.run(
        [sys.executable, "-c", SCORE_IN_A_FRESH_PROCESS, str(saved), *map(str, sorted(tmp_path.glob("*.png")))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    judged = [version.score(photograph) for photograph in photographs]
    expected = [
        [each.score.hex(), each.rejected, each.anomaly_map.tobytes().hex(), dict(each.covariates)] for each in judged
    ]
    assert found == expected
    assert judged[1].score > judged[0].score


def test_everything_that_a_version_is_comes_back(version: DetectorVersion, saved: Path) -> None:
    loaded = load_version(saved)
    assert (loaded.framing, loaded.white_level) == (version.framing, version.white_level)
    assert loaded.threshold == version.threshold
    assert loaded.provenance == version.provenance
    assert loaded.model.settings_record() == version.model.settings_record()
    np.testing.assert_array_equal(loaded.reference_scores, version.reference_scores)
    np.testing.assert_array_equal(loaded.template.mean_image, version.template.mean_image)
    assert loaded.reference_covariates.keys() == version.reference_covariates.keys()
    for name, values in version.reference_covariates.items():
        np.testing.assert_array_equal(loaded.reference_covariates[name], values)


def test_saving_what_was_loaded_writes_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_version(load_version(saved), tmp_path / "again")
    for path in saved.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_torch_runtime_is_saved_and_loaded_as_well(
    goods: GoodImages, torch_runtime: FeatureRuntime, tmp_path: Path
) -> None:
    few = GoodImages(goods.prepared[:20], (), 0, goods.framing, goods.white_level)
    version = fit_version(few, family=PatchCore, runtime=torch_runtime, fpr_budget=0.05, seed=0)
    save_version(version, tmp_path / "version")
    loaded = load_version(tmp_path / "version")
    assert loaded.runtime.name == "torch"
    photograph = np.random.default_rng(0).integers(0, 256, (96, 112), dtype=np.uint8)
    assert loaded.score(photograph).score == version.score(photograph).score


def test_no_file_of_a_version_is_a_pickle(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".json", ".safetensors", ".xml", ".bin"}
    for path in saved.iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK")), path.name


FILES = ["backbone.bin", "backbone.xml", "model.safetensors", "reference.json"]


def test_the_manifest_holds_the_hash_of_every_other_file(saved: Path) -> None:
    assert sorted(read_manifest(saved)["files"]) == FILES
    assert sorted(path.name for path in saved.iterdir()) == sorted([*FILES, MANIFEST])


@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_is_refused(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name} has SHA-256 .* altered or truncated") as caught:
        load_version(copied)
    assert caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).write_bytes((copied / name).read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=name):
        load_version(copied)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        load_version(copied)


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "null", '{"format": 1', "{}", '{"format": 1}', '{"format": 1, "files": {}}']
)
def test_a_manifest_that_is_not_one_is_refused(copied: Path, content: str) -> None:
    (copied / MANIFEST).write_text(content)
    with pytest.raises(ArtifactError):
        load_version(copied)


@pytest.mark.parametrize(
    ("key", "value"),
    [("framing", {"side": 96}), ("threshold", {}), ("settings", {"k": 1}), ("runtime", {}), ("family", "yolo")],
)
def test_a_manifest_that_names_what_this_halfsigma_does_not_know_is_refused(
    copied: Path, key: str, value: object
) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps(sealed({**manifest, key: value})))
    with pytest.raises(ArtifactError, match="does not describe a version|cannot be|unknown|not known|yolo"):
        load_version(copied)


def test_a_manifest_whose_threshold_was_raised_is_refused(copied: Path) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    manifest["threshold"]["value"] = 1e9
    (copied / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="manifest.json has SHA-256 .* it was altered"):
        load_version(copied)


@pytest.mark.parametrize("name", ["/etc/hostname", "../version/model.safetensors", "..", "", "sub/model.safetensors"])
def test_a_manifest_that_names_what_is_no_file_of_its_folder_is_refused(copied: Path, name: str) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    path = copied / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    manifest["files"][name] = digest
    (copied / MANIFEST).write_text(json.dumps(sealed(manifest)))
    for read in (load_version, verify_version):
        with pytest.raises(ArtifactError, match="names .*, which is no file of the version") as caught:
            read(copied)
        assert caught.value.hint


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_manifest_does_not_name_is_refused(copied: Path, name: str) -> None:
    """It would be loaded whatever is in it."""
    manifest = json.loads((copied / MANIFEST).read_text())
    del manifest["files"][name], manifest["sha256"]
    for each in (sealed(manifest), {**manifest, "format": UNSEALED}):
        (copied / MANIFEST).write_text(json.dumps(each))
        for read in (load_version, verify_version):
            with pytest.raises(ArtifactError, match=f"{name} is in .*, and its manifest does not name it"):
                read(copied)


def test_what_a_file_system_hides_in_the_folder_is_no_matter(copied: Path, version: DetectorVersion) -> None:
    (copied / ".nfs00000000a1b2c3").touch()
    assert load_version(copied).threshold == version.threshold


def test_a_version_of_the_format_before_is_still_read(copied: Path, version: DetectorVersion) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    del manifest["sha256"]
    (copied / MANIFEST).write_text(json.dumps({**manifest, "format": UNSEALED}))
    assert load_version(copied).threshold == version.threshold


def test_a_manifest_cannot_say_that_its_own_hash_does_not_count(copied: Path) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    manifest["threshold"]["value"] = 1e9
    (copied / MANIFEST).write_text(json.dumps({**manifest, "format": UNSEALED}))
    with pytest.raises(ArtifactError, match="it was altered"):
        load_version(copied)


def test_a_version_of_a_later_format_asks_for_the_later_halfsigma(copied: Path) -> None:
    manifest = json.loads((copied / MANIFEST).read_text())
    (copied / MANIFEST).write_text(json.dumps({**manifest, "format": FORMAT + 1, "halfsigma": "9.9"}))
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}") as caught:
        load_version(copied)
    assert "9.9" in caught.value.hint


def test_a_version_is_never_written_over_another(version: DetectorVersion, copied: Path) -> None:
    with pytest.raises(ArtifactError, match="exists already"):
        save_version(version, copied)


def test_a_save_that_fails_leaves_nothing_behind(version: DetectorVersion, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_version(version, tmp_path / "file" / "version")
    broken = np.array([float("nan")])
    unsayable = DetectorVersion(
        framing=version.framing,
        white_level=version.white_level,
        runtime=version.runtime,
        model=version.model,
        template=version.template,
        threshold=version.threshold,
        reference_scores=broken,
        reference_covariates={},
        provenance={},
    )
    with pytest.raises(ValueError, match="JSON"):
        save_version(unsayable, tmp_path / "version")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class _Large(PatchCore):
    """With more arrays than there is room for."""

    def __init__(self) -> None:
        pass

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        return {"bank": np.zeros((10_000_000,), np.float32)}

    def settings_record(self) -> dict[str, object]:
        return {}

    def save_network(self, folder: Path) -> None:
        pass


def test_a_full_disk_is_said_with_what_is_left_and_leaves_nothing(version: DetectorVersion, tmp_path: Path) -> None:
    large = replace(version, model=_Large())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000_000, hard))
    try:
        with pytest.raises(ArtifactError, match="version cannot be written, its disk has .* MB left") as raised:
            save_version(large, tmp_path / "version")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "make room" in raised.value.hint
    assert not list(tmp_path.iterdir())
