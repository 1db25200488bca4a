"""Evidently: the drift methods that DataDriftPreset chooses, called as its reports call them.

A report takes 80 ms and most of that is not the test; the verdicts come from the same functions without the report
around them, and the first lines are checked to be the report's own. The clock runs the reports.
"""

from __future__ import annotations

import warnings

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.metrics import ValueDrift
from evidently.presets import DataDriftPreset
from method import Clock, Judged, Scores, evidence, judged

METHODS = {"default (KS below 1,001 reference rows)": None, "Wasserstein": "wasserstein"}
CHECKED = 20
"""Comparisons whose drift score is checked against a report's."""


class Evidently:
    def __init__(self) -> None:
        from evidently import __version__

        self.version = __version__
        self._to_check = CHECKED

    def judge(self, reference: Scores, nights: Scores, *, first_judged: int) -> dict[str, Judged]:
        usual = pd.Series(reference)
        found = {}
        for name, method in METHODS.items():
            answers = []
            for scores in nights[first_judged:]:
                tonight = pd.Series(scores)
                test = get_stattest(usual, tonight, ColumnType.Numerical, method)
                result = test(usual, tonight, ColumnType.Numerical, None)
                statistic = result.drift_score if method else evidence(result.drift_score)
                answers.append((result.drifted, statistic))
                self._check(reference, scores, method, float(result.drift_score))
            found[name] = judged(answers)
        return found

    def _check(self, reference: Scores, scores: Scores, method: str | None, drift_score: float) -> None:
        if self._to_check:
            self._to_check -= 1
            report = _run(Report([ValueDrift(column="score", method=method)]), scores[:, None], reference[:, None])
            assert abs(float(report.dict()["metrics"][0]["value"]) - drift_score) < 1e-12

    def clocks(self) -> dict[str, Clock]:
        def one_report_a_line(references: Scores, nights: Scores) -> None:
            for reference, scores in zip(references, nights, strict=True):
                _run(Report([DataDriftPreset()]), scores[:, None], reference[:, None])

        def lines_as_columns(references: Scores, nights: Scores) -> None:
            _run(Report([DataDriftPreset()]), nights.T, references.T)

        return {"DataDriftPreset, a report a line": one_report_a_line, "one report, lines as columns": lines_as_columns}


def _run(report: Report, tonight: Scores, usual: Scores) -> object:
    names = ["score"] if tonight.shape[1] == 1 else [f"line {i}" for i in range(tonight.shape[1])]
    definition = DataDefinition(numerical_columns=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return report.run(
            Dataset.from_pandas(pd.DataFrame(tonight, columns=names), data_definition=definition),
            Dataset.from_pandas(pd.DataFrame(usual, columns=names), data_definition=definition),
        )


TOOL = Evidently
