"""The operating characteristic of the nightly check: what an alarm costs, and what it misses.

    python benchmarks/drift_operating_characteristic.py --line-years 1080 --repeats 2000 --workers 2
    python benchmarks/drift_operating_characteristic.py --quick

Every night goes through the functions that `drift.verdict.judge_lines` calls; only the summaries of past nights are
kept instead of being computed again, which changes no figure. Scores come from four families with mean 0 and SD 1 and
lag-1 autocorrelation through a Gaussian copula. A false drift replaces the reference, as a retrain would.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtr, stdtrit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from drift.measurement import measure_tonight
from drift.nights import Baseline, Night, baseline, summarise
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import Verdict, judge
from drift.window import Window

YEAR = 365
FIRST = date(2026, 1, 1)
GRID = np.linspace(-7.0, 7.0, 20_001)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles on GRID moved and scaled to mean 0 and SD 1 under the normal density."""
    weight = np.exp(-0.5 * GRID**2)
    weight /= weight.sum()
    mean = float(weight @ values)
    return (values - mean) / math.sqrt(float(weight @ (values - mean) ** 2))


FAMILIES: dict[str, NDArray[np.float64]] = {
    "normal": GRID,
    "skewed": _standard(gammaincinv(4.0, ndtr(GRID))),  # gamma of shape 4: skewness 1, as PatchCore scores of goods
    "heavy": _standard(np.exp(0.6 * GRID)),  # lognormal: skewness 2.3, kurtosis 13
    "student": _standard(np.clip(stdtrit(5.0, ndtr(GRID)), -50, 50)),  # symmetric, kurtosis 9
}


