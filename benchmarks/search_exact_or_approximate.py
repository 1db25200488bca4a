"""Exact search in the OpenVINO graph beside FAISS's, exact and by HNSW, for banks of 2,048 to 50,000 patches: time and recall.

    .venv/bin/python -m benchmarks.search_exact_or_approximate

Patches are those of the magnetic tiles, or of scikit-image's photographs without them, projected as PatchCore does; the
banks are coresets (random ones beyond 10,000, to save time), the queries the patches of images that gave none to them. The floor
is the backbone alone and FAISS's exact search alone, measured in rounds with `PatchCore.score`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.anomalib_material import TILES
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.families.patchcore import PatchCore, PatchCoreSettings
from detectors.patches.aggregation import TOP_SHARE
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import PatchProjection
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb

SIDE_PX = 256
DIMENSIONS = 128
N_QUERY_IMAGES = 40
LINKS = 32
"""HNSW's M."""
EFFORTS = (32, 64, 128)
"""HNSW's efSearch."""
GREEDY_UP_TO = 10_000
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=TILES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_048, 10_000, 50_000])
    options = parser.parse_args()
    faiss.omp_set_num_threads(usable_threads())
    runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD, kind="openvino")
    paths = list_images(options.images)
    order = np.random.default_rng(0).permutation(len(paths))
    framing = Framing(SIDE_PX)
    canvases = [
        framing.frame(to_uint8_rgb(read_photograph(paths[i]).pixels, white_level=255))
        for i in order[: N_QUERY_IMAGES + 2 * max(options.sizes) // 256 + 1]
    ]
    features = [runtime.features(canvas) for canvas in canvases]
    raw = np.concatenate([each.reshape(-1, each.shape[-1]) for each in features[N_QUERY_IMAGES:]])
    projection = PatchProjection.fit(raw, dimensions=DIMENSIONS)
    patches = projection.apply(raw)
    backbone = _median_ms(runtime.features, canvases[:N_QUERY_IMAGES])
    print(f"{usable_threads()} threads; backbone alone {backbone:.2f} ms\n")
    print("| bank | search | ms an image, backbone included | recall of the nearest | largest change of a score |")
    print("|---|---|---|---|---|")
    for size in options.sizes:
        if size <= GREEDY_UP_TO:
            bank = patches[greedy_coreset(patches, size, seed=0)]
        else:
            bank = patches[np.random.default_rng(0).choice(len(patches), min(size, len(patches)), replace=False)]
        model = PatchCore(runtime, projection, bank, PatchCoreSettings(bank_size=len(bank)))
        exact = faiss.IndexFlatL2(DIMENSIONS)
        exact.add(bank)
        whole, floor = _beside_its_floor(model, runtime, exact, projection, canvases[:N_QUERY_IMAGES])
        print(f"| {len(bank):,} | exact, in the graph: image to score and map | {whole:.2f} | 1 | 0 |")
        print(
            f"| | the backbone alone, and FAISS's exact search alone ({whole / floor:.2f} times this) | {floor:.2f} | 1 | 0 |"
        )
        graph = faiss.IndexHNSWFlat(DIMENSIONS, LINKS)
        graph.hnsw.efConstruction = 200
        graph.add(bank)
        for effort in EFFORTS:
            graph.hnsw.efSearch = effort

            def approximate(canvas: NDArray[np.uint8]) -> object:
                found = runtime.features(canvas)
                return graph.search(projection.apply(found.reshape(-1, found.shape[-1])), 1)  # noqa: B023

            hits, changes = [], []
            for each in features[:N_QUERY_IMAGES]:
                queries = projection.apply(each.reshape(-1, each.shape[-1]))
                true_squares, true = exact.search(queries, 1)
                squares, found = graph.search(queries, 1)
                hits.append((true == found).mean())
                changes.append(_score(squares) / _score(true_squares) - 1.0)
            spent = _median_ms(approximate, canvases[:N_QUERY_IMAGES])
            print(
                f"| | HNSW, M {LINKS}, efSearch {effort} | {spent:.2f} | {np.mean(hits):.4f} | {max(changes):+.2%} |",
                flush=True,
            )


def _beside_its_floor(
    model: PatchCore,
    runtime: FeatureRuntime,
    exact: faiss.IndexFlatL2,
    projection: PatchProjection,
    canvases: list[NDArray[np.uint8]],
) -> tuple[float, float]:
    """Medians of an image to its score, and of the backbone alone and the search alone together; ms.

    Each goes through all images before the next does, in rounds: the two libraries' threads wait for each other otherwise.
    """
    queries = [projection.apply(each.reshape(-1, each.shape[-1])) for each in map(runtime.features, canvases)]
    whole, backbone, search = np.median(
        [
            (
                _median_ms(model.score, canvases),
                _median_ms(runtime.features, canvases),
                _median_ms(lambda patches: exact.search(patches, 1), queries),
            )
            for _ in range(ROUNDS)
        ],
        axis=0,
    )
    return float(whole), float(backbone + search)


def _score(squares: NDArray[np.float32]) -> float:
    distances = np.sort(np.sqrt(np.maximum(squares.ravel(), 0.0)))
    return float(distances[-max(1, round(TOP_SHARE * distances.size)) :].mean())


def _median_ms(call: Callable[[Any], object], canvases: Sequence[object]) -> float:
    for canvas in canvases[:3]:
        call(canvas)
    times = []
    for canvas in canvases:
        started = time.perf_counter()
        call(canvas)
        times.append((time.perf_counter() - started) * 1e3)
    return float(np.median(times))


if __name__ == "__main__":
    main()
