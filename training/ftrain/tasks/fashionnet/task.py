"""Train FashionNet: landmarks, category, attributes, embedding.

Liu et al., CVPR 2016. The network is in `network.py`. The paper's two steps, landmarks first, then the heads that pool
around them, are stages of a run (`fit.stages`). Differences from the original are listed in docs/models/fashionnet.md.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fschemas.failures import UsageError
from fschemas.landmarks import DEEPFASHION_8, LandmarkSet, Visibility
from fschemas.splits import QUERY_AND_GALLERY
from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import item_number, known_landmarks, landmarks_in_view, names_as_ids, view_of_sample
from ftrain.layers.affine import points_of_source
from ftrain.layers.attribute_loss import (
    attribute_targets,
    binary_loss,
    class_loss,
    exclusive_loss,
    exclusive_probabilities,
    group_masks,
)
from ftrain.layers.metric_learning import triplet_loss
from ftrain.tasks.fashionnet.config import FashionNetConfig, Head
from ftrain.tasks.fashionnet.labels import FashionNetLabels
from ftrain.tasks.fashionnet.landmark_pooling import visibility_classes
from ftrain.tasks.fashionnet.network import FashionNetOutputs, FashionNetwork, Heads, PoseOutputs
from ftrain.tasks.fashionnet.soft_argmax import map_loss
from ftrain.tasks.label_checks import counts_for_error, has_attributes, has_coordinates, has_pairs, lost_in_joining
from ftrain.tasks.published import published_dataset
from ftrain.tasks.task import Task

_UNIT = 0.1  # share of the input side; a point at this distance has loss 1
_SIGMA = 1.2  # of the heat map targets, in cells
_TARGETS = ("target", "visibility", "box", "garment", "category", "attributes", "item")

_LACKS = {
    "category": "the training images have one category at most",
    "attributes": "no training image has one",
    "embedding": "no item has two training images",
    "landmarks": "no training image has one with coordinates",
}


@dataclass(frozen=True)
class FashionNetEncoder:
    """Turn a sample into network input; one matrix transforms the image and its landmarks."""

    config: FashionNetConfig
    landmarks: LandmarkSet
    categories: dict[str, int]
    num_attributes: int
    has_items: bool

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return the image, landmarks, ground truth and labels of a sample.

        `image` is uint8 S, S, 3; `keypoints` K, 2 are in input pixels and `target` K, 2 in source pixels, with
        `keypoint_visibility` K and `visibility` K; `matrix` 2, 3 maps source to input; `size` 2 is the source's width and
        height. Labels: `garment`, and if available `category`, `attributes` A and `item`, -1 if unknown.
        """
        annotation, view = sample.annotation, view_of_sample(self.config, sample, generator)
        labels: dict[str, np.ndarray] = {}
        if self.categories:
            labels["category"] = np.array(self.categories[annotation["category"]], np.int64)
        if self.num_attributes:
            labels["attributes"] = attribute_targets(annotation, self.num_attributes)
        if self.has_items:
            labels["item"] = np.array(item_number(annotation["item"]), np.int64)
        return {
            **view.inputs,
            "matrix": view.matrix,
            **landmarks_in_view(annotation, self.landmarks, view),
            "garment": np.array(tuple(self.landmarks.garments).index(annotation["garment"]), np.int64),
            "size": np.array([annotation["width"], annotation["height"]], np.float32),
            **labels,
        }


