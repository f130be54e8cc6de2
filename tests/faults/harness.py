"""Trials with killed and failing processes: the client of the fork server, and the invariants after any trial.

A failing campaign prints a command that repeats its trial: FASHIONKIT_SEED fixes the delays, FASHIONKIT_KILLS their
number.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.faults.jobs import answer, snapshot
from tests.faults.layer import Layer

ROOT = Path(__file__).parents[2]
ENVIRONMENT, INTEGRITY, USAGE, REJECTED = 4, 5, 2, 3

Snapshot = dict[str, str]  # path relative to the folder -> SHA-256


def leftovers(folder: Path) -> list[str]:
    """Temporary files in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".tmp.*"))


@dataclass
class Outcome:
    """How a child ended: exit code (negative: signal), result of the job, and output."""

    code: int | None
    seconds: float = 0.0
    stopped: bool = False
    left: int = 0
    hung: bool = False
    value: Any = None
    error: dict[str, Any] | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    out: str = ""
    err: str = ""


class Forge:
    """Client of `tests.faults.server`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
            "NO_ALBUMENTATIONS_UPDATE": "1", "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "200",
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment, cwd=folder,
        )  # fmt: skip

    def run(self, job: str, /, *, stop: dict[str, Any] | None = None, fault: dict[str, Any] | None = None, uid: int = 0,
            environment: dict[str, str] | None = None, ignored: list[int] | None = None, **arguments: Any) -> Outcome:  # fmt: skip
        """Fork a child that runs the job (a function of the server) and wait for it to end."""
        for name in ("out", "err"):
            Path(f"{self.log}.{name}").unlink(missing_ok=True)
        answer = self.ask({
            "job": job, "arguments": arguments, "log": str(self.log), "stop": stop, "fault": fault, "uid": uid,
            "environment": environment or {}, "ignored": ignored or [],
        })  # fmt: skip
        texts = {
            name: Path(f"{self.log}.{name}").read_text()
            for name in ("out", "err")
            if Path(f"{self.log}.{name}").exists()
        }
        outcome = Outcome(**answer, **texts)
        outcome.calls = [(operation, path) for operation, path in outcome.calls]
        assert not outcome.hung, f"{job} {arguments} hangs: {outcome.err}"
        assert outcome.left == 0, f"{job} {arguments} left processes behind"
        return outcome

    def cli(self, *arguments: Any, command: str = "fprep", **options: Any) -> Outcome:
        """Run a console script in a forked child."""
        outcome = self.run("cli", command=command, arguments=[str(argument) for argument in arguments], **options)
        assert "Traceback" not in outcome.err + outcome.out, outcome.err
        return outcome

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the fork server died"
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@dataclass
class Work:
    """A job that takes a folder `out` from an old state to a new one.

    `before` is a copy of the old state, None for no folder; `sound(out)` raises if the output cannot be opened.
    """

    forge: Forge
    job: str
    arguments: dict[str, Any]
    before: Path | None = None
    sound: Callable[[Path], None] = lambda out: None
    old: Snapshot = field(default_factory=dict)
    new: Snapshot = field(default_factory=dict)
    allowed: dict[str, set[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def learn(self, folder: Path) -> Outcome:
        """Run without a fault to record the old and new states, and the duration in a separate process."""
        out = self.fresh(folder)
        self.old = snapshot(out) if out.exists() else {}
        outcome = self.fork(out)
        assert outcome.error is None, outcome.error
        self.seconds, self.new = outcome.seconds, snapshot(out)
        for state in (self.old, self.new, *[{name: d} for name, ds in (outcome.value or {}).items() for d in ds]):
            for name, digest in state.items():
                self.allowed.setdefault(name, set()).add(digest)
        self.sound(out)
        assert leftovers(folder) == []
        return outcome

    def fresh(self, folder: Path) -> Path:
        """Create `folder/out` in its old state."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if self.before is not None:
            shutil.copytree(self.before, folder / "out")
        return folder / "out"

    def fork(self, out: Path, **options: Any) -> Outcome:
        """Run the job in a process that may be killed."""
        return self.forge.run(self.job, out=str(out), **self.arguments, **options)

    def run(self, out: Path, fault: Layer | None = None) -> Outcome:
        """Run the job in this process."""
        value, error = answer(self.job, {"out": str(out), **self.arguments}, fault)
        return Outcome(0, value=value, error=error, calls=fault.calls if fault else [])

    def inspect(self, out: Path) -> None:
        """Check that nothing under a final name is half-written, and that output that looks finished is."""
        for name, digest in (snapshot(out) if out.exists() else {}).items():
            assert digest in self.allowed.get(name, ()), f"{name} is neither the old nor the new file"
        if out.exists():
            self.sound(out)

    def finish(self, out: Path) -> None:
        """Check that rerunning the command gives exactly the new state and leaves no temporary files."""
        outcome = self.run(out)
        assert outcome.error is None, outcome.error
        assert snapshot(out) == self.new, "the folder differs from that of an uninterrupted run"
        assert leftovers(out.parent) == []

    def trace(self, folder: Path) -> list[tuple[str, str]]:
        """File-changing calls of an undisturbed run."""
        return self.run(self.fresh(folder), Layer(folder)).calls

    def faults(self, folder: Path, kind: str) -> int:
        """Let every call fail with `kind`, one trial each, and check the outcome; return the number of trials."""
        self.learn(folder)
        count = len(self.trace(folder))
        for at in range(1, count + 1):
            out = self.fresh(folder)
            if kind == "KILL":
                outcome = self.fork(out, fault={"root": str(folder), "kind": kind, "at": at})
            else:
                outcome = self.run(out, Layer(folder, kind, at))
            try:
                if kind == "KILL":
                    assert outcome.code == 137
                else:
                    assert outcome.error is not None, "a silent success"
                    assert outcome.error["code"] == ENVIRONMENT, outcome.error
                    assert str(folder) in outcome.error["sentence"], outcome.error
                    assert ".tmp." not in outcome.error["sentence"], outcome.error
                    assert leftovers(folder) == []
                self.inspect(out)
                self.finish(out)
            except Exception as wrong:
                call = outcome.calls[at - 1] if len(outcome.calls) >= at else "unknown"
                raise AssertionError(f"{kind} at call {at} ({call}): {wrong!r}") from wrong
        return count


