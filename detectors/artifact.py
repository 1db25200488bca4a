"""Saving and loading a version: safetensors, OpenVINO's own format and JSON, each file's hash in the manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from detectors.backbones.building import load_runtime
from detectors.calibration import Threshold
from detectors.disturbances.responses import Response
from detectors.families.names import saved_family
from detectors.photographs.framing import Framing
from detectors.photographs.position import PartTemplate
from detectors.version import DetectorVersion
from halfsigma import ArtifactError, __version__

FORMAT, UNSEALED = 4, 3
"""What is written, and the format before, whose manifests have no hash of their own: a line's champion outlives an update."""
MANIFEST = "manifest.json"
REFERENCE = "reference.json"
_MODEL = "model.safetensors"
_OWN_HASH = "sha256"
"""In the manifest: of all else in it."""
_RESTORE = "restore the version's files from a backup, or roll back to another version"
_TEMPLATE_KEY = "template.mean_image"
_POSITION_KEY = "template.position_operator"


def save_version(version: DetectorVersion, folder: Path) -> str:
    """Write ``version`` into a new ``folder``, whole or not at all.

    Returns:
        The SHA-256 of the manifest, hexadecimal; the manifest holds the hashes of all other files, so this one number
        identifies every byte of the version.

    Raises:
        ArtifactError: ``folder`` exists already or cannot be written.
    """
    if folder.exists():
        raise ArtifactError(f"{folder} exists already", hint="versions are never overwritten; choose a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unfinished-"))
        unfinished.chmod(folder.parent.stat().st_mode & 0o777)  # it is given to its owner alone
    except OSError as error:
        raise ArtifactError(f"{folder.parent} cannot be written: {error.strerror}", hint="check its rights") from error
    try:
        digest = _write(version, unfinished)
        unfinished.replace(folder)
    except (OSError, SafetensorError) as error:
        free_mb = shutil.disk_usage(folder.parent).free / 1e6
        raise ArtifactError(
            f"{folder} cannot be written, its disk has {free_mb:,.0f} MB left: {error}",
            hint="make room there, then run this again",
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return digest


def load_version(folder: Path) -> DetectorVersion:
    """Read a version back; its scores equal the saved one's bit for bit on the same machine.

    Raises:
        ArtifactError: a file is missing, truncated or altered, or was written by a newer halfsigma.
    """
    manifest = read_manifest(folder)
    try:
        _verify_manifest(manifest)
        _verify(folder, manifest["files"])
        return _restore(folder, manifest)
    except SafetensorError as error:
        raise ArtifactError(f"{_MODEL} cannot be read: {error}", hint="restore the version's files") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ArtifactError(
            f"{MANIFEST} does not describe a version that this halfsigma {__version__} knows: {error!r}",
            hint=f"install halfsigma {manifest.get('halfsigma', 'that wrote it')}, or fit the line again",
        ) from error


def verify_version(folder: Path) -> None:
    """Whether every file of a version is there and what its manifest says, without loading it.

    Raises:
        ArtifactError: as `load_version`.
    """
    manifest = read_manifest(folder)
    try:
        _verify_manifest(manifest)
        _verify(folder, manifest["files"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{MANIFEST} does not describe a version: {error!r}", hint="restore its files") from error


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with the hash of all else in it, in place of the one it had."""
    said = {key: value for key, value in manifest.items() if key != _OWN_HASH}
    return {**said, _OWN_HASH: hashlib.sha256(_json(said).encode()).hexdigest()}


def _verify_manifest(manifest: Mapping[str, Any]) -> None:
    if manifest["format"] == UNSEALED and _OWN_HASH not in manifest:
        return
    found, expected = sealed(manifest)[_OWN_HASH], str(manifest[_OWN_HASH])
    if found != expected:
        raise ArtifactError(
            f"{MANIFEST} has SHA-256 {found[:12]}…, expected {expected[:12]}…: it was altered",
            hint=_RESTORE,
        )


def _verify(folder: Path, files: Mapping[str, str]) -> None:
    """The manifest names every file of the folder but itself and hidden ones, no other, and each is what it says."""
    unnamed = {path.name for path in folder.iterdir()} - {MANIFEST} - files.keys()
    for name in sorted(unnamed):
        if not name.startswith("."):  # a file system's own
            raise ArtifactError(
                f"{name} is in {folder}, and its manifest does not name it", hint=f"take it out; or {_RESTORE}"
            )
    for name, expected in files.items():
        if Path(name).name != name or name in ("", ".."):
            raise ArtifactError(f"{MANIFEST} names {name!r}, which is no file of the version", hint=_RESTORE)
        found = _sha256(folder, name)
        if found != expected:
            raise ArtifactError(
                f"{name} has SHA-256 {found[:12]}…, expected {expected[:12]}…: it was altered or truncated",
                hint=_RESTORE,
            )


def _restore(folder: Path, manifest: Mapping[str, Any]) -> DetectorVersion:
    arrays = load_file(folder / _MODEL)
    reference = json.loads((folder / REFERENCE).read_text())
    runtime = load_runtime(folder, manifest["runtime"])
    template = PartTemplate(arrays.pop(_TEMPLATE_KEY), arrays.pop(_POSITION_KEY))
    family = saved_family(manifest["family"])
    return DetectorVersion(
        framing=Framing(**manifest["framing"]),
        white_level=manifest["white_level"],
        runtime=runtime,
        model=family.restore(arrays=arrays, settings=manifest["settings"], runtime=runtime, folder=folder),
        template=template,
        threshold=Threshold(**manifest["threshold"]),
        reference_scores=np.asarray(reference["scores"], np.float64),
        reference_covariates={k: np.asarray(v, np.float64) for k, v in reference["covariates"].items()},
        provenance=manifest["provenance"],
        responses=tuple(Response.from_json(each) for each in reference["responses"]),
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest alone: what the version is, without loading it.

    Raises:
        ArtifactError: it is missing, not JSON, or of a format that this halfsigma does not know.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        version_format = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder} holds no readable {MANIFEST}: {error}", hint="restore its files") from error
    if version_format not in (FORMAT, UNSEALED):
        raise ArtifactError(
            f"the version has format {version_format}, this halfsigma {__version__} reads {FORMAT}",
            hint=f"install halfsigma {manifest.get('halfsigma', 'that wrote it')}",
        )
    return manifest


def _write(version: DetectorVersion, folder: Path) -> str:
    runtime_record = version.runtime.save(folder)
    version.model.save_network(folder)
    arrays = {**version.model.arrays(), _TEMPLATE_KEY: version.template.mean_image}
    arrays[_POSITION_KEY] = version.template.operator
    # safetensors writes the buffer as it lies: a transposed view would come back scrambled
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / _MODEL)
    (folder / _MODEL).chmod(folder.stat().st_mode & 0o666)  # safetensors gives it to its owner alone
    _write_json(folder / REFERENCE, _reference_record(version))
    manifest = {
        "format": FORMAT,
        "halfsigma": __version__,
        "family": version.model.family,
        "settings": version.model.settings_record(),
        "framing": {"side_px": version.framing.side_px},
        "white_level": version.white_level,
        "threshold": {"value": version.threshold.value, "promised_fpr": version.threshold.promised_fpr},
        "runtime": runtime_record,
        "provenance": dict(version.provenance),
        "files": {path.name: _sha256(folder, path.name) for path in sorted(folder.iterdir())},
    }
    _write_json(folder / MANIFEST, sealed(manifest))
    return _sha256(folder, MANIFEST)


def _reference_record(version: DetectorVersion) -> dict[str, object]:
    covariates = {name: values.tolist() for name, values in version.reference_covariates.items()}
    return {
        "scores": version.reference_scores.tolist(),
        "covariates": covariates,
        "responses": [response.to_json() for response in version.responses],
    }


def _write_json(path: Path, document: Mapping[str, object]) -> None:
    path.write_text(_json(document))


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _sha256(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256((folder / name).read_bytes()).hexdigest()
    except OSError as error:
        raise ArtifactError(f"{name} is missing from {folder}", hint="restore the version's files") from error
