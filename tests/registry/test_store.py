"""The MLflow store against a real local one: what is registered, found again, altered, lost, or not to be reached."""

from __future__ import annotations

import json
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.artifact import MANIFEST, load_version, save_version
from detectors.version import DetectorVersion
from halfsigma import AnotherVersion, ArtifactError, StoreError, UnknownVersion
from registry.new_version import TAG_BASE, TAG_ORIGIN, NewVersion
from registry.store import MlflowStore

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def saved(version: DetectorVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "version"
    save_version(version, folder)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def store(root: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{root / 'mlflow.db'}", artifact_root=root / "artifacts")


@pytest.fixture(scope="module")
def number(store: MlflowStore, saved: Path) -> int:
    report = saved.parent / "report.txt"
    report.write_text("seen")
    new = NewVersion(
        saved, "retrain", base_version=7, params={"night": "2026-11-23"}, metrics={"threshold": 1.5}, reports=(report,)
    )
    return store.register("tiles", new)


def _other(saved: Path, folder: Path, **provenance: object) -> Path:
    """The same version, told apart by its provenance."""
    shutil.copytree(saved, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "provenance": provenance}))
    return folder


def test_the_same_files_are_registered_once_and_others_get_the_next_number(
    store: MlflowStore, saved: Path, number: int, tmp_path: Path
) -> None:
    assert number == 1
    assert store.register("tiles", NewVersion(saved, "fit")) == 1
    assert store.register("tiles", NewVersion(_other(saved, tmp_path / "other", seed=2), "fit")) == 2
    assert store.register("pads", NewVersion(saved, "fit")) == 1


def test_a_version_says_where_it_comes_from(store: MlflowStore, number: int, root: Path) -> None:
    import mlflow

    tags = store.tags("tiles", number)
    assert (tags[TAG_ORIGIN], tags[TAG_BASE]) == ("retrain", "7")
    client = mlflow.MlflowClient(tracking_uri=store.tracking_uri)
    run = client.get_run(client.get_model_version("halfsigma.tiles", str(number)).run_id)
    assert run.data.params["detector"] == "patchcore"
    assert run.data.params["night"] == "2026-11-23"
    assert run.data.metrics["threshold"] == 1.5
    assert [file.path for file in client.list_artifacts(run.info.run_id, "reports")] == ["reports/report.txt"]
    assert run.info.artifact_uri.startswith((root / "artifacts" / "tiles").as_uri())


def test_nothing_in_the_store_is_a_pickle(store: MlflowStore, number: int, root: Path) -> None:
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix not in (".db", ".db-wal", ".db-shm")]
    assert any(path.name == "model.safetensors" for path in files)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pth", ".pt", ".joblib")]
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05")]


def test_aliases_are_set_moved_and_taken_away_any_number_of_times(store: MlflowStore, number: int) -> None:
    assert store.aliases("never-fitted") == {}
    for _ in range(2):
        store.set_alias("tiles", "challenger", number)
        assert store.aliases("tiles")["challenger"] == number
    for _ in range(2):
        store.set_alias("tiles", "challenger", None)
        assert "challenger" not in store.aliases("tiles")


def test_two_that_set_the_same_new_alias_at_once_both_have_it(store: MlflowStore, root: Path, number: int) -> None:
    both = [MlflowStore(store.tracking_uri, artifact_root=root) for _ in range(2)]
    for each in both:
        each.aliases("tiles")
    start = threading.Barrier(2)

    def set_alias(own: MlflowStore, alias: str) -> None:
        start.wait()
        own.set_alias("tiles", alias, number)

    with ThreadPoolExecutor(2) as pool:
        for k in range(60):
            for done in [pool.submit(set_alias, own, f"new-{k}") for own in both]:
                done.result()
            assert store.aliases("tiles")[f"new-{k}"] == number


def test_an_alias_cannot_point_to_a_version_that_is_not_there(store: MlflowStore, number: int) -> None:
    with pytest.raises(UnknownVersion, match="has no version 99 in MLflow") as caught:
        store.set_alias("tiles", "champion", 99)
    assert "halfsigma history tiles" in caught.value.hint