def kills(work: Work, folder: Path, share: float, default: int = 60) -> None:
    """SIGKILL the process group after random delays until `share` of FASHIONKIT_KILLS runs died.

    Delays are uniform over 1.2 times a whole run.
    """
    work.learn(folder)
    wanted, seed = int(os.environ.get("FASHIONKIT_KILLS", default)), int(os.environ.get("FASHIONKIT_SEED", "1"))
    count = max(1, round(wanted * share))
    generator, hits, runs = random.Random(f"{seed} {work.job}"), 0, 0
    while hits < count:
        runs += 1
        assert runs < 8 * count + 20, f"only {hits} of {runs} signals came before the end"
        moment, out = generator.uniform(0, 1.2), work.fresh(folder)
        outcome = work.fork(out, stop={"signal": signal.SIGKILL, "delay": moment * work.seconds, "group": True})
        if outcome.code == -signal.SIGKILL:
            hits += 1
        else:
            work.seconds = min(work.seconds, outcome.seconds)  # the first run may have been slow
        try:
            work.inspect(out)
            work.finish(out)
        except Exception as wrong:
            test = os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]
            raise AssertionError(
                f"run {runs}, killed after {moment:.3f} of {work.seconds:.4f} s: {wrong!r}; again with "
                f"FASHIONKIT_SEED={seed} FASHIONKIT_KILLS={wanted} python -m pytest '{test}'"
            ) from wrong
    print(f"{work.job}: {hits} of {runs} runs killed, 0 torn, all finished alike (seed {seed})")


def skip_without_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root; not run")
