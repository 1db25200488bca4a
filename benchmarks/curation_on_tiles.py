"""What a bank is worth that learned from a drifted night with unlabelled defects in it, curated in several ways.

    python -m benchmarks.curation_on_tiles --seeds 1 --cache /tmp/curation

For each seed: a champion of 300 goods; for each drift a night of 300 other goods with 0, 2, 5, 10 and 20 % of real defects
mixed in, all disturbed alike; AUROC on held-out goods and held-out defects under the same drift. Side by side: the
champion, the transferred bank alone, clean (the night without its defects), dirty (all of it), the curation before drift
transfer, the curation, and the curation after a person's verdict on the twenty most suspicious images.

Features are computed once a seed and drift, and projected once, by the components of the night's goods and the verified
core; banks of 1,024 patches are made of them. What the disturbance was is estimated once a drift, on the night with 10 % of
defects, as the nightly check does. The second look of a retrain is not in it, on neither side.
"""

from __future__ import annotations

import argparse
import operator
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.closed_loop_on_tiles import TILES, prepared
from detectors.backbones.backbone import BackboneSpec
from detectors.backbones.runtime import build_runtime
from detectors.calibration import conformal_threshold
from detectors.disturbances.disturbance import Disturbance, describe, disturb
from detectors.families.patchcore import NEIGHBOURHOOD, PatchCore
from detectors.fit import fit_version
from detectors.patches.aggregation import TOP_SHARE, top_mean
from detectors.patches.alignment import Alignment
from detectors.patches.bank import MemoryBank
from detectors.patches.coreset import greedy_coreset
from detectors.patches.whitening import PatchMoments, PatchProjection
from detectors.photographs.framing import Framing
from detectors.photographs.images import list_images, read_photograph, to_uint8_rgb
from detectors.version import DetectorVersion
from drift.reference import Reference
from drift.responses import Response
from drift.verdict import Verdict, judge_lines
from drift.window import Window
from flows.curating import ORDINARY_SHARE
from registry.curation import Candidate, Curation, curate
from registry.gates import auroc
from registry.suspicion import Suspicion
from registry.transfer import named_disturbances

