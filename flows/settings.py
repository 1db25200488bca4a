"""Where everything of one installation lives, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from halfsigma import UsageError

DEFAULT_HOME = ".halfsigma"


@dataclass(frozen=True, slots=True)
class Settings:
    """The addresses of one installation.

    Attributes:
        home: ``HALFSIGMA_HOME``, by default ``./.halfsigma``: database, models, kept images, working files.
        database_url: ``HALFSIGMA_DATABASE_URL``, by default SQLite in ``home``.
        tracking_uri: ``MLFLOW_TRACKING_URI``, by default SQLite in ``home``.
        webhook_url: ``HALFSIGMA_WEBHOOK_URL``: where alerts go; without it they wait in the outbox.
        webhook_secret: ``HALFSIGMA_WEBHOOK_SECRET``: ``whsec_…``, by which the receiver knows them.
    """

    home: Path
    database_url: str
    tracking_uri: str
    webhook_url: str | None = None
    webhook_secret: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the variables; what is missing gets its default in ``home``.

        Raises:
            UsageError: a home whose name no address can hold, a webhook address that is none, or without a secret to sign with.
        """
        home = Path(environment.get("HALFSIGMA_HOME") or DEFAULT_HOME).expanduser().resolve()
        if any(sign in str(home) for sign in "?%"):
            raise UsageError(
                f"HALFSIGMA_HOME is {home}, and a database's address takes ? and % for something else",
                hint="name a folder without them",
            )
        url, secret = environment.get("HALFSIGMA_WEBHOOK_URL"), environment.get("HALFSIGMA_WEBHOOK_SECRET")
        if url and not secret:
            raise UsageError(
                "HALFSIGMA_WEBHOOK_URL is set, but no HALFSIGMA_WEBHOOK_SECRET to sign alerts with",
                hint="set it to whsec_ and at least 24 random bytes in base64, the same at the receiver",
            )
        if url and secret:
            from registry.webhook import check_url, read_secret  # a mistake here must not wait for the first alert

            check_url(url)
            read_secret(secret)
        return cls(
            home=home,
            database_url=environment.get("HALFSIGMA_DATABASE_URL") or f"sqlite:///{home / 'halfsigma.db'}",
            tracking_uri=environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
            webhook_url=url or None,
            webhook_secret=secret or None,
        )

    @property
    def keeps_models_at_home(self) -> bool:
        """Whether the MLflow store is the embedded one, whose files lie in ``home`` as well."""
        return self.tracking_uri == f"sqlite:///{self.home / 'mlflow.db'}"
