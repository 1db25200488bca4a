"""halfsigma's check: the functions that `drift.verdict.judge_lines` calls, past nights kept as their summaries."""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from method import Clock, Judged, Scores

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from drift.measurement import measure_tonight
from drift.nights import Night, baseline, summarise
from drift.reference import Reference
from drift.settings import DriftSettings
from drift.verdict import judge, judge_lines
from drift.window import Window
from halfsigma import __version__

FIRST = date(2026, 1, 1)
METHODS = {
    "drift": ("drift",),
    "drift or warning": ("drift", "warning"),
    "(defect_burst)": ("defect_burst",),
    "(insufficient)": ("insufficient",),
}
"""The last two are no drift alarms; they say what else it answered."""


class HalfSigma:
    """Its thresholds are not moved: the other tools' are moved to its false alarms."""

    version = __version__

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        settings = DriftSettings()
        base = baseline(Reference(scores=reference))
        past: list[Night | None] = []
        kinds = []
        for index, scores in enumerate(nights):
            window = Window(night=FIRST + timedelta(index), scores=scores)
            past = [*past, summarise(base, window)][-settings.history_nights :]
            if index >= first_judged:
                measured = measure_tonight(base, past, window, settings=settings)
                kinds.append(judge(measured, q=measured.ks_p).kind)
        return {
            method: Judged(np.isin(kinds, counted), np.full(len(kinds), np.nan)) for method, counted in METHODS.items()
        }

    def clocks(self) -> dict[str, Clock]:
        def check(references: Scores, nights: Scores) -> None:
            judge_lines(
                [
                    (Reference(scores=reference), [Window(night=FIRST, scores=scores)])
                    for reference, scores in zip(references, nights, strict=True)
                ]
            )

        return {"judge_lines": check}


TOOL = HalfSigma