Image = NDArray[np.uint8]
N_FIT, N_CORE, N_NIGHT, N_HELD_OUT = 300, 200, 300, 200
BANK = 1024
CORE_FOLDS, FOLDS = 8, 5
"""A judge takes 15 folds, a retrain as many: to save time."""
FPR_BUDGET = 0.01
SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
ESTIMATED_AT = 0.1
MOST_DEFECTS = round(N_NIGHT * SHARES[-1] / (1.0 - SHARES[-1]))
DRIFTS: dict[str, tuple[Disturbance, ...]] = {
    "blur 1.5 px": (Disturbance("defocus", 1.5),),
    "slip 12 px": (Disturbance("shift", 12.0, direction_deg=30.0),),
    "gain 1.4": (Disturbance("gain", 1.4),),
    "rotation 3°": (Disturbance("rotation", 3.0),),
    "gamma 1.6": (Disturbance("gamma", 1.6),),
    "mixture": (Disturbance("defocus", 1.0), Disturbance("gain", 1.3), Disturbance("shift", 6.0, direction_deg=200.0)),
}
GROUPS = ("core", "good", "defect", "held_good", "held_defect")
TRANSFERRED: dict[str, tuple[Disturbance, ...]] = {
    "gradient 0.4": (Disturbance("gradient", 0.4, direction_deg=45.0),),
    "motion 6 px": (Disturbance("motion", 6.0, direction_deg=20.0),),
    "noise 3 %": (Disturbance("noise", 0.03),),
    "dead pixels 0.4 %": (Disturbance("dead_pixels", 0.004, seed=5),),
    "jpeg 30": (Disturbance("jpeg", 30.0),),
    "scale 1.06": (Disturbance("scale", 1.06),),
}
"""The other kinds that attribution names: for the table of drift transfer alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """Projected patch features of some images, image by image."""

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]

    def of(self, chosen: Iterable[int]) -> NDArray[np.float32]:
        """The patches of the chosen images, one below the other."""
        ends = np.cumsum(self.lengths)
        return np.concatenate([self.values[ends[i] - self.lengths[i] : ends[i]] for i in chosen])


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """One drift of one seed: what was photographed, and what the champion says of it."""

    patches: dict[str, Patches]
    """``core``, ``good``, ``defect`` (what may be mixed in), ``held_good``, ``held_defect``."""
    scores: dict[str, NDArray[np.float64]]
    """By the champion: ``good``, ``defect``, ``held_good``, ``held_defect``."""
    reference_scores: NDArray[np.float64]
    threshold: float
    defect_shares: NDArray[np.float64]
    """As the check estimates them, one for each of `SHARES`."""
    kinds: NDArray[np.str_]
    """Of the held-out defects."""
    named: str
    seconds: float


class Station:
    """The images of one seed, and the champion that was fitted on some of them."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        good_paths, defect_paths = list_images(TILES / "good"), list_images(TILES / "defect")
        goods = [_read(good_paths[i]) for i in rng.permutation(len(good_paths))]
        shuffled = [defect_paths[i] for i in rng.permutation(len(defect_paths))]
        self.seed = seed
        self.fitted, rest = goods[:N_FIT], goods[N_FIT:]
        self.night, self.held_good = rest[:N_NIGHT], rest[N_NIGHT : N_NIGHT + N_HELD_OUT]
        self.mixed_in = [_read(path) for path in shuffled[:MOST_DEFECTS]]
        self.held_defect = [_read(path) for path in shuffled[MOST_DEFECTS:]]
        self.kinds = np.array([path.parent.name for path in shuffled[MOST_DEFECTS:]])
        runtime = build_runtime(BackboneSpec(), neighbourhood=NEIGHBOURHOOD)
        material = prepared(self.fitted, Framing(256))
        version = fit_version(material, family=PatchCore, runtime=runtime, fpr_budget=0.01, seed=seed)
        self.champion = _with_responses(version, self.fitted, seed)

    def night_of(self, changes: Sequence[Disturbance]) -> Night:
        """The station after `changes`: everything photographed and looked at once."""
        started = time.perf_counter()
        rng = np.random.default_rng(self.seed)
        groups = {
            "good": self.night,
            "defect": self.mixed_in,
            "held_good": self.held_good,
            "held_defect": self.held_defect,
        }
        taken = {name: [disturb(image, changes, rng) for image in images] for name, images in groups.items()}
        tables = {name: _scored(self.champion, images) for name, images in taken.items()}
        shares = [self._verdict(tables, share).defect_share for share in SHARES]
        named = named_disturbances(self._verdict(tables, ESTIMATED_AT).to_dict())
        taken["core"] = [disturb(image, named, rng) for image in self.fitted[:N_CORE]]
        raw = {name: _features(self.champion, images) for name, images in taken.items()}
        projection = PatchProjection.fit(
            np.concatenate([*(each for each in raw["good"]), *(each for each in raw["core"])]), dimensions=128
        )
        return Night(
            patches={
                name: Patches(projection.apply(np.concatenate(rows)), np.array([len(row) for row in rows]))
                for name, rows in raw.items()
            },
            scores={name: table["score"] for name, table in tables.items()},
            reference_scores=self.champion.reference_scores,
            threshold=self.champion.threshold.value,
            defect_shares=np.array(shares),
            kinds=self.kinds,
            named=describe(named) if named else "none of these",
            seconds=time.perf_counter() - started,
        )

    def _verdict(self, tables: dict[str, dict[str, NDArray[np.float64]]], share: float) -> Verdict:
        n = n_defects(share)
        mixed = {name: np.r_[values, tables["defect"][name][:n]] for name, values in tables["good"].items()}
        order = np.random.default_rng(self.seed).permutation(N_NIGHT + n)
        window = Window(
            night=date(2026, 11, 24),
            scores=mixed["score"][order],
            covariates={name: values[order] for name, values in mixed.items() if name != "score"},
        )
        reference = Reference(
            self.champion.reference_scores,
            self.champion.reference_covariates,
            responses=tuple(Response.from_json(each.to_json()) for each in self.champion.responses),
        )
        return judge_lines([(reference, [window])])[0]


def n_defects(share: float) -> int:
    """So many of them beside `N_NIGHT` goods are that share of the night."""
    return round(N_NIGHT * share / (1.0 - share))


def _read(path: Path) -> Image:
    return to_uint8_rgb(read_photograph(path).pixels, white_level=255)


def _with_responses(version: DetectorVersion, images: Sequence[Image], seed: int) -> DetectorVersion:
    from dataclasses import replace

    from detectors.disturbances.responses import MOST_IMAGES, measure_responses

    return replace(version, responses=measure_responses(version, images[:MOST_IMAGES], seed=seed))


def _scored(version: DetectorVersion, images: Sequence[Image]) -> dict[str, NDArray[np.float64]]:
    rows = [version.score(image) for image in images]
    columns = {name: np.array([row.covariates[name] for row in rows]) for name in rows[0].covariates}
    return {"score": np.array([row.score for row in rows])} | columns


