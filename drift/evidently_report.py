"""Evidently's report of a check, for people who want its view beside ours; Evidently is imported only here."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from drift.reference import Reference
from drift.window import Window
from halfsigma import DriftError

FEWEST_ROWS = 5
"""Evidently's tests fail on fewer."""


def write_evidently_report(reference: Reference, window: Window, path: Path | str) -> Path:
    """Writes one self-contained HTML file that compares score and covariates of a night with the reference.

    Its verdicts are Evidently's (a test a column, no effective sample size, no correction over nights), not ours.
    Raises DriftError for a night of fewer than FEWEST_ROWS images, or where Evidently is not installed.
    """
    if window.n < FEWEST_ROWS:
        raise DriftError(
            f"night {window.night} has {window.n} images, expected at least {FEWEST_ROWS} for Evidently's report",
            hint="ingest more images of that night",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Evidently's own dependencies, at import
            import pandas as pd
            from evidently import Dataset, Report  # type: ignore[import-untyped, unused-ignore]
            from evidently.presets import DataDriftPreset  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise DriftError(
            "Evidently is not installed", hint="install halfsigma with all that it depends on: make install"
        ) from error

    names = [
        name for name in window.covariates if name in reference.covariates and np.ptp(reference.covariates[name]) > 0.0
    ]
    usual = pd.DataFrame({"score": reference.scores} | {name: reference.covariates[name] for name in names})
    tonight = pd.DataFrame({"score": window.scores} | {name: window.covariates[name] for name in names})
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # its statistics warn of constant columns
        snapshot = Report([DataDriftPreset()]).run(Dataset.from_pandas(tonight), Dataset.from_pandas(usual))
        path = Path(path)
        snapshot.save_html(str(path))
    return path
