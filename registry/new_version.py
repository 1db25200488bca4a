"""A version on its way into MLflow: a run with its parameters, figures and pages, and the model beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

from detectors.artifact import read_manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG_MANIFEST = "halfsigma.manifest_sha256"
TAG_LINE = "halfsigma.line"
TAG_ORIGIN = "halfsigma.origin"
TAG_BASE = "halfsigma.base_version"
_MODEL_NAME = "model"
_REQUIRED = ("numpy", "pandas", "safetensors", "faiss-cpu", "openvino", "opencv-python-headless", "pillow")
"""What scoring a saved version imports."""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What is registered together.

    Attributes:
        folder: a version as `detectors.artifact.save_version` wrote it.
        origin: ``fit`` or ``retrain``.
        base_version: the champion that a retrain replaces.
        params, metrics: shown in the MLflow UI.
        reports: files and folders logged beside the model (plots, pages, tables).
        tags: further tags of the version.
    """

    folder: Path
    origin: str
    base_version: int | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    reports: tuple[Path, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def model_name(line: str) -> str:
    """The registered model of a line.

    >>> model_name("tiles")
    'halfsigma.tiles'
    """
    return f"halfsigma.{line}"


def log_version(client: MlflowClient, line: str, new: NewVersion, *, digest: str, artifact_root: Path | None) -> int:
    """Log a run of the line with the version and its reports, register it, and return its number.

    Args:
        client: of the store.
        line: whose version it is.
        new: what is logged.
        digest: SHA-256 of the manifest.
        artifact_root: where a local store keeps files; a server decides for itself, then None.
    """
    import mlflow

    manifest = read_manifest(new.folder)
    tags = {TAG_LINE: line, TAG_ORIGIN: new.origin, **new.tags}
    if new.base_version is not None:
        tags[TAG_BASE] = str(new.base_version)
    with mlflow.start_run(
        experiment_id=_experiment(client, line, artifact_root), run_name=f"{line} {new.origin}"
    ) as run:
        mlflow.log_params({"detector": manifest["family"], **manifest["settings"], **new.params})
        mlflow.log_metrics(dict(new.metrics))
        mlflow.set_tags(tags)
        for report in new.reports:
            mlflow.log_artifact(str(report), artifact_path="reports")
        mlflow.log_artifact(str(new.folder / "reference.json"), artifact_path="reference")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow asks for a signature; paths and arrays have none in common
            logged = mlflow.pyfunc.log_model(
                name=_MODEL_NAME,
                python_model=str(Path(__file__).with_name("pyfunc_model.py")),
                artifacts={"version": str(new.folder)},
                pip_requirements=[f"{name}=={installed_version(name)}" for name in _REQUIRED],
            )
    registered = client.create_model_version(
        model_name(line),
        source=logged.model_uri,
        run_id=run.info.run_id,
        model_id=logged.model_id,
        tags={**tags, TAG_MANIFEST: digest},
    )
    return int(registered.version)


def _experiment(client: MlflowClient, line: str, artifact_root: Path | None) -> str:
    found = client.get_experiment_by_name(model_name(line))
    if found is not None:
        return str(found.experiment_id)
    location = None if artifact_root is None else (artifact_root / line).resolve().as_uri()
    return str(client.create_experiment(model_name(line), artifact_location=location))
