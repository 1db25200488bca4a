"""Small photographs of a part, and one version fitted on them: made once a session, of a gravel plate's texture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.backbones.runtime import FeatureRuntime
from detectors.families.patchcore import PatchCore
from detectors.fit import GoodImages, fit_version, prepare
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images
from detectors.version import DetectorVersion

HEIGHT, WIDTH = 96, 112
N_GOOD = 40
Gray = NDArray[np.uint8]
Camera = Callable[..., Gray]


@pytest.fixture(scope="session")
def plate() -> Gray:
    """A photographed surface, (512, 512) uint8, that ships with scikit-image."""
    data = np.frombuffer(files("skimage").joinpath("data", "gravel.png").read_bytes(), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


@pytest.fixture(scope="session")
def camera(plate: Gray) -> Camera:
    """Takes one photograph of the part, (96, 112) uint8: each with its own place, light and noise."""

    def take(rng: np.random.Generator, *, gain: float = 1.0, blur_px: float = 0.0, defect: bool = False) -> Gray:
        top, left = 200 + rng.integers(-1, 2), 180 + rng.integers(-1, 2)
        part = plate[top : top + HEIGHT, left : left + WIDTH].astype(np.float32)
        if defect:
            y, x = rng.integers(20, HEIGHT - 40), rng.integers(20, WIDTH - 40)
            part[y : y + 20, x : x + 20] = 20.0
        if blur_px:
            part = cv2.GaussianBlur(part, (0, 0), blur_px)
        part = part * gain * rng.uniform(0.95, 1.05) + rng.normal(0.0, 3.0, part.shape)
        return np.clip(np.rint(part), 0, 255).astype(np.uint8)

    return take


@pytest.fixture(scope="session")
def write_night(camera: Camera) -> Callable[..., Path]:
    """Write ``n`` photographs into a folder; the same seed writes the same files."""

    def write(folder: Path, n: int, *, seed: int, **disturbance: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for number in range(n):
            cv2.imwrite(str(folder / f"part{number}.png"), camera(rng, **disturbance))
        return folder

    return write


@pytest.fixture(scope="session")
def good_folder(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    return write_night(tmp_path_factory.mktemp("goods"), N_GOOD, seed=0)


@pytest.fixture(scope="session")
def runtime() -> FeatureRuntime:
    """The embedded backbone in OpenVINO."""
    return build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD, kind="openvino")


@pytest.fixture(scope="session")
def torch_runtime() -> FeatureRuntime:
    """The same backbone in torch."""
    return build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD, kind="torch")


@pytest.fixture(scope="session")
def goods(good_folder: Path) -> GoodImages:
    return prepare(list_images(good_folder), framing=Framing(96), white_level=255)


@pytest.fixture(scope="session")
def fit_tiny(runtime: FeatureRuntime) -> Callable[..., DetectorVersion]:
    def fit(goods: GoodImages, *, seed: int = 0) -> DetectorVersion:
        return fit_version(goods, family=PatchCore, runtime=runtime, fpr_budget=0.05, seed=seed)

    return fit


@pytest.fixture(scope="session")
def version(goods: GoodImages, fit_tiny: Callable[..., DetectorVersion]) -> DetectorVersion:
    """Fitted on the session's good photographs, at a resolution that is quick rather than good."""
    return fit_tiny(goods)


@pytest.fixture(scope="session")
def canvases(goods: GoodImages) -> Sequence[NDArray[np.uint8]]:
    return [image.canvas for image in goods.prepared]
