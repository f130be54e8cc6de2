"""Fork servers, started once: one with the pipeline imported, one with torch as well."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.harness import Forge


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Disable the timeout for campaigns."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "kills" in item.name:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    server = Forge(tmp_path_factory.mktemp("forge"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def torch_forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    server = Forge(tmp_path_factory.mktemp("forge"))
    for module in ("ftrain.fit.checkpoint", "ftrain.cli", "ftrain.fit.train"):
        server.ask({"job": "import", "module": module})
    yield server
    server.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if available, because thousands of syncs on a busy disk take long."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="faults-") as folder:
        yield Path(folder)
