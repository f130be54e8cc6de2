"""Flipped bits, truncated and missing files in outputs: a reader reports them, or returns the same result as before."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign.bench import Bench
from tests.faults.campaign.trial import check
from tests.faults.harness import INTEGRITY, USAGE, Outcome

# Damaged inputs, and the job or command that reads them. A job takes a fortieth of a command's time and reads more.
_JOBS = {"table": "read_table", "shards": "read_shards", "run": "read_run", "index": "read_index"}
_COMMANDS = ("lint", "evaluate", "predict", "query", "resume", "shard-again")
_SMALL = 4096


@dataclass(frozen=True)
class Flips:
    """One flipped bit, one changed byte, a truncated or a missing file in a table, a shard set, a run or an index."""

    name: str = "flips"
    about: str = "one flipped bit (or a cut, or a lost file) in a table, a shard set, a run or an index"
    promise: str = "exit code 5, or exactly the result of the undamaged input"

    def cases(self) -> Sequence[str]:
        """Readers of whole folders, ten times as often as commands."""
        return [*(case for _ in range(10) for case in _JOBS), *_COMMANDS]

    def run(self, case: str, bench: Bench, folder: Path, draw: random.Random) -> None:
        """Damage a copy and read it."""
        place = folder / "damaged"
        shutil.copytree(self._source(case, bench), place, symlinks=True)
        expected = self._expected(case, bench, place, folder)
        where = damage(place, draw)
        outcome = self._read(case, bench, place, folder)
        if outcome.error is not None:  # a job reports how it failed, a command its exit code
            code, words = outcome.error["code"], outcome.error["sentence"]
        else:
            code, words = outcome.code, outcome.err.strip()
        if code == 0:
            found = self._result(case, outcome, place, folder)
            check(found == expected, f"{where}: silent, and the result is another one")
            return
        allowed = (INTEGRITY, USAGE) if where.endswith("is lost") else (INTEGRITY,)
        check(code in allowed, f"{where}: exit code {code}: {words}")

    def _source(self, case: str, bench: Bench) -> Path:
        table = bench.table("deepfashion-category")
        shards = bench.shards("deepfashion-category")
        run = bench.run("category")
        return {
            "table": table, "shards": shards, "run": run, "index": bench.root / "index", "lint": shards, "evaluate": shards,
            "predict": run, "query": bench.root / "index", "resume": run, "shard-again": shards,
        }[case]  # fmt: skip

    def _read(self, case: str, bench: Bench, place: Path, folder: Path) -> Outcome:
        """Read the folder at `place`."""
        shutil.rmtree(folder / "out", ignore_errors=True)
        out, cpu = folder / "out", ["--device", "cpu"]
        if case in _JOBS:
            return bench.forge.run(_JOBS[case], place=str(place))
        if case == "lint":
            return bench.fprep("lint", place, "--no-loaders", "-q")
        if case == "shard-again":
            table = bench.table("deepfashion-category")
            return bench.fprep("shard", table, place, "--shard-samples", 6, "--size", 64, "--workers", 1, "-q")
        if case == "evaluate":
            return bench.ftrain(
                "evaluate", bench.run("category"), place, "--out", out, "--workers", 0, "--allow-collapse", *cpu
            )
        if case == "predict":
            return bench.ftrain("predict", place, bench.photo, "--out", out, *cpu)
        if case == "query":
            run, shards = bench.run("retrieval"), bench.shards("deepfashion-inshop")
            return bench.ftrain(
                "query", place, bench.photo, "--out", out, "--top", 3, "--run", run, "--shards", shards, *cpu
            )
        return bench.ftrain(*bench.training("category", place))

    def _expected(self, case: str, bench: Bench, place: Path, folder: Path) -> object:
        """The result for the undamaged copy, computed once."""
        key = f"expected {case} {folder}"
        if key not in bench.known:
            outcome = self._read(case, bench, place, folder)
            check(
                outcome.code == 0 and outcome.error is None, f"undamaged: {outcome.code} {outcome.error} {outcome.err}"
            )
            bench.known[key] = self._result(case, outcome, place, folder)
            shutil.rmtree(place)
            shutil.copytree(self._source(case, bench), place, symlinks=True)
        return bench.known[key]

    def _result(self, case: str, outcome: Outcome, place: Path, folder: Path) -> object:
        """The result of a job or command."""
        if case in _JOBS:
            return outcome.value
        if case == "lint":
            return "sound"
        if case == "shard-again":  # repaired, or refused
            return {path.name: path.read_bytes() for path in sorted(place.rglob("*.tar"))}
        if case == "resume":  # what counts is the final model
            return {
                path.name: path.read_bytes()
                for path in sorted((place / "checkpoints/step-00000004").glob("*.safetensors"))
            }
        name = {"evaluate": "metrics.json", "predict": "predictions.jsonl", "query": "results.jsonl"}[case]
        return (folder / "out" / name).read_bytes()


def damage(place: Path, draw: random.Random) -> str:
    """Damage one file below `place`, small files as often as large ones; return a description."""
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size)
    small = [path for path in files if path.stat().st_size <= _SMALL]
    path = draw.choice(small if small and draw.random() < 0.5 else files)
    name, content = path.relative_to(place), bytearray(path.read_bytes())
    kind = draw.choices(["flip", "cut", "lost"], [18, 2, 1])[0]
    if kind == "lost":
        path.unlink()
        return f"{name} is lost"
    at = draw.randrange(len(content))
    if kind == "cut":
        path.write_bytes(content[:at])
        return f"{name} is cut after {at} bytes"
    bit = draw.randrange(8)
    content[at] ^= 1 << bit
    path.write_bytes(content)
    return f"{name}: bit {bit} of byte {at} is flipped"
