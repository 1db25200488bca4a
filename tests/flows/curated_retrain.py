"""A line with its champion, and retrains of images of which it is written down what the curation chose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from detectors.artifact import save_version
from detectors.version import DetectorVersion
from flows import retrain_files
from flows.retrain_files import CURATED
from flows.settings import Settings
from flows.workspace import Workspace
from registry import deployment, images, lines, promotion, retrains
from registry.database import open_database
from registry.tables import Retrain
from tests.registry.fake_store import FakeStore

LINE = "pad"


@contextmanager
def line_with(champion: DetectorVersion, folder: Path) -> Iterator[Workspace]:
    """The champion is version 1 of the line."""
    save_version(champion, folder / "version")
    store = FakeStore(folder / "version")
    store.add(1)
    settings = Settings(folder, f"sqlite:///{folder / 'halfsigma.db'}", "memory")
    with open_database(settings.database_url) as database:
        with database.session() as session:
            line = lines.create_line(session, LINE, detector="patchcore", fpr_budget=0.05)
            deployment.mirror_version(session, line, 1, store.folder, store.tags(LINE, 1))
            promotion.deploy_first(session, line, store, 1)  # type: ignore[arg-type]
        yield Workspace(settings, database, store)  # type: ignore[arg-type]


def see(workspace: Workspace, folder: Path) -> dict[str, Path]:
    """The line has seen the images of the folder: SHA-256 → file."""
    seen = {images.file_sha256(path): path for path in sorted(folder.iterdir())}
    with workspace.database.session() as session:
        images.remember(session, lines.get_line(session, LINE), {sha: str(path) for sha, path in seen.items()})
    return seen


def curated(workspace: Workspace, night: date, document: Mapping[str, object]) -> Retrain:
    """A retrain whose curation said that, as `CuratedNight.to_json`."""
    with workspace.database.session() as session:
        row = retrains.request(session, lines.get_line(session, LINE), night=night, base_version=1, reason="drift")
        retrain_files.write_json(retrain_files.folder_of(workspace, row) / CURATED, document)
        return retrains.advance(session, row.id, start="requested", to="curated", document={"curation": {}})
