"""Exact greedy k-center selection (farthest-point sampling), tens of times faster than the plain loop.

The plain greedy algorithm picks, again and again, the point that is farthest from all points picked so far.
This module returns *the same indices in the same order*, and "the same" is defined to the last bit:

- the distance between two points is ``((a.astype(float64) - b.astype(float64)) ** 2).sum()`` of their float32
  values;
- the next pick is the unpicked point whose smallest distance to a pick is largest; among equals, the lowest
  index.

It is fast because almost all of those distances are never needed (`detectors.patches.coreset_search`).

Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985 (the greedy); Minoux,
"Accelerated greedy algorithms", 1978 (lazy evaluation); Higham, "Accuracy and stability of numerical
algorithms", section 3.1 (the error of an inner product in any order of summation); Roth et al., PatchCore,
CVPR 2022 (its use for memory banks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from detectors.patches.coreset_search import Search
from halfsigma import DetectorError


def greedy_coreset(
    features: ArrayLike,
    n_select: int,
    *,
    seed: int = 0,
    first: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Select `n_select` rows exactly as plain greedy k-center would; return their indices in that order.

    features: (n, d), finite; computed with as float32. `n_select`: 1 to n. The first pick is `first`, or is
    drawn by `numpy.random.default_rng(seed)`. When only copies of picked points are left, they follow by
    ascending index, so the result never holds an index twice. `progress(done, n_select)` is called after
    every round.

    Memory: one more copy of the features, two of the picks, some 40 bytes per row, and blocks of a few MB.
    As many threads as BLAS is set to (`OMP_NUM_THREADS`, `threadpoolctl`); BLAS itself, in the whole
    process, has one meanwhile. The result does not depend on their number.

    Raises DetectorError for an empty or non-finite array, a wrong shape, an impossible `n_select` or `first`,
    and where numpy's BLAS breaks the error bound of float32.

    >>> greedy_coreset([[0.0], [1.0], [5.0], [9.0]], 3, first=0)
    array([0, 3, 2])
    """
    points = _as_points(features, "features")
    n = len(points)
    _check_number(n_select, n, least=1)
    if first is None:
        first = int(np.random.default_rng(seed).integers(n))
    if not 0 <= first < n:
        raise DetectorError(f"first is {first}; expected 0 to {n - 1}", hint="give the index of a row")
    with _own_threads() as workers:
        search = Search(points, points[:0], workers=workers).among(np.arange(n), n_select)
        search.pick(first)
        return _completed(search, n_select, progress)


def greedy_growths(
    features: ArrayLike, wanted: Sequence[tuple[ArrayLike, int]], *, start: ArrayLike
) -> list[NDArray[np.int64]]:
    """Select from several parts of the rows, each time what plain greedy would add to an old bank.

    features: (n, d) as `greedy_coreset` takes them. `wanted`: of each part its rows, unique, and how many of
    them, perhaps none. `start`: (m, d), the old bank, whose points count as picked already, so that no pick is drawn. The
    distances to the old bank are found once for all parts. Returns the rows of each part's picks, in
    their order; memory, threads and errors are those of `greedy_coreset`.

    >>> [picks.tolist() for picks in greedy_growths([[1.0], [5.0], [9.0]], [([0, 1, 2], 2), ([0, 1], 1)], start=[[0.0]])]
    [[2, 1], [1]]
    """
    points, old = _as_points(features, "features"), _as_points(start, "start")
    if old.shape[1] != points.shape[1]:
        raise DetectorError(
            f"start has {old.shape[1]} features, the patches have {points.shape[1]}; expected as many",
            hint="an old bank can only grow on the backbone, the layers and the projection that made it",
        )
    parts = [(np.asarray(rows, np.int64), n_select) for rows, n_select in wanted]
    for rows, n_select in parts:
        _check_number(n_select, len(rows), least=0)
    with _own_threads() as workers:
        search = Search(points, old, workers=workers)
        return [_completed(search.among(rows, n_select), n_select, None) for rows, n_select in parts]


def _completed(search: Search, n_select: int, progress: Callable[[int, int], None] | None) -> NDArray[np.int64]:
    while search.n_picked < n_select:
        search.play_round()
        if progress is not None:
            progress(search.n_picked, n_select)
    return search.picked


def _check_number(n_select: int, n: int, *, least: int) -> None:
    if not least <= n_select <= n:
        raise DetectorError(
            f"a coreset of {n_select} was asked of {n} patches; expected {least} to {n}",
            hint="ask for fewer, or give more images",
        )


@contextmanager
def _own_threads() -> Iterator[Executor]:
    """Give as many workers as BLAS has threads, and BLAS one thread meanwhile.

    The threads of a BLAS wait for each other by spinning: on a busy machine that takes three times as long.
    """
    blas = ThreadpoolController().select(user_api="blas")
    n_threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(n_threads, thread_name_prefix="coreset") as workers:
        yield workers


def _as_points(values: ArrayLike, name: str) -> NDArray[np.float32]:
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape:
        raise DetectorError(
            f"{name} has the shape {array.shape}; expected (rows, features), neither of them 0",
            hint="flatten patches to one row each",
        )
    if array.dtype.kind not in "fiu":
        raise DetectorError(f"{name} is of type {array.dtype}; expected float32", hint="convert it first")
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(array, dtype=np.float32)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise DetectorError(
            f"{name} has {int(bad.sum())} of {len(points)} rows with NaN or infinity in float32 (the first "
            f"is row {int(bad.argmax())}); expected finite numbers",
            hint="look at the images these rows come from, and at the backbone's precision",
        )
    return points
