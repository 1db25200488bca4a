"""frouros: the KS test of a night, and CUSUM over the images (its ADWIN refuses the negative values of such scores)."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from frouros.detectors.concept_drift import CUSUM, CUSUMConfig
from frouros.detectors.data_drift import KSTest
from method import Clock, Judged, Scores, evidence, judged, standardised

P_VALUE = 0.05
"""frouros returns a p and no verdict; its documentation's examples compare with 0.05."""
NEVER = 1e12


class Frouros:
    version = version("frouros")

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        test = KSTest()
        test.fit(X=reference)
        ps = [float(test.compare(X=scores)[0].p_value) for scores in nights[first_judged:]]
        usual = standardised(reference, reference)
        stream = standardised(reference, nights)
        return {
            "KSTest": judged([(p < P_VALUE, evidence(p)) for p in ps]),
            "CUSUM": Judged(_alarms(usual, stream)[first_judged:], _sums(usual, stream)[first_judged:]),
        }

    def clocks(self) -> dict[str, Clock]:
        def ks(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                test = KSTest()
                test.fit(X=reference)
                test.compare(X=scores)

        def cusum(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                _alarms(standardised(reference, reference), standardised(reference, scores[None]))

        return {"KSTest": ks, "CUSUM": cusum}


def _alarms(usual: Scores, nights: Scores) -> np.ndarray:
    """Nights with at least one detection; after each the detector starts anew, as in frouros' examples."""
    detector = CUSUM()
    for value in usual.tolist():
        detector.update(value=value)
    alarms = []
    for scores in nights.tolist():
        alarm = False
        for value in scores:
            detector.update(value=value)
            if detector.drift:
                alarm = True
                detector.reset()
        alarms.append(alarm)
    return np.array(alarms)


def _sums(usual: Scores, nights: Scores) -> Scores:
    """The largest sum of each night, never reset: the first night above a limit is the first alarm at that limit."""
    detector = CUSUM(config=CUSUMConfig(lambda_=NEVER))
    for value in usual.tolist():
        detector.update(value=value)
    largest = []
    for scores in nights.tolist():
        top = 0.0
        for value in scores:
            detector.update(value=value)
            top = max(top, detector.sum_)
        largest.append(top)
    return np.array(largest)


TOOL = Frouros
