"""Colours and words of the verdicts, the same on the page and in the terminal.

The colours are Okabe and Ito's ("Color Universal Design", 2008), told apart with every kind of colour vision,
and no meaning hangs on a colour alone: each verdict has a sign and a word as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flows.pages.story import Verdict


@dataclass(frozen=True, slots=True)
class Look:
    """How one verdict is shown."""

    word: str
    sign: str
    colour: str
    terminal: str


LOOKS: Mapping[Verdict, Look] = MappingProxyType(
    {
        "stable": Look("stable", "✓", "#009E73", "green"),
        "warning": Look("warning", "!", "#E69F00", "yellow"),
        "drift": Look("drift", "▲", "#D55E00", "bold red"),
        "defect_burst": Look("defect burst", "✱", "#AA4A8A", "magenta"),
        "sensor_fault": Look("sensor fault", "✕", "#5B5F66", "bold white on red"),
        "insufficient": Look("too few images", "…", "#8A8F98", "dim"),
    }
)
