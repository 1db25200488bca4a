"""Who may know whom, held by reading every import; and nothing of the house unpickles, evaluates or reports home."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "drift": {"drift", "halfsigma"},
    "detectors": {"detectors", "halfsigma"},
    "registry": {"registry", "detectors", "drift", "halfsigma", "migrations"},
    "flows": {"flows", "registry", "detectors", "drift", "halfsigma", "migrations"},
    "migrations": {"migrations", "registry", "halfsigma"},
}
OURS = set().union(*ROOMS.values())
FORBIDDEN = {
    "drift": {
        "torch",
        "timm",
        "faiss",
        "openvino",
        "cv2",
        "PIL",
        "sqlalchemy",
        "alembic",
        "mlflow",
        "prefect",
        "fastapi",
    },
    "detectors": {"sqlalchemy", "alembic", "mlflow", "prefect", "fastapi", "httpx", "requests"},
    "registry": {"prefect", "typer", "fastapi"},
    "flows": set(),
    "migrations": {"torch", "mlflow", "prefect"},
}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def _files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is named, wherever in the file, with ``from a import b`` as ``a``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module or ""


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


EVERY_FILE = [ROOT / "halfsigma.py"] + [path for room in ROOMS for path in _files(room)]


@pytest.mark.parametrize("room", ROOMS)
def test_the_arrows_between_the_rooms_point_one_way(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} → {module}"
        for path in _files(room)
        for module in _imports(_parsed(path))
        if module.split(".")[0] in OURS - ROOMS[room]
    }
    assert _files(room)
    assert not wrong


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_does_not_know_the_libraries_of_another(room: str) -> None:
    wrong = {
        f"{path.relative_to(ROOT)} → {module}"
        for path in _files(room)
        for module in _imports(_parsed(path))
        if module.split(".")[0] in FORBIDDEN[room]
    }
    assert not wrong


def test_the_top_module_knows_nothing_but_the_standard_library() -> None:
    used = {module.split(".")[0] for module in _imports(_parsed(ROOT / "halfsigma.py"))}
    assert used <= set(sys.stdlib_module_names)


def test_nothing_unpickles() -> None:
    wrong = {
        f"{path.relative_to(ROOT)} → {module}"
        for path in EVERY_FILE
        for module in _imports(_parsed(path))
        if module.split(".")[0] in UNSAFE_MODULES
    }
    assert not wrong


def test_nothing_is_evaluated_from_text() -> None:
    wrong = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in EVERY_FILE
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS
    }
    assert not wrong


def test_torch_loads_one_file_only_whose_hash_was_checked_and_weights_only() -> None:
    loads = [
        (path.relative_to(ROOT).as_posix(), {k.arg: ast.unparse(k.value) for k in node.keywords})
        for path in EVERY_FILE
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert loads == [("detectors/backbones/backbone.py", {"map_location": "'cpu'", "weights_only": "True"})]


def test_every_numpy_file_is_read_without_pickle() -> None:
    allowed = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in EVERY_FILE
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
    ]
    assert not allowed


SILENT = """
import os, sys
import detectors.backbones.building, registry.store
import openvino
assert sys.modules.get("openvino_telemetry") is None, sys.modules["openvino_telemetry"]
from detectors.backbones.backbone import BackboneSpec
for name in ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "PREFECT_SERVER_ANALYTICS_ENABLED"):
    print(name, os.environ[name])
import mlflow.telemetry.utils
print("mlflow", mlflow.telemetry.utils.is_telemetry_disabled())
"""


def test_no_library_reports_home() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        *("DO_NOT_TRACK", "1", "MLFLOW_DISABLE_TELEMETRY", "true", "HF_HUB_DISABLE_TELEMETRY", "1"),
        *("PREFECT_SERVER_ANALYTICS_ENABLED", "false", "mlflow", "True"),
    ]
