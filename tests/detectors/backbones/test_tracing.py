from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detectors.backbones.tracing import to_openvino, write_ir
from halfsigma import ArtifactError, DetectorError


class Unknown(torch.nn.Module):
    """With an operation that OpenVINO has no translation for."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(maps.transpose(-1, -2) @ maps)


class Known(torch.nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.sum(dim=-1)


def test_a_network_that_openvino_cannot_run_is_a_clear_error() -> None:
    with pytest.raises(DetectorError, match="cannot be converted to OpenVINO") as raised:
        to_openvino(Unknown(), [torch.zeros(1, 8, 8, 4)])
    assert "torch runtime" in raised.value.hint


def test_a_network_that_it_can_run_keeps_height_and_width_open() -> None:
    model = to_openvino(Known(), [torch.zeros(1, 8, 8, 4)])
    assert model.input(0).partial_shape.to_string() == "[1,?,?,4]"


def test_a_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    model = to_openvino(torch.nn.Conv2d(1, 8, 33), [torch.zeros(1, 1, 64, 64)])
    (tmp_path / "network.bin").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match="network.bin cannot be written.* MB left") as raised:
        write_ir(model, tmp_path, "network")
    assert "make room" in raised.value.hint
