"""What a process needs is its own, whatever the one needed that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BALLAST_MB = 1000
BECOMES_ANOTHER = """
import os, sys
ballast = b"x" * (int(sys.argv[2]) * 10**6)
asks = "import importlib, sys; print(importlib.import_module(sys.argv[1]).peak_memory_mb())"
os.execv(sys.executable, [sys.executable, "-c", asks, sys.argv[1]])
"""


@pytest.mark.parametrize("module", ["flows.evaluate", "flows.bakeoff.station"])
def test_the_peak_is_not_that_of_the_process_before(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BECOMES_ANOTHER, module, str(BALLAST_MB)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert 1.0 < float(done.stdout) < BALLAST_MB / 2
