"""NannyML: univariate drift by night; its limits are the mean and three standard deviations of the reference's chunks.

A chunk is a calendar day. The reference counts as collected over ten days, NannyML's default number of chunks.
"""

from __future__ import annotations

import nannyml
import numpy as np
import pandas as pd
from method import Clock, Judged, Scores

METHODS = ("jensen_shannon", "kolmogorov_smirnov", "wasserstein")
DEFAULT = METHODS[:1]
REFERENCE_DAYS = 10


class NannyML:
    version = nannyml.__version__

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        result = _calculate(reference, nights[first_judged:], METHODS)
        usual = result.filter(period="reference").to_df()["score"]
        tonight = result.filter(period="analysis").to_df()["score"]
        return {
            method: Judged(
                tonight[method]["alert"].to_numpy(dtype=bool),
                # In standard deviations of the reference's chunks: an alert is the default of three.
                (tonight[method]["value"].to_numpy(dtype=float) - usual[method]["value"].mean())
                / max(usual[method]["value"].std(ddof=0), 1e-12),
            )
            for method in METHODS
        }

    def clocks(self) -> dict[str, Clock]:
        def check(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                _calculate(reference, scores[None], DEFAULT).to_df()

        return {"jensen_shannon (default)": check}


def _calculate(reference: Scores, nights: Scores, methods: tuple[str, ...]) -> nannyml.drift.univariate.result.Result:
    def frame(scores: Scores, start: str, days: int) -> pd.DataFrame:
        day = np.arange(len(scores)) * days // len(scores)
        return pd.DataFrame({"timestamp": pd.Timestamp(start) + pd.to_timedelta(day, unit="D"), "score": scores})

    calculator = nannyml.UnivariateDriftCalculator(
        column_names=["score"],
        timestamp_column_name="timestamp",
        continuous_methods=list(methods),
        chunk_period="D",
    )
    calculator.fit(frame(reference, "2025-12-01", REFERENCE_DAYS))
    return calculator.calculate(frame(nights.ravel(), "2026-01-01", len(nights)))


TOOL = NannyML
