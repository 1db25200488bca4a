"""What the MLflow model takes for an image, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from detectors.artifact import save_version
from detectors.version import DetectorVersion
from halfsigma import ImageError
from registry.pyfunc_model import VERSION_ARTIFACT, HalfsigmaModel


@pytest.fixture(scope="module")
def model(version: DetectorVersion, tmp_path_factory: pytest.TempPathFactory) -> HalfsigmaModel:
    folder = tmp_path_factory.mktemp("saved") / "version"
    save_version(version, folder)
    loaded = HalfsigmaModel()
    loaded.load_context(SimpleNamespace(artifacts={VERSION_ARTIFACT: str(folder)}))
    return loaded


@pytest.fixture(scope="module")
def photographs(camera: Callable[..., NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(8)
    return [camera(rng) for _ in range(2)]


def test_every_form_of_the_same_images_gets_the_same_scores(
    model: HalfsigmaModel, version: DetectorVersion, photographs: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    for path, photograph in zip(paths, photographs, strict=True):
        cv2.imwrite(str(path), photograph)
    expected = [version.score(photograph).score for photograph in photographs]
    colour = [np.repeat(photograph[:, :, None], 3, axis=2) for photograph in photographs]
    forms = (
        paths,
        list(map(str, paths)),
        pd.DataFrame({"image": list(map(str, paths))}),
        photographs,
        np.stack(photographs),
    )
    for given in (*forms, colour, np.stack(colour)):
        assert model.predict(None, given)["score"].tolist() == expected


def test_one_image_alone_is_one_row(model: HalfsigmaModel, photographs: list[NDArray[np.uint8]]) -> None:
    judged = model.predict(None, photographs[0])
    assert list(judged.columns) == ["score", "threshold", "rejected"]
    assert [judged.dtypes[name].kind for name in judged] == ["f", "f", "b"]
    assert len(judged) == 1
    colour = np.repeat(photographs[0][:, :, None], 3, axis=2)
    transparent = np.concatenate([colour, np.zeros_like(colour[..., :1])], axis=2)
    for lone in (colour, transparent):
        assert model.predict(None, lone)["score"].tolist() == judged["score"].tolist()


def test_no_image_is_no_row(model: HalfsigmaModel) -> None:
    assert len(model.predict(None, [])) == 0


@pytest.mark.parametrize("array", [np.zeros((40, 40)), np.zeros(40, np.uint8), np.zeros((1, 40, 40, 3), np.uint8)])
def test_an_array_that_is_no_image_is_said_plainly(model: HalfsigmaModel, array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected uint8 or uint16"):
        model.predict(None, [array])
