"""Train garment keypoints with a Cascaded Pyramid Network (CPN).

Chen et al., CVPR 2018, section 3, for any landmark set. Losses as in the paper: all levels of GlobalNet train on the
visible points, RefineNet on the hardest half of the points with coordinates (OHKM, section 3.3), restricted to the
valid points of the garment. Beyond the paper, a small head predicts the garment, so that images of unknown category can
be used.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fschemas.failures import UsageError
from fschemas.landmarks import FASHIONAI_24, LandmarkSet, Visibility
from ftrain.data.config import TaskConfig
from ftrain.data.stream import Batch, RawSample
from ftrain.data.types import Rows
from ftrain.data.view import SEEN, known_landmarks, landmarks_in_view, view_of_sample
from ftrain.layers.affine import points_of_source, rotate
from ftrain.layers.backbone import Normalize
from ftrain.layers.heatmap import decode, flip_maps, gaussian_targets, pyramid_sigmas
from ftrain.tasks.keypoints.config import KeypointsConfig
from ftrain.tasks.keypoints.crop import training_crop
from ftrain.tasks.keypoints.losses import hard_keypoint_loss, mean_keypoint_loss, per_point_loss
from ftrain.tasks.keypoints.network import PYRAMID_STRIDES, CascadedPyramidNetwork, KeypointMaps
from ftrain.tasks.label_checks import counts_for_error, has_coordinates
from ftrain.tasks.published import published_dataset
from ftrain.tasks.task import Task

_STRIDE = PYRAMID_STRIDES[0]


@dataclass(frozen=True)
class KeypointEncoder:
    """Turn a sample into network input; one matrix transforms the image and its points."""

    config: KeypointsConfig
    landmarks: LandmarkSet

    def __call__(self, sample: RawSample, generator: np.random.Generator | None) -> dict[str, np.ndarray]:
        """Return the image, landmarks and ground truth of a sample.

        `image` is uint8 S, S, 3; `keypoints` K, 2 are in input pixels and `target` K, 2 in source pixels, with
        `keypoint_visibility` K and `visibility` K; `matrix` 2, 3 maps source to input; `garment` is an index; `size` 2 is
        the source's width and height.
        """
        annotation = sample.annotation
        if self.config.crop == "keypoints" and SEEN not in annotation:
            crop = training_crop(self.config, annotation, generator)
            sample = replace(sample, annotation={**annotation, SEEN: crop})
        view = view_of_sample(self.config, sample, generator)
        return {
            **view.inputs,
            "matrix": view.matrix,
            **landmarks_in_view(annotation, self.landmarks, view),
            "garment": np.array(tuple(self.landmarks.garments).index(annotation["garment"]), dtype=np.int64),
            "size": np.array([annotation["width"], annotation["height"]], dtype=np.float32),
        }


class Keypoints(Task):
    """The keypoints task: the 24 landmarks of FashionAI, the 8 of DeepFashion, or any other landmark set."""

    needs = ("landmarks",)
    Config = KeypointsConfig
    selected_by = ("ne", "min")
    key_metrics = ("ne", "oks_ap", "ne_image", "ne_box", "pck_5", "pck_10", "pck_20", "pck_auc", "garment_accuracy")
    view_kinds = ("flip", "rotations", "scales")

    def __init__(self, config: KeypointsConfig, dataset: dict[str, Any]) -> None:
        super().__init__(config, dataset)
        self.config: KeypointsConfig = config
        self.landmarks = known_landmarks(dataset, self.name)
        if config.garment is not None:
            self.landmarks.valid_landmarks(config.garment)  # raises for an unknown garment
        self.encoder = KeypointEncoder(config, self.landmarks)
        self.build_networks()

    def build_networks(self) -> None:
        """Create everything with weights."""
        config = self.config
        self.network = CascadedPyramidNetwork(len(self.landmarks), config, config.channels)
        self.garment_head = nn.Linear(self.network.coarsest_channels, len(self.landmarks.garments))
        valid = torch.zeros(len(self.landmarks.garments), len(self.landmarks), dtype=torch.bool)
        for row, points in enumerate(self.landmarks.garments.values()):
            valid[row, list(points)] = True
        self.register_buffer("valid", valid, persistent=False)
        self.valid: Tensor
        self.normalize = Normalize(config)

    @classmethod
    def rows_of_interest(cls, config: TaskConfig, columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
        """Return all rows, or those of the configured garment."""
        assert isinstance(config, KeypointsConfig)
        if config.garment is None:
            return rows
        chosen = rows[columns["garment"][rows] == config.garment]
        if len(chosen) == 0:
            raise UsageError(f"the split has no {config.garment!r}; choose another model.garment")
        return chosen

    def check_training(self, rows: Rows) -> list[str]:
        """Require a landmark with coordinates."""
        if not any(has_coordinates(annotation) for annotation in rows.annotations()):
            raise UsageError("no training image has a landmark with coordinates; choose another set")
        return []

    def check_validation(self, rows: Rows) -> None:
        """Require a visible landmark in an image with a known normalizing distance."""
        if not any(counts_for_error(annotation, self.landmarks) for annotation in rows.annotations()):
            raise UsageError("no image has both a visible landmark and the distance that normalizes its error")

    @classmethod
    def published_dataset(cls, config: TaskConfig) -> dict[str, Any]:
        """FashionAI: 24 landmarks."""
        del config
        return published_dataset(("landmarks",), FASHIONAI_24)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return `loss` and its parts `global`, `refined` and `garment`; map losses are 1 for empty maps of any size.

        `batch` holds the arrays of `KeypointEncoder`, stacked.
        """
        config = self.config
        image = self.normalize(batch["image"])
        maps, garment_scores = self._maps(image)
        seen, points = batch["keypoint_visibility"], batch["keypoints"]
        inside = ((points >= 0) & (points <= config.input_size - 1)).all(dim=2)
        applicable = self.valid[batch["garment"]] & inside
        visible = (seen == Visibility.VISIBLE.value) & applicable  # plain numbers for torch.compile, not enums
        labeled = (seen >= Visibility.OCCLUDED.value) & applicable
        size = (maps.refined.shape[-2], maps.refined.shape[-1])
        levels: list[Tensor] = []
        for sigma, level in zip(pyramid_sigmas(config.sigma), maps.global_maps, strict=True):
            targets = gaussian_targets(batch["keypoints"], visible, size, _STRIDE, sigma)
            levels.append(mean_keypoint_loss(per_point_loss(level, targets, visible) * _unit(size, sigma), visible))
        targets = gaussian_targets(batch["keypoints"], labeled, size, _STRIDE, config.sigma)
        errors = per_point_loss(maps.refined, targets, labeled) * _unit(size, config.sigma)
        parts = {
            "global": torch.stack(levels).mean(),
            "refined": hard_keypoint_loss(errors, labeled, config.ohkm_fraction),
            "garment": config.garment_loss_weight * F.cross_entropy(garment_scores.float(), batch["garment"]),
        }
        return {"loss": parts["global"] + parts["refined"] + parts["garment"], **parts}

    def predict(self, batch: Batch) -> Batch:
        """Return `points` B, K, 2 in source pixels, `scores` B, K (peak heights) and `garment_scores` B, G.

        Points are clamped to the source image. The ground truth of the batch is passed on.
        """
        maps, garment_scores = self.heat_maps(batch["image"])
        points, scores = decode(maps.float(), _STRIDE, self.config.blur_sigma, self.config.subpixel_offset)
        points = points + (self.config.pixel_shift - (_STRIDE - 1) / 2)
        source = points_of_source(points, batch["matrix"], batch["size"])
        probabilities = garment_scores.float().softmax(dim=1)
        passed_on = {name: batch[name] for name in ("target", "visibility", "box", "garment", "size") if name in batch}
        return {"points": source, "scores": scores, "garment_scores": probabilities, **passed_on}

    def _maps(self, image: Tensor) -> tuple[KeypointMaps, Tensor]:
        maps, coarsest = self.network.maps_and_features(image)
        return maps, self.garment_head(coarsest.mean(dim=(2, 3)))

    def heat_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined maps B, K, S / 4, S / 4, averaged over the test-time views, and garment logits B, G.

        `image` is uint8 B, S, S, 3.
        """
        return self._averaged_maps(self.normalize(image))

    def _averaged_maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined maps B, K, h, w averaged over the test-time views, and garment logits B, G of the plain image.

        Cells outside a rotated or enlarged view are averaged over the other views.
        """
        total, garment_scores = self._view(image)
        weight = torch.ones_like(total[:, :1])
        for angle, scale in [*((angle, 1.0) for angle in self.views.rotations), *((0.0, s) for s in self.views.scales)]:
            maps, _ = self._view(rotate(image, angle, scale))
            total = total + rotate(maps, -angle, 1 / scale)
            weight = weight + rotate(torch.ones_like(weight), -angle, 1 / scale)
        return total / weight, garment_scores

    def _view(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined maps of a view, averaged with its flip if enabled, and garment logits without flip."""
        maps, garment_scores = self._maps(image)
        refined = maps.refined.float()
        if self.views.flip:
            flipped, _ = self._maps(image.flip(3))
            refined = (refined + flip_maps(flipped.refined.float(), self.landmarks.flip_index)) / 2
        return refined, garment_scores


def _unit(size: tuple[int, int], sigma: float) -> float:
    """Return the factor from a mean over cells to a share of the target's energy (its squared integral, pi sigma^2)."""
    return size[0] * size[1] / (np.pi * sigma**2)
