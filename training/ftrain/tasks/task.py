"""What a task is: a module whose forward gives losses, with the encoder of its samples and the metrics of its predictions.

A task knows nothing of devices, ranks, optimisers, averaging or files. A new model is one file in `ftrain/tasks/` with a
subclass of `Task`, and one section in params.yaml; the command line finds it by its `name`.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, Encoder
from ftrain.data.types import EvaluatedSplit, Results, Rows
from ftrain.tasks import check_task_name, task_names


class Task(nn.Module):
    """Base of all models. Subclasses set the class variables and write the abstract methods."""

    name: ClassVar[str]
    needs: tuple[str, ...]  # column groups of a shard set; those of an instance follow its configuration and labels
    Config: ClassVar[type[TaskConfig]]

    selected_by: tuple[str, Literal["min", "max"]]  # metric that names the best checkpoint
    key_metrics: tuple[
        str, ...
    ] = ()  # what runs are compared by, the most important first: see `ftrain.use.key_metrics`
    encoder: Encoder  # picklable; runs in workers

    def __init__(self, config: TaskConfig, dataset: dict[str, Any]) -> None:
        """`dataset` is the dataset.json of the shard set: landmark set, vocabularies, column groups."""
        super().__init__()
        self.config = config
        self.dataset = dataset
        self.needs = self.needed_groups(config)

    @classmethod
    def needed_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """The column groups that a configuration needs: `needs`, unless a task has several targets, and what its view needs."""
        return (*cls.needs, *config.groups_to_view())

    def label_groups(self) -> tuple[str, ...]:
        """The column groups without which a sample cannot be evaluated: what a set must agree on with a trained task."""
        return self.needs

    @classmethod
    def rows_of_interest(cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """The rows of a split that this task uses; all of them unless a subclass says otherwise."""
        del config, columns
        return rows

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """The splits of a shard set that together are the split that a user names: retrieval evaluates query and gallery at once."""
        del known
        return (split,)

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """What the samplers `balanced` and `identities` go by, one string per row of the index, "" for unknown."""
        del config, columns
        return None

    @classmethod
    def names_to_learn(
        cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray
    ) -> dict[str, list[str]]:
        """Names of the training `rows` alone that a model has classes for, such as items: {"item": [...]}.

        A task finds them under `names` in the dataset.json that it is built with; the run folder keeps them there.
        """
        del config, columns, rows
        return {}

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """What dataset.json would say (see `ftrain.tasks.published`) of the data set that the task was published on.

        `ftrain summary` builds a network on it where there is no shard set. Raises `UsageError` where there is none.
        """
        del config
        raise UsageError(f"the task {cls.name} has no published data set; give --shards SHARDS")

    def check_training(self, rows: Rows) -> list[str]:
        """What will not be learned from these rows, a sentence each; raises `UsageError` where nothing can be learned at all."""
        del rows
        return []

    def check_validation(self, rows: Rows) -> None:
        """Raise `UsageError` where the figure that chooses checkpoints cannot be measured on these rows."""
        del rows

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses of a batch: `loss` (a scalar to minimise) and its parts, for the log."""

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Predictions and what is needed to evaluate them, first dimension B; no gradient, no randomness."""

    @abstractmethod
    def measure(self, results: Results) -> dict[str, Any]:
        """Metrics of predictions gathered over a whole split; plain JSON values."""

    def report(self, evaluated: EvaluatedSplit, out: Path) -> dict[str, Any]:
        """What `ftrain evaluate` says of a split, plain JSON values with `model` among them; may write tables and plots.

        Without a subclass's own report these are the metrics alone.
        """
        del out
        return {"model": self.measure(evaluated.results)}

    @classmethod
    def summary(cls, metrics: dict[str, Any]) -> Iterator[str]:
        """The metrics of `report` as lines of a short table for a person; those of `model`, one a line, unless written anew."""
        for name, value in metrics["model"].items():
            if isinstance(value, float):
                yield f"{name:<24}{value:.4f}"

    def untrained(self) -> Task | None:
        """The same task before it learnt anything, with its backbone's given weights, as a baseline; None where it says nothing."""
        return None

    def use_turned_views(self, turned: bool | None) -> None:
        """Test-time augmentation: every view that the task knows, the plain one alone (False), or (None) as the configuration says."""
        if turned:
            raise UsageError(f"the task {self.name} has no test-time augmentation; leave --tta out")

    def check_category(self, category: str | None) -> None:
        """Raise `UsageError` unless images can be predicted as that category, or (None) without being told one."""
        if category is not None:
            raise UsageError(f"the task {self.name} takes no category; leave --category out")

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """What `predict` needs of an image that stands in no shard: uint8 H, W, 3, upright RGB.

        Of a task that is shown boxes the whole image is taken, unless `box` says where the garment is.
        """
        del image, box
        raise UsageError(f"the task {self.name} cannot be shown single images")

    def answer(self, results: Results, number: int, category: str | None = None) -> dict[str, Any]:
        """What is said of image `number` of a predicted batch, in plain JSON values."""
        del results, number, category
        raise UsageError(f"the task {self.name} cannot be shown single images")

    def draw(self, image: np.ndarray, answer: dict[str, Any]) -> np.ndarray:
        """An answer drawn on its image, which may have been resized since it was predicted; uint8 RGB of any size."""
        del answer
        return image


def tasks() -> dict[str, type[Task]]:
    """All tasks by name: every module of `ftrain.tasks` is imported and its `Task` subclass taken."""
    return {name: find_task(name) for name in task_names()}


def find_task(name: str) -> type[Task]:
    """The task class of that name; raises `UsageError` with the known names."""
    if find_spec(f"ftrain.tasks.{name}") is None:
        check_task_name(name)
    members = vars(importlib.import_module(f"ftrain.tasks.{name}.task")).values()
    return next(
        member
        for member in members
        if isinstance(member, type) and issubclass(member, Task) and vars(member).get("name") == name
    )
