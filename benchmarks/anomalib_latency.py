"""The second half: one image at a time, from the decoded array to its score and its map."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.anomalib_client import AnomalibWorker
from benchmarks.anomalib_material import BACKBONE, LAYERS, NEIGHBOURHOOD, SIDE_PX, Material
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.runtime import FeatureRuntime
from detectors.calibration import Threshold
from detectors.families.patchcore import PatchCore, PatchCoreSettings
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import PatchProjection
from detectors.photographs.framing import Framing
from detectors.photographs.position import PartTemplate, small_gray
from detectors.protocol import FitContext
from detectors.version import DetectorVersion

BANK_SIZE = 2048
N_BANK_IMAGES = 100
IMAGES_A_TURN = 20
PATCH_GRID = 32
THEIRS = {
    "torch": "anomalib, torch, as shipped (float32)",
    "torch_bare": "anomalib, torch, without its map's upsampling and blur and without post-processing",
    "openvino": "anomalib, its OpenVINO export, as shipped ({openvino})",
    "openvino_f32": "anomalib, its OpenVINO export, held to float32 like halfsigma",
}
OURS = {
    "score": "**halfsigma, the same stages and bank** (`PatchCore.score`, float32)",
    "station": "halfsigma, the same, with framing, threshold and all covariates (`DetectorVersion.score`)",
    "default": "halfsigma, its default taps and bank ({default})",
    "backbone": "floor: the network alone in OpenVINO (float32)",
    "search": "floor: exact FAISS search alone",
}


def compare(worker: AnomalibWorker, material: Material, folder: Path, *, quick: bool) -> str:
    """Score the same images on both sides in turns, and return the section."""
    patches = material.features[: N_BANK_IMAGES * PATCH_GRID**2]
    bank = patches[greedy_coreset(patches, BANK_SIZE)]
    np.save(folder / "bank.npy", bank)
    labels = worker.ask(
        "setup",
        backbone=BACKBONE,
        layers=list(LAYERS),
        weights=str(material.weights_file),
        mean=material.mean,
        std=material.std,
        bank=str(folder / "bank.npy"),
        images=str(material.images_file),
        folder=str(folder),
        side=SIDE_PX,
    )["precision"]
    calls, default = _ours(material, bank)
    images = list(range(len(material.images)))[-IMAGES_A_TURN:]  # none of them gave a patch to the bank
    names = {**THEIRS, **OURS}
    turns: dict[str, list[list[float]]] = {name: [] for name in names}
    work: dict[str, list[float]] = {name: [] for name in names}
    scores: dict[str, list[float]] = {}
    for turn in range(1 + (4 if quick else 12)):  # the first one warms up
        print(f"inference, turn {turn}", file=sys.stderr, flush=True)
        for name in names:
            if name in THEIRS:
                answer = worker.ask("score", engine=name, images=images)
                milliseconds, cpu_ms, scores[name] = answer["ms"], answer["cpu_ms"], answer["scores"]
            else:
                milliseconds, cpu_ms, scores[name] = _time(calls[name], material.images[images])
            if turn:
                turns[name].append(milliseconds)
                work[name].append(cpu_ms)
    lines = [
        f"## One image of {SIDE_PX} × {SIDE_PX} px, bank of {BANK_SIZE:,} × {bank.shape[1]}",
        "",
        f"{len(turns['score'])} turns of {IMAGES_A_TURN} images. From a uint8 array in memory to the score "
        "and the map. CPU: processor time of all threads, the smallest turn, which other work on the machine "
        "disturbs least. By turn: the ratio of medians within a turn, smallest to largest.",
        "",
        "| | min ms | median ms | p95 ms | max ms | CPU ms | median ÷ halfsigma's | by turn |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, label in names.items():
        lines.append(_row(label.format(default=default, **labels), turns[name], work[name], turns["score"]))
    return "\n".join([*lines, "", *_checks(worker, material, folder, scores)])


def _ours(material: Material, bank: NDArray[np.float32]) -> tuple[dict[str, Callable[..., object]], str]:
    same = _patchcore(material.runtime, bank)
    version = DetectorVersion(
        framing=Framing(side_px=SIDE_PX),
        white_level=255,
        runtime=material.runtime,
        model=same,
        template=PartTemplate.of([small_gray(image) for image in material.images[:10]]),
        threshold=Threshold(1.0, 0.01),
        reference_scores=np.arange(2.0),
        reference_covariates={},
        provenance={},
    )
    usual = PatchCoreSettings()
    default = PatchCore.fit(
        list(material.images[:N_BANK_IMAGES]),
        runtime=build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD, kind="openvino"),
        settings=usual,
        context=FitContext(),
    ).model
    queries = material.runtime.features(material.images[-1]).reshape(-1, bank.shape[1])
    index = MemoryBank(bank)
    calls: dict[str, Callable[..., object]] = {
        "score": lambda image: same.score(image).score,
        "station": lambda image: version.score(image).score,
        "default": lambda image: default.score(image).score,
        "backbone": lambda image: material.runtime.features(image)[0, 0, 0],
        "search": lambda image: index.nearest(queries)[0],
    }
    bank_size, dimensions = default.arrays()["bank"].shape
    return calls, f"{bank_size:,} × {dimensions}"


def _patchcore(runtime: FeatureRuntime, bank: NDArray[np.float32]) -> PatchCore:
    """A PatchCore with anomalib's bank; a full rotation changes no distance."""
    projection = PatchProjection.fit(bank, dimensions=bank.shape[1])
    settings = PatchCoreSettings(bank_size=len(bank), dimensions=bank.shape[1], canvas_size=(256, 256))
    return PatchCore(runtime, projection, projection.apply(bank), settings)


