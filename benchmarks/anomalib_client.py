"""anomalib in an environment of its own, and a process in it that answers commands.

anomalib pins other versions than halfsigma's lock may, so it never enters the project's environment. torch,
torchvision, timm and OpenVINO are installed there in exactly the versions of this one: the comparison is of
the code around them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path
from typing import Any

ANOMALIB = "2.7.0"
WORKER = Path(__file__).with_name("anomalib_worker.py")
SHARED = ("torch", "torchvision", "timm", "openvino", "numpy")


def prepare(environment: Path) -> Path:
    """Create `environment` with anomalib in it, unless it is there, and return its Python."""
    python = environment / "bin" / "python"
    wanted = [f"anomalib[openvino]=={ANOMALIB}", "safetensors"]
    # A local label (2.14.1+cpu) names a build that a package index may not have.
    wanted += [f"{name}=={version(name).split('+')[0]}" for name in SHARED]
    done = environment / "installed.txt"
    if python.exists() and done.exists() and done.read_text() == "\n".join(wanted):
        return python
    print(f"installing anomalib {ANOMALIB} into {environment} (some minutes)", file=sys.stderr)
    venv.create(environment, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, stderr=subprocess.DEVNULL)
    done.write_text("\n".join(wanted))
    return python


class AnomalibWorker:
    """Runs `anomalib_worker.py`, or another such script; it does nothing while it is not asked."""

    def __init__(self, python: Path, *, log: Path, script: Path = WORKER) -> None:
        self._log = log
        self._log_file = log.open("w")
        quiet = {"ANOMALIB_TELEMETRY": "0", "DO_NOT_TRACK": "1", "TQDM_DISABLE": "1"}
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            text=True,
            env={**os.environ, **quiet},
        )

    def ask(self, do: str, **options: object) -> dict[str, Any]:
        """Send one command and wait for its answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            tail = "\n".join(self._log.read_text().splitlines()[-15:])
            raise SystemExit(f"anomalib's process ended while asked to {do}:\n{tail}")
        result: dict[str, Any] = json.loads(answer)
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._log_file.close()
