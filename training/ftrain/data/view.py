"""How a network looks at an image: the whole of it or a box, placed in a square by one matrix, with augmentation in training.

Shared by all tasks, so that points and boxes move with the image in one way only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fschemas.failures import UsageError
from fschemas.landmarks import LandmarkSet, Visibility, landmark_set
from ftrain.data.config import ViewConfig
from ftrain.data.image import apply_color, fit_matrix, move_points, random_color, warp, warp_image
from ftrain.data.stream import RawSample

_VISIBILITIES = frozenset(value.value for value in Visibility)


@dataclass(frozen=True)
class View:
    """What the network is shown: `image` S, S, 3 uint8; `matrix` 2, 3 takes pixels of the source to pixels of the input.

    Where `mirrored`, left and right names of points have to be swapped as well.
    """

    image: np.ndarray
    matrix: np.ndarray
    mirrored: bool


def view_of_sample(config: ViewConfig, sample: RawSample, generator: np.random.Generator | None) -> View:
    """The view of a sample; random where there is a generator."""
    note = sample.annotation
    box = note["box"] if config.crop == "box" else None
    matrix, mirrored = place(config, note["width"], note["height"], box, generator)
    image = warp(sample.image, matrix, (config.input_size, config.input_size))
    if generator is not None:
        if config.color_jitter:
            image = apply_color(image, random_color(config.color_jitter, generator))
        if config.random_erase and generator.random() < config.random_erase:
            image = _erased(image, generator)
    return View(image, matrix.astype(np.float32), mirrored)


def view_of_image(config: ViewConfig, image: np.ndarray, box: Sequence[float] | None = None) -> View:
    """The view of an image without annotation, uint8 H, W, 3; of all of it unless a box is given."""
    height, width = image.shape[:2]
    matrix, mirrored = place(config, width, height, box, None)
    return View(warp_image(image, matrix, (config.input_size, config.input_size)), matrix.astype(np.float32), mirrored)


def place(
    config: ViewConfig, width: int, height: int, box: Sequence[float] | None, generator: np.random.Generator | None
) -> tuple[np.ndarray, bool]:
    """The matrix of a view, 2, 3 float64, and whether it mirrors. `box` is x1, y1, x2, y2 in pixels of the source."""
    region = None if box is None else _grown(box, config.box_margin)
    if generator is None:
        return fit_matrix(width, height, config.input_size, region=region), False
    angle = generator.uniform(-config.rotation, config.rotation)
    zoom = float(np.exp(generator.uniform(*np.log(config.scale))))
    shift = tuple(generator.uniform(-config.translate, config.translate, size=2))
    mirrored = bool(generator.random() < config.flip)
    matrix = fit_matrix(
        width, height, config.input_size, region=region, angle=angle, zoom=zoom, shift=shift, mirror=mirrored
    )  # fmt: skip
    return matrix, mirrored


def encoded_image(config: ViewConfig, image: np.ndarray, box: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """`image`, `matrix` and `size` of an image without annotation, uint8 H, W, 3: what the encoders give of one without truth.

    A `box` is looked at where the configuration says so, else the whole image.
    """
    view = view_of_image(config, image, box if config.crop == "box" else None)
    return {"image": view.image, "matrix": view.matrix, "size": np.array(image.shape[1::-1], np.float32)}


@dataclass(frozen=True)
class SeenLandmarks:
    """Landmarks of a sample: `truth` K, 2 pixels of the source with their `visibility` K, and both as the view shows them."""

    truth: np.ndarray
    visibility: np.ndarray
    points: np.ndarray
    point_visibility: np.ndarray


def landmarks_in_view(annotation: dict[str, Any], landmarks: LandmarkSet, view: View) -> SeenLandmarks:
    """Move the landmarks of an annotation with the image; where it is mirrored, partners change places.

    Raises `ValueError` for other points than the landmark set has, or a visibility that is none.
    """
    truth = np.stack([annotation["landmark_x"], annotation["landmark_y"]], axis=-1).astype(np.float32)
    visibility = np.asarray(annotation["landmark_visibility"], dtype=np.int8)
    if (
        truth.shape != (len(landmarks), 2)
        or visibility.shape != (len(landmarks),)
        or not _VISIBILITIES.issuperset(visibility.tolist())
    ):
        raise ValueError(f"its landmarks are not {len(landmarks)} points with a visibility each")
    points, seen = move_points(truth, view.matrix).astype(np.float32), visibility
    if view.mirrored:
        partners = list(landmarks.partners)
        points, seen = points[partners], visibility[partners]
    return SeenLandmarks(truth, visibility, points, seen)


def known_landmarks(dataset: dict[str, Any], task: str) -> LandmarkSet:
    """The landmark set of dataset.json; raises `UsageError` where there is none, or where it is another one by now."""
    stored = dataset.get("landmark_set")
    if not stored:
        raise UsageError(f"the shard set carries no landmarks; the task {task} needs them")
    known = landmark_set(str(stored["name"]))
    if known.to_json() != stored:
        raise UsageError(
            f"the landmark set {known.name} was another one when the shard set was written; run `fprep convert` again"
        )
    return known


def item_number(item: str) -> int:
    """A number for an item that is the same in every run: 63 bits of a hash of its name; -1 for an unknown one ("")."""
    digest = hashlib.blake2b(item.encode(), digest_size=8, person=b"item").digest()
    return int.from_bytes(digest, "big") >> 1 if item else -1


def names_as_ids(dataset: dict[str, Any], vocabulary: str) -> dict[str, int]:
    """Name to class number of a vocabulary of dataset.json; an empty name, which stands for unknown, is -1."""
    return {"": -1, **{name: number for number, name in enumerate(dataset["vocabularies"][vocabulary]["values"])}}


def _grown(box: Sequence[float], margin: float) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    extra = margin * max(right - left, bottom - top)
    return left - extra, top - extra, right + extra, bottom + extra


def _erased(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A rectangle of 2 to 20 % of the area, of an aspect between 1:3 and 3:1, made gray."""
    size = image.shape[0]
    area, aspect = generator.uniform(0.02, 0.2), np.exp(generator.uniform(-np.log(3), np.log(3)))
    width = min(size, max(1, round(size * np.sqrt(area * aspect))))
    height = min(size, max(1, round(size * np.sqrt(area / aspect))))
    left, top = int(generator.integers(0, size - width + 1)), int(generator.integers(0, size - height + 1))
    image = np.ascontiguousarray(image)
    image[top : top + height, left : left + width] = 128
    return image
