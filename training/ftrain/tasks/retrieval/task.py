"""Train an embedding that retrieves images of the same garment.

Losses are cross-entropy, triplets mined in the batch, and proxy anchors. After ihciah/deep-fashion-retrieval: a
ResNet-50 with a 512-d deep feature, cross-entropy over categories plus a triplet loss, with the backbone frozen, then
unfrozen (`fit.stages`). Batches are P identities x K images (`fit.sampler=identities`), so that every image is an
anchor with positives. Evaluated by DeepFashion's in-shop protocol (Liu et al., CVPR 2016).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError
from fschemas.splits import QUERY_AND_GALLERY
from ftrain.data.color import color_feature, unpadded_region
from ftrain.data.config import TaskConfig
from ftrain.data.search_roles import has_match, role_of
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import item_number, names_as_ids, view_of_sample
from ftrain.layers.affine import views_of
from ftrain.layers.backbone import Backbone
from ftrain.layers.metric_learning import ProxyAnchor, class_masks, triplet_loss, with_angular_margin
from ftrain.tasks.label_checks import has_pairs, lack_of_classes
from ftrain.tasks.published import published_dataset
from ftrain.tasks.retrieval.config import RetrievalConfig
from ftrain.tasks.retrieval.memory import CrossBatchMemory, contrastive_loss
from ftrain.tasks.retrieval.pooling import AveragePooling, GeneralizedMean, activation_map
from ftrain.tasks.task import Task


@dataclass(frozen=True)
class RetrievalEncoder:
    """Turn a sample into network input and numeric labels."""

    config: RetrievalConfig
    categories: dict[str, int]  # -1 for "" and, in a set without categories, for every name
    items: dict[str, int]  # training items, if the losses need them as classes

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return `image` uint8 S, S, 3, its unpadded `region` int64 4 (if not augmented), and the `labels`."""
        annotation, view = sample.annotation, view_of_sample(self.config, sample, generator)
        size, region = self.config.input_size, np.zeros(4, np.int64)
        if generator is None:
            region = unpadded_region(view.matrix, annotation["width"], annotation["height"], size)
        return {**view.inputs, "region": region, **self.labels(annotation)}

    def labels(self, annotation: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return int64 scalars `identity`, `category`, `item_class` (-1 unknown) and the `role` in the search."""
        item, category = str(annotation.get("item", "")), self.categories.get(annotation.get("category", ""), -1)
        numbers = {
            "identity": item_number(item) if self.config.identity == "item" else category,
            "category": category,
            "item_class": self.items.get(item, -1),
            "role": role_of(annotation),
        }
        return {name: np.array(value, dtype=np.int64) for name, value in numbers.items()}


class Retrieval(Task):
    """The retrieval task, for items (products) or, if a set has none, categories."""

    needs = ()  # item or category, depending on the configuration; checked in `names_to_learn`
    Config = RetrievalConfig
    selected_by = ("map", "max")
    key_metrics = ("hit_1", "hit_10", "hit_20", "map", "map_r", "category/top_1")
    view_kinds = ("flip", "scales")

    def __init__(self, config: RetrievalConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: RetrievalConfig = config
        self.categories = _categories(config, dataset)
        items = _items(config, dataset)
        numbers = names_as_ids(dataset, "category") if self.categories else {}
        self.encoder = RetrievalEncoder(config, numbers, {name: number for number, name in enumerate(items)})
        self.backbone = Backbone(config)
        self.pool = GeneralizedMean() if config.pooling == "gem" else AveragePooling()
        self.embed = nn.Linear(self.backbone.widths[-1], config.embedding_dim)
        nn.init.orthogonal_(self.embed.weight)  # the initial embedding preserves the angles between backbone features
        nn.init.zeros_(self.embed.bias)
        self.neck = nn.Identity()
        if config.bn_neck:  # no bias here or in the classifier (Luo et al., section 3.6): both spaces share the origin
            self.neck = nn.BatchNorm1d(config.embedding_dim)
            self.neck.register_parameter("bias", None)
        num_classes = {"category": len(self.categories), "item": len(items), "none": 0}[_classes(config)]
        self.classifier = (
            nn.Linear(
                config.embedding_dim, num_classes * config.subcenters, bias=not (config.cosine_scale or config.bn_neck)
            )
            if num_classes
            else None
        )
        self.proxies = (
            ProxyAnchor(len(items), config.embedding_dim, config.proxy_margin, config.proxy_scale)
            if config.proxy_loss_weight
            else None
        )
        self.memory: CrossBatchMemory | None = None
        if config.memory_size and config.memory_loss_weight:
            self.memory = CrossBatchMemory(config.memory_size, config.embedding_dim)
        self.dim = config.embedding_dim  # of the embeddings that are predicted
        self.trained = True  # False: embeddings are the backbone features

    @classmethod
    def optional_groups(cls, config: TaskConfig) -> tuple[str, ...]:
        """Return the categories, if they are classified or retrieved; items may be in some sets only."""
        assert isinstance(config, RetrievalConfig)
        return ("category",) if "category" in (_classes(config), config.identity) else ()

    @classmethod
    def splits_of(cls, split: str, known: Collection[str]) -> tuple[str, ...]:
        """`test` is query and gallery if a set has them; `test+train` retrieves test images among both splits."""
        parts = split.split("+")
        if len(parts) > 1:
            if strangers := [part for part in parts if part not in known]:
                raise UsageError(f"--split {split}: no split {strangers[0]!r}; there are {', '.join(known)}")
            return tuple(parts)
        pair = QUERY_AND_GALLERY.get(split, ())
        return pair if pair and split not in known and all(name in known for name in pair) else (split,)

    @classmethod
    def sampling_labels(cls, config: TaskConfig, columns: dict[str, np.ndarray]) -> np.ndarray | None:
        """Return the identity: item or category."""
        assert isinstance(config, RetrievalConfig)
        return columns.get(config.identity)

    @classmethod
    def names_to_learn(
        cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray
    ) -> dict[str, list[str]]:
        """Return the training items, if cross-entropy or proxies need them as classes.

        Raises `UsageError` if no training image has a known identity.
        """
        assert isinstance(config, RetrievalConfig)
        if config.identity not in columns or not (columns[config.identity][rows] != "").any():
            other = "category" if config.identity == "item" else "item"
            raise UsageError(
                f"model.identity={config.identity}: no training image of the shard set has a known {config.identity}; "
                f"choose another set, or {other}"
            )
        if not _learns_items(config) or "item" not in columns:
            return {}
        return {"item": [str(name) for name in np.unique(columns["item"][rows]) if name]}

    def compared(self, rows: Rows) -> np.ndarray | None:
        """Return the identities, N, 1."""
        return rows.numbers(self.config.identity)[:, None] if self.config.triplet_loss_weight else None

    def check_training(self, rows: Rows) -> list[str]:
        """Require pairs for triplets, and at least two classes for the cross-entropy and the proxies."""
        config, lacks = self.config, {}
        sought, several = rows.names(config.identity), "at least two are needed"
        if config.triplet_loss_weight and not has_pairs(sought):
            lacks["triplet_loss_weight"] = (
                f"no {config.identity} has two training images, so there are no pairs to learn from"
            )
        elif config.triplet_loss_weight and (why := lack_of_classes(sought, config.identity)):
            lacks["triplet_loss_weight"] = f"{why}; {several}"
        if self.memory is not None and not has_pairs(sought):
            lacks["memory_size"] = f"no {config.identity} has two training images, so there are no pairs to learn from"
        if self.classifier is not None and (why := lack_of_classes(rows.names(config.classify), config.classify)):
            lacks["classification_loss_weight"] = f"{why}; {several}"
        if self.proxies is not None and len(set(rows.names("item").tolist())) < 2:
            lacks["proxy_loss_weight"] = f"there are not two items; {several}"
        others = (self.classifier, self.proxies, self.memory)
        if len(lacks) == bool(config.triplet_loss_weight) + sum(part is not None for part in others):
            name, why = next(iter(lacks.items()))
            raise UsageError(f"model.{name}: {why}; choose a set with more images, or another loss")
        return [f"model.{name}: {why}" for name, why in lacks.items()]

    def check_validation(self, rows: Rows) -> None:
        """Require a query image and a gallery image of the same identity."""
        assert isinstance(self.encoder, RetrievalEncoder)
        labels = [self.encoder.labels(annotation) for annotation in rows.annotations()]
        if not has_match((int(found["role"]), {int(found["identity"])} - {-1}) for found in labels):
            identity = self.config.identity
            if all(found["identity"] < 0 for found in labels):
                raise UsageError(f"no image has a known {identity}")
            raise UsageError(f"every {identity} has only one image, so no query has a match")

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """In-shop: 3,997 training items, 17 categories."""
        del config
        return published_dataset(("item", "category"), items=3997, category="deepfashion-inshop-category-17")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its configured, weighted parts `classification`, `triplet`, `proxy`, `memory`.

        With `nested_dims`, each part is the mean of that loss over the nested dimensions and the whole embedding. `batch`
        holds `image` uint8 B, S, S, 3, the labels of `RetrievalEncoder`, int64 B, and, for a memory, `row` int64 B.
        """
        config = self.config
        own = self.embed(self.pool(self.backbone(batch["image"])[-1]))
        deep = self.gather(own)
        neck_features = self.gather(self.neck(own)) if config.bn_neck else deep
        labels = {name: self.gather(batch[name]) for name in ("identity", "category", "item_class")}
        earlier = None
        if self.memory is not None:
            earlier = self.memory.exchange(deep, labels["identity"], self.gather(batch["row"]))
        parts = self._parts(deep, neck_features, labels, earlier)
        if config.nested_dims:
            nested = [self._parts(deep[:, :dim], neck_features[:, :dim], labels, earlier) for dim in config.nested_dims]
            parts = {name: torch.stack([part, *(one[name] for one in nested)]).mean() for name, part in parts.items()}
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _parts(
        self, deep: Tensor, neck_features: Tensor, labels: Batch, earlier: tuple[Tensor, Tensor] | None
    ) -> dict[str, Tensor]:
        """Return the weighted losses of embeddings B, D before and after the neck, or of their first dimensions."""
        config = self.config
        parts: dict[str, Tensor] = {}
        if self.classifier is not None:
            classes = labels["category" if config.classify == "category" else "item_class"]
            parts["classification"] = config.classification_loss_weight * self._cross_entropy(neck_features, classes)
        if config.triplet_loss_weight:
            loss = triplet_loss(
                deep if config.distance == "cosine" else F.normalize(deep.float(), dim=1), labels["identity"],
                margin=config.triplet_margin, mining=config.mining, distance=config.distance,
            )  # fmt: skip
            parts["triplet"] = config.triplet_loss_weight * loss
        if self.proxies is not None:
            parts["proxy"] = config.proxy_loss_weight * self.proxies(neck_features, labels["item_class"])
        if earlier is not None:
            memory = earlier[0][:, : deep.shape[1]]
            parts["memory"] = config.memory_loss_weight * contrastive_loss(deep, labels["identity"], memory, earlier[1])
        return parts

    def predict(self, batch: Batch) -> Batch:
        """Return what `validate` does and `color` B, 125, which is not part of an exported graph."""
        found = self.validate(batch)
        if not torch.compiler.is_compiling():
            regions = batch["region"].cpu().numpy() if "region" in batch else [None] * len(batch["image"])
            images, attention = batch["image"].cpu().numpy(), found["attention"].detach().float().cpu().numpy()
            colors = [color_feature(*one) for one in zip(images, attention, regions, strict=True)]
            found["color"] = torch.from_numpy(np.stack(colors)).to(found["embedding"].device)
        return found

    def validate(self, batch: Batch) -> Batch:
        """Return `embedding` B, D (L2-normalized), `attention` B, h, w and, from a category classifier, `class_scores` B, C.

        The labels identity, category and role of the batch are passed on.
        """
        embeddings, scores, attention = zip(*map(self._view, views_of(batch["image"], self.views)), strict=True)
        embedding = embeddings[0] if len(embeddings) == 1 else F.normalize(torch.stack(embeddings).sum(dim=0), dim=1)
        found = {"embedding": embedding, "attention": attention[0]}
        if scores[0] is not None:
            found["class_scores"] = torch.stack(scores).mean(dim=0)
        return found | {name: batch[name] for name in ("identity", "category", "role") if name in batch}

    def set_dim(self, dim: int | None) -> None:
        """Predict the first `dim` dimensions of the embedding, or all; raises `UsageError` if trained without nested ones."""
        most = self.config.embedding_dim
        if dim is not None and not self.config.nested_dims:
            raise UsageError("--dim: the embedding was not trained to be truncated; train with model.nested_dims")
        if dim is not None and not 2 <= dim <= most:
            raise UsageError(f"--dim {dim}: choose 2 to {most}, the dimension of the embedding")
        self.dim = dim or most

    def untrained(self) -> Self:
        """Return a task with the pooled initial backbone features, of another dimension, as the embedding."""
        baseline = self.fresh()
        baseline.trained = False
        return baseline

    def encode_image(self, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
        """Return `image` S, S, 3 and its unpadded `region` 4 for an image uint8 H, W, 3 without annotation."""
        encoded = super().encode_image(image, box)
        width, height = encoded["size"]
        region = unpadded_region(encoded["matrix"], width, height, self.config.input_size)
        return {"image": encoded["image"], "region": region}

    def _view(self, image: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the L2-normalized embedding, class probabilities (or None) and attention of one view."""
        features = self.backbone(image)[-1]
        pooled = self.pool(features)
        if not self.trained:
            return F.normalize(features.float().mean(dim=(2, 3)), dim=1), None, activation_map(features)
        neck_features = self.neck(self.embed(pooled))
        scores = None
        if self.classifier is not None and self.config.classify == "category":
            scores = self._logits(neck_features).softmax(dim=1)
        return F.normalize(neck_features[:, : self.dim].float(), dim=1), scores, activation_map(features)

    def _logits(self, neck_features: Tensor, true: Tensor | None = None) -> Tensor:
        """Return float32 logits B, C; those of the `true` classes B (training) have the margin."""
        assert self.classifier is not None
        config, weight = self.config, self.classifier.weight[:, : neck_features.shape[1]]
        if not config.cosine_scale:
            return F.linear(neck_features, weight, self.classifier.bias).float()
        with torch.autocast(weight.device.type, enabled=False):
            cosines = F.normalize(neck_features.float(), dim=1) @ F.normalize(weight, dim=1).T
        cosines = cosines.unflatten(1, (-1, config.subcenters)).amax(dim=2)
        if true is not None and config.cosine_margin:
            cosines = with_angular_margin(cosines, class_masks(true, cosines.shape[1]), config.cosine_margin)
        return config.cosine_scale * cosines

    def _cross_entropy(self, neck_features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over known labels; 0, not NaN as in torch, if there are none."""
        known = labels >= 0
        losses = F.cross_entropy(
            self._logits(neck_features, labels), labels.clamp_min(0), reduction="none", label_smoothing=self.config.label_smoothing
        )  # fmt: skip
        return torch.where(known, losses, 0.0).sum() / known.sum().clamp_min(1)


def _classes(config: RetrievalConfig) -> str:
    """Return what the cross-entropy classifies: `category`, `item`, or `none` if its weight is 0."""
    return config.classify if config.classification_loss_weight else "none"


def _learns_items(config: RetrievalConfig) -> bool:
    return _classes(config) == "item" or bool(config.proxy_loss_weight)


def _categories(config: RetrievalConfig, dataset: dict[str, Any]) -> tuple[str, ...]:
    """Return the category names, empty without a vocabulary; raises `UsageError` if they are needed."""
    vocabulary = dataset["vocabularies"].get("category")
    kinds = {"identity": config.identity, "classify": _classes(config)}
    needed = [f"model.{key}=category" for key, kind in kinds.items() if kind == "category"]
    if needed and not (vocabulary and vocabulary["values"]):
        raise UsageError(f"{needed[0]}: the shard set has no categories; set it to item (classify also to none)")
    if not (
        config.triplet_loss_weight
        or config.proxy_loss_weight
        or (config.memory_size and config.memory_loss_weight)
        or _classes(config) != "none"
    ):
        raise UsageError(
            "every loss has the weight 0; raise model.triplet_loss_weight, model.classification_loss_weight or model.proxy_loss_weight"
        )
    return tuple(vocabulary["values"]) if vocabulary else ()


def _items(config: RetrievalConfig, dataset: dict[str, Any]) -> tuple[str, ...]:
    if not _learns_items(config):
        return ()
    names = dataset.get("names", {}).get("item", [])
    if not names:
        asked = (
            "model.classify=item"
            if _classes(config) == "item"
            else f"model.proxy_loss_weight={config.proxy_loss_weight:g}"
        )
        raise UsageError(f"{asked} needs items to learn, and no training image of the shard set has one")
    return tuple(names)