def _time(call: Callable[..., object], images: NDArray[np.uint8]) -> tuple[list[float], float, list[float]]:
    milliseconds, scores = [], []
    processor = time.process_time()
    for image in images:
        begin = time.perf_counter()
        score = call(image)
        milliseconds.append((time.perf_counter() - begin) * 1e3)
        scores.append(float(score))  # type: ignore[arg-type]
    return milliseconds, (time.process_time() - processor) * 1e3 / len(images), scores


def _checks(worker: AnomalibWorker, material: Material, folder: Path, scores: dict[str, list[float]]) -> list[str]:
    """Say how far the two sides compute the same."""
    worker.ask("embed", image=0, path=str(folder / "embedding.npy"))
    theirs = np.load(folder / "embedding.npy").reshape(PATCH_GRID, PATCH_GRID, -1)
    mine = material.runtime.features(material.images[0])
    inner = slice(4, -4)  # anomalib averages zeros in at the border, halfsigma does not
    off = np.abs(theirs - mine)[inner, inner].max() / np.abs(theirs).max()
    drift = [np.abs(np.subtract(scores[name], scores["torch"])).max() for name in ("openvino", "openvino_f32")]
    spread = float(np.ptp(scores["torch"]))
    rank = float(np.corrcoef(scores["torch"], scores["score"])[0, 1])
    return [
        f"The same network: patch features away from the border differ by at most {off:.1e} of the largest. "
        f"anomalib's scores in OpenVINO differ from those in torch by at most {drift[0]:.3f} as shipped and "
        f"{drift[1]:.4f} in float32 (all scores span {spread:.2f}). Scores of the two products correlate at "
        f"{rank:.2f} over these good images; they are not equal by design: anomalib weighs the worst patch "
        f"(9 neighbours), halfsigma averages the worst {PatchCoreSettings().top_share:.0%}. anomalib "
        "upsamples and blurs its map to full size inside the model; halfsigma keeps it by patch and draws it "
        "when it is looked at: the row without map shows what that is worth.",
    ]


def _row(label: str, turns: list[list[float]], work: list[float], mine: list[list[float]]) -> str:
    pooled = np.concatenate(turns)
    by_turn = [float(np.median(a) / np.median(b)) for a, b in zip(turns, mine, strict=True)]
    ratio = float(np.median(pooled) / np.median(np.concatenate(mine)))
    figures = [pooled.min(), np.median(pooled), np.percentile(pooled, 95), pooled.max(), min(work), ratio]
    cells = " | ".join(f"{figure:.2f}" for figure in figures)
    return f"| {label} | {cells} | {min(by_turn):.2f} – {max(by_turn):.2f} |"
