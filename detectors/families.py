"""The detector families by name: a new one is one file and one line here."""

from __future__ import annotations

from detectors.draem import Draem
from detectors.efficientad import EfficientAd
from detectors.fastflow import FastFlow
from detectors.padim import Padim
from detectors.patchcore import PatchCore
from detectors.protocol import Detector
from detectors.rd4ad import Rd4ad
from halfsigma import ArtifactError, UsageError

FAMILIES: dict[str, type[Detector]] = {
    each.family: each for each in (PatchCore, Padim, EfficientAd, Rd4ad, FastFlow, Draem)
}


def family_named(name: str) -> type[Detector]:
    """The family of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in FAMILIES:
        raise UsageError(f"no detector family {name!r}", hint=f"one of: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def saved_family(name: str) -> type[Detector]:
    """The family that a saved version names.

    Raises:
        ArtifactError: this halfsigma does not know it.
    """
    if name not in FAMILIES:
        raise ArtifactError(f"the version is of family {name!r}", hint="install the halfsigma that wrote it")
    return FAMILIES[name]
