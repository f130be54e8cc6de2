"""The task contract: an `nn.Module` whose `forward` returns losses, plus the encoder that turns samples into inputs.

A task knows nothing about devices, ranks, optimizers, EMA or files. A new model is one folder in `ftrain/tasks/`:
`task.py` with a subclass of `Task`, `config.py` with its configuration, and the modules that `task_function` searches
for metrics, reports and predictions. The name of the folder is that of the task and of its command.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
import torch
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import BackboneConfig, RunConfig, TaskConfig, ViewConfig, Views
from ftrain.data.device_view import render_batch
from ftrain.data.stream import Batch, Encoder
from ftrain.data.types import EvaluatedSplit, Results, Rows
from ftrain.data.view import encoded_image
from ftrain.tasks import check_task_name, task_names

# Module of the folder of a task in which `task_function` looks for each function.
TASK_FUNCTIONS = {
    "compute_metrics": "metrics", "report": "report", "summary": "report", "describe": "answer", "draw": "answer", "check_category": "answer",
}  # fmt: skip
_ROTATIONS = (-10.0, 10.0)  # degrees, if rotations are requested and the configuration has none


class Task(nn.Module):
    """Base class of all models. Subclasses set the class variables and implement the abstract methods."""

    name: ClassVar[str]  # that of the folder that contains task.py
    needs: tuple[str, ...]  # required column groups; those of an instance depend on its configuration and labels
    Config: ClassVar[type[TaskConfig]]

    selected_by: tuple[str, Literal["min", "max"]]  # metric that selects the best checkpoint
    key_metrics: tuple[str, ...] = ()  # metrics for comparing runs, most important first; see `ftrain.use.key_metrics`
    view_kinds: ClassVar[tuple[str, ...]] = ()  # fields of `Views` supported by `predict`
    encoder: Encoder  # picklable; runs in workers

    def __init_subclass__(cls) -> None:
        folder, _, module = cls.__module__.rpartition(".")
        if module == "task":
            cls.name = folder.rpartition(".")[2]

    def __init__(self, config: TaskConfig, dataset: dict[str, Any]) -> None:
        """`dataset` is the dataset.json of the shard set: landmark set, vocabularies, column groups."""
        super().__init__()
        self.config = config
        self.dataset = dataset
        self.needs = self.needed_groups(config)
        self.set_tta(None)

    @classmethod
    def needed_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return the column groups a configuration needs: `needs`, unless overridden, and those of its view."""
        return (*cls.needs, *config.groups_to_view())

    @classmethod
    def optional_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return the column groups that are learned from a set that has them, besides those that are needed."""
        del config
        return ()

    def label_groups(self) -> tuple[str, ...]:
        """Return the column groups needed for evaluation, which a shard set must have in common with a trained task."""
        return self.needs

    @classmethod
    def rows_of_interest(cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return the rows of a split that this task uses; all of them by default."""
        del config, columns
        return rows

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """Return the splits that make up the split given by the user, such as query and gallery for retrieval."""
        del known
        return (split,)

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return labels for the samplers of classes and of identities: one string per index row, "" if unknown."""
        del config, columns
        return None

    def labels_to_sample(self, rows: Rows, *, identities: bool = False) -> np.ndarray | None:
        """Return `sampling_labels`, or labels that are only in the annotations of `rows`: one string per index row.

        `identities` asks for those of P x K batches, if a task has others for balanced ones.
        """
        del identities
        return self.sampling_labels(self.config, rows.shards.columns)

    def compared(self, rows: Rows) -> np.ndarray | None:
        """Return the labels that a triplet loss compares, int64 N, A (-1: unknown); None without such a loss."""
        del rows
        return None

    def observe_training(self, rows: Rows) -> None:
        """Take from the training rows what the losses need, such as class frequencies; called before the first step."""
        del rows

    @classmethod
    def names_to_learn(
        cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray
    ) -> dict[str, list[str]]:
        """Return class names that only the training `rows` provide, such as items: {"item": [...]}.

        The task finds them under `names` in the dataset.json it is built with; the run folder stores them there.
        """
        del config, columns, rows
        return {}

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """Return the dataset.json of the data set the task was published on (see `ftrain.tasks.published`).

        `ftrain summary` builds the network from it if there is no shard set. Raises `UsageError` if there is none.
        """
        del config
        raise UsageError(f"the task {cls.name} has no published data set; set --shards SHARDS")

    def check_training(self, rows: Rows) -> list[str]:
        """Return a warning per label that these rows cannot train. Raises `UsageError` if no label can be trained."""
        del rows
        return []

    def check_validation(self, rows: Rows) -> None:
        """Raise `UsageError` if the metric that selects checkpoints cannot be computed on these rows."""
        del rows

    def view_config(self) -> ViewConfig:
        """Return the configuration of the images that the encoder prepares. Raises `UsageError` if there is none."""
        if not isinstance(self.config, ViewConfig):
            raise UsageError(
                f"the task {self.name} has no model.input_size, so it can neither predict single images nor take --transforms device"
            )
        return self.config

    @torch.no_grad()
    def prepare(self, batch: Batch) -> Batch:
        """Return the batch for `forward` and `predict`: render the views, unless the data workers have.

        Called on the device of the batch, and without waiting for it.
        """
        return render_batch(batch, self.view_config().input_size) if "sampling" in batch else batch

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the scalar `loss` of a batch and its parts, for logging.

        `batch` holds the arrays of the task's encoder, stacked to B, ..., such as `image` (uint8 B, S, S, 3).
        """

    def gather(self, values: Tensor) -> Tensor:
        """Return `values` B, ... of the whole global batch, in the order of its images and with their gradients.

        A loss that compares images, such as a triplet loss, passes the embeddings and labels it compares through here;
        otherwise, it would see only the images of its micro-batch and process. All other losses must be means over the
        images of `batch`. The training loop replaces this method; elsewhere, the batch is all there is.
        """
        return values

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Return predictions, and the ground truth needed to evaluate them, as tensors with first dimension B.

        `batch` is as for `forward`; ground truth may be missing. Deterministic, without gradients.
        """

    def validate(self, batch: Batch) -> Batch:
        """Return what the selecting metric reads of `predict`; everything, unless a task can leave out costly parts."""
        return self.predict(batch)

    def untrained(self) -> Task | None:
        """Return the task with its initial weights, as a baseline; None if such a baseline is meaningless."""
        return None

    def fresh(self) -> Self:
        """Return the task with new weights from seed 0, in evaluation mode, with the same test-time augmentation."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            fresh = type(self)(self.config, self.dataset).eval()
        fresh.views = self.views
        return fresh

    def set_tta(self, views: Views | bool | None) -> None:
        """Choose the views of test-time augmentation.

        `views` are explicit views, True for all views the task supports, False for the plain image alone, or None for
        those of the configuration. Raises `UsageError` for views the task does not support.
        """
        own = self.config.tta if isinstance(self.config, BackboneConfig) else Views()
        if views is True:
            if not self.view_kinds:
                raise UsageError(f"the task {self.name} has no test-time augmentation; omit --tta")
            rotations = own.rotations or _ROTATIONS if "rotations" in self.view_kinds else ()
            views = Views(flip="flip" in self.view_kinds, rotations=rotations, scales=own.scales)
        self.views = own if views is None else views or Views()
        if unknown := [kind for kind, value in self.views if value and kind not in self.view_kinds]:
            raise UsageError(f"the task {self.name} has no test-time augmentation by {unknown[0]}")

    def set_dim(self, dim: int | None) -> None:
        """Predict the first `dim` dimensions of the embedding; None: all. Raises `UsageError` for a task that cannot."""
        if dim is not None:
            raise UsageError(f"the task {self.name} has embeddings of one dimension only; omit --dim {dim}")

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """Return the inputs of `predict` for an image outside a shard: uint8 H, W, 3, upright RGB.

        A task that crops to bounding boxes uses the whole image unless `box` (x1, y1, x2, y2 in pixels) is given.
        """
        return encoded_image(self.view_config(), image, box)


