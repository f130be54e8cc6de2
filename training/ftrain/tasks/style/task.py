"""Train style classification or attribute retrieval (ASEN++).

Attribute-specific attention after Dong et al., TIP 2021. Style: a single attribute, with its embedding and the deep
features of the image passed through a neck to a classifier (ArcFace or linear). Attributes: an embedding of the image
under every attribute, so that images with the same value are close. The global branch sees the whole image, the
optional local branch the square the global branch attends to. `fit.stages` configures which of them is trained when, as
in the paper: first the global branch, then both, the global one with a lower learning rate.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError
from fschemas.splits import QUERY_AND_GALLERY
from ftrain.data.config import TaskConfig, ViewConfig
from ftrain.data.search_roles import has_match, role_of
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import names_as_ids, view_of_sample
from ftrain.layers.affine import region_in_source, views_of
from ftrain.layers.attribute_loss import class_loss, logit_adjustment
from ftrain.layers.backbone import Backbone
from ftrain.layers.metric_learning import class_masks
from ftrain.layers.mixing import Mixing, mixed_loss
from ftrain.tasks.published import published_dataset
from ftrain.tasks.style.attention import AttributeAttention
from ftrain.tasks.style.config import StyleConfig
from ftrain.tasks.style.labels import StyleLabels, attribute_labels, main_styles, style_labels
from ftrain.tasks.style.losses import ArcFace, value_loss, value_triplets
from ftrain.tasks.style.network import ATTENDED_STRIDE, DEEP_STRIDE, LocalBranch, StyleNeck, attended_backbone
from ftrain.tasks.style.region_patches import foreground_contrast
from ftrain.tasks.task import Task


@dataclass(frozen=True)
class StyleEncoder:
    """Turn a sample into network input."""

    config: StyleConfig
    labels: StyleLabels
    categories: dict[str, int]  # class of each category, -1 for ""; empty if categories are not learned

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `image` uint8 S, S, 3, `matrix` 2, 3 (source to input), `size` 2 of the source, and labels.

        S is `input_size`, with a local branch `local_zoom` times that. Labels: `values` A (one per attribute, -1
        unknown), `local_attribute` (the attribute that trains the local branch), `role` in the search; for attributes
        `positive` V uint8 (all values of the image), and `category` if it is learned.
        """
        annotation, view = sample.annotation, view_of_sample(prepared_view(self.config), sample, generator)
        values = self.labels.values_of(annotation, generator)
        known = np.flatnonzero(values >= 0)
        chosen = 0 if not len(known) else known[0] if generator is None else generator.choice(known)
        arrays = {
            **view.inputs, "matrix": view.matrix, "size": np.array([annotation["width"], annotation["height"]], np.float32),
            "values": values, "local_attribute": np.array(chosen, np.int64), "role": np.array(role_of(annotation), np.int8),
        }  # fmt: skip
        if self.categories:
            arrays["category"] = np.array(self.categories[annotation["category"]], np.int64)
        return arrays if self.labels.classes is not None else {**arrays, "positive": self.labels.positive(annotation)}


def prepared_view(config: StyleConfig) -> ViewConfig:
    """Return the view that workers prepare: enlarged if the local branch crops from it."""
    if not config.local_backbone:
        return config
    return config.model_copy(update={"input_size": config.input_size * config.local_zoom})


