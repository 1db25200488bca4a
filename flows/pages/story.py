"""What a page shows, as plain data: filled by the flows, read by the templates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["stable", "warning", "drift", "defect_burst", "sensor_fault", "insufficient"]
Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Map = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NightRow:
    """One night in the timeline and in the terminal's table."""

    night: date
    verdict: Verdict
    n: int
    bulk_shift_sd: float | None
    """None where too few images were seen to say."""
    bulk_shift_ci: tuple[float, float] | None
    fpr: float | None
    """Share of good images that were rejected; None where nobody knows which were good."""
    n_reject: int
    version: str
    """The version that judged the night."""
    action: str
    """`none`, `alert`, `retrain`, or a phrase such as "retrained, promoted v2"."""
    explanation: str
    title: str = ""
    """What really happened, where it is known (the demo)."""


@dataclass(frozen=True, slots=True)
class ImagePanel:
    """One photograph, beside it the same with its anomaly map laid on; without a map the photograph alone."""

    caption: str
    image: Pixels
    """(H, W) or (H, W, 3) RGB, uint8 or uint16."""
    heatmap: Map | None = None
    """(h, w) of any size, on the scale of the score."""
    score: float | None = None
    threshold: float | None = None
    truth: Literal["good", "defect", ""] = ""

    @property
    def rejected(self) -> bool | None:
        return None if self.score is None or self.threshold is None else self.score > self.threshold


@dataclass(frozen=True, slots=True)
class Distribution:
    """A night's scores against the reference of the version that gave them: one version, one scale."""

    title: str
    reference: NDArray[np.float64]
    window: NDArray[np.float64]
    threshold: float | None = None
    window_defects: NDArray[np.float64] | None = None
    """Scores of those images of the window that are known defects; they are part of `window` as well."""
    reference_label: str = "reference"
    window_label: str = "this night"
    defects_label: str = "known defects"


@dataclass(frozen=True, slots=True)
class GateRow:
    """One condition that a challenger had to meet. `value` and `limit` may be figures or ready phrases."""

    name: str
    value: float | str
    limit: float | str
    passed: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class CauseRow:
    """One covariate that moved: by how many reference SD, and its share in the explanation."""

    name: str
    phrase: str
    shift_sd: float
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture with one line under it."""

    image: Pixels
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Curation:
    """What a retrain learnt from, and what it left out and why (caption of each thumbnail)."""

    n_candidates: int
    n_chosen: int
    left_out: tuple[tuple[str, int], ...] = ()
    """(reason, how many)."""
    chosen_samples: tuple[Thumbnail, ...] = ()
    left_out_samples: tuple[Thumbnail, ...] = ()


@dataclass(frozen=True, slots=True)
class Fact:
    """A figure for the head of the page or of a chapter: "false rejects" "0.9 %" "was 64 % before"."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version in the registry."""

    number: int
    aliases: tuple[str, ...]
    origin: str
    threshold: float
    reference: str
    """E.g. "220 images, 16.95 ± 0.54"."""


@dataclass(frozen=True, slots=True)
class Command:
    """A line for the reader's own terminal, and what it does."""

    does: str
    line: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """One part of the story; whatever is left empty is not shown."""

    title: str
    text: str
    """Plain text; an empty line starts a new paragraph."""
    verdict: Verdict | None = None
    facts: tuple[Fact, ...] = ()
    panels: tuple[ImagePanel, ...] = ()
    panels_title: str = ""
    distributions: tuple[Distribution, ...] = ()
    causes: tuple[CauseRow, ...] = ()
    gates: tuple[GateRow, ...] = ()
    gates_title: str = "Gates"
    curation: Curation | None = None
    versions: tuple[VersionRow, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """The demo's page."""

    title: str
    subtitle: str
    nights: tuple[NightRow, ...]
    chapters: tuple[Chapter, ...]
    facts: tuple[Fact, ...] = ()
    provenance: tuple[Fact, ...] = ()
    """Small print: seed, source of the images, versions of the software, commands to go on with."""


@dataclass(frozen=True, slots=True)
class Report:
    """The page of `halfsigma report LINE`: the last verdict first, then how the line came to it."""

    line: str
    night: date
    verdict: Verdict
    explanation: str
    written_at: datetime
    """Timezone-aware."""
    nights: tuple[NightRow, ...] = ()
    facts: tuple[Fact, ...] = ()
    causes: tuple[CauseRow, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    """E.g. the images that scored highest, the last retrain with its gates, the aliases' history."""
    provenance: tuple[Fact, ...] = ()
