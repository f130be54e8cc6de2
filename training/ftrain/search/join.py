"""`ftrain join SHARDS RUN… --run OUT`: combine several runs into one, for search or as an ensemble for keypoints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.shard_set import ShardSet
from ftrain.data.config import FitConfig, RunConfig
from ftrain.data.remote import open_shards
from ftrain.fit.checkpoint import discard, save_checkpoint
from ftrain.fit.checkpoint_state import TrainingState
from ftrain.fit.distributed import Processes, one_process, workers_or_default
from ftrain.fit.evaluation import results_of_split
from ftrain.fit.run_folder import RECEIPT_FILE, RunFolder
from ftrain.fit.splits import Splits
from ftrain.inference.label_mapping import agree
from ftrain.inference.trained_task import as_batch, task_to_device
from ftrain.layers.weights import weights_to_come
from ftrain.tasks.joined.task import Joined, JoinedConfig, Member, inputs_of, parts_of
from ftrain.tasks.joined_keypoints.task import JoinedKeypoints, joined_config
from ftrain.tasks.keypoints.task import Keypoints
from ftrain.tasks.retrieval.task import Retrieval
from ftrain.tasks.task import Task

_MAX_IMAGES = 10_000  # for the means and components: 5,000 dimensions take 0.4 GB in double precision
_ONCE = "a joined run cannot be joined again; join the runs that it consists of"
_FACTS = ("landmark_set", "vocabularies", "column_groups", "names")  # shard set metadata used to build a task


def join_runs(
    shards: str,
    runs: Sequence[Path],
    out: Path,
    *,
    dim: int = 512,
    checkpoint: str = "best",
    batch_size: int = 64,
    workers: int | None = None,
    device: str = "auto",
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Join runs into the run folder `out`; return `dimensions` and numbers of `runs`, `parts` and training `images`.

    Keypoints runs become an ensemble of `runs` members with the largest `input_size`; its task is `JoinedKeypoints`.
    All other runs are joined for search. One of these, a retrieval run, leads: it defines the retrieved items and the
    training split, from which the means and components are estimated. Each retrieval run is paired with its untrained
    backbone. Raises `UsageError` if no run is a retrieval run, if the set does not fit the leading run or lacks the
    bounding boxes that a run needs, and if `out` already holds a run. `command` is for the receipt.
    """
    out = claim_output(Path(out), "run")
    opened, folder = open_shards(shards), RunFolder(out)
    _check_output(folder)
    workers = workers_or_default(workers, device)
    with one_process(device, workers) as target, folder.hold():
        trained = [RunFolder(run).load(checkpoint) for run in runs]
        loaded = [(task, config) for task, config, _ in trained]
        selected = [state.best for _, _, state in trained if state.best.get("step") == state.step]
        joined: Task
        if all(isinstance(task, Keypoints) for task, _ in loaded):
            joined, config = _join_keypoints(loaded, runs, opened)
            made = {"runs": len(runs), "input_size": joined.config.input_size}
        else:
            tasks, members, config = _members(loaded, runs, opened)
            rows = _rows(tasks[0], config, opened)
            joined = _assembled(tasks, members, opened, min(dim, len(rows) - 1))
            task_to_device(joined, target)
            alone = Processes(0, 1, target)
            parts = results_of_split(joined, opened, rows, alone, batch_size, workers)["parts"]
            joined.cpu().fit(torch.from_numpy(parts))
            sizes = joined.config
            made = {
                "dimensions": sizes.embedding_dim,
                "runs": len(runs),
                "parts": len(sizes.widths),
                "images": len(rows),
            }
        model = joined.config.model_dump(mode="json")
        config = config.model_copy(update={"task": joined.name, "model": model, "fit": FitConfig.model_validate({})})
        discard(folder.checkpoints)  # left by an interrupted join; the runs may have changed since
        folder.start(config, opened, "never")
        state = TrainingState(plan_id=opened.plan_id, config_digest=config.digest, seed=config.fit.seed)
        if selected:  # what selected a run has selected the joined one, too
            state.best = {**selected[0], "step": state.step}
        save_checkpoint(folder.checkpoints, state, {"model": joined.state_dict()}, keep=1)
        folder.write_receipt(state, command)
    return made


