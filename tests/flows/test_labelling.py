"""What a person labels is kept from wherever it can be read, and one file that cannot is nobody else's affair."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detectors.version import DetectorVersion
from flows.labelling import label_images
from flows.workspace import Workspace
from registry import images, lines
from registry.tables import Image
from tests.flows.curated_retrain import LINE, line_with, see


@pytest.fixture
def workspace(tmp_path: Path, version: DetectorVersion) -> Iterator[Workspace]:
    with line_with(version, tmp_path) as made:
        yield made


def _labelled(workspace: Workspace) -> dict[str, Image]:
    with workspace.database.session() as session:
        rows = images.labelled(session, lines.get_line(session, LINE), "defect")
        return {row.sha256: row for row in rows}


def test_images_that_were_archived_meanwhile_are_kept_from_where_they_lie_now(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path]
) -> None:
    seen = see(workspace, write_night(tmp_path / "night", 3, seed=1))
    archived = (tmp_path / "night").rename(tmp_path / "archived")
    assert label_images(workspace, LINE, [str(path) for path in archived.iterdir()], as_label="defect") == 3
    for sha256, row in _labelled(workspace).items():
        assert row.kept_path is not None and images.file_sha256(Path(row.kept_path)) == sha256
    assert _labelled(workspace).keys() == seen.keys()


def test_a_labelled_image_that_cannot_be_read_is_no_obstacle_to_the_next_label(
    workspace: Workspace, tmp_path: Path, write_night: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = see(workspace, write_night(tmp_path / "night", 2, seed=1)).items()
    usual = images.file_sha256

    def unreadable(path: Path) -> str:
        if path == first[1]:
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path)

    monkeypatch.setattr(images, "file_sha256", unreadable)
    for sha256, _ in (first, second):
        assert label_images(workspace, LINE, [sha256], as_label="defect") == 1
    kept = {sha256: row.kept_path for sha256, row in _labelled(workspace).items()}
    assert kept[first[0]] is None
    assert kept[second[0]] is not None
