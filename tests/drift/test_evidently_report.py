from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from drift.evidently_report import write_evidently_report
from drift.reference import Reference
from drift.window import Window
from halfsigma import DriftError


def test_the_report_is_one_page_about_score_and_covariates(rng: np.random.Generator, tmp_path: Path) -> None:
    reference = Reference(
        scores=rng.normal(size=60), covariates={"brightness": rng.normal(size=60), "width": np.ones(60)}
    )
    night = Window(
        night=date(2026, 1, 1),
        scores=rng.normal(size=40),
        covariates={"brightness": rng.normal(size=40), "width": np.ones(40)},
    )
    page = write_evidently_report(reference, night, tmp_path / "report.html").read_text()
    assert "<html" in page
    assert "brightness" in page
    assert '<script src="http' not in page


def test_a_night_of_two_images_has_no_report(rng: np.random.Generator, tmp_path: Path) -> None:
    with pytest.raises(DriftError, match="has 2 images"):
        write_evidently_report(
            Reference(scores=rng.normal(size=60)),
            Window(night=date(2026, 1, 1), scores=[1.0, 2.0]),
            tmp_path / "r.html",
        )


def test_a_check_imports_neither_evidently_nor_matplotlib_nor_pandas() -> None:
    code = "import drift.verdict, drift.planning, sys; print([m for m in ('evidently','matplotlib','pandas','torch') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
