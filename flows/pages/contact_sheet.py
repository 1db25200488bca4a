"""What the contact sheet of a curation shows, as plain data: filled by `flows.contact_sheet`, read by its template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from flows.pages.story import Command, Fact, Pixels


@dataclass(frozen=True, slots=True)
class SheetImage:
    """One photograph, small, and what is said of it."""

    sha256: str
    name: str
    picture: Pixels
    """With what is unusual glowing on it."""
    score: float | None
    """By the judge; None where the file could not be read."""
    label: str = ""
    """``good`` or ``defect`` where a person said so."""
    reason: str = ""
    """Why it was left out; empty for a chosen one."""
    plain: Pixels | None = None
    """The photograph without its map, where both are shown."""


@dataclass(frozen=True, slots=True)
class SheetGroup:
    """Images that were left out for one reason, the most suspicious first."""

    reason: str
    images: tuple[SheetImage, ...]
    n: int
    """All of them; not more than a screenful are shown."""


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """The page of `halfsigma curate LINE`."""

    line: str
    night: date
    lead: str
    facts: tuple[Fact, ...]
    to_look_at: tuple[SheetImage, ...]
    left_out: tuple[SheetGroup, ...]
    chosen: tuple[SheetImage, ...]
    limit: float | None
    """Scores above it are suspect; None where no image was asked to go."""
    transferred: tuple[tuple[Pixels, Pixels], ...]
    """Verified goods as they were taken, and under tonight's conditions."""
    transferred_text: str
    commands: tuple[Command, ...]
    written_at: datetime
    """Timezone-aware."""
    warning: str = ""
    provenance: tuple[Fact, ...] = ()
