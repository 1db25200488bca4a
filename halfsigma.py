"""What every room of halfsigma shares: its version and its errors.

The error tree::

    HalfsigmaError
    ├── ImageError            an image cannot be read or used
    ├── DetectorError         a detector cannot be fitted, or cannot score
    │   ├── TooFewImages      fewer images than the work needs
    │   └── ArtifactError     a saved version is missing, truncated or tampered with
    ├── DriftError            statistics asked of scores that cannot carry them
    │   └── ScoreError        a score is NaN, infinite or of the wrong shape
    ├── RegistryError
    │   ├── UnknownLine       no such line
    │   ├── UnknownVersion    no such version of the line, or no champion yet
    │   ├── UnknownImage      an image that the line never saw
    │   ├── IllegalTransition a retrain cannot go from its state to that one
    │   ├── DatabaseError     the database cannot be opened, written or migrated
    │   └── StoreError        the MLflow store cannot be reached, or refuses
    └── UsageError            a night, a name, an option or a file that is not of the form asked for
"""

from __future__ import annotations

__version__ = "0.1.0"


class HalfsigmaError(Exception):
    """The root: a sentence that says what was found and what was expected, and a hint at what to do.

    >>> error = UsageError("night '2026-13-01' is not a date", hint="write it as YYYY-MM-DD")
    >>> error.message, error.hint
    ("night '2026-13-01' is not a date", 'write it as YYYY-MM-DD')
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ImageError(HalfsigmaError):
    """An image cannot be read or used."""


class DetectorError(HalfsigmaError):
    """A detector cannot be fitted, or cannot score."""


class TooFewImages(DetectorError):
    """Fewer images than the work needs."""


class ArtifactError(DetectorError):
    """A saved version is missing, truncated or tampered with."""


class DriftError(HalfsigmaError):
    """Statistics asked of scores that cannot carry them."""


class ScoreError(DriftError):
    """A score is NaN, infinite or of the wrong shape."""


class RegistryError(HalfsigmaError):
    """Something is wrong with what is recorded or deployed."""


class UnknownLine(RegistryError):
    """No such line."""


class UnknownVersion(RegistryError):
    """No such version of the line, or no champion yet."""


class UnknownImage(RegistryError):
    """An image that the line never saw."""


class IllegalTransition(RegistryError):
    """A retrain cannot go from its state to that one."""


class DatabaseError(RegistryError):
    """The database cannot be opened, written or migrated."""


class StoreError(RegistryError):
    """The MLflow store cannot be reached, or refuses."""


class UsageError(HalfsigmaError):
    """A night, a name, an option or a file that is not of the form asked for."""