def _join_keypoints(
    loaded: Sequence[tuple[Task, RunConfig]], runs: Sequence[Path], shards: ShardSet
) -> tuple[JoinedKeypoints, RunConfig]:
    """Return the ensemble of keypoints runs, with their weights, and the configuration of the first run."""
    for (task, _), run in zip(loaded, runs, strict=True):
        if isinstance(task, JoinedKeypoints):
            raise UsageError(_ONCE)
        agree(task, run, shards)
    config = joined_config([task.config for task, _ in loaded if isinstance(task, Keypoints)])
    with weights_to_come():
        joined = JoinedKeypoints(config, shards.metadata)
    for own, (task, _) in zip(joined.tasks, loaded, strict=True):
        own.load_state_dict(task.state_dict())
    return joined.eval(), loaded[0][1]


def _check_output(folder: RunFolder) -> None:
    """Refuse an existing run; a joined run without receipt (written last) is incomplete and may be overwritten."""
    if not folder.checkpoints.exists() or not any(folder.checkpoints.glob("step-*")):
        return
    finished = (folder.path / RECEIPT_FILE).exists()
    if finished or folder.config().task not in (Joined.name, JoinedKeypoints.name):
        raise UsageError(f"{folder.path}: already contains a run; choose another folder with --run")


def _members(
    loaded: list[tuple[Task, RunConfig]], runs: Sequence[Path], shards: ShardSet
) -> tuple[list[Task], list[Member], RunConfig]:
    """Return the tasks (leading one first, untrained ones included), their entries, and the leader's configuration."""
    leading = next((number for number, (task, _) in enumerate(loaded) if isinstance(task, Retrieval)), None)
    if leading is None:
        raise UsageError(
            "none of the runs is a run of `ftrain retrieval`, which defines the items to retrieve; add one"
        )
    agree(loaded[leading][0], runs[leading], shards)
    loaded.insert(0, loaded.pop(leading))
    tasks: list[Task] = []
    members: list[Member] = []
    for task, config in loaded:
        if isinstance(task, Joined):
            raise UsageError(_ONCE)
        facts = {name: task.dataset[name] for name in _FACTS if name in task.dataset}
        for one in (task, task.untrained()) if isinstance(task, Retrieval) else (task,):
            tasks.append(one.eval())
            members.append(Member(task=config.task, model=config.model, dataset=facts, trained=one is task))
    return tasks, members, loaded[0][1]


def _assembled(tasks: Sequence[Task], members: Sequence[Member], shards: ShardSet, dim: int) -> Joined:
    """Build the joined task with the weights of its runs; means and components are not estimated yet."""
    if dim < 1:
        raise UsageError(f"{shards.location}: one training image is too few to join runs; use a larger shard set")
    widths = _widths(tasks)
    config = JoinedConfig(members=tuple(members), widths=tuple(widths), embedding_dim=min(dim, sum(widths)))
    shards.require(config.groups_to_view())
    with weights_to_come():
        joined = Joined(config, shards.metadata)
    for own, task in zip(joined.tasks, tasks, strict=True):
        own.load_state_dict(task.state_dict())
    joined.fitted = False
    return joined.eval()


@torch.inference_mode()
def _widths(tasks: Sequence[Task]) -> list[int]:
    """Widths of the parts, measured on a gray image."""
    inputs = inputs_of(tasks, np.full((64, 64, 3), 128, np.uint8), None)
    _, parts = parts_of(tasks, as_batch([inputs], torch.device("cpu")))
    return [part.shape[1] for part in parts]


def _rows(lead: Task, config: RunConfig, shards: ShardSet) -> np.ndarray:
    """Training rows of the leading run: at most `_MAX_IMAGES`, evenly spaced."""
    rows = Splits(lead, config, shards).training_images()
    if len(rows) == 0:
        raise UsageError(
            f"{shards.location}: has no {config.train_split} split; use the shard set that the runs were trained on"
        )
    return rows[:: -(-len(rows) // _MAX_IMAGES)]
