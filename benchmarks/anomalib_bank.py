"""The first half: choosing a bank from patches, by anomalib, by plain greedy, by halfsigma."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.anomalib_client import AnomalibWorker
from benchmarks.anomalib_material import Material
from detectors.backbones.runtime import usable_threads
from detectors.patches.coreset import greedy_coreset
from detectors.patches.coreset_search import squared_distances

PATCHES_PER_PICK = 50
LIMITED_PICKS = 150
"""Of anomalib at 307,200 patches; every pick costs it the same, so the rest is extrapolated."""


@dataclass(frozen=True, slots=True)
class Run:
    """Wall time, and processor time of all threads."""

    seconds: float
    cpu_s: float


def plain_greedy(features: NDArray[np.float32], n_select: int, *, first: int) -> NDArray[np.int64]:
    """The textbook's loop, by the definition of distance that `detectors.patches.coreset` promises to honour."""
    n = len(features)
    least = np.full(n, np.inf)
    picked = np.empty(n_select, dtype=np.int64)
    picked[0] = first
    blocks = [slice(k, k + 2048) for k in range(0, n, 2048)]

    def update(block: slice) -> None:
        np.minimum(least[block], squared_distances(features[block], anchor), out=least[block])

    with ThreadPoolExecutor(usable_threads()) as pool:
        for k in range(1, n_select):
            anchor = features[picked[k - 1]]
            list(pool.map(update, blocks))
            least[picked[:k]] = -1.0
            picked[k] = least.argmax()
    return picked


def compare(worker: AnomalibWorker, material: Material, folder: Path, *, quick: bool, rounds: int) -> str:
    """Time all of them in turns, compare their picks, and return the section."""
    n = min(10_240 if quick else 102_400, len(material.features))
    features = material.features[:n]
    n_select = n // PATCHES_PER_PICK
    file, picks, projected = folder / "features.npy", folder / "picks.npy", folder / "projected.npy"
    np.save(file, features)
    rows: dict[str, list[Run]] = {"anomalib": [], "bare": [], "ours": [], "ours_projected": [], "plain": []}
    same: dict[str, str] = {}

    def ask(project: bool) -> tuple[NDArray[np.int64], int]:
        answer = worker.ask(
            "coreset",
            features=str(file),
            n_select=n_select,
            project=project,
            picks=str(picks),
            projected=str(projected),
        )
        rows["anomalib" if project else "bare"].append(Run(answer["seconds"], answer["cpu_s"]))
        return np.load(picks), answer["dimensions"]

    def run(name: str, data: NDArray[np.float32], first: int) -> NDArray[np.int64]:
        chosen, took = _timed(lambda: greedy_coreset(data, n_select, first=first))
        rows[name].append(took)
        return chosen

    for turn in range(rounds):
        print(f"coreset, round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        theirs, dimensions = ask(project=True)
        given = np.load(projected)
        mine = run("ours_projected", given, int(theirs[0]))
        same["anomalib"] = _agreement(mine, theirs)
        bare, _ = ask(project=False)
        for _ in range(2):
            mine = run("ours", features, int(bare[0]))
        same["bare"] = _agreement(mine, bare)
    plain, took = _timed(lambda: plain_greedy(features, n_select, first=int(bare[0])))
    rows["plain"].append(took)
    same["plain"] = _agreement(mine, plain)
    ours, shape = rows["ours"], f"{n:,} × {features.shape[1]} → {n_select:,}"
    lines = [
        f"## Rebuilding the bank, {shape}",
        "",
        "| | runs | min s | median s | max s | least CPU s | median ÷ halfsigma's | halfsigma's picks, "
        "given the same features and first pick |",
        "|---|---|---|---|---|---|---|---|",
        _row(
            f"anomalib as shipped (projects to {dimensions} dimensions)",
            rows["anomalib"],
            ours,
            same["anomalib"],
        ),
        _row("anomalib's loop without its projection", rows["bare"], ours, same["bare"]),
        _row("plain greedy by the definition (numpy, float64)", rows["plain"], ours, same["plain"]),
        _row(f"halfsigma on anomalib's {dimensions} dimensions", rows["ours_projected"], ours, ""),
        _row("**halfsigma**", rows["ours"], ours, ""),
        "",
        "anomalib computes distances in float32 and takes their roots, so two nearly equal ones may change "
        "places; plain greedy in float64 is the reference.",
    ]
    if not quick:
        lines += ["", *_large(worker, material, folder)]
    return "\n".join(lines)


def _large(worker: AnomalibWorker, material: Material, folder: Path) -> list[str]:
    features = material.features
    n_select = len(features) // PATCHES_PER_PICK
    file, picks = folder / "features.npy", folder / "picks.npy"
    np.save(file, features)
    print(f"coreset of {len(features):,} patches", file=sys.stderr, flush=True)
    limited, ours = [], []
    for _ in range(2):
        answer = worker.ask(
            "coreset",
            features=str(file),
            n_select=LIMITED_PICKS,
            project=False,
            picks=str(picks),
            projected="",
        )
        longer = (n_select - 1) / (LIMITED_PICKS - 1)
        limited.append(Run(answer["seconds"] * longer, answer["cpu_s"] * longer))
        first = int(np.load(picks)[0])
        chosen, took = _timed(lambda: greedy_coreset(features, n_select, first=first))  # noqa: B023
        ours.append(took)
    start = _agreement(chosen[:LIMITED_PICKS], np.load(picks))
    return [
        f"### {len(features):,} × {features.shape[1]} → {n_select:,}",
        "",
        "| | runs | min s | median s | max s | least CPU s | median ÷ halfsigma's |",
        "|---|---|---|---|---|---|---|",
        _row(f"anomalib's loop, extrapolated from its first {LIMITED_PICKS} picks", limited, ours),
        _row("**halfsigma**", ours, ours),
        "",
        f"The first {LIMITED_PICKS} picks of both: {start}.",
    ]


def _timed(select: Callable[[], NDArray[np.int64]]) -> tuple[NDArray[np.int64], Run]:
    begin, processor = time.perf_counter(), time.process_time()
    chosen = select()
    return chosen, Run(time.perf_counter() - begin, time.process_time() - processor)


def _row(name: str, runs: list[Run], ours: list[Run], *more: str) -> str:
    seconds = [run.seconds for run in runs]
    ratio = np.median(seconds) / np.median([run.seconds for run in ours])
    figures = [min(seconds), np.median(seconds), max(seconds), min(run.cpu_s for run in runs)]
    cells = [name, str(len(runs)), *(f"{figure:.2f}" for figure in figures), f"{ratio:.1f}", *more]
    return "| " + " | ".join(cells) + " |"


def _agreement(mine: NDArray[np.int64], other: NDArray[np.int64]) -> str:
    if np.array_equal(mine, other):
        return f"identical, all {len(mine):,} in order"
    equal = int(np.flatnonzero(mine != other)[0])
    shared = len(np.intersect1d(mine, other))
    return f"identical for {equal:,} picks; {shared:,} of {len(mine):,} shared in the end"