class Style(Task):
    """The style task. Required column groups and metrics depend on `config.target`."""

    needs = ("style",)
    Config = StyleConfig
    selected_by = ("macro_f1", "max")
    key_metrics = ("top_1", "top_3", "macro_f1", "map", "calibration_error")
    view_kinds = ("flip", "scales")

    def __init__(self, config: StyleConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: StyleConfig = config
        of_style = config.target == "style"
        if not of_style:
            self.selected_by, self.key_metrics = ("map", "max"), ("map", "map_of_attributes", "top_1", "macro_f1")
        if config.contrast_loss_weight and not config.local_backbone:
            raise UsageError(
                "model.contrast_loss_weight compares with the local branch; set model.local_backbone, or the weight to 0"
            )
        if of_style and config.head == "none":
            raise UsageError("model.head=none leaves a style without classes; choose arcface or linear")
        if (config.mixup or config.cutmix) and (config.triplet_loss_weight or config.local_backbone):
            raise UsageError(
                "model.mixup and model.cutmix do not suit triplets or a local branch, since a mixed image has two labels; "
                "set model.triplet_loss_weight=0 and model.local_backbone=''"
            )
        self.mixing = Mixing(config.mixup, config.cutmix)
        self.labels = style_labels(dataset, config.styles) if of_style else attribute_labels(dataset)
        categories = self._categories(of_style)
        self.encoder = StyleEncoder(config, self.labels, categories)
        if of_style:
            self.backbone = Backbone(config, (ATTENDED_STRIDE, DEEP_STRIDE))
        else:
            self.backbone = attended_backbone(config)
        self.attribute_vectors = nn.Parameter(torch.randn(len(self.labels.attributes), config.attribute_dim))
        # The common space has half the dimension of the features, as published: 512 of 1,024.
        width = self.backbone.widths[0]
        self.attention = AttributeAttention(width, config.attribute_dim, max(8, width // 2), config.embedding_dim)
        self.neck = StyleNeck(self.backbone.widths[1], config.embedding_dim, config.dropout) if of_style else None
        evaluated = config.embedding_dim // 2 if of_style else config.embedding_dim
        self.heads = nn.ModuleList(
            ArcFace(evaluated, len(values), config.arcface_scale, config.arcface_margin)
            if config.head == "arcface"
            else nn.Linear(evaluated, len(values))
            for values in self.labels.values
            if config.head != "none"
        )
        self.register_buffer("adjustment", torch.zeros(sum(map(len, self.labels.values))), persistent=False)
        self.adjustment: Tensor
        num_categories = len(categories) - 1  # "" is unknown, not a class
        self.category_head = nn.Linear(self.backbone.widths[1], num_categories) if categories else None
        self.local: LocalBranch | None = None
        if config.local_backbone:
            self.local = LocalBranch(config)
        # An untrained local branch does not contribute to the similarity.
        self.register_buffer("local_trained", torch.tensor(False))
        self.local_trained: Tensor

    @classmethod
    def needed_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return attributes, or styles and their auxiliary labels."""
        assert isinstance(config, StyleConfig)
        if config.target == "attributes":
            return ("attributes", *config.groups_to_view())
        return ("style", *(["category"] if config.category_loss_weight else []), *config.groups_to_view())

    @classmethod
    def rows_of_interest(cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return the images with a known style; all images for attributes."""
        assert isinstance(config, StyleConfig)
        if config.target == "attributes" or "style" not in columns:
            return rows
        chosen = rows[columns["style"][rows] != ""]
        if len(rows) and not len(chosen):
            raise UsageError("no image of the split has a style; choose another split or another shard set")
        return chosen

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """Query and gallery form the test set, val_query and val_gallery the validation set, if a data set has them."""
        pair = QUERY_AND_GALLERY.get(split, ())
        return pair if split not in known and any(name in known for name in pair) else (split,)

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return the style, fine or main."""
        assert isinstance(config, StyleConfig)
        if config.target == "attributes":
            return None
        if config.styles == "fine":
            return columns["style"]
        groups = main_styles()
        return np.array([groups.get(str(style), "") for style in columns["style"]])

    def labels_to_sample(self, rows: Rows, *, identities: bool = False) -> np.ndarray | None:
        """Return the style, or the attribute that the image has a value of; of several, the rarest among `rows`."""
        del identities
        if self.config.target == "style":
            return self.sampling_labels(self.config, rows.shards.columns)
        known = self._values(rows) >= 0
        rarity = np.where(known, known.sum(axis=0), len(known) + 1)
        labels = np.full(len(rows.shards), "", dtype=object)
        names = np.array(self.labels.attributes, dtype=object)[rarity.argmin(axis=1)]
        labels[rows.rows] = np.where(known.any(axis=1), names, "")
        return labels.astype(str)

    def compared(self, rows: Rows) -> np.ndarray | None:
        """Return the value of every attribute, N, A."""
        return self._values(rows) if self.config.triplet_loss_weight else None

    def observe_training(self, rows: Rows) -> None:
        """Count the values of every attribute, for the logit adjustment."""
        if self.config.logit_adjustment:
            columns = zip(self._values(rows).T, self.labels.values, strict=True)
            counts = [np.bincount(values[values >= 0], minlength=len(names)) for values, names in columns]
            weight = self.config.logit_adjustment
            self.adjustment.copy_(torch.cat([logit_adjustment(counted, weight) for counted in counts]))

    def _values(self, rows: Rows) -> np.ndarray:
        """Return the values of the rows, int64 N, A: -1 if none is known."""
        if self.labels.classes is None:
            return np.stack([self.labels.values_of(annotation, None) for annotation in rows.annotations()])
        names, numbers = np.unique(rows.shards.columns["style"][rows.rows], return_inverse=True)
        return np.array([self.labels.classes[str(name)] for name in names], np.int64)[numbers][:, None]

    def check_training(self, rows: Rows) -> list[str]:
        """Require two styles, or two values of an attribute."""
        seen: list[set[int]] = [set() for _ in self.labels.attributes]
        for annotation in rows.annotations():
            for number, value in enumerate(self.labels.values_of(annotation, None)):
                if value >= 0:
                    seen[number].add(int(value))
                    if len(seen[number]) > 1:
                        return []
        what = "style" if self.config.target == "style" else "value of each attribute"
        raise UsageError(
            f"the training images have one {what} at most, so there is nothing to learn; choose another set"
        )

    def check_validation(self, rows: Rows) -> None:
        """Require a known style or, for attributes, a query and a gallery image with a common value."""
        if self.config.target == "style":
            if not any((self.labels.values_of(annotation, None) >= 0).any() for annotation in rows.annotations()):
                raise UsageError("no image has a style")
        elif not has_match(
            (
                role_of(annotation),
                {pair for pair in enumerate(self.labels.values_of(annotation, None).tolist()) if pair[1] >= 0},
            )
            for annotation in rows.annotations()
        ):
            raise UsageError("no two images share a value of an attribute, so no query has a match")

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """K-Fashion: 24 styles, with DeepFashion categories; for attributes FashionAI: 54 values of 8 attributes."""
        assert isinstance(config, StyleConfig)
        if config.target == "attributes":
            return published_dataset(("attributes",), attributes="fashionai-attribute-54")
        return published_dataset(("style", "category"), style="kfashion-style-24", category="deepfashion-category-50")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its parts `classes`, `triplet`, `local`, `align` and, if configured, `contrast`, `category`.

        `local` is the triplet loss of the local branch, `align` is 1 - cosine between the branches. The local branch is
        not computed while it is frozen. `batch` holds `image` uint8 B, S, S, 3 and the labels of `StyleEncoder`.
        """
        config, values = self.config, batch["values"]
        images, pairs = self.mixing(batch["image"])
        features = self._features(images)
        embedding, maps = self.attention(features[0], self.attribute_vectors)
        deep = features[1] if self.neck is not None else None
        nothing = embedding.new_zeros(())
        triplets = partial(value_triplets, margin=config.triplet_margin, mining=config.mining)
        parts: dict[str, Tensor] = dict.fromkeys(("classes", "triplet", "local", "align"), nothing)
        if config.contrast_loss_weight:
            parts["contrast"] = nothing
        if len(self.heads):
            adjustments = self.adjustment.split([len(known) for known in self.labels.values])
            inputs = self._evaluated(embedding, deep)
            settings: Any = {"adjustments": adjustments, "smoothing": config.label_smoothing}
            cost = mixed_loss(partial(value_loss, self.heads, inputs, **settings), values, pairs)
            parts["classes"] = config.classes_loss_weight * cost
        if config.triplet_loss_weight:  # otherwise nothing need be gathered, which costs a second pass of micro-batches
            parts["triplet"] = config.triplet_loss_weight * triplets(self.gather(embedding), self.gather(values))
        if self.category_head is not None and deep is not None:
            named = self.category_head(deep.mean(dim=(2, 3)))
            class_loss_of = partial(class_loss, named, smoothing=config.label_smoothing)
            cost = mixed_loss(class_loss_of, batch["category"], pairs)
            parts["category"] = config.category_loss_weight * cost
        if self.local is not None and self.local.attention.project.weight.requires_grad:
            attributes = batch["local_attribute"]
            rows = torch.arange(attributes.shape[0], device=attributes.device)
            second = self.local(batch["image"], maps[rows, attributes], self.attribute_vectors[attributes])
            seen = torch.where(class_masks(attributes, values.shape[1]), values, -1)
            repeated = self.gather(second)[:, None].expand(-1, values.shape[1], -1)
            parts["local"] = config.local_loss_weight * triplets(repeated, self.gather(seen))
            alike = F.cosine_similarity(embedding[rows, attributes], second, dim=1)
            parts["align"] = config.align_loss_weight * (1 - alike).mean()
            if config.contrast_loss_weight:
                vectors = self.attribute_vectors[attributes][:, None]
                behind = self.attention.background(features[0], maps[rows, attributes][:, None], vectors)[:, 0]
                compared = (embedding[rows, attributes], second, behind, attributes, values[rows, attributes])
                contrast = foreground_contrast(*map(self.gather, compared))
                parts["contrast"] = config.contrast_loss_weight * contrast
            self.local_trained.fill_(True)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def predict(self, batch: Batch) -> Batch:
        """Return `embedding` B, A, D (float16, L2-normalized), `attention` B, A, h, w, `box` B, A, 4 and `region` B, 4.

        `box` is the attended square (shares of the input; with a local branch), `region` the part of the source covered
        by the input (pixels from its top left corner, edge to edge). With a head also `scores` B, C: probabilities of
        the styles, or of the attribute values in the order of `labels.values`. The ground truth of the batch is passed
        on.
        """
        views = [self._predictions(view) for view in views_of(batch["image"], self.views)]
        averaged = {
            name: torch.stack([view[name] for view in views]).mean(dim=0)
            for name in ("embedding", "scores")
            if name in views[0]
        }
        predictions = views[0] | averaged
        predictions["embedding"] = F.normalize(predictions["embedding"], dim=2).half()
        region = region_in_source(batch["matrix"], batch["image"].shape[1])
        passed_on = {name: batch[name] for name in ("values", "positive", "role", "size") if name in batch}
        return {**predictions, "region": region, **passed_on}

    def validate(self, batch: Batch) -> Batch:
        """Return the `scores` of styles, for which the local branch is not needed; everything for attributes."""
        if self.config.target == "attributes":
            return self.predict(batch)
        embedding, _, deep = self._global_branch(batch["image"])
        return {"scores": self._scores(embedding, deep), "values": batch["values"]}

    def untrained(self) -> Self | None:
        """For attributes: the same network before training, from seed 0."""
        return None if self.config.target == "style" else self.fresh()

    def view_config(self) -> ViewConfig:
        """Return the view from which the local branch crops."""
        return prepared_view(self.config)

    def _categories(self, of_style: bool) -> dict[str, int]:
        if not self.config.category_loss_weight:
            return {}
        if not of_style or not self.dataset["vocabularies"].get("category", {}).get("values"):
            raise UsageError(
                "model.category_loss_weight: categories are learned together with styles, from a set that has both; set it to 0"
            )
        return names_as_ids(self.dataset, "category")

    def _global_branch(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return embeddings B, A, E and maps B, A, h, w of the global branch, and the deep features for styles."""
        features = self._features(image)
        embedding, maps = self.attention(features[0], self.attribute_vectors)
        return embedding, maps, features[1] if self.neck is not None else None

    def _features(self, image: Tensor) -> list[Tensor]:
        """Return the features of the global branch, for attention and, for styles, the deep ones."""
        if self.config.local_zoom > 1 and self.local is not None:
            image = F.avg_pool2d(image.permute(0, 3, 1, 2).float(), self.config.local_zoom).permute(0, 2, 3, 1)
        return self.backbone(image)

    def _predictions(self, image: Tensor) -> Batch:
        embedding, maps, deep = self._global_branch(image)
        predictions = {"attention": maps.half()}
        if len(self.heads):
            predictions["scores"] = self._scores(embedding, deep)
        embedding = F.normalize(embedding, dim=2)
        if self.local is None:
            return {**predictions, "embedding": embedding}
        attributes = range(len(self.labels.attributes))
        second = [
            self.local(image, maps[:, number], self.attribute_vectors[number].expand(image.shape[0], -1))
            for number in attributes
        ]
        share = self.local_trained.float() * self.config.local_share
        local = F.normalize(torch.stack(second, dim=1), dim=2)
        boxes = [self.local.boxes(image.shape[1], maps[:, number]) for number in attributes]
        predictions["box"] = torch.stack(boxes, dim=1)
        return {**predictions, "embedding": torch.cat([(1 - share).sqrt() * embedding, share.sqrt() * local], dim=2)}

    def _scores(self, embedding: Tensor, deep: Tensor | None) -> Tensor:
        """Return probabilities B, C of the values of every attribute."""
        inputs = self._evaluated(embedding, deep)
        logits = [head(evaluated) for head, evaluated in zip(self.heads, inputs, strict=True)]
        return torch.cat([part.float().softmax(dim=1) for part in logits], dim=1)

    def _evaluated(self, embedding: Tensor, deep: Tensor | None) -> list[Tensor]:
        """Return the input of each head: B, E / 2 of the neck for styles, else the embedding B, E per attribute."""
        if self.neck is None:
            return list(embedding.unbind(dim=1))
        assert deep is not None
        return [self.neck(embedding[:, 0], deep)]
