"""The state of a greedy selection: float32 bounds that are certified, and exact distances where those do not decide.

Every point carries an upper bound of its distance to the picks. Bounds only fall, so a bound made many picks ago still
holds: a point whose old bound lies below what is being picked now is left alone (lazy greedy). The others are brought up to
date by one float32 matrix product against all the picks they missed (batched). The product is only trusted as far as
its rounding error is certified (see `_error_share`); what it leaves undecided, a few pairs per pick, is computed by
`squared_distances`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from copy import copy
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from halfsigma import DetectorError

_Number = TypeVar("_Number", bound=np.generic)
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


def squared_distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distances that define the selection: float64, direct differences, numpy's own sum.

    a: (k, d), b: (k, d) or (d,), float32. Returns (k,).
    """
    difference = a.astype(np.float64) - b.astype(np.float64)
    total: NDArray[np.float64] = np.add.reduce(np.square(difference), axis=-1)
    return total


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


class Search:
    """The state of one selection: what is picked, and what is known of every point's distance to the picks.

    "Anchors" are the old bank's rows followed by the picks. For point i, `bound[i]` is at least its distance
    to the first `seen[i]` anchors, and so to all of them; `exact[i]` is by definition its distance to the
    first `settled[i]` anchors. Picked points, and those that are not asked for, have the bound -1. Points are
    held centred and scaled to at most 1, in `scaled`, with a 1 behind, and anchors as -2 times that, with
    their inflated squared norm behind: one product of the two yields everything of a distance's bound but the
    point's own norm. `unit` converts back to squared distances.
    """

    def __init__(self, points: NDArray[np.float32], old: NDArray[np.float32], *, workers: Executor) -> None:
        """Know every point's distance to the ``old`` bank, if any; nothing can be picked yet, see `among`."""
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
        self.n_anchors = self.n_old = len(old)
        self.anchor_points = old
        self.anchors = np.empty((len(old), d + 1), dtype=np.float32)
        self.anchor_norm = np.empty(len(old))
        self.bound = np.full(n, np.inf)
        self.seen = np.zeros(n, dtype=np.int32)
        self.exact = np.full(n, np.inf)
        self.settled = np.zeros(n, dtype=np.int32)
        self._picked = np.empty(0, dtype=np.int64)
        if len(old):
            scaled, self.anchor_norm[:] = _augment(old, center, scale)
            self._set_anchors(slice(0, len(old)), scaled)
            self._catch_up(np.arange(n))

    def among(self, rows: NDArray[np.int64], n_select: int) -> Search:
        """A search of its own for ``n_select`` picks among these rows, knowing what this one knows."""
        own = copy(self)
        own._picked = np.empty(n_select, dtype=np.int64)
        own.anchor_points = _with_room(self.anchor_points, n_select)
        own.anchors = _with_room(self.anchors, n_select)
        own.anchor_norm = _with_room(self.anchor_norm, n_select)
        own.bound = np.full(len(self.bound), -1.0)
        own.bound[rows] = self.bound[rows]
        own.seen, own.exact, own.settled = self.seen.copy(), self.exact.copy(), self.settled.copy()
        return own

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


def _with_room(known: NDArray[_Number], n_more: int) -> NDArray[_Number]:
    return np.concatenate([known, np.empty((n_more, *known.shape[1:]), known.dtype)])


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
