"""Errors of `ftrain` at the command line for wrong arguments and damaged shards."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.faults.harness import Forge
from tests.faults.jobs import snapshot
from tests.small_tables import write_small_table


@pytest.fixture(scope="module")
def shards(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    table = write_small_table(folder, {"train": 6, "val": 2})
    assert forge.run("shard", table=str(table), out=str(folder / "set")).error is None
    return folder / "set"


@pytest.fixture(scope="module")
def trainer(torch_forge: Forge) -> Forge:
    """A server with the task imported as well, because that takes longer than a trial."""
    torch_forge.ask({"job": "import", "module": "ftrain.tasks.keypoints.task"})
    return torch_forge


@pytest.mark.parametrize(("arguments", "words"), [
    (["keypoint", "SHARDS", "--run", "RUN"], "Did you mean 'keypoints'?"),
    (["keypoints", "SHARDS", "--run", "RUN", "--profil", "x"], "--profile"),
    (["keypoints", "SHARDS", "--run", "RUN", "--params", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["keypoints", "SHARDS", "--run", "RUN", "--set", "fit.bach_size=3"], "unknown parameter fit.bach_size; did you mean batch_size?"),
    (["keypoints", "SHARDS", "--run", "RUN", "--set", "fit.batch_size=three"], "fit.batch_size='three' is not valid"),
    (["keypoints", "nowhere", "--run", "RUN"], "nowhere: no finished shard set here"),
    (["evaluate", "nowhere", "SHARDS"], "nowhere: not a run folder"),
    (["predict", "nowhere", "IMAGES", "--out", "RUN"], "nowhere: not a run folder"),
])  # fmt: skip
def test_usage(trainer: Forge, shards: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    places = {"SHARDS": shards, "IMAGES": shards.parent / "raw", "RUN": tmp_path / "run"}
    outcome = trainer.cli(*(places.get(argument, argument) for argument in arguments), command="ftrain")
    assert outcome.code == 2, outcome.err
    assert words in outcome.err
    assert len(outcome.err.splitlines()) <= 4
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut"])
def test_damaged_shard(trainer: Forge, shards: Path, tmp_path: Path, damage: str) -> None:
    """Exit code 5 with the name of the shard, before or when it is read, and no checkpoint."""
    shard = shards / "train-000001.tar"
    content = shard.read_bytes()
    flipped = bytearray(content)
    for offset in range(512, len(content) - 1024, 300):  # whichever sample is read
        flipped[offset] ^= 1
    arguments = ["keypoints", shards, "--run", tmp_path / "run", "--workers", 0, "--device", "cpu", "--tracker", "none"]
    arguments += ["--set", "fit.batch_size=6", "--limit-steps", 1]
    try:
        shard.unlink()
        if damage != "missing":
            shard.write_bytes(flipped if damage == "flipped" else content[:-1024])
        outcome = trainer.cli(*arguments, command="ftrain")
    finally:
        shard.write_bytes(content)
    assert outcome.code == 5, outcome.err
    assert str(shard) in outcome.err
    assert outcome.err.splitlines()[-1].startswith("ftrain: ")
    assert not [name for name in snapshot(tmp_path) if "step-" in name]
