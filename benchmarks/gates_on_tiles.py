"""Is a challenger that forgot one kind of defect refused, and one as good as the champion let through, on real tiles?

    python -m benchmarks.gates_on_tiles --seeds 10

For each seed: half of each kind of defect is labelled (the golden set, never fitted on), the other half is not. The
champion is fitted on 300 goods. Equal challengers are fitted on 300 other goods, as a retrain fits its twin: on all but
30 % of them, which are the probes. Challengers that forgot a kind have the unlabelled half of that kind in their good set
and among their probes, as a curation that noticed nothing would leave them.

The backbone's features are computed once and kept in half precision; projection, coreset and scores are what a retrain
runs. Only `golden_kinds` and `golden_contrast` are asked: the gates that need a threshold need a cross-fitted reference,
ten times the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.building import build_runtime
from detectors.backbones.neighbourhood import NEIGHBOURHOOD
from detectors.families.patchcore import PatchCoreSettings, _build_bank
from detectors.patches.aggregation import top_mean
from detectors.patches.bank import MemoryBank
from detectors.patches.whitening import MAX_FITTED_PATCHES, PatchMoments, PatchProjection
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb
from registry.contrast import contrast_gate
from registry.gates import Gate, kinds_gate

TILES = Path(__file__).parents[2] / "shared" / "data" / "magnetic_tile"
N_FIT, PROBE_SHARE, EQUALS = 300, 0.3, 5

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Bank:
    """What `PatchCore.fit` deploys, without the reference."""

    projection: PatchProjection
    search: MemoryBank

    @classmethod
    def of(cls, kept: Sequence[NDArray[np.float16]], indices: Sequence[int], seed: int) -> Bank:
        settings = PatchCoreSettings()
        patches = np.concatenate([kept[i].reshape(-1, kept[i].shape[-1]) for i in indices]).astype(np.float32)
        step = max(1, len(patches) // MAX_FITTED_PATCHES)
        projection = PatchProjection.of(PatchMoments.of(patches[::step]), dimensions=settings.dimensions)
        return cls(projection, MemoryBank(_build_bank(projection.apply(patches), settings, seed=seed)))

    def scores(self, kept: Sequence[NDArray[np.float16]], indices: Sequence[int]) -> Scores:
        """As `PatchCore.score` has them."""
        settings, found = PatchCoreSettings(), []
        for i in indices:
            patches = self.projection.apply(kept[i].reshape(-1, kept[i].shape[-1]).astype(np.float32))
            distances = self.search.nearest(patches).reshape(kept[i].shape[:2])
            found.append(top_mean(distances, top_share=settings.top_share).score)
        return np.array(found)


def read_features(files: Sequence[Path]) -> list[NDArray[np.float16]]:
    runtime, framing = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD), Framing(256)
    photographs = (to_uint8_rgb(read_photograph(path).pixels, white_level=255) for path in files)
    return [runtime.features(framing.frame(image)).astype(np.float16) for image in photographs]


@dataclass(frozen=True)
class Tried:
    """What the gates said of one challenger's twin, and by how much each golden defect's place changed."""

    place: Gate
    contrast: Gate
    change: Scores

    @property
    def passed(self) -> bool:
        return self.place.passed and self.contrast.passed


def try_gates(
    kept: Sequence[NDArray[np.float16]],
    champion_scores: Scores,
    chosen: Sequence[int],
    golden: Sequence[int],
    kinds: Sequence[str],
    rng: np.random.Generator,
) -> Tried:
    mixed = rng.permutation(np.array(chosen))
    n_probes = round(PROBE_SHARE * len(mixed))
    probes, learned = mixed[:n_probes].tolist(), mixed[n_probes:].tolist()
    twin = Bank.of(kept, learned, int(rng.integers(2**31)))
    good = champion_scores[probes], twin.scores(kept, probes)
    defect = champion_scores[golden], twin.scores(kept, golden)
    judged = {
        "champion_good": good[0],
        "champion_defect": defect[0],
        "challenger_good": good[1],
        "challenger_defect": defect[1],
    }
    contrast = contrast_gate(**judged, kinds=kinds)
    assert contrast is not None, "distances are positive"
    before, after = ((g[:, None] < d[None]).mean(0) for g, d in zip(good, defect, strict=True))
    return Tried(kinds_gate(**judged, kinds=kinds), contrast, after - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    kinds = sorted(folder.name for folder in (TILES / "defect").iterdir())
    files = [(path, "") for path in list_images(TILES / "good")]
    files += [(path, kind) for kind in kinds for path in list_images(TILES / "defect" / kind)]
    kept = read_features([path for path, _ in files])
    goods = np.array([i for i, (_, kind) in enumerate(files) if not kind])
    tried: dict[str, list[Tried]] = {name: [] for name in ["equal", *kinds]}
    changes: dict[str, list[Scores]] = {name: [] for name in tried}
    print("| seed | challenger | golden_kinds | golden_contrast | reason |\n|---|---|---|---|---|", flush=True)
    for seed in range(options.first, options.first + options.seeds):
        rng = np.random.default_rng(seed)
        labelled: list[int] = []
        unlabelled: dict[str, list[int]] = {}
        for kind in kinds:
            own = rng.permutation([i for i, (_, of) in enumerate(files) if of == kind]).tolist()
            labelled += own[: len(own) // 2]
            unlabelled[kind] = own[len(own) // 2 :]
        order = rng.permutation(goods).tolist()
        rest, golden_kinds = order[N_FIT:], [files[i][1] for i in labelled]
        champion_scores = Bank.of(kept, order[:N_FIT], seed).scores(kept, range(len(files)))
        for name in ["equal"] * EQUALS + kinds:
            chosen = rng.choice(rest, N_FIT, replace=False).tolist() + unlabelled.get(name, [])
            found = try_gates(kept, champion_scores, chosen, labelled, golden_kinds, rng)
            tried[name].append(found)
            of_kind = np.array(golden_kinds) == name
            changes[name].append(found.change if name == "equal" else found.change[of_kind])
            place, contrast = ("passed" if gate.passed else "refused" for gate in (found.place, found.contrast))
            print(f"| {seed} | {name} | {place} | {contrast} | {found.contrast.reason} |", flush=True)
    show(tried, changes)


def show(tried: Mapping[str, Sequence[Tried]], changes: Mapping[str, Sequence[Scores]]) -> None:
    """The table by kind, and the two totals."""
    print(
        "\n| challenger | labelled images of the kind | mean change of their place | loss of contrast, SD (least to most) ",
        end="",
    )
    print("| refused by place | refused by contrast | let through |\n|---|---|---|---|---|---|---|")
    for name, each in tried.items():
        n = "" if name == "equal" else str(len(changes[name][0]))
        losses = [one.contrast.value for one in each]
        by_place, by_contrast = sum(not one.place.passed for one in each), sum(not one.contrast.passed for one in each)
        print(
            f"| {'equal' if name == 'equal' else f'forgot {name}'} | {n} | {np.concatenate(changes[name]).mean():+.3f} "
            f"| {min(losses):+.2f} to {max(losses):+.2f} | {by_place} | {by_contrast} | {sum(one.passed for one in each)} |"
        )
    print(f"\nplace of a labelled defect, equal against champion: SD {np.concatenate(changes['equal']).std():.3f}")
    forgot = [one.passed for name, each in tried.items() if name != "equal" for one in each]
    equal = [one.passed for one in tried["equal"]]
    print(f"refused {len(forgot) - sum(forgot)} of {len(forgot)} that forgot a kind, ", end="")
    print(f"let through {sum(equal)} of {len(equal)} equal ones")


if __name__ == "__main__":
    main()
