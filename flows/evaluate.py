"""Judge labelled folders with a version, one image at a time, and log nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.photographs.images import list_images
from detectors.photographs.loading import Unreadable, read_ahead
from detectors.protocol import Progress, no_progress
from flows.known_defects import known_defects
from flows.peak_memory import peak_memory_mb
from flows.workspace import Workspace
from halfsigma import ImageError
from registry import deployment, following, lines
from registry.gates import auroc


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a version does on images whose truth is known, at its own threshold.

    ``n_left_out_defects`` lay among the goods, but also in the folder of defects or among the line's labelled ones.
    """

    version: int
    auroc: float
    fpr: float
    recall: float
    n_good: int
    n_defect: int
    n_unreadable: int
    n_left_out_defects: int
    latency_median_ms: float
    latency_p95_ms: float
    peak_rss_mb: float


def evaluate(
    workspace: Workspace,
    line_name: str,
    *,
    good_folder: Path,
    defect_folder: Path,
    number: int | None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Score both folders with the champion, or with version ``number``.

    Latency is of the judgement of a decoded photograph: framing, backbone, search, map, covariates. The first image of
    each canvas size compiles the network for it, which a station does once: it is judged before the clock starts.

    Raises:
        ImageError: a folder has no readable image.
        UnknownLine, UnknownVersion: there is nothing to score with.
    """
    good_paths, defect_paths = list_images(good_folder), list_images(defect_folder)
    with workspace.database.session() as session:
        line = lines.get_line(session, line_name)
        deployment.refuse_foreign(line)
        if number is None:
            number = following.champion_of(session, line, workspace.store, cache=workspace.cache)
        lines.get_version(session, line, number)
        defects = known_defects(session, line, defect_paths)
    version = workspace.load(line_name, number)
    scores: list[float] = []
    is_defect: list[bool] = []
    times_ms: list[float] = []
    seen_sizes: set[tuple[int, ...]] = set()
    paths = [*good_paths, *defect_paths]
    n_unreadable = n_left_out = 0
    for index, item in enumerate(read_ahead(paths)):
        progress("judging", index, len(paths))
        if isinstance(item, Unreadable):
            n_unreadable += 1
            continue
        if index < len(good_paths) and item.sha256 in defects:
            n_left_out += 1
            continue
        size = version.framing.canvas_size(*item.pixels.shape[:2])
        try:
            if size not in seen_sizes:
                version.score(item.pixels)
                seen_sizes.add(size)
            started = time.perf_counter()
            judged = version.score(item.pixels)
        except ImageError:
            n_unreadable += 1
            continue
        times_ms.append((time.perf_counter() - started) * 1e3)
        scores.append(judged.score)
        is_defect.append(index >= len(good_paths))
    all_scores, defective = np.array(scores), np.array(is_defect, bool)
    good, defect = all_scores[~defective], all_scores[defective]
    for folder, found in ((good_folder, good), (defect_folder, defect)):
        if found.size == 0:
            known = f" ({n_left_out} are known as defects)" if n_left_out and found is good else ""
            raise ImageError(f"none of the images in {folder} can be used{known}", hint="check the files")
    return Evaluation(
        version=number,
        auroc=auroc(good, defect),
        fpr=float((good > version.threshold.value).mean()),
        recall=float((defect > version.threshold.value).mean()),
        n_good=good.size,
        n_defect=defect.size,
        n_unreadable=n_unreadable,
        n_left_out_defects=n_left_out,
        latency_median_ms=float(np.median(times_ms)),
        latency_p95_ms=float(np.quantile(times_ms, 0.95)),
        peak_rss_mb=peak_memory_mb(),
    )
