"""Many lines measured at once, in as many processes as there are cores where that pays."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from datetime import date

from registry.database import Database
from registry.measuring import LineToMeasure, MeasuredLine, Unmeasured, measure_lines

HELPED_FROM = 200
"""Lines. A process costs some 1.5 s to start, a line some 8 ms to measure."""
CHUNK_LINES = 25
MOST_PROCESSES = 4
"""Each takes some 150 MB; and one database's disk serves no more of them."""

Outcome = MeasuredLine | Unmeasured


def measure_all(database: Database, several: Sequence[LineToMeasure], night: date) -> list[Outcome]:
    """Measure every line; outcomes in the lines' order.

    Raises:
        DatabaseError: the database is away; nothing can be said of any line.
    """
    url = database.url.render_as_string(hide_password=False)
    helpers = min(_cores(), MOST_PROCESSES) - 1
    if len(several) < HELPED_FROM or helpers < 1:
        return measure_lines(url, several, night)
    chunks = [several[start : start + CHUNK_LINES] for start in range(0, len(several), CHUNK_LINES)]
    # Never forked: a flow's process has threads, and a fork of it may hang.
    with ProcessPoolExecutor(helpers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(measure_lines, url, chunk, night) for chunk in chunks]
        done: list[list[Outcome]] = []
        # This process works from the other end towards the helpers, and alone should they die.
        for future, chunk in zip(reversed(futures), reversed(chunks), strict=True):
            done.append(measure_lines(url, chunk, night) if future.cancel() else _result(future, url, chunk, night))
    return [outcome for outcomes in reversed(done) for outcome in outcomes]


def _result(future: Future[list[Outcome]], url: str, chunk: Sequence[LineToMeasure], night: date) -> list[Outcome]:
    try:
        return future.result()
    except BrokenExecutor:
        return measure_lines(url, chunk, night)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
