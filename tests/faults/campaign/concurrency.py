"""Concurrent processes: two writers of one output, and a reader of what a writer replaces."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign.bench import Bench
from tests.faults.campaign.commands import COMMANDS
from tests.faults.campaign.kills import check_and_finish, finished, is_refused, run, tree
from tests.faults.campaign.trial import check
from tests.faults.harness import ENVIRONMENT, INTEGRITY, USAGE, Outcome

_READING = "read-while-sharding"


@dataclass(frozen=True)
class Concurrency:
    """Run the same command twice at once, or a reader next to a writer."""

    name: str = "concurrency"
    about: str = "the same command twice at once with the same output, or a shard set read while it is rewritten"
    promise: str = (
        "each ends with exit code 0, or 4 because the other one is writing; the result is that of one undisturbed run"
    )

    def cases(self) -> Sequence[str]:
        """All commands that write from one process, and one reader."""
        return [*(name for name in COMMANDS if name != "shard-pool"), _READING]

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Start a second process at a random moment of the first."""
        if case == _READING:
            self._read(bench, folder, draw)
            return
        whole = finished(bench, case, folder)
        outcomes = self._together(
            lambda: run(bench, case, folder / "out"),
            lambda: run(_other(bench, folder), case, folder / "out"),
            draw,
            whole.seconds,
        )
        for outcome in outcomes:
            done = is_refused(case, outcome, folder / "out", whole)
            check(outcome.code in (0, ENVIRONMENT) or done, f"ends with {outcome.code}: {outcome.err.strip()}")
        check(any(outcome.code == 0 for outcome in outcomes), "neither of the two finished")
        check(tree(folder / "out") == whole.tree, "the tree is another one")
        check_and_finish(bench, case, folder, whole)

    def _read(self, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Train on a shard set while it is rewritten with another seed."""
        shards, table = folder / "shards", bench.table("deepfashion-category")
        shutil.copytree(bench.shards("deepfashion-category"), shards)
        again = ["shard", table, shards, "--shard-samples", 4, "--size", 64, "--workers", 1, "--seed", 3, "-q"]
        train = [shards if argument == bench.shards("deepfashion-category") else argument
                 for argument in bench.training("category", folder / "run")]  # fmt: skip
        writer, reader = self._together(
            lambda: bench.fprep(*again), lambda: _other(bench, folder).ftrain(*train), draw, 0.5
        )
        check(writer.code == 0, f"the writer ends with {writer.code}: {writer.err.strip()}")
        check(reader.code in (0, USAGE, INTEGRITY), f"the reader ends with {reader.code}: {reader.err.strip()}")
        check("delete" not in reader.err, f"the reader advises to delete: {reader.err.strip()}")

    @staticmethod
    def _together(first, second, draw: random.Random, seconds: float) -> list[Outcome]:  # type: ignore[no-untyped-def]
        """Run both, starting the second after a random share of the first one's duration."""
        found: list[Outcome | BaseException] = [AssertionError("not run")] * 2

        def work(number: int, job) -> None:  # type: ignore[no-untyped-def]
            try:
                found[number] = job()
            except BaseException as error:
                found[number] = error

        threads = [threading.Thread(target=work, args=(0, first)), threading.Thread(target=work, args=(1, second))]
        threads[0].start()
        time.sleep(draw.uniform(0, 0.8) * seconds)
        threads[1].start()
        for thread in threads:
            thread.join()
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
        return found  # type: ignore[return-value]


def _other(bench: Bench, folder: Path) -> Bench:
    """A second fork server with the same inputs, started once."""
    if "other bench" not in bench.known:
        bench.known["other bench"] = Bench.start(bench.root, bench.forge.folder / "other")
    return bench.known["other bench"]
