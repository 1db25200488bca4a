"""The two runtimes see the same; each gives its own scores again after it was saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from detectors.backbones.backbone import BackboneSpec, load_backbone
from detectors.backbones.building import load_runtime
from detectors.backbones.runtime import FeatureRuntime, usable_threads
from detectors.backbones.torch_runtime import TorchRuntime
from detectors.patches.patch_heads import nearest_head
from detectors.patches.whitening import PatchProjection
from halfsigma import ArtifactError


def _canvas(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (256, 224)])
def test_openvino_and_torch_agree_to_a_thousandth_of_the_features_spread(
    runtime: FeatureRuntime, torch_runtime: FeatureRuntime, size: tuple[int, int]
) -> None:
    canvas = _canvas(*size)
    ours, theirs = runtime.features(canvas), torch_runtime.features(canvas)
    assert ours.shape == theirs.shape == (size[0] // 16, size[1] // 16, 112 + 192)
    assert ours.dtype == theirs.dtype == np.float32
    # float32 on both sides: sums in another order, the network's sixty layers deep
    assert np.abs(ours - theirs).max() < 1e-3 * theirs.std()


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_a_saved_runtime_gives_the_same_features_bit_for_bit(
    runtime: FeatureRuntime, torch_runtime: FeatureRuntime, kind: str, tmp_path: Path
) -> None:
    original = runtime if kind == "openvino" else torch_runtime
    record = original.save(tmp_path)
    assert record["name"] == kind
    assert record["precision"] == "f32"
    assert not list(tmp_path.glob("*.pt*"))
    loaded = load_runtime(tmp_path, record)
    canvas = _canvas(96, 96)
    np.testing.assert_array_equal(loaded.features(canvas), original.features(canvas))


def test_features_do_not_depend_on_the_sizes_seen_before(runtime: FeatureRuntime) -> None:
    canvas = _canvas(96, 96)
    before = runtime.features(canvas)
    for side in (64, 128, 160):
        runtime.features(_canvas(side, 64))
    np.testing.assert_array_equal(runtime.features(canvas), before)


def test_the_features_that_were_given_out_are_not_overwritten_by_the_next_image(runtime: FeatureRuntime) -> None:
    first = runtime.features(_canvas(64, 64))
    kept = first.copy()
    runtime.features(np.zeros((64, 64, 3), np.uint8))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_a_stream_gives_what_each_canvas_alone_gives_bit_for_bit_and_in_order(
    runtime: FeatureRuntime, torch_runtime: FeatureRuntime, kind: str
) -> None:
    asked, names = runtime if kind == "openvino" else torch_runtime, ("stride8", "patches")
    sizes = [(96, 96), (64, 96), (96, 96), (64, 64), (96, 96), (96, 96), (96, 96), (128, 64)]
    canvases = [np.random.default_rng(k).integers(0, 256, (*size, 3), dtype=np.uint8) for k, size in enumerate(sizes)]
    found = list(asked.stream(iter(canvases), names))
    assert len(found) == len(canvases)
    for canvas, maps in zip(canvases, found, strict=True):
        for streamed, alone in zip(maps, asked.maps(canvas, names), strict=True):
            np.testing.assert_array_equal(streamed, alone)
    assert list(asked.stream([], names)) == []


def test_what_a_stream_is_compiled_for_does_not_depend_on_what_went_through_before(
    tmp_path: Path, runtime: FeatureRuntime
) -> None:
    """A training that goes on in another process has not streamed what the first one had; the size decides the last bits."""
    fresh = load_runtime(tmp_path, runtime.save(tmp_path))
    for sizes, compiled in (([(128, 64)], {(128, 64)}), ([(96, 96), (64, 96)], {(128, 64), (96, 96), None})):
        list(fresh.stream([_canvas(*size) for size in sizes], ("patches",)))
        assert set(fresh._compiled["patches",]._parallel) == compiled  # type: ignore[attr-defined]


def test_a_network_for_any_size_streams_as_it_scores(runtime: FeatureRuntime) -> None:
    rng = np.random.default_rng(0)
    projection = PatchProjection(np.zeros(304, np.float32), rng.normal(size=(304, 8)).astype(np.float32))
    head = nearest_head(projection, rng.normal(size=(50, 8)).astype(np.float32), runtime=runtime)
    network = runtime.network(head, fixed_size=None)
    list(network.stream([_canvas(96, 96), _canvas(64, 96)]))
    assert set(network._parallel) == {None}  # type: ignore[attr-defined]


def test_of_two_streams_at_once_and_one_that_is_left_neither_disturbs_the_other(runtime: FeatureRuntime) -> None:
    canvases = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(12)]
    alone = [runtime.features(canvas) for canvas in canvases]
    one, other = (runtime.stream(each, ("patches",)) for each in (canvases, reversed(canvases)))
    left = runtime.stream(canvases, ("patches",))
    np.testing.assert_array_equal(next(left)[0], alone[0])
    del left
    for k, ((first,), (second,)) in enumerate(zip(one, other, strict=True)):
        np.testing.assert_array_equal(first, alone[k])
        np.testing.assert_array_equal(second, alone[-1 - k])


def test_an_image_that_cannot_be_read_ends_a_stream_with_its_own_error(runtime: FeatureRuntime) -> None:
    def canvases() -> Iterator[np.ndarray]:
        yield _canvas(64, 64)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(runtime.stream(canvases(), ("patches",)))


def test_a_line_of_many_sizes_compiles_one_network_for_them_all(tmp_path: Path, runtime: FeatureRuntime) -> None:
    compiled = load_runtime(tmp_path, runtime.save(tmp_path))
    for size in ((64, 64), (64, 96), (128, 64)):
        compiled.features(_canvas(*size))
    assert len(compiled._compiled["patches",]._single) == 1  # type: ignore[attr-defined]


def test_a_network_compiled_for_one_size_scores_as_the_one_for_all_sizes(runtime: FeatureRuntime) -> None:
    rng = np.random.default_rng(0)
    projection = PatchProjection(np.zeros(304, np.float32), rng.normal(size=(304, 8)).astype(np.float32))
    bank = rng.normal(size=(50, 8)).astype(np.float32)
    canvas = _canvas(96, 160)
    head = nearest_head(projection, bank, runtime=runtime)
    fixed, dynamic, other = (runtime.network(head, fixed_size=size)(canvas)[0] for size in ((96, 160), None, (64, 64)))
    np.testing.assert_array_equal(fixed, dynamic)
    np.testing.assert_array_equal(fixed, other)


def test_a_runtime_of_another_halfsigma_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="unknown runtime 'tensorrt'") as caught:
        load_runtime(tmp_path, {"name": "tensorrt"})
    assert "install" in caught.value.hint


def test_a_damaged_network_file_is_an_artifact_error(tmp_path: Path) -> None:
    (tmp_path / "backbone.xml").write_text("<net>")
    (tmp_path / "backbone.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match="backbone.xml"):
        load_runtime(tmp_path, {"name": "openvino"})


@pytest.mark.parametrize(("asked", "expected"), [("1", 1), ("0", None), ("many", None), ("", None), ("9999", None)])
def test_threads_follow_omp_num_threads_within_what_the_scheduler_allows(
    monkeypatch: pytest.MonkeyPatch, asked: str, expected: int | None
) -> None:
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert usable_threads() == (expected or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("kind", ["openvino", "torch"])
def test_threads_that_score_at_once_each_get_their_own_image(
    runtime: FeatureRuntime, torch_runtime: FeatureRuntime, kind: str
) -> None:
    asked = runtime if kind == "openvino" else torch_runtime
    canvases = [np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8) for k in range(8)]
    alone = [asked.features(canvas) for canvas in canvases]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(asked.features, canvases * 10))
    for place, features in enumerate(found):
        np.testing.assert_array_equal(features, alone[place % len(canvases)])


def test_two_torch_runtimes_in_two_threads_leave_each_other_in_float32() -> None:
    """The switch is the process's: whoever leaves first would turn TF32 on under the other."""
    backbone = load_backbone(BackboneSpec())
    first, second = (TorchRuntime(backbone, "a backbone", neighbourhood=3) for _ in range(2))
    first_is_in, second_is_in, first_is_out = Event(), Event(), Event()
    seen: list[bool] = []

    def between(enter: Callable[[], object]) -> Callable[[torch.Tensor], list[torch.Tensor]]:
        def module(canvas: torch.Tensor) -> list[torch.Tensor]:
            enter()
            seen.append(torch.backends.cudnn.allow_tf32)
            return [torch.zeros(1, 2, 2, 1)] * len(first.map_names)

        return module

    first._module = between(lambda: (first_is_in.set(), second_is_in.wait(0.3)))
    second._module = between(lambda: (second_is_in.set(), first_is_out.wait(0.3)))
    before = torch.backends.cudnn.allow_tf32
    assert before
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.features, _canvas(64, 64))
        one.add_done_callback(lambda _: first_is_out.set())
        assert first_is_in.wait(10)
        pool.submit(second.features, _canvas(64, 64)).result()
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32 == before
