"""An MLflow of one line, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from halfsigma import ArtifactError, StoreError, UnknownVersion
from registry.new_version import TAG_BASE, TAG_ORIGIN, NewVersion


class FakeStore:
    """It refuses what MLflow refuses, and can be away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[int, dict[str, str]] = {}
        self.pointing: dict[str, int] = {}
        self.damaged: set[int] = set()
        self.given: set[int] = set()
        self.copies: set[int] = set()
        """Versions of which this machine's cache holds a copy."""
        self.is_away = False
        self.reports: list[tuple[int, str]] = []
        self.moves: list[tuple[str, int | None]] = []

    def add(self, number: int, *, origin: str = "fit", base: int | None = None) -> None:
        self.given.add(number)
        self.versions[number] = {TAG_ORIGIN: origin} | ({} if base is None else {TAG_BASE: str(base)})

    def delete(self, number: int) -> None:
        """As in the MLflow UI: the version goes, and its aliases with it."""
        del self.versions[number]
        self.pointing = {alias: at for alias, at in self.pointing.items() if at != number}

    def aliases(self, line: str) -> dict[str, int]:
        self._reach()
        return dict(self.pointing)

    def aliases_of(self, lines: Sequence[str]) -> dict[str, dict[str, int]]:
        return {line: self.aliases(line) for line in lines}

    def log_report(self, line: str, number: int, path: Path, *, folder: str) -> None:
        self.tags(line, number)
        self.reports.append((number, f"{folder}/{path.name}"))

    def tag(self, line: str, number: int, tags: Mapping[str, str]) -> None:
        self.versions[number] |= tags

    def set_alias(self, line: str, alias: str, number: int | None) -> None:
        self._reach()
        if number is None:
            self.pointing.pop(alias, None)
        elif number not in self.versions:
            raise UnknownVersion(f"no version {number} in MLflow")
        else:
            self.pointing[alias] = number
        self.moves.append((alias, number))

    def register(self, line: str, new: NewVersion) -> int:
        """Numbers count on and are never given twice."""
        self._reach()
        number = max(self.given, default=0) + 1
        self.add(number, origin=new.origin, base=new.base_version)
        self.versions[number] |= new.tags
        return number

    def tags(self, line: str, number: int) -> Mapping[str, str]:
        self._reach()
        if number not in self.versions:
            raise UnknownVersion(f"no version {number} in MLflow")
        return self.versions[number]

    def fetch(self, line: str, number: int, *, cache: Path) -> Path:
        if number not in self.copies:
            self.tags(line, number)
        if number in self.damaged:
            raise ArtifactError(f"version {number} was altered")
        return self.folder

    def _reach(self) -> None:
        if self.is_away:
            raise StoreError("MLflow is away")
