"""Run the fault-injection campaigns: `python -m tests.faults.campaign --minutes 10`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.campaign.bench import Bench
from tests.faults.campaign.concurrency import Concurrency
from tests.faults.campaign.flips import Flips
from tests.faults.campaign.hostile import HostileImages, HostileModels
from tests.faults.campaign.kills import FailingCalls, FullDisks, Kills
from tests.faults.campaign.page import COMMAND, page
from tests.faults.campaign.raw_files import RawFiles
from tests.faults.campaign.trial import Campaign, Tally, TrialName, rounds, run_trial
from tests.faults.harness import ROOT

CAMPAIGNS: dict[str, Campaign] = {
    campaign.name: campaign
    for campaign in (
        Kills(),
        FailingCalls(),
        FullDisks(),
        Flips(),
        RawFiles(),
        HostileImages(),
        HostileModels(),
        Concurrency(),
    )
}
_LOG_SECONDS = 60  # between progress lines
_RECORD = ROOT / "docs/reliability.json"


class Runner:
    """Run trials on several fork servers in parallel until the list is finished or the time is up."""

    def __init__(self, names: list[TrialName], seed: int, deadline: float, scratch: Path) -> None:
        self.seed, self.deadline, self.scratch = seed, deadline, scratch
        self.tallies: dict[str, dict[str, Tally]] = {}
        self._wanted, self._done, self._logged_at = len(names), 0, time.monotonic()
        self._names: queue.SimpleQueue[TrialName] = queue.SimpleQueue()
        self._lock = threading.Lock()
        for name in names:
            self._names.put(name)

    def run(self, benches: list[Bench]) -> None:
        """Run the list of trials, with one thread per fork server."""
        threads = [threading.Thread(target=self._work, args=(bench, number)) for number, bench in enumerate(benches)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, bench: Bench, number: int) -> None:
        while time.monotonic() < self.deadline:
            try:
                name = self._names.get_nowait()
            except queue.Empty:
                return
            words = run_trial(CAMPAIGNS, name, self.seed, bench, self.scratch / f"trial-{number}")
            with self._lock:
                tally = self.tallies.setdefault(name.campaign, {}).setdefault(name.case, Tally())
                tally.tried += 1
                self._done += 1
                if time.monotonic() - self._logged_at > _LOG_SECONDS:
                    self._logged_at = time.monotonic()
                    print(f"{self._done:,} of {self._wanted:,} trials", file=sys.stderr, flush=True)
                if words:
                    tally.failures.append((name, words))
                    print(f"{name}: {words}", flush=True)


def main() -> int:
    """Parse the command line, run, and write the record and the page; the exit code is 1 if a trial failed."""
    options = _parse()
    wanted = dict(entry.split("=") for entry in options.trials)
    chosen = {name: CAMPAIGNS[name] for name in (options.only or wanted or CAMPAIGNS)}
    if os.geteuid() != 0:
        chosen.pop("full-disks", None)  # requires permission to mount
    if options.recheck:
        record = json.loads(_RECORD.read_text(encoding="utf-8"))
        options.seed = record["seed"]
        names = [TrialName.parse(trial) for trial, *_ in _failures(record)]
    elif options.replay:
        names = [TrialName.parse(options.replay)]
    else:
        names = rounds(
            chosen, {name: int(count) for name, count in wanted.items()}, options.first, endless=options.minutes > 0
        )
    start = time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="campaign-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        root = Path(folder)
        benches = [
            Bench.start(root / "bench", root / f"log-{number}")
            for number in range(1 if options.replay else options.jobs)
        ]
        benches[0].build()
        deadline = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
        runner = Runner(names, options.seed, deadline, root)
        runner.run(benches)
    failed = sum(len(tally.failures) for cases in runner.tallies.values() for tally in cases.values())
    tried = sum(tally.tried for cases in runner.tallies.values() for tally in cases.values())
    print(f"{tried} trials, {failed} failures, seed {options.seed}")
    if options.recheck:
        _note_fixed(record, runner)
        _publish(record)
    elif options.write or options.add:
        record = _record(runner, options.seed, (time.monotonic() - start) / 60)
        _publish(_sum(json.loads(_RECORD.read_text(encoding="utf-8")), record) if options.add else record)
    return int(failed > 0)


def _failures(record: dict[str, Any]) -> list[list[str]]:
    return [
        failure for cases in record["campaigns"].values() for case in cases.values() for failure in case["failures"]
    ]


def _note_fixed(record: dict[str, Any], runner: Runner) -> None:
    """Record, next to each failure, the commit at which its trial passes."""
    failing = {str(name) for cases in runner.tallies.values() for case in cases.values() for name, _ in case.failures}
    for failure in _failures(record):
        failure[2:] = [] if failure[0] in failing else [_commit()]


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _record(runner: Runner, seed: int, minutes: float) -> dict[str, Any]:
    return {
        "commands": [shlex.join([*COMMAND.split(), *sys.argv[1:]])], "seed": seed, "minutes": round(minutes, 1), "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "campaigns": {
            name: {case: {"tried": tally.tried, "failures": [(str(trial), words) for trial, words in tally.failures]}
                   for case, tally in sorted(runner.tallies[name].items())}
            for name in CAMPAIGNS if name in runner.tallies
        },
    }  # fmt: skip


def _sum(record: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Add the trials of a later run with different trials (`--first`) to a record."""
    assert record["seed"] == more["seed"], "trials of one seed are added"
    record["commands"] += more["commands"]
    record["minutes"] += more["minutes"]
    for name, cases in more["campaigns"].items():
        known = record["campaigns"].setdefault(name, {})
        for case, entry in cases.items():
            sum_ = known.setdefault(case, {"tried": 0, "failures": []})
            sum_["tried"] += entry["tried"]
            sum_["failures"] += entry["failures"]
    return record


def _publish(record: dict[str, Any]) -> None:
    _RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    _RECORD.with_suffix(".md").write_text(page(record, CAMPAIGNS), encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="stop after so many minutes; without, one trial of each case"
    )
    parser.add_argument("--only", action="append", choices=list(CAMPAIGNS), help="this campaign alone; may be repeated")
    parser.add_argument(
        "--trials",
        action="append",
        default=[],
        metavar="CAMPAIGN=N",
        help="so many trials of a campaign; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first trial of each case")
    parser.add_argument("--jobs", type=int, default=2, help="trials at a time")
    parser.add_argument("--replay", metavar="TRIAL", help="repeat one trial, such as kills/shard/17")
    parser.add_argument(
        "--recheck", action="store_true", help="replay the failures of docs/reliability.json and note which pass"
    )
    parser.add_argument(
        "--add", action="store_true", help="add these trials to docs/reliability.json; start at another --first"
    )
    parser.add_argument("--write", action="store_true", help="write docs/reliability.json and docs/reliability.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
