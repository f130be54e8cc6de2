"""`ftrain evaluate` accepts only shards with the split lock of the run, or the given one."""

import json

import pytest
import yaml
from tests.ftrain.keypoint_runs import write_run
from tests.shard_sets import write_shard_set

from fschemas.failures import IntegrityError, UsageError
from fschemas.json_file import seal
from fschemas.landmarks import FASHIONAI_24
from fschemas.publish import sha256_of
from fschemas.shard_set import ShardSet
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint_state import amend_state
from ftrain.use.evaluate import evaluate_run

OURS, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def evaluate(tmp_path, monkeypatch):
    """Evaluate as far as the lock matters: shards with one digest, a run that requires another, and `--lock`."""
    monkeypatch.setattr("ftrain.use.evaluate._Passes", lambda *_: pytest.fail("the model was evaluated"))

    def call(carried: str, asked: str, lock: str) -> None:
        shards = write_shard_set(tmp_path / "set", {"train": 4, "test": 2}, FASHIONAI_24)
        run = write_run(tmp_path / "run", ShardSet.open(shards))
        dataset = json.loads((shards / "dataset.json").read_text()) | ({"lock": carried} if carried else {})
        (shards / "dataset.json").write_text(json.dumps(seal(dataset)))
        config = yaml.safe_load((run / "config.yaml").read_text()) | {"split_lock": asked}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        state = checkpoint.check(run / "checkpoints/step-00000007")
        state.files["config.yaml"] = sha256_of(run / "config.yaml")
        amend_state(run / "checkpoints", state)
        evaluate_run(run, str(shards), tmp_path / "out", workers=0, device="cpu", lock=lock)

    return call


@pytest.mark.parametrize(("asked", "lock"), [(OURS, ""), ("", OURS), (OURS, OURS), ("", "")])
def test_the_lock_that_is_asked_for(evaluate, asked, lock):
    with pytest.raises(pytest.fail.Exception, match="the model was evaluated"):
        evaluate(OURS, asked, lock)


@pytest.mark.parametrize(
    ("carried", "asked", "lock"),
    [(OTHER, OURS, ""), ("", OURS, ""), (OTHER, "", OURS), ("", "", OURS), (OURS, OURS, OTHER), (OURS, OTHER, OURS)],
)
def test_any_other_is_refused(evaluate, tmp_path, carried, asked, lock):
    with pytest.raises(IntegrityError, match=r"split lock.*fprep shard --lock"):
        evaluate(carried, asked, lock)
    assert not (tmp_path / "out").exists()


def test_a_lock_file_is_read(evaluate, tmp_path):
    (tmp_path / "splits.lock.json").write_text(json.dumps({"format": "fashionkit-split-lock/1", "digest": OTHER}))
    with pytest.raises(IntegrityError, match=OTHER[:12]):
        evaluate(OURS, "", str(tmp_path / "splits.lock.json"))


def test_a_lock_file_that_is_not_there(evaluate, tmp_path):
    with pytest.raises(UsageError, match="no such split lock"):
        evaluate(OURS, "", str(tmp_path / "none.json"))
