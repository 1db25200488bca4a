"""Exact greedy k-center selection (farthest-point sampling), tens of times faster than the plain loop.

The plain greedy algorithm picks, again and again, the point that is farthest from all points picked so far.
This module returns *the same indices in the same order*, and "the same" is defined to the last bit:

- the distance between two points is ``((a.astype(float64) - b.astype(float64)) ** 2).sum()`` of their float32
  values;
- the next pick is the unpicked point whose smallest distance to a pick is largest; among equals, the lowest
  index.

It is fast because almost all of those distances are never needed. Every point carries an upper bound of its
distance to the picks. Bounds only fall, so a bound made many picks ago still holds: a point whose old bound
lies below what is being picked now is left alone (lazy greedy). The others are brought up to date by one
float32 matrix product against all the picks they missed (batched). The product is only trusted as far as its
rounding error is certified (see `_error_share`); what it leaves undecided, a few pairs per pick, is computed
by the definition above.

Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985 (the greedy); Minoux,
"Accelerated greedy algorithms", 1978 (lazy evaluation); Higham, "Accuracy and stability of numerical
algorithms", section 3.1 (the error of an inner product in any order of summation); Roth et al., PatchCore,
CVPR 2022 (its use for memory banks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from halfsigma import DetectorError

# Unit roundoff of float32, and its smallest normal number (below it, hardware may flush to zero).
_ROUNDOFF = 2.0**-24
_TINY = 2.0**-126
# Points that compete in one round. More: fewer rounds, but a longer scan for each pick.
_MAX_CANDIDATES = 1024
# A round looks at points whose bound is at least this share of the largest one (of squared distances).
_ROUND_SHARE = 0.9
# Entries of one float32 product: 2 MB, so that it is still in cache when its minimum is taken.
_BLOCK = 1 << 19
# Rows that are held in float64 at a time.
_ROWS = 4096


def greedy_coreset(
    features: ArrayLike,
    n_select: int,
    *,
    seed: int = 0,
    first: int | None = None,
    start: ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """Select `n_select` rows exactly as plain greedy k-center would; return their indices in that order.

    features: (n, d), finite; computed with as float32. `n_select`: 1 to n. The first pick is `first`, or is
    drawn by `numpy.random.default_rng(seed)`; with `start`, an (m, d) array of points that count as picked
    already (an old bank that is to grow), every pick follows from the data and `first` and `seed` are not
    used. When only copies of picked points are left, they follow by ascending index, so the result never
    holds an index twice. `progress(done, n_select)` is called after every round.

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
    if not 1 <= n_select <= n:
        raise DetectorError(
            f"a coreset of {n_select} was asked of {n} patches; expected 1 to {n}",
            hint="ask for fewer, or give more images",
        )
    if start is not None:
        old = _as_points(start, "start")
        if old.shape[1] != points.shape[1]:
            raise DetectorError(
                f"start has {old.shape[1]} features, the patches have {points.shape[1]}; expected as many",
                hint="an old bank can only grow on the backbone, the layers and the projection that made it",
            )
    else:
        if first is None:
            first = int(np.random.default_rng(seed).integers(n))
        if not 0 <= first < n:
            raise DetectorError(f"first is {first}; expected 0 to {n - 1}", hint="give the index of a row")
        old = points[:0]
    with _own_threads() as workers:
        search = _Search(points, old, n_select, workers=workers)
        if start is None and first is not None:
            search.pick(first)
        while search.n_picked < n_select:
            search.play_round()
            if progress is not None:
                progress(search.n_picked, n_select)
    return search.picked


@contextmanager
def _own_threads() -> Iterator[Executor]:
    """Give as many workers as BLAS has threads, and BLAS one thread meanwhile.

    The threads of a BLAS wait for each other by spinning: on a busy machine that takes three times as long.
    """
    blas = ThreadpoolController().select(user_api="blas")
    n_threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(n_threads, thread_name_prefix="coreset") as workers:
        yield workers


def squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances that define the selection: float64, direct differences, numpy's own sum.

    a: (k, d), b: (k, d) or (d,), float32. Returns (k,).
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    total: NDArray[np.float64] = np.add.reduce(np.square(difference), axis=-1)
    return total


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


