"""The command line as a station runs it: each command a process, in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 900


class Station:
    """Runs commands and gives their documents; ``more`` are further variables of their environment."""

    def __init__(self, home: Path, **more: str) -> None:
        own = ("HALFSIGMA_", "MLFLOW_", "PREFECT_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        self._environment = {**inherited, "HALFSIGMA_HOME": str(home), **more}

    def __call__(self, *arguments: str | Path) -> dict[str, Any]:
        """The document of a command that succeeds."""
        document = self.answer(*arguments)
        assert "error" not in document, document
        return document

    def answer(self, *arguments: str | Path) -> dict[str, Any]:
        """The document of a command, also that of its error."""
        command = [sys.executable, "-m", "flows.cli", *map(str, arguments), "--json"]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        assert done.stdout, done.stderr[-3000:]
        document: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) is ("error" not in document), done.stderr[-3000:]
        return document
