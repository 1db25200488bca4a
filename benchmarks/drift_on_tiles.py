"""The check on real images: resampled nights of magnetic tiles, lasting shifts, bursts of real defects, real disturbances.

    python -m benchmarks.drift_on_tiles --images ../shared/data/magnetic_tile --cache /tmp/tiles.npz

Nights are drawn without replacement from scores of good images that the version was not fitted on (`tile_scores`), and
listed in the drawn order or in the natural order of their file names.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.tile_scores import DISTURBANCES, LAMPS, TileScores, tile_scores
from drift.measurement import measure_tonight
from drift.nights import Night, baseline, summarise
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge, judge_lines
from drift.window import Window

FIRST = date(2026, 1, 1)
YEAR = 365
QUIET_NIGHTS = 20
EXPECTED_CAUSE = {
    "gain": {"brightness", "contrast"},
    "gamma": {"brightness", "contrast"},
    "defocus": {"sharpness", "noise"},
    "motion": {"sharpness", "noise"},
    "noise": {"noise"},
    "shift": {"offset_x", "offset_y"},
    "rotation": {"rotation"},
    "gradient": {"gradient_x", "gradient_y"},
    "jpeg": {"sharpness"},
}


class TileLine:
    """A line of tiles; nights are drawn from one table, and defects from another."""

    def __init__(self, found: TileScores, rng: np.random.Generator, *, natural: bool = False) -> None:
        self.found, self.rng, self.natural = found, rng, natural
        self.reference = found.reference
        self.base = baseline(found.reference)
        self.past: list[Night | None] = []
        self.night_number = 0

    def draw(self, n: int, kind: str = "good", *, shift_sd: float = 0.0, defects: float = 0.0) -> Window:
        """The next night; `defects` is the share of real defects, lit as the night is."""
        table = self.found.tables[kind]
        chosen = self.rng.choice(len(table["score"]), n, replace=False)
        if self.natural:
            chosen = chosen[np.argsort(self.found.order[chosen])]
        rows = {name: values[chosen] for name, values in table.items()}
        n_defects = round(defects * n)
        if n_defects:
            source = self.found.tables[f"{kind} defect" if f"{kind} defect" in self.found.tables else "defect"]
            struck = self.rng.choice(n, n_defects, replace=False)
            drawn = self.rng.choice(len(source["score"]), n_defects, replace=False)
            for name, values in rows.items():
                values[struck] = source[name][drawn]
        scores = rows.pop("score") + shift_sd * self.reference.sd
        self.night_number += 1
        return Window(night=FIRST + timedelta(self.night_number), scores=scores, covariates=rows)

    def check(self, window: Window) -> Verdict:
        """As a nightly check with the nights since the last `renew` behind it."""
        self.remember(window)
        measured = measure_tonight(self.base, self.past, window, settings=DriftSettings())
        return judge(measured, q=measured.ks_p)

    def remember(self, window: Window) -> None:
        self.past = [*self.past, summarise(self.base, window)][-DriftSettings().history_nights :]

    def renew(self, quiet_nights: int, n: int) -> None:
        """Forget all, and see quiet nights."""
        self.past = []
        for _ in range(quiet_nights):
            self.remember(self.draw(n))

    def alone(self, windows: Sequence[Window]) -> Verdict:
        """As a new line that has seen these nights only."""
        return judge_lines([(self.reference, windows)])[0]


def first_nights(found: TileScores, seed: int, repeats: int, case: tuple[int, float]) -> str:
    """Nights with and without a burst of real defects: on a new line, and after five quiet nights."""
    n, share = case
    line = TileLine(found, np.random.default_rng(seed))
    first = [line.alone([line.draw(n, defects=share)]) for _ in range(repeats)]
    later = [line.alone([*(line.draw(n) for _ in range(5)), line.draw(n, defects=share)]) for _ in range(repeats)]
    shift = np.array([verdict.tonight.estimate for verdict in first])
    mean = np.array([verdict.mean_shift.estimate for verdict in first])
    return (
        f"  n={n} defects {share:4.0%}: bulk {shift.mean():+.3f} (SD {shift.std():.3f}, max {shift.max():+.2f}), "
        f"mean {mean.mean():+.2f}; first {_kinds(first)}, later {_kinds(later)}"
    )


def quiet_years(found: TileScores, seed: int, years: int, case: tuple[int, bool]) -> str:
    """Alarms in line-years of quiet nights; a warning counts when it begins after a week without one."""
    n, natural = case
    line = TileLine(found, np.random.default_rng(seed), natural=natural)
    counts: Counter[str] = Counter()
    warnings, last = 0, -10
    for night in range(YEAR * years):
        if night % YEAR == 0:
            line.renew(0, n)
        kind = line.check(line.draw(n)).kind
        counts[kind] += 1
        if kind == "warning":
            warnings, last = warnings + (night - last > 7), night
    order = "natural order" if natural else "drawn order"
    return f"  n={n}, {order}: {years} line-years, drift {counts['drift']}, warnings {warnings}; nights {dict(counts)}"


def lasting_shifts(found: TileScores, seed: int, repeats: int, case: tuple[int, bool]) -> str:
    """What a constant added to all scores becomes, after quiet nights."""
    n, natural = case
    line = TileLine(found, np.random.default_rng(seed), natural=natural)

    def kinds(shifts: Sequence[float]) -> list[str]:
        line.renew(QUIET_NIGHTS, n)
        return [line.check(line.draw(n, shift_sd=shift)).kind for shift in shifts]

    def share(runs: list[list[str]], *wanted: str) -> float:
        return float(np.mean([bool(set(run) & set(wanted)) for run in runs]))

    large = [kinds([0.65] * 3) for _ in range(repeats)]
    larger = [kinds([1.0]) for _ in range(repeats)]
    small = [kinds([0.25] * 10) for _ in range(repeats)]
    ramp = [kinds([0.05 * night for night in range(1, 10)]) for _ in range(repeats)]
    n_effective = np.mean([line.alone([line.draw(n)]).n_effective for _ in range(50)])
    order = "natural order" if natural else "drawn order"
    return (
        f"  n={n} (worth {n_effective:.0f}), {order}: 0.65 SD drift on night 1 "
        f"{share([run[:1] for run in large], 'drift'):.3f}, within 3 {share(large, 'drift'):.3f}; 1 SD on night 1 "
        f"{share(larger, 'drift'):.3f}; 0.25 SD warned within 10 {share(small, 'warning', 'drift'):.3f}, called drift "
        f"{share(small, 'drift'):.3f}; ramp warned before it crosses {share(ramp, 'warning', 'drift'):.3f}"
    )


def disturbed_nights(found: TileScores, seed: int, repeats: int, kind: str) -> str:
    line = TileLine(found, np.random.default_rng(seed))
    verdicts = [line.alone([line.draw(100, kind)]) for _ in range(repeats)]
    named = Counter(verdict.causes[0].name if verdict.causes else "none" for verdict in verdicts)
    right = sum(named[name] for name in EXPECTED_CAUSE[kind.split()[0]]) / repeats
    shift = np.mean([verdict.tonight.estimate for verdict in verdicts])
    return f"  {kind:14s} bulk {shift:+6.2f}  {_kinds(verdicts)}  {dict(named)}, right {right:.0%}"


def lamp_and_burst(found: TileScores, seed: int, repeats: int, case: tuple[str, int]) -> str:
    """Lamp drifts with and without real defects lit alike: is it drift, and is the burst named?"""
    kind, n = case
    line, cells = TileLine(found, np.random.default_rng(seed)), []
    for share in (0.0, 0.05, 0.1, 0.2):
        runs = [[line.draw(n, kind, defects=share) for _ in range(3)] for _ in range(repeats)]
        first = [line.alone(run[:1]) for run in runs]
        third = [line.alone(run) for run in runs]
        cells.append(
            f"{share:.0%}: bulk {np.mean([v.tonight.estimate for v in first]):+.2f} {_kinds(first)}, third night "
            f"{_kinds(third)}, burst named {np.mean([v.burst for v in first]):.1%}"
        )
    return f"  {kind} n={n}\n    " + "\n    ".join(cells)


def _kinds(verdicts: Sequence[Verdict]) -> dict[str, int]:
    return dict(Counter(verdict.kind for verdict in verdicts).most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = tile_scores(options.images, seed=options.seed, cache=options.cache)

    reference, good, defect = found.reference, found.tables["good"]["score"], found.tables["defect"]["score"]
    z = (good - reference.mean) / reference.sd
    print(f"reference {reference.n}: mean {reference.mean:.4g}, SD {reference.sd:.3g}; goods never seen: {len(good)}, "
          f"mean shift {z.mean():+.3f} SD, skewness {np.mean(((z - z.mean()) / z.std()) ** 3):.2f}")  # fmt: skip
    auroc = np.mean(defect[:, None] > good[None, :])
    print(f"defects {len(defect)}: mean {(defect.mean() - reference.mean) / reference.sd:+.2f} SD, AUROC {auroc:.3f}")

    few = max(options.repeats // 5, 1)
    parts = (
        ("Quiet nights", partial(quiet_years, found, options.seed, options.years),
         [(n, natural) for n in (100, 400) for natural in (False, True)]),
        ("A constant added to the scores of good tiles, after 20 quiet nights",
         partial(lasting_shifts, found, options.seed, few), [(400, False), (400, True)]),
        ("First nights (no history), and after five quiet nights", partial(first_nights, found, options.seed, options.repeats),
         [(n, share) for n in (100, 200) for share in (0.0, 0.05, 0.1, 0.2)]),
        ("Disturbed nights of 100 images: verdict, and the first cause named",
         partial(disturbed_nights, found, options.seed, few), [f"{name} {strength:g}" for name, strength in DISTURBANCES]),
        ("Lamp drifts with real defects in them: first night, third night, and the burst named",
         partial(lamp_and_burst, found, options.seed, few),
         [(f"{name} {strength:g}", n) for name, strength in LAMPS for n in (100, 200)]),
    )  # fmt: skip
    with ProcessPoolExecutor(options.workers) as pool:
        for title, work, cases in parts:
            print(f"\n{title}")
            for line in pool.map(work, cases):
                print(line, flush=True)


if __name__ == "__main__":
    main()
