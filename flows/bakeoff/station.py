"""What a station pays for one version: run as a process of its own, which loads the version and judges photographs.

    python -P -m flows.bakeoff.station VERSION_FOLDER IMAGE…

Prints one JSON document: ``latency_ms``, ``latency_p95_ms`` and ``memory_mb``, the process's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flows.peak_memory import peak_memory_mb
from halfsigma import DetectorError

ROUNDS = 3
"""Each photograph is judged so often; the first round compiles, for every canvas size."""
LONGEST_S = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one version."""

    latency_ms: float
    latency_p95_ms: float
    memory_mb: float


def measure_station(version_folder: Path, images: Sequence[Path]) -> Cost:
    """Start the process and wait for its answer.

    Raises:
        DetectorError: the version cannot be loaded or cannot score in a fresh process.
    """
    root = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH")
    environment = {**os.environ, "PYTHONPATH": root if not known else root + os.pathsep + known}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "flows.bakeoff.station", str(version_folder), *map(str, images)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DetectorError(f"a station needs more than {LONGEST_S:.0f} s for {len(images)} images") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DetectorError(f"the version does not score in a fresh process: {last}")
    return Cost(**json.loads(done.stdout))


def main(arguments: Sequence[str]) -> None:
    from detectors.artifact import load_version
    from detectors.photographs.images import read_photograph

    version = load_version(Path(arguments[0]))
    times = []
    for turn in range(ROUNDS):
        for path in arguments[1:]:
            pixels = read_photograph(Path(path)).pixels  # a station holds one at a time
            started = time.perf_counter()
            version.score(pixels)
            if turn:
                times.append((time.perf_counter() - started) * 1e3)
    cost = Cost(float(np.median(times)), float(np.quantile(times, 0.95)), peak_memory_mb())
    sys.stdout.write(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main(sys.argv[1:])
