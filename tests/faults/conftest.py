"""Fork servers, started once: one with the pipeline imported, one with torch too."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.harness import Forge


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow ones run with `-m slow` alone, campaigns as long as they take."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if "kills" in item.name:
                item.add_marker(pytest.mark.timeout(0))
            if item.get_closest_marker("slow") and not config.option.markexpr:
                item.add_marker(pytest.mark.skip(reason="slow; run with -m slow"))


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    server = Forge(tmp_path_factory.mktemp("forge"))
    yield server
    server.close()
    _remove_orphaned_semaphores()


def _remove_orphaned_semaphores() -> None:
    """A pool that is killed with all its processes leaves named semaphores; those that no process has mapped are nobody's."""
    mapped = ""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped += "".join(line for line in maps.read_text().splitlines(keepends=True) if "/dev/shm/sem." in line)
    for semaphore in Path("/dev/shm").glob("sem.mp-*"):
        if semaphore.name not in mapped:
            semaphore.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def torch_forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    server = Forge(tmp_path_factory.mktemp("forge"))
    for module in ("ftrain.checkpoint", "ftrain.cli", "ftrain.train"):
        server.ask({"job": "import", "module": module})
    yield server
    server.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of syncs are waited for in vain on a busy disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="faults-") as folder:
        yield Path(folder)