@overload
def task_function(
    task: Task | type[Task], name: Literal["compute_metrics"]
) -> Callable[[Any, Results], dict[str, Any]]: ...
@overload
def task_function(
    task: Task | type[Task], name: Literal["report"]
) -> Callable[[Any, EvaluatedSplit, Path], dict[str, Any]]: ...
@overload
def task_function(task: Task | type[Task], name: Literal["summary"]) -> Callable[[dict[str, Any]], Iterator[str]]: ...
@overload
def task_function(task: Task | type[Task], name: Literal["describe"]) -> Callable[..., dict[str, Any]]: ...
@overload
def task_function(
    task: Task | type[Task], name: Literal["draw"]
) -> Callable[[Any, np.ndarray, dict[str, Any]], np.ndarray]: ...
@overload
def task_function(task: Task | type[Task], name: Literal["check_category"]) -> Callable[[Any, str | None], None]: ...
def task_function(task: Task | type[Task], name: str) -> Callable[..., Any]:
    """Find a function that handles the predictions of a task, in its folder or that of a base task.

    - `metrics.py`: `compute_metrics(task, results) -> dict` computes metrics (JSON values) of the predictions of a split.
    - `report.py`: `report(task, evaluated, out) -> dict` returns the results of `ftrain evaluate` (JSON values,
      including `model`) and may write tables and plots; `summary(metrics) -> Iterator[str]` yields them as text lines.
    - `answer.py`: `describe(task, results, index) -> dict` returns the prediction for image `index` of a batch (JSON
      values); `draw(task, image, prediction) -> image` draws it on the image (uint8 RGB), which may have been resized
      since; `check_category(task, category)` raises `UsageError` if images cannot be predicted as that category (None:
      any), and then `describe` takes the category as a fourth argument, if there is one.

    Modules are imported on demand, so that prediction does not load plotting. `ftrain.tasks` itself has the defaults.
    """
    kind = task if isinstance(task, type) else type(task)
    for base in kind.__mro__:
        module = f"{base.__module__.rpartition('.')[0]}.{TASK_FUNCTIONS[name]}"
        if not issubclass(base, Task):
            break
        if not module.startswith(".") and find_spec(module) is not None:
            members = vars(importlib.import_module(module))
            if name in members:
                return members[name]
            functions = [function for function, file in TASK_FUNCTIONS.items() if file == TASK_FUNCTIONS[name]]
            assert members.keys() & functions, f"{module} defines none of {', '.join(functions)}"
    raise NotImplementedError(f"the task {kind.name} has no {name} in {TASK_FUNCTIONS[name]}.py")


def tasks() -> dict[str, type[Task]]:
    """Return all tasks by name, importing their modules."""
    return {name: find_task(name) for name in task_names()}


def find_task(name: str) -> type[Task]:
    """Return the task class of that name; raises `UsageError` with the known names."""
    if find_spec(f"ftrain.tasks.{name}") is None:
        check_task_name(name)
    module = importlib.import_module(f"ftrain.tasks.{name}.task")
    found = [
        member for member in vars(module).values()
        if isinstance(member, type) and issubclass(member, Task) and member.__module__ == module.__name__
    ]  # fmt: skip
    assert found, f"{module.__name__} defines no Task"
    return found[0]


def build_task(config: RunConfig, dataset: dict[str, Any]) -> Task:
    """Build the task of a configuration for the landmark set and vocabularies of `dataset`."""
    task = find_task(config.task)
    return task(task.Config(**config.model), dataset)
