"""`promoter.py` as a process that is asked and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from flows.settings import Settings

ROOT = Path(__file__).parents[2]


class PromoterProcess:
    """A process of its own that says ``ready``, and then does what it is asked."""

    def __init__(self, settings: Settings, line: str, name: str) -> None:
        addresses = {
            "HALFSIGMA_HOME": str(settings.home),
            "HALFSIGMA_DATABASE_URL": settings.database_url,
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("promoter.py")), line, name],
            env={**os.environ, **addresses, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **job: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def said(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def exit_status(self) -> int:
        return self._process.wait(60)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
