"""Several runs joined for search: backbone features and outputs of each run, concatenated into one embedding.

Fine-tuning loses some of the pretrained features, a run trained on attributes knows what product labels do not teach,
and a run on cropped garments sees more detail. `ftrain join` (see `ftrain.search.join`) combines them without training;
evaluate, predict, describe, index and query accept the joined run like any other.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import TaskConfig, Views
from ftrain.data.image import decode
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import SEEN
from ftrain.layers.backbone import Backbone
from ftrain.tasks.retrieval.task import Retrieval, RetrievalEncoder
from ftrain.tasks.task import Task, find_task

_SCORES = ("attribute_scores", "category_scores")  # outputs used for a run without an embedding
# Smaller probabilities are clamped to this, so that a class never seen in training does not dominate.
_MIN_SCORE = 1e-4


class Member(TaskConfig):
    """One of the runs: its task and configuration, the dataset.json of its shard set, and whether it was trained."""

    task: str
    model: dict[str, Any]
    dataset: dict[str, Any]
    trained: bool = True  # False: the backbone with its initial weights, as in `Task.untrained`

    def build(self) -> Task:
        """Build the task, without loading a checkpoint."""
        kind = find_task(self.task)
        built = kind(kind.Config(**self.model), self.dataset)
        if isinstance(built, Retrieval):
            built.trained = self.trained
        return built


class JoinedConfig(TaskConfig):
    """The joined runs (the first must be a retrieval run and defines the identity), and the output sizes of each."""

    members: tuple[Member, ...] = Field(min_length=1)
    widths: tuple[int, ...]  # of the parts: per run its backbone features and, if it was trained, its output
    embedding_dim: int = Field(512, ge=1)  # of the embedding

    def groups_to_view(self) -> tuple[str, ...]:
        """Return the column groups that any of the runs needs to view a sample."""
        configs = [find_task(member.task).Config(**member.model) for member in self.members]
        return tuple(dict.fromkeys(group for config in configs for group in config.groups_to_view()))


@dataclass(frozen=True)
class JoinedEncoder:
    """Turn a sample into the inputs of every run, named `0.image`, `1.image`, …, and the labels of the first run."""

    members: tuple[Task, ...]
    lead: RetrievalEncoder

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Nothing is random, because a joined run is not trained."""
        del generator
        image = decode(sample.image)
        labels = {f"0.{name}": value for name, value in self.lead.labels(sample.annotation).items()}
        return {**inputs_of(self.members, image, sample.annotation.get(SEEN, sample.annotation.get("box"))), **labels}


