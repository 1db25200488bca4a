"""The fast selection is the plain one: the same indices in the same order, whatever the data."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from detectors.patches import coreset, coreset_search
from detectors.patches.coreset import greedy_coreset, greedy_growths
from halfsigma import DetectorError


def plain_greedy(
    features: NDArray[np.float32], n_select: int, *, first: int = 0, start: NDArray[np.float32] | None = None
) -> list[int]:
    """Gonzalez' algorithm as in a textbook: one pick, all distances in float64, one pick, …"""
    points = features.astype(np.float64)
    least = np.full(len(points), np.inf)
    picked: list[int] = []

    def add(anchor: NDArray[np.float64]) -> None:
        np.minimum(least, ((points - anchor) ** 2).sum(axis=1), out=least)

    if start is None:
        picked.append(first)
        add(points[first])
    else:
        for old in start.astype(np.float64):
            add(old)
    while len(picked) < n_select:
        least[picked] = -1.0
        picked.append(int(least.argmax()))
        add(points[picked[-1]])
    return picked


def small_steps(patch: pytest.MonkeyPatch) -> None:
    """Make rounds and blocks so small that little data goes through many of them."""
    patch.setattr(coreset_search, "_MAX_CANDIDATES", 3)
    patch.setattr(coreset_search, "_BLOCK", 8)
    patch.setattr(coreset_search, "_ROWS", 3)


def photo_patches(*, size: int = 64, step: int = 1) -> NDArray[np.float32]:
    """7 × 7 gray patches of a real photograph: smooth and redundant, with exact copies, like goods."""
    from skimage.data import camera

    windows = np.lib.stride_tricks.sliding_window_view(camera()[: size * step, : size * step], (7, 7))
    return windows[::step, ::step].reshape(-1, 49).astype(np.float32)


SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 6))
FLOATS = st.floats(-1e3, 1e3, width=32)
TIES = st.integers(-2, 2).map(float)
# no subnormals: OpenVINO, once used in the process, makes the processor flush them to zero
WILD = st.sampled_from([0.0, 1.0, -1.0, 1e-37, 1e-30, 1e-7, 1.0000001, 1e5, 1e18, -1e18, 3e38, -3e38])


