"""The files in `flows/`, as Prefect loads them, over a Prefect server of the test's own."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

from tests.prepared import put_prefect_database

ROOT = Path(__file__).parents[2]
FLOWS = ROOT / "flows"


@contextmanager
def loaded(name: str) -> Iterator[ModuleType]:
    """Give the module of `flows/NAME.py` while its server runs; nothing of it stays imported."""
    from prefect.testing import utilities

    def folder_with_database() -> str:
        folder = tempfile.mkdtemp()
        put_prefect_database(Path(folder) / "prefect-test.db")
        return folder

    before = set(sys.modules)
    sys.path.insert(0, str(FLOWS))
    try:
        with (
            mock.patch.object(utilities, "mkdtemp", folder_with_database),
            utilities.prefect_test_harness(server_startup_timeout=120),
        ):
            spec = importlib.util.spec_from_file_location(name, FLOWS / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            yield module
    finally:
        sys.path.remove(str(FLOWS))
        for path in FLOWS.glob("*.py"):
            if path.stem not in before:
                sys.modules.pop(path.stem, None)