def test_a_deleted_version_gets_no_alias(store: MlflowStore, saved: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    deleted = store.register("tiles", NewVersion(_other(saved, tmp_path / "other", seed=3), "fit"))
    MlflowClient(store.tracking_uri).delete_model_version("halfsigma.tiles", str(deleted))
    with pytest.raises(UnknownVersion, match=f"no version {deleted} in MLflow"):
        store.set_alias("tiles", "previous", deleted)


def test_a_version_is_fetched_once_and_is_what_was_registered(
    store: MlflowStore, saved: Path, number: int, tmp_path: Path
) -> None:
    folder = store.fetch("tiles", number, cache=tmp_path)
    for path in saved.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    marker = folder / "marker"
    marker.touch()
    assert store.fetch("tiles", number, cache=tmp_path) == folder
    assert marker.exists(), "it was downloaded again"


def test_a_cached_manifest_that_is_not_the_registered_one_is_downloaded_again(
    store: MlflowStore, saved: Path, number: int, tmp_path: Path
) -> None:
    (store.fetch("tiles", number, cache=tmp_path) / MANIFEST).write_text("{}")
    folder = store.fetch("tiles", number, cache=tmp_path)
    assert (folder / MANIFEST).read_bytes() == (saved / MANIFEST).read_bytes()


def test_a_whole_copy_of_another_version_of_that_number_is_kept_and_said(
    store: MlflowStore, version: DetectorVersion, number: int, tmp_path: Path
) -> None:
    """MLflow's store was lost and counts from one again; what the station runs with is not overwritten."""
    known = tmp_path / "tiles" / str(number)
    save_version(replace(version, provenance={**version.provenance, "seed": 9}), known)
    manifest = (known / MANIFEST).read_bytes()
    with pytest.raises(AnotherVersion, match="is not the one that this machine has known by that number"):
        store.fetch("tiles", number, cache=tmp_path)
    assert (known / MANIFEST).read_bytes() == manifest


def test_two_that_download_a_version_at_once_both_have_it_whole(
    store: MlflowStore, saved: Path, number: int, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as pool:
        for k in range(8):
            cache = tmp_path / str(k)
            for fetched in [pool.submit(store.fetch, "tiles", number, cache=cache) for _ in range(2)]:
                folder = fetched.result()
            assert {path.name for path in folder.iterdir()} == {path.name for path in saved.iterdir()}


def test_a_version_that_is_not_there_is_unknown(store: MlflowStore, number: int, tmp_path: Path) -> None:
    for ask in (lambda: store.fetch("tiles", 99, cache=tmp_path), lambda: store.tags("no-line", 1)):
        with pytest.raises(UnknownVersion, match="no version"):
            ask()


def test_files_altered_in_the_store_are_refused(saved: Path, tmp_path: Path) -> None:
    own = MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}", artifact_root=tmp_path / "artifacts")
    number = own.register("tiles", NewVersion(saved, "fit"))
    (model,) = (tmp_path / "artifacts").rglob("model.safetensors")
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    with pytest.raises(ArtifactError, match="model.safetensors .* altered"):
        load_version(own.fetch("tiles", number, cache=tmp_path / "cache"))
    manifest = model.with_name(MANIFEST)
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(ArtifactError, match="manifest has SHA-256") as caught:
        own.fetch("tiles", number, cache=tmp_path / "another cache")
    assert "restore" in caught.value.hint


def test_a_download_that_fails_leaves_no_half_version_in_the_cache(saved: Path, tmp_path: Path) -> None:
    own = MlflowStore(f"sqlite:///{tmp_path / 'mlflow.db'}", artifact_root=tmp_path / "artifacts")
    number = own.register("tiles", NewVersion(saved, "fit"))
    shutil.rmtree(tmp_path / "artifacts")
    with pytest.raises((ArtifactError, StoreError)):
        own.fetch("tiles", number, cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_server_that_is_away_is_a_store_error_within_seconds_and_the_cache_goes_on(
    store: MlflowStore, number: int, tmp_path: Path
) -> None:
    folder = store.fetch("tiles", number, cache=tmp_path)
    away = MlflowStore(NOWHERE)
    started = time.monotonic()
    with pytest.raises(StoreError, match=NOWHERE) as caught:
        away.aliases("tiles")
    assert time.monotonic() - started < 30
    assert "MLFLOW_TRACKING_URI" in caught.value.hint
    assert away.fetch("tiles", number, cache=tmp_path) == folder


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        MlflowStore(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}").aliases("tiles")


def test_mlflow_loads_the_champion_and_judges_paths_and_arrays_as_the_version_does(
    store: MlflowStore,
    number: int,
    version: DetectorVersion,
    camera: Callable[..., NDArray[np.uint8]],
    tmp_path: Path,
) -> None:
    import mlflow

    store.set_alias("tiles", "champion", number)
    rng = np.random.default_rng(4)
    photographs = [camera(rng), camera(rng, defect=True)]
    paths = [str(tmp_path / f"{k}.png") for k in range(2)]
    for path, photograph in zip(paths, photographs, strict=True):
        cv2.imwrite(path, photograph)
    expected = [(each.score, version.threshold.value, each.rejected) for each in map(version.score, photographs)]
    mlflow.set_tracking_uri(store.tracking_uri)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = mlflow.pyfunc.load_model("models:/halfsigma.tiles@champion")
    for given in (paths, photographs, np.stack(photographs)):
        judged = model.predict(given)
        assert list(judged.itertuples(index=False, name=None)) == expected
    assert model.predict(paths[0])["score"].tolist() == [expected[0][0]]
    assert model.predict(photographs[1])["rejected"].tolist() == [True]


def test_a_server_that_is_away_is_asked_once_for_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand lines must not wait a thousand times."""
    now = [100.0]
    monkeypatch.setattr("registry.store.time.monotonic", lambda: now[0])
    store, asked = MlflowStore("http://127.0.0.1:9"), []

    class Away:
        def search_registered_models(self, query: str, **_: object) -> list[object]:
            asked.append(query)
            raise ConnectionRefusedError("refused")

    monkeypatch.setattr(MlflowStore, "_client", Away())
    for line in ("a", "b", "c"):
        with pytest.raises(StoreError, match="refused"):
            store.aliases(line)
    assert len(asked) == 1
    now[0] += 31.0
    with pytest.raises(StoreError, match="refused"):
        store.aliases("a")
    assert len(asked) == 2
