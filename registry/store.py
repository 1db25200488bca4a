"""The MLflow store: versions with their files, and the aliases that say what is deployed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detectors.artifact import MANIFEST, verify_version
from halfsigma import AnotherVersion, ArtifactError, StoreError, UnknownVersion
from registry.images import file_sha256
from registry.lines import ANOTHER_HINT
from registry.mlflow_calls import again_if_refused, mapped_errors, quieten
from registry.new_version import TAG_LINE, TAG_MANIFEST, NewVersion, log_version, model_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

TAG_RESTORED = "halfsigma.restored_from"
AWAY_S = 30.0
"""How long a failed look at the aliases stands, in seconds."""
_PAGE_MODELS = 1000  # the most that MLflow gives at once


class MlflowStore:
    """Versions and aliases of all lines, in any MLflow tracking server or in a local SQLite file.

    Every method raises `StoreError` when MLflow cannot be reached or refuses.
    """

    def __init__(self, tracking_uri: str, *, artifact_root: Path | None = None, away_s: float = AWAY_S) -> None:
        """Use the server at ``tracking_uri``.

        Args:
            tracking_uri: ``sqlite:///…``, ``http://…`` or whatever MLflow takes.
            artifact_root: where a local store keeps files; a server decides for itself, then None.
            away_s: how long a failed look at the aliases stands.
        """
        self.tracking_uri = tracking_uri
        self._artifact_root = artifact_root
        self._away_s = away_s
        self._known: MlflowClient | None = None
        self._failure: StoreError | None = None
        self._ask_again_at = 0.0

    @property
    def _client(self) -> MlflowClient:
        with mapped_errors(self.tracking_uri):
            import mlflow

            # downloads and runs go where MLflow's global address points, which another store may have moved
            if mlflow.get_tracking_uri() != self.tracking_uri:
                mlflow.set_tracking_uri(self.tracking_uri)
            if self._known is None:
                quieten()
                self._known = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        return self._known

    def register(self, line: str, new: NewVersion) -> int:
        """Add a version of ``line`` and return its number; the same files again give the number they have."""
        digest = file_sha256(new.folder / MANIFEST)
        client = self._client
        with mapped_errors(self.tracking_uri):
            self._ensure_model(client, line)
            known = self._with_manifest(client, line, digest)
            return (
                known
                if known is not None
                else log_version(client, line, new, digest=digest, artifact_root=self._artifact_root)
            )

    def aliases(self, line: str) -> dict[str, int]:
        """Alias → version number, empty for a line that was never fitted."""
        return self.aliases_of([line])[line]

    def aliases_of(self, lines: Sequence[str]) -> dict[str, dict[str, int]]:
        """The aliases of several lines, by the line's name; MLflow is asked once, a page a thousand models.

        After a failure the same one is raised for `AWAY_S` without asking again: a thousand lines must not wait for a
        server that is away a thousand times.
        """
        if not lines:
            return {}
        if self._failure is not None and time.monotonic() < self._ask_again_at:
            raise self._failure
        client = self._client
        one = len(set(lines)) == 1
        condition = f"name = '{model_name(lines[0])}'" if one else f"name LIKE '{model_name('%')}'"
        found: dict[str, dict[str, int]] = {}
        token = None
        try:
            with mapped_errors(self.tracking_uri):
                while token is None or token:
                    page = client.search_registered_models(condition, max_results=_PAGE_MODELS, page_token=token)
                    found |= {model.name: {a: int(n) for a, n in model.aliases.items()} for model in page}
                    token = page.token or ""
        except StoreError as error:
            self._failure, self._ask_again_at = error, time.monotonic() + self._away_s
            raise
        self._failure = None
        return {line: found.get(model_name(line), {}) for line in lines}

    def set_alias(self, line: str, alias: str, number: int | None) -> None:
        """Point ``alias`` at a version, or with None take it away; saying the same again changes nothing.

        Raises:
            UnknownVersion: there is no such version.
        """
        client = self._client
        if number is None:
            with mapped_errors(self.tracking_uri):
                if alias in self.aliases(line):
                    client.delete_registered_model_alias(model_name(line), alias)
            return
        with self._of_version(line, number):
            again_if_refused(lambda: client.set_registered_model_alias(model_name(line), alias, str(number)))

    def tag(self, line: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        client = self._client
        with mapped_errors(self.tracking_uri):
            for key, value in tags.items():
                client.set_model_version_tag(model_name(line), str(number), key, value)

    def tags(self, line: str, number: int) -> dict[str, str]:
        """Tags of a version.

        Raises:
            UnknownVersion: there is no such version.
        """
        return dict(self._version(line, number).tags)

    def log_report(self, line: str, number: int, path: Path, *, folder: str) -> None:
        """Put a file beside the version, in ``folder`` of its run's artifacts."""
        run_id = self._version(line, number).run_id
        client = self._client
        with mapped_errors(self.tracking_uri):
            client.log_artifact(run_id, str(path), artifact_path=folder)

    def fetch(self, line: str, number: int, *, cache: Path) -> Path:
        """A version's folder on this machine, downloaded once and checked against its registered hash.

        While MLflow is away, or has lost the version, what was downloaded and checked before is given: a station goes
        on with it.

        Raises:
            UnknownVersion: there is no such version.
            AnotherVersion: the number is that of another version, whose copy is kept.
            ArtifactError: what was downloaded is not what was registered.
        """
        target = cache / line / str(number)
        try:
            expected = self.tags(line, number).get(TAG_MANIFEST)
        except (StoreError, UnknownVersion):
            if (target / MANIFEST).is_file():
                return target
            raise
        if not _is_at(target, expected):
            if _is_whole(target):
                raise AnotherVersion(
                    f"{model_name(line)} version {number} in MLflow is not the one that this machine has known by that number",
                    hint=ANOTHER_HINT,
                )
            self._download(line, number, target)
        found = file_sha256(target / MANIFEST)
        if found != expected:
            raise ArtifactError(
                f"{model_name(line)} version {number}: its manifest has SHA-256 {found[:12]}…, "
                f"registered was {str(expected)[:12]}…",
                hint="the store's files were altered: restore them, or roll back",
            )
        return target

    def _version(self, line: str, number: int) -> Any:
        client = self._client
        with self._of_version(line, number):
            return client.get_model_version(model_name(line), str(number))

    @contextmanager
    def _of_version(self, line: str, number: int) -> Iterator[None]:
        """As `mapped_errors`, but that there is no such version is no fault of the store's."""
        from mlflow.exceptions import MlflowException

        try:
            with mapped_errors(self.tracking_uri):
                yield
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, MlflowException) and cause.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise UnknownVersion(
                    f"{model_name(line)} has no version {number} in MLflow",
                    hint=f"halfsigma history {line} lists those that were deployed, MLflow's page of {model_name(line)} all",
                ) from error
            raise

    def _download(self, line: str, number: int, target: Path) -> None:
        import mlflow

        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as unfinished:
            with mapped_errors(self.tracking_uri):
                got = mlflow.artifacts.download_artifacts(
                    f"models:/{model_name(line)}/{number}", dst_path=unfinished, tracking_uri=self.tracking_uri
                )
            manifests = [path.parent for path in Path(got).rglob(MANIFEST)]
            if len(manifests) != 1:
                raise ArtifactError(
                    f"{model_name(line)} version {number} holds {len(manifests)} manifests, expected 1",
                    hint="it was not registered by halfsigma",
                )
            if _is_at(target, file_sha256(manifests[0] / MANIFEST)):
                return  # another process was faster, and may be reading it
            shutil.rmtree(target, ignore_errors=True)
            try:
                manifests[0].rename(target)
            except OSError:
                if not (target / MANIFEST).is_file():
                    raise

    def _ensure_model(self, client: MlflowClient, line: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(model_name(line), tags={TAG_LINE: line})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _with_manifest(self, client: MlflowClient, line: str, digest: str) -> int | None:
        for known in client.search_model_versions(f"name = '{model_name(line)}'"):
            if known.tags.get(TAG_MANIFEST) == digest:
                return int(known.version)
        return None


def _is_at(folder: Path, digest: str | None) -> bool:
    return (folder / MANIFEST).is_file() and file_sha256(folder / MANIFEST) == digest


def _is_whole(folder: Path) -> bool:
    """Whether every file of a version is what its manifest says."""
    try:
        verify_version(folder)
    except (ArtifactError, OSError):
        return False
    return True
