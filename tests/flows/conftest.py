"""One line's story, told once a session by real commands; the tests look at what each of them said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import Receiver, listening

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Said:
    """What one command did."""

    argv: tuple[str, ...]
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; an error if there is anything else."""
        return json.loads(self.out)


def environment(home: Path, **more: str) -> dict[str, str]:
    """Of a process that works in ``home`` and knows nothing of this one's."""
    passed = {k: v for k, v in os.environ.items() if not k.startswith(("HALFSIGMA_", "MLFLOW_", "PREFECT_"))}
    return {**passed, "HALFSIGMA_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


def run_jobs(home: Path, jobs: Sequence[Mapping[str, Any]], **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name("command_driver.py"))],
        input=json.dumps(list(jobs)),
        env=environment(home, **more),
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def run_commands(home: Path, commands: Sequence[Sequence[object] | Mapping[str, Any]], **more: str) -> list[Said]:
    """Each command in turn, in one process; a mapping may bring an environment of its own."""
    jobs = [each if isinstance(each, Mapping) else {"argv": [str(word) for word in each]} for each in commands]
    done = run_jobs(home, jobs, **more)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [Said(tuple(each["argv"]), each["status"], each["out"], each["err"]) for each in answers]


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    with listening() as received:
        yield received


@pytest.fixture(scope="session")
def nights(tmp_path_factory: pytest.TempPathFactory, write_night: Callable[..., Path]) -> Path:
    """Folders: goods to fit, a quiet night with broken files in it, a blurred one, defects."""
    root = tmp_path_factory.mktemp("nights")
    write_night(root / "goods", 40, seed=0)
    quiet = write_night(root / "quiet", 40, seed=1)
    (quiet / "notes.png").write_text("not an image")
    (quiet / "cut.jpg").write_bytes((quiet / "part1.png").read_bytes()[:300])
    write_night(root / "blurred", 56, seed=2, blur_px=1.5)
    write_night(root / "defects", 6, seed=3, defect=True)
    return root


@pytest.fixture(scope="session")
def commands() -> Callable[..., list[Said]]:
    return run_commands


@pytest.fixture(scope="session")
def jobs() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_jobs


@pytest.fixture(scope="session")
def fitted_home(tmp_path_factory: pytest.TempPathFactory, nights: Path) -> tuple[Path, list[Said]]:
    """A home in which line ``pad`` is fitted and has seen a quiet night and a blurred one; what was said on the way."""
    home = tmp_path_factory.mktemp("installation") / "home"
    (nights / "scores.csv").write_text(
        "captured_at,image,score\n"
        + "".join(
            f"2026-11-{20 + k // 40}T0{k % 40 // 10}:{k % 60:02d}:00,p{k}.png,{5 + k * 7 % 11 / 10}\n"
            for k in range(80)
        )
    )
    (nights / "nan.csv").write_text(
        "captured_at,image,score\n2026-11-22T01:00:00,a.png,1.5\n2026-11-22T01:01:00,b.png,nan\n"
    )
    fit = ("fit", "pad", "--good", nights / "goods", "--json")
    said = run_commands(home, [fit]) + run_commands(
        home,
        [
            fit,
            ("evaluate", "pad", "--good", nights / "quiet", "--defect", nights / "defects", "--json"),
            ("ingest", "pad", nights / "quiet", "--night", "2026-11-20", "--json"),
            ("ingest", "pad", nights / "quiet", "--night", "2026-11-20", "--json"),
            ("check", "pad", "--night", "2026-11-20", "--json"),
            ("label", "pad", nights / "quiet" / "part3.png", "--as", "good", "--json"),
            ("log", "press", "--csv", nights / "scores.csv", "--json"),
            ("log", "press", "--csv", nights / "scores.csv", "--json"),
            ("configure", "pad", "--fpr-budget", "0.02", "--json"),
            ("ingest", "pad", nights / "blurred", "--night", "2026-11-21", "--json"),
            ("status", "--json"),
            ("alerts", "--json"),
        ],
    )
    return home, said
