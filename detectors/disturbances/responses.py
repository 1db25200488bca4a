"""What a known disturbance does to the line's good images, as a version carries it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectors.disturbances.disturbance import Disturbance


@dataclass(frozen=True, slots=True)
class Response:
    """What one disturbance does to some of the line's good images."""

    disturbance: Disturbance
    usual: Mapping[str, tuple[float, ...]]
    """Each covariate of the images as they are."""
    disturbed: Mapping[str, tuple[float, ...]]
    """… and of their disturbed copies, in the same order."""
    score_changes: tuple[float, ...]
    """By how much each image's score rises, in score units."""

    def to_json(self) -> dict[str, Any]:
        """As `drift.responses.Response` is written; `from_json` turns it back."""
        return {
            "kind": self.disturbance.name,
            "strength": self.disturbance.strength,
            "direction_deg": self.disturbance.direction_deg,
            "usual": dict(self.usual),
            "disturbed": dict(self.disturbed),
            "score_changes": self.score_changes,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Response:
        """The response that `to_json` wrote."""
        return cls(
            Disturbance(document["kind"], document["strength"], direction_deg=document["direction_deg"]),
            usual={name: tuple(values) for name, values in document["usual"].items()},
            disturbed={name: tuple(values) for name, values in document["disturbed"].items()},
            score_changes=tuple(document["score_changes"]),
        )
