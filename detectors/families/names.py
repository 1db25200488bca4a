"""The detector families by name: a new one is one file and one line here."""

from __future__ import annotations

from detectors.families.draem import Draem
from detectors.families.draem_paper import DraemPaper
from detectors.families.efficientad import EfficientAd
from detectors.families.efficientad_paper import EfficientAdMedium, EfficientAdSmall
from detectors.families.fastflow import FastFlow
from detectors.families.padim import Padim
from detectors.families.patchcore import PatchCore
from detectors.families.rd4ad import Rd4ad
from detectors.protocol import Detector
from halfsigma import ArtifactError, UsageError

FAMILIES: dict[str, type[Detector]] = {
    each.family: each for each in (PatchCore, Padim, EfficientAd, Rd4ad, FastFlow, Draem)
}
PAPER_NETWORKS: dict[str, type[Detector]] = {
    each.family: each for each in (EfficientAdSmall, EfficientAdMedium, DraemPaper)
}
"""Known by name, but no choice for a CPU: a bakeoff leaves them out."""


def family_named(name: str) -> type[Detector]:
    """The family of that name.

    Raises:
        UsageError: there is none.
    """
    known = FAMILIES | PAPER_NETWORKS
    if name not in known:
        raise UsageError(f"no detector family {name!r}", hint=f"one of: {', '.join(sorted(known))}")
    return known[name]


def saved_family(name: str) -> type[Detector]:
    """The family that a saved version names.

    Raises:
        ArtifactError: this halfsigma does not know it.
    """
    known = FAMILIES | PAPER_NETWORKS
    if name not in known:
        raise ArtifactError(f"the version is of family {name!r}", hint="install the halfsigma that wrote it")
    return known[name]