def _features(version: DetectorVersion, images: Sequence[Image]) -> list[NDArray[np.float32]]:
    found = (version.runtime.features(version.framing.frame(image)) for image in images)
    return [each.reshape(-1, each.shape[-1]) for each in found]


def night_at(seed: int, name: str, cache: Path, stations: dict[int, Station]) -> Night:
    """From the cache, or photographed now."""
    file = cache / f"seed{seed}-{name.replace(' ', '-')}.npz"
    if file.exists():
        with np.load(file) as stored:
            return Night(
                patches={
                    group: Patches(stored[f"{group}|values"].astype(np.float32), stored[f"{group}|n"])
                    for group in GROUPS
                },
                scores={group: stored[f"{group}|score"] for group in GROUPS[1:]},
                reference_scores=stored["reference"],
                threshold=float(stored["threshold"]),
                defect_shares=stored["shares"],
                kinds=stored["kinds"],
                named=str(stored["named"]),
                seconds=float(stored["seconds"]),
            )
    if seed not in stations:
        stations[seed] = Station(seed)
    night = stations[seed].night_of((DRIFTS | TRANSFERRED)[name])
    save_night(night, file)
    return night_at(seed, name, cache, stations)  # what is judged does not depend on whether it was cached


def save_night(night: Night, file: Path) -> None:
    """Patches in half precision: a twentieth of a per cent of a distance."""
    columns = {f"{group}|values": each.values.astype(np.float16) for group, each in night.patches.items()}
    columns |= {f"{group}|n": each.lengths for group, each in night.patches.items()}
    columns |= {f"{group}|score": values for group, values in night.scores.items()}
    np.savez(
        file,
        reference=night.reference_scores,
        threshold=night.threshold,
        shares=night.defect_shares,
        kinds=night.kinds,
        named=night.named,
        seconds=night.seconds,
        **columns,
    )


