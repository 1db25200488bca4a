"""A home of the demo's own, made afresh, that neither touches nor is touched by an installation of the user's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.settings import Settings
from halfsigma import RegistryError, UsageError

MARKER = ".made-by-halfsigma-demo"
"""A folder without it was not made by a demo, and is never cleared."""
FOREIGN_SETTINGS = (
    "HALFSIGMA_DATABASE_URL",
    "HALFSIGMA_WEBHOOK_URL",
    "HALFSIGMA_WEBHOOK_SECRET",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_PROFILE",
)
"""What would send a made-up story into real databases, real servers and real mail boxes."""


def fresh_folder(folder: Path) -> Path:
    """An empty folder with the demo's marker; what an earlier demo left there is cleared.

    Raises:
        UsageError: there is something in it that no demo made.
        RegistryError: it cannot be cleared or written.
    """
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UsageError(f"{folder} is no plain folder", hint="choose another: halfsigma demo --out DIR")
        if (folder / MARKER).is_file():
            shutil.rmtree(folder)
        elif folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"{folder} holds something that was not made by the demo, expected nothing or an earlier demo",
                hint="choose another place: halfsigma demo --out DIR",
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).write_text("Cleared by the next `halfsigma demo`.\n", encoding="utf-8")
    except OSError as error:
        raise RegistryError(
            f"{folder} cannot be made afresh: {error.strerror}",
            hint="end what still uses it, or choose another place: halfsigma demo --out DIR",
        ) from error
    return folder


@contextmanager
def demo_home(out: Path) -> Iterator[Settings]:
    """``out/home``, empty, as the home of everything that runs in the block; the environment is restored after it.

    Raises:
        UsageError, RegistryError: as `fresh_folder` does.
    """
    home = fresh_folder(out.resolve() / "home")
    before = dict(os.environ)
    for name in FOREIGN_SETTINGS:
        os.environ.pop(name, None)
    os.environ["HALFSIGMA_HOME"] = str(home)
    os.environ["PREFECT_HOME"] = str(home / "prefect")
    try:
        yield Settings.from_environment()
    finally:
        os.environ.clear()
        os.environ.update(before)
