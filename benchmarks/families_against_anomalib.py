"""Every family beside anomalib's own, on the same images: image AUROC, AUPRO on the masks, time to fit, latency.

    python -m benchmarks.families_against_anomalib --part tiles --seconds 300

anomalib's trained families learn for ``--seconds``, several times what halfsigma's take; PatchCore and PaDiM end by
themselves. Both sides get the same goods, the same backbone weights, and two threads; what anomalib does not take as
it is, `anomalib_families_worker` names. Its PatchCore keeps as many patches as halfsigma's. The latency is of the whole
way from a uint8 photograph to score and map, in turns, anomalib in its OpenVINO export as shipped.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.anomalib_client import AnomalibWorker, prepare
from benchmarks.anomalib_material import BACKBONE
from benchmarks.aupro import SIDE_PX, aupro
from benchmarks.closed_loop_on_tiles import Image, prepared
from benchmarks.labelled_parts import LabelledPart, bricks, some, tiles
from detectors.backbones.backbone import BackboneSpec, load_backbone
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD, runtime_for
from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.calibration import hold_out
from detectors.families.names import FAMILIES, family_named
from detectors.families.patchcore import PatchCoreSettings
from detectors.fit import fit_version
from detectors.learning import distillation
from detectors.learning.imitation import strangers
from detectors.learning.networks.pdn import description_network
from detectors.photographs.framing import Framing
from detectors.protocol import FitContext
from detectors.version import DetectorVersion
from registry.gates import auroc

N_FIT = 300
FPR_BUDGET = 0.01
ENVIRONMENT = Path(__file__).parents[1] / ".bench-venv"
SCRIPT = Path(__file__).with_name("anomalib_families_worker.py")
TURNS, IMAGES_A_TURN = 4, 15
TEACHER_STEPS = 150
"""Of its distillation from the backbone, for anomalib's EfficientAd: the published teacher is a download. Its minutes
are not counted as anomalib's."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What one side says of the goods and the defects of a part."""

    good: NDArray[np.float64]
    defects: NDArray[np.float64]
    maps: NDArray[np.floating[Any]]
    """(defects, SIDE_PX, SIDE_PX)"""


@dataclass(frozen=True, slots=True)
class Given:
    """What anomalib's process is given, in files."""

    images: Path
    weights: Path
    teacher: Path
    textures: Path
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def halfsigma_side(
    part: LabelledPart, family: str, runtime: FeatureRuntime, framing: Framing, seed: int
) -> tuple[DetectorVersion, Judged, float]:
    """Fit and judge; the seconds are of the whole `fit_version`."""
    goods = prepared(part.fit, framing)
    runtime = runtime_for([each.small for each in goods.prepared], usual=runtime, spec=BackboneSpec())
    begin = time.perf_counter()
    version = fit_version(goods, family=family_named(family), runtime=runtime, fpr_budget=FPR_BUDGET, seed=seed)
    seconds = time.perf_counter() - begin
    good = np.array([version.model.score(framing.frame(image)).score for image in part.good])
    found = [version.model.score(framing.frame(image)) for image in part.defects]
    maps = np.stack(
        [cv2.resize(each.anomaly_map, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR) for each in found]
    )
    return version, Judged(good, np.array([each.score for each in found]), maps), seconds


def anomalib_side(
    worker: AnomalibWorker, family: str, given: Given, folder: Path, *, seconds: float, seed: int
) -> tuple[Judged, dict[str, Any]]:
    how = worker.ask(
        "fit",
        family=family,
        images=str(given.images),
        weights=str(given.weights),
        teacher=str(given.teacher),
        textures=str(given.textures),
        mean=given.mean,
        std=given.std,
        backbone=BACKBONE,
        n_select=PatchCoreSettings().bank_size,
        seconds=seconds,
        seed=seed,
    )
    found = {}
    for split in ("good", "defect"):
        scores, maps = folder / f"{split}-scores.npy", folder / f"{split}-maps.npy"
        worker.ask("score", split=split, scores=str(scores), maps=str(maps))
        found[split] = np.load(scores)
    return Judged(found["good"], found["defect"], np.load(maps)), how


def latencies(
    worker: AnomalibWorker, version: DetectorVersion, images: Sequence[Image], framing: Framing
) -> tuple[float, float]:
    """Median milliseconds of halfsigma and of anomalib's export for images of 256 px, in turns."""
    ours, theirs = [], []
    for turn in range(1 + TURNS):  # the first one warms up
        milliseconds = []
        for image in images:
            begin = time.perf_counter()
            version.model.score(framing.frame(image))
            milliseconds.append((time.perf_counter() - begin) * 1e3)
        answer = worker.ask("time", split="timed")["ms"]
        if turn:
            ours += milliseconds
            theirs += answer
    return float(np.median(ours)), float(np.median(theirs))


