"""All commands that write, with the small inputs of the campaigns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.campaign.bench import Bench

Arguments = Sequence[object]


@dataclass(frozen=True)
class Command:
    """A console script and its arguments for an output path.

    `steps`: it publishes incrementally and resumes when interrupted. `once`: it refuses to overwrite finished output.
    """

    script: str
    arguments: Callable[[Bench, Path], Arguments]
    steps: bool = False
    once: bool = False


def _fprep(arguments: Callable[[Bench, Path], Arguments], *, steps: bool = False) -> Command:
    return Command("fprep", lambda bench, out: [*arguments(bench, out), "--quiet"], steps)


def _ftrain(arguments: Callable[[Bench, Path], Arguments], *, steps: bool = False) -> Command:
    return Command("ftrain", arguments, steps)


def _on_cpu(*arguments: object) -> Arguments:
    return [*arguments, "--device", "cpu"]


def _export(form: str) -> Command:
    return _fprep(lambda bench, out: ["export", bench.table("fashionai-keypoints"), out, "--to", form])


COMMANDS: dict[str, Command] = {
    "sample": Command("fprep", lambda bench, out: [
        "sample", "fashionai-keypoints", out, "--num-images", 6, "--workers", 1, "--quiet",
    ], once=True),
    "convert": _fprep(lambda bench, out: [
        "convert", "deepfashion-category", bench.raw("deepfashion-category"), out, "--workers", 1, "--max-rejected", 1,
    ]),
    "shard": _fprep(lambda bench, out: [
        "shard", bench.table("deepfashion-inshop"), out, "--shard-samples", 4, "--size", 64, "--workers", 1,
    ], steps=True),
    "shard-pool": _fprep(lambda bench, out: [
        "shard", bench.table("deepfashion-inshop"), out, "--shard-samples", 4, "--size", 64, "--workers", 2,
    ], steps=True),
    "audit": _fprep(lambda bench, out: ["audit", bench.table("deepfashion-category"), "--out", out, "--write-lock", "--workers", 1]),
    "report": _fprep(lambda bench, out: ["report", bench.table("deepfashion-category"), out / "page.html"]),
    "export-coco": _export("coco"),
    "export-yolo-pose": _export("yolo-pose"),
    "export-label-studio": _export("label-studio"),
    "export-hf": _export("hf"),
    "export-croissant": _export("croissant"),
    "train": _ftrain(lambda bench, out: bench.training("category", out), steps=True),
    "evaluate": _ftrain(lambda bench, out: _on_cpu(
        "evaluate", bench.run("category"), bench.shards("deepfashion-category"), "--out", out, "--workers", 0, "--allow-collapse",
    )),
    "predict": _ftrain(lambda bench, out: _on_cpu(
        "predict", bench.run("category"), bench.shards("deepfashion-category"), "--out", out, "--split", "test",
    )),
    "describe": _ftrain(lambda bench, out: _on_cpu("describe", bench.photo, bench.run("category"), "--out", out)),
    "index": _ftrain(lambda bench, out: _on_cpu(
        "index", bench.run("retrieval"), bench.shards("deepfashion-inshop"), out, "--workers", 0,
    )),
    "query": _ftrain(lambda bench, out: _on_cpu("query", bench.root / "index", bench.photo, "--out", out, "--top", 5)),
    "join": Command("ftrain", lambda bench, out: _on_cpu(
        "join", bench.shards("deepfashion-inshop"), bench.run("retrieval"), bench.run("category"), "--run", out, "--workers", 0,
        "--dim", 4,
    ), steps=True, once=True),
}  # fmt: skip
