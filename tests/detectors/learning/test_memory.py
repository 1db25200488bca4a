"""Trained families hold maps of as many images as a budget of bytes allows, each once, and no canvases at all."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors import calibration
from detectors.backbones.runtime import FeatureRuntime
from detectors.families import draem, draem_paper, efficientad
from detectors.families.draem import Draem
from detectors.families.draem_paper import DraemPaper
from detectors.families.efficientad import EfficientAd
from detectors.families.efficientad_paper import EfficientAdSmall
from detectors.families.fastflow import FastFlow
from detectors.families.rd4ad import Rd4ad
from detectors.learning import distillation, learned_maps, memory
from detectors.protocol import FitContext

Canvas = NDArray[np.uint8]
UNDER_WAY = 4
"""Images of a stream."""


class Reached(Exception):
    """The fit is where it was to be looked at."""


class Alive:
    """How many of the arrays that it was shown are still somewhere."""

    def __init__(self) -> None:
        self.n = self.most = 0

    def watch(self, array: NDArray[Any]) -> None:
        self.n += 1
        self.most = max(self.most, self.n)
        weakref.finalize(array, self._gone)

    def _gone(self) -> None:
        self.n -= 1


class Watched:
    """A runtime whose maps are counted, one an image."""

    def __init__(self, runtime: FeatureRuntime, alive: Alive) -> None:
        self._runtime, self._alive = runtime, alive
        self.map_names = runtime.map_names
        self.features = runtime.features

    def stream(self, canvases: Iterable[Canvas], names: Sequence[str]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        for maps in self._runtime.stream(canvases, names):
            self._alive.watch(maps[-1])
            yield maps


class Drawer(Sequence[Canvas]):
    """Canvases that are counted each time that they are taken out."""

    def __init__(self, canvases: Sequence[Canvas], alive: Alive) -> None:
        self._canvases, self._alive = canvases, alive

    def __len__(self) -> int:
        return len(self._canvases)

    def __getitem__(self, index: Any) -> Any:
        found = self._canvases[index].copy()
        self._alive.watch(found)
        return found


def _stop(*given: object, **options: object) -> None:
    raise Reached


@pytest.mark.parametrize(
    ("family", "module"), [(EfficientAd, efficientad), (Rd4ad, learned_maps), (FastFlow, learned_maps), (Draem, draem)]
)
def test_maps_are_kept_of_as_many_images_as_the_budget_holds_and_not_beside_what_is_made_of_them(
    family: Any, module: Any, canvases: Sequence[Canvas], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = family.inputs if family is not EfficientAd else ("patches", "stride8")
    n_bytes = sum(each.nbytes for each in runtime.maps(canvases[0], names))
    monkeypatch.setattr(memory, "LEARNED_BYTES", 14 * n_bytes + 5)
    monkeypatch.setattr(draem, "SPOILT", 24)
    monkeypatch.setattr(module, "train", _stop)
    alive, totals = Alive(), []

    def told(what: str, done: int, total: int) -> None:
        if what == "features":
            totals.append(total)

    with pytest.raises(Reached):
        family.fit(canvases, runtime=Watched(runtime, alive), context=FitContext(progress=told))
    assert max(totals[:14]) == 14
    assert alive.most <= 2 * 14 + UNDER_WAY, "learned from and held out"
    assert alive.n <= UNDER_WAY


@pytest.mark.parametrize("family", [EfficientAdSmall, DraemPaper])
def test_the_papers_networks_keep_no_canvases(
    family: Any, canvases: Sequence[Canvas], runtime: FeatureRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MIN_REFERENCE", 6)
    monkeypatch.setattr(distillation, "distil_teacher", _stop)
    monkeypatch.setattr(draem_paper, "train", _stop)
    alive = Alive()
    with pytest.raises(Reached):
        family.fit(Drawer(canvases[:18], alive), runtime=runtime, context=FitContext())
    assert alive.most <= 9, "those of a batch, and the next one"


def test_of_more_images_than_are_affordable_a_seeded_draw_is_learned_from() -> None:
    fitted = np.arange(40, 80)
    drawn = memory.learned_from(fitted, most=30, seed=1)
    assert len(set(drawn)) == 30
    assert set(drawn) <= set(fitted)
    np.testing.assert_array_equal(drawn, np.sort(drawn))
    np.testing.assert_array_equal(drawn, memory.learned_from(fitted, most=30, seed=1))
    np.testing.assert_array_equal(memory.learned_from(fitted, most=40, seed=1), fitted)


def test_the_usual_backbone_affords_a_thousand_images_at_its_usual_resolution(runtime: FeatureRuntime) -> None:
    maps = runtime.maps(np.zeros((256, 256, 3), np.uint8), ("patches", "stride8", "stride16"))
    assert memory.n_affordable(maps) == memory.MOST_LEARNED


def test_a_training_is_left_with_its_least_whatever_the_maps_take() -> None:
    assert memory.n_affordable([np.broadcast_to(np.float32(0), (2**14, 2**14, 4))]) == calibration.LEAST_FITTED
