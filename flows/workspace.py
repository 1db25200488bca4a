"""One installation, opened: its database, its MLflow store and its folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.settings import Settings
from halfsigma import ArtifactError, RegistryError
from registry.database import Database, open_database
from registry.store import MlflowStore
from registry.vault import Vault

if TYPE_CHECKING:
    from detectors.version import DetectorVersion


@dataclass(slots=True)
class Workspace:
    """What every command works with; versions are loaded once and kept."""

    settings: Settings
    database: Database
    store: MlflowStore
    _loaded: dict[tuple[str, int], DetectorVersion] = field(default_factory=dict)

    @property
    def vault(self) -> Vault:
        """Copies of verified goods and labelled images."""
        return Vault(self.settings.home / "images")

    @property
    def cache(self) -> Path:
        """Versions downloaded from MLflow, checked by hash; may be deleted at any time."""
        return self.settings.home / "cache"

    def work_folder(self, name: str) -> Path:
        """A folder for the intermediate files of one piece of work, the same each time it is run."""
        folder = self.settings.home / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def load(self, line: str, number: int) -> DetectorVersion:
        """A version ready to score; a copy in the cache that was damaged is downloaded again.

        Raises:
            ArtifactError: the store's own files are damaged.
        """
        from detectors.artifact import load_version

        key = (line, number)
        if key not in self._loaded:
            folder = self.store.fetch(line, number, cache=self.cache)
            try:
                self._loaded[key] = load_version(folder)
            except ArtifactError:
                shutil.rmtree(folder)
                self._loaded[key] = load_version(self.store.fetch(line, number, cache=self.cache))
        return self._loaded[key]


@contextmanager
def open_workspace(settings: Settings) -> Iterator[Workspace]:
    """Open what ``settings`` name, creating what is missing.

    Raises:
        RegistryError: the home cannot be created or written.
        DatabaseError: the database cannot be opened, or is of a newer schema.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        if not os.access(settings.home, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise RegistryError(
            f"HALFSIGMA_HOME {settings.home} cannot be written: {error.strerror}",
            hint="give yourself the right to write there, or set HALFSIGMA_HOME to another folder",
        ) from error
    with open_database(settings.database_url) as database:
        root = settings.home / "mlartifacts" if settings.keeps_models_at_home else None
        yield Workspace(settings, database, MlflowStore(settings.tracking_uri, artifact_root=root))
