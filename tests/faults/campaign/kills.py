"""Kills at random moments, and failing calls: nothing is left half-written, and the same command finishes the work."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.campaign.bench import Bench
from tests.faults.campaign.commands import COMMANDS
from tests.faults.campaign.trial import check
from tests.faults.harness import ENVIRONMENT, USAGE, Outcome, leftovers
from tests.faults.jobs import snapshot

_TIMES = ("training.csv",)  # contains times, so that no two runs write the same bytes
_RECEIPT = "receipt.json"  # contains digests of the curves, one of which contains times


@dataclass
class Finished:
    """The output of an undisturbed run of a command, and its duration in seconds."""

    tree: dict[str, str]
    seconds: float


def run(bench: Bench, case: str, out: Path, **options: Any) -> Outcome:
    """Run the command of a case with an output folder."""
    command = COMMANDS[case]
    return bench.forge.cli(*command.arguments(bench, out), command=command.script, **options)


def finished(bench: Bench, case: str, folder: Path) -> Finished:
    """The output of the command in `folder/out`, computed once by a run in a neighboring folder of the same depth."""
    key = f"finished {case} {folder}"
    if key not in bench.known:
        outcome = run(bench, case, folder / "out")
        check(outcome.code == 0, f"an undisturbed run ends with {outcome.code}: {outcome.err}")
        bench.known[key] = Finished(tree(folder / "out"), outcome.seconds)
        _clear(folder)
    return bench.known[key]


def tree(out: Path) -> dict[str, str]:
    """Digests of the files that are identical in two undisturbed runs."""
    if not out.exists():
        return {}
    found = {name: digest for name, digest in snapshot(out).items() if name not in _TIMES}
    if _RECEIPT in found:
        found[_RECEIPT] = json.dumps({**json.loads((out / _RECEIPT).read_bytes()), "curves": None})
    return found


def check_and_finish(bench: Bench, case: str, folder: Path, whole: Finished) -> None:
    """Check that files under final names are complete, and that rerunning the command gives the undisturbed output."""
    out = folder / "out"
    if not COMMANDS[case].steps:
        torn = [name for name, digest in tree(out).items() if whole.tree.get(name) != digest]
        check(not torn, f"half-written under a final name: {', '.join(torn[:3])}")
    outcome = run(bench, case, out)
    check(
        outcome.code == 0 or is_refused(case, outcome, out, whole),
        f"the same command again ends with {outcome.code}: {outcome.err.strip()}",
    )
    found = tree(out)
    different = sorted(name for name in found.keys() | whole.tree.keys() if found.get(name) != whole.tree.get(name))
    check(not different, f"differs from an undisturbed run: {', '.join(different[:3])}")
    check(not leftovers(folder), f"left behind: {', '.join(leftovers(folder)[:3])}")


def is_refused(case: str, outcome: Outcome, out: Path, whole: Finished) -> bool:
    """Whether a command that writes only once refused to run because its work is done."""
    return COMMANDS[case].once and outcome.code == USAGE and tree(out) == whole.tree


@dataclass(frozen=True)
class Kills:
    """SIGKILL, SIGTERM or SIGINT to the process group of a command, up to three times in a row."""

    name: str = "kills"
    about: str = "SIGKILL, SIGTERM or Ctrl-C at a random moment, up to three times in a row"
    promise: str = "no partially written file; running the same command again gives the result of an undisturbed run, without temporary files"

    def cases(self) -> Sequence[str]:
        """All commands that write."""
        return list(COMMANDS)

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Stop the command once or more, then let it finish."""
        whole = finished(bench, case, folder)
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            number = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            stop = {"signal": int(number), "delay": draw.uniform(0, 1.1) * whole.seconds, "group": True}
            outcome = run(bench, case, folder / "out", stop=stop)
            allowed = {signal.SIGKILL: (0, -9), signal.SIGTERM: (0, 143, -15), signal.SIGINT: (0, 130, -2)}[number]
            done = is_refused(case, outcome, folder / "out", whole)
            check(outcome.code in allowed or done, f"{number.name} ends it with {outcome.code}: {outcome.err.strip()}")
        check_and_finish(bench, case, folder, whole)