class FashionNet(Task):
    """Landmarks and visibility, and from the features around them category, attributes and an embedding."""

    needs = ("landmarks",)
    Config = FashionNetConfig
    selected_by = ("quality", "max")
    key_metrics = (
        "ne",
        "ne_box",
        "visibility_accuracy",
        "top_1",
        "macro_f1",
        "attributes_top_1",
        "attributes_recall_5_micro",
        "hit_1",
        "map",
    )
    view_kinds = ("flip",)

    def __init__(self, config: FashionNetConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: FashionNetConfig = config
        self.landmarks = known_landmarks(dataset, self.name)
        heads = _heads(config, dataset)
        vocabularies = dataset["vocabularies"]
        attributes: dict[str, Any] = (
            vocabularies["attributes"] if "attributes" in heads else {"values": [], "groups": {}, "exclusive": False}
        )
        self.labels = FashionNetLabels(
            landmarks=self.landmarks, categories=vocabularies["category"]["values"] if "category" in heads else [],
            attributes=attributes["values"], types=attributes["groups"], exclusive=attributes["exclusive"],
        )  # fmt: skip
        groups = attributes["groups"].values() if attributes["exclusive"] else ()
        self.register_buffer("groups", group_masks(groups, len(attributes["values"])), persistent=False)
        self.groups: Tensor
        num_categories, num_attributes = len(self.labels.categories), len(self.labels.attributes)
        known = names_as_ids(dataset, "category") if num_categories else {}
        self.encoder = FashionNetEncoder(config, self.landmarks, known, num_attributes, "embedding" in heads)
        self.network = FashionNetwork(config, Heads(
            points=len(self.landmarks), category=num_categories, attributes=num_attributes,
            embedding=config.embedding_dim if "embedding" in heads else 0, auxiliary=num_categories if config.auxiliary_category_loss else 0,
        ))  # fmt: skip

    @classmethod
    def optional_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return the labels of the targets."""
        assert isinstance(config, FashionNetConfig)
        return tuple(map(_label_group, config.targets))

    def label_groups(self) -> tuple[str, ...]:
        """Landmarks, and the labels of the heads."""
        heads = _heads(self.config, self.dataset)
        return (*self.needs, *map(_label_group, heads))

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """`test` of a retrieval set is query and gallery; neither is used for validation."""
        pair = QUERY_AND_GALLERY["test"]
        return pair if split == "test" and split not in known and set(pair) <= set(known) else (split,)

    def labels_to_sample(self, rows: Rows, *, identities: bool = False) -> np.ndarray | None:
        """Return items for batches of P items x K images, and categories for balanced batches."""
        labels = rows.shards.columns.get("item" if identities else "category")
        return None if labels is None or not (labels != "").any() else labels

    def compared(self, rows: Rows) -> np.ndarray | None:
        """Return the items, N, 1, if there is an embedding."""
        return None if self.network.fusion.embedding is None else rows.numbers("item")[:, None]

    def check_training(self, rows: Rows) -> list[str]:
        """Require landmarks or labels; items with a second image for the embedding."""
        known = [("category", len(set(rows.names("category").tolist())) > 1)] if self.labels.categories else []
        known += [("attributes", has_attributes(rows))] if self.labels.attributes else []
        if self.network.fusion.embedding is not None:
            known.append(("embedding", has_pairs(rows.names("item"))))
        if not any(has_coordinates(annotation) for annotation in rows.annotations()):
            if not any(learned for _, learned in known):
                raise UsageError(
                    "no training image has a landmark with coordinates, and there are no labels to learn; choose another set"
                )
            known.append(("landmarks", False))
        lost = lost_in_joining(rows.shards, self.optional_groups(self.config))
        return [*lost, *(f"nothing is learned for {name}: {_LACKS[name]}" for name, learned in known if not learned)]

    def check_validation(self, rows: Rows) -> None:
        """Require visible landmarks, categories, attributes or items with a second image."""
        known = (
            (self.network.fusion.embedding is not None and has_pairs(rows.names("item")))
            or (self.labels.categories and len(rows.names("category")))
            or (self.labels.attributes and has_attributes(rows))
            or any(counts_for_error(annotation, self.landmarks) for annotation in rows.annotations())
        )
        if not known:
            raise UsageError("no image has a visible landmark or a label that the run learns")

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """DeepFashion: 8 landmarks, 50 categories, 1,000 attributes."""
        del config
        return published_dataset(
            ("landmarks", "category", "attributes"), DEEPFASHION_8,
            category="deepfashion-category-50", attributes="deepfashion-attribute-1000",
        )  # fmt: skip

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its parts.

        The parts are `landmarks`, `maps`, `visibility`, `auxiliary`, `category`, `attributes` and `triplet`; those
        without a head or labels are 0. All but the triplet loss are means over the images of the batch. `batch` holds
        the arrays of `FashionNetEncoder`, stacked.
        """
        config, seen = self.config, self.network(batch["image"])
        inside = ((batch["keypoints"] >= 0) & (batch["keypoints"] <= config.input_size - 1)).all(dim=2)
        parts = {**self._pose_losses(seen.pose, batch, inside)}
        zero = parts["landmarks"].new_zeros(())
        parts |= {"auxiliary": zero, "category": zero, "attributes": zero, "triplet": zero}
        if seen.category is not None:
            parts["category"] = class_loss(seen.category, batch["category"], config.label_smoothing)
        if seen.pose.auxiliary is not None:
            parts["auxiliary"] = class_loss(seen.pose.auxiliary, batch["category"], config.label_smoothing)
        if seen.attributes is not None and len(self.groups):
            targets = batch["attributes"]
            parts["attributes"] = exclusive_loss(seen.attributes, targets, self.groups, config.label_smoothing)
        elif seen.attributes is not None:
            parts["attributes"] = binary_loss(seen.attributes, batch["attributes"])
        if seen.embedding is not None:
            options: Any = {"margin": config.triplet_margin, "mining": config.mining}
            parts["triplet"] = triplet_loss(self.gather(seen.embedding), self.gather(batch["item"]), **options)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _pose_losses(self, pose: PoseOutputs, batch: Batch, inside: Tensor) -> dict[str, Tensor]:
        """Landmark losses use points with coordinates in view, visibility all points; cropped points are absent."""
        config, visibility = self.config, batch["keypoint_visibility"]
        located = inside & (visibility >= Visibility.OCCLUDED.value)  # plain numbers for torch.compile, not enums
        classes = visibility_classes(torch.where(inside, visibility, Visibility.ABSENT.value))
        wanted = torch.where(located[..., None], batch["keypoints"], pose.points.detach())
        squares = ((pose.points - wanted) / (_UNIT * config.input_size)).square().sum(dim=2)
        costs = squares if config.landmark_loss == "squared" else (squares + 1e-6).sqrt()
        counts = located.sum(dim=1).clamp_min(1)
        parts = {"landmarks": ((costs * located).sum(dim=1) / counts).mean(), "maps": costs.new_zeros(())}
        if pose.maps is not None:
            of_maps = map_loss(pose.maps, batch["keypoints"], located, config.map_stride, _SIGMA)
            parts["maps"] = config.maps_loss_weight * (of_maps.sum(dim=1) / counts).mean()
        parts["visibility"] = F.cross_entropy(pose.visibility.float().flatten(0, 1), classes.flatten())
        return parts

    def predict(self, batch: Batch) -> Batch:
        """Return `points` B, K, 2 in source pixels and `visibility_scores` B, K, 3 (visible, occluded, absent).

        Depending on the heads also `category_scores` B, C, `attribute_scores` B, A and `embedding` B, D. Points are
        clamped to the source image. The ground truth of the batch is passed on.
        """
        seen = self.network(batch["image"])
        views = [_probabilities(seen, self.groups)]
        if self.views.flip:
            views.append(self._flipped_back(_probabilities(self.network(batch["image"].flip(2)), self.groups)))
        found = {name: torch.stack([view[name] for view in views]).mean(dim=0) for name in views[0]}
        if "embedding" in found:
            found["embedding"] = F.normalize(found["embedding"], dim=1)
        found["points"] = points_of_source(found["points"], batch["matrix"], batch["size"])
        return {**found, "size": batch["size"], **{name: batch[name] for name in _TARGETS if name in batch}}

    def _flipped_back(self, flipped: Batch) -> Batch:
        """Convert predictions of a flipped image to those of the image: swap left and right."""
        partners = list(self.landmarks.flip_index)
        points = flipped["points"][:, partners]
        points = torch.stack([self.config.input_size - 1 - points[..., 0], points[..., 1]], dim=-1)
        return {**flipped, "points": points, "visibility_scores": flipped["visibility_scores"][:, partners]}

    def untrained(self) -> Self | None:
        """Return the task with new heads on the initial backbone, as retrieval baseline; None without an embedding."""
        return None if self.network.fusion.embedding is None else self.fresh()


def _probabilities(seen: FashionNetOutputs, groups: Tensor) -> Batch:
    """Return float32 points in input pixels, and probabilities that can be averaged."""
    found = {"points": seen.pose.points.float(), "visibility_scores": seen.pose.visibility.float().softmax(dim=2)}
    if seen.category is not None:
        found["category_scores"] = seen.category.softmax(dim=1)
    if seen.attributes is not None:
        found["attribute_scores"] = exclusive_probabilities(seen.attributes, groups)
    if seen.embedding is not None:
        found["embedding"] = seen.embedding
    return found


def _label_group(head: str) -> str:
    """Column group of the labels of a head."""
    return "item" if head == "embedding" else head


def _heads(config: FashionNetConfig, dataset: dict[str, Any]) -> tuple[Head, ...]:
    """Return the heads that are configured and have labels in the shard set."""
    groups = dataset["column_groups"]
    has = {
        name: name in groups and bool(dataset["vocabularies"][name]["values"]) for name in ("category", "attributes")
    }
    has["embedding"] = "item" in groups
    if not (has["category"] or has["attributes"]):
        carried = ", ".join(groups) or "no annotation"
        raise UsageError(
            f"the task fashionnet needs category or attributes besides landmarks, but the shard set has {carried}"
        )
    wanted: tuple[Head, ...] = ("category", "attributes", "embedding")
    chosen: tuple[Head, ...] = tuple(name for name in wanted if has[name] and name in config.targets)
    if not chosen:
        raise UsageError("model.targets leaves nothing but landmarks to learn; use `ftrain keypoints` for those")
    return chosen
