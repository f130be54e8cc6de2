"""Run folder: resolved configuration, description of the shard set, checkpoints, metrics and a receipt.

It is sufficient to evaluate, predict or continue on a machine without the training data.
"""

import platform
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from fschemas.failures import EnvironmentProblem, IntegrityError, UsageError
from fschemas.json_file import read_json
from fschemas.preflight import check_checkpoint, check_run
from fschemas.publish import exclusive, publish_bytes, publish_json, publish_sealed, sha256_of
from fschemas.shard_set import DATASET_SHAPE, ShardSet
from fschemas.wording import count
from fschemas.yaml_file import YamlLimitError
from ftrain.data.config import RunConfig
from ftrain.fit import checkpoint
from ftrain.fit.checkpoint import CONFIG_FILE, DATASET_FILE
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.config import read_config
from ftrain.layers.weights import weights_to_come
from ftrain.tasks.task import Task, build_task

RECEIPT_FILE = "receipt.json"
# Read by evaluations and comparisons; their digests are in the receipt.
CURVE_FILES = ("training.csv", "validation.csv")
_LOCK_ATTEMPTS = 20


@dataclass(frozen=True)
class RunFolder:
    """The files of one run in the folder `path`."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @contextmanager
    def hold(self) -> Generator[None]:
        """Hold the exclusive right to write here.

        Raises `EnvironmentProblem` if another process holds it for more than a second: a data worker that was forked
        just before its run was killed keeps the lock for some milliseconds, until it notices.
        """
        with ExitStack() as stack:
            for attempt in range(_LOCK_ATTEMPTS):
                try:
                    stack.enter_context(exclusive(self.path))
                    break
                except EnvironmentProblem:
                    if attempt == _LOCK_ATTEMPTS - 1:
                        raise
                    time.sleep(1.0 / _LOCK_ATTEMPTS)
            yield

    def start(
        self, config: RunConfig, shards: ShardSet, resume: Literal["auto", "never", "required"],
        names: dict[str, list[str]] | None = None,
    ) -> str:  # fmt: skip
        """Prepare the folder for training; return whether the run is new or resumed, or an old run was set aside.

        `names` are class names that the task learns besides the vocabularies (see `Task.names_to_learn`). `auto`
        continues a run with the same configuration and shard set and sets aside any other run; `required` raises instead of
        starting from scratch; `never` raises if the folder has checkpoints.
        """
        decision = f"new run in {self.path}"
        if self.checkpoints.exists() and any(self.checkpoints.glob("step-*")):
            difference = self._difference(config, shards)
            if resume == "never":
                raise UsageError(
                    f"{self.path}: already contains a run; choose another --run, or resume it with --resume auto"
                )
            if difference and resume == "required":
                raise UsageError(
                    f"{self.path}: {difference}; choose another --run, or --resume auto to set the old run aside"
                )
            if difference:
                decision = f"{difference}: starting a new run, the old one was moved to {self._set_aside()}"
            else:
                # It belongs to a finished run; the curves are now extended.
                (self.path / RECEIPT_FILE).unlink(missing_ok=True)
                return f"resuming the run in {self.path}"  # other files stay: checkpoints hold their digests
        elif resume == "required":
            raise UsageError(f"{self.path}: no checkpoint to resume from; train without --resume required")
        publish_bytes(self.path / CONFIG_FILE, config.to_yaml().encode())
        metadata = {name: value for name, value in shards.metadata.items() if name not in ("shards", "index")}
        metadata |= {"names": names} if names else {}
        publish_sealed(self.path / DATASET_FILE, metadata)
        return decision

    def _difference(self, config: RunConfig, shards: ShardSet) -> str:
        old, known = self.config(), self.dataset()
        if known["plan_id"] != shards.plan_id:
            return _different_sets(known, shards)
        before, after = flat(old.model_dump(mode="json")), flat(config.model_dump(mode="json"))
        names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        if not names:
            return ""
        name = names[0]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return f"{name} was {before.get(name)} and is {after.get(name)}{more}"

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.superseded-{number}")).exists():
            number += 1
        self.path.rename(aside)  # atomic: a kill must not leave half a run here and half there
        self.path.mkdir()
        return aside

    def dataset(self) -> dict[str, Any]:
        """Read the description of the run's shard set. Raises `IntegrityError` if the file was changed."""
        check_run(self.path)
        checkpoint.check_file(self.checkpoints, DATASET_FILE)
        return read_json(
            self.path / DATASET_FILE,
            {**DATASET_SHAPE, "names?": {"*": [str]}},
            sealed=True,
            missing=f"{self.path}: not a run folder ({DATASET_FILE} is missing); train one with `ftrain`",
            remedy="restore the file from a copy of the run, or train it again",
        )

    def config(self) -> RunConfig:
        """Read the configuration that the run was trained with. Raises `IntegrityError` if the file was changed."""
        check_run(self.path)
        path = self.path / CONFIG_FILE
        try:
            config = read_config(path)
        except YamlLimitError:
            raise
        except UsageError:  # a damaged file may not be a valid configuration
            checkpoint.check_file(self.checkpoints, CONFIG_FILE)
            raise
        checkpoint.check_file(self.checkpoints, CONFIG_FILE)
        return config

    def load(self, which: str = "best") -> tuple[Task, RunConfig, TrainingState]:
        """Load the trained task (evaluation mode, CPU), its configuration and its state.

        `which` is `best`, `latest` or the name of a checkpoint. EMA weights are used if there are any.
        """
        config = self.config()
        path = self._checkpoint(which)
        state = checkpoint.check(path)
        tensors = checkpoint.load_tensors(path, "ema")
        if tensors:
            tensors = {name.removeprefix("module."): t for name, t in tensors.items() if name.startswith("module.")}
        else:
            tensors = checkpoint.load_tensors(path, "model")
        with weights_to_come():
            task = build_task(config, self.dataset())
        checkpoint.load_weights(task, tensors, path)
        return task.eval(), config, state

    def _checkpoint(self, which: str) -> Path:
        if which not in ("best", "latest"):
            check_checkpoint(self.path, which)
            return self.checkpoints / which
        path = checkpoint.best(self.checkpoints) if which == "best" else None
        if path is not None:
            return path
        found = checkpoint.newest(self.checkpoints)
        if found is None:
            raise UsageError(f"{self.path}: no checkpoint; train the run first")
        path, _, reasons = found
        if reasons:  # never load other weights than requested silently
            reason = reasons[0].removeprefix("skipped ")
            raise IntegrityError(f"{reason}; choose an intact one with --checkpoint {path.name}")
        return path

    def write_receipt(self, state: TrainingState, command: Sequence[str]) -> None:
        """Write the origin of the weights: data, configuration, the `command` line and package versions."""
        packages = {name: version(name) for name in ("fashionkit", "torch", "timm", "numpy", "opencv-python-headless")}
        curves = {name: sha256_of(self.path / name) for name in CURVE_FILES if (self.path / name).exists()}
        publish_json(self.path / RECEIPT_FILE, {
            "plan_id": state.plan_id, "config_digest": state.config_digest, "seed": state.seed, "step": state.step,
            "ledger": state.ledger, "best": state.best, "command": list(command), "python": platform.python_version(),
            "curves": curves, "packages": packages, "threads": torch.get_num_threads(), "platform": f"{sys.platform} {platform.machine()}",
        })  # fmt: skip

    def check_curve(self, name: str) -> None:
        """Verify one of `CURVE_FILES` by its digest in the receipt. Raises `IntegrityError` if it was changed.

        Passes if the file does not exist, or if no training has finished since it was last extended.
        """
        path, receipt = self.path / name, self.path / RECEIPT_FILE
        if not (path.is_file() and receipt.is_file()):
            return
        digest = read_json(receipt, {"curves?": {"*": str}}).get("curves", {}).get(name)
        if digest is not None and digest != sha256_of(path):
            raise IntegrityError(
                f"{path}: changed since the run was trained ({RECEIPT_FILE} holds its SHA-256); restore it from a copy of the run, "
                "or remove it to go without its curve"
            )


def _different_sets(known: dict[str, Any], shards: ShardSet) -> str:
    """Say which shard set differs from those that a run was trained on, given its dataset.json."""
    ids = [one["plan_id"] for one in known.get("sets", [known])]
    locations = {part.plan_id: part.location for part in shards.parts}
    strangers = [location for plan_id, location in locations.items() if plan_id not in ids]
    if strangers and len(ids) > 1:
        return f"the run was not trained on {strangers[0]}"
    if len(ids) == 1 == len(locations):
        return "the shard set differs"
    return f"the run was trained on {count(len(ids), 'shard set')} and gets {len(locations)}, or in another order"


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    parts = (flat(child, f"{prefix}.{key}".lstrip(".")) for key, child in value.items())
    return {name: leaf for part in parts for name, leaf in part.items()}
