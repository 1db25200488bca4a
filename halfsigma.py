"""What every room of halfsigma shares: its version, its silence towards the outside, and its errors.

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

import os
import sys

__version__ = "0.1.0"

_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",  # Evidently, and others by convention
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # By default MLflow tries a server that is away for minutes; here the line goes on without it, and asks again later.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # halfsigma shows its own
    # How long torch's threads wait for each other in a loop before they sleep; the usual 300,000 turns cost a training
    # tenfold beside any other process (docs/decisions/runtime.md).
    "GOMP_SPINCOUNT": "10000",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # of a run at a server; stdout is for one JSON document
}


def _set_environment() -> None:
    """Nothing leaves the machine, and no library waits or prints where it should not: every room imports this module
    before the libraries that read these variables.

    OpenVINO has no environment variable for it; it falls back to its own stub when its telemetry package is absent,
    and ``None`` in ``sys.modules`` is how Python says absent.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


_set_environment()


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


class AnotherVersion(RegistryError):
    """MLflow gives a number that another version of the line has had: its store counts from one again."""


class DatabaseError(RegistryError):
    """The database cannot be opened, written or migrated."""


class StoreError(RegistryError):
    """The MLflow store cannot be reached, or refuses."""


class UsageError(HalfsigmaError):
    """A night, a name, an option or a file that is not of the form asked for."""