@dataclass(frozen=True)
class FailingCalls:
    """One file-changing call fails: a full disk (which stays full), an I/O error, or a kill in the middle."""

    name: str = "failing-calls"
    about: str = (
        "the k-th call that modifies a file fails with ENOSPC (as do all later ones) or EIO, or the process dies in it"
    )
    promise: str = "exit code 4 and a one-sentence error with the path; running the same command again gives the result of an undisturbed run"

    def cases(self) -> Sequence[str]:
        """All commands that write from one process; calls in worker pools are not intercepted."""
        return [name for name in COMMANDS if name != "shard-pool"]

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Let a random call fail, then let the command finish."""
        whole = finished(bench, case, folder)
        count = self._calls(bench, case, folder)
        kind, at = draw.choice(["ENOSPC", "EIO", "KILL"]), draw.randint(1, count)
        outcome = run(bench, case, folder / "out", fault={"root": str(folder), "kind": kind, "at": at})
        if kind == "KILL":
            check(outcome.code in (137, 0), f"{kind} at call {at} ends it with {outcome.code}: {outcome.err.strip()}")
        elif outcome.code != 0 or kind == "ENOSPC":  # optional writes, such as a line in a log, may fail silently
            check(
                outcome.code in (0, ENVIRONMENT), f"{kind} at call {at} ends with {outcome.code}: {outcome.err.strip()}"
            )
        if outcome.code == ENVIRONMENT:
            check(len(outcome.err.strip().splitlines()) >= 1, f"{kind} at call {at}: no sentence")
            check("internal error" not in outcome.err, outcome.err.strip())
        check_and_finish(bench, case, folder, whole)

    def _calls(self, bench: Bench, case: str, folder: Path) -> int:
        """Number of file-changing calls of an undisturbed run."""
        key = f"calls {case}"
        if key not in bench.known:
            bench.known[key] = len(
                run(bench, case, folder / "out", fault={"root": str(folder), "kind": "EIO", "at": 0}).calls
            )
            _clear(folder)
        return bench.known[key]


@dataclass(frozen=True)
class FullDisks:
    """A real in-memory file system that is too small for the output."""

    name: str = "full-disks"
    about: str = "a real file system (tmpfs) of random size, too small for the output"
    promise: str = (
        "exit code 4 and a one-sentence error; no partially written file; with more space the same command finishes"
    )

    def cases(self) -> Sequence[str]:
        """All commands that write."""
        return list(COMMANDS)

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Run on a small disk, enlarge it, and run again."""
        disk = folder / "disk"
        disk.mkdir()
        _mount(disk, "size=64m")
        try:
            whole = finished(bench, case, disk)
            _mount(disk, f"remount,size={max(4, int(draw.uniform(0.0, 1.0) * self._kilobytes(bench, case, disk)))}k")
            outcome = run(bench, case, disk / "out")
            check(outcome.code in (0, ENVIRONMENT), f"ends with {outcome.code}: {outcome.err.strip()}")
            check("internal error" not in outcome.err, outcome.err.strip())
            check(outcome.code == 0 or not leftovers(disk), f"left behind: {', '.join(leftovers(disk)[:3])}")
            _mount(disk, "remount,size=64m")
            check_and_finish(bench, case, disk, whole)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def _kilobytes(self, bench: Bench, case: str, disk: Path) -> int:
        """Size of the finished output in whole pages."""
        key = f"size {case}"
        if key not in bench.known:
            run(bench, case, disk / "out")
            bench.known[key] = 4 * sum(1 + path.stat().st_size // 4096 for path in disk.rglob("*"))
            _clear(disk)
        return bench.known[key]


def _mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(disk)], check=True)


def _clear(folder: Path) -> None:
    """Empty a folder without removing it, because it may be a mount point."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
