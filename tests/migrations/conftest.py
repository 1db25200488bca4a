"""The same databases as tests/registry has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_path = Path(__file__).parents[1] / "registry" / "conftest.py"
_spec = importlib.util.spec_from_file_location("halfsigma_test_databases", _path)
assert _spec is not None and _spec.loader is not None
_databases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_databases)

backend = _databases.backend
empty_url = _databases.empty_url
postgres_execute = _databases.postgres_execute
postgres_server = _databases.postgres_server
