"""What a task is: a module whose forward gives losses, with the encoder of its samples and the metrics of its predictions.

A task knows nothing of devices, ranks, optimisers, averaging or files. A new model is one file in `ftrain/tasks/` with a
subclass of `Task`, and one section in params.yaml; the command line finds it by its `name`.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from fschemas.failures import UsageError
from ftrain.stream import Batch, Encoder

Results = dict[str, np.ndarray]


class TaskConfig(BaseModel):
    """Base of the frozen `model` section of a task."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(TaskConfig):
    """A stretch of a run: parameters whose names start with one of `frozen` rest, rates are multiplied, losses weighed."""

    until: float = 1.0  # share of the steps at which the stage ends
    frozen: tuple[str, ...] = ()
    rate: float = 1.0
    losses: dict[str, float] = {}  # weight of each part of the loss; 1 where not named


class Task(nn.Module):
    """Base of all models. Subclasses set the class variables and write the abstract methods."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # column groups of a shard set
    Config: ClassVar[type[TaskConfig]]
    selected_by: ClassVar[tuple[str, Literal["min", "max"]]]  # metric that names the best checkpoint

    encoder: Encoder  # picklable; runs in workers

    def __init__(self, config: TaskConfig, dataset: dict[str, Any]) -> None:
        """`dataset` is the dataset.json of the shard set: landmark set, vocabularies, column groups."""
        super().__init__()
        self.config = config
        self.dataset = dataset

    @classmethod
    def rows_of_interest(cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """The rows of a split that this task uses; all of them unless a subclass says otherwise."""
        del config, columns
        return rows

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses of a batch: `loss` (a scalar to minimise) and its parts, for the log."""

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Predictions and what is needed to judge them, first dimension B; no gradient, no randomness."""

    @abstractmethod
    def measure(self, results: Results) -> dict[str, Any]:
        """Metrics of predictions gathered over a whole split; plain JSON values."""


def tasks() -> dict[str, type[Task]]:
    """All tasks by name: every module of `ftrain.tasks` is imported and its `Task` subclasses taken."""
    import ftrain.tasks

    found: dict[str, type[Task]] = {}
    for module in pkgutil.iter_modules(ftrain.tasks.__path__):
        members = vars(importlib.import_module(f"ftrain.tasks.{module.name}")).values()
        for member in members:
            if isinstance(member, type) and issubclass(member, Task) and member is not Task and "name" in vars(member):
                found[member.name] = member
    return found


def find_task(name: str) -> type[Task]:
    """The task class of that name; raises `UsageError` with the known names."""
    known = tasks()
    if name not in known:
        raise UsageError(f"unknown task {name!r}; known are {', '.join(sorted(known))}")
    return known[name]
