"""The network's view of an image: the full image or a box, letterboxed by one matrix, with augmentation in training.

Shared by all tasks, so that landmarks and boxes are transformed with the image in a single way.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.landmarks import LandmarkSet, Visibility, landmark_set
from ftrain.data.color_operations import COLOR_OPERATIONS, color_matrix
from ftrain.data.config import ViewConfig
from ftrain.data.device_view import canvas_inputs, operation_inputs
from ftrain.data.image import Recipe, compose, fit_matrix, render, stretch_matrix, transform_points, warp_image
from ftrain.data.stream import RawSample

# Key of an annotation: the box that a model found (x1, y1, x2, y2), or None for the whole image, instead of the annotated
# one. Predictions of a run that is cropped have it, too.
SEEN = "seen"
_VISIBILITIES = frozenset(value.value for value in Visibility)


@dataclass(frozen=True)
class View:
    """Input of the network: `matrix` float32 (2, 3) maps source pixels to input pixels.

    `inputs` are the arrays that encoders pass on: `image` uint8 (S, S, 3), or what the device renders it from (see
    `ftrain.data.device_view`). If `flipped`, left and right landmarks have to be swapped as well.
    """

    inputs: dict[str, np.ndarray]
    matrix: np.ndarray
    flipped: bool

    @property
    def image(self) -> np.ndarray:
        """The rendered image."""
        return self.inputs["image"]


def view_of_sample(config: ViewConfig, sample: RawSample, generator: np.random.Generator | None) -> View:
    """View of a sample, augmented if there is a generator; of the box under `SEEN` if the annotation has one."""
    recipe = draw_recipe(config, sample.annotation, generator)
    if sample.canvas is None:
        inputs = {"image": render(sample.image, recipe, config.input_size, sample.out)}
    else:
        inputs = canvas_inputs(sample.image, recipe, config.input_size, sample.canvas, sample.out)
        if config.color_operations:
            inputs |= operation_inputs(recipe, config.color_operations)
    return View(inputs, recipe.matrix.astype(np.float32), recipe.flipped)


def draw_recipe(config: ViewConfig, annotation: dict[str, Any], generator: np.random.Generator | None) -> Recipe:
    """Draw the view of a sample; the order of the draws is part of a run's results."""
    box = annotation[SEEN] if SEEN in annotation else annotation["box"] if config.crop == "box" else None
    matrix, flipped = view_matrix(config, annotation["width"], annotation["height"], box, generator)
    if generator is None:
        return Recipe(matrix, flipped)
    colors, operations, erased = None, (), None
    if config.color_jitter:
        factors = (1 + config.color_jitter * (2 * generator.random(3) - 1)).tolist()
        colors = color_matrix(*factors)
    if config.color_operations:
        chosen = generator.integers(0, len(COLOR_OPERATIONS), size=config.color_operations).tolist()
        signs = generator.choice((-1.0, 1.0), size=config.color_operations) * config.color_magnitude
        operations = tuple(zip(chosen, signs.tolist(), strict=True))
    if config.random_erase and generator.random() < config.random_erase:
        erased = _erased_box(config.input_size, generator)
    return Recipe(matrix, flipped, colors, operations, erased)


def view_matrix(
    config: ViewConfig, width: int, height: int, box: Sequence[float] | None, generator: np.random.Generator | None
) -> tuple[np.ndarray, bool]:
    """Matrix of a view, float64 (2, 3), and whether it flips. `box` is x1, y1, x2, y2 in source pixels."""
    region = None
    if box is not None:
        left, top, right, bottom = box
        margin = config.box_margin * max(right - left, bottom - top)
        region = left - margin, top - margin, right + margin, bottom + margin
    if generator is None:
        return fit_matrix(width, height, config.input_size, region=region), False
    draws = generator.random(5).tolist()
    low, high = config.scale
    angle, zoom = config.rotation * (2 * draws[0] - 1), low * (high / low) ** draws[1]
    shift = config.translate * (2 * draws[2] - 1), config.translate * (2 * draws[3] - 1)
    flipped = draws[4] < config.flip
    motion: Any = {"angle": angle, "zoom": zoom, "shift": shift, "flip": flipped}
    if config.crop_area == (1.0, 1.0):
        return fit_matrix(width, height, config.input_size, region=region, **motion), flipped
    crop = _random_crop(config, region or (0.0, 0.0, width - 1.0, height - 1.0), generator)
    stretched = stretch_matrix(crop, config.input_size)
    return compose(fit_matrix(config.input_size, config.input_size, config.input_size, **motion), stretched), flipped