class Line:
    """A line whose good scores come from one family; `night` draws the next night and judges it."""

    def __init__(
        self, rng: np.random.Generator, *, family: str, rho: float, n: int, n_reference: int, settings: DriftSettings
    ) -> None:
        self.rng, self.family, self.rho, self.n, self.n_reference = rng, family, rho, n, n_reference
        self.settings = settings
        self.today = FIRST
        self.renew()

    def scores(self, n: int, rho: float) -> NDArray[np.float64]:
        noise = self.rng.standard_normal(n)
        if rho:
            from scipy.signal import lfilter

            noise[1:] *= math.sqrt(1.0 - rho**2)
            noise = lfilter([1.0], [1.0, -rho], noise)
        return np.interp(noise, GRID, FAMILIES[self.family])

    def renew(self) -> None:
        """A new reference, from images spread over days: independent. The nights before it are forgotten."""
        self.base: Baseline = baseline(Reference(scores=self.scores(self.n_reference, 0.0)))
        self.past: list[Night | None] = []

    def draw(self, shift: float) -> Window:
        """The next night, remembered but not judged."""
        window = Window(night=self.today, scores=self.scores(self.n, self.rho) + shift)
        self.past = [*self.past, summarise(self.base, window)][-self.settings.history_nights :]
        self.today += timedelta(1)
        return window

    def night(self, shift: float) -> Verdict:
        window = self.draw(shift)
        measured = measure_tonight(self.base, self.past, window, settings=self.settings)
        return judge(measured, q=measured.ks_p)


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Counts over quiet nights. A warning is a run of warning nights that begins after a week without one."""

    family: str
    rho: float
    n: int
    n_reference: int
    line_years: float
    drifts: int
    warnings: int
    warning_runs: int
    warning_nights: int
    bursts: int
    insufficient: int


def false_alarms(task: tuple[str, float, int, int, int, int]) -> FalseAlarms:
    family, rho, n, n_reference, years, seed = task
    rng = np.random.default_rng(seed)
    drifts = warnings = runs = warning_nights = bursts = insufficient = 0
    for _ in range(years):
        line = Line(rng, family=family, rho=rho, n=n, n_reference=n_reference, settings=DriftSettings())
        last = -10
        for night in range(YEAR):
            kind = line.night(0.0).kind
            if kind == "drift":
                drifts += 1
                line.renew()
            elif kind == "warning":
                warning_nights += 1
                warnings += night - last > 7
                runs += night - last > 1
                last = night
            bursts += kind == "defect_burst"
            insufficient += kind == "insufficient"
    return FalseAlarms(family, rho, n, n_reference, years, drifts, warnings, runs, warning_nights, bursts, insufficient)


@dataclass(frozen=True, slots=True)
class Power:
    """Share of lines for which the claim came true."""

    claim: str
    family: str
    rho: float
    quiet_nights: int
    repeats: int
    share: float


def power(task: tuple[str, float, int, int, int]) -> list[Power]:
    """All claims of the issue for 400 effectively independent images and a reference of 300."""
    family, rho, quiet, repeats, seed = task
    rng = np.random.default_rng(seed)
    n = round(400 * (1.0 + rho) / (1.0 - rho))
    hits: dict[str, list[bool]] = {}

    def ready() -> Line:
        line = Line(rng, family=family, rho=rho, n=n, n_reference=300, settings=DriftSettings())
        for _ in range(quiet):
            line.draw(0.0)
        return line

    def note(claim: str, hit: bool) -> None:
        hits.setdefault(claim, []).append(hit)

    for _ in range(repeats):
        line = ready()
        kinds = [line.night(0.65).kind for _ in range(3)]
        note("0.65 SD is drift on night 1 (>= 0.95)", kinds[0] == "drift")
        note("0.65 SD is drift within 3 nights (>= 0.99)", "drift" in kinds)
        line = ready()
        note("1 SD is drift on night 1 (>= 0.999)", line.night(1.0).kind == "drift")
        line = ready()
        kinds = [line.night(0.25).kind for _ in range(10)]
        note("0.25 SD is warned of within 10 nights (>= 0.90)", "warning" in kinds or "drift" in kinds)
        note("0.25 SD is called drift within 10 nights (<= 0.01)", "drift" in kinds)
        line = ready()
        kinds = [line.night(0.05 * night).kind for night in range(1, 10)]  # the tenth night is at 0.5
        note("a ten-night ramp to 0.5 is warned of before it crosses (>= 0.90)", "warning" in kinds or "drift" in kinds)
        note("a ten-night ramp to 0.5 is called drift before it crosses", "drift" in kinds)
        line = ready()
        for _ in range(5):
            line.draw(1.0)
        kinds = [line.night(0.0).kind for _ in range(10)]
        note("after five nights at 1 SD a repaired line is called drift within 10 nights", "drift" in kinds)
        note("after five nights at 1 SD a repaired line is stable on its tenth night", kinds[-1] == "stable")
        line = ready()
        for _ in range(5):
            line.draw(1.0)
        kinds = [line.night(0.2).kind for _ in range(10)]
        note("after five nights at 1 SD a line repaired to 0.2 is called drift within 10 nights", "drift" in kinds)
    return [Power(claim, family, rho, quiet, repeats, float(np.mean(values))) for claim, values in hits.items()]


def drift_curve(task: tuple[str, int, int, int, int]) -> list[tuple[float, float]]:
    """Probability of drift on the first night over the true shift: the curve on which 0.65 SD is one point."""
    family, n, n_reference, repeats, seed = task
    rng = np.random.default_rng(seed)
    curve = []
    for shift in (0.0, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0):
        hits = 0
        for _ in range(repeats):
            line = Line(rng, family=family, rho=0.0, n=n, n_reference=n_reference, settings=DriftSettings())
            hits += line.night(shift).kind == "drift"
        curve.append((shift, hits / repeats))
    return curve


def _print_false_alarms(rows: Sequence[FalseAlarms]) -> None:
    print("\nFalse alarms on quiet nights (budget: drift 0.1, warning 0.5 a line-year)")
    print(
        f"{'':28s}{'line-years':>10s}{'drift':>8s}{'warning':>9s}{'(runs)':>8s}{'(nights)':>9s}{'burst':>8s}{'insuff.':>9s}"
    )

    def line(name: str, chosen: Sequence[FalseAlarms]) -> None:
        years = sum(row.line_years for row in chosen)
        if not years:
            return
        rate = {
            key: sum(getattr(row, key) for row in chosen) / years
            for key in ("drifts", "warnings", "warning_runs", "warning_nights", "bursts", "insufficient")
        }
        print(
            f"{name:28s}{years:10.0f}{rate['drifts']:8.3f}{rate['warnings']:9.3f}{rate['warning_runs']:8.2f}"
            f"{rate['warning_nights']:9.2f}{rate['bursts']:8.3f}{rate['insufficient']:9.1f}"
        )

    line("all", rows)
    for key in ("family", "rho", "n", "n_reference"):
        for value in dict.fromkeys(getattr(row, key) for row in rows):
            line(f"  {key} = {value}", [row for row in rows if getattr(row, key) == value])
    worst = sorted(rows, key=lambda row: -(row.drifts / row.line_years))[:5]
    for row in worst:
        line(f"  {row.family} {row.rho} {row.n} {row.n_reference}", [row])
    worst = sorted(rows, key=lambda row: -(row.warnings / row.line_years))[:5]
    for row in worst:
        line(f"  {row.family} {row.rho} {row.n} {row.n_reference}", [row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--line-years", type=int, default=1080)
    parser.add_argument("--repeats", type=int, default=1000, help="lines for each power claim")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="108 line-years, 100 repeats: about a minute")
    parser.add_argument("--json", type=Path, help="write all rows there")
    options = parser.parse_args()
    line_years, repeats = (108, 100) if options.quick else (options.line_years, options.repeats)

    grid = list(product(FAMILIES, (0.0, 0.3, 0.6), (100, 400, 5000), (60, 150, 300)))
    years = max(round(line_years / len(grid)), 1)
    tasks = [(*cell, years, options.seed + index) for index, cell in enumerate(grid)]
    tasks.sort(key=lambda task: -task[2])
    powers = [
        (family, rho, quiet, repeats, options.seed + 1000 + index)
        for index, (family, rho, quiet) in enumerate(product(FAMILIES, (0.0, 0.3, 0.6), (0, 20)))
    ]
    curves = [("skewed", 400, 300, repeats, 1), ("normal", 400, 300, repeats, 2), ("skewed", 100, 60, repeats, 3)]
    start = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(false_alarms, tasks))
        _print_false_alarms(rows)
        print(f"\n{time.perf_counter() - start:.0f} s")
        claims = [row for rows_ in pool.map(power, powers) for row in rows_]
        print("\nPower: 400 effectively independent images, reference 300")
        for claim in dict.fromkeys(row.claim for row in claims):
            chosen = [row for row in claims if row.claim == claim]
            print(f"{claim:75s} mean {np.mean([r.share for r in chosen]):.4f}")
            for quiet in (0, 20):
                cells = "  ".join(f"{r.family[:7]} {r.rho}: {r.share:.3f}" for r in chosen if r.quiet_nights == quiet)
                print(f"    after {quiet:2d} quiet nights  {cells}")
        print("\nProbability of drift on the first night over the true shift (independent images)")
        for (family, n, n_reference, *_), curve in zip(curves, pool.map(drift_curve, curves), strict=True):
            print(f"  {family:8s} n={n} reference={n_reference}: " + "  ".join(f"{s:g}: {p:.3f}" for s, p in curve))
    print(f"\n{time.perf_counter() - start:.0f} s in all")
    if options.json:
        options.json.write_text(
            json.dumps({"false_alarms": [asdict(r) for r in rows], "power": [asdict(r) for r in claims]})
        )


if __name__ == "__main__":
    main()
