"""The check on real images: resampled nights of magnetic tiles, bursts of real defects, real disturbances.

    python benchmarks/drift_on_tiles.py --images ../shared/data/magnetic_tile --cache /tmp/tiles.npz

Fits PatchCore on 300 good images (its reference is cross-fitted on them), scores all other good images, all defects and
disturbed copies of the other good images once, and resamples nights from those scores without replacement within a
night. Only scores and covariates are kept in the cache.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drift.measurement import measure_tonight
from drift.nights import Night, baseline, summarise
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge, judge_lines
from drift.window import Window

N_FIT = 300
FIRST = date(2026, 1, 1)
EXPECTED_CAUSE = {
    "gain": {"brightness", "contrast"},
    "gamma": {"brightness", "contrast"},
    "defocus": {"sharpness", "noise"},
    "motion": {"sharpness", "noise"},
    "noise": {"noise"},
    "shift": {"offset_x", "offset_y"},
    "rotation": {"rotation"},
}
DISTURBANCES: tuple[tuple[str, float], ...] = (
    ("gain", 0.8), ("gain", 1.2), ("gain", 1.4), ("gamma", 1.3), ("gamma", 0.8), ("defocus", 0.5), ("defocus", 1.0),
    ("defocus", 2.0), ("motion", 5.0), ("noise", 0.01), ("noise", 0.02), ("shift", 6.0), ("shift", 12.0),
    ("rotation", 1.0), ("rotation", 3.0), ("gradient", 0.3), ("jpeg", 40.0),
)  # fmt: skip

Table = dict[str, NDArray[np.float64]]


def score_everything(images: Path, seed: int) -> dict[str, Table]:
    """Scores (key "score") and covariates of every set of images, by one version."""
    from detectors.backbone import BackboneSpec
    from detectors.disturbance import Disturbance, disturb
    from detectors.families import family_named
    from detectors.fit import fit_version, prepare
    from detectors.framing import Framing
    from detectors.images import read_photograph
    from detectors.runtime import build_runtime

    rng = np.random.default_rng(seed)
    goods = sorted((images / "good").iterdir())
    goods = [goods[i] for i in rng.permutation(len(goods))]
    fitting, nights = goods[:N_FIT], goods[N_FIT:]
    version = fit_version(
        prepare(fitting, framing=Framing(side_px=256), white_level=255),
        family=family_named("patchcore"),
        runtime=build_runtime(BackboneSpec(), neighbourhood=3),
        fpr_budget=0.01,
        seed=seed,
    )

    def table(pixels: Sequence[NDArray[np.uint8]]) -> Table:
        rows = [version.score(image) for image in pixels]
        names = rows[0].covariates
        return {"score": np.array([row.score for row in rows])} | {
            name: np.array([row.covariates[name] for row in rows]) for name in names
        }

    photographs = [read_photograph(path).pixels for path in nights]
    result = {
        "reference": {"score": version.reference_scores} | dict(version.reference_covariates),
        "good": table(photographs),
        "defect": table([read_photograph(path).pixels for path in sorted((images / "defect").rglob("*.*"))]),
    }
    for name, strength in DISTURBANCES:
        change = Disturbance(name, strength, direction_deg=30.0, seed=seed)
        result[f"{name} {strength:g}"] = table([disturb(image, [change], rng) for image in photographs[:300]])
        print(f"scored {name} {strength:g}", file=sys.stderr)
    return result


class TileLine:
    """Nights resampled from the good images never seen in fitting."""

    def __init__(self, tables: dict[str, Table], rng: np.random.Generator) -> None:
        self.tables, self.rng = tables, rng
        reference = tables["reference"]
        self.reference = Reference(
            scores=reference["score"], covariates={k: v for k, v in reference.items() if k != "score"}
        )

    def window(self, night: int, n: int, kind: str = "good", *, defects: float = 0.0) -> Window:
        table = self.tables[kind]
        chosen = self.rng.choice(len(table["score"]), n, replace=False)
        rows = {name: values[chosen] for name, values in table.items()}
        n_defects = round(defects * n)
        if n_defects:
            struck = self.rng.choice(n, n_defects, replace=False)
            drawn = self.rng.choice(len(self.tables["defect"]["score"]), n_defects, replace=False)
            for name, values in rows.items():
                values[struck] = self.tables["defect"][name][drawn]
        scores = rows.pop("score")
        return Window(night=FIRST + timedelta(night), scores=scores, covariates=rows)

    def check(self, windows: Sequence[Window]) -> Verdict:
        return judge_lines([(self.reference, windows)])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--years", type=int, default=20)
    options = parser.parse_args()
    if options.cache and options.cache.exists():
        with np.load(options.cache) as stored:
            tables: dict[str, Table] = {}
            for key in stored.files:
                kind, name = key.split("|")
                tables.setdefault(kind, {})[name] = stored[key]
    else:
        start = time.perf_counter()
        tables = score_everything(options.images, options.seed)
        print(f"scored in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        if options.cache:
            np.savez(options.cache, **{f"{k}|{n}": v for k, table in tables.items() for n, v in table.items()})

    line = TileLine(tables, np.random.default_rng(options.seed))
    reference, good = line.reference, tables["good"]["score"]
    z = (good - reference.mean) / reference.sd
    print(f"reference {reference.n}: mean {reference.mean:.4g}, SD {reference.sd:.3g}; goods never seen: {len(good)}, "
          f"mean shift {z.mean():+.3f} SD, skewness {np.mean(((z - z.mean()) / z.std()) ** 3):.2f}")  # fmt: skip
    defect = tables["defect"]["score"]
    auroc = np.mean(defect[:, None] > good[None, :])
    print(f"defects {len(defect)}: mean {(defect.mean() - reference.mean) / reference.sd:+.2f} SD, AUROC {auroc:.3f}")

    print(f"\nVerdicts of {options.repeats} first nights (no history), and after five quiet nights")
    for n in (100, 200):
        for share in (0.0, 0.05, 0.1, 0.2):
            first = [line.check([line.window(0, n, defects=share)]) for _ in range(options.repeats)]
            later = [
                line.check([line.window(i, n) for i in range(5)] + [line.window(5, n, defects=share)])
                for _ in range(options.repeats)
            ]
            shift = np.array([v.tonight.estimate for v in first])
            mean = np.array([v.mean_shift.estimate for v in first])
            print(f"  n={n} defects {share:4.0%}: bulk {shift.mean():+.3f} (SD {shift.std():.3f}, max {shift.max():+.2f}), "
                  f"mean {mean.mean():+.2f}; first {dict(Counter(v.kind for v in first))}, "
                  f"later {dict(Counter(v.kind for v in later))}")  # fmt: skip

    print(f"\n{options.years} line-years of quiet nights of 100 images")
    rng_nights, counts = 365 * options.years, Counter()
    base, past, settings = baseline(reference), list[Night | None](), DriftSettings()
    for night in range(rng_nights):
        window = line.window(night, 100)
        past = [*past, summarise(base, window)][-settings.history_nights :]
        measured = measure_tonight(base, past, window, settings=settings)
        counts[judge(measured, q=measured.ks_p).kind] += 1
    print(f"  {dict(counts)}")

    print("\nDisturbed nights of 100 images: verdict, and the first cause named")
    for kind in tables:
        if kind in ("reference", "good", "defect"):
            continue
        verdicts = [line.check([line.window(0, 100, kind)]) for _ in range(100)]
        burst = [line.check([line.window(0, 100, kind, defects=0.1)]) for _ in range(100)]
        named = Counter(v.causes[0].name if v.causes else "none" for v in verdicts)
        right = EXPECTED_CAUSE.get(kind.split()[0])
        share = "" if right is None else f", right {sum(named[name] for name in right)} %"
        shift = np.mean([v.tonight.estimate for v in verdicts])
        print(f"  {kind:14s} bulk {shift:+6.2f}  {dict(Counter(v.kind for v in verdicts))}  {dict(named)}{share}"
              f"  with 10 % defects {dict(Counter(v.kind for v in burst))}, burst named {np.mean([v.burst for v in burst]):.0%}")  # fmt: skip


if __name__ == "__main__":
    main()
