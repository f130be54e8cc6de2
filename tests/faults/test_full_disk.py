"""Real kernel faults: disks that fill up, and errors and kills injected at system calls of the real commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.harness import ROOT, Forge, leftovers
from tests.faults.jobs import snapshot
from tests.small_tables import write_small_table
from tests.trees import tree_of

from fschemas.shard_set import ShardSet

RAW = tree_of("deepfashion-fine")
SITE = Path(__file__).parent / "site"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_table(tmp_path_factory.mktemp("table"), {"train": 4, "val": 2})


class Disk:
    """A small in-memory file system."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def resize(self, options: str) -> bool:
        place = str(self.place)
        action = "remount," if self.place.is_mount() else ""
        return (
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"{action}{options}", "none", place], capture_output=True
            ).returncode
            == 0
        )


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "disk")
    disk.place.mkdir()
    if os.geteuid() != 0 or not disk.resize("size=4k"):
        pytest.skip("mount is not permitted; not run")
    yield disk
    subprocess.run(["umount", "-l", str(disk.place)], check=True)


def arguments_of(command: str, table: Path, out: Path) -> list[object]:
    if command == "shard":
        return ["shard", table, out, "--shard-samples", 2, "--workers", 1, "--quiet"]
    return ["convert", "deepfashion-fine", RAW, out, "--check-images", "none", "--max-rejected", 1, "--quiet"]


@pytest.mark.parametrize("command", ["convert", "shard"])
@pytest.mark.parametrize("unit", ["size", "nr_inodes"])
def test_full_disk(forge: Forge, table: Path, tmp_path: Path, disk: Disk, command: str, unit: str) -> None:
    """On ever larger disks: one message and exit code 4 until the output fits, each run resuming the one before."""
    assert (
        forge.cli(*arguments_of(command, table, tmp_path / "whole/out")).code == 0
    )  # same depth, because the table stores its raw root
    out, refused = disk.place / "out", 0
    step = 1 if command == "convert" else 3
    sizes = (
        [f"{size}k" for size in range(4, 400, 8 * step)]
        if unit == "size"
        else [str(count) for count in range(3, 60, 2 * step)]
    )
    for size in sizes:
        assert disk.resize(f"size={size}" if unit == "size" else f"size=1m,nr_inodes={size}")
        outcome = forge.cli(*arguments_of(command, table, out))
        if outcome.code == 0:
            break
        assert outcome.code == 4, outcome.err
        assert re.fullmatch(rf"fprep: {out}\S*: the disk is full; [^\n]*\n", outcome.err), outcome.err
        assert leftovers(disk.place) == []
        refused += 1
        if (out / "dataset.json").exists():
            ShardSet.open(out, digests=True).close()
    assert refused >= 2
    assert snapshot(out) == snapshot(tmp_path / "whole/out")


def test_full_disk_under_checkpoints(torch_forge: Forge, tmp_path: Path, disk: Disk) -> None:
    """Also in the middle of the tensors: errors name the file, and no files are left."""
    from ftrain.fit import checkpoint

    assert torch_forge.run("checkpoints", out=str(tmp_path / "whole"), steps=4).error is None
    out, refused, tensors = disk.place / "out", 0, 0
    for size in range(4, 400, 8):
        assert disk.resize(f"size={size}k")
        error = torch_forge.run("checkpoints", out=str(out), steps=4, background=size % 16 == 4).error
        for folder in out.glob("step-*"):
            checkpoint.check(folder)
        if error is None:
            break
        assert error["code"] == 4, error
        assert str(out) in error["sentence"]
        assert ".tmp." not in error["sentence"]
        assert leftovers(disk.place) == []
        refused += 1
        tensors += "safetensors" in error["sentence"]
    assert refused >= 3
    assert tensors >= 1
    whole, found = snapshot(tmp_path / "whole"), snapshot(out)
    assert {
        name: digest for name, digest in found.items() if not name.startswith("step-00000001/")
    } == whole  # one may be left