class Trials:
    """Banks on one night, and what each is worth on what was held out."""

    def __init__(self, night: Night) -> None:
        self.night = night
        core = range(len(night.patches["core"].lengths))
        self.core = night.patches["core"].of(core)
        self._judges: dict[float, tuple[MemoryBank, Suspicion]] = {}

    def scores(self, memory: MemoryBank, group: str, chosen: Sequence[int] | None = None) -> NDArray[np.float64]:
        """(n,) of the chosen images of a group, by default all."""
        patches = self.night.patches[group]
        return _scores(memory, patches, range(len(patches.lengths)) if chosen is None else chosen)

    def worth(self, memory: MemoryBank) -> Worth:
        """AUROC on what was held out, in all and by kind of defect."""
        good, defect = self.scores(memory, "held_good"), self.scores(memory, "held_defect")
        kinds = self.night.kinds
        return Worth(auroc(good, defect), {str(kind): auroc(good, defect[kinds == kind]) for kind in np.unique(kinds)})

    def learned(self, names: Sequence[str], *, with_core: bool) -> MemoryBank:
        """A bank of these images of the night, ``g7`` or ``d3``."""
        parts = [self.core] if with_core else []
        for group, letter in (("good", "g"), ("defect", "d")):
            numbers = [int(name[1:]) for name in names if name[0] == letter]
            if numbers:
                parts.append(self.night.patches[group].of(numbers))
        return bank(np.concatenate(parts))

    def judge_of(self, share: float) -> Suspicion | None:
        """None where the verified goods do not fit the night: then a retrain does without them."""
        judge = self.aligned(share)[1]
        return judge if judge.fits() else None

    def aligned(self, share: float) -> tuple[MemoryBank, Suspicion]:
        """As `detectors.disturbances.transfer.Judge`: the core aligned with the night, of which the champion chooses the part."""
        if share not in self._judges:
            n = n_defects(share)
            champion = np.r_[self.night.scores["good"], self.night.scores["defect"][:n]]
            least = np.argsort(champion)[: round(ORDINARY_SHARE * champion.size)]
            parts = (
                self.night.patches["good"].of(least[least < N_NIGHT]),
                *(
                    [self.night.patches["defect"].of(least[least >= N_NIGHT] - N_NIGHT)]
                    if (least >= N_NIGHT).any()
                    else []
                ),
            )
            moments = reduce(operator.add, (PatchMoments.of(each) for each in parts))
            ordinary = np.argsort(self.night.reference_scores[:N_CORE])[: round(ORDINARY_SHARE * N_CORE)]
            of_core = PatchMoments.of(self.night.patches["core"].of(ordinary))
            core = Alignment.of(of_core, moments).apply(self.core)
            memory = bank(core)
            scores = {f"g{i}": float(score) for i, score in enumerate(self.scores(memory, "good"))}
            scores |= {f"d{i}": float(score) for i, score in enumerate(self.scores(memory, "defect")[:n])}
            lengths = self.night.patches["core"].lengths
            usual = self._cross_fitted(Patches(core, lengths), range(len(lengths)), None, n_folds=CORE_FOLDS)
            self._judges[share] = memory, Suspicion(scores, usual, "the verified goods")
        return self._judges[share]

    def curated(self, share: float, *, transfer: bool, verdicts: bool = False) -> Curation:
        """The real curation, of the night with that share of defects."""
        n = n_defects(share)
        names = [f"g{i}" for i in range(N_NIGHT)] + [f"d{i}" for i in range(n)]
        champion = np.r_[self.night.scores["good"], self.night.scores["defect"][:n]]
        judge = self.judge_of(share) if transfer else None
        labels: dict[str, str] = {}
        if verdicts:
            looked_at = self.curated(share, transfer=transfer).to_look_at
            labels = {each.sha256: "good" if each.sha256[0] == "g" else "defect" for each in looked_at}
        small = {name: np.full((8, 8), k, np.float32) for k, name in enumerate(names)}
        return curate(
            [
                Candidate(name, name, float(score), labels.get(name))
                for name, score in zip(names, champion, strict=True)
            ],
            reference_scores=self.night.reference_scores,
            threshold=self.night.threshold,
            defect_share=float(self.night.defect_shares[SHARES.index(share)]),
            fpr_budget=FPR_BUDGET,
            small_images=small,
            seed=0,
            judge=judge,
            n_core=N_CORE if judge is not None else 0,
        )

    def at_the_threshold(
        self, names: Sequence[str], *, with_core: bool, held_back: Sequence[str] = (), n_above: int = 0
    ) -> tuple[float, float]:
        """False positives and recall on what was held out, at the threshold of the reference: cross-fitted, and held back."""
        memory = self.learned(names, with_core=with_core)
        reference = [
            self._cross_fitted(self.night.patches[group], numbers, self.core if with_core else None, n_folds=FOLDS)
            for group, letter in (("good", "g"), ("defect", "d"))
            if (numbers := [int(name[1:]) for name in names if name[0] == letter])
        ]
        reference += [
            self.scores(memory, group, numbers)
            for group, letter in (("good", "g"), ("defect", "d"))
            if (numbers := [int(name[1:]) for name in held_back if name[0] == letter])
        ]
        limit = conformal_threshold(np.concatenate(reference), fpr_budget=FPR_BUDGET, n_above=n_above).value
        rejected = [float((self.scores(memory, group) > limit).mean()) for group in ("held_good", "held_defect")]
        return rejected[0], rejected[1]

    def _cross_fitted(
        self, patches: Patches, images: Sequence[int], besides: NDArray[np.float32] | None, *, n_folds: int
    ) -> NDArray[np.float64]:
        n_folds = min(n_folds, len(images))
        folds = np.random.default_rng(0).permutation(np.arange(len(images)) % n_folds)
        found = np.empty(len(images))
        for fold in range(n_folds):
            others = (
                [patches.of([i for i, own in zip(images, folds, strict=True) if own != fold])] if n_folds > 1 else []
            )
            memory = bank(np.concatenate([*([] if besides is None else [besides]), *others]))
            found[folds == fold] = _scores(
                memory, patches, [i for i, own in zip(images, folds, strict=True) if own == fold]
            )
        return found


@dataclass(frozen=True, slots=True)
class Worth:
    """AUROC, 0…1."""

    auroc: float
    by_kind: dict[str, float]


def _scores(memory: MemoryBank, patches: Patches, images: Sequence[int]) -> NDArray[np.float64]:
    ends = np.cumsum([patches.lengths[i] for i in images])[:-1]
    distances = np.split(memory.nearest(patches.of(images)), ends)
    return np.array([top_mean(each, top_share=TOP_SHARE).score for each in distances])


def bank(patches: NDArray[np.float32]) -> MemoryBank:
    return MemoryBank(patches[greedy_coreset(patches, min(BANK, len(patches)), seed=0)])