def _error_share(n_features: int) -> float:
    """Return κ such that the product's distance is off by at most κ·(|a|² + |b|²), and `_underflow`.

    With u the roundoff: centring and rounding each point to float32 costs 4u, rounding a squared norm u, the
    inner product over d + 1 terms, in any order, with or without fused operations, 2(d + 1)u / (1 - (d +
    1)u), and moving from upper to lower bounds 4u. The rest of the 34u covers terms of second order.
    """
    return (2.0 * n_features + 34.0) * _ROUNDOFF / (1.0 - (n_features + 1.0) * _ROUNDOFF)


def _underflow(n_features: int) -> float:
    """Return an upper limit of what underflow can take from a product's distance."""
    return 16.0 * (n_features + 4) * _TINY


class _Search:
    """The state of one selection: what is picked, and what is known of every point's distance to the picks.

    "Anchors" are the old bank's rows followed by the picks. For point i, `bound[i]` is at least its distance
    to the first `seen[i]` anchors, and so to all of them; `exact[i]` is by definition its distance to the
    first `settled[i]` anchors. Picked points have the bound -1. Points are held centred and scaled to at most
    1, in `scaled`, with a 1 behind, and anchors as -2 times that, with their inflated squared norm behind:
    one product of the two yields everything of a distance's bound but the point's own norm. `unit` converts
    back to squared distances.
    """

    def __init__(
        self, points: NDArray[np.float32], old: NDArray[np.float32], n_select: int, *, workers: Executor
    ) -> None:
        n, d = points.shape
        self.workers = workers
        self.points = points
        center = points.mean(axis=0, dtype=np.float64)
        reach = max(float(np.abs(part - center).max()) for part in _parts(points, old))
        # A power of two, so that scaling rounds nothing.
        scale = 2.0 ** -np.ceil(np.log2(reach)) if reach > 0.0 else 1.0
        self.unit = scale**-2.0
        self.share = _error_share(d)
        self.underflow = _underflow(d)
        self.scaled, self.norm = _augment(points, center, scale)
        self.anchor_points = np.empty((len(old) + n_select, d), dtype=np.float32)
        self.anchors = np.empty((len(old) + n_select, d + 1), dtype=np.float32)
        self.anchor_norm = np.empty(len(old) + n_select)
        self.n_anchors = self.n_old = len(old)
        if len(old):
            scaled, self.anchor_norm[: len(old)] = _augment(old, center, scale)
            self.anchor_points[: len(old)] = old
            self._set_anchors(slice(0, len(old)), scaled)
        self.bound = np.full(n, np.inf)
        self.seen = np.zeros(n, dtype=np.int32)
        self.exact = np.full(n, np.inf)
        self.settled = np.zeros(n, dtype=np.int32)
        self._picked = np.empty(n_select, dtype=np.int64)

    @property
    def n_picked(self) -> int:
        return self.n_anchors - self.n_old

    @property
    def picked(self) -> NDArray[np.int64]:
        return self._picked[: self.n_picked].copy()

    def pick(self, i: int) -> None:
        """Take point i as the next anchor."""
        self._picked[self.n_picked] = i
        self.anchor_points[self.n_anchors] = self.points[i]
        self.anchor_norm[self.n_anchors] = self.norm[i]
        self._set_anchors(slice(self.n_anchors, self.n_anchors + 1), self.scaled[i : i + 1])
        self.bound[i] = self.exact[i] = -1.0
        self.n_anchors += 1

    def play_round(self) -> None:
        """Settle the points that may be the farthest, and pick among them while no other can be farther."""
        top = float(self.bound.max())
        if top == 0.0:
            self._pick_copies()
            return
        floor = top * _ROUND_SHARE if np.isfinite(top) else 0.0
        rows = np.flatnonzero(self.bound >= floor)
        self._catch_up(rows)
        rows = rows[self.bound[rows] >= floor]
        if len(rows) > _MAX_CANDIDATES:
            floor = float(np.partition(self.bound[rows], len(rows) - _MAX_CANDIDATES)[-_MAX_CANDIDATES])
            rows = rows[self.bound[rows] >= floor]
        self._settle(rows)
        rows = rows[self.bound[rows] >= floor]
        self._pick_among(rows, floor)

    def _set_anchors(self, where: slice, scaled: NDArray[np.float32]) -> None:
        self.anchors[where] = -2.0 * scaled
        self.anchors[where, -1] = (1.0 + self.share) * self.anchor_norm[where]

    def _pick_copies(self) -> None:
        for i in np.flatnonzero(self.bound == 0.0)[: len(self._picked) - self.n_picked]:
            self.pick(int(i))

    def _catch_up(self, rows: NDArray[np.int64]) -> None:
        """Lower the bounds of these rows by the anchors that they have not seen."""

        def lower(part: NDArray[np.int64], since: int) -> None:
            product = self.anchors[since : self.n_anchors] @ self.scaled[part].T
            least = np.minimum.reduce(product, axis=0).astype(np.float64)
            upper = least + ((1.0 + self.share) * self.norm[part] + self.underflow)
            self.bound[part] = np.minimum(self.bound[part], upper * self.unit)

        self._for_blocks(lower, rows, self.seen)

    def _settle(self, rows: NDArray[np.int64]) -> None:
        """Make the bounds of these rows, all caught up, exact."""

        def settle(part: NDArray[np.int64], since: int) -> None:
            # The product holds upper bounds; twice the certified error below them lie the lower bounds.
            product = self.scaled[part] @ self.anchors[since : self.n_anchors].T
            product -= (2.0 * self.share * self.anchor_norm[since : self.n_anchors]).astype(np.float32)
            limit = self.bound[part] / self.unit - (1.0 - self.share) * self.norm[part] + self.underflow
            row, anchor = np.nonzero(product <= limit[:, None])
            self._settle_pairs(part[row], anchor + since)

        self._for_blocks(settle, rows, self.settled)
        if not np.isfinite(self.exact[rows]).all():
            raise DetectorError(
                "a float32 matrix product is off by more than float32 allows: a point is near no anchor",
                hint="numpy's BLAS seems to compute at reduced precision; use another build of it",
            )
        self.bound[rows] = self.exact[rows]

    def _for_blocks(
        self,
        work: Callable[[NDArray[np.int64], int], None],
        rows: NDArray[np.int64],
        known: NDArray[np.int32],
    ) -> None:
        """Do the work for blocks of rows, side by side, each with the anchors after those it knows of."""
        parts, since = [], []
        for first in np.unique(known[rows]):
            group = rows[known[rows] == first]
            step = max(1, _BLOCK // max(1, self.n_anchors - int(first)))
            blocks = [group[k : k + step] for k in range(0, len(group), step)]
            if first < self.n_anchors:
                parts += blocks
                since += [int(first)] * len(blocks)
        list(self.workers.map(work, parts, since))
        known[rows] = self.n_anchors

    def _settle_pairs(self, rows: NDArray[np.int64], anchors: NDArray[np.int64]) -> None:
        for k in range(0, len(rows), _ROWS):
            row, anchor = rows[k : k + _ROWS], anchors[k : k + _ROWS]
            np.minimum.at(self.exact, row, squared_distances(self.points[row], self.anchor_points[anchor]))

    def _pick_among(self, rows: NDArray[np.int64], floor: float) -> None:
        """Pick the farthest of these settled rows (ascending) until all of them lie below the floor."""
        scaled, exact = self.scaled[rows], self.exact[rows]
        lower_norm = (1.0 - self.share) * self.norm[rows] - self.underflow
        while self.n_picked < len(self._picked) and len(rows):
            best = int(exact.argmax())  # the first of equals
            if exact[best] < floor or exact[best] == 0.0:
                break
            self.pick(int(rows[best]))
            exact[best] = -1.0
            anchor = self.n_anchors - 1
            lower = scaled @ self.anchors[anchor] + (lower_norm - 2.0 * self.share * self.anchor_norm[anchor])
            near = np.flatnonzero(lower * self.unit <= exact)
            distance = squared_distances(self.points[rows[near]], self.anchor_points[anchor])
            exact[near] = np.minimum(exact[near], distance)
        self.exact[rows] = self.bound[rows] = exact
        self.seen[rows] = self.settled[rows] = self.n_anchors


def _parts(*arrays: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [array[k : k + _ROWS] for array in arrays for k in range(0, len(array), _ROWS)]


def _augment(
    points: NDArray[np.float32], center: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the points centred and scaled, with a 1 behind, (n, d + 1), and their squared norms, (n,)."""
    scaled = np.ones((len(points), points.shape[1] + 1), dtype=np.float32)
    norm = np.empty(len(points))
    for k in range(0, len(points), _ROWS):
        part = (points[k : k + _ROWS] - center) * scale
        scaled[k : k + _ROWS, :-1] = part
        norm[k : k + _ROWS] = np.add.reduce(np.square(part), axis=1)
    return scaled, norm
