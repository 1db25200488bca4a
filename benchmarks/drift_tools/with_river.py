"""river: ADWIN and Page-Hinkley over the images, warmed up on the reference."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from method import Clock, Judged, Scores, standardised
from river import drift
from river.base import DriftDetector

DEFAULT = 1
SENSITIVITIES = {
    # evidence: detector; the second is river's default
    "ADWIN": {e: (lambda e=e: drift.ADWIN(delta=10.0**-e)) for e in (1.5, 2.69897, 5, 8, 12, 18, 26, 40, 60, 90)},
    "PageHinkley": {
        t: (lambda t=t: drift.PageHinkley(threshold=t))
        for t in (25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)
    },
}
"""A detection changes what ADWIN remembers, so every limit is a run of its own; the ladder's rungs are the limits."""


class River:
    version = version("river")

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        usual = standardised(reference, reference)
        stream = standardised(reference, nights)
        found = {}
        for method, ladder in SENSITIVITIES.items():
            runs = {limit: _alarms(make, usual, stream)[first_judged:] for limit, make in ladder.items()}
            statistic = np.max([np.where(alarm, limit, 0.0) for limit, alarm in runs.items()], axis=0)
            found[method] = Judged(list(runs.values())[DEFAULT], statistic)
        return found

    def clocks(self) -> dict[str, Clock]:
        def clock(make: Callable[[], DriftDetector]) -> Clock:
            def check(references: Scores, nights: Scores) -> None:
                for reference, scores in zip(references, nights, strict=True):
                    _alarms(make, standardised(reference, reference), standardised(reference, scores[None]))

            return check

        return {"ADWIN": clock(drift.ADWIN), "PageHinkley": clock(drift.PageHinkley)}


def _alarms(make: Callable[[], DriftDetector], usual: Scores, nights: Scores) -> np.ndarray:
    """Nights with at least one detection; river's detectors start anew by themselves."""
    detector = make()
    for value in usual.tolist():
        detector.update(value)
    alarms = []
    for scores in nights.tolist():
        alarm = False
        for value in scores:
            detector.update(value)
            alarm |= detector.drift_detected
        alarms.append(alarm)
    return np.array(alarms)


TOOL = River
