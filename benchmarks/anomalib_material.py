"""What both sides are given: images, weights, patch features, and the machine they run on."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from detectors.backbones.backbone import BackboneSpec, load_backbone
from detectors.backbones.building import build_runtime
from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb

SIDE_PX = 256
BACKBONE = "tf_efficientnet_lite0"
LAYERS = ("blocks.2", "blocks.4")
"""Strides 8 and 16: 32 × 32 patches of 40 + 112 channels, the middle stages that PatchCore's paper reads."""
NEIGHBOURHOOD = 3
TILES = Path(__file__).resolve().parents[2] / "shared" / "data" / "magnetic_tile" / "good"


@dataclass(frozen=True, slots=True)
class Material:
    """The same for both sides; what anomalib's process needs of it lies in files."""

    source: str
    images: NDArray[np.uint8]
    """(n, SIDE_PX, SIDE_PX, 3)"""
    features: NDArray[np.float32]
    """(n · patches, channels)"""
    runtime: FeatureRuntime
    weights_file: Path
    images_file: Path
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def gather(cls, folder: Path, *, images: Path | None, n_images: int) -> Material:
        source, pixels = _read_images(images, n_images)
        spec = BackboneSpec(taps=LAYERS)
        runtime = build_runtime(spec, neighbourhood=NEIGHBOURHOOD, kind="openvino")
        backbone = load_backbone(spec)
        weights_file, images_file = folder / "weights.safetensors", folder / "images.npy"
        save_file({key: tensor.contiguous() for key, tensor in backbone.network.state_dict().items()}, weights_file)
        np.save(images_file, pixels)
        maps = [runtime.features(image) for image in pixels]
        features = np.concatenate([each.reshape(-1, each.shape[-1]) for each in maps])
        return cls(source, pixels, features, runtime, weights_file, images_file, backbone.mean, backbone.std)


def describe_machine(theirs: dict[str, Any], material: Material, *, threads: int) -> str:
    """Date, processor, thread counts and versions, as a section of the report."""
    ours = ("torch", "timm", "openvino", "faiss-cpu", "numpy")
    return "\n".join(
        [
            "# Against anomalib",
            "",
            f"`python -m benchmarks.against_anomalib`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. "
            f"{material.source}, {SIDE_PX} × {SIDE_PX} px; EfficientNet-Lite0, {' and '.join(LAYERS)}, the "
            "same weights.",
            "",
            f"- Processor: {_processor()}; {os.cpu_count()} in the machine, {len(os.sched_getaffinity(0))} "
            f"allowed to either side by the operating system. Threads: halfsigma {usable_threads()}, "
            f"anomalib's torch {theirs['torch_threads']}, OpenVINO {threads} on both sides.",
            f"- Load average of the machine at the start: {os.getloadavg()[0]:.1f} (above 1, others worked on it).",
            f"- halfsigma's side: Python {platform.python_version()}, "
            + ", ".join(f"{name} {version(name)}" for name in ours),
            "- anomalib's side: " + ", ".join(f"{name} {number}" for name, number in theirs["versions"].items()),
        ]
    )


def _read_images(folder: Path | None, n_images: int) -> tuple[str, NDArray[np.uint8]]:
    folder = folder or (TILES if TILES.is_dir() else None)
    if folder is None:
        return f"{n_images} crops of scikit-image's photographs", _crops(n_images)
    paths = list_images(folder)
    order = np.random.default_rng(0).permutation(len(paths))[:n_images]
    images = [to_uint8_rgb(read_photograph(paths[i]).pixels, white_level=255) for i in order]
    sized = [cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for image in images]
    return f"{len(sized)} images of {folder.parent.name}/{folder.name}", np.stack(sized).astype(np.uint8)


def _crops(n_images: int) -> NDArray[np.uint8]:
    from skimage import data

    rng = np.random.default_rng(0)
    photographs = [data.brick(), data.grass(), data.gravel()]
    crops = []
    for k in range(n_images):
        photograph = photographs[k % len(photographs)]
        top, left = rng.integers(0, np.array(photograph.shape) - SIDE_PX)
        crops.append(np.repeat(photograph[top : top + SIDE_PX, left : left + SIDE_PX, None], 3, axis=2))
    return np.stack(crops).astype(np.uint8)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    return f"{names[0] if names else platform.processor()} ({', '.join(wide)})"