@pytest.mark.parametrize(("kind", "at"), [("ENOSPC", 4), ("KILL", 7)])
def test_faults_in_workers(forge: Forge, table: Path, scratch: Path, kind: str, at: int) -> None:
    """A call fails in pool workers, which import nothing from these tests, through sitecustomize."""
    faulty = {"FASHIONKIT_FAULT": f"{kind}:{at}:{scratch}", "PYTHONPATH": f"{SITE}:{ROOT}"}
    arguments = ["shard", table, scratch / "out", "--shard-samples", 1, "--workers", 2, "--quiet"]
    outcome = forge.cli(*arguments, environment=faulty)
    assert outcome.code == 4, outcome.err
    assert str(scratch / "out") in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not (scratch / "out/dataset.json").exists()
    if kind == "KILL":
        assert "a worker failed while train-" in outcome.err
    else:
        assert leftovers(scratch) == []
    assert forge.cli(*arguments_of("shard", table, scratch / "out")).code == 0
    assert forge.cli(*arguments_of("shard", table, scratch / "whole")).code == 0
    assert snapshot(scratch / "out") == snapshot(scratch / "whole")
    assert leftovers(scratch) == []


@pytest.fixture(scope="module")
def strace(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is missing; not run")
    log = tmp_path_factory.mktemp("strace") / "log"
    if (
        subprocess.run(
            [program, "-o", log, "-e", "inject=write:error=EIO:when=1", "true"], capture_output=True
        ).returncode
        != 0
    ):
        pytest.skip("ptrace is not permitted; not run")
    return program


def under_strace(strace: str, log: Path, arguments: list[object], *injections: str) -> subprocess.CompletedProcess[str]:
    script = str(Path(sys.executable).with_name("fprep"))
    options = [
        "-f",
        "-y",
        "-o",
        str(log),
        "-e",
        "trace=write,rename",
        *(f"--inject={injection}" for injection in injections),
    ]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [strace, *options, script, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment
    )


def number_of_call(log: Path, name: str, words: str) -> int:
    """Number (from 1) of the main process's first call that contains these words."""
    lines = log.read_text(errors="replace").splitlines()
    process = next(line.split()[0] for line in lines if " rename(" in line)  # other lines report threads that end
    calls = [line for line in lines if re.match(rf"{process} +{name}\(", line)]
    return next(number for number, line in enumerate(calls, 1) if words in line)


@pytest.mark.slow  # strace runs whole commands, four times each
@pytest.mark.parametrize("command", ["convert", "shard"])
def test_injected_by_the_kernel(forge: Forge, strace: str, table: Path, tmp_path: Path, command: str) -> None:
    """The real console script: no space at a write, a kill at a rename."""
    log = tmp_path / "log"
    done = under_strace(strace, log, arguments_of(command, table, tmp_path / "whole"))
    assert done.returncode == 0, done.stderr
    whole, out = snapshot(tmp_path / "whole"), tmp_path / "out"
    name = "table.parquet" if command == "convert" else "train-000001.tar"
    for call, fault, code in (("write", "error=ENOSPC", 4), ("rename", "signal=KILL", -9)):
        shutil.rmtree(out, ignore_errors=True)
        number = number_of_call(log, call, f'whole/{name}"' if call == "rename" else f".tmp.{name}.")
        done = under_strace(
            strace, tmp_path / "other", arguments_of(command, table, out), f"{call}:{fault}:when={number}"
        )
        assert done.returncode in (code, 137 if code == -9 else code), (call, done.stderr)
        assert "Traceback" not in done.stderr
        if code == 4:
            assert re.match(rf"fprep: {out}/{name}: the disk ", done.stderr), done.stderr
            assert leftovers(out) == []
        assert all(whole[path] == digest for path, digest in snapshot(out).items())
        assert not (out / "dataset.json").exists()
        assert name not in snapshot(out)
    assert forge.cli(*arguments_of(command, table, out)).code == 0
    assert snapshot(out) == whole
    assert leftovers(out) == []