def _random_crop(
    config: ViewConfig, region: tuple[float, float, float, float], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """Random part of a region (x1, y1, x2, y2) with an area and aspect ratio in the configured ranges.

    As in Inception (Szegedy et al., CVPR 2015, section 6). If none of ten fits, the largest centered part with an allowed
    aspect ratio.
    """
    left, top, full_width, full_height = *region[:2], region[2] - region[0] + 1, region[3] - region[1] + 1
    for _ in range(10):
        area = full_width * full_height * generator.uniform(*config.crop_area)
        aspect = np.exp(generator.uniform(*np.log(config.crop_aspect)))
        width, height = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
        if width <= full_width and height <= full_height:
            left += generator.uniform(0, full_width - width)
            top += generator.uniform(0, full_height - height)
            return left, top, left + width - 1, top + height - 1
    aspect = float(np.clip(full_width / full_height, *config.crop_aspect))
    width, height = min(full_width, full_height * aspect), min(full_height, full_width / aspect)
    left, top = left + (full_width - width) / 2, top + (full_height - height) / 2
    return left, top, left + width - 1, top + height - 1


def encoded_image(config: ViewConfig, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Encode an image (H, W, 3), uint8, without ground truth: `image` (S, S, 3), `matrix` (2, 3) and `size` (w, h).

    Uses the `box` if the configuration crops, else the full image.
    """
    height, width = image.shape[:2]
    matrix, _ = view_matrix(config, width, height, None if config.crop == "image" else box, None)
    view = warp_image(image, matrix, config.input_size)
    return {"image": view, "matrix": matrix.astype(np.float32), "size": np.array([width, height], np.float32)}


def landmarks_in_view(annotation: dict[str, Any], landmarks: LandmarkSet, view: View) -> dict[str, np.ndarray]:
    """Transform the K landmarks of an annotation with the image; left-right pairs are swapped if the view is flipped.

    Returns `target` (K, 2), `visibility` (K) and, if there is one, `box` (4) of the annotation, and `keypoints` (K, 2)
    and `keypoint_visibility` (K) in input pixels. Raises `ValueError` for the wrong number of landmarks or an invalid
    visibility.
    """
    target = np.array([annotation["landmark_x"], annotation["landmark_y"]], np.float32).T
    given = annotation["landmark_visibility"]
    visibility = np.array(given, np.int8)
    if target.shape != (len(landmarks), 2) or len(given) != len(landmarks) or not _VISIBILITIES.issuperset(given):
        raise ValueError(f"its landmarks are not {len(landmarks)} positions with a visibility each")
    order = list(landmarks.flip_index) if view.flipped else slice(None)
    points = transform_points(target, view.matrix)[order]
    box = {"box": np.array(annotation["box"], np.float32)} if "box" in annotation else {}
    truth = {"target": target, "visibility": visibility, **box}
    return {**truth, "keypoints": points, "keypoint_visibility": visibility[order]}


def known_landmarks(dataset: dict[str, Any], task: str) -> LandmarkSet:
    """Landmark set of dataset.json. Raises `UsageError` if there is none or if its definition has changed since."""
    stored = dataset.get("landmark_set")
    if not stored:
        raise UsageError(f"the shard set has no landmarks; the task {task} needs them")
    known = landmark_set(str(stored["name"]))
    if known.to_json() != stored:
        raise UsageError(
            f"the landmark set {known.name} has changed since the shard set was written; run `fprep convert` again"
        )
    return known


def item_number(item: str) -> int:
    """Number of an item, equal in every run: 63 bits of a hash of its name; -1 for "" (unknown)."""
    digest = hashlib.blake2b(item.encode(), digest_size=8, person=b"item").digest()
    return int.from_bytes(digest, "big") >> 1 if item else -1


def names_as_ids(dataset: dict[str, Any], vocabulary: str) -> dict[str, int]:
    """Map from name to class index for a vocabulary of dataset.json; "" (unknown) maps to -1."""
    return {"": -1, **{name: number for number, name in enumerate(dataset["vocabularies"][vocabulary]["values"])}}


def _erased_box(size: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Random rectangle (left, top, right, bottom): 2% to 20% of the area, aspect ratio between 1:3 and 3:1."""
    draws = generator.random(2).tolist()
    area, aspect = 0.02 + 0.18 * draws[0], 3 ** (2 * draws[1] - 1)
    width = min(size, max(1, round(size * math.sqrt(area * aspect))))
    height = min(size, max(1, round(size * math.sqrt(area / aspect))))
    left, top = int(generator.integers(0, size - width + 1)), int(generator.integers(0, size - height + 1))
    return left, top, left + width, top + height
