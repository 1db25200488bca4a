"""Which code ran, and on what: what an auditor needs to make a version again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import halfsigma

ROOMS = ("detectors", "drift", "flows", "migrations", "registry")
LOCK_FILE = "requirements.lock"


@dataclass(frozen=True, slots=True)
class Code:
    """The code that is running, by hashes (SHA-256)."""

    halfsigma: str
    """Its version's number."""
    source_sha256: str
    """Of every Python file of halfsigma, with its name."""
    lock_sha256: str | None
    """Of the lock file; None where halfsigma was installed without one, from a wheel."""
    packages_sha256: str
    """Of every installed package's name and version: what the lock file asked for, as it was found."""

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)


@cache
def running_code() -> Code:
    """The code of this process; it is hashed once."""
    root = Path(halfsigma.__file__).parent
    files = [root / "halfsigma.py", *(path for room in ROOMS for path in sorted((root / room).rglob("*.py")))]
    lock = root / LOCK_FILE
    packages = sorted(
        {
            f"{name.lower()}=={each.version}"
            for each in distributions()
            if (name := each.metadata["Name"])  # an installation that was interrupted leaves a folder without one
        }
    )
    return Code(
        halfsigma=halfsigma.__version__,
        source_sha256=digest_of(f"{path.relative_to(root).as_posix()} {_sha256(path)}" for path in files),
        lock_sha256=_sha256(lock) if lock.is_file() else None,
        packages_sha256=digest_of(packages),
    )


def digest_of(texts: Iterable[str]) -> str:
    """One SHA-256 for several texts, in their order, each ended by a line feed.

    >>> digest_of(["a"]) == hashlib.sha256(b"a" + bytes([10])).hexdigest()
    True
    """
    return hashlib.sha256("".join(f"{text}\n" for text in texts).encode()).hexdigest()


def images_digest(hashes: Iterable[str]) -> str:
    """One SHA-256 for a set of images, whatever their order: of their own, sorted, one a line."""
    return digest_of(sorted(hashes))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
