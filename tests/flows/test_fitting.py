"""What people said of a line's images counts when it is fitted again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detectors.photographs.images import list_images
from flows.fitting import fit_line
from flows.settings import Settings
from flows.workspace import open_workspace
from halfsigma import TooFewImages
from registry import images, lines


@pytest.mark.parametrize("n_labelled", [24, 5])
def test_a_folder_of_labelled_defects_is_refused_with_their_number(
    tmp_path: Path, write_night: Callable[..., Path], n_labelled: int
) -> None:
    folder = write_night(tmp_path / "goods", 24, seed=51)
    labelled = list_images(folder)[:n_labelled]
    with open_workspace(Settings.from_environment({"HALFSIGMA_HOME": str(tmp_path / "home")})) as workspace:
        with workspace.database.session() as session:
            line = lines.create_line(session, "pad", detector="padim")
            images.remember(session, line, {images.file_sha256(path): str(path) for path in labelled})
            images.label(session, line, labelled, "defect")
        expected = rf"{24 - n_labelled} good images of 24 files.*; {n_labelled} are labelled as defects of this line"
        with pytest.raises(TooFewImages, match=expected) as raised:
            fit_line(workspace, "pad", folder, detector="padim", seed=0)
    assert "--as good" in raised.value.hint