def give(part: LabelledPart, runtime: FeatureRuntime, folder: Path, *, families: Sequence[str], seed: int) -> Given:
    """Write what anomalib is given: the images as they are, the backbone's weights, textures, a teacher if asked."""
    from safetensors.torch import save_file

    backbone = load_backbone(BackboneSpec())
    save_file({key: t.contiguous() for key, t in backbone.network.state_dict().items()}, folder / "weights.safetensors")
    held_out = hold_out(len(part.fit), seed=seed).reference
    strange = strangers((SIDE_PX, SIDE_PX), seed=seed)
    splits = {
        "fit": part.fit,
        "good": part.good,
        "defect": part.defects,
        "held": [part.fit[i] for i in held_out],
        "strange": strange,
        "timed": _timed(part),
    }
    np.savez(
        folder / "images.npz", **{f"{name}{i}": image for name, all_ in splits.items() for i, image in enumerate(all_)}
    )
    textures = folder / "textures"
    textures.mkdir()
    for number, texture in enumerate(_textures() + strange[:8]):
        cv2.imwrite(str(textures / f"{number}.png"), texture[..., ::-1])
    teacher = folder / "teacher.safetensors"
    if "efficientad" in families:
        _save_teacher(teacher, part, strange, runtime, seed=seed)
    return Given(folder / "images.npz", folder / "weights.safetensors", teacher, textures, backbone.mean, backbone.std)


def _timed(part: LabelledPart) -> list[Image]:
    """Some goods in the size that anomalib's export takes."""
    some = part.good[:IMAGES_A_TURN]
    return [np.asarray(cv2.resize(image, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8) for image in some]


def _textures() -> list[Image]:
    """Photographs that scikit-image ships, without the bricks."""
    import skimage

    names = ("grass", "gravel", "coins", "moon", "camera", "page", "coffee", "chelsea")
    files = [Path(skimage.__file__).parent / "data" / f"{name}.png" for name in names]
    return [np.asarray(cv2.imread(str(file))[..., ::-1], np.uint8) for file in files]


def _save_teacher(file: Path, part: LabelledPart, strange: list[Image], runtime: FeatureRuntime, *, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    square = [np.asarray(cv2.resize(image, (SIDE_PX, SIDE_PX)), np.uint8) for image in part.fit]
    mean, sd = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    def as_read(canvas: Image) -> torch.Tensor:
        return (torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255.0 - mean) / sd

    torch.manual_seed(seed)
    network = description_network("small")
    distillation.distil_teacher(
        network,
        [*square[30:], *strange],
        square[:10],
        prepared=as_read,
        runtime=runtime,
        context=FitContext(seed=seed),
        steps=TEACHER_STEPS,
    )
    save_file(network.state_dict(), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("tiles", "bricks"), default="tiles")
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES))
    parser.add_argument("--seconds", type=float, default=300.0, help="anomalib's trained families learn for")
    parser.add_argument("--judge", type=int, help="at most so many goods and defects; Draem takes seconds for each")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(usable_threads())
    python = prepare(ENVIRONMENT)
    part = (tiles if asked.part == "tiles" else bricks)(N_FIT, seed=asked.seed)
    if asked.judge is not None:
        part = some(part, asked.judge, seed=asked.seed)
    runtime, framing = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD), Framing(SIDE_PX)
    print(
        f"{part.name}: {N_FIT} goods to fit, {len(part.good)} others, {len(part.defects)} defects; {usable_threads()} threads\n"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        families = asked.family or sorted(FAMILIES)
        given = give(part, runtime, folder, families=families, seed=asked.seed)
        print("| family | | AUROC | AUPRO | " + " | ".join(sorted(set(part.kinds))) + " | whole fit | one image |")
        print("|---|---|---|---|" + "---|" * (len(set(part.kinds)) + 2))
        for family in families:
            _compare(part, family, runtime, framing, given, folder, python, asked)


def _compare(
    part: LabelledPart,
    family: str,
    runtime: FeatureRuntime,
    framing: Framing,
    given: Given,
    folder: Path,
    python: Path,
    asked: argparse.Namespace,
) -> None:
    version, ours, seconds = halfsigma_side(part, family, runtime, framing, asked.seed)
    worker = AnomalibWorker(python, log=folder / f"{family}.log", script=SCRIPT)
    theirs, how = anomalib_side(worker, family, given, folder, seconds=asked.seconds, seed=asked.seed)
    (folder / family).mkdir()
    precision = worker.ask("export", folder=str(folder / family))["precision"]
    ours_ms, theirs_ms = latencies(worker, version, _timed(part), framing)
    worker.close()
    _row(part, family, "**halfsigma**", ours, f"{seconds:.0f} s", f"{ours_ms:.1f} ms")
    steps = f", {how['steps']} steps" if how["steps"] > 1 else ""
    spent = f"{how['seconds']:.0f} s{steps}"
    _row(part, family, "anomalib", theirs, spent, f"{theirs_ms:.1f} ms ({precision})")


def _row(part: LabelledPart, family: str, side: str, judged: Judged, fit: str, latency: str) -> None:
    kinds = np.array(part.kinds)
    by_kind = [f"{auroc(judged.good, judged.defects[kinds == kind]):.3f}" for kind in sorted(set(part.kinds))]
    values = [
        f"{auroc(judged.good, judged.defects):.3f}",
        f"{aupro(judged.maps, part.masks):.3f}",
        *by_kind,
        fit,
        latency,
    ]
    print(f"| {family} | {side} | " + " | ".join(values) + " |", flush=True)


if __name__ == "__main__":
    if not os.environ.get("OMP_NUM_THREADS"):
        print("OMP_NUM_THREADS is not set: both sides use all processors they may", file=sys.stderr)
    main()
