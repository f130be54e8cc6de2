"""Train category, attributes and bounding box of a garment.

The heads use local features from the predicted box. After the open classifier of Ghadiri (2019), on the DeepFashion
benchmark (Liu et al., CVPR 2016), for any vocabularies of categories and attributes. Attributes in exclusive groups are
trained with a softmax per group, others with balanced binary cross-entropy.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fschemas.failures import UsageError
from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import View, names_as_ids, view_of_sample
from ftrain.layers.affine import invert_matrices, views_of
from ftrain.layers.attribute_loss import (
    asymmetric_loss,
    attribute_targets,
    binary_loss,
    class_loss,
    exclusive_loss,
    exclusive_probabilities,
    group_masks,
    logit_adjustment,
)
from ftrain.layers.mixing import Mixing, mixed_loss
from ftrain.tasks.category.box import box_loss
from ftrain.tasks.category.config import CategoryConfig
from ftrain.tasks.category.labels import CategoryLabels
from ftrain.tasks.category.network import CategoryNetwork, CategoryOutputs
from ftrain.tasks.label_checks import has_attributes, lack_of_classes, lost_in_joining
from ftrain.tasks.published import published_dataset
from ftrain.tasks.task import Task

_MIN_SIDE = 0.02  # share of the input; boxes with a smaller visible part are ignored


@dataclass(frozen=True)
class CategoryEncoder:
    """Turn a sample into network input; one matrix transforms the image and its box."""

    config: CategoryConfig
    categories: dict[str, int]  # name to id; empty if categories are not learned
    num_attributes: int
    has_boxes: bool

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `image` uint8 S, S, 3, `matrix` 2, 3 (source to input), `size` 2 of the source, and labels.

        Labels, as available: `category` (-1: unknown); `attributes` A (1, 0, -1); `box` 4 as shares of the input with
        `has_box`, and `true_box` 4 in pixels of the source.
        """
        annotation, view = sample.annotation, view_of_sample(self.config, sample, generator)
        encoded = {
            **view.inputs,
            "matrix": view.matrix,
            "size": np.array([annotation["width"], annotation["height"]], np.float32),
        }
        if self.categories:
            encoded["category"] = np.array(self.categories[annotation["category"]], np.int64)
        if self.num_attributes:
            encoded["attributes"] = attribute_targets(annotation, self.num_attributes)
        if self.has_boxes:
            true_box = np.asarray(annotation["box"], np.float32)
            box, has_box = _box_in_view(true_box, view, self.config.input_size)
            encoded |= {"box": box, "has_box": np.array(has_box), "true_box": true_box}
        return encoded