class Joined(Task):
    """The joined runs. Before `fit`, `predict` returns the unprojected `parts`."""

    needs = ()
    Config = JoinedConfig
    selected_by = ("map", "max")
    key_metrics = Retrieval.key_metrics

    def __init__(self, config: JoinedConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: JoinedConfig = config
        self.members = nn.ModuleList([member.build() for member in config.members])
        self.encoder = JoinedEncoder(self.tasks, self.lead.encoder)  # type: ignore[arg-type]
        width = sum(config.widths)
        self.register_buffer("part_means", torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("projection", torch.zeros(config.embedding_dim, width))
        self.part_means: Tensor
        self.mean: Tensor
        self.projection: Tensor
        self.fitted = True
        self.requires_grad_(False)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The runs; the first is a retrieval run."""
        return tuple(self.members)  # type: ignore[arg-type]

    @property
    def lead(self) -> Retrieval:
        """The first run."""
        return self.members[0]  # type: ignore[return-value]

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """See the retrieval task."""
        return Retrieval.splits_of(split, known)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Raise `UsageError`: joined runs are not trained."""
        del batch
        raise UsageError("joined runs are not trained; train the runs, then join them again")

    @torch.no_grad()
    def fit(self, parts: Tensor) -> None:
        """Compute means and projection from the parts N, sum of `widths`, of N training images.

        Each part is centered and L2-normalized, so that all count equally. The `embedding_dim` strongest principal
        components of their concatenation are divided by the fourth root of their variance: half of a whitening (Jégou
        and Chum, ECCV 2012).
        """
        parts = parts.double()
        self.part_means.copy_(parts.mean(dim=0))
        joined = self._units(parts - self.part_means.to(parts))
        self.mean.copy_(joined.mean(dim=0))
        centered = joined - self.mean.to(joined)
        variances, components = torch.linalg.eigh(centered.T @ centered / len(centered))
        strongest = slice(-self.config.embedding_dim, None)
        self.projection.copy_((components[:, strongest] / variances[strongest].clamp_min(1e-12) ** 0.25).T)
        self.fitted = True

    def predict(self, batch: Batch) -> Batch:
        """Return `embedding` B, D, L2-normalized; everything else (`attention`, `color`, labels) comes from the first run.

        `batch` holds the inputs of run `i` as `i.image`, ….
        """
        outputs, parts = parts_of(self.tasks, batch)
        if not self.fitted:
            return {"parts": torch.cat(parts, dim=1)}
        joined = self._units(torch.cat(parts, dim=1) - self.part_means) - self.mean
        return {**outputs, "embedding": F.normalize(joined @ self.projection.T, dim=1)}

    def check_validation(self, rows: Rows) -> None:
        """See the first run, which defines the identity."""
        self.lead.check_validation(rows)

    def untrained(self) -> Task:
        """Return the backbone of the first run with its initial weights."""
        return self.lead.untrained()

    def set_tta(self, views: Views | bool | None) -> None:
        """Set the views of each run: on, off, or as configured."""
        self.views = Views()
        for task in self.tasks if hasattr(self, "members") else ():
            task.set_tta(views)

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """Return the inputs of every run; only runs that crop use the box."""
        return inputs_of(self.tasks, image, box)

    def exportable(self) -> tuple[nn.Module, Batch]:
        """Raise `UsageError`: backbone features come from inside the networks."""
        raise UsageError("joined runs cannot be exported; export each of them")

    def _units(self, parts: Tensor) -> Tensor:
        """L2-normalize each part of B, sum of `widths`."""
        return torch.cat([F.normalize(part, dim=1) for part in parts.split(list(self.config.widths), dim=1)], dim=1)


def inputs_of(tasks: Sequence[Task], image: np.ndarray, box: Sequence[float] | None) -> dict[str, np.ndarray]:
    """Return the inputs of all tasks for an image, uint8 H, W, 3, each prefixed with the task's index."""
    inputs = [task.encode_image(image, box) for task in tasks]
    return {f"{number}.{name}": value for number, one in enumerate(inputs) for name, value in one.items()}


def parts_of(tasks: Sequence[Task], batch: Batch) -> tuple[Batch, list[Tensor]]:
    """Return the predictions of the first task, and the parts of all tasks, float32 B, width each.

    The first part of each task is the mean and standard deviation over positions of its deepest backbone features, for
    the unrotated image. A trained task adds a second: its embedding, or the logarithms of its scores. Raises
    `UsageError` for a task without a backbone.
    """
    first: Batch = {}
    parts: list[Tensor] = []
    for number, task in enumerate(tasks):
        own = {name.removeprefix(f"{number}."): value for name, value in batch.items() if name.startswith(f"{number}.")}
        outputs, seen = _outputs_and_features(task, own)
        first = first or outputs
        parts += [
            torch.cat([seen.mean(dim=(2, 3)), seen.std(dim=(2, 3), correction=0)], dim=1),
            *_prediction_features(outputs),
        ]
    return first, parts


def _outputs_and_features(task: Task, batch: Batch) -> tuple[Batch, Tensor]:
    """Return the predictions (empty if untrained) and deepest features B, C, h, w of the unrotated image."""
    backbone = next((module for module in task.modules() if isinstance(module, Backbone)), None)
    if backbone is None:
        raise UsageError(f"runs of {task.name} cannot be joined: their network has no backbone")
    if not getattr(task, "trained", True):
        return {}, backbone(batch["image"])[-1].float()
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor], features: list[Tensor]) -> None:
        del module, inputs
        seen.append(features[-1].float())

    hook = backbone.register_forward_hook(keep)
    try:
        return task.predict(batch), seen[0]
    finally:
        hook.remove()


def _prediction_features(outputs: Batch) -> list[Tensor]:
    """Return the embedding B, D, or else the log scores B, C; empty if the task outputs neither."""
    if "embedding" in outputs:
        return [outputs["embedding"].float().flatten(1)]
    scores = [outputs[name].float().clamp_min(_MIN_SCORE).log() for name in _SCORES if name in outputs]
    return [torch.cat(scores, dim=1)] if scores else []
