"""Several runs as one that searches: what each of them sees in an image and says of it, side by side in one embedding.

A network that is fine-tuned forgets some of what its given weights told apart, one that learnt attributes knows what products
do not teach, one that is shown the garment alone sees more of it. `ftrain join` (see `ftrain.search.join`) puts them together
without a step of training; evaluate, predict, describe, index and query take the joined run as any other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fschemas.failures import UsageError
from ftrain.data.config import TaskConfig
from ftrain.data.image import decode
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.layers.backbone import Backbone
from ftrain.tasks.retrieval.encoder import RetrievalEncoder
from ftrain.tasks.retrieval.task import Retrieval
from ftrain.tasks.task import Task, Views, find_task

_SCORES = ("attribute_scores", "category_scores")  # what a run without an embedding says
_LEAST_SCORE = (
    1e-4  # smaller probabilities are taken as this, so that a class that was never seen does not outweigh all others
)


class Member(TaskConfig):
    """One of the runs: its task and configuration, the facts of its shard set, whether it has learnt anything."""

    task: str
    model: dict[str, Any]
    dataset: dict[str, Any]
    learnt: bool = True  # False: the backbone with its given weights, as `Task.untrained` has it

    def build(self) -> Task:
        """The task, with weights as they come."""
        kind = find_task(self.task)
        built = kind(kind.Config(**self.model), self.dataset)
        if isinstance(built, Retrieval):
            built.learnt = self.learnt
        return built


class JoinedConfig(TaskConfig):
    """The runs, the first of which is one of retrieval and says what is found again, and the sizes of what they give."""

    members: tuple[Member, ...] = Field(min_length=1)
    widths: tuple[int, ...]  # of the parts: of each run what it sees and, if it learnt something, what it says
    embedding_dim: int = Field(512, ge=1)  # of the embedding

    def groups_to_view(self) -> tuple[str, ...]:
        """What any of the runs needs to be shown a sample."""
        configs = [find_task(member.task).Config(**member.model) for member in self.members]
        return tuple(dict.fromkeys(group for config in configs for group in config.groups_to_view()))


@dataclass(frozen=True)
class JoinedEncoder:
    """Sample to the inputs of every run, named `0.image`, `1.image`, …; the first one's hold the labels that it is evaluated by."""

    members: tuple[Task, ...]
    lead: RetrievalEncoder

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Nothing is random; a joined run does not train."""
        del generator
        image = decode(sample.image)[0]
        labels = {f"0.{name}": value for name, value in self.lead.labels(sample.annotation).items()}
        return {**inputs_of(self.members, image, sample.annotation.get("box")), **labels}


class Joined(Task):
    """The joined runs. Until `fit` has seen training images, `predict` gives the parts themselves, as `parts`."""

    name = "joined"
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
        """The runs, the first one of retrieval."""
        return tuple(self.members)  # type: ignore[arg-type]

    @property
    def lead(self) -> Retrieval:
        """The first of the runs."""
        return self.members[0]  # type: ignore[return-value]

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """As `ftrain retrieval` has them."""
        return Retrieval.splits_of(split, known)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Never: there is nothing to train."""
        del batch
        raise UsageError("joined runs are not trained; train the runs, then join them again")

    @torch.no_grad()
    def fit(self, parts: Tensor) -> None:
        """Learn means and the projection from the parts N, sum of `widths`, of N training images.

        Each part is centered and brought to length 1, so that each counts alike. Of the `dim` principal components of all together
        the strong ones are weakened, by the fourth root of their variance: half of a whitening (Jégou and Chum, ECCV 2012).
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
        """`embedding` B, D of length 1; all else (`attention`, `color`, labels) is the first run's."""
        said, parts = parts_of(self.tasks, batch)
        if not self.fitted:
            return {"parts": torch.cat(parts, dim=1)}
        joined = self._units(torch.cat(parts, dim=1) - self.part_means) - self.mean
        return {**said, "embedding": F.normalize(joined @ self.projection.T, dim=1)}

    def check_validation(self, rows: Rows) -> None:
        """As the first run: what it learned to find again is what the joined one is evaluated by."""
        self.lead.check_validation(rows)

    def untrained(self) -> Task:
        """The backbone of the first run, as it was given."""
        return self.lead.untrained()

    def set_tta(self, views: Views | bool | None) -> None:
        """Those of each run: on, off, or as its configuration says."""
        self.views = Views()
        for task in self.tasks if hasattr(self, "members") else ():
            task.set_tta(views)

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """The inputs of every run; a box is for those that look at it."""
        return inputs_of(self.tasks, image, box)

    def exportable(self) -> tuple[nn.Module, Batch]:
        """Never: what the runs see is taken out of the middle of their networks."""
        raise UsageError("joined runs cannot be exported; export each of them")

    def _units(self, parts: Tensor) -> Tensor:
        """Every part brought to length 1."""
        return torch.cat([F.normalize(part, dim=1) for part in parts.split(list(self.config.widths), dim=1)], dim=1)


def inputs_of(tasks: Sequence[Task], image: np.ndarray, box: Sequence[float] | None) -> dict[str, np.ndarray]:
    """The inputs of some tasks for an image, uint8 H, W, 3, each named after its number."""
    inputs = [task.encode_image(image, box) for task in tasks]
    return {f"{number}.{name}": value for number, one in enumerate(inputs) for name, value in one.items()}


def parts_of(tasks: Sequence[Task], batch: Batch) -> tuple[Batch, list[Tensor]]:
    """What the first task predicts, and the parts B, width of all, float32.

    Of each task what its backbone sees: mean and deviation over places of the deepest features, unturned; then, unless it is an
    untrained one, what it says: its embedding, or the logarithms of its scores. Raises `UsageError` for a task without a backbone.
    """
    first: Batch = {}
    parts: list[Tensor] = []
    for number, task in enumerate(tasks):
        own = {name.removeprefix(f"{number}."): value for name, value in batch.items() if name.startswith(f"{number}.")}
        said, seen = _watched(task, own)
        first = first or said
        parts += [torch.cat([seen.mean(dim=(2, 3)), seen.std(dim=(2, 3), correction=0)], dim=1), *_sayings(said)]
    return first, parts


def _watched(task: Task, batch: Batch) -> tuple[Batch, Tensor]:
    """What a task predicts, nothing if it is an untrained one, and the deepest features B, C, h, w of the unturned image."""
    backbone = next((module for module in task.modules() if isinstance(module, Backbone)), None)
    if backbone is None:
        raise UsageError(f"runs of {task.name} cannot be joined: their network has no backbone to look into")
    if not getattr(task, "learnt", True):
        return {}, backbone(batch["image"])[-1].float()
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor], features: list[Tensor]) -> None:
        del module, inputs
        seen.append(features[-1].float())

    watch = backbone.register_forward_hook(look)
    try:
        return task.predict(batch), seen[0]
    finally:
        watch.remove()


def _sayings(said: Batch) -> list[Tensor]:
    """The embedding, or else the scores as logarithms; none where a task gives neither."""
    if "embedding" in said:
        return [said["embedding"].float().flatten(1)]
    scores = [said[name].float().clamp_min(_LEAST_SCORE).log() for name in _SCORES if name in said]
    return [torch.cat(scores, dim=1)] if scores else []
