"""The retrieval demo on several processes. Synthetic garments: the figures say little about photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.ftrain.forks import ForkServer
from typer.testing import CliRunner

import fprep.cli
from fschemas.json_file import read_json

PARAMS = Path(__file__).parents[4] / "params.yaml"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_and_four_processes_retrieve_as_well_as_one(forks: ForkServer, tmp_path: Path) -> None:
    """A quarter of the demo's epochs; each result is within the 95% interval of the others."""
    raw, table, shards = (str(tmp_path / name) for name in ("raw", "table", "shards"))
    for line in (
        ["sample", "deepfashion-inshop", raw, "--num-images", "400"],
        ["convert", "deepfashion-inshop", raw, table],
        ["shard", table, shards, "--size", "160"],
    ):
        done = CliRunner().invoke(fprep.cli.app, line)
        assert done.exit_code == 0, done.output
    found: dict[int, dict[str, float]] = {}
    for world_size in (1, 2, 4):
        run = str(tmp_path / f"run-{world_size}")
        line = [
            "retrieval", shards, "--run", run, "--params", str(PARAMS), "--profile", "tiny", "--set", "fit.epochs=11",
            "--set", "validation_split=none", "--tracker", "none", "--workers", "0", "--device", "cpu",
        ]  # fmt: skip
        children = forks.start_group("cli", world_size, arguments=line)
        codes = [child.wait(600) for child in children]
        assert codes == [0] * world_size, [child.text() for child in children]
        out = str(tmp_path / f"evaluation-{world_size}")
        evaluation = forks.start("cli", arguments=["evaluate", run, shards, "--out", out, "--allow-collapse"])
        assert evaluation.wait(600) == 0, evaluation.text()
        found[world_size] = read_json(Path(out) / "report.json")["model"]
    print(
        {
            world_size: {name: f"{metrics[name]:.3f}" for name in ("map_low", "map", "map_high")}
            for world_size, metrics in found.items()
        }
    )
    for metrics in found.values():
        for other in found.values():
            assert other["map_low"] <= metrics["map"] <= other["map_high"], found
