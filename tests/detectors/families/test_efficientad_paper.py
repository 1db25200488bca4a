"""EfficientAD with the paper's networks: its loss by hand, its teacher, and a fit of two steps from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from detectors import calibration
from detectors.artifact import load_version, save_version
from detectors.backbones.runtime import FeatureRuntime
from detectors.families import efficientad_paper
from detectors.families.efficientad_paper import EfficientAdSmall, _augmented
from detectors.families.names import FAMILIES, family_named, saved_family
from detectors.fit import GoodImages, fit_version
from detectors.learning import distillation
from detectors.learning.distillation import TEACHER_VARIABLE, load_teacher
from detectors.learning.networks.pdn import PaperNetwork, description_network, standardised
from halfsigma import ArtifactError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(distillation, "PLAN", replace(distillation.PLAN, steps=2))
    monkeypatch.setattr(efficientad_paper, "FROM_SCRATCH", replace(efficientad_paper.FROM_SCRATCH, steps=2))
    monkeypatch.setattr(efficientad_paper, "WARM", replace(efficientad_paper.WARM, steps=1))
    monkeypatch.setattr(efficientad_paper, "MOST_VALIDATED", 2)
    yield


@pytest.fixture(scope="module")
def network() -> PaperNetwork:
    torch.manual_seed(0)
    found = PaperNetwork("small").eval()
    with torch.no_grad():
        found.mean.normal_()
        found.sd.uniform_(0.5, 2.0)
        found.scale.copy_(torch.tensor([[0.5, 1.5], [0.1, 0.3]]))
    return found


def test_the_loss_is_algorithm_1_in_numpy(network: PaperNetwork) -> None:
    image, augmented, stranger = torch.rand(3, 1, 3, 256, 256)
    with torch.inference_mode():
        found = float(network.loss(image, augmented, stranger))
        said, said_augmented = (network.described(each).numpy() for each in (image, augmented))
        of_image, of_augmented, of_stranger = (
            network.student(standardised(each)).numpy() for each in (image, augmented, stranger)
        )
        coded = network.autoencoder(standardised(augmented)).numpy()
    squares = (said - of_image[:, :384]) ** 2
    hard = np.sort(squares.ravel())[-round(0.001 * squares.size) :]
    expected = (
        hard.mean()
        + (of_stranger[:, :384] ** 2).mean()
        + ((said_augmented - coded) ** 2).mean()
        + ((coded - of_augmented[:, 384:]) ** 2).mean()
    )
    assert found == pytest.approx(float(expected), rel=1e-4)


def test_the_map_is_half_of_each_normalised_map_of_256_pixels(network: PaperNetwork) -> None:
    canvas = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    pixels = canvas.permute(0, 3, 1, 2) / 255.0
    with torch.inference_mode():
        torch.testing.assert_close(network.pixels(canvas), pixels)
        local, whole = network.maps(network.described(pixels), pixels)
        torch.testing.assert_close(network(canvas), 0.05 * (local - 0.5) + 0.05 * (whole - 0.1) / 0.2)


def test_an_augmented_image_is_brighter_or_of_more_contrast_or_colour() -> None:
    pixels = torch.rand(1, 3, 8, 8) * 0.5 + 0.25
    kinds = set()
    for seed in range(30):
        changed = _augmented(pixels, np.random.default_rng(seed))
        assert changed.shape == pixels.shape
        ratio = changed / pixels
        kinds.add("light" if float(ratio.std()) < 1e-5 else "other")
        assert float(changed.min()) >= 0.0
        assert float(changed.max()) <= 1.0
    assert kinds == {"light", "other"}


@pytest.mark.parametrize("names", ["published", "plain"])
def test_a_teacher_is_read_by_the_order_of_its_layers(names: str, tmp_path: Path) -> None:
    teacher = description_network("medium", channels=8)
    tensors = teacher.state_dict()
    if names == "published":
        layers = {
            index: f"conv{place}" for place, index in enumerate(dict.fromkeys(k.split(".")[0] for k in tensors), 1)
        }
        tensors = {f"{layers[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in tensors.items()}
    save_file(tensors, tmp_path / "teacher.safetensors")
    other = description_network("medium", channels=8)
    load_teacher(other, tmp_path / "teacher.safetensors")
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])


def test_a_teacher_of_another_size_or_a_broken_file_is_refused(tmp_path: Path) -> None:
    save_file(description_network("small", channels=8).state_dict(), tmp_path / "small.safetensors")
    with pytest.raises(ArtifactError, match="expected") as caught:
        load_teacher(description_network("medium", channels=8), tmp_path / "small.safetensors")
    assert "small or medium" in caught.value.hint
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_teacher(description_network("small"), tmp_path / "broken.safetensors")


def test_a_distilled_teacher_comes_nearer_to_the_backbone(
    canvases: list[NDArray[np.uint8]], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = []
    train = distillation.train
    monkeypatch.setattr(distillation, "train", lambda *a, **k: (trainings.append(train(*a, **k)), trainings[-1])[1])
    monkeypatch.setattr(distillation, "PLAN", replace(distillation.PLAN, steps=6, learning_rate=1e-3, validate_every=3))
    torch.manual_seed(0)
    network = PaperNetwork("small")
    network.teacher = torch.nn.Sequential(  # a network of the same geometry that learns in six steps
        torch.nn.AvgPool2d(4, 4), torch.nn.Conv2d(3, 400, 9)
    )
    distillation.distil_teacher(
        network.teacher,
        canvases[:3],
        canvases[4:6],
        prepared=lambda canvas: standardised(network.pixels(torch.from_numpy(canvas)[None])),
        runtime=runtime,
        context=efficientad_paper.FitContext(),
        strangers=canvases[3:4],
    )
    (done,) = trainings
    assert done.best < done.validated[0][1]
    assert not any(each.requires_grad for each in network.teacher.parameters())


def test_two_steps_go_from_images_to_a_saved_version_and_on_from_it(
    goods: GoodImages, runtime: FeatureRuntime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MIN_REFERENCE", 3)  # each image costs these networks a second
    monkeypatch.setattr(calibration, "LEAST_FITTED", 2)
    few = replace(goods, prepared=goods.prepared[:5])
    save_file(description_network("small").state_dict(), tmp_path / "teacher.safetensors")
    monkeypatch.setenv(TEACHER_VARIABLE, str(tmp_path / "teacher.safetensors"))
    version = fit_version(few, family=family_named("efficientad-small"), runtime=runtime, fpr_budget=0.05, seed=0)
    save_version(version, tmp_path / "version")
    loaded = load_version(tmp_path / "version")
    photograph = np.random.default_rng(0).integers(0, 256, (96, 112), dtype=np.uint8)
    found = loaded.score(photograph)
    assert found.score == version.score(photograph).score == found.anomaly_map.max()
    assert found.anomaly_map.shape == (56, 56)
    fresh = replace(few, prepared=tuple(replace(each, sha256=each.sha256[::-1]) for each in few.prepared))
    warm = fit_version(fresh, family=EfficientAdSmall, runtime=runtime, fpr_budget=0.05, seed=0, warm_start=loaded)
    for name, array in warm.model.arrays().items():
        if name.startswith(("teacher", "mean", "sd")):
            np.testing.assert_array_equal(array, version.model.arrays()[name])


def test_the_papers_networks_are_known_by_name_and_are_none_of_the_six() -> None:
    for name in ("efficientad-small", "efficientad-medium"):
        assert family_named(name) is saved_family(name)
        assert name not in FAMILIES
