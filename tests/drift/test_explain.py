"""Every verdict is two sentences with figures."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest

from drift.explain import REMEDIES, explain
from drift.sensor import SensorFault
from drift.verdict import judge, judge_lines, measure
from drift.window import Window


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[a-z%)])[.](?:\s+|$)", text) if part]


@pytest.mark.parametrize(
    ("shifts", "n", "kind"),
    [
        ([0.0] * 5, 400, "stable"),
        ([0.0] * 5 + [1.0], 400, "drift"),
        ([0.0] * 10 + [0.3] * 6, 400, "warning"),
        ([0.0], 15, "insufficient"),
        ([0.0], 1, "insufficient"),
    ],
)
def test_the_explanation_is_two_sentences_with_a_figure(reference, nights, shifts, n, kind) -> None:
    verdict = judge_lines([(reference, nights(shifts, n=n))])[0]
    assert verdict.kind == kind
    assert len(sentences(verdict.explanation)) == 2, verdict.explanation
    assert re.search(r"\d", verdict.explanation)


def test_a_burst_is_two_sentences(reference, nights) -> None:
    verdict = judge_lines([(reference, nights([0.0] * 3, n=1000, defects=0.15))])[0]
    assert verdict.kind == "defect_burst"
    assert len(sentences(verdict.explanation)) == 2, verdict.explanation


def test_every_sensor_fault_has_a_remedy(reference, nights) -> None:
    measured = measure(reference, nights([0.0]))
    for kind in REMEDIES:
        faulty = replace(measured, fault=SensorFault(kind=kind, share=1.0, phrase="3 of 3 images are odd"))
        assert explain(faulty, kind="sensor_fault", burst=False, q=1.0, trend_warns=False).startswith("3 of 3 images")


def test_a_large_shift_that_is_not_proved_is_not_called_small(reference, nights) -> None:
    verdict = judge(measure(reference, nights([0.0] * 10 + [0.8] * 3)), q=0.5)
    assert verdict.kind == "warning"
    assert "less than" not in verdict.explanation
    assert "q 0.5" in verdict.explanation


def test_unreadable_files_alone_are_a_sensor_fault(reference) -> None:
    verdict = judge_lines([(reference, [Window(night=date(2026, 1, 1), scores=[], n_unreadable=5)])])[0]
    assert verdict.kind == "sensor_fault"
    assert verdict.explanation.startswith("5 of 5 images cannot be read.")