@pytest.mark.parametrize("elements", [FLOATS, TIES, WILD], ids=["floats", "ties", "wild"])
@pytest.mark.parametrize("small", [False, True], ids=["one round", "many rounds"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_selection_is_that_of_plain_greedy(
    elements: st.SearchStrategy[float], small: bool, data: st.DataObject
) -> None:
    features = data.draw(hnp.arrays(np.float32, SHAPES, elements=elements))
    n_select = data.draw(st.integers(1, len(features)))
    first = data.draw(st.integers(0, len(features) - 1))
    with pytest.MonkeyPatch.context() as patch:
        if small:
            small_steps(patch)
        assert greedy_coreset(features, n_select, first=first).tolist() == plain_greedy(features, n_select, first=first)


@pytest.mark.parametrize("elements", [FLOATS, TIES, WILD], ids=["floats", "ties", "wild"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_growing_an_old_bank_selects_what_plain_greedy_adds_to_it(
    elements: st.SearchStrategy[float], data: st.DataObject
) -> None:
    features = data.draw(hnp.arrays(np.float32, SHAPES, elements=elements))
    start = data.draw(hnp.arrays(np.float32, (data.draw(st.integers(1, 10)), features.shape[1]), elements=elements))
    n_select = data.draw(st.integers(1, len(features)))
    with pytest.MonkeyPatch.context() as patch:
        small_steps(patch)
        (whole,) = greedy_growths(features, [(range(len(features)), n_select)], start=start)
    assert whole.tolist() == plain_greedy(features, n_select, start=start)


@pytest.mark.parametrize("elements", [FLOATS, TIES, WILD], ids=["floats", "ties", "wild"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_each_part_of_the_rows_grows_as_if_the_others_were_not_there(
    elements: st.SearchStrategy[float], data: st.DataObject
) -> None:
    features = data.draw(hnp.arrays(np.float32, SHAPES, elements=elements))
    start = data.draw(hnp.arrays(np.float32, (data.draw(st.integers(1, 10)), features.shape[1]), elements=elements))
    wanted = []
    for _ in range(data.draw(st.integers(1, 4))):
        rows = np.flatnonzero(data.draw(hnp.arrays(np.bool_, len(features))))
        wanted.append((rows, data.draw(st.integers(0, len(rows)))))
    with pytest.MonkeyPatch.context() as patch:
        small_steps(patch)
        found = greedy_growths(features, wanted, start=start)
    assert len(found) == len(wanted)
    for picks, (rows, n_select) in zip(found, wanted, strict=True):
        assert picks.tolist() == rows[plain_greedy(features[rows], n_select, start=start)].tolist()


def test_patches_of_a_photograph_are_selected_as_plain_greedy_selects_them() -> None:
    patches = photo_patches()
    assert greedy_coreset(patches, 300, first=17).tolist() == plain_greedy(patches, 300, first=17)


def test_features_far_from_the_origin_are_selected_as_plain_greedy_selects_them() -> None:
    rng = np.random.default_rng(0)
    features = (1e4 + rng.normal(size=(3000, 16))).astype(np.float32)  # float32 keeps three digits of the spread
    assert greedy_coreset(features, 200, first=0).tolist() == plain_greedy(features, 200)


def test_clusters_too_far_apart_for_float32_products_are_selected_as_plain_greedy_selects_them() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1500, 8)).astype(np.float32)
    features[::3] += 1e6
    features[1::3, 0] -= 1e6
    assert greedy_coreset(features, 150, first=0).tolist() == plain_greedy(features, 150)


def test_every_certified_bound_holds_for_the_defined_distance() -> None:
    rng = np.random.default_rng(2)
    for d in (1, 7, 152, 1536):
        features = (rng.normal(size=(300, d)) * 10.0 ** rng.uniform(-4, 4, size=(300, 1)) + 5).astype(np.float32)
        rows = np.arange(20, 300)
        with coreset._own_threads() as workers:
            search = coreset_search.Search(features, features[:0], workers=workers).among(np.arange(300), 20)
            for i in range(20):
                search.pick(i)
            search._catch_up(rows)
            bound = search.bound[rows].copy()
            search._settle(rows)
        defined = np.min([coreset_search.squared_distances(features[rows], features[i]) for i in range(20)], axis=0)
        assert (bound >= defined).all()
        assert (search.exact[rows] == defined).all()


def test_a_matrix_product_below_float32_precision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        coreset_search, "_error_share", lambda n_features: 0.0
    )  # as if the product erred by more than that
    features = (1e4 + np.random.default_rng(0).normal(size=(3000, 16))).astype(np.float32)
    features[0] = -1e6
    with pytest.raises(DetectorError, match="off by more than float32 allows"):
        greedy_coreset(features, 200, first=1)


def test_the_number_of_threads_changes_nothing() -> None:
    patches = photo_patches(size=100)
    several = greedy_coreset(patches, 500, first=3)
    with threadpool_limits(1):
        assert np.array_equal(greedy_coreset(patches, 500, first=3), several)


def test_the_threads_of_blas_are_given_back() -> None:
    before = [library["num_threads"] for library in threadpool_info()]
    greedy_coreset(photo_patches(size=20), 10)
    assert [library["num_threads"] for library in threadpool_info()] == before


def test_a_longer_selection_begins_with_the_shorter_one() -> None:
    patches = photo_patches(size=40)
    assert np.array_equal(greedy_coreset(patches, 200, seed=5)[:50], greedy_coreset(patches, 50, seed=5))


def test_growing_from_the_first_half_of_a_selection_gives_its_second_half() -> None:
    patches = np.unique(photo_patches(size=40), axis=0)
    whole = greedy_coreset(patches, 100, seed=1)
    assert np.array_equal(
        greedy_growths(patches, [(np.arange(len(patches)), 50)], start=patches[whole[:50]])[0], whole[50:]
    )


def test_the_worst_gap_is_at_most_twice_the_best_possible_one() -> None:
    """Gonzalez' guarantee, seen from outside: picks lie as far apart as the worst point is from them."""
    features = np.random.default_rng(3).normal(size=(500, 4)).astype(np.float32)
    picked = features[greedy_coreset(features, 20, first=0)].astype(np.float64)
    to_picks = np.linalg.norm(features[:, None].astype(np.float64) - picked, axis=2).min(axis=1).max()
    between = np.linalg.norm(picked[:, None] - picked, axis=2)[np.triu_indices(20, 1)].min()
    assert between >= to_picks


def test_the_seed_draws_the_first_pick_and_nothing_else() -> None:
    patches = photo_patches(size=30)
    picked = greedy_coreset(patches, 20, seed=9)
    assert np.array_equal(picked, greedy_coreset(patches, 20, seed=9))
    assert picked[0] == np.random.default_rng(9).integers(len(patches))
    assert np.array_equal(picked, greedy_coreset(patches, 20, first=int(picked[0])))


@pytest.mark.parametrize("n", [1, 2, 5000])
def test_a_constant_array_is_selected_by_ascending_index(n: int) -> None:
    assert greedy_coreset(np.full((n, 3), 7.5), n, first=0).tolist() == list(range(n))


def test_copies_of_picked_points_come_last_and_never_twice() -> None:
    features = np.repeat(np.arange(5.0)[:, None], 3, axis=0)
    picked = greedy_coreset(features, 15, first=0).tolist()
    assert picked[:2] == [0, 12]
    assert sorted(features[picked[:5], 0]) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert picked[5:] == sorted(set(range(15)) - set(picked[:5]))


def test_points_that_are_all_equally_far_are_selected_by_ascending_index() -> None:
    assert greedy_coreset(np.eye(200), 90, first=1).tolist() == [1, 0, *range(2, 90)]


def test_nothing_of_the_size_of_a_distance_matrix_is_held() -> None:
    features = np.random.default_rng(4).normal(size=(20_000, 64)).astype(np.float32)  # 5 MB; n × n would be 1600 MB
    tracemalloc.start()
    try:
        greedy_coreset(features, 100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_progress_rises_to_the_number_asked_for() -> None:
    seen: list[tuple[int, int]] = []
    greedy_coreset(photo_patches(size=30), 100, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (100, 100)


def test_neither_the_features_nor_the_old_bank_are_changed() -> None:
    features = photo_patches(size=20)
    features.flags.writeable = False
    start = features[:4].copy()
    start.flags.writeable = False
    greedy_coreset(features, 10)
    greedy_growths(features, [(np.arange(40), 10)], start=start)


GOOD = np.arange(12, dtype=np.float32).reshape(6, 2)
NOT_A_NUMBER = np.where(np.arange(12).reshape(6, 2) == 5, np.nan, GOOD)


@pytest.mark.parametrize(
    ("features", "n_select", "options", "message"),
    [
        (NOT_A_NUMBER, 2, {}, "features has 1 of 6 rows with NaN or infinity .*the first is row 2"),
        (np.full((2, 2), 1e39), 1, {}, "2 of 2 rows with NaN or infinity in float32"),
        (np.empty((0, 2)), 1, {}, r"features has the shape \(0, 2\)"),
        (np.empty((2, 0)), 1, {}, r"features has the shape \(2, 0\)"),
        (np.zeros(3), 1, {}, r"features has the shape \(3,\)"),
        (np.zeros((3, 1), dtype=complex), 1, {}, "type complex128; expected float32"),
        (GOOD, 0, {}, "a coreset of 0 was asked of 6 patches"),
        (GOOD, 7, {}, "a coreset of 7 was asked of 6 patches; expected 1 to 6"),
        (GOOD, 2, {"first": 6}, "first is 6; expected 0 to 5"),
        (GOOD, 2, {"first": -1}, "first is -1; expected 0 to 5"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(
    features: NDArray[np.float64], n_select: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        greedy_coreset(features, n_select, **options)  # type: ignore[arg-type]
    assert caught.value.hint


@pytest.mark.parametrize(
    ("n_select", "start", "message"),
    [
        (2, np.zeros((1, 3)), "start has 3 features, the patches have 2"),
        (2, np.zeros((0, 2)), r"start has the shape \(0, 2\)"),
        (2, NOT_A_NUMBER, "start has 1 of 6 rows with NaN"),
        (4, GOOD, "a coreset of 4 was asked of 3 patches; expected 0 to 3"),
        (-1, GOOD, "a coreset of -1 was asked of 3 patches; expected 0 to 3"),
    ],
)
def test_what_cannot_grow_is_refused(n_select: int, start: NDArray[np.float64], message: str) -> None:
    with pytest.raises(DetectorError, match=message) as caught:
        greedy_growths(GOOD, [([0, 2, 4], n_select)], start=start)
    assert caught.value.hint
