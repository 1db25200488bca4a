"""Goods that are known as defects are not counted as false rejects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detectors.version import DetectorVersion
from flows.evaluate import evaluate
from flows.labelling import label_images
from halfsigma import ImageError
from tests.flows.curated_retrain import LINE, line_with, see


def test_known_defects_among_the_goods_are_left_out_of_them_and_counted(
    version: DetectorVersion, tmp_path: Path, write_night: Callable[..., Path]
) -> None:
    """The folder of defects lies in that of the goods, and one image beside it was labelled a defect."""
    goods = write_night(tmp_path / "goods", 6, seed=21)
    defects = write_night(goods / "defects", 3, seed=22, defect=True)
    labelled = write_night(tmp_path / "labelled", 1, seed=23, defect=True)
    with line_with(version, tmp_path) as workspace:
        see(workspace, labelled)
        label_images(workspace, LINE, [str(labelled / "part0.png")], as_label="defect")
        shutil.copy(labelled / "part0.png", goods / "unnoticed.png")
        found = evaluate(workspace, LINE, good_folder=goods, defect_folder=defects, number=1)
        assert (found.n_good, found.n_defect, found.n_left_out_defects) == (6, 3, 4)
        assert found.fpr == 0.0
        with pytest.raises(ImageError, match=r"none of the images in .* can be used \(3 are known as defects\)"):
            evaluate(workspace, LINE, good_folder=defects, defect_folder=defects, number=1)
