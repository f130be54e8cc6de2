"""What a task is: a module whose forward gives losses, with the encoder of its samples. A task knows nothing of devices, ranks,
optimizers, averaging or files.

A new model is one folder in `ftrain/tasks/`: `task.py` with a subclass of `Task`, `config.py` with its configuration, and the
modules in which `part` looks for what is done with its predictions. The command line finds it by its `name`.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import nn

from fschemas.failures import UsageError
from ftrain.data.config import TaskConfig, ViewConfig
from ftrain.data.stream import Batch, Encoder
from ftrain.data.types import Rows
from ftrain.data.view import encoded_image
from ftrain.tasks import check_task_name, task_names

_MODULES = {
    "measure": "metrics", "report": "report", "summary": "report", "answer": "answer", "draw": "answer", "check_category": "answer",
}  # fmt: skip
_ROTATIONS = (-10.0, 10.0)  # degrees, if rotations are asked for and the configuration has none
Part = Literal["measure", "report", "summary", "answer", "draw", "check_category"]


@dataclass(frozen=True)
class Views:
    """What test-time augmentation averages over: the plain image and these.

    `flip`: each view is flipped left to right as well. `rotations`: degrees; positive ones take the y axis towards the x axis.
    `scales`: factors by which the image is enlarged around its center.
    """

    flip: bool = False
    rotations: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()


class Task(nn.Module):
    """Base of all models. Subclasses set the class variables and write the abstract methods."""

    name: ClassVar[str]
    needs: tuple[str, ...]  # column groups of a shard set; those of an instance follow its configuration and labels
    Config: ClassVar[type[TaskConfig]]

    selected_by: tuple[str, Literal["min", "max"]]  # the metric that chooses the best checkpoint
    key_metrics: tuple[str, ...] = ()  # what runs are compared by, most important first: see `ftrain.use.key_metrics`
    view_kinds: ClassVar[tuple[str, ...]] = ()  # fields of `Views` that `predict` can average over
    encoder: Encoder  # picklable; runs in workers

    def __init__(self, config: TaskConfig, dataset: dict[str, Any]) -> None:
        """`dataset` is the dataset.json of the shard set: landmark set, vocabularies, column groups."""
        super().__init__()
        self.config = config
        self.dataset = dataset
        self.needs = self.needed_groups(config)
        self.set_tta(None)

    @classmethod
    def needed_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """The column groups that a configuration needs: `needs`, unless a task has several targets, and those of its view."""
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
        """The splits of a shard set that together are the split a user names: retrieval evaluates query and gallery at once."""
        del known
        return (split,)

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """What the samplers `balanced` and `identities` go by: one string per row of the index, "" for unknown."""
        del config, columns
        return None

    @classmethod
    def names_to_learn(
        cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray
    ) -> dict[str, list[str]]:
        """Names that a model has classes for and that only the training `rows` tell, such as items: {"item": [...]}.

        A task finds them under `names` in the dataset.json that it is built with; the run folder keeps them there.
        """
        del config, columns, rows
        return {}

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """What dataset.json would say (see `ftrain.tasks.published`) of the data set that the task was published on.

        `ftrain summary` builds a network on it when there is no shard set. Raises `UsageError` if there is none.
        """
        del config
        raise UsageError(f"the task {cls.name} has no published data set; give --shards SHARDS")

    def check_training(self, rows: Rows) -> list[str]:
        """What will not be learned from these rows, a sentence each; raises `UsageError` if nothing at all can be learned."""
        del rows
        return []

    def check_validation(self, rows: Rows) -> None:
        """Raise `UsageError` if the metric that chooses checkpoints cannot be measured on these rows."""
        del rows

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Losses of a batch: `loss` (a scalar to minimize) and its parts, for the log."""

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Predictions and what is needed to evaluate them, first dimension B; no gradient, no randomness."""

    def untrained(self) -> Task | None:
        """The same task before training, with its backbone's given weights, as a baseline; None if that says nothing."""
        return None

    def fresh(self) -> Self:
        """The same task with new weights from seed 0, in evaluation mode, with the same test-time augmentation."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            fresh = type(self)(self.config, self.dataset).eval()
        fresh.views = self.views
        return fresh

    def set_tta(self, views: Views | bool | None) -> None:
        """Choose the views of test-time augmentation: `views`, all that the task knows (True), the plain image alone (False),
        or those of the configuration (None). Raises `UsageError` for views that the task cannot average over.
        """
        own = Views(getattr(self.config, "flip_test", False), getattr(self.config, "tta_angles", ()))
        if views is True:
            if not self.view_kinds:
                raise UsageError(f"the task {self.name} has no test-time augmentation; leave --tta out")
            views = Views(
                "flip" in self.view_kinds, own.rotations or _ROTATIONS if "rotations" in self.view_kinds else ()
            )
        self.views = own if views is None else views or Views()
        if unknown := [kind for kind, value in vars(self.views).items() if value and kind not in self.view_kinds]:
            raise UsageError(f"the task {self.name} has no test-time augmentation by {unknown[0]}")

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """What `predict` needs of an image that is in no shard: uint8 H, W, 3, upright RGB.

        A task that looks at bounding boxes takes the whole image unless `box` says where the garment is.
        """
        if not isinstance(self.config, ViewConfig):
            raise UsageError(f"the task {self.name} cannot predict single images")
        return encoded_image(self.config, image, box)


def part(task: Task | type[Task], name: Part) -> Callable[..., Any]:
    """What is done with a task's predictions: a function of its folder, or of that of a task that it derives from.

    - `metrics.py`: `measure(task, results) -> dict`, the metrics of predictions gathered over a split, plain JSON values.
    - `report.py`: `report(task, evaluated, out) -> dict`, what `ftrain evaluate` says of a split, plain JSON values with `model`
      among them, and may write tables and plots; `summary(metrics) -> Iterator[str]`, its lines for a person.
    - `answer.py`: `answer(task, results, number, category=None) -> dict`, what is said of image `number` of a predicted batch, plain
      JSON values; `draw(task, image, answer) -> image`, drawn on the image (uint8 RGB), which may have been resized since;
      `check_category(task, category)`, which raises `UsageError` unless images can be predicted as that category (None: any).

    The modules are imported here, so that a run that predicts waits for no plots. `ftrain.tasks` itself has the defaults.
    """
    kind = task if isinstance(task, type) else type(task)
    for base in kind.__mro__:
        place = f"{base.__module__.rpartition('.')[0]}.{_MODULES[name]}"
        if not issubclass(base, Task):
            break
        if not place.startswith(".") and find_spec(place) is not None:
            found = getattr(importlib.import_module(place), name, None)
            if found is not None:
                return found
    raise NotImplementedError(f"the task {kind.name} has no {name} in {_MODULES[name]}.py")


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
