"""halfsigma's check beside other drift tools, on the same score logs: false alarms, power, delay, time.

    python -m benchmarks.drift_against_others --images ../shared/data/magnetic_tile     half an hour of one processor

Each tool runs in an environment of its own below ``.bench-venvs`` (made by the first run) and is asked through
`benchmarks/drift_tools/with_*.py`. Twice: at its defaults, and with its threshold moved, for each number of images and
autocorrelation, to where it raises no alarm in any quiet night of these very logs. The second is kinder than life: the
threshold is chosen on the nights on which its false alarms are counted. halfsigma's is not moved.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_tools.logs import LogName, write_many_lines, write_simulated, write_tiles
from benchmarks.tile_scores import tile_scores

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).parent / "drift_tools" / "worker.py"
PACKAGES: dict[str, tuple[str, ...]] = {
    "halfsigma": (),
    "evidently": ("evidently==0.7.23", "pandas<3"),
    "nannyml": (
        "nannyml",
        "statsmodels",
        "pandas<2.3",
        "plotly<6",
        "scikit-learn<1.7",
    ),  # it asks for less than it uses
    "alibi_detect": ("alibi-detect[torch]",),
    "frouros": ("frouros",),
    "river": ("river", "numpy"),
}
"""What is installed for each; halfsigma runs in this environment."""
QUIET_WEEK = 7
"""Nights without an alarm after which the next one counts anew."""
WITHIN = 10

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Answers:
    """One method's answers to one log: (lines, nights)."""

    log: LogName
    alarm: Flags
    statistic: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of the tiles' scores")
    parser.add_argument("--environments", type=Path, default=ROOT / ".bench-venvs")
    parser.add_argument("--years", type=int, default=4, help="quiet line-years in each condition")
    parser.add_argument("--repeats", type=int, default=20, help="lines for each shift in each condition")
    parser.add_argument("--lines", type=int, default=1000, help="of 2,000 scores, for the clock")
    parser.add_argument(
        "--folder", type=Path, help="keeps logs and answers there; a tool that answered is not asked again"
    )
    parser.add_argument("--only", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    pythons = {name: _python(options.environments, name) for name in options.only}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        logs, clock = folder / "logs", folder / "clock.npz"
        if not clock.exists():
            logs.mkdir(parents=True, exist_ok=True)
            write_simulated(logs, years=options.years, repeats=options.repeats, seed=options.seed)
            tiles = tile_scores(options.images, seed=options.seed, cache=options.cache)
            write_tiles(logs, tiles.tables, years=options.years, repeats=5 * options.repeats, seed=options.seed)
            write_many_lines(clock, lines=options.lines, n=2000, m=300, seed=options.seed)
        found: dict[str, list[Answers]] = {}
        versions: dict[str, str] = {}
        seconds: dict[str, dict[str, float]] = {}
        for name, python in pythons.items():
            answers, times = folder / f"{name}.npz", folder / f"{name}.time.json"
            print(f"{name} …", file=sys.stderr, flush=True)
            if not times.exists():
                _work(python, name, "judge", logs, answers)
                _work(python, name, "time", clock, times)
            versions[name] = json.loads(answers.with_suffix(".json").read_text())["version"]
            for method, given in _read(answers).items():
                found[f"{name} {method}"] = given
            seconds[name] = {method: each["seconds"] for method, each in json.loads(times.read_text()).items()}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    _print_simulated(found)
    _print_tiles(found)
    _print_times(seconds, options.lines)


def _python(environments: Path, name: str) -> Path:
    if not PACKAGES[name]:
        return Path(sys.executable)
    python = environments / name / "bin" / "python"
    if not python.exists():
        print(f"installing {name}", file=sys.stderr)
        venv.create(environments / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
    return python


def _work(python: Path, name: str, do: str, logs: Path, out: Path) -> None:
    environment = {**os.environ, "DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    subprocess.run([python, WORKER, name, do, logs, out], check=True, env=environment)


def _read(answers: Path) -> dict[str, list[Answers]]:
    found = defaultdict(list)
    with np.load(answers) as stored:
        for key in stored.files:
            stem, method, what = key.split("/")
            if what == "alarm":
                given = Answers(LogName.parse(stem), stored[key], stored[f"{stem}/{method}/statistic"])
                found[method].append(given)
    return dict(found)


def _alarms(alarm: Flags) -> int:
    """Alarms that begin after a week without one, of all lines."""
    n = 0
    for line in alarm:
        last = -QUIET_WEEK - 1
        for night in np.flatnonzero(line):
            n, last = n + (night - last > QUIET_WEEK), night
    return n


def _limits(given: list[Answers], kind: str) -> dict[str, float]:
    """For each condition that a user could know, the largest statistic of its quiet nights."""
    limits: dict[str, float] = {}
    for each in given:
        if each.log.kind == kind and np.isfinite(each.statistic).any():
            key = each.log.peers if kind == "quiet" else each.log.condition
            limits[key] = max(limits.get(key, -np.inf), float(np.nanmax(each.statistic)))
    return limits


def _moved(given: list[Answers], limits: Mapping[str, float], *, tiles: bool) -> list[Answers]:
    """The same answers with the threshold at the limits; conditions without one are left out."""
    moved = []
    for each in given:
        key = each.log.condition if tiles else each.log.peers
        if key in limits:
            with np.errstate(invalid="ignore"):
                moved.append(Answers(each.log, each.statistic > limits[key], each.statistic))
    return moved


def _versions_of(name: str, given: list[Answers], *, tiles: bool) -> Iterator[tuple[str, list[Answers]]]:
    yield name, given
    if not name.startswith("halfsigma"):
        quiet = "tiles-quiet" if tiles else "quiet"
        limits = _limits(given, quiet)
        if limits:
            yield f"… threshold moved: {name}", _moved(given, limits, tiles=tiles)


def _scenario(given: list[Answers], kind: str, scenario: str) -> Flags:
    rows = [each.alarm for each in given if each.log.kind == kind and each.log.scenario == scenario]
    return np.concatenate(rows) if rows else np.zeros((0, WITHIN), dtype=bool)


def _share(alarm: Flags, nights: int) -> str:
    return f"{alarm[:, :nights].any(axis=1).mean():.3f}" if len(alarm) else "–"


def _delay(alarm: Flags) -> str:
    """Median night of the first alarm."""
    if not len(alarm):
        return "–"
    first = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1.0, np.inf)
    return f"{np.median(first):g}"


def _rate(given: list[Answers], kind: str) -> str:
    quiet = [each for each in given if each.log.kind == kind]
    asked = sum(int(np.isfinite(each.statistic).sum()) or each.alarm.size for each in quiet)
    alarms = sum(_alarms(each.alarm) for each in quiet)
    return f"{alarms / (asked / 365.0):.2f}" if asked else "–"


def _print_simulated(found: Mapping[str, list[Answers]]) -> None:
    columns = ("false alarms a line-year", "0.25 SD within 10", "0.5 SD within 10", "0.65 SD night 1", "0.65 SD within 3",
               "1 SD night 1", "ramp within 9", "median night 0.25 / 0.65")  # fmt: skip
    _header("Simulated lines", columns)
    for name, given in found.items():
        for title, rows in _versions_of(name, given, tiles=False):
            shift = {key: _scenario(rows, "shift", key) for key in ("0.25 SD", "0.5 SD", "0.65 SD", "1 SD", "ramp")}
            _row(title, _rate(rows, "quiet"), _share(shift["0.25 SD"], WITHIN), _share(shift["0.5 SD"], WITHIN),
                 _share(shift["0.65 SD"], 1), _share(shift["0.65 SD"], 3), _share(shift["1 SD"], 1), _share(shift["ramp"], 9),
                 f"{_delay(shift['0.25 SD'])} / {_delay(shift['0.65 SD'])}")  # fmt: skip


def _print_tiles(found: Mapping[str, list[Answers]]) -> None:
    names = [each.log for each in next(iter(found.values())) if each.log.kind in ("tiles-burst", "tiles-drift")]
    names.sort(key=lambda log: (log.kind, log.scenario))
    _header(
        "Real tiles, nights of 100: alarms on the first night",
        ("false alarms a line-year", *(log.scenario for log in names)),
    )
    for name, given in found.items():
        for title, rows in _versions_of(name, given, tiles=True):
            cells = (_share(_scenario(rows, log.kind, log.scenario), 1) for log in names)
            _row(title, _rate(rows, "tiles-quiet"), *cells)


def _print_times(seconds: Mapping[str, Mapping[str, float]], lines: int) -> None:
    ours = next(iter(seconds.get("halfsigma", {"": float("nan")}).values()))
    _header(f"{lines} lines of 2,000 scores, one night, references of 300, one thread", ("seconds", "over halfsigma's"))
    for name, methods in seconds.items():
        for method, each in methods.items():
            _row(f"{name} {method}", f"{each:.1f}", f"{each / ours:.1f}")


def _header(title: str, columns: tuple[str, ...]) -> None:
    print(f"\n### {title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")


def _row(title: str, *cells: str) -> None:
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