class Category(Task):
    """The clothing classifier. A shard set may lack categories, attributes or boxes."""

    needs = ()  # category or attributes, whichever the set has; an instance needs those it was built for
    Config = CategoryConfig
    selected_by = ("score", "max")
    key_metrics = (
        "category_top_1", "category_top_3", "category_top_5", "category_macro_f1", "groups_top_1", "attribute_recall_3_micro",
        "attribute_recall_5_micro", "box_iou",
    )  # fmt: skip
    view_kinds = ("flip", "scales")

    def __init__(self, config: CategoryConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: CategoryConfig = config
        learned = _learned(config, dataset)
        has_boxes = "box" in dataset["column_groups"]
        self.needs = tuple(dict.fromkeys([*learned, *(["box"] if has_boxes else []), *config.groups_to_view()]))
        category, attributes = learned.get("category"), learned.get("attributes")
        self.labels = CategoryLabels(
            categories=category["values"] if category else [],
            types=category["groups"] if category else {},
            attributes=attributes["values"] if attributes else [],
            groups=attributes["groups"] if attributes else {},
            exclusive=bool(attributes and attributes["exclusive"]),
            has_boxes=has_boxes,
        )
        if config.heads == "per_type" and category and not self.labels.types:
            raise UsageError(f"the categories {category['name']} have no types; choose model.heads=shared")
        self.encoder = CategoryEncoder(
            config,
            names_as_ids(dataset, "category") if category else {},
            len(self.labels.attributes),
            self.labels.has_boxes,
        )
        self.network = CategoryNetwork(config, self.labels)
        if (config.mixup or config.cutmix) and has_boxes and config.box_loss_weight:
            raise UsageError(
                "model.mixup and model.cutmix do not suit the box loss, since a mixed image has two boxes; set model.box_loss_weight=0"
            )
        self.mixing = Mixing(config.mixup, config.cutmix)
        named = dataset.get("names", {}).get("category", self.labels.categories)
        never = torch.tensor([name not in named for name in self.labels.categories], dtype=torch.bool)
        # Classes of the vocabulary without a training image.
        self.register_buffer("never_seen", never, persistent=False)
        self.never_seen: Tensor
        self.register_buffer("adjustment", torch.zeros(len(self.labels.categories)), persistent=False)
        self.adjustment: Tensor
        exclusive = self.labels.groups.values() if self.labels.exclusive else ()
        self.register_buffer("groups", group_masks(exclusive, len(self.labels.attributes)), persistent=False)
        self.groups: Tensor

    @classmethod
    def optional_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return the targets, and boxes unless their loss has no weight."""
        assert isinstance(config, CategoryConfig)
        return (*config.targets, *(["box"] if config.box_loss_weight else []))

    @classmethod
    def names_to_learn(
        cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray
    ) -> dict[str, list[str]]:
        """Return the categories of the training images: 46 of the 50 of DeepFashion, or none if all are unknown."""
        del config
        if "category" not in columns:
            return {}
        return {"category": sorted({str(name) for name in columns["category"][rows]} - {""})}

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return the categories, if the index has them."""
        del config
        return columns.get("category")

    def observe_training(self, rows: Rows) -> None:
        """Count the categories, for the logit adjustment."""
        if self.config.logit_adjustment and self.labels.categories:
            names, counts = np.unique(rows.names("category"), return_counts=True)
            by_name = dict(zip(names.tolist(), counts.tolist(), strict=True))
            counted = np.array([by_name.get(name, 0) for name in self.labels.categories])
            self.adjustment.copy_(logit_adjustment(counted, self.config.logit_adjustment))

    def check_training(self, rows: Rows) -> list[str]:
        """Require two categories, or attributes, or boxes."""
        lacks = {}
        if self.labels.categories and (why := lack_of_classes(rows.names("category"), "category")):
            lacks["category"] = why
        if self.labels.attributes and not has_attributes(rows):
            lacks["attributes"] = "no training image has one"
        wanted = {"category": self.labels.categories, "attributes": self.labels.attributes}
        learned = [name for name, have in wanted.items() if have and name not in lacks]
        if not learned and not (self.labels.has_boxes and self.config.box_loss_weight):
            name, why = next(iter(lacks.items()))
            raise UsageError(f"nothing can be learned for {name}: {why}; choose a set with more classes")
        lost = lost_in_joining(rows.shards, self.optional_groups(self.config))
        return [*lost, *(f"nothing is learned for {name}: {why}" for name, why in lacks.items())]

    def check_validation(self, rows: Rows) -> None:
        """Require categories or attributes; boxes are enough if neither is known."""
        if self.labels.categories and len(rows.names("category")):
            return
        if self.labels.attributes and has_attributes(
            rows, tuple(self.labels.groups.values()) if self.labels.exclusive else (), len(self.labels.attributes)
        ):
            return
        if not (self.labels.has_boxes and self.config.crop == "image"):
            raise UsageError("no image has a label that the run learns")

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """DeepFashion: 50 categories, 1,000 attributes, boxes."""
        del config
        return published_dataset(
            ("category", "attributes", "box"),
            category="deepfashion-category-50",
            attributes="deepfashion-attribute-1000",
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its available parts `category`, `attributes`, `box`, each a mean over all rows.

        `batch` holds `image` uint8 B, S, S, 3 and the labels of `CategoryEncoder`.
        """
        config = self.config
        images, pairs = self.mixing(batch["image"])
        outputs: CategoryOutputs = self.network(images)
        parts: dict[str, Tensor] = {}
        if outputs.category is not None:
            settings: Any = {"smoothing": config.label_smoothing, "adjustment": self.adjustment}
            cost = mixed_loss(partial(class_loss, outputs.category, **settings), batch["category"], pairs)
            parts["category"] = config.category_loss_weight * cost
        if outputs.attributes is not None:
            cost = mixed_loss(partial(self._attribute_loss, outputs.attributes), batch["attributes"], pairs)
            parts["attributes"] = config.attributes_loss_weight * cost
        if self.labels.has_boxes:
            parts["box"] = config.box_loss_weight * box_loss(outputs.boxes, batch["box"], batch["has_box"])
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def predict(self, batch: Batch) -> Batch:
        """Return `category_scores` B, C and `attribute_scores` B, A (probabilities), and `boxes` B, 4 (source pixels).

        Boxes are averages over the image and its flip alone, because an enlarged view cuts them off. The ground truth of
        the batch is passed on.
        """
        views = [self._scores(self.network(view)) for view in views_of(batch["image"], self.views)]
        results = {name: torch.stack([scores[name] for scores, _ in views]).mean(dim=0) for name in views[0][0]}
        boxes = views[0][1]
        if self.views.flip:
            flipped = views[1][1]
            back = torch.stack([1 - flipped[:, 2], flipped[:, 1], 1 - flipped[:, 0], flipped[:, 3]], dim=1)
            boxes = (boxes + back) / 2
        results["boxes"] = _box_of_source(boxes * self.config.input_size, batch["matrix"], batch["size"])
        passed_on = ["category", "attributes", "has_box", "size"]
        if self.config.crop == "image":  # a model that is shown the true box has no box to find
            passed_on.append("true_box")
        return results | {name: batch[name] for name in passed_on if name in batch}

    def _attribute_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        config = self.config
        if self.labels.exclusive and config.attribute_loss == "auto":
            return exclusive_loss(logits, targets, self.groups, config.label_smoothing)
        if config.attribute_loss == "asymmetric":
            return asymmetric_loss(logits, targets)
        balanced = config.attribute_loss != "plain"
        return binary_loss(logits, targets, balanced=balanced, positive_rate=config.positive_rate)

    def _scores(self, outputs: CategoryOutputs) -> tuple[dict[str, Tensor], Tensor]:
        scores: dict[str, Tensor] = {}
        if outputs.category is not None:
            scores["category_scores"] = outputs.category.float().masked_fill(self.never_seen, -math.inf).softmax(dim=1)
        if outputs.attributes is not None:
            scores["attribute_scores"] = exclusive_probabilities(outputs.attributes, self.groups)
        return scores, outputs.boxes


def _learned(config: CategoryConfig, dataset: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the vocabularies to learn: configured and in the set, unless all categories are unknown."""
    carried, vocabularies = dataset["column_groups"], dataset["vocabularies"]
    learned = {name: vocabularies[name] for name in config.targets if name in carried and vocabularies[name]["values"]}
    if dataset.get("names", {}).get("category", ["any"]) == []:
        learned.pop("category", None)
    if not learned:
        raise UsageError(
            f"the task category needs {' or '.join(config.targets)}, but this shard set has {', '.join(carried) or 'nothing'}"
            f"{' without a name' if 'category' in carried else ''}; choose another set or another model.targets"
        )
    return learned


def _box_of_source(edges: Tensor, matrices: Tensor, size: Tensor) -> Tensor:
    """Convert edges B, 4 in pixels of an unrotated input to corner pixel centers in the source, clamped to it."""
    back = invert_matrices(matrices).to(edges.dtype)
    corners = torch.einsum("bij,bkj->bki", back[:, :, :2], edges.unflatten(1, (2, 2)) - 0.5) + back[:, None, :, 2]
    first, last = corners[:, 0] + 0.5, corners[:, 1] - 0.5  # half a pixel inward
    first = torch.minimum(first.clamp_min(0), size - 1)
    return torch.cat([first, torch.maximum(torch.minimum(last, size - 1), first)], dim=1)


def _box_in_view(box: np.ndarray, view: View, size: int) -> tuple[np.ndarray, bool]:
    """Return a source box as shares of the input, float32 4, and whether enough of it is in view.

    The box of a rotated image is the extent of the inscribed ellipse: the extent of the rotated corners would grow with
    the angle, but garments do not fill the corners.
    """
    left, top, right, bottom = box.tolist()
    seen: list[float] = []
    for a, b, shift in view.matrix.tolist():
        center = a * (left + right) / 2 + b * (top + bottom) / 2 + shift
        half = math.hypot(a * (right - left + 1), b * (bottom - top + 1)) / 2
        seen += [min(max((edge + 0.5) / size, 0.0), 1.0) for edge in (center - half, center + half)]
    x1, x2, y1, y2 = seen
    return np.array([x1, y1, x2, y2], np.float32), min(x2 - x1, y2 - y1) >= _MIN_SIDE