def try_drift(night: Night, name: str) -> tuple[list[str], list[str]]:
    """Rows of the table by share, and of the one by kind of defect."""
    trials = Trials(night)
    everything = [f"g{i}" for i in range(N_NIGHT)]
    clean = trials.worth(trials.learned(everything, with_core=False))
    rows, by_kind = [], []
    for share in SHARES:
        n = n_defects(share)
        mixed = everything + [f"d{i}" for i in range(n)]
        dirty = clean if n == 0 else trials.worth(trials.learned(mixed, with_core=False))
        results, left = {}, {}
        for how, transfer, verdicts in (("before", False, False), ("now", True, False), ("verdicts", True, True)):
            done = trials.curated(share, transfer=transfer, verdicts=verdicts)
            chosen = [each.sha256 for each in done.chosen if each.sha256 not in done.held_back]
            with_core = transfer and trials.judge_of(share) is not None
            results[how] = trials.worth(trials.learned(chosen, with_core=with_core))
            left[how] = sum(each[0] == "d" for each in chosen), N_NIGHT - sum(each[0] == "g" for each in chosen)
            if how == "now":
                estimate = done.defect_share
                rates = trials.at_the_threshold(
                    chosen, with_core=with_core, held_back=sorted(done.held_back), n_above=done.n_perhaps_good
                )
        now, said = results["now"].auroc, results["verdicts"].auroc
        rows.append(
            f"| {name} | {share:.0%} | {clean.auroc:.3f} | {dirty.auroc:.3f} | {results['before'].auroc:.3f} | {now:.3f} | "
            f"{said:.3f} | {_recovered(now, dirty, clean)} | {_recovered(said, dirty, clean)} | {estimate:.1%} | "
            f"{left['now'][0]} of {n} | {left['now'][1]} | {rates[0]:.1%} | {rates[1]:.0%} |"
        )
        print(rows[-1], flush=True)
        if share == ESTIMATED_AT:
            by_kind = [
                f"| {name} | {kind} | {clean.by_kind[kind]:.3f} | {dirty.by_kind[kind]:.3f} | "
                f"{results['before'].by_kind[kind]:.3f} | {results['now'].by_kind[kind]:.3f} | "
                f"{results['verdicts'].by_kind[kind]:.3f} |"
                for kind in clean.by_kind
            ]
    rejected = trials.at_the_threshold(everything, with_core=False)
    print(f"{name}: clean rejects {rejected[0]:.1%} of the goods and {rejected[1]:.0%} of the defects", flush=True)
    return rows, by_kind


def _recovered(found: float, dirty: Worth, clean: Worth) -> str:
    loss = clean.auroc - dirty.auroc
    return "–" if loss < 0.01 else f"{(found - dirty.auroc) / loss:.0%}"


def try_transfer(night: Night, name: str) -> str:
    """The transferred bank alone beside the champion and a bank of the night's goods."""
    trials = Trials(night)
    held = night.scores["held_good"]
    before = auroc(held, night.scores["held_defect"])
    memory, judge = trials.aligned(ESTIMATED_AT)
    alone = trials.worth(memory).auroc
    clean = trials.worth(trials.learned([f"g{i}" for i in range(N_NIGHT)], with_core=False)).auroc
    limit = conformal_threshold(judge.usual, fpr_budget=FPR_BUDGET).value
    fpr = float((trials.scores(memory, "held_good") > limit).mean())
    gain = "–" if clean - before < 0.01 else f"{(alone - before) / (clean - before):.0%}"
    return (
        f"| {name} | {night.named} | {before:.3f} | {alone:.3f} | {clean:.3f} | {gain} | "
        f"{float((held > night.threshold).mean()):.1%} | {fpr:.1%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--drift", action="append", help="one or more of them; by default all")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for features, some 150 MB a drift")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    names = asked.drift or [*DRIFTS, *TRANSFERRED]
    stations: dict[int, Station] = {}
    by_kind, alone = [], []
    for seed in range(asked.seeds):
        print(
            f"\nseed {seed}\n\n| drift | defects | clean | dirty | curation before | curation now | after 20 verdicts | "
            "recovered | after verdicts | estimated | learned | goods not learned | false positives | recall |\n"
            + "|---" * 14
            + "|"
        )
        for name in names:
            night = night_at(seed, name, asked.cache, stations)
            if name in DRIFTS:
                by_kind += try_drift(night, name)[1]
            alone.append(try_transfer(night, name))
    print(
        "\n10 % of defects, by kind\n\n| drift | kind | clean | dirty | before | now | after 20 verdicts |\n"
        + "|---" * 7
        + "|"
    )
    print("\n".join(by_kind))
    print(
        "\nDrift transfer alone\n\n| drift | named | champion | transferred | clean | recovered | false positives before | "
        "transferred |\n" + "|---" * 8 + "|"
    )
    print("\n".join(alone))


if __name__ == "__main__":
    main()
