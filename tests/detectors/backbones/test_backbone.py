"""Any timm network with weights of one's own, from safetensors only; what cannot be had says what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from detectors.backbones.backbone import BackboneSpec, load_backbone
from detectors.backbones.building import build_runtime
from halfsigma import DetectorError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 nobody trained, as a local safetensors file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_file(timm.create_model("resnet18", pretrained=False).state_dict(), path)
    return path


def test_a_local_safetensors_file_gives_the_taps_features(weights: Path) -> None:
    """Without the average over neighbours a patch feature is what timm's own feature extractor gives."""
    spec = BackboneSpec("resnet18", weights=weights, taps=("layer2",))
    canvas = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = build_runtime(spec, neighbourhood=1, kind="torch").features(canvas)
    torch.manual_seed(0)
    own = timm.create_model("resnet18", pretrained=False, features_only=True, out_indices=(2,)).eval()
    stored = load_backbone(spec).network.state_dict()
    own.load_state_dict({name: stored[name] for name in own.state_dict()})
    mean, std = np.array(own.default_cfg["mean"]), np.array(own.default_cfg["std"])
    normalised = torch.from_numpy(((canvas / 255.0 - mean) / std).astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = own(normalised)[0][0].permute(1, 2, 0).numpy()
    assert found.shape == (8, 12, 128)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())


def test_without_taps_the_stages_of_stride_8_and_16_are_read(weights: Path) -> None:
    backbone = load_backbone(BackboneSpec("resnet18", weights=weights))
    assert backbone.taps == ("layer2", "layer3")
    assert not any(parameter.requires_grad for parameter in backbone.network.parameters())
    assert not backbone.network.training


def test_another_backbone_runs_in_openvino_as_well(weights: Path) -> None:
    spec = BackboneSpec("resnet18", weights=weights)
    canvas = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    ours = build_runtime(spec, neighbourhood=3, kind="openvino").features(canvas)
    theirs = build_runtime(spec, neighbourhood=3, kind="torch").features(canvas)
    assert ours.shape == (8, 8, 128 + 256)
    assert np.abs(ours - theirs).max() < 1e-3 * theirs.std()


def test_a_name_that_timm_does_not_know_is_said_plainly() -> None:
    with pytest.raises(DetectorError, match="timm knows no model 'resnet19'"):
        load_backbone(BackboneSpec("resnet19"))


def test_weights_without_the_name_of_their_network_are_not_passed_over(weights: Path) -> None:
    with pytest.raises(DetectorError, match="has its own weights") as caught:
        load_backbone(BackboneSpec(weights=weights))
    assert "--backbone" in caught.value.hint


def test_a_tap_that_is_not_there_is_named(weights: Path) -> None:
    with pytest.raises(DetectorError, match="no module 'layer9'"):
        load_backbone(BackboneSpec("resnet18", weights=weights, taps=("layer9",)))


def test_weights_of_another_network_do_not_fit(tmp_path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    with pytest.raises(DetectorError, match=r"other.safetensors lacks or reshapes \d+ of \d+ tensors"):
        load_backbone(BackboneSpec("resnet18", weights=tmp_path / "other.safetensors"))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(DetectorError, match="safetensors only"):
        load_backbone(BackboneSpec("resnet18", weights=tmp_path / "weights.pth"))


@pytest.mark.parametrize("content", [None, b"", b"not safetensors at all, but long enough to have a header"])
def test_weights_that_are_missing_or_damaged_are_a_detector_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "mine.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DetectorError, match="mine.safetensors"):
        load_backbone(BackboneSpec("resnet18", weights=path))


def test_weights_that_would_have_to_be_downloaded_and_cannot_be_are_a_detector_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DetectorError, match=r"backbone 'resnet18.a1_in1k' cannot be loaded") as caught:
        load_backbone(BackboneSpec("resnet18.a1_in1k"))
    assert "safetensors" in caught.value.hint


def _untrained(name: str, folder: Path) -> BackboneSpec:
    save_file(timm.create_model(name, pretrained=False).state_dict(), folder / "mine.safetensors")
    return BackboneSpec(name, weights=folder / "mine.safetensors")


def test_a_network_whose_maps_have_their_channels_last_is_refused(tmp_path: Path) -> None:
    spec = _untrained("mambaout_femto", tmp_path)
    with pytest.raises(
        DetectorError, match=r"of mambaout_femto gives \(1, 64, 80, 48\), expected about \(1, 48, 64, 80\)"
    ):
        load_backbone(spec)


@pytest.mark.parametrize("taps", [("stages.2.blocks.0",), ("stages.2.blocks",), ("head.fc",)])
def test_a_tap_that_gives_no_map_is_refused_although_timm_says_nothing_of_it(
    tmp_path: Path, taps: tuple[str, ...]
) -> None:
    spec = _untrained("mambaout_femto", tmp_path)
    with pytest.raises(DetectorError, match="of mambaout_femto gives"):
        load_backbone(replace(spec, taps=taps))


def test_a_network_that_takes_one_size_only_is_refused(tmp_path: Path) -> None:
    spec = _untrained("maxvit_pico_rw_256", tmp_path)
    with pytest.raises(DetectorError, match="maxvit_pico_rw_256 takes no canvas of 256 × 320 px"):
        load_backbone(spec)


def test_a_network_without_padding_is_read(tmp_path: Path) -> None:
    assert load_backbone(_untrained("inception_v3", tmp_path)).taps == ("Mixed_5d", "Mixed_6e")
