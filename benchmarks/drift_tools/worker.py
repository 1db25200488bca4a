"""Runs one tool over all logs, in the tool's own environment.

python worker.py LIBRARY judge LOGS OUT   verdicts of every log, one .npz for all
python worker.py LIBRARY time LOG OUT     seconds for one night of many lines, as JSON
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from method import Clock, Scores, Tool

LONGEST_S = 300.0
PROBED_LINES = 10


def judge(tool: Tool, logs: Path, out: Path) -> None:
    """Writes `<log>/<method>/alarm` and `…/statistic`, shape (lines, judged nights)."""
    answers = {}
    start = time.perf_counter()
    for path in sorted(logs.glob("*.npz")):
        with np.load(path) as log:
            references, nights = log["reference"].astype(np.float64), log["nights"].astype(np.float64)
            first = int(log["first_judged"])
        lines = [tool.judge(r, x, first_judged=first) for r, x in zip(references, nights, strict=True)]
        for method in lines[0]:
            answers[f"{path.stem}/{method}/alarm"] = np.stack([line[method].alarm for line in lines])
            answers[f"{path.stem}/{method}/statistic"] = np.stack([line[method].statistic for line in lines])
    np.savez(out, **answers)
    out.with_suffix(".json").write_text(json.dumps({"version": tool.version, "judge_s": time.perf_counter() - start}))


def measure(clock: Clock, references: Scores, nights: Scores) -> dict[str, float]:
    """Seconds for all lines; from fewer lines where all would take longer than LONGEST_S."""
    clock(references[:1], nights[:1])  # what is loaded or compiled at the first call
    start = time.perf_counter()
    clock(references[:PROBED_LINES], nights[:PROBED_LINES])
    a_line = (time.perf_counter() - start) / PROBED_LINES
    n_lines = len(references)
    timed = n_lines if a_line * n_lines <= LONGEST_S else max(round(LONGEST_S / 10.0 / a_line), PROBED_LINES)
    start = time.perf_counter()
    clock(references[:timed], nights[:timed])
    seconds = time.perf_counter() - start
    return {"seconds": seconds * n_lines / timed, "timed_lines": timed, "lines": n_lines}


def main() -> None:
    library, do, logs, out = sys.argv[1:]
    warnings.simplefilter("ignore")
    tool: Tool = importlib.import_module(f"with_{library}").TOOL()
    if do == "judge":
        judge(tool, Path(logs), Path(out))
        return
    with np.load(logs) as log:
        references, nights = log["reference"].astype(np.float64), log["nights"][:, 0].astype(np.float64)
    Path(out).write_text(
        json.dumps({name: measure(clock, references, nights) for name, clock in tool.clocks().items()})
    )


if __name__ == "__main__":
    main()
